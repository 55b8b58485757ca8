//! What is worth an event: transitions, never a key. The reasons are constants; what must be read is in the conditions, for
//! an event that is told again within six minutes keeps its first note.

use std::time::Duration;

use kube::{
    Resource,
    runtime::events::{Event, EventType},
};
use tokio::time::timeout;

use super::{Context, reconcile::Guarded, status};
use crate::{
    api::{RedisExpiryListenerStatus as Status, condition, reason},
    listener::Snapshot,
};

const PATIENCE: Duration = Duration::from_secs(3);
/// A note has at most so many bytes.
const LONGEST: usize = 1000;

/// One event to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    pub warning: bool,
    pub reason: &'static str,
    pub action: &'static str,
    pub note: String,
}

fn normal(reason: &'static str, action: &'static str, note: impl Into<String>) -> Happening {
    Happening { warning: false, reason, action, note: note.into() }
}
fn warning(reason: &'static str, action: &'static str, note: impl Into<String>) -> Happening {
    Happening { warning: true, reason, action, note: note.into() }
}

/// What a listener counts from its start and is told by events alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub gaps: u64,
    pub store_losses: u64,
}

impl Counted {
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { gaps: snapshot.gaps, store_losses: snapshot.store_losses }
    }
    /// What has come since `before`; a listener that was started anew counts from 0.
    pub fn since(self, before: Self) -> Self {
        let store_losses = self.store_losses.saturating_sub(before.store_losses);
        Self { gaps: self.gaps.saturating_sub(before.gaps), store_losses }
    }
}

/// What happened from one status to the next. Pure.
pub fn between(before: &Status, after: &Status, new: Counted) -> Vec<Happening> {
    let mut happened = Vec::new();
    let owner = after.owner.as_deref().unwrap_or_default();
    // The first one's is in the status, and `Subscribed` follows.
    if let Some(from) = before.owner.as_deref().filter(|from| *from != owner) {
        happened.push(normal("OwnershipAcquired", "Own", format!("{owner} has the listener now, from {from}.")));
    }
    for now in &after.conditions {
        let old = status::find(before, &now.type_);
        if old.is_some_and(|old| old.status == now.status && old.reason == now.reason) {
            continue;
        }
        let was = old.map(|old| old.status.as_str());
        match (now.type_.as_str(), now.status.as_str()) {
            (condition::CONNECTED, "True") => {
                let reason = if was == Some("False") { "Resubscribed" } else { "Subscribed" };
                happened.push(normal(reason, "Subscribe", now.message.clone()));
            }
            (condition::READY, "False") if now.reason == reason::SUSPENDED => {
                happened.push(normal("Suspended", "Suspend", now.message.clone()));
            }
            (condition::READY, "True") if old.is_some_and(|old| old.reason == reason::SUSPENDED) => {
                happened.push(normal("Resumed", "Resume", "Delivery goes on."));
            }
            // The others say why.
            (condition::READY, _) => {}
            (condition::DELIVERING, "False") if now.reason == reason::SUSPENDED => {}
            (condition::DELIVERING, "False") => {
                happened.push(warning("DeliveryFailed", "Deliver", format!("{}: {}", now.reason, now.message)));
            }
            (condition::DELIVERING, "True") if was == Some("False") && now.reason == reason::DELIVERED => {
                happened.push(normal("DeliveryRecovered", "Deliver", now.message.clone()));
            }
            (condition::NOTIFICATIONS_ENABLED, "True") if now.reason == reason::CLIENT_TRACKING => {
                happened.push(normal("ClientTracking", "Inspect", now.message.clone()));
            }
            (condition::CONNECTED, "False") if now.reason == reason::SCANNING => {}
            (kind, "False") => {
                if let Some(reason) = reason::ALL.iter().find(|reason| **reason == now.reason) {
                    happened.push(warning(reason, action(kind), now.message.clone()));
                }
            }
            _ => {}
        }
    }
    if new.gaps > 0 {
        let note = format!("{} gap(s) in what was heard; what may have been missed is looked for.", new.gaps);
        happened.push(warning("GapDetected", "Resync", note));
    }
    if new.store_losses > 0 {
        let note = "The store has lost what it had acknowledged: a node of it came back with what it held a while ago. Give each \
                    master of the store's Redis a replica, or appendonly yes. Every master is scanned, and what is known is \
                    written anew; what was settled longer ago than 30 s and not delivered may be lost, unless its key is found.";
        happened.push(warning("StoreLossDetected", "Resync", note));
    }
    happened
}

fn action(kind: &str) -> &'static str {
    match kind {
        condition::ACCEPTED => "Validate",
        condition::DURABLE => "Store",
        condition::NOTIFICATIONS_ENABLED => "Inspect",
        _ => "Connect",
    }
}

/// Tells them; best effort.
pub async fn publish(context: &Context, object: &Guarded, happened: Vec<Happening>) {
    let about = object.object_ref(&());
    for Happening { warning, reason, action, note } in happened {
        let type_ = if warning { EventType::Warning } else { EventType::Normal };
        let note = shortened(&note).to_owned();
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None };
        let _turn = context.writing.acquire().await;
        match timeout(PATIENCE, context.recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, reason, "An event was not published."),
            Err(_) => tracing::debug!(reason, "An event was not published in time."),
        }
    }
}

/// As much of it as a note may have.
fn shortened(note: &str) -> &str {
    let end = (0..=LONGEST.min(note.len())).rev().find(|end| note.is_char_boundary(*end));
    &note[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;

    fn status(owner: &str, conditions: &[(&str, &str, &str)]) -> Status {
        let condition = |(kind, status, reason): &(&str, &str, &str)| Condition {
            type_: (*kind).to_owned(),
            status: (*status).to_owned(),
            reason: (*reason).to_owned(),
            message: "why".to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        Status {
            owner: Some(owner.to_owned()),
            conditions: conditions.iter().map(condition).collect(),
            ..Status::default()
        }
    }

    fn reasons(before: &Status, after: &Status) -> Vec<&'static str> {
        between(before, after, Counted::default()).into_iter().map(|happening| happening.reason).collect()
    }

    #[test]
    fn only_transitions_are_told() {
        let pending = status("a", &[(condition::CONNECTED, "Unknown", reason::PENDING)]);
        let good = status("a", &[(condition::CONNECTED, "True", reason::ALL_NODES_SUBSCRIBED)]);
        let bad = status("a", &[(condition::CONNECTED, "False", reason::AUTHENTICATION_FAILED)]);
        assert_eq!(reasons(&Status::default(), &pending), Vec::<&str>::new());
        assert_eq!(reasons(&pending, &good), ["Subscribed"]);
        assert_eq!(reasons(&good, &good), Vec::<&str>::new());
        assert_eq!(reasons(&good, &bad), ["AuthenticationFailed"]);
        assert_eq!(reasons(&bad, &bad), Vec::<&str>::new());
        assert_eq!(reasons(&bad, &good), ["Resubscribed"]);
        // Another reason is another trouble.
        let worse = status("a", &[(condition::CONNECTED, "False", reason::PERMISSION_DENIED)]);
        assert_eq!(reasons(&bad, &worse), ["PermissionDenied"]);
        let scanning = status("a", &[(condition::CONNECTED, "False", reason::SCANNING)]);
        assert_eq!(reasons(&pending, &scanning), Vec::<&str>::new(), "every start scans");
        let tracked = status("a", &[(condition::NOTIFICATIONS_ENABLED, "True", reason::CLIENT_TRACKING)]);
        let heard = status("a", &[(condition::NOTIFICATIONS_ENABLED, "True", reason::KEYSPACE_EVENTS_ON)]);
        assert_eq!(reasons(&heard, &tracked), ["ClientTracking"], "it promises less");
        assert_eq!(reasons(&tracked, &heard), Vec::<&str>::new());
        let other = status("b", &[(condition::CONNECTED, "True", reason::ALL_NODES_SUBSCRIBED)]);
        assert_eq!(reasons(&good, &other), ["OwnershipAcquired"]);
        let counted = Counted { gaps: 2, store_losses: 1 };
        let told: Vec<_> = between(&good, &good, counted).iter().map(|happening| happening.reason).collect();
        assert_eq!(told, ["GapDetected", "StoreLossDetected"]);
        assert_eq!(counted.since(Counted { gaps: 1, store_losses: 5 }), Counted { gaps: 1, store_losses: 0 });
    }

    #[test]
    fn a_note_is_as_long_as_it_may_be_and_advice_of_ours_is_whole() {
        let long = format!("{}é", "x".repeat(LONGEST - 1));
        assert_eq!(shortened(&long).len(), LONGEST - 1, "no half of a character");
        assert_eq!(shortened("é"), "é");
        let all = between(&Status::default(), &Status::default(), Counted { gaps: 1, store_losses: 1 });
        assert!(all.iter().all(|happening| shortened(&happening.note) == happening.note), "{all:?}");
    }

    #[test]
    fn suspending_and_failing_have_words_of_their_own() {
        let with = |ready: (&str, &str), delivering: (&str, &str)| {
            let (r, d) = (condition::READY, condition::DELIVERING);
            status("a", &[(r, ready.0, ready.1), (d, delivering.0, delivering.1)])
        };
        let good = with(("True", reason::LISTENING), ("True", reason::DELIVERED));
        let suspended = with(("False", reason::SUSPENDED), ("False", reason::SUSPENDED));
        let failing = with(("True", reason::LISTENING), ("False", reason::SINK_UNREACHABLE));
        assert_eq!(reasons(&good, &suspended), ["Suspended"]);
        assert_eq!(reasons(&suspended, &good), ["Resumed", "DeliveryRecovered"]);
        assert_eq!(reasons(&good, &failing), ["DeliveryFailed"]);
        let idle = with(("True", reason::LISTENING), ("True", reason::IDLE));
        assert_eq!(reasons(&failing, &idle), Vec::<&str>::new(), "nothing was delivered yet");
        assert_eq!(reasons(&failing, &good), ["DeliveryRecovered"]);
    }
}
