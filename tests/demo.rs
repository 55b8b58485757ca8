//! The demo, as its user runs it: the built binary.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends there")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A demo with a directory for temporary files of its own, so that what it leaves behind can be seen.
struct Demo {
    process: Child,
    temporary: TempDir,
    said: String,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_redis-expiry-operator"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, temporary, said: String::new(), lines }
    }

    fn read_until(&mut self, text: &str) {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.said += &line;
            self.said.push('\n');
            if line.contains(text) {
                return;
            }
        }
        panic!("the demo ended without {text:?}:\n{}", self.said);
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args(["-s", signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Everything that it said it listens on.
    fn ports(&self) -> Vec<u16> {
        let ports = self.said.split("127.0.0.1:").skip(1);
        ports.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
    }

    /// `nodes`: so many it has said that there were.
    fn nothing_is_left(&self, nodes: usize) {
        let ports = self.ports();
        assert!(ports.len() > nodes, "{nodes} nodes and a service in:\n{}", self.said);
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let open = ports.iter().filter(|port| TcpStream::connect(("127.0.0.1", **port)).is_ok()).count();
            let files = fs::read_dir(self.temporary.path()).unwrap().count();
            let processes = processes_of(self.temporary.path());
            if open == 0 && files == 0 && processes.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left: {open} ports, {files} files, {processes:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // What a failed test leaves running; an error means that it is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command lines that name the directory.
fn processes_of(directory: &Path) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let text = all.map(|command| String::from_utf8_lossy(&command).replace('\0', " "));
    text.filter(|command| command.contains(directory.to_str().unwrap())).collect()
}

#[test]
fn the_demo_shows_nothing_lost_in_less_than_a_minute_and_leaves_nothing_behind() {
    let started = Instant::now();
    let mut demo = Demo::start(&["--orders", "1200", "--rate", "100", "--other-keys", "10000"]);
    for stage in ["the engine is ready", "killed master", "was promoted", "is back, as a replica", "moved slots"] {
        demo.read_until(stage);
    }
    demo.read_until("Nothing lost, nothing doubled.");
    assert!(demo.process.wait().unwrap().success());
    assert!(started.elapsed() < Duration::from_secs(60), "took {:?}", started.elapsed());
    let figure = |name: &str| -> i64 {
        let line = demo.said.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_ascii_whitespace().find_map(|word| word.parse().ok()).unwrap()
    };
    assert_eq!(figure("orders created"), 1200);
    assert_eq!(figure("paid") + figure("cancelled by webhook"), 1200);
    assert!(figure("paid") > 200 && figure("due while their shard had no master") > 0, "{}", demo.said);
    demo.nothing_is_left(6);
}

#[test]
fn outside_of_a_cluster_nothing_is_lost_either() {
    let stages = [("standalone", "by us: REPLICAOF NO ONE"), ("Sentinel", "chosen by the sentinels")];
    // Both wait more than they work.
    std::thread::scope(|scope| {
        for (mode, promoted) in stages {
            scope.spawn(move || {
                let mut demo =
                    Demo::start(&["--mode", mode, "--orders", "600", "--rate", "50", "--other-keys", "1000"]);
                for stage in ["the engine is ready", "killed master", promoted, "is back, as a replica"] {
                    demo.read_until(stage);
                }
                demo.read_until("Nothing lost, nothing doubled.");
                assert!(demo.process.wait().unwrap().success(), "{}", demo.said);
                demo.nothing_is_left(2);
            });
        }
    });
}

#[test]
fn ctrl_c_takes_everything_down() {
    let mut demo = Demo::start(&["--other-keys", "1000"]);
    demo.read_until("the engine is ready");
    demo.signal("INT");
    assert_eq!(demo.process.wait().unwrap().code(), Some(130));
    demo.nothing_is_left(6);
}

#[test]
fn a_killed_demo_leaves_nothing_behind_either() {
    let mut demo = Demo::start(&["--other-keys", "1000"]);
    demo.read_until("killed master");
    demo.signal("KILL");
    demo.process.wait().unwrap();
    demo.nothing_is_left(6);
}
