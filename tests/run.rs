//! The built binary's `run`: what it says, how it reloads, and how it ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    model::slot_of,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

struct Folder(tempfile::TempDir);

impl Folder {
    /// With a file for a Redis where nobody listens, so that it starts and never becomes ready.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("127.0.0.1:9", "orders");
        folder
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, redis: &str, name: &str) {
        self.write_text(&format!(
            "apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {{name: {name}, namespace: shop}}
spec:
  redis: {{addresses: [\"{redis}\"]}}
  keyPattern: \"order:pay:*\"
  webhook: {{url: \"http://127.0.0.1:9/\"}}
"
        ));
    }
    fn write_text(&self, text: &str) {
        fs::write(self.path("listener.yaml"), text).unwrap();
    }
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-expiry-operator"));
        command.args(words).args(["--output", "json", "--state-dir"]).arg(self.path("state"));
        command
    }
    fn run(&self) -> Running {
        let mut command = self.command(&["run", "--drain-timeout", "5s"]);
        Running::start(command.arg("-f").arg(self.path("listener.yaml")))
    }
    fn dead_letters(&self, words: &[&str]) -> Output {
        self.command(&[&["dead-letters"], words].concat()).output().unwrap()
    }
}

struct Running {
    child: Child,
    lines: Receiver<Value>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (say, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = say.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, lines }
    }

    /// The next line with this event; the lines before it are passed over.
    fn wait(&self, event: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut passed = Vec::new();
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line["event"] == event => return line,
                Ok(line) => passed.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("no {event} within {PATIENCE:?} but {passed:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {event} but {passed:#?}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_changed_file_is_made_to_run_and_a_broken_one_changes_nothing() {
    let folder = Folder::new();
    let running = folder.run();
    let started = running.wait("listening");
    assert_eq!(started["adminSocket"], folder.path("state/admin.sock").display().to_string());
    let started = running.wait("listening");
    assert_eq!(started["listener"], "shop/orders");

    folder.write_text("apiVersion: redisexpiry.io/v1alpha1\n");
    let rejected = running.wait("rejected");
    assert!(
        rejected["problems"][0].as_str().unwrap().ends_with(
            "document 1: kind is missing: write `kind: \
             RedisExpiryListener`"
        ),
        "{rejected}"
    );

    folder.write("127.0.0.1:9", "others");
    let mut seen = [running.wait("stopped")["listener"].clone(), running.wait("listening")["listener"].clone()];
    seen.sort_by_key(ToString::to_string);
    assert_eq!(seen, ["shop/orders", "shop/others"]);
}

#[test]
fn the_first_signal_drains_and_ends_with_0() {
    let folder = Folder::new();
    let mut running = folder.run();
    running.wait("listening");
    running.signal("TERM");
    running.wait("stopping");
    let stopped = running.wait("stopped");
    assert!(stopped["listener"].is_null() || running.wait("stopped")["listener"].is_null());
    assert_eq!(running.code(), Some(0));
    assert!(!folder.path("state/admin.sock").exists());
}

#[test]
fn a_wrong_file_at_the_start_is_exit_code_2() {
    let folder = Folder::new();
    folder.write_text("a: 1\n");
    let mut running = folder.run();
    assert_eq!(running.code(), Some(2));
}

#[test]
fn a_second_process_is_refused_the_state_directory() {
    let folder = Folder::new();
    let first = folder.run();
    first.wait("listening");
    let mut second = folder.run();
    assert_eq!(second.code(), Some(1));
    let mut said = String::new();
    std::io::Read::read_to_string(second.child.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert!(said.contains("another process uses --state-dir"), "{said}");
}

#[test]
fn dead_letters_say_when_nobody_runs_and_answer_when_somebody_does() {
    let folder = Folder::new();
    let nobody = folder.dead_letters(&["list"]);
    assert_eq!(nobody.status.code(), Some(1));
    let said = String::from_utf8(nobody.stderr).unwrap();
    assert!(said.contains("neither `run` nor `controller` answers at"), "{said}");

    let running = folder.run();
    running.wait("listening");
    running.wait("listening");
    let unknown = folder.dead_letters(&["purge", "--all", "--listener", "shop/nope"]);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("no listener shop/nope runs here; there are: shop/orders"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_comes_once_every_master_is_scanned_and_a_second_signal_ends_a_drain() {
    let cluster = Cluster::start(Options { replicas: 0, ..Options::default() }).await.unwrap();
    // It takes the request and never answers, so that there is something to drain.
    let webhook = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    let text = fs::read_to_string(folder.path("listener.yaml")).unwrap();
    let text = text.replace("\"127.0.0.1:9\"", &format!("\"{}\"", cluster.nodes()[0].address()));
    folder.write_text(&text.replace("http://127.0.0.1:9", &format!("http://{}", webhook.local_addr().unwrap())));
    let mut running = folder.run();
    let ready = running.wait("ready");
    assert_eq!((&ready["nodes"]["masters"], &ready["nodes"]["subscribed"]), (&3.into(), &3.into()));

    let owner = cluster.owner(slot_of(b"order:pay:1").0).await.unwrap();
    let () = owner.query(cmd("SET").arg("order:pay:1").arg("x").arg("PX").arg("100")).await.unwrap();
    let request = webhook.accept().unwrap();
    running.signal("TERM");
    running.wait("stopping");
    running.signal("INT");
    assert_eq!(running.wait("stopped")["message"], "aborted by a second signal; the outbox keeps the rest");
    assert_eq!(running.code(), Some(130));
    drop(request);
}
