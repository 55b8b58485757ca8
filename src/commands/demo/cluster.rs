//! A local Redis Cluster of real redis-servers, or a master with replicas outside of one, to be broken at will.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use redis::cmd;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::watchdog::Watchdog;

mod node;
mod sentinel;
mod slots;
pub mod view;

pub use node::Node;
pub use sentinel::{MASTER_NAME, Sentinel};

/// How the cluster is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Else one master, with replicas, that nobody promotes by itself.
    pub clustered: bool,
    /// Outside of a cluster: so many sentinels see to it that there is a master, which they call [`MASTER_NAME`].
    pub sentinels: usize,
    pub masters: usize,
    /// Replicas of each master.
    pub replicas: usize,
    /// `notify-keyspace-events` of each server; empty as Redis's own default.
    pub notify_keyspace_events: String,
    pub node_timeout: Duration,
    /// `requirepass` and `masterauth`.
    pub password: Option<String>,
    /// Each server, and each sentinel, has a port with TLS too; among themselves they use it alone.
    pub tls: Option<TlsFiles>,
    /// Outside of a cluster: the port of whom it replicates from its start.
    pub replica_of: Option<u16>,
    /// More of redis.conf, each as (name, value).
    pub directives: Vec<(String, String)>,
    /// The environment of one server, as it stands in [`Cluster::nodes`].
    pub environment: Option<(usize, Vec<(String, String)>)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clustered: true,
            sentinels: 0,
            masters: 3,
            replicas: 1,
            notify_keyspace_events: "Kgxe$".into(),
            node_timeout: Duration::from_secs(2),
            password: None,
            tls: None,
            replica_of: None,
            directives: Vec::new(),
            environment: None,
        }
    }
}

/// The PEM files of all servers. Clients have to show a certificate of the same authority.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl TlsFiles {
    /// As redis.conf has it, `port` included.
    fn directives(&self, port: u16) -> Vec<(&'static str, String)> {
        let file = |path: &Path| path.display().to_string();
        vec![
            ("tls-port", port.to_string()),
            ("tls-ca-cert-file", file(&self.authority)),
            ("tls-cert-file", file(&self.certificate)),
            ("tls-key-file", file(&self.key)),
            ("tls-replication", "yes".into()),
        ]
    }
}

/// Which kind of `CLUSTER FAILOVER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// In agreement with the master; nothing is lost.
    Planned,
    /// The master is not asked, the other masters are.
    Force,
    /// Nobody is asked.
    Takeover,
}

/// What a server finds when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// What it held (it is told to save first if it is up).
    Keep,
    /// Nothing, but the same identity.
    Drop,
}

/// A running cluster. Dropped, or with its process gone in whatever way, its servers are killed and their files removed.
pub struct Cluster {
    options: Options,
    nodes: Mutex<Vec<Node>>,
    sentinels: Mutex<Vec<Sentinel>>,
    // In this order: first the servers die, then their directory goes.
    watchdog: Watchdog,
    directory: TempDir,
}

/// How long the cluster may take to get over what was done to it.
const SETTLE: Duration = Duration::from_secs(30);

impl Cluster {
    /// Starts the servers and forms the cluster; the first `options.masters` of [`Cluster::nodes`] are the masters.
    /// Returns when every node finds the state ok and every replica is linked.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("redis-cluster-").tempdir().context("making a temporary directory")?;
        let watchdog = Watchdog::start(Some(directory.path()))?;
        let (nodes, sentinels) = (Mutex::default(), Mutex::default());
        let cluster = Self { options, nodes, sentinels, watchdog, directory };
        let count = cluster.options.masters * (1 + cluster.options.replicas);
        for index in 0..count {
            let node = Node::start(index, cluster.directory.path(), &cluster.options, &cluster.watchdog).await?;
            cluster.lock().push(node);
        }
        cluster.form().await?;
        Ok(cluster)
    }

    async fn form(&self) -> anyhow::Result<()> {
        let nodes = self.nodes();
        let (masters, replicas) = nodes.split_at(self.options.masters);
        if !self.options.clustered {
            for replica in replicas {
                self.replicate(replica, &masters[0]).await?;
            }
            self.wait_ok().await?;
            return self.watch_over(&masters[0], replicas.len()).await;
        }
        let share = |index: usize| crate::model::SLOTS as usize * index / masters.len();
        for (index, master) in masters.iter().enumerate() {
            let (first, last) = (share(index), share(index + 1) - 1);
            // One by one: a range is 7.0.
            let slots: Vec<usize> = (first..=last).collect();
            let () = master.query(cmd("CLUSTER").arg("ADDSLOTS").arg(slots)).await?;
        }
        for (index, node) in nodes.iter().enumerate() {
            // Else all begin with 0, and sorting that out takes the cluster a while.
            let () = node.query(cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(index + 1)).await?;
        }
        self.introduce(&nodes).await?;
        for (index, replica) in replicas.iter().enumerate() {
            let master = &masters[index % masters.len()];
            let () = replica.query(cmd("CLUSTER").arg("REPLICATE").arg(master.id())).await?;
        }
        self.wait_ok().await
    }

    /// Makes everybody known to everybody at once: gossip alone takes seconds.
    async fn introduce(&self, newcomers: &[Node]) -> anyhow::Result<()> {
        let nodes = self.nodes();
        for newcomer in newcomers {
            for node in nodes.iter().filter(|node| *node != newcomer && node.up()) {
                let () = newcomer.query(cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.peer_port())).await?;
            }
        }
        wait("every node to know every other", async || {
            for node in nodes.iter().filter(|node| node.up()) {
                let known = node.view().await?.iter().filter(|seen| seen.link).count();
                ensure!(known >= nodes.iter().filter(|node| node.up()).count(), "{node} knows {known} nodes");
            }
            Ok(())
        })
        .await
    }

    /// Every server ever started, dead ones too.
    pub fn nodes(&self) -> Vec<Node> {
        self.lock().clone()
    }

    /// `host:port` of each, for clients.
    pub fn seeds(&self) -> Vec<String> {
        self.lock().iter().map(Node::address).collect()
    }

    /// The same of their ports with TLS, where there are any.
    pub fn tls_seeds(&self) -> Vec<String> {
        self.lock().iter().filter_map(Node::tls_address).collect()
    }

    pub fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// SIGKILL.
    pub fn kill(&self, node: &Node) -> anyhow::Result<()> {
        node.kill()
    }
    /// SIGSTOP: its sockets stay open and silent.
    pub fn pause(&self, node: &Node) -> anyhow::Result<()> {
        node.set_paused(true)
    }
    /// SIGCONT.
    pub fn resume(&self, node: &Node) -> anyhow::Result<()> {
        node.set_paused(false)
    }

    /// Kills the server if it is up and starts it again on the same port, with the same identity and with the options
    /// of the start: what `CONFIG SET` changed is gone. Returns when it answers.
    pub async fn restart(&self, node: &Node, data: Data) -> anyhow::Result<()> {
        if data == Data::Keep && node.up() {
            let mut connection = node.connect(SETTLE).await?;
            let () = cmd("SAVE").query_async(&mut connection).await.with_context(|| format!("SAVE on {node}"))?;
        }
        node.kill()?;
        node.start_again(data == Data::Keep, &self.options, &self.watchdog).await
    }

    /// Starts the killed server again, empty. Outside of a cluster it is a replica of `master` from its first moment: nobody takes it
    /// for a master meanwhile.
    pub async fn comes_back(&self, node: &Node, master: &Node) -> anyhow::Result<()> {
        let replica_of = (!self.options.clustered).then(|| master.peer_port());
        node.start_again(false, &Options { replica_of, ..self.options.clone() }, &self.watchdog).await
    }

    /// Makes the replica its shard's master, and returns when it says so.
    pub async fn failover(&self, replica: &Node, kind: Failover) -> anyhow::Result<()> {
        let mut command = cmd("CLUSTER");
        command.arg("FAILOVER");
        match kind {
            Failover::Planned => {}
            Failover::Force => {
                command.arg("FORCE");
            }
            Failover::Takeover => {
                command.arg("TAKEOVER");
            }
        }
        let () = replica.query(&command).await?;
        wait("the replica to be master", async || {
            let view = replica.view().await?;
            ensure!(view.iter().any(|seen| seen.myself && seen.master), "{replica} is a replica");
            Ok(())
        })
        .await
    }

    /// Starts the sentinels, and waits until each knows all the others and the replicas.
    async fn watch_over(&self, master: &Node, replicas: usize) -> anyhow::Result<()> {
        for index in 0..self.options.sentinels {
            let started = Sentinel::start(index, self.directory.path(), master, &self.options, &self.watchdog).await?;
            self.sentinels.lock().unwrap_or_else(PoisonError::into_inner).push(started);
        }
        let others = self.options.sentinels.saturating_sub(1);
        for sentinel in self.sentinels() {
            wait("the sentinels to know each other", async || sentinel.knows(replicas, others).await).await?;
        }
        Ok(())
    }

    /// The sentinels; none where there are none.
    pub fn sentinels(&self) -> Vec<Sentinel> {
        self.sentinels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Outside of a cluster: makes it a replica of that master.
    pub async fn replicate(&self, replica: &Node, master: &Node) -> anyhow::Result<()> {
        replica.query(cmd("REPLICAOF").arg("127.0.0.1").arg(master.peer_port())).await
    }

    /// Outside of a cluster: makes it a master; the other servers are not told.
    pub async fn promote(&self, replica: &Node) -> anyhow::Result<()> {
        replica.query(cmd("REPLICAOF").arg("NO").arg("ONE")).await
    }

    /// Starts one more server and joins it as a master without slots.
    pub async fn add_master(&self) -> anyhow::Result<Node> {
        let index = self.lock().len();
        let node = Node::start(index, self.directory.path(), &self.options, &self.watchdog).await?;
        self.lock().push(node.clone());
        self.introduce(std::slice::from_ref(&node)).await?;
        self.wait_ok().await?;
        Ok(node)
    }

    /// Kills a server that has no slots any more, and has all others forget it at once.
    pub async fn remove(&self, node: &Node) -> anyhow::Result<()> {
        node.kill()?;
        for other in self.nodes().iter().filter(|other| other.up()) {
            let () = other.query(cmd("CLUSTER").arg("FORGET").arg(node.id())).await?;
        }
        Ok(())
    }

    pub async fn config_set(&self, node: &Node, name: &str, value: &str) -> anyhow::Result<()> {
        node.query(cmd("CONFIG").arg("SET").arg(name).arg(value)).await
    }

    /// The masters that are not failed, each with what is said of it, by the first running node that answers.
    pub async fn masters(&self) -> anyhow::Result<Vec<(Node, view::Seen)>> {
        Ok(self.view().await?.into_iter().filter(|(_, seen)| seen.master && !seen.failed).collect())
    }

    /// The running replicas of a master.
    pub async fn replicas_of(&self, master: &Node) -> anyhow::Result<Vec<Node>> {
        let view = self.view().await?.into_iter();
        let of = |seen: &view::Seen| !seen.failed && seen.master_id.as_deref() == Some(master.id());
        Ok(view.filter(|(node, seen)| node.up() && of(seen)).map(|(node, _)| node).collect())
    }

    /// Who owns the slot.
    pub async fn owner(&self, slot: u16) -> anyhow::Result<Node> {
        let masters = self.masters().await?.into_iter();
        masters.filter(|(_, seen)| seen.owns(slot)).map(|(node, _)| node).next().context("nobody owns the slot")
    }

    async fn view(&self) -> anyhow::Result<Vec<(Node, view::Seen)>> {
        let nodes = self.nodes();
        if !self.options.clustered {
            // None speaks for another.
            let mut seen = Vec::new();
            for node in nodes.into_iter().filter(Node::up) {
                let own = node.view().await?;
                seen.extend(own.into_iter().map(|own| (node.clone(), own)));
            }
            return Ok(seen);
        }
        let mut last = None;
        for node in nodes.iter().filter(|node| node.up()) {
            match node.view().await {
                Ok(view) => {
                    let known = |seen: view::Seen| {
                        nodes.iter().find(|node| node.id() == seen.id).map(|node| (node.clone(), seen))
                    };
                    return Ok(view.into_iter().filter_map(known).collect());
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no node is up")))
    }

    /// Waits until every running node finds the cluster ok, all agree on roles and slots, and every running replica is
    /// linked to its master.
    pub async fn wait_ok(&self) -> anyhow::Result<()> {
        if !self.options.clustered {
            return self.wait_one_master().await;
        }
        wait("the cluster to be ok", async || {
            let running: Vec<Node> = self.nodes().into_iter().filter(Node::up).collect();
            let up: Vec<&str> = running.iter().map(Node::id).collect();
            let mut agreed = None;
            for node in &running {
                let info: String = node.query(cmd("CLUSTER").arg("INFO")).await?;
                ensure!(info.contains("cluster_state:ok"), "{node} finds the cluster down");
                let view = node.view().await?;
                let replica = view.iter().any(|seen| seen.myself && !seen.master);
                if replica {
                    let link = node.info("replication", "master_link_status").await?;
                    ensure!(link == "up", "{node} is not linked to its master");
                }
                let down = view.iter().find(|seen| seen.failed && !seen.slots.is_empty());
                ensure!(down.is_none(), "{node} takes {down:?} for failed");
                // A death that nobody has noticed yet.
                let dead = view.iter().find(|seen| !seen.slots.is_empty() && !up.contains(&seen.id.as_str()));
                ensure!(dead.is_none(), "{node} takes {dead:?} for alive");
                let mut roles: Vec<_> = view
                    .into_iter()
                    .filter(|seen| up.contains(&seen.id.as_str()))
                    .map(|seen| (seen.id, seen.master_id, seen.slots))
                    .collect();
                roles.sort_by(|a, b| a.0.cmp(&b.0));
                match &agreed {
                    None => agreed = Some(roles),
                    Some(agreed) => ensure!(*agreed == roles, "{node} disagrees with others on roles or slots"),
                }
            }
            ensure!(agreed.is_some(), "no node is up");
            Ok(())
        })
        .await
    }

    /// Waits until one running server is a master and the others are linked to it.
    async fn wait_one_master(&self) -> anyhow::Result<()> {
        wait("one master and its replicas", async || {
            let view = self.view().await?;
            let masters: Vec<&view::Seen> = view.iter().map(|(_, seen)| seen).filter(|seen| seen.master).collect();
            let [master] = masters.as_slice() else { bail!("{} masters", masters.len()) };
            for (node, seen) in view.iter().filter(|(_, seen)| !seen.master) {
                ensure!(
                    seen.link && seen.master_id.as_ref() == Some(&master.id),
                    "{node} is not linked to {}",
                    master.id
                );
            }
            Ok(())
        })
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The watchdog would kill them; killed here they are also waited for. An error leaves them to the watchdog.
        for node in self.nodes() {
            let _ = node.kill();
        }
        for sentinel in self.sentinels() {
            sentinel.kill();
        }
    }
}

/// Asks until there is no complaint; the last one is the error.
async fn wait<F: Future<Output = anyhow::Result<()>>>(what: &str, check: impl Fn() -> F) -> anyhow::Result<()> {
    let end = Instant::now() + SETTLE;
    loop {
        match check().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= end => bail!("waited {SETTLE:?} for {what}: {error:#}"),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
