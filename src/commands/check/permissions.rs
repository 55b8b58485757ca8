//! What the ACL user may do, permission by permission.
//!
//! Each command is run rather than asked about: `ACL DRYRUN` is 7.0 and itself a permission that our user should not
//! have. All of them are harmless: the one that looks at a key is answered MOVED, or reads; `CONFIG SET` sets what is
//! set, and is tried only where `keyspaceEvents: Enable` wants it.

use redis::{Cmd, Value};

use super::{
    finding::{Finding, Level},
    node::{Asked, denied},
};
use crate::{
    model::Key,
    plan::{ChangeSource, KeyspaceEvents, Mode, Plan},
    topology::Node,
};

/// A command to try.
struct Probe {
    command: Cmd,
    /// As an ACL rule: `+cluster|nodes`.
    rule: &'static str,
    /// Where it is denied.
    level: Level,
    /// What is lost without it.
    without: &'static str,
    /// The rule that admits its channel or its key.
    scope: Option<String>,
}

pub(super) async fn check(plan: &Plan, node: &Node, version: Option<(u32, u32)>, asked: &mut Asked) -> Vec<Finding> {
    let (mut findings, mut allowed) = (Vec::new(), Vec::new());
    let user = plan.redis.username.as_deref().unwrap_or("default");
    if plan.redis.mode == Mode::Cluster {
        findings.extend(topology(user, asked, &mut allowed).await);
    }
    for probe in probes(plan, node, version, asked).await {
        let answer = asked.ask::<Value>(&probe.command).await;
        match (denied(&answer), answer) {
            (Some(why), _) => findings.push(refused(user, &asked.subject, &probe, &why)),
            // Another slot's owner answers so, once the ACL has let it pass.
            (None, Err(error)) if !is_cluster_answer(&error) => {
                let name = &probe.rule[1..];
                findings.push(Finding::warn(asked.subject.as_str(), format!("{name} fails: {error}"), ""));
            }
            _ => allowed.push(probe.rule),
        }
    }
    if !allowed.is_empty() {
        findings.push(Finding::ok(asked.subject.as_str(), format!("user {user} may {}", allowed.join(" "))));
    }
    findings
}

fn is_cluster_answer(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN" | "CROSSSLOT"))
}

/// One of three is enough; `CLUSTER NODES` is the best, for it has the epochs.
async fn topology(user: &str, asked: &mut Asked, allowed: &mut Vec<&'static str>) -> Option<Finding> {
    let mut denials = Vec::new();
    for (name, rule) in [("NODES", "+cluster|nodes"), ("SHARDS", "+cluster|shards"), ("SLOTS", "+cluster|slots")] {
        let answer = asked.ask::<Value>(redis::cmd("CLUSTER").arg(name)).await;
        match denied(&answer) {
            Some(_) => denials.push(rule),
            None if answer.is_ok() => allowed.push(rule),
            None => {} // SHARDS is 7.0.
        }
    }
    let fix = format!("ACL SETUSER {user} +cluster|nodes");
    let any = allowed.iter().any(|rule| rule.starts_with("+cluster|"));
    match (denials.contains(&"+cluster|nodes"), any) {
        (false, _) => None,
        (true, true) => Some(Finding::warn(
            asked.subject.as_str(),
            "CLUSTER NODES is denied: SHARDS or SLOTS must do, which do not tell epochs",
            fix,
        )),
        (true, false) => Some(Finding::fail(
            asked.subject.as_str(),
            "CLUSTER NODES, SHARDS and SLOTS are denied: nobody can tell who the nodes are",
            fix,
        )),
    }
}

fn refused(user: &str, subject: &str, probe: &Probe, why: &str) -> Finding {
    let name = probe.rule[1..].replace('|', " ").to_uppercase();
    let scoped = why.contains("channel") || why.contains(" key") || why.contains("keys used");
    let rule = match &probe.scope {
        Some(scope) if scoped && !why.contains("permissions to run") => scope.as_str(),
        _ => probe.rule,
    };
    let what = format!("{name} is denied ({}): {}", why.trim(), probe.without);
    let fix = format!("ACL SETUSER {user} {rule}");
    if probe.level == Level::Fail { Finding::fail(subject, what, fix) } else { Finding::warn(subject, what, fix) }
}

/// In the order in which they are tried: subscriptions last, for a connection without RESP3 is good for nothing after
/// one.
async fn probes(plan: &Plan, node: &Node, version: Option<(u32, u32)>, asked: &mut Asked) -> Vec<Probe> {
    let seven = version.is_none_or(|(major, _)| major >= 7);
    let command = |words: &[&[u8]]| {
        let mut command = Cmd::new();
        for word in words {
            command.arg(word);
        }
        command
    };
    let probe =
        |words: &[&[u8]], rule, level, without| Probe { command: command(words), rule, level, without, scope: None };
    let must = Level::Fail;
    let mut probes = vec![
        probe(&[b"HELLO", b"3"], "+hello", must, "pushes and answers cannot share a connection"),
        probe(&[b"PING"], "+ping", must, "a connection that hangs cannot be told from one that is idle"),
        probe(&[b"TIME"], "+time", must, "there is no barrier behind looks, and no clock"),
        probe(&[b"INFO", b"commandstats"], "+info", must, "a gap cannot be told from a loss of data"),
        probe(
            &[b"CONFIG", b"GET", b"notify-keyspace-events"],
            "+config|get",
            Level::Warn,
            "notifications that are switched off are not noticed",
        ),
        probe(
            &[b"CLIENT", b"SETNAME", b"redis-expiry-check"],
            "+client|setname",
            Level::Warn,
            "CLIENT LIST has no name of ours",
        ),
    ];
    let clustered = plan.redis.mode == Mode::Cluster;
    if clustered {
        let epochs = "epochs are not known where CLUSTER NODES is denied";
        probes.push(probe(&[b"CLUSTER", b"MYID"], "+cluster|myid", Level::Warn, "a wrong address is not noticed"));
        probes.push(probe(&[b"CLUSTER", b"INFO"], "+cluster|info", Level::Warn, epochs));
    } else {
        probes.push(probe(
            &[b"ROLE"],
            "+role",
            must,
            "what a replica answers cannot be told from what the master does",
        ));
    }
    if plan.redis.database != 0 {
        let database = plan.redis.database.to_string();
        probes.push(probe(
            &[b"SELECT", database.as_bytes()],
            "+select",
            must,
            "spec.redis.database cannot be looked at",
        ));
    }
    let (source, tracking) = (plan.redis.change_source, "changes are not told where keyspace events are off");
    // Whoever may turn it off may turn it on.
    let mut track = |level| probes.push(probe(&[b"CLIENT", b"TRACKING", b"OFF"], "+client|tracking", level, tracking));
    match source {
        ChangeSource::KeyspaceEvents => {}
        ChangeSource::Auto => track(Level::Warn),
        ChangeSource::ClientTracking => track(must),
    }
    if plan.redis.keyspace_events == KeyspaceEvents::Enable && source != ChangeSource::ClientTracking {
        probes.extend(config_set(asked).await);
    }
    let pattern = String::from_utf8_lossy(plan.pattern.as_bytes()).into_owned();
    if node.is_master() {
        // It matches nothing, and walks a handful of keys.
        probes.push(probe(
            &[b"SCAN", b"0", b"MATCH", b"rx:{check}", b"COUNT", b"1"],
            "+scan",
            must,
            "what was missed cannot be found again",
        ));
        if let Some(key) = sample(plan) {
            let (name, rule): (&[u8], _) = if seven { (b"PEXPIRETIME", "+pexpiretime") } else { (b"PTTL", "+pttl") };
            let mut look = probe(&[name, key.as_bytes()], rule, must, "no deadline can be read");
            look.scope = Some(if seven { format!("%R~{pattern}") } else { format!("~{pattern}") });
            probes.push(look);
        }
    }
    if seven && clustered {
        let mut shard =
            probe(&[b"SSUBSCRIBE", b"rx:{0}"], "+ssubscribe", Level::Warn, "moved slots are noticed by polling alone");
        shard.scope = Some("&rx:*".to_owned());
        probes.push(shard);
    }
    if source == ChangeSource::ClientTracking {
        return probes;
    }
    let prefix = format!("__keyspace@{}__:", plan.redis.database);
    let channel = [prefix.as_bytes(), plan.pattern.as_bytes()].concat();
    let mut subscribe = probe(&[b"PSUBSCRIBE", &channel], "+psubscribe", must, "nothing is heard");
    // Checked letter by letter: a wider pattern does not admit it.
    subscribe.scope = Some(format!("&{prefix}{pattern}"));
    probes.push(subscribe);
    probes
}

/// Sets `notify-keyspace-events` to what it is. `None` where it cannot be read, which is told already.
async fn config_set(asked: &mut Asked) -> Option<Probe> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg("notify-keyspace-events");
    let flags = asked.ask::<Vec<String>>(&get).await.ok()?.get(1).cloned()?;
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("notify-keyspace-events").arg(flags);
    let without = "keyspaceEvents: Enable cannot add the flags";
    Some(Probe { command, rule: "+config|set", level: Level::Fail, without, scope: None })
}

/// A key that the pattern matches: its wildcards replaced. `None` for a pattern with classes that this does not hit.
fn sample(plan: &Plan) -> Option<Key> {
    let mut key = Vec::new();
    let mut pattern = plan.pattern.as_bytes().iter().copied();
    while let Some(byte) = pattern.next() {
        match byte {
            b'*' => key.extend(b"redis-expiry-check"),
            b'?' => key.push(b'x'),
            b'\\' => key.extend(pattern.next()),
            b'[' => {
                let class: Vec<u8> = pattern.by_ref().take_while(|byte| *byte != b']').collect();
                let first = class.iter().copied().find(|byte| !matches!(byte, b'\\' | b'^'));
                key.push(if class.first() == Some(&b'^') { b'~' } else { first? });
            }
            other => key.push(other),
        }
    }
    let key = Key::from(key);
    plan.pattern.matches(key.as_bytes()).then_some(key)
}
