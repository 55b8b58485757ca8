//! Other people's clients, which resolve by themselves, ask a [`Dialler`] instead. The Redis client is given connections that
//! are open; reqwest asks it of names only, so its user has to judge addresses (see `delivery/endpoint.rs`).

use std::{io, time::Duration};

use redis::{
    AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, RedisResult, aio::MultiplexedConnection,
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::{Instant, timeout_at};

use super::{Dialler, category};
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

impl Dialler {
    /// A connection of the Redis client, made within `connecting`, each answer on it within `answering` (`None`: who asks knows how
    /// long to wait).
    pub async fn redis(
        &self,
        address: &Address,
        login: Login,
        connecting: Duration,
        answering: Option<Duration>,
    ) -> RedisResult<MultiplexedConnection> {
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
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {connecting:?}")).into());
        let logging_in = timeout_at(end, MultiplexedConnection::new_with_config(&settings, stream, limits));
        let (connection, driver) = logging_in.await.unwrap_or_else(late)?;
        // It ends with the last clone of the connection.
        tokio::spawn(driver);
        Ok(connection)
    }
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

impl Resolve for Dialler {
    fn resolve(&self, name: Name) -> Resolving {
        let dialler = self.clone();
        Box::pin(async move {
            // The client puts its port in the place of none.
            let permitted: Addrs = Box::new(Self::resolve(&dialler, name.as_str(), 0).await?.into_iter());
            Ok(permitted)
        })
    }
}
