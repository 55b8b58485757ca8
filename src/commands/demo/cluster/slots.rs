//! Moving slots between masters while clients use them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use redis::{aio::MultiplexedConnection, cmd};

use super::{Cluster, Node};

/// Keys a `MIGRATE`: a node does nothing else meanwhile.
const BATCH: usize = 100;

impl Cluster {
    /// Moves the slots with their keys, as `redis-cli --cluster reshard` does, and returns when each running master
    /// knows. How many keys were moved.
    pub async fn move_slots(
        &self,
        from: &Node,
        to: &Node,
        slots: impl IntoIterator<Item = u16>,
    ) -> anyhow::Result<usize> {
        let timeout = Duration::from_secs(20);
        let (mut source, mut target) = (from.connect(timeout).await?, to.connect(timeout).await?);
        let mut others = Vec::new();
        for (master, _) in self.masters().await? {
            if master.up() && master != *from && master != *to {
                others.push(master.connect(timeout).await?);
            }
        }
        let mut keys = 0;
        for slot in slots {
            let moved = async {
                set_slot(&mut target, slot, "IMPORTING", from).await?;
                set_slot(&mut source, slot, "MIGRATING", to).await?;
                let moved = self.migrate(&mut source, to, slot).await?;
                // The target first: were the source told first and did then die, nobody would own the slot.
                set_slot(&mut target, slot, "NODE", to).await?;
                set_slot(&mut source, slot, "NODE", to).await?;
                for other in &mut others {
                    set_slot(other, slot, "NODE", to).await?;
                }
                anyhow::Ok(moved)
            };
            keys += moved.await.with_context(|| format!("moving slot {slot} from {from} to {to}"))?;
        }
        Ok(keys)
    }

    async fn migrate(&self, source: &mut MultiplexedConnection, to: &Node, slot: u16) -> anyhow::Result<usize> {
        let mut moved = 0;
        loop {
            let keys: Vec<Vec<u8>> =
                cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(BATCH).query_async(source).await?;
            if keys.is_empty() {
                return Ok(moved);
            }
            let mut migrate = cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(10_000);
            if let Some(password) = &self.options.password {
                migrate.arg("AUTH").arg(password);
            }
            // OK, or NOKEY when all of them have expired meanwhile.
            let answer: String = migrate.arg("KEYS").arg(&keys).query_async(source).await.context("MIGRATE")?;
            ensure!(matches!(answer.as_str(), "OK" | "NOKEY"), "MIGRATE answered {answer}");
            moved += keys.len();
        }
    }
}

async fn set_slot(connection: &mut MultiplexedConnection, slot: u16, state: &str, node: &Node) -> anyhow::Result<()> {
    cmd("CLUSTER")
        .arg("SETSLOT")
        .arg(slot)
        .arg(state)
        .arg(node.id())
        .query_async(connection)
        .await
        .with_context(|| format!("CLUSTER SETSLOT {slot} {state}"))
}
