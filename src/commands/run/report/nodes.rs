//! What there is to say of nodes.

use super::Report;
use crate::{
    commands::output::{Happening, Line},
    listener::{NodeSnapshot, Role, Snapshot, Source},
};

/// Above this, a node's clock is reported (DESIGN rule 7).
const SKEW_MS: i64 = 500;

pub(super) fn changes(report: &mut Report<'_>, before: &Snapshot, now: &Snapshot) {
    for node in &before.nodes {
        if !now.nodes.iter().any(|other| other.id == node.id) {
            say(report, node, "gone", "left the deployment");
        }
    }
    for node in &now.nodes {
        match before.nodes.iter().find(|other| other.id == node.id) {
            Some(before) => change(report, before, node),
            None => new(report, node),
        }
    }
}

fn new(report: &mut Report<'_>, node: &NodeSnapshot) {
    let error = why(node).filter(|_| !node.subscribed);
    let state = match (node.subscribed, error) {
        (true, _) => "subscribed".to_owned(),
        (false, None) => "found, connecting".to_owned(),
        (false, Some(error)) => format!("found, not subscribed: {error}"),
    };
    say(report, node, if node.subscribed { "subscribed" } else { "found" }, &state);
    settings(report, None, node);
}

fn change(report: &mut Report<'_>, before: &NodeSnapshot, node: &NodeSnapshot) {
    if before.address != node.address {
        say(report, node, "moved", &format!("was at {} before", before.address));
    }
    if before.role != node.role {
        let (state, message) = match node.role {
            Role::Master => ("promoted", "is a master now"),
            Role::Replica => ("demoted", "is a replica now"),
        };
        say(report, node, state, message);
    }
    match (before.subscribed, node.subscribed) {
        (false, true) => say(report, node, "subscribed", "subscribed"),
        (true, false) => {
            let why = why(node).unwrap_or("it is silent, or its connection ended");
            say(report, node, "lost", &format!("not subscribed: {why}"));
        }
        // Why it can't be reached, when that is first known or is something else now.
        (false, false) if node.last_error.is_some() && before.last_error != node.last_error => {
            let why = why(node).unwrap_or_default();
            say(report, node, "unreachable", &format!("not subscribed: {why}"));
        }
        _ => {}
    }
    settings(report, Some(before), node);
}

/// Notifications, and the clock.
fn settings(report: &mut Report<'_>, before: Option<&NodeSnapshot>, node: &NodeSnapshot) {
    let missing = |node: &NodeSnapshot| !node.notifications && node.notify_keyspace_events.is_some();
    match (before.is_some_and(missing), missing(node)) {
        (false, true) => {
            let message = match why(node) {
                Some(error) if error.contains("notify-keyspace-events") => error.to_owned(),
                _ => {
                    let found = node.notify_keyspace_events.as_deref().unwrap_or_default();
                    format!(
                        "notify-keyspace-events is {found:?}: run CONFIG SET notify-keyspace-events Kgxe$ on {}, or set \
                         spec.redis.keyspaceEvents: Enable",
                        node.address
                    )
                }
            };
            say(report, node, "notificationsMissing", &message);
        }
        (true, false) if node.change_source == Source::Notifications => {
            say(report, node, "notificationsOn", "keyspace notifications are on");
        }
        _ => {}
    }
    match (before.map_or(Source::Notifications, |before| before.change_source), node.change_source) {
        (Source::Notifications, Source::Tracking) => {
            let why = node.tracked_because.as_deref().map(|why| format!(", which promises less: {why}"));
            let message = format!("tells of its keys' changes by client tracking{}", why.unwrap_or_default());
            say(report, node, "tracked", &message);
        }
        (Source::Tracking, Source::Notifications) => {
            say(report, node, "untracked", "tells of its keys' changes by keyspace notifications");
        }
        _ => {}
    }
    let skew = |node: &NodeSnapshot| node.clock_offset_ms.filter(|offset| offset.abs() > SKEW_MS);
    match (before.and_then(skew), skew(node)) {
        (None, Some(offset)) => {
            let message = format!(
                "its clock is {} ms {} ours; deadlines follow its clock, but synchronise the two",
                offset.abs(),
                if offset > 0 { "ahead of" } else { "behind" }
            );
            say(report, node, "clockSkewed", &message);
        }
        (Some(_), None) => say(report, node, "clockInStep", "its clock agrees with ours again"),
        _ => {}
    }
}

/// What is wrong with it.
fn why(node: &NodeSnapshot) -> Option<&str> {
    node.last_error.as_ref().map(|fault| fault.beside(&node.address))
}

fn say(report: &mut Report<'_>, node: &NodeSnapshot, state: &str, message: &str) {
    let role = match node.role {
        Role::Master => "master",
        Role::Replica => "replica",
    };
    let line = Line::new(Happening::Node, Some(report.listener), format!("{role} {}: {message}", node.address));
    let line = line.with("node", node.id.as_str()).with("address", node.address.to_string());
    report.lines.push(line.with("role", role).with("state", state));
}
