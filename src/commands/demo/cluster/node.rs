//! One redis-server: its process and a way to talk to it.

use std::{
    collections::BTreeSet,
    fmt, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo as _, RedisConnectionInfo,
    aio::MultiplexedConnection,
};
use tokio::time::{Instant, sleep};

use super::{Options, view};
use crate::{commands::demo::watchdog::Watchdog, model::info_field};

/// A redis-server of the cluster; clones name the same one.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    index: usize,
    clustered: bool,
    port: u16,
    /// With TLS.
    tls_port: Option<u16>,
    id: String,
    directory: PathBuf,
    password: Option<String>,
    process: Mutex<Process>,
}

struct Process {
    /// `None` once it was killed.
    child: Option<Child>,
    paused: bool,
}

const START: Duration = Duration::from_secs(20);

impl Node {
    /// Starts a server on a free port. `index` only names its directory.
    pub(super) async fn start(
        index: usize,
        root: &Path,
        options: &Options,
        watchdog: &Watchdog,
    ) -> anyhow::Result<Self> {
        let directory = root.join(format!("node-{index}"));
        fs::create_dir(&directory).with_context(|| format!("creating {}", directory.display()))?;
        // Between finding a port free and the server's binding it somebody else may take it.
        let mut attempts = 5;
        loop {
            let port = free_port()?;
            let tls_port = options.tls.as_ref().map(|_| free_port()).transpose()?;
            let mut child = spawn(index, (port, tls_port), &directory, options, watchdog)?;
            let client = client(port, options.password.as_deref())?;
            match first_answer(&client, tls_port.unwrap_or(port), options, &mut child, &directory).await {
                Ok(id) => {
                    let process = Mutex::new(Process { child: Some(child), paused: false });
                    let password = options.password.clone();
                    let clustered = options.clustered;
                    let shared = Shared { index, clustered, port, tls_port, id, directory, password, process };
                    return Ok(Self { shared: Arc::new(shared) });
                }
                Err(error) => {
                    // Ours and of no use; waiting for it reaps it.
                    let _ = child.kill();
                    let _ = child.wait();
                    attempts -= 1;
                    if attempts == 0 {
                        return Err(error);
                    }
                }
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.shared.port
    }
    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.shared.port)
    }
    /// `127.0.0.1:port` of the port with TLS, where there is one.
    pub fn tls_address(&self) -> Option<String> {
        self.shared.tls_port.map(|port| format!("127.0.0.1:{port}"))
    }
    /// Where other servers reach it.
    pub(super) fn peer_port(&self) -> u16 {
        self.shared.tls_port.unwrap_or(self.shared.port)
    }
    /// The 40 hexadecimal digits, kept over restarts; outside of a cluster a name of ours.
    pub fn id(&self) -> &str {
        &self.shared.id
    }
    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.shared.directory.join("redis.log")).unwrap_or_default()
    }
    /// Started and not killed; a paused one is not up.
    pub fn up(&self) -> bool {
        let process = self.process();
        process.child.is_some() && !process.paused
    }

    /// A new connection, on which every command has `timeout`.
    pub async fn connect(&self, timeout: Duration) -> anyhow::Result<MultiplexedConnection> {
        connect(&client(self.shared.port, self.shared.password.as_deref())?, timeout)
            .await
            .with_context(|| format!("connecting to {self}"))
    }

    /// Sends one command on a new connection.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> anyhow::Result<T> {
        let mut connection = self.connect(Duration::from_secs(5)).await?;
        command.query_async(&mut connection).await.with_context(|| {
            let name = command.args_iter().next().map(|arg| match arg {
                redis::Arg::Simple(name) => String::from_utf8_lossy(name).into_owned(),
                _ => String::new(),
            });
            format!("asking {self} for {}", name.unwrap_or_default())
        })
    }

    /// The cluster as this node sees it.
    pub async fn view(&self) -> anyhow::Result<Vec<view::Seen>> {
        if self.shared.clustered {
            let text: String = self.query(redis::cmd("CLUSTER").arg("NODES")).await?;
            return Ok(view::parse(&text));
        }
        let text: String = self.query(redis::cmd("INFO").arg("replication")).await?;
        Ok(vec![view::of_server(self.id(), self.port(), &text)])
    }

    /// One field of `INFO`.
    pub async fn info(&self, section: &str, field: &str) -> anyhow::Result<String> {
        let text: String = self.query(redis::cmd("INFO").arg(section)).await?;
        info_field(&text, field).map(str::to_owned).with_context(|| format!("INFO {section} of {self} has no {field}"))
    }

    /// SIGKILL; a paused one dies too. Nothing if it is dead already.
    pub(super) fn kill(&self) -> anyhow::Result<()> {
        let mut process = self.process();
        if let Some(mut child) = process.child.take() {
            child.kill().with_context(|| format!("killing {self}"))?;
            child.wait().with_context(|| format!("waiting for the death of {self}"))?;
        }
        process.paused = false;
        Ok(())
    }

    /// SIGSTOP, or SIGCONT: the sockets stay open, nobody answers.
    pub(super) fn set_paused(&self, paused: bool) -> anyhow::Result<()> {
        let mut process = self.process();
        let Some(child) = &process.child else { bail!("{self} was killed") };
        // std cannot send these signals, and every shell can.
        let signal = if paused { "STOP" } else { "CONT" };
        let status = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "signal", signal])
            .arg(child.id().to_string())
            .status()
            .context("running sh")?;
        ensure!(status.success(), "sending SIG{signal} to {self}: {status}");
        process.paused = paused;
        Ok(())
    }

    /// Starts the killed server again, same port, same identity, and waits until it answers.
    pub(super) async fn start_again(
        &self,
        keep_data: bool,
        options: &Options,
        watchdog: &Watchdog,
    ) -> anyhow::Result<()> {
        let dump = self.shared.directory.join("dump.rdb");
        if !keep_data {
            remove(&dump)?;
        }
        let ports = (self.shared.port, self.shared.tls_port);
        let mut child = spawn(self.shared.index, ports, &self.shared.directory, options, watchdog)?;
        let client = client(self.shared.port, self.shared.password.as_deref())?;
        let answer = first_answer(&client, self.peer_port(), options, &mut child, &self.shared.directory).await;
        *self.process() = Process { child: Some(child), paused: false };
        let id = answer?;
        ensure!(id == self.shared.id, "{self} came back as {id}");
        // Loaded; the next start that keeps the data is to find that start's, not this one's.
        remove(&dump)
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.shared.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.0.0.1:{}", self.shared.port)
    }
}
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.shared.id == other.shared.id
    }
}
impl Eq for Node {}

fn remove(file: &Path) -> anyhow::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// `ports`: without TLS, and with it.
fn spawn(
    index: usize,
    (port, tls_port): (u16, Option<u16>),
    directory: &Path,
    options: &Options,
    watchdog: &Watchdog,
) -> anyhow::Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(directory);
    if options.clustered {
        let node_timeout = options.node_timeout.as_millis().to_string();
        command.args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
        command.args(["--cluster-node-timeout", &node_timeout]);
    }
    command.args([
        "--appendonly",
        "no",
        "--save",
        "",
        "--logfile",
        "redis.log",
        // By default a master waits 5 s for more replicas to come before it sends its data.
        "--repl-diskless-sync-delay",
        "0",
        // A file that a replica was sent is not a snapshot of its own: `restart` must not find it.
        "--rdb-del-sync-files",
        "yes",
        "--notify-keyspace-events",
        &options.notify_keyspace_events,
    ]);
    if let Some(password) = &options.password {
        command.args(["--requirepass", password, "--masterauth", password]);
    }
    if let (Some(tls), Some(port)) = (&options.tls, tls_port) {
        for (name, value) in tls.directives(port) {
            command.arg(format!("--{name}")).arg(value);
        }
        if options.clustered {
            command.args(["--tls-cluster", "yes"]);
        }
    }
    if let Some((_, variables)) = options.environment.as_ref().filter(|(of, _)| *of == index) {
        command.envs(variables.iter().cloned());
    }
    if let Some(port) = options.replica_of {
        command.args(["--replicaof", "127.0.0.1", &port.to_string()]);
    }
    for (name, value) in &options.directives {
        command.arg(format!("--{name}")).arg(value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    watchdog.enlist(&mut command)?.spawn().context("starting redis-server (is it on PATH?)")
}

pub(super) fn client(port: u16, password: Option<&str>) -> anyhow::Result<Client> {
    let mut settings = RedisConnectionInfo::default();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let address = ConnectionAddr::Tcp(Ipv4Addr::LOCALHOST.to_string(), port);
    let info = address.into_connection_info().context("an address of our own")?.set_redis_settings(settings);
    Client::open(info).context("a client for a node of our own")
}

pub(super) async fn connect(client: &Client, timeout: Duration) -> redis::RedisResult<MultiplexedConnection> {
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(timeout));
    client.get_multiplexed_async_connection_with_config(&settings).await
}

/// Waits until the server has loaded its data and says its id, or ends. `port`: where other servers reach it.
async fn first_answer(
    client: &Client,
    port: u16,
    options: &Options,
    child: &mut Child,
    directory: &Path,
) -> anyhow::Result<String> {
    let end = Instant::now() + START;
    let ask = async || -> redis::RedisResult<String> {
        let mut connection = connect(client, Duration::from_secs(2)).await?;
        let () = redis::cmd("PING").query_async(&mut connection).await?;
        if !options.clustered {
            return Ok(view::name_of(port));
        }
        redis::cmd("CLUSTER").arg("MYID").query_async(&mut connection).await
    };
    loop {
        if let Some(status) = child.try_wait().context("waiting for redis-server")? {
            let log = fs::read_to_string(directory.join("redis.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(3).collect();
            bail!("redis-server ended with {status}: {}", tail.join(" <- "));
        }
        match ask().await {
            Ok(id) => return Ok(id),
            Err(error) if Instant::now() >= end => return Err(error).context("waiting for redis-server to answer"),
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A port that is free together with the cluster bus's, 10000 above. Both below the range from which the system takes
/// the ports of outgoing connections, so that a killed node's stay free for its return. Nor is one given out twice: who still dials
/// a dead node must not come to one of another cluster.
pub(super) fn free_port() -> anyhow::Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        let port = rand::random_range(10_000..22_000);
        if !given.insert(port) {
            continue;
        }
        if [port, port + 10_000].iter().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no free port between 10000 and 22000 with a free one 10000 above")
}
