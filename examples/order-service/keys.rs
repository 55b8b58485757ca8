//! The keys whose expiry means: look at that order.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use redis::{FromRedisValue, Pipeline, cluster::ClusterClient, cluster_async::ClusterConnection, pipe};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

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

/// How many commands may be under way on a lane: what was given up here is still in a queue further on.
const UNDER_WAY: usize = 16;

/// After a command that took too long a lane takes no new orders for so long: each would only lengthen the queue, and
/// be set when its time is over, maybe twice. (Seen: a shard without replica, where each `WAIT` ran to its end, was
/// sent more than it could take, and orders got two lives in Redis.)
const REST: Duration = Duration::from_millis(300);

/// After a `WAIT` in vain none is tried on the lane for so long.
const WITHOUT_REPLICA: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Keys {
    lanes: Arc<[Lane]>,
}

struct Lane {
    connection: ClusterConnection,
    under_way: Semaphore,
    /// Until when it takes no orders, and until when it does not ask for replicas.
    pauses: Mutex<Pauses>,
}

#[derive(Clone, Copy)]
struct Pauses {
    resting: Instant,
    without_replica: Instant,
}

impl Lane {
    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send<T: FromRedisValue>(&self, commands: &Pipeline) -> anyhow::Result<T> {
        let answer = timeout(PATIENCE, async {
            let _permit = self.under_way.acquire().await.context("the lane is closed")?;
            let mut connection = self.connection.clone();
            commands.query_async(&mut connection).await.context("asking Redis")
        });
        let answer = answer.await.context("Redis took too long").flatten();
        if answer.is_err() {
            self.pauses().resting = Instant::now() + REST;
        }
        answer
    }
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
            let connection = connection.context("connecting to Redis took 10 s")?.context("connecting to Redis")?;
            let now = Instant::now();
            let pauses = Mutex::new(Pauses { resting: now, without_replica: now });
            lanes.push(Lane { connection, under_way: Semaphore::new(UNDER_WAY), pauses });
        }
        Ok(Self { lanes: lanes.into() })
    }

    /// Sets the order's key to expire at its deadline, and asks whether a replica has it: a master that dies before it
    /// has sent the key on takes it along, and then nothing would ever expire.
    ///
    /// `No` means that nothing was sent; after an error nobody knows what Redis has.
    pub async fn arm(&self, order: &str, deadline: Millis, now: Millis) -> anyhow::Result<Armed> {
        let key = key(order);
        let lane = self.lane(&key);
        let Pauses { resting, without_replica } = *lane.pauses();
        if Instant::now() < resting {
            return Ok(Armed::No);
        }
        // The time left, not the moment: Redis's clock and ours may differ.
        let ttl = (deadline - now).max(SHORTEST);
        let mut commands = pipe();
        commands.cmd("SET").arg(&key).arg("1").arg("PX").arg(ttl).ignore();
        if Instant::now() < without_replica {
            let () = lane.send(&commands).await?;
            return Ok(Armed::Unconfirmed);
        }
        // One pipeline, thus one connection: WAIT is about the writes of its own connection only.
        commands.cmd("WAIT").arg(1).arg(REPLICA_WAIT_MS);
        let (replicas,): (u32,) = lane.send(&commands).await?;
        if replicas > 0 {
            return Ok(Armed::Confirmed);
        }
        lane.pauses().without_replica = Instant::now() + WITHOUT_REPLICA;
        Ok(Armed::Unconfirmed)
    }

    /// Whether the key was there: if not, it has expired just now, and its webhook is on the way.
    pub async fn disarm(&self, order: &str) -> anyhow::Result<bool> {
        let key = key(order);
        let mut commands = pipe();
        commands.cmd("DEL").arg(&key);
        let (deleted,): (u32,) = self.lane(&key).send(&commands).await?;
        Ok(deleted > 0)
    }

    fn lane(&self, key: &str) -> &Lane {
        &self.lanes[slot(key) * LANES / SLOTS]
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
