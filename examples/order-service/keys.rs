//! The keys whose expiry means: look at that order.

use std::time::Duration;

use anyhow::Context as _;
use redis::{cluster::ClusterClient, cluster_async::ClusterConnection, cmd, pipe};
use tokio::time::timeout;

use super::database::{Armed, Millis};

/// What an order's key begins with; the listener's pattern is this and `*`.
pub const PREFIX: &str = "order:pay:";

/// A key armed late, maybe past its order's deadline, still lives this long: one that is born and gone within a moment
/// may do so while nobody is subscribed.
const SHORTEST: Millis = 500;

/// `WAIT` holds up what comes after it on its connection, and only until a replica has answered or this is over.
const REPLICA_WAIT_MS: u32 = 50;

/// For connecting, redirections and retries, in all. A shard without master takes longer; then the loop in `arming.rs`
/// goes on from the database.
const PATIENCE: Duration = Duration::from_millis(800);

/// Each has a connection to each master. The slots are divided among them in ranges, as they are among the masters, so
/// that a shard that does not answer holds up its own orders only.
const LANES: usize = 16;

#[derive(Clone)]
pub struct Keys {
    lanes: Vec<ClusterConnection>,
}

impl Keys {
    pub async fn connect(addresses: &[String], username: Option<&str>, password: Option<&str>) -> anyhow::Result<Self> {
        let seeds = addresses.iter().map(|address| format!("redis://{address}"));
        let mut builder = ClusterClient::builder(seeds)
            .connection_timeout(Duration::from_millis(500))
            .response_timeout(PATIENCE)
            .max_retry_wait(100);
        if let Some(username) = username {
            builder = builder.username(username);
        }
        if let Some(password) = password {
            builder = builder.password(password);
        }
        let client = builder.build().context("reading the addresses of Redis")?;
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            let connection = timeout(Duration::from_secs(10), client.get_async_connection()).await;
            lanes.push(connection.context("connecting to Redis took 10 s")?.context("connecting to Redis")?);
        }
        Ok(Self { lanes })
    }

    /// Sets the order's key to expire at its deadline, and asks whether a replica has it: a master that dies before it
    /// has sent the key on takes it along, and then nothing would ever expire.
    pub async fn arm(&self, order: &str, deadline: Millis, now: Millis) -> anyhow::Result<Armed> {
        let key = key(order);
        // The time left, not the moment: Redis's clock and ours may differ.
        let ttl = (deadline - now).max(SHORTEST);
        let mut both = pipe();
        // One pipeline, thus one connection: WAIT is about the writes of its own connection only.
        both.cmd("SET").arg(&key).arg("1").arg("PX").arg(ttl).ignore();
        both.cmd("WAIT").arg(1).arg(REPLICA_WAIT_MS);
        let mut connection = self.lane(&key);
        let (replicas,): (u32,) =
            timeout(PATIENCE, both.query_async(&mut connection)).await.context("SET took too long")?.context("SET")?;
        Ok(if replicas > 0 { Armed::Confirmed } else { Armed::Unconfirmed })
    }

    /// Whether the key was there: if not, it has expired just now, and its webhook is on the way.
    pub async fn disarm(&self, order: &str) -> anyhow::Result<bool> {
        let key = key(order);
        let mut connection = self.lane(&key);
        let deleted: u32 = timeout(PATIENCE, cmd("DEL").arg(&key).query_async(&mut connection))
            .await
            .context("DEL took too long")?
            .context("DEL")?;
        Ok(deleted > 0)
    }

    fn lane(&self, key: &str) -> ClusterConnection {
        self.lanes[slot(key) * LANES / SLOTS].clone()
    }
}

fn key(order: &str) -> String {
    format!("{PREFIX}{order}")
}

const SLOTS: usize = 16_384;

/// The key's slot: CRC16 (XMODEM) as the Redis Cluster specification has it; these keys have no hash tag. The client
/// knows it too, but does not tell.
fn slot(key: &str) -> usize {
    let crc = key.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    });
    usize::from(crc) % SLOTS
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_slot_is_the_one_that_redis_computes() {
        // `CLUSTER KEYSLOT` of a real server; the second is the specification's example.
        assert_eq!(super::slot("foo"), 12_182);
        assert_eq!(super::slot("123456789"), 0x31C3);
    }
}
