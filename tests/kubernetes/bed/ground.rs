//! What every API server of this test binary stands on: one etcd, one authority, one directory. It ends with the
//! process, however that ends.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use redis_expiry_operator::commands::demo::watchdog::Watchdog;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{pki::Pki, tools::tool};

pub struct Ground {
    pub pki: Pki,
    /// What a client of etcd is given.
    pub etcd: String,
    pub watchdog: Watchdog,
    directory: TempDir,
    /// How many etcds and API servers there were: it names what they write.
    count: AtomicU32,
    /// A static is never dropped: the watchdog ends it with the process.
    _etcd: Mutex<Child>,
}

static GROUND: OnceCell<Ground> = OnceCell::const_new();

const START: Duration = Duration::from_secs(30);

impl Ground {
    pub async fn get() -> &'static Self {
        GROUND.get_or_init(Self::lay).await
    }

    async fn lay() -> Self {
        let directory = tempfile::Builder::new().prefix("kubernetes-").tempdir().unwrap();
        let watchdog = Watchdog::start(Some(directory.path())).unwrap();
        let pki = Pki::make(&directory.path().join("pki"));
        for _ in 0..3 {
            let (port, peers) = (free_port(), free_port());
            let log = directory.path().join("etcd.log");
            let mut command = Command::new(tool("etcd"));
            let [clients, peers] = [port, peers].map(|port| format!("http://127.0.0.1:{port}"));
            command
                .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
                .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
                .args(["--initial-cluster", &format!("default={peers}"), "--log-level", "warn"])
                // The machine will not lose power in the midst of a test, or the test is over anyway.
                .args(["--unsafe-no-fsync", "--data-dir"])
                .arg(directory.path().join("etcd"));
            let mut child = spawn(command, &watchdog, &log);
            // It is asked by the API server only; that the port is open is enough to go on.
            if up(&mut child, port).await {
                let count = AtomicU32::new(0);
                return Self { pki, etcd: clients, watchdog, directory, count, _etcd: Mutex::new(child) };
            }
            eprintln!("etcd did not start, once more: {}", tail(&log));
        }
        panic!("etcd does not start");
    }

    /// A path that nobody else has, for something called `name`.
    pub fn place(&self, name: &str) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.directory.path().join(format!("{name}-{number}"))
    }

    pub fn home(&self) -> &Path {
        self.directory.path()
    }
}

/// Starts a program that ends with this process; what it prints goes to `log`.
pub fn spawn(mut command: Command, watchdog: &Watchdog, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    watchdog.enlist(&mut command).unwrap().spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// Waits until it listens on `port`; `false`: it has ended.
async fn up(child: &mut Child, port: u16) -> bool {
    let give_up = Instant::now() + START;
    while Instant::now() < give_up {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// A port below those of outgoing connections and of the Redis nodes, so that it can be taken again after a restart.
pub fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::random_range(4_000..7_000));
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("it is without end")
}

/// The last lines of a file.
pub fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}
