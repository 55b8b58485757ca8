//! A connection for what needs no barrier, and what a server's error means.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, aio::MultiplexedConnection,
};

use crate::{
    dial::{self, Dialler},
    model::{Address, Fault, FaultCategory},
    plan::RedisPlan,
};

/// The longest that a server may take to be connected to.
const PATIENCE: Duration = Duration::from_millis(500);

/// A connection for what needs no barrier. Every call on it ends within the time limits given here.
pub async fn connect(
    plan: &RedisPlan,
    dialler: &Dialler,
    address: &Address,
) -> redis::RedisResult<MultiplexedConnection> {
    let mut settings = RedisConnectionInfo::default().set_db(i64::from(plan.database));
    if let Some(username) = &plan.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &plan.password {
        settings = settings.set_password(String::from_utf8_lossy(&password.0));
    }
    let info = ConnectionAddr::Tcp(address.host.to_string(), address.port)
        .into_connection_info()?
        .set_redis_settings(settings);
    let limits = AsyncConnectionConfig::new()
        .set_dns_resolver(dialler.clone())
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(Duration::from_secs(5)));
    Client::open(info)?.get_multiplexed_async_connection_with_config(&limits).await
}

/// Redis's error with the fix, where it is plain.
pub fn explain(error: &redis::RedisError) -> Fault {
    let text = error.to_string();
    if text.contains("cluster support disabled") {
        return FaultCategory::NotACluster
            .fault("this server is not part of a Redis Cluster (cluster-enabled no): use mode Standalone or Sentinel, or name nodes of a cluster in spec.redis.addresses");
    }
    let category = match error.code() {
        Some(code) => FaultCategory::of_code(code),
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => FaultCategory::Authentication,
        None if error.is_io_error() => dial::category(error),
        None => FaultCategory::Other,
    };
    let fix = match category {
        FaultCategory::Authentication if text.contains("NOAUTH") => {
            ": set spec.redis.passwordSecretRef (and usernameSecretRef for an ACL user)"
        }
        FaultCategory::Authentication => {
            ": check the Secrets of spec.redis.usernameSecretRef and spec.redis.passwordSecretRef"
        }
        _ => "",
    };
    category.fault(text + fix)
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn of(line: &str) -> Fault {
        let Value::ServerError(error) = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() else {
            unreachable!("an error is an error")
        };
        explain(&error.into())
    }

    #[test]
    fn what_a_server_says_has_a_category() {
        for (line, category) in [
            ("NOAUTH Authentication required.", FaultCategory::Authentication),
            ("WRONGPASS invalid username-password pair or user is disabled.", FaultCategory::Authentication),
            ("NOPERM User rel has no permissions to run the 'cluster|nodes' command", FaultCategory::Permission),
            ("ERR This instance has cluster support disabled", FaultCategory::NotACluster),
            ("LOADING Redis is loading the dataset in memory", FaultCategory::Other),
        ] {
            assert_eq!(of(line).category, category, "{line}");
        }
        assert!(of("NOAUTH Authentication required.").message.contains("set spec.redis.passwordSecretRef"));
        assert!(of("WRONGPASS invalid").message.contains("check the Secrets"));
    }
}
