//! The Redis client, over connections that a [`Dialler`] has opened.

use std::{io, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cmd,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{Dialler, For, HungUp, advice, category};
use crate::{
    model::{Address, FaultCategory},
    tls::Tls,
};

/// Who we are to a Redis, which of its databases is meant, and how it is spoken to.
#[derive(Clone, Debug, Default)]
pub struct Login {
    pub username: Option<String>,
    pub password: Option<String>,
    pub database: u32,
    pub tls: Option<Tls>,
}

/// A connection of the Redis client. What drives it ends with the last clone.
#[derive(Clone)]
pub struct Connection {
    client: MultiplexedConnection,
    _driver: Arc<JoinSet<()>>,
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.client.req_packed_command(command)
    }
    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.client.req_packed_commands(commands, offset, count)
    }
    fn get_db(&self) -> i64 {
        self.client.get_db()
    }
}

impl Connection {
    /// The answer as it is, an error of the server's among them.
    pub async fn send_packed_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.client.send_packed_command(command).await
    }
    /// The answers as they are.
    pub async fn send_packed_commands(
        &mut self,
        commands: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.client.send_packed_commands(commands, offset, count).await
    }
}

impl Dialler {
    /// A connection of the Redis client, made within `connecting`, each answer on it within `answering` (`None`: who asks knows how
    /// long to wait). Whoever is connected to has said something.
    pub async fn redis(
        &self,
        address: &Address,
        login: Login,
        connecting: Duration,
        answering: Option<Duration>,
    ) -> RedisResult<Connection> {
        // Its name and version are not told: a right of its own that nobody needs.
        let mut settings = RedisConnectionInfo::default().set_db(i64::from(login.database)).set_skip_set_lib_name();
        if let Some(username) = login.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = login.password {
            settings = settings.set_password(password);
        }
        let limits = AsyncConnectionConfig::new().set_response_timeout(answering);
        let end = Instant::now() + connecting;
        let stream = self.open(address, login.tls.as_ref(), connecting).await?;
        let logging_in = async {
            let (mut client, running) = MultiplexedConnection::new_with_config(&settings, stream, limits).await?;
            let mut driver = JoinSet::new();
            driver.spawn(running);
            // Nobody needs a right for it, and whatever it comes to is an answer.
            client.send_packed_command(&cmd("HELLO")).await?;
            Ok(Connection { client, _driver: Arc::new(driver) })
        };
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {connecting:?}")).into());
        let made: RedisResult<Connection> = timeout_at(end, logging_in).await.unwrap_or_else(late);
        made.map_err(|error| {
            let known = advice(&error, For::Redis).is_some();
            if error.is_io_error() && !error.is_timeout() && !known {
                return io::Error::other(HungUp { why: error.to_string(), secured: login.tls.is_some() }).into();
            }
            error
        })
    }
}

/// The connection is of no use any more.
pub fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

/// What sort of fault an error of the Redis client is.
pub fn redis_category(error: &RedisError) -> FaultCategory {
    match error.code() {
        Some(code) => FaultCategory::of_code(code),
        None if error.kind() == ErrorKind::AuthenticationFailed => FaultCategory::Authentication,
        None if error.is_io_error() => category(error),
        None => FaultCategory::Other,
    }
}
