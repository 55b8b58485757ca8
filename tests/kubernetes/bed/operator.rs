//! A replica of the operator: the built binary, started, stopped and asked.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use redis_expiry_operator::{commands::demo::watchdog::Watchdog, model::Millis};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::ground::{Ground, free_port, spawn, tail};
use crate::support::now;

pub struct Settings<'a> {
    /// Whose rights it has, and where it finds the API server.
    pub kubeconfig: PathBuf,
    pub pod_name: &'a str,
    /// Where its Lease lies.
    pub pod_namespace: &'a str,
    /// More flags of `controller`.
    pub arguments: &'a [&'a str],
}

/// Ends with this process; what it logged is printed when a test fails.
pub struct Operator {
    pub pod_name: String,
    admin: SocketAddr,
    arguments: Vec<String>,
    kubeconfig: PathBuf,
    directory: TempDir,
    watchdog: &'static Watchdog,
    child: Option<Child>,
}

impl Operator {
    /// Starts it; loopback addresses are allowed, since Redis and the receiver of the tests have them.
    pub async fn start(settings: Settings<'_>) -> Self {
        let directory = tempfile::Builder::new().prefix("operator-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        let arguments = [
            ["--pod-name", settings.pod_name],
            ["--pod-namespace", settings.pod_namespace],
            ["--admin-address", &admin.to_string()],
            ["--state-dir", &state.to_string_lossy()],
            ["--allow-egress", "127.0.0.0/8"],
        ];
        let mut operator = Self {
            pod_name: settings.pod_name.into(),
            admin,
            arguments: arguments.as_flattened().iter().chain(settings.arguments).map(|word| (*word).into()).collect(),
            kubeconfig: settings.kubeconfig,
            directory,
            watchdog: &Ground::get().await.watchdog,
            child: None,
        };
        operator.start_again();
        operator
    }

    /// Starts the binary on the state that the last one left.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.pod_name);
        let binary = std::env::var_os("REDIS_EXPIRY_OPERATOR");
        let mut command = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_redis-expiry-operator").into()));
        command.arg("controller").args(&self.arguments).env("KUBECONFIG", &self.kubeconfig);
        // What finds a pod's ServiceAccount, and what the flags' variables may say.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KUBERNETES_") {
                command.env_remove(name);
            }
        }
        self.child = Some(spawn(command, self.watchdog, &self.log()));
    }

    /// SIGKILL, and waits until it is dead.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and waits until it has ended well; returns how long that took.
    pub async fn terminate(&mut self) -> Duration {
        let began = std::time::Instant::now();
        self.signal("TERM");
        let give_up = now().plus(40_000);
        loop {
            if let Some(status) = self.ended() {
                assert!(status.success(), "{} ended with {status}\n{}", self.pod_name, self.tail());
                self.child = None;
                return began.elapsed();
            }
            assert!(now() < give_up, "{} does not end within 40 s of SIGTERM\n{}", self.pod_name, self.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGSTOP: it hangs, its connections stay open and silent.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.process().to_string();
        let sent = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "signal", name, &pid]).status();
        assert!(sent.unwrap().success(), "SIG{name} could not be sent to {}", self.pod_name);
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.as_mut().expect("it was started").try_wait().unwrap()
    }

    /// Waits until `/readyz` says 200; returns when that was.
    pub async fn wait_ready(&mut self) -> Millis {
        let give_up = now().plus(30_000);
        loop {
            let answer = self.get("/readyz").await;
            if let Ok((200, _)) = answer {
                return now();
            }
            if let Some(status) = self.ended() {
                panic!("{} ended with {status}\n{}", self.pod_name, self.tail());
            }
            assert!(now() < give_up, "{} is not ready within 30 s: {answer:?}\n{}", self.pod_name, self.tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The status and body of a path of its admin server.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let asked = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = timeout(Duration::from_secs(5), asked).await.map_err(|_| "no answer within 5 s".to_owned())?;
        let answer = answer.map_err(|e| e.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("it does not answer in HTTP")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("it has no status")?;
        Ok((status, body.to_owned()))
    }

    /// The value of a metric; `labels` as they are printed, without braces, or empty. `None`: it is not there.
    pub async fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (status, text) = self.get("/metrics").await.unwrap();
        assert_eq!(status, 200, "{text}");
        let series = if labels.is_empty() { format!("{name} ") } else { format!("{name}{{{labels}}} ") };
        text.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse().ok())
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// All that it logged.
    pub fn logged(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// The last of what it logged.
    pub fn tail(&self) -> String {
        format!("{} logged:\n{}", self.pod_name, tail(&self.log()))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
        if self.child.is_some() {
            self.kill();
        }
    }
}
