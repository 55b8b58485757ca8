//! How a listener fares, as plain data: what `run` prints and what the operator writes into status.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};

use super::Snapshots;
use crate::{
    clock, delivery,
    deployment::{NodeView, Source, View},
    ledger::Stats,
    meters::Shared,
    model::{Address, Fault, ListenerId, Millis, NodeId, NotificationFault},
    plan::Plan,
    store::{Counts, Durability, StoreError},
};

/// One listener at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every node of the deployment.
    pub nodes: Vec<NodeSnapshot>,
    /// Masters, and those of them that are subscribed, have the flags, and were scanned since.
    pub masters: usize,
    pub subscribed_masters: usize,
    /// Every master is subscribed and scanned, and every slot has an owner.
    pub ready: bool,
    /// Why nothing is detected, if it is so.
    pub hold: Option<Hold>,
    /// What is wrong with the topology, naming the node and the fix; `None` when all is well.
    pub topology_error: Option<Fault>,
    /// What is wrong with the store, and its [`crate::store::StoreError::category`].
    pub store_error: Option<String>,
    pub store_category: Option<&'static str>,
    /// Whether what the store has acknowledged survives its own crash; `None` until it was asked.
    pub durability: Option<Durability>,
    pub counts: Counts,
    pub delivery: delivery::Snapshot,
    /// Gaps and losses since the start.
    pub gaps: u64,
    /// How often the store had lost, since the start, what it had acknowledged, and could not make it good by itself.
    pub store_losses: u64,
    /// Keys that a periodic scan found and that should have been known: the number to watch (DESIGN rule 8).
    pub resync_found: u64,
    /// Events settled since the start, by evidence.
    pub witnessed: u64,
    pub inferred: u64,
    /// Entries dropped because the pattern changed.
    pub dropped_by_pattern: u64,
    /// How many patterns are subscribed to on the deployment: each costs every one of its nodes something.
    pub patterns: usize,
    /// When this pipeline was started, by our clock: counters count from there.
    pub started: Millis,
    /// When its store was opened, for which hundreds of them may have to wait; `None` while it is not.
    pub opened: Option<Instant>,
    /// What its stages count; for metrics.
    pub meters: Option<Shared>,
}

/// Tells of a pipeline that does not run, or not yet.
pub(super) struct Teller {
    listener: ListenerId,
    snapshots: Arc<watch::Sender<Snapshots>>,
    pub started: Millis,
    meters: Shared,
}

impl Teller {
    /// Of one that starts now.
    pub fn new(listener: ListenerId, snapshots: Arc<watch::Sender<Snapshots>>, meters: Shared) -> Self {
        Self { listener, snapshots, started: clock::now(), meters }
    }

    pub fn listener(&self) -> &ListenerId {
        &self.listener
    }

    pub fn hold(&self, hold: Hold) {
        self.snapshots.send_if_modified(|snapshots| {
            let before = snapshots.get(&self.listener).cloned().unwrap_or_default();
            if before.hold.as_ref() == Some(&hold) {
                return false;
            }
            tracing::error!(listener = %self.listener, ?hold, "The listener holds.");
            let (started, meters) = (self.started, Some(Arc::clone(&self.meters)));
            let now =
                Snapshot { hold: Some(hold), ready: false, started, opened: None, meters, ..Snapshot::clone(&before) };
            snapshots.insert(self.listener.clone(), Arc::new(now));
            true
        });
    }
}

/// A pipeline has ended and another begins: what was told of the old one goes, but for the hold of one that may not begin yet.
/// Says whether that is a change.
pub(super) fn succeeded(snapshots: &mut Snapshots, listener: &ListenerId, fenced: bool) -> bool {
    let Some(old) = snapshots.remove(listener) else { return false };
    if fenced && old.hold.is_some() {
        let held = Snapshot { hold: old.hold.clone(), started: old.started, ..Snapshot::default() };
        snapshots.insert(listener.clone(), Arc::new(held));
    }
    true
}

impl Snapshot {
    /// What is worth telling at once, and no more: counts that move with every key are left out.
    pub fn news(&self) -> Self {
        let delivery = &self.delivery;
        let delivered = delivery.last_delivered.or(self.counts.last_delivered).map(|_| Millis(0));
        let mut nodes = self.nodes.clone();
        for node in &mut nodes {
            node.clock_offset_ms = None;
        }
        Self {
            nodes,
            counts: Counts::default(),
            delivery: delivery::Snapshot {
                last_delivered: delivered,
                // From so many on it is not the receiver's hiccup.
                consecutive_failures: delivery.consecutive_failures.min(3),
                paused: delivery.paused.clone(),
                last_failure: delivery.last_failure,
                ..delivery::Snapshot::default()
            },
            resync_found: 0,
            witnessed: 0,
            inferred: 0,
            meters: None,
            ..self.clone()
        }
    }
}

/// Why a listener does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The ledger belongs to another deployment. An answer names the `change`, such as `5f1d0c9a`; how it is given depends on the
    /// command, so the message says only what is.
    DeploymentChanged { message: String, change: String },
    /// The store could not be opened or is owned by another.
    Store { category: &'static str, message: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Master,
    Replica,
}

/// One node as a listener sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSnapshot {
    pub id: NodeId,
    pub address: Address,
    pub role: Role,
    /// How many slots it owns.
    pub slots: usize,
    /// The subscription is open, and the node is not suspect.
    pub subscribed: bool,
    /// Its data was scanned since the subscription was opened (masters only).
    pub scanned: bool,
    /// When the subscription was opened.
    pub since: Option<Millis>,
    /// `notify-keyspace-events` as last read; `None` if it cannot be read.
    pub notify_keyspace_events: Option<String>,
    /// How it tells of what happens to keys.
    pub change_source: Source,
    /// Whether it does: keyspace events have the flags that they need, or there is client tracking.
    pub notifications: bool,
    /// The node's clock less ours, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Why its pushes may not come; `None` also while nothing is known.
    pub notification_fault: Option<NotificationFault>,
    /// Why client tracking has to do where keyspace events are preferred, and what would give them back.
    pub tracked_because: Option<Arc<str>>,
    /// What is wrong and what to do: with its connection, else with its notifications.
    pub last_error: Option<Fault>,
}

impl NodeSnapshot {
    /// What is wrong with its connection; `None` where it is its notifications that [`Self::last_error`] is about.
    pub fn connection_error(&self) -> Option<&Fault> {
        let of_notifications = self.notification_fault.as_ref().map(NotificationFault::fault);
        self.last_error.as_ref().filter(|error| of_notifications.as_ref() != Some(error))
    }
}

/// Puts the stages' own snapshots together.
pub(super) fn of(plan: &Plan, view: &View, stats: &Stats, delivery: &delivery::Snapshot, counts: Counts) -> Snapshot {
    let nodes: Vec<NodeSnapshot> = view.nodes.iter().filter_map(|(id, node)| node_of(plan, id, node, stats)).collect();
    let drives = |node: &&NodeSnapshot| view.nodes.get(&node.id).is_some_and(|node| node.drives);
    let masters = nodes.iter().filter(drives).count();
    let subscribed_masters =
        nodes.iter().filter(drives).filter(|node| node.subscribed && node.scanned && node.notifications).count();
    Snapshot {
        masters,
        subscribed_masters,
        ready: stats.ready && view.error.is_none(),
        hold: None,
        topology_error: view.error.clone(),
        store_error: stats.store_error.as_ref().map(ToString::to_string),
        store_category: stats.store_error.as_ref().map(StoreError::category),
        durability: None,
        patterns: 0,
        started: Millis::default(),
        opened: None,
        counts,
        delivery: delivery.clone(),
        gaps: stats.gaps,
        store_losses: stats.store_losses,
        resync_found: stats.resync_found,
        witnessed: stats.witnessed,
        inferred: stats.inferred,
        dropped_by_pattern: stats.dropped_by_pattern,
        nodes,
        meters: None,
    }
}

fn node_of(plan: &Plan, id: &NodeId, node: &NodeView, stats: &Stats) -> Option<NodeSnapshot> {
    let connection = &node.connection;
    let fault = node.notifications.fault.clone();
    let (notification_fault, tracked_because) = match connection.source {
        Source::Notifications => (fault, None),
        // Nobody waits for them.
        Source::Tracking => (None, fault.map(|fault| Arc::clone(fault.message()))),
    };
    Some(NodeSnapshot {
        id: id.clone(),
        address: connection.address.clone().or_else(|| node.address.clone())?,
        role: if node.master { Role::Master } else { Role::Replica },
        slots: node.slots.len(),
        subscribed: node.open(plan.pattern.as_bytes()),
        scanned: stats.synced.contains(id),
        since: connection.since,
        notify_keyspace_events: node.notifications.flags.clone(),
        change_source: connection.source,
        notifications: node.hears(),
        clock_offset_ms: node.offset.micros().map(|micros| micros / 1_000),
        last_error: connection.error.clone().or_else(|| Some(notification_fault.as_ref()?.fault())),
        notification_fault,
        tracked_because,
    })
}
