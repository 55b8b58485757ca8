//! One node: who it is, what we may do there, how it is set, and its clock.

use redis::{Cmd, RedisResult, Value};

use super::{finding::Finding, permissions, settings};
use crate::{
    clock,
    dial::Connection,
    model::{Address, info_field},
    plan::{Mode, Plan},
    topology::Node,
};

/// A connection to a node, and what its findings are filed under.
pub(super) struct Asked {
    pub subject: String,
    pub connection: Connection,
}

impl Asked {
    pub async fn ask<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.connection).await
    }
}

pub(super) async fn check(plan: &Plan, node: &Node, address: &Address, connection: Connection) -> Vec<Finding> {
    let mut asked = Asked { subject: address.to_string(), connection };
    let mut findings = Vec::new();
    let server = asked.ask::<String>(redis::cmd("INFO").arg("server")).await.ok();
    let version = server.as_deref().and_then(version);
    let slots = (plan.redis.mode == Mode::Cluster).then(|| format!(", {} slots", node.slots.len()));
    findings.push(described(&asked.subject, node, &slots.unwrap_or_default(), version));
    // Answered after the version, so that a node that is too old is not also told of each command that it lacks.
    if version.is_none_or(|version| version >= OLDEST) {
        findings.extend(settings::check(plan, &mut asked).await);
        findings.extend(skew(&mut asked).await);
        findings.extend(permissions::check(plan, node, version, &mut asked).await);
    }
    findings
}

type Version = (u32, u32);

const OLDEST: Version = (6, 2);

fn described(subject: &str, node: &Node, slots: &str, version: Option<Version>) -> Finding {
    let role = if node.is_master() { "master" } else { "replica" };
    match version {
        None => Finding::ok(subject, format!("{role}{slots}")),
        Some((major, minor)) if (major, minor) < OLDEST => Finding::fail(
            subject,
            format!("{role}, version {major}.{minor}"),
            "use Redis 6.2 or later, or Valkey 7.2 or later",
        ),
        Some((major, minor)) => Finding::ok(subject, format!("{role}{slots}, version {major}.{minor}")),
    }
}

fn version(info: &str) -> Option<Version> {
    let mut parts = info_field(info, "redis_version")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Above this, a node's clock is reported (DESIGN rule 7).
const SKEW_MS: i64 = 500;

/// The clock, going by the fastest of three exchanges. `None` where TIME is denied, which the permissions tell.
async fn skew(asked: &mut Asked) -> Option<Finding> {
    let mut best: Option<(i64, i64)> = None;
    for _ in 0..3 {
        let sent = clock::micros();
        let (seconds, micros) = asked.ask::<(i64, i64)>(&redis::cmd("TIME")).await.ok()?;
        let received = clock::micros();
        let offset = seconds * 1_000_000 + micros - i64::midpoint(sent, received);
        let took = received - sent;
        if best.is_none_or(|(fastest, _)| took < fastest) {
            best = Some((took, offset));
        }
    }
    let (_, offset) = best?;
    let ahead = offset / 1_000;
    Some(if ahead.abs() > SKEW_MS {
        Finding::warn(
            asked.subject.as_str(),
            format!("its clock is {} ms {} ours", ahead.abs(), if ahead > 0 { "ahead of" } else { "behind" }),
            "synchronise the clocks (NTP); deadlines follow the node's",
        )
    } else {
        Finding::ok(asked.subject.as_str(), format!("clock {ahead:+} ms from ours"))
    })
}

/// Whether an answer is a refusal by the ACL, as against any other error.
pub(super) fn denied(answer: &RedisResult<Value>) -> Option<String> {
    match answer {
        Err(error) if error.code() == Some("NOPERM") => Some(error.detail().unwrap_or_default().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_info() {
        assert_eq!(version("# Server\r\nredis_version:7.0.15\r\n"), Some((7, 0)));
        assert_eq!(version("redis_version:6.2.6\r\nvalkey_version:8.1.0\r\n"), Some((6, 2)));
        assert_eq!(version("# Server\r\n"), None);
    }
}
