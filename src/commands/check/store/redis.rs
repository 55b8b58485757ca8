//! A Redis, the watched one or another: all that opening the store would need is tried, and nothing is left there.

use redis::Value;

use super::SUBJECT;
use crate::{
    commands::check::{cluster, finding::Finding, node::denied},
    dial::Dialler,
    listener::store_settings,
    model::Address,
    plan::{Plan, RedisPlan},
    store::{
        Durability, StoreError,
        redis::{Trial, trial},
    },
};

pub(super) async fn check(plan: &Plan, dialler: &Dialler, redis: &RedisPlan) -> Vec<Finding> {
    let field = if *redis == plan.redis { "spec.redis" } else { "spec.store.redis" };
    let settings = store_settings(redis, dialler);
    let tried = match trial(settings, &plan.listener).await {
        Ok(tried) => tried,
        Err(error) => return vec![failed(&error, field)],
    };
    let user = redis.username.as_deref().unwrap_or("default");
    let mut findings = rights(&tried, user);
    if findings.is_empty() {
        findings.push(opens(&tried, field));
    }
    findings.push(durable(&tried, user));
    findings.extend(asking(redis, dialler, &tried.servers, user).await);
    findings
}

fn opens(tried: &Trial, field: &str) -> Finding {
    let (there, of) = tried.present;
    let present = match there {
        0 => "nothing of this listener is there yet".to_owned(),
        _ => format!("{there} of its {of} partitions are there"),
    };
    let evicts =
        if tried.evicts_volatile { "; what has a TTL may be evicted there, so its keys will have none" } else { "" };
    let masters = tried.servers.len();
    Finding::ok(SUBJECT, format!("can be opened in {masters} masters ({field}): {present}{evicts}"))
}

fn rights(tried: &Trial, user: &str) -> Vec<Finding> {
    let Some(first) = tried.refused.first() else { return Vec::new() };
    let names: Vec<&str> = tried.refused.iter().map(|refused| refused.command.as_str()).collect();
    let what = format!("user {user} may not run {} in a script ({})", names.join(", "), first.why);
    let fix = format!("ACL SETUSER {user} +{}, on every node", names.join(" +"));
    vec![Finding::fail(SUBJECT, what, fix)]
}

/// What keeps the listener from being ready fails here too.
fn durable(tried: &Trial, user: &str) -> Finding {
    match &tried.durability {
        Some(Durability::Durable) => Finding::ok(SUBJECT, "each of its masters has an AOF, RDB files or a replica"),
        Some(Durability::Volatile { reason, fix }) => Finding::fail(SUBJECT, reason, fix),
        None => Finding::fail(
            SUBJECT,
            "INFO is denied: whether its Redis may evict or forget the ledger cannot be told",
            format!("ACL SETUSER {user} +info"),
        ),
    }
}

/// Needed only while slots move, so nothing that the store does before tells that it is missing.
async fn asking(redis: &RedisPlan, dialler: &Dialler, servers: &[Address], user: &str) -> Option<Finding> {
    for address in servers {
        let Ok(mut connection) = cluster::connect(redis, dialler, address).await else { continue };
        let answer = redis::cmd("ASKING").query_async::<Value>(&mut connection).await;
        if denied(&answer).is_some() {
            let what = "ASKING is denied: while slots are moved, the store stands still";
            return Some(Finding::warn(SUBJECT, what, format!("ACL SETUSER {user} +asking")));
        }
    }
    None
}

/// The error's own words, what to do behind them.
fn failed(error: &StoreError, field: &str) -> Finding {
    let text = error.to_string();
    match (error, text.rsplit_once("; ")) {
        (StoreError::Unavailable(_), _) | (_, None) => Finding::fail(
            SUBJECT,
            text,
            format!("open the way to it, or correct {field}.addresses; {field}.addressMap says where to dial instead"),
        ),
        (StoreError::EgressRefused(why), _) => Finding::fail(
            SUBJECT,
            format!("its Redis would not be dialled: {why}"),
            format!("allow it, or correct {field}.addresses"),
        ),
        (_, Some((what, fix))) => Finding::fail(SUBJECT, what, fix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::Refused;

    fn tried() -> Trial {
        Trial {
            servers: vec![Address::new("a", 1)],
            refused: Vec::new(),
            durability: Some(Durability::Durable),
            evicts_volatile: false,
            present: (0, 16),
        }
    }

    #[test]
    fn every_right_that_is_missing_is_in_one_command() {
        let refused = |command: &str| Refused { command: command.into(), why: format!("no {command}") };
        let tried = Trial { refused: vec![refused("zadd"), refused("hset")], ..tried() };
        let found = rights(&tried, "rx");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].fix, "ACL SETUSER rx +zadd +hset, on every node");
        assert!(found[0].what.contains("zadd, hset") && found[0].what.contains("no zadd"), "{found:?}");
    }

    #[test]
    fn an_error_is_taken_apart_into_what_is_wrong_and_what_to_do() {
        let evicts = StoreError::Evicts { node: "a:1".into(), policy: "allkeys-lru".into() };
        let found = failed(&evicts, "spec.redis");
        assert!(found.what.ends_with("allkeys-lru") && found.fix.starts_with("run CONFIG SET"), "{found:?}");
        let found = failed(&StoreError::Unavailable("a:1 is silent; so is b:1".into()), "spec.store.redis");
        assert!(found.what.contains("so is b:1") && found.fix.contains("spec.store.redis.addresses"), "{found:?}");
    }
}
