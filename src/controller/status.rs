//! What a listener's status says, from how it fares. Pure: what was said before and the time are arguments.
//!
//! A status is written when it differs from the one before, so nothing in it may change by itself: times are whole seconds,
//! a condition keeps its `lastTransitionTime`, counts are taken anew when [`Facts::sample`] says so or something else changes, and
//! the words for what has not changed when [`Facts::reword`] does.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        DeliveryStatus, NodeRole, NodeStatus, Problem, RedisExpiryListenerStatus as Status, condition, reason,
        status::{LONGEST_ERROR, LONGEST_MESSAGE, LONGEST_WEBHOOK, MOST_NODES},
    },
    listener::{Hold, NodeSnapshot, Role, Snapshot},
    meters::Said,
    model::{Fault, FaultCategory, ListenerId, Millis, NodeId, NotificationFault},
};

mod conditions;

use conditions::Verdict;

/// What a status is made of.
pub struct Facts<'a> {
    pub listener: &'a ListenerId,
    /// Of the spec that `refused` and `suspend` are about.
    pub generation: Option<i64>,
    /// Why the spec is not carried out; empty where it is.
    pub refused: &'a [Problem],
    pub suspend: bool,
    /// Whom it tells, as it may be shown. `None`: it does not say, or the spec cannot be read.
    pub webhook: Option<String>,
    /// `None`: it does not run, or has not said anything yet.
    pub snapshot: Option<&'a Snapshot>,
    pub start: Start,
    /// Whether the counts may be taken anew.
    pub sample: bool,
    /// Whether what has not changed may be said in other words: a message may hold a number that counts, or name another node
    /// each time.
    pub reword: bool,
    /// This replica.
    pub owner: &'a str,
    pub now: Timestamp,
}

/// How long ago it was started, or its store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A moment: what it does not know yet is no news, nor what does not answer it yet.
    Fresh,
    /// A while: what is wrong is news. That it takes its time is none of one that was well.
    Late,
    /// So long that it must be up.
    Over,
}

/// Since when each node was shown to be subscribed: by the time at which its connection was opened.
#[derive(Debug, Default)]
pub struct Shown(BTreeMap<NodeId, (Millis, Time)>);

/// The status that follows `before`.
pub fn next(before: &Status, facts: &Facts<'_>, shown: &mut Shown) -> Status {
    let mut status = Status { observed_generation: facts.generation, ..Status::default() };
    // A restart is not news, and neither is how a start gets on: what was said of the same spec stands until more is known.
    let known =
        facts.snapshot.is_some_and(|snapshot| snapshot.ready || snapshot.hold.as_ref().is_some_and(needs_somebody));
    let (refused, troubled) = (facts.snapshot.is_some_and(is_refused), facts.snapshot.is_some_and(is_troubled));
    let stands = match (readiness(before, facts.generation), facts.start) {
        (Some(("True", _)), Start::Fresh) => !refused,
        (Some(("True", _)), Start::Late) => !troubled,
        (Some((_, reason::PENDING)), Start::Fresh) => facts.snapshot.is_some() && !troubled,
        _ => false,
    };
    let resumes = !known && facts.refused.is_empty() && stands;
    let verdicts = if resumes { None } else { Some(conditions::all(facts)) };
    status.conditions = match &verdicts {
        None => before.conditions.clone(),
        Some(verdicts) => verdicts.iter().map(|(kind, verdict)| condition_of(before, kind, verdict, facts)).collect(),
    };
    match facts.snapshot.filter(|_| !resumes) {
        Some(snapshot) if !snapshot.nodes.is_empty() => {
            status.nodes = nodes(before, &snapshot.nodes, facts.reword, shown);
            let (masters, subscribed) = (snapshot.masters, snapshot.subscribed_masters);
            status.masters = i32::try_from(masters).ok();
            status.subscribed_masters = i32::try_from(subscribed).ok();
            status.subscribed = Some(format!("{subscribed}/{masters}"));
        }
        _ => {
            status.nodes.clone_from(&before.nodes);
            (status.masters, status.subscribed_masters) = (before.masters, before.subscribed_masters);
            status.subscribed.clone_from(&before.subscribed);
        }
    }
    status.webhook = facts.webhook.as_deref().map(|shown| shortened(shown, LONGEST_WEBHOOK));
    status.owner = Some(facts.owner.to_owned());
    (status.tracked, status.delivery) = (before.tracked, before.delivery.clone());
    if let Some(snapshot) = facts.snapshot.filter(|snapshot| snapshot.ready)
        && (facts.sample || status != *before)
    {
        status.tracked = i64::try_from(snapshot.counts.tracked).ok();
        status.delivery = Some(delivery(before, snapshot));
    }
    status
}

/// The status and reason of `Ready`, if that was said of this generation.
fn readiness(status: &Status, generation: Option<i64>) -> Option<(&str, &str)> {
    let ready = find(status, condition::READY).filter(|ready| ready.observed_generation == generation)?;
    Some((&ready.status, &ready.reason))
}

/// Somebody has to do something about it.
fn is_refused(snapshot: &Snapshot) -> bool {
    let mut faults = snapshot.topology_error.iter().chain(of_masters(snapshot));
    faults.any(|fault| {
        matches!(
            fault.category,
            FaultCategory::Authentication
                | FaultCategory::Permission
                | FaultCategory::Tls
                | FaultCategory::EgressRefused
                | FaultCategory::NotACluster
        )
    })
}

/// What is wrong with the masters' connections: what is wrong with a replica's keeps no listener from being ready, nor that
/// settings cannot be read.
fn of_masters(snapshot: &Snapshot) -> impl Iterator<Item = &Fault> {
    let masters = snapshot.nodes.iter().filter(|node| node.role == Role::Master);
    masters.filter_map(NodeSnapshot::connection_error)
}

/// One whose store does not answer tries by itself, and in a crowd it may just be late.
fn needs_somebody(hold: &Hold) -> bool {
    !matches!(hold, Hold::Store { category: "Unavailable", .. })
}

/// It is more than a start that takes its time.
fn is_troubled(snapshot: &Snapshot) -> bool {
    snapshot.topology_error.is_some()
        || snapshot.hold.is_some()
        || snapshot.store_error.is_some()
        || of_masters(snapshot).next().is_some()
        || snapshot.nodes.iter().any(|node| matches!(node.notification_fault, Some(NotificationFault::Disabled { .. })))
}

fn condition_of(before: &Status, kind: &str, verdict: &Verdict, facts: &Facts<'_>) -> Condition {
    let old = find(before, kind);
    let status = verdict.status.as_str();
    let since = old.filter(|old| old.status == status).map(|old| old.last_transition_time.clone());
    let same = |old: &&Condition| {
        let (is, was) =
            ((status, verdict.reason, facts.generation), (&*old.status, &*old.reason, old.observed_generation));
        is == was && !facts.reword
    };
    let message = old.filter(same).map(|old| old.message.clone());
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: message.unwrap_or_else(|| shortened(&verdict.message, LONGEST_MESSAGE)),
        observed_generation: facts.generation,
        last_transition_time: since.unwrap_or_else(|| seconds(facts.now)),
    }
}

fn delivery(before: &Status, snapshot: &Snapshot) -> DeliveryStatus {
    let last = snapshot.delivery.last_delivered.max(snapshot.counts.last_delivered).and_then(time);
    let before = before.delivery.as_ref().and_then(|delivery| delivery.last_delivered_time.clone());
    DeliveryStatus {
        pending: i64::try_from(snapshot.counts.pending).ok(),
        dead_lettered: i64::try_from(snapshot.counts.dead_letters).ok(),
        last_delivered_time: last.max(before),
    }
}

fn nodes(before: &Status, nodes: &[NodeSnapshot], reword: bool, shown: &mut Shown) -> Vec<NodeStatus> {
    shown.0.retain(|id, _| nodes.iter().any(|node| node.id == *id));
    let mut listed: Vec<NodeStatus> = nodes.iter().map(|node| node_of(before, node, reword, shown)).collect();
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    listed.truncate(MOST_NODES);
    listed
}

fn node_of(before: &Status, node: &NodeSnapshot, reword: bool, shown: &mut Shown) -> NodeStatus {
    let id = node.id.to_string();
    let old = before.nodes.iter().find(|old| old.id == id);
    let opened = node.since.filter(|_| node.subscribed);
    let since = opened.and_then(|opened| {
        let fresh = time(opened);
        let since = match shown.0.get(&node.id) {
            Some((same, since)) if *same == opened => Some(since.clone()),
            Some(_) => fresh,
            // The first connection of this process: the gap before it was resynced, or the node would not be scanned.
            None => old.filter(|old| old.subscribed == Some(true)).and_then(|old| old.since.clone()).or(fresh),
        };
        if let Some(since) = &since {
            shown.0.insert(node.id.clone(), (opened, since.clone()));
        }
        since
    });
    let error = node.last_error.as_ref().map(|fault| shortened(&fault.message, LONGEST_ERROR));
    let said = old.filter(|_| !reword).and_then(|old| old.last_error.clone());
    NodeStatus {
        address: Some(node.address.to_string()),
        role: Some(match node.role {
            Role::Master => NodeRole::Master,
            Role::Replica => NodeRole::Replica,
        }),
        slots: i32::try_from(node.slots).ok(),
        subscribed: Some(node.subscribed),
        since,
        change_source: node.subscribed.then(|| node.change_source.as_str().to_owned()),
        notify_keyspace_events: node.notify_keyspace_events.clone(),
        last_error: error.map(|error| said.unwrap_or(error)),
        id,
    }
}

/// Kubernetes' times have no fractions.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn time(at: Millis) -> Option<Time> {
    Timestamp::from_millisecond(at.0).ok().map(seconds)
}

/// At most `most` characters.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

/// Whether anything of it is said in other words.
pub fn says_otherwise(before: &Status, after: &Status) -> bool {
    let conditions = |status: &Status| -> Vec<_> {
        status.conditions.iter().map(|condition| (condition.type_.clone(), condition.message.clone())).collect()
    };
    let nodes = |status: &Status| -> Vec<_> {
        status.nodes.iter().map(|node| (node.id.clone(), node.last_error.clone())).collect()
    };
    conditions(before) != conditions(after) || nodes(before) != nodes(after)
}

/// The conditions, for metrics.
pub fn said(status: &Status) -> Vec<Said> {
    let said = |condition: &Condition| Said {
        condition: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
    };
    status.conditions.iter().map(said).collect()
}

/// `None` where there is no such condition.
pub fn find<'a>(status: &'a Status, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests;
