//! One redis-sentinel.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use redis::{Cmd, FromRedisValue, cmd};

use super::{
    Node, Options,
    node::{client, connect, free_port},
    wait,
};
use crate::commands::demo::watchdog::Watchdog;

/// What the sentinels call the master.
pub const MASTER_NAME: &str = "orders";

/// A running sentinel; clones name the same one.
#[derive(Clone)]
pub struct Sentinel {
    port: u16,
    /// With TLS.
    tls_port: Option<u16>,
    child: Arc<Mutex<Child>>,
}

impl Sentinel {
    /// It takes a master that is silent for 2.5 s for down: one that was silent for less than 2 s, and replaced all the same, we
    /// would go on believing for a moment.
    pub(super) async fn start(
        index: usize,
        root: &Path,
        master: &Node,
        options: &Options,
        watchdog: &Watchdog,
    ) -> anyhow::Result<Self> {
        let directory = root.join(format!("sentinel-{index}"));
        fs::create_dir(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let port = free_port()?;
        let quorum = options.sentinels / 2 + 1;
        let mut config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nlogfile sentinel.log\n\
             sentinel monitor {MASTER_NAME} 127.0.0.1 {} {quorum}\n\
             sentinel down-after-milliseconds {MASTER_NAME} 2500\n\
             sentinel failover-timeout {MASTER_NAME} 5000\n",
            directory.display(),
            master.peer_port(),
        );
        let tls_port = options.tls.as_ref().map(|_| free_port()).transpose()?;
        if let (Some(tls), Some(port)) = (&options.tls, tls_port) {
            for (name, value) in tls.directives(port) {
                config.extend([name, " ", &value, "\n"]);
            }
        }
        if let Some(password) = &options.password {
            config.extend(["sentinel auth-pass ", MASTER_NAME, " ", password, "\n"]);
        }
        // It writes what it learns into it.
        let file = directory.join("sentinel.conf");
        fs::write(&file, config).with_context(|| format!("writing {}", file.display()))?;
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = watchdog.enlist(&mut command)?.spawn().context("starting a sentinel (is redis-server on PATH?)")?;
        let sentinel = Self { port, tls_port, child: Arc::new(Mutex::new(child)) };
        wait("a sentinel to answer", async || sentinel.query::<String>(&cmd("PING")).await.map(drop)).await?;
        Ok(sentinel)
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:port` of the port with TLS, where there is one.
    pub fn tls_address(&self) -> Option<String> {
        self.tls_port.map(|port| format!("127.0.0.1:{port}"))
    }

    /// Sends one command on a new connection.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> anyhow::Result<T> {
        let mut connection = connect(&client(self.port, None)?, Duration::from_secs(5)).await?;
        command.query_async(&mut connection).await.with_context(|| format!("asking the sentinel {}", self.address()))
    }

    pub(super) async fn knows(&self, replicas: usize, others: usize) -> anyhow::Result<()> {
        for (what, wanted) in [("REPLICAS", replicas), ("SENTINELS", others)] {
            let known: Vec<redis::Value> = self.query(cmd("SENTINEL").arg(what).arg(MASTER_NAME)).await?;
            ensure!(known.len() == wanted, "{} knows {} {what} of {wanted}", self.address(), known.len());
        }
        Ok(())
    }

    pub(super) fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // An error leaves it to the watchdog.
        let _ = child.kill();
        let _ = child.wait();
    }
}
