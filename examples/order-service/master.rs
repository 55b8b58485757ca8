//! A connection to whoever is the master, of servers that are no cluster.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisResult, Value,
    aio::MultiplexedConnection,
    cmd,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::time::timeout;

use super::keys::{CONNECTING, Servers};

/// Whom we ask for the master, and what then connects to it, may take as long.
const FINDING: Duration = Duration::from_secs(2);

/// Looks for the master anew once a command has failed. Clones share what they find.
#[derive(Clone)]
pub struct Master {
    shared: Arc<Shared>,
}

struct Shared {
    /// All are asked at once: one that says nothing is not waited for.
    finders: Vec<Finder>,
    /// How long a command may take.
    answering: Duration,
    /// Of the last master that answered.
    found: Mutex<Option<MultiplexedConnection>>,
    /// One search at a time.
    searching: tokio::sync::Mutex<()>,
}

enum Finder {
    /// It says itself whether it is.
    Server(Client),
    /// It knows who is.
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
}

impl Master {
    pub fn new(servers: &Servers, answering: Duration) -> anyhow::Result<Self> {
        let finders: RedisResult<Vec<Finder>> = match &servers.sentinels_call_it {
            Some(name) => {
                sentinels(servers, name)?.map(|client| Ok(Finder::Sentinel(Box::new(client?.into())))).collect()
            }
            None => servers.infos()?.into_iter().map(|info| Client::open(info).map(Finder::Server)).collect(),
        };
        let finders = finders.context("reading the addresses of Redis")?;
        let shared = Shared { finders, answering, found: Mutex::default(), searching: tokio::sync::Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// An error may be anybody's: that of a master that is none any more, too.
    pub async fn send<T: FromRedisValue>(&self, commands: &Pipeline) -> anyhow::Result<T> {
        let mut connection = self.find().await?;
        let answer = commands.query_async(&mut connection).await;
        if answer.is_err() {
            *self.shared.found() = None;
        }
        answer.context("asking Redis")
    }

    /// The search goes on though whoever asked for it waits no longer.
    pub async fn find(&self) -> anyhow::Result<MultiplexedConnection> {
        if let Some(found) = self.shared.known() {
            return Ok(found);
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.search().await }).await.context("looking for the master")?
    }
}

impl Shared {
    fn found(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Option<MultiplexedConnection> {
        self.found().clone()
    }

    async fn search(&self) -> anyhow::Result<MultiplexedConnection> {
        let _turn = self.searching.lock().await;
        if let Some(found) = self.known() {
            return Ok(found);
        }
        let mut asking: FuturesUnordered<_> = self.finders.iter().map(|finder| self.ask(finder)).collect();
        let mut failed = anyhow::anyhow!("each says that it is a replica");
        while let Some(asked) = asking.next().await {
            match asked {
                Ok(Some(found)) => {
                    *self.found() = Some(found.clone());
                    return Ok(found);
                }
                Ok(None) => {}
                Err(error) => failed = error,
            }
        }
        Err(failed.context("looking for the master"))
    }

    /// `None`: it is a replica.
    async fn ask(&self, finder: &Finder) -> anyhow::Result<Option<MultiplexedConnection>> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(self.answering));
        let asked = async {
            match finder {
                Finder::Sentinel(client) => {
                    let client = client.lock().await.async_get_client().await?;
                    client.get_multiplexed_async_connection_with_config(&settings).await.map(Some)
                }
                Finder::Server(client) => {
                    let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
                    let role: Vec<Value> = cmd("ROLE").query_async(&mut connection).await?;
                    let master = matches!(role.first(), Some(Value::BulkString(role)) if role == b"master");
                    Ok(master.then_some(connection))
                }
            }
        };
        Ok(timeout(FINDING, asked).await??)
    }
}

/// One for each of them. They are spoken to without a password, the servers with the one that is given.
fn sentinels(servers: &Servers, name: &str) -> anyhow::Result<impl Iterator<Item = RedisResult<SentinelClient>>> {
    let builder = move |address| {
        let mut builder = SentinelClientBuilder::new([address], name, SentinelServerType::Master)?;
        if let Some(username) = &servers.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &servers.password {
            builder = builder.set_client_to_redis_password(password);
        }
        builder.build()
    };
    Ok(servers.infos()?.into_iter().map(move |info| builder(info.addr().clone())))
}
