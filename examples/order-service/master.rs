//! A connection to whoever is the master, of servers that are no cluster.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Pipeline, Value,
    aio::MultiplexedConnection,
    cmd,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use super::keys::Servers;

const CONNECTING: Duration = Duration::from_millis(500);

/// Looks for the master anew once a command has failed. Clones share what they find.
#[derive(Clone)]
pub struct Master {
    finder: Arc<Finder>,
    /// Of the last master that answered.
    found: Arc<Mutex<Option<MultiplexedConnection>>>,
    answering: Duration,
}

enum Finder {
    /// One of these says that it is.
    Among(Vec<Client>),
    /// The sentinels know.
    Sentinels(Box<tokio::sync::Mutex<SentinelClient>>),
}

impl Master {
    /// `answering`: how long a command may take.
    pub fn new(servers: &Servers, answering: Duration) -> anyhow::Result<Self> {
        let finder = match &servers.sentinels_call_it {
            Some(name) => Finder::Sentinels(Box::new(tokio::sync::Mutex::new(sentinels(servers, name)?))),
            None => Finder::Among(servers.infos()?.into_iter().map(Client::open).collect::<Result<_, _>>()?),
        };
        Ok(Self { finder: Arc::new(finder), found: Arc::default(), answering })
    }

    /// An error may be anybody's: that of a master that is none any more, too.
    pub async fn send<T: FromRedisValue>(&self, commands: &Pipeline) -> anyhow::Result<T> {
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut connection = match known {
            Some(connection) => connection,
            None => self.find().await?,
        };
        let answer = commands.query_async(&mut connection).await;
        if answer.is_err() {
            self.remember(None);
        }
        answer.context("asking Redis")
    }

    pub async fn find(&self) -> anyhow::Result<MultiplexedConnection> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(self.answering));
        let found = match &*self.finder {
            Finder::Sentinels(client) => {
                let client = client.lock().await.async_get_client().await.context("asking the sentinels")?;
                client.get_multiplexed_async_connection_with_config(&settings).await.context("connecting to Redis")?
            }
            Finder::Among(clients) => among(clients, &settings).await?,
        };
        self.remember(Some(found.clone()));
        Ok(found)
    }

    fn remember(&self, found: Option<MultiplexedConnection>) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

async fn among(clients: &[Client], settings: &AsyncConnectionConfig) -> anyhow::Result<MultiplexedConnection> {
    let mut failed = None;
    for client in clients {
        let asked = async {
            let mut connection = client.get_multiplexed_async_connection_with_config(settings).await?;
            let role: Vec<Value> = cmd("ROLE").query_async(&mut connection).await?;
            let master = matches!(role.first(), Some(Value::BulkString(role)) if role == b"master");
            redis::RedisResult::Ok(master.then_some(connection))
        };
        match asked.await {
            Ok(Some(connection)) => return Ok(connection),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or_else(|| anyhow::anyhow!("each says that it is a replica"), Into::into))
        .context("looking for a master among Redis's servers")
}

/// They are spoken to without a password, the servers with the one that is given.
fn sentinels(servers: &Servers, name: &str) -> anyhow::Result<SentinelClient> {
    let addresses = servers.infos()?.into_iter().map(|info| info.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)
        .context("reading the addresses of the sentinels")?;
    if let Some(username) = &servers.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &servers.password {
        builder = builder.set_client_to_redis_password(password);
    }
    builder.build().context("reading the addresses of the sentinels")
}
