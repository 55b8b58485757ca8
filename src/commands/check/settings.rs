//! What the node is set to: notifications and eviction.

use super::{finding::Finding, node::Asked};
use crate::{
    nodes::{complete_flags, missing_flags},
    plan::{ChangeSource, KeyspaceEvents, Plan},
};

pub(super) async fn check(plan: &Plan, asked: &mut Asked) -> Vec<Finding> {
    let mut findings = vec![notifications(plan, asked).await];
    findings.extend(eviction(asked).await);
    findings
}

async fn notifications(plan: &Plan, asked: &mut Asked) -> Finding {
    let source = plan.redis.change_source;
    if source == ChangeSource::ClientTracking {
        return Finding::ok(
            asked.subject.as_str(),
            "changes are learnt of by client tracking (changeSource: ClientTracking)",
        );
    }
    let auto = source == ChangeSource::Auto;
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg("notify-keyspace-events");
    let flags = match asked.ask::<Vec<String>>(&get).await {
        Ok(pair) => pair.get(1).cloned().unwrap_or_default(),
        Err(error) => {
            let instead = if auto { "; the listener will take client tracking (changeSource: Auto)" } else { "" };
            return Finding::warn(
                asked.subject.as_str(),
                format!("notify-keyspace-events cannot be read: {error}{instead}"),
                "make sure that it has Kgxe$, or grant +config|get",
            );
        }
    };
    let subject = asked.subject.as_str();
    let lacking = missing_flags(&flags);
    if lacking.is_empty() {
        let more = if flags.contains('A') { "" } else { "; for keys of other types than strings add lshzt, or A" };
        return Finding::ok(subject, format!("notify-keyspace-events is {flags:?}{more}"));
    }
    let what = format!("notify-keyspace-events is {flags:?} and lacks {lacking}");
    let fix = format!(
        "run CONFIG SET notify-keyspace-events {} on {subject} and put it into its redis.conf, or set \
         spec.redis.keyspaceEvents: Enable",
        complete_flags(&flags)
    );
    match plan.redis.keyspace_events {
        KeyspaceEvents::Enable => {
            Finding::ok(subject, format!("{what}; the listener will add them (keyspaceEvents: Enable)"))
        }
        KeyspaceEvents::Observe if auto => {
            let what = format!(
                "{what}; the listener will take client tracking (changeSource: Auto), which does not tell a key that was deleted in \
                 its last milliseconds from one that expired"
            );
            Finding::warn(subject, what, fix)
        }
        KeyspaceEvents::Observe => Finding::fail(subject, what, format!("{fix}, or spec.redis.changeSource: Auto")),
    }
}

/// `None` where INFO is denied, which the permissions tell.
async fn eviction(asked: &mut Asked) -> Option<Finding> {
    let info = asked.ask::<String>(redis::cmd("INFO").arg("memory")).await.ok()?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let policy = field("maxmemory_policy:")?;
    let bounded = field("maxmemory:").is_some_and(|bytes| bytes != "0");
    let subject = asked.subject.as_str();
    let evicts = policy.starts_with("allkeys-") || policy.starts_with("volatile-");
    Some(if evicts && policy != "noeviction" {
        let what = format!(
            "maxmemory-policy is {policy}{}: a key that is evicted is reported at its deadline, Inferred, though nobody \
             let it expire",
            if bounded { "" } else { " (no maxmemory is set now)" }
        );
        if policy.starts_with("allkeys-") || bounded {
            Finding::warn(subject, what, "use noeviction, or let the receiver check the order, as it must anyway")
        } else {
            Finding::ok(subject, what)
        }
    } else {
        Finding::ok(subject, format!("maxmemory-policy is {policy}"))
    })
}
