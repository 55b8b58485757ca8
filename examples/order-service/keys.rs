//! The keys whose expiry means: look at that order.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use redis::{
    ConnectionInfo, FromRedisValue, IntoConnectionInfo as _, Pipeline, cluster::ClusterClient,
    cluster_async::ClusterConnection, pipe,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    database::{Armed, Millis},
    master::Master,
};

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

pub(super) const CONNECTING: Duration = Duration::from_millis(500);

/// Outside of a cluster, for an answer: less, so that a master that hangs is known as such before patience is over.
const ANSWERING: Duration = Duration::from_millis(500);

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

/// Which Redis.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// `host:port` of its servers, or of its sentinels; of a cluster one is enough.
    pub addresses: Vec<String>,
    /// Else they are a master and its replicas.
    pub clustered: bool,
    /// The addresses are those of sentinels, which call the master that.
    pub sentinels_call_it: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
}

impl Servers {
    pub(super) fn infos(&self) -> anyhow::Result<Vec<ConnectionInfo>> {
        let info = |address: &String| {
            let info = format!("redis://{address}").into_connection_info().context("reading the addresses of Redis")?;
            let mut settings = info.redis_settings().clone();
            if let Some(username) = &self.username {
                settings = settings.set_username(username);
            }
            if let Some(password) = &self.password {
                settings = settings.set_password(password);
            }
            anyhow::Ok(info.set_redis_settings(settings))
        };
        self.addresses.iter().map(info).collect()
    }
}

/// To whoever has the key.
enum Connection {
    Cluster(ClusterConnection),
    Master(Master),
}

#[derive(Clone)]
pub struct Keys {
    lanes: Arc<[Lane]>,
}

struct Lane {
    connection: Connection,
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
            match &self.connection {
                Connection::Cluster(connection) => {
                    commands.query_async(&mut connection.clone()).await.context("asking Redis")
                }
                Connection::Master(master) => master.send(commands).await,
            }
        });
        let answer = answer.await.context("Redis took too long").flatten();
        if answer.is_err() {
            self.pauses().resting = Instant::now() + REST;
        }
        answer
    }
}

impl Keys {
    pub async fn connect(servers: &Servers) -> anyhow::Result<Self> {
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            let connection = timeout(Duration::from_secs(10), connection(servers)).await;
            let connection = connection.context("connecting to Redis took 10 s")??;
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

async fn connection(servers: &Servers) -> anyhow::Result<Connection> {
    if !servers.clustered {
        let master = Master::new(servers, ANSWERING)?;
        master.find().await?;
        return Ok(Connection::Master(master));
    }
    let client = ClusterClient::builder(servers.infos()?)
        .connection_timeout(CONNECTING)
        .response_timeout(PATIENCE)
        .max_retry_wait(100)
        .build()
        .context("reading the addresses of Redis")?;
    Ok(Connection::Cluster(client.get_async_connection().await.context("connecting to Redis")?))
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
