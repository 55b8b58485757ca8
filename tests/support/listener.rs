//! The built binary, running one listener: started, killed, and listened to.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use redis_expiry_operator::model::Millis;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{acl::Login, certificates::Certificate, now};

/// One line that the binary printed.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: Millis,
    pub event: String,
    pub text: String,
}

pub struct Settings<'a> {
    /// `spec.redis.mode`.
    pub mode: &'a str,
    pub seeds: &'a [String],
    pub url: &'a str,
    pub secret: &'a str,
    pub keyspace_events: &'a str,
    pub change_source: &'a str,
    /// `spec.store`.
    pub store: &'a str,
    /// Whom it is to the watched Redis, if not the default user.
    pub login: Option<&'a Login>,
    /// `--admin-address`.
    pub admin: Option<&'a str>,
    /// Its state lies on a disk of its own, of so many MiB, which nobody else sees.
    pub disk: Option<u32>,
    /// Towards the watched Redis, its sentinels included, with TLS: who signs, and who we are.
    pub tls: Option<(&'a str, &'a Certificate)>,
}

/// How a Redis with TLS is spoken to, with what [`Listener::write_tls`] lays out.
pub const TLS: &str = "tls: {caRef: {kind: Secret, name: redis-ca}, clientCertSecretRef: {name: redis-client}}";

pub struct Listener {
    directory: PathBuf,
    child: Option<Child>,
    lines: Arc<Mutex<Vec<Line>>>,
    stderr: PathBuf,
    admin: Option<String>,
    disk: Option<u32>,
}

/// The binary that cargo built beside this test, or another one to be put through the suite.
fn binary() -> OsString {
    std::env::var_os("REDIS_EXPIRY_OPERATOR").unwrap_or_else(|| env!("CARGO_BIN_EXE_redis-expiry-operator").into())
}

impl Listener {
    /// Lays out the listener's files and starts the binary.
    pub fn start(directory: &Path, settings: &Settings) -> Self {
        let secrets = directory.join("secrets/webhook-key");
        fs::create_dir_all(&secrets).unwrap();
        fs::create_dir_all(directory.join("state")).unwrap();
        fs::write(secrets.join("secret"), settings.secret).unwrap();
        let mut addresses = String::new();
        for seed in settings.seeds {
            let _ = write!(addresses, "\n      - \"{seed}\"");
        }
        let mut credentials = String::new();
        if let Some(Login { username, password }) = settings.login {
            let secret = directory.join("secrets/redis-auth");
            fs::create_dir_all(&secret).unwrap();
            for (key, value) in [("username", username), ("password", password)] {
                fs::write(secret.join(key), value).unwrap();
                let _ = write!(credentials, "\n    {key}SecretRef: {{name: redis-auth, key: {key}}}");
            }
        }
        let mut tls = String::new();
        if let Some((authority, own)) = settings.tls {
            tls = format!("\n    {TLS}");
            Self::write_tls(directory, authority, own);
        }
        let yaml = format!(
            r#"apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {{name: order-timeouts, namespace: shop}}
spec:
  redis:
    mode: {}
    addresses:{addresses}
    keyspaceEvents: {}
    changeSource: {}{credentials}{tls}
  keyPattern: "order:pay:*"
  webhook:
    url: {}
    timeouts: {{connect: 1s, request: 2s}}
    payload: {{type: order.timeout.expired}}
    signing: {{scheme: HMACSHA256, secretKeyRefs: [{{name: webhook-key, key: secret}}]}}
  delivery:
    retry: {{initialBackoff: 200ms, maxBackoff: 2s}}
  store: {}
"#,
            settings.mode, settings.keyspace_events, settings.change_source, settings.url, settings.store
        );
        fs::write(directory.join("listener.yaml"), yaml).unwrap();
        let stderr = directory.join("stderr.log");
        let admin = settings.admin.map(str::to_owned);
        let (child, lines, disk) = (None, Arc::default(), settings.disk);
        let mut listener = Self { directory: directory.into(), child, lines, stderr, admin, disk };
        listener.start_again();
        listener
    }

    /// Lays out its Secrets of TLS, or puts others in their place: it reads them anew.
    pub fn write_tls(directory: &Path, authority: &str, own: &Certificate) {
        let parts = [
            ("redis-ca/ca.crt", authority),
            ("redis-client/tls.crt", &own.certificate),
            ("redis-client/tls.key", &own.key),
        ];
        for (name, value) in parts {
            let path = directory.join("secrets").join(name);
            fs::create_dir_all(path.parent().expect("a folder")).unwrap();
            fs::write(path, value).unwrap();
        }
    }

    /// Starts the binary on the state that the last one left.
    pub fn start_again(&mut self) {
        let stderr = fs::OpenOptions::new().create(true).append(true).open(&self.stderr).unwrap();
        let mut child = self
            .command()
            .args(["run", "--output", "json", "-f"])
            .arg(self.directory.join("listener.yaml"))
            .arg("--state-dir")
            .arg(self.directory.join("state"))
            .arg("--secrets-dir")
            .arg(self.directory.join("secrets"))
            .args(self.admin.iter().flat_map(|address| ["--admin-address", address]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let lines = Arc::clone(&self.lines);
        // Ends with the child's stdout.
        tokio::spawn(async move {
            while let Ok(Some(text)) = stdout.next_line().await {
                let parsed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let event = parsed["event"].as_str().unwrap_or("not JSON").to_owned();
                lines.lock().unwrap().push(Line { at: now(), event, text });
            }
        });
        self.child = Some(child);
    }

    /// The binary, in a mount namespace of its own if it has a disk of its own.
    fn command(&self) -> Command {
        let Some(mebibytes) = self.disk else { return Command::new(binary()) };
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-euc"]);
        command.arg(r#"mount -t tmpfs -o "size=$1m" state "$2"; shift 2; exec "$@""#).arg("sh");
        command.arg(mebibytes.to_string()).arg(self.directory.join("state")).arg(binary());
        command
    }

    /// Where the process sees its state, a disk of its own included.
    #[allow(dead_code, reason = "tests/every_mode.rs wants it")]
    pub fn state(&self) -> PathBuf {
        let pid = self.child.as_ref().and_then(Child::id).expect("it runs");
        let state = self.directory.join("state");
        Path::new("/proc").join(pid.to_string()).join("root").join(state.strip_prefix("/").unwrap())
    }

    /// SIGKILL, and waits until it is dead.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("it can be killed");
    }

    /// SIGTERM, and waits until it has ended well.
    pub async fn terminate(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let pid = child.id().expect("it has not ended").to_string();
        let sent = Command::new("sh").args(["-c", r#"kill -s TERM "$1""#, "signal", &pid]).status().await;
        assert!(sent.expect("sh runs").success(), "SIGTERM could not be sent");
        let status = tokio::time::timeout(Duration::from_secs(15), child.wait()).await;
        let status = status.expect("it ends within 15 s of SIGTERM").expect("it is our child");
        assert!(status.success(), "it ended with {status}\n{}", self.tail());
    }

    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    /// Whether the last of `ready` and `notReady` was `ready`, and when that was.
    pub fn ready(&self) -> Option<Millis> {
        let lines = self.lines.lock().unwrap();
        let last = lines.iter().rev().find(|line| ["ready", "notReady"].contains(&line.event.as_str()))?;
        (last.event == "ready").then_some(last.at)
    }

    /// Waits for a `ready` that was said at `since` or later.
    pub async fn wait_ready(&mut self, since: Millis) -> Millis {
        let give_up = now().plus(20_000);
        loop {
            if let Some(at) = self.ready().filter(|at| *at >= since) {
                return at;
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("the listener ended with {status}\n{}", self.tail());
            }
            assert!(now() < give_up, "the listener was not ready within 20 s\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it has printed a line that holds each of `words`, at `since` or later.
    pub async fn wait_says(&self, since: Millis, words: &[&str]) {
        let give_up = now().plus(10_000);
        let says = |line: &Line| line.at >= since && words.iter().all(|word| line.text.contains(word));
        while !self.lines().iter().any(says) {
            assert!(now() < give_up, "the listener never said {words:?}\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether a word is in anything that it has printed or logged.
    pub fn has_said(&self, word: &str) -> bool {
        let log = fs::read_to_string(&self.stderr).unwrap();
        log.contains(word) || self.lines().iter().any(|line| line.text.contains(word))
    }

    /// The last of what it printed and logged.
    pub fn tail(&self) -> String {
        let mut text = String::from("stdout:\n");
        let lines = self.lines();
        for line in lines.iter().skip(lines.len().saturating_sub(60)) {
            let _ = writeln!(text, "  {} {}", line.at.0, line.text);
        }
        let log = fs::read_to_string(&self.stderr).unwrap_or_default();
        let logged: Vec<&str> = log.lines().collect();
        text.push_str("stderr:\n");
        for line in logged.iter().skip(logged.len().saturating_sub(60)) {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}
