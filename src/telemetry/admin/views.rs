//! What goes over the admin socket.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    listener::{Hold, NodeSnapshot, Role, Snapshot, Snapshots},
    model::{Failure, ListenerId, Millis, NotificationFault},
    store::DeadLetter,
};

/// Which dead letters to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// Default: every listener's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Which dead letters to replay or purge.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// Default: every listener's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerId>,
    /// Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// How many were replayed or purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    pub count: u64,
}

/// A list of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Letters {
    pub dead_letters: Vec<DeadLetterView>,
}

/// A dead letter. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterView {
    pub listener: ListenerId,
    pub id: String,
    /// One of the two, as in the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    pub deadline: String,
    pub evidence: String,
    pub attempts: u32,
    pub reason: String,
    pub parked_at: String,
}

impl DeadLetterView {
    pub fn new(listener: &ListenerId, letter: &DeadLetter) -> Self {
        let key = &letter.event.key;
        let text = key.as_str().map(ToOwned::to_owned);
        Self {
            listener: listener.clone(),
            id: letter.event.id.to_string(),
            key_base64: text.is_none().then(|| STANDARD.encode(key.as_bytes())),
            key: text,
            deadline: rfc3339(letter.event.deadline),
            evidence: letter.event.evidence.as_str().to_owned(),
            attempts: letter.attempts,
            reason: letter.reason.clone(),
            parked_at: rfc3339(letter.at),
        }
    }
}

fn rfc3339(at: Millis) -> String {
    Timestamp::from_millisecond(at.0)
        .map_or_else(|_| at.0.to_string(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// `{"listeners": {"shop/orders": {...}}}`.
pub(super) fn snapshots(snapshots: &Snapshots) -> Value {
    let listeners: Map<String, Value> =
        snapshots.iter().map(|(listener, snapshot)| (listener.to_string(), view(snapshot))).collect();
    json!({ "listeners": listeners })
}

fn view(snapshot: &Snapshot) -> Value {
    let (counts, delivery) = (&snapshot.counts, &snapshot.delivery);
    json!({
        "ready": snapshot.ready,
        "masters": snapshot.masters,
        "subscribedMasters": snapshot.subscribed_masters,
        "hold": snapshot.hold.as_ref().map(|hold| match hold {
            Hold::DeploymentChanged { message, .. } => json!({"reason": "DeploymentChanged", "message": message}),
            Hold::Store { category, message } => json!({"reason": category, "message": message}),
        }),
        "topologyError": snapshot.topology_error.as_ref().map(|fault| &fault.message),
        "topologyErrorCategory": snapshot.topology_error.as_ref().map(|fault| fault.category.as_str()),
        "storeError": snapshot.store_error,
        "tracked": counts.tracked,
        "gaps": snapshot.gaps,
        "storeLosses": snapshot.store_losses,
        "resyncFound": snapshot.resync_found,
        "witnessed": snapshot.witnessed,
        "inferred": snapshot.inferred,
        "droppedByPattern": snapshot.dropped_by_pattern,
        "delivery": {
            "pending": counts.pending,
            "oldestPending": counts.oldest_pending.map(rfc3339),
            "deadLetters": counts.dead_letters,
            "lastDelivered": delivery.last_delivered.or(counts.last_delivered).map(rfc3339),
            "inFlight": delivery.in_flight,
            "delivered": delivery.delivered,
            "deadLettered": delivery.dead_lettered,
            "failedAttempts": delivery.failed_attempts,
            "consecutiveFailures": delivery.consecutive_failures,
            "lastError": delivery.last_error,
            "lastFailure": delivery.last_failure.map(Failure::as_str),
            "paused": delivery.paused,
        },
        "nodes": snapshot.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn node(node: &NodeSnapshot) -> Value {
    json!({
        "id": node.id,
        "address": node.address.to_string(),
        "role": match node.role { Role::Master => "master", Role::Replica => "replica" },
        "slots": node.slots,
        "subscribed": node.subscribed,
        "scanned": node.scanned,
        "since": node.since.map(rfc3339),
        "changeSource": node.change_source.as_str(),
        "notifyKeyspaceEvents": node.notify_keyspace_events,
        "notifications": node.notifications,
        "clockOffsetMs": node.clock_offset_ms,
        "notificationFault": node.notification_fault.as_ref().map(NotificationFault::as_str),
        "lastError": node.last_error.as_ref().map(|fault| &fault.message),
        "lastErrorCategory": node.last_error.as_ref().map(|fault| fault.category.as_str()),
    })
}
