//! A real Redis Cluster with many keys that have a TTL, and connections to its masters.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use redis::{Pipeline, aio::MultiplexedConnection};
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Node, Options, view::Seen},
    model::slot_of,
};
use tokio::task::JoinSet;

use super::statistics::millis;

/// What the other keys begin with.
pub const OTHERS: &str = "cart:";
/// Long enough for none of them to expire meanwhile: 4 to 8 hours.
const OTHERS_TTL_MS: i64 = 4 * 3_600_000;
const PATIENCE: Duration = Duration::from_secs(10);
/// Commands a pipeline.
pub const PIPELINE: usize = 1_000;

pub struct Bed {
    pub cluster: Cluster,
    pub masters: Vec<Master>,
    others: AtomicUsize,
}

#[derive(Clone)]
pub struct Master {
    pub node: Node,
    pub connection: MultiplexedConnection,
    seen: Seen,
}

impl Bed {
    pub async fn make() -> anyhow::Result<Self> {
        eprintln!("starting 3 masters and 3 replicas");
        let cluster = Cluster::start(Options::default()).await?;
        let mut masters = Vec::new();
        for (node, seen) in cluster.masters().await? {
            let connection = node.connect(PATIENCE).await?;
            masters.push(Master { node, connection, seen });
        }
        Ok(Self { cluster, masters, others: AtomicUsize::new(0) })
    }

    /// Sees to it that there are so many keys beside the orders.
    pub async fn fill(&self, others: usize) -> anyhow::Result<()> {
        let there = self.others.swap(others, Ordering::Relaxed);
        if others == there {
            return Ok(());
        }
        eprintln!("{others} other keys");
        let now = millis();
        let spread = |number: usize| i64::try_from(number % 14_400_000).unwrap_or(0);
        // Deadlines in no order that the keys are in.
        let deadline = |number: usize| now + OTHERS_TTL_MS + spread(number * 7_919);
        self.arm((there..others).map(|number| (format!("{OTHERS}{number:012}"), deadline(number)))).await?;
        self.remove((others..there).map(|number| format!("{OTHERS}{number:012}"))).await?;
        // Else the first thing measured would be how the replicas catch up.
        self.cluster.wait_ok().await
    }

    /// Seconds of CPU that all nodes have had together, replicas too.
    pub async fn cpu(&self) -> anyhow::Result<f64> {
        let mut all = 0.0;
        for node in self.cluster.nodes() {
            for field in ["used_cpu_user", "used_cpu_sys"] {
                all += node.info("cpu", field).await?.trim().parse::<f64>()?;
            }
        }
        Ok(all)
    }

    pub fn owner(&self, key: &str) -> anyhow::Result<usize> {
        let slot = slot_of(key.as_bytes());
        self.masters.iter().position(|master| master.seen.owns(slot.0)).context("every slot has an owner")
    }

    /// Keys by their owner.
    pub fn by_owner<T>(
        &self,
        keys: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> &str,
    ) -> anyhow::Result<Vec<Vec<T>>> {
        let mut shares: Vec<Vec<T>> = self.masters.iter().map(|_| Vec::new()).collect();
        for item in keys {
            let owner = self.owner(key(&item))?;
            shares[owner].push(item);
        }
        Ok(shares)
    }

    /// Sets keys that expire at their deadlines.
    pub async fn arm(&self, keys: impl IntoIterator<Item = (String, i64)>) -> anyhow::Result<()> {
        self.each(keys, |pipeline, (key, deadline)| {
            pipeline.cmd("SET").arg(key).arg(1).arg("PXAT").arg(deadline).ignore();
        })
        .await
    }

    pub async fn remove(&self, keys: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        let keys = keys.into_iter().map(|key| (key, 0));
        self.each(keys, |pipeline, (key, _)| {
            pipeline.cmd("UNLINK").arg(key).ignore();
        })
        .await
    }

    /// A command a key, all masters at once.
    async fn each(
        &self,
        keys: impl IntoIterator<Item = (String, i64)>,
        command: impl Fn(&mut Pipeline, &(String, i64)) + Copy + Send + 'static,
    ) -> anyhow::Result<()> {
        let shares = self.by_owner(keys, |(key, _)| key)?;
        let mut tasks = JoinSet::new();
        for (share, master) in shares.into_iter().zip(self.masters.clone()) {
            let mut connection = master.connection;
            tasks.spawn(async move {
                for chunk in share.chunks(PIPELINE) {
                    let mut pipeline = redis::pipe();
                    for item in chunk {
                        command(&mut pipeline, item);
                    }
                    let () = pipeline.query_async(&mut connection).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}
