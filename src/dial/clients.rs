//! Other people's clients, which resolve by themselves, ask a [`Dialler`] instead. The Redis client asks it of addresses as
//! well as of names; reqwest does not, so its user has to judge those (see `delivery/endpoint.rs`).

use std::{net::SocketAddr, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    RedisFuture, RedisResult, aio::MultiplexedConnection, io::AsyncDNSResolver,
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Dialler, category};
use crate::model::{Address, FaultCategory};

/// Who we are to a Redis, and which of its databases is meant.
#[derive(Clone, Debug, Default)]
pub struct Login {
    pub username: Option<String>,
    pub password: Option<String>,
    pub database: u32,
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
        let mut settings = RedisConnectionInfo::default().set_db(i64::from(login.database));
        if let Some(username) = login.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = login.password {
            settings = settings.set_password(password);
        }
        let address = ConnectionAddr::Tcp(address.host.to_string(), address.port);
        let info = address.into_connection_info()?.set_redis_settings(settings);
        let limits = AsyncConnectionConfig::new()
            .set_dns_resolver(self.clone())
            .set_connection_timeout(Some(connecting))
            .set_response_timeout(answering);
        Client::open(info)?.get_multiplexed_async_connection_with_config(&limits).await
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

impl AsyncDNSResolver for Dialler {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let permitted: Addrs = Box::new(Self::resolve(self, host, port).await?.into_iter());
            Ok(permitted)
        })
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
