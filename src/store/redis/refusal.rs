//! What a server's error means, and what to do about it. Pure.

use redis::{ErrorKind, RedisError};

use crate::{dial, model::FaultCategory, store::StoreError};

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server does not know the script: send it whole.
    NoScript,
    /// Another node has the slot, `host:port`.
    Moved(String),
    /// Another node has these keys for now, `host:port`.
    Ask(String),
    /// It may pass in a moment, at the same node: the slot is being moved, another script runs.
    Busy(String),
    /// The node is not, or no longer, who should be asked; or it does not answer.
    Away(String),
    /// The operator may not dial the node. Another one it may.
    Egress(String),
    /// It stays so until somebody does something.
    Lasting(StoreError),
}

impl Refusal {
    /// What is told to who had asked, when it did not pass.
    pub fn into_error(self) -> StoreError {
        match self {
            Self::Lasting(error) => error,
            Self::NoScript => StoreError::Unavailable("it forgets scripts faster than they run".to_owned()),
            Self::Moved(to) | Self::Ask(to) => {
                StoreError::Unavailable(format!("its nodes send us to and fro, last to {to}; see CLUSTER NODES"))
            }
            Self::Busy(why) | Self::Away(why) => StoreError::Unavailable(why),
            Self::Egress(why) => StoreError::EgressRefused(why),
        }
    }
}

/// Codes that may stand in the midst of an error: before 7.0 what a command said in a script is told behind `ERR Error running script`.
const INNER: [&str; 8] = ["OOM", "MISCONF", "READONLY", "NOREPLICAS", "NOPERM", "TRYAGAIN", "CLUSTERDOWN", "LOADING"];

/// How a right that is missing is told from within a script: since 7.2, and in 7.0. The last is a command that is renamed.
const DENIED: [&str; 3] = ["ACL failure", "user executing the script can't", "unknown command"];

/// What `node` meant by the error.
pub fn classify(error: &RedisError, node: &str) -> Refusal {
    let text = format!("{node}: {}", dial::advised(error, dial::For::Redis));
    if error.kind() == ErrorKind::AuthenticationFailed {
        return unauthenticated(&text);
    }
    if dial::category(error) == FaultCategory::EgressRefused {
        return Refusal::Egress(text);
    }
    let Some(code) = error.code() else { return Refusal::Away(text) };
    let detail = error.detail().unwrap_or_default();
    let inner = || INNER.iter().copied().find(|inner| detail.contains(&format!("{inner} ")));
    match code {
        "NOSCRIPT" => Refusal::NoScript,
        "MOVED" | "ASK" => match detail.split_whitespace().nth(1) {
            Some(to) if code == "ASK" => Refusal::Ask(to.to_owned()),
            Some(to) => Refusal::Moved(to.to_owned()),
            None => Refusal::Away(text),
        },
        // A script that meets a key on its way is not begun (see keys.lua); what else may say so is tried again.
        "ERR" if detail.contains("non local key") => Refusal::Busy(text),
        "ERR" if DENIED.iter().any(|words| detail.contains(words)) => denied(&text),
        "ERR" => inner().map_or_else(|| lasting(&text), |code| of_code(code, &text)),
        code => of_code(code, &text),
    }
}

fn of_code(code: &str, text: &str) -> Refusal {
    match code {
        "TRYAGAIN" | "BUSY" => Refusal::Busy(text.to_owned()),
        // Another may have the slot by now, which this one is the last to learn: a master that is cut off says CLUSTERDOWN.
        "LOADING" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "UNBLOCKED" => Refusal::Away(text.to_owned()),
        "OOM" => Refusal::Lasting(StoreError::OutOfMemory(text.to_owned())),
        "NOPERM" => denied(text),
        "NOAUTH" | "WRONGPASS" => unauthenticated(text),
        _ => lasting(text),
    }
}

fn denied(text: &str) -> Refusal {
    Refusal::Lasting(StoreError::Denied(text.to_owned()))
}

fn unauthenticated(text: &str) -> Refusal {
    Refusal::Lasting(StoreError::Authentication(text.to_owned()))
}

fn lasting(text: &str) -> Refusal {
    Refusal::Lasting(StoreError::Refused(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    fn of(line: &str) -> Refusal {
        let Value::ServerError(error) = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() else {
            unreachable!("an error is an error")
        };
        classify(&error.into(), "redis-0:6379")
    }

    #[test]
    fn redirections_say_where_to() {
        assert_eq!(of("MOVED 3999 127.0.0.1:6381"), Refusal::Moved("127.0.0.1:6381".into()));
        assert_eq!(of("ASK 3999 redis-1.shop:6381"), Refusal::Ask("redis-1.shop:6381".into()));
        assert_eq!(of("MOVED 3999 :6381"), Refusal::Moved(":6381".into()));
        assert_eq!(of("NOSCRIPT No matching script. Please use EVAL."), Refusal::NoScript);
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        for busy in ["TRYAGAIN Multiple keys request during rehashing of slot", "BUSY x"] {
            assert!(matches!(of(busy), Refusal::Busy(_)), "{busy}");
        }
        for away in
            ["CLUSTERDOWN The cluster is down", "LOADING Redis is loading", "MASTERDOWN Link with MASTER is down"]
        {
            assert!(matches!(of(away), Refusal::Away(_)), "{away}");
        }
        assert!(matches!(of("READONLY You can't write against a read only replica."), Refusal::Away(_)));
        for lasting in ["MISCONF Redis is configured to save RDB snapshots", "NOREPLICAS Not enough good replicas"] {
            assert!(matches!(of(lasting), Refusal::Lasting(StoreError::Refused(_))), "{lasting}");
        }
    }

    #[test]
    fn what_a_command_said_in_a_script_is_found_there() {
        let oom = "OOM command not allowed when used memory > 'maxmemory'. script: 9f, on @user_script:3.";
        let old = "ERR Error running script (call to f_9f): @user_script:3: -OOM command not allowed when used";
        for line in [oom, old] {
            assert!(matches!(of(line), Refusal::Lasting(StoreError::OutOfMemory(_))), "{line}");
        }
        let new = "NOPERM this user has no permissions to run the 'zadd' command";
        let acl = "ERR ACL failure in script: User rx has no permissions to run the 'zadd' command";
        let seven =
            "ERR The user executing the script can't run this command or subcommand script: 19, on @user_script:11.";
        for line in [new, acl, seven] {
            let Refusal::Lasting(error) = of(line) else { unreachable!("{line}") };
            assert!(matches!(error, StoreError::Denied(_)) && error.retryable());
            assert!(error.to_string().contains("redis-0:6379"), "{error}");
        }
    }

    #[test]
    fn who_we_are_is_told_from_what_we_may() {
        let unknown = "WRONGPASS invalid username-password pair or user is disabled.";
        for line in [unknown, "NOAUTH Authentication required."] {
            let Refusal::Lasting(error) = of(line) else { unreachable!("{line}") };
            assert!(matches!(error, StoreError::Authentication(_)) && error.retryable(), "{line}");
            assert!(error.to_string().contains("passwordSecretRef"), "{error}");
        }
    }
}
