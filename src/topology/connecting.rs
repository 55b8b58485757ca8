//! A connection for what needs no barrier, and what a server's error means.

use std::time::Duration;

use crate::{
    dial::{self, Connection, Dialler, Login},
    model::{Address, Fault, FaultCategory},
    plan::{RedisPlan, Secret},
};

/// The longest that a server may take to be connected to: less than whoever asks it has in all, so that it is told what took so long.
const PATIENCE: Duration = Duration::from_millis(450);

/// A connection for what needs no barrier. Every call on it ends within the time limits given here.
pub async fn connect(plan: &RedisPlan, dialler: &Dialler, address: &Address) -> redis::RedisResult<Connection> {
    let (username, password) = (plan.username.clone(), plan.password.as_ref().map(Secret::text));
    let login = Login { username, password, database: plan.database, tls: plan.tls.clone() };
    dialler.redis(address, login, PATIENCE, Some(Duration::from_secs(5))).await
}

/// Redis's error with the fix, where it is plain.
pub fn explain(error: &redis::RedisError) -> Fault {
    let text = dial::advised(error, dial::For::Redis);
    if text.contains("cluster support disabled") {
        return FaultCategory::NotACluster
            .fault("this server is not part of a Redis Cluster (cluster-enabled no): use mode Standalone or Sentinel, or name nodes of a cluster in spec.redis.addresses");
    }
    let category = dial::redis_category(error);
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
