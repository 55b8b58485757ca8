//! The conditions. Pure.

use super::Facts;
use crate::{
    api::{DEPLOYMENT_CHANGED, Problem, condition, reason},
    listener::{Durability, Hold, NodeSnapshot, Role, Snapshot, Source},
    model::{Failure, Fault, FaultCategory, ListenerId, NotificationFault, of_node},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    True,
    False,
    Unknown,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub status: State,
    pub reason: &'static str,
    pub message: String,
}

fn yes(reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict { status: State::True, reason, message: message.into() }
}
fn no(reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict { status: State::False, reason, message: message.into() }
}
fn unknown(reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict { status: State::Unknown, reason, message: message.into() }
}
fn pending(what: &str) -> Verdict {
    unknown(reason::PENDING, what)
}

/// Failures in a row that are worth saying.
const FAILING_FROM: u64 = 3;

/// Every condition, `Ready` first.
pub(super) fn all(facts: &Facts<'_>) -> Vec<(&'static str, Verdict)> {
    let accepted = accepted(facts.refused);
    let (connected, notifications, delivering, durable) = match facts.snapshot {
        Some(snapshot) => (
            connected(snapshot, facts.listener),
            notifications(snapshot),
            delivering(snapshot, facts.suspend),
            durable(snapshot),
        ),
        None if facts.refused.is_empty() => {
            let starts = || pending("The listener starts.");
            (starts(), starts(), starts(), starts())
        }
        None => {
            let waits = || pending("The listener does not run: see Accepted.");
            (waits(), waits(), waits(), waits())
        }
    };
    let ready = ready(facts.suspend, &accepted, &connected, &notifications, &durable);
    vec![
        (condition::READY, ready),
        (condition::ACCEPTED, accepted),
        (condition::CONNECTED, connected),
        (condition::NOTIFICATIONS_ENABLED, notifications),
        (condition::DELIVERING, delivering),
        (condition::DURABLE, durable),
    ]
}

fn ready(
    suspend: bool,
    accepted: &Verdict,
    connected: &Verdict,
    notifications: &Verdict,
    durable: &Verdict,
) -> Verdict {
    let must = [accepted, connected, durable];
    let failed = must.into_iter().chain([notifications]).find(|verdict| verdict.status == State::False);
    if let Some(failed) = failed {
        return failed.clone();
    }
    if suspend {
        return no(
            reason::SUSPENDED,
            "Delivery is suspended; expiries are detected and kept. Set spec.suspend to false to go on.",
        );
    }
    must.into_iter().find(|verdict| verdict.status == State::Unknown).map_or_else(
        || yes(reason::LISTENING, "Every master is heard, and what expires is kept until it is delivered."),
        Clone::clone,
    )
}

fn accepted(problems: &[Problem]) -> Verdict {
    let Some(first) = problems.first() else { return yes(reason::VALID, "The spec is carried out.") };
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    no(first.reason, said.join("; "))
}

fn connected(snapshot: &Snapshot, listener: &ListenerId) -> Verdict {
    match &snapshot.hold {
        Some(Hold::DeploymentChanged { message, change }) => {
            return no(reason::DEPLOYMENT_CHANGED, deployment_changed(message, change, listener));
        }
        Some(Hold::Store { .. }) => return pending("Nothing is detected before the store opens: see Durable."),
        None => {}
    }
    let masters: Vec<&NodeSnapshot> = snapshot.nodes.iter().filter(|node| node.role == Role::Master).collect();
    let heard = masters.iter().filter(|node| node.subscribed && node.scanned).count();
    let of = format!("{heard}/{} masters", masters.len());
    let unheard = masters.iter().find(|node| !node.subscribed);
    match (&snapshot.topology_error, unheard) {
        (Some(fault), _) if masters.is_empty() => no(class(fault).unwrap_or(reason::CONNECTION_FAILED), said(fault)),
        (_, Some(node)) => {
            let error = node.last_error.as_ref().map_or("it is being connected to", |fault| &fault.message);
            let why = node.last_error.as_ref().and_then(class).unwrap_or(reason::PARTIALLY_CONNECTED);
            let subscribed = masters.iter().filter(|node| node.subscribed).count();
            let error = of_node(&node.address, error);
            no(why, format!("{subscribed}/{} masters are subscribed; {error}", masters.len()))
        }
        (Some(fault), None) => no(class(fault).unwrap_or(reason::TOPOLOGY_UNKNOWN), said(fault)),
        (None, None) if masters.is_empty() => pending("The nodes are being looked for."),
        (None, None) if heard < masters.len() || slots_are_being_scanned(snapshot) => {
            no(reason::SCANNING, format!("{of} are subscribed and scanned; the others are being scanned."))
        }
        (None, None) => yes(reason::ALL_NODES_SUBSCRIBED, format!("{of} are subscribed and scanned.")),
    }
}

/// What may be done about it. An answer names the change, so that it is taken for no other.
fn deployment_changed(message: &str, change: &str, listener: &ListenerId) -> String {
    let annotate = |answer: &str| {
        format!(
            "kubectl annotate --overwrite -n {} rel/{} {DEPLOYMENT_CHANGED}={answer}:{change}",
            listener.namespace(),
            listener.name()
        )
    };
    format!(
        "{message}: point spec.redis.addresses back; or drop the old entries: {}; or, if this Redis holds the same keys, keep \
         them: {}",
        annotate("Discard"),
        annotate("Keep")
    )
}

/// Every master was scanned once, and is again for what came to it: nothing else keeps such a listener from being ready.
fn slots_are_being_scanned(snapshot: &Snapshot) -> bool {
    !snapshot.ready && snapshot.store_error.is_none() && snapshot.subscribed_masters >= snapshot.masters
}

fn said(fault: &Fault) -> String {
    fault.message.to_string()
}

/// `None`: it has no word of its own.
fn class(fault: &Fault) -> Option<&'static str> {
    match fault.category {
        FaultCategory::Authentication => Some(reason::AUTHENTICATION_FAILED),
        FaultCategory::Permission => Some(reason::PERMISSION_DENIED),
        FaultCategory::EgressRefused => Some(reason::EGRESS_REFUSED),
        FaultCategory::NotACluster | FaultCategory::Concealed | FaultCategory::Uncovered => {
            Some(reason::TOPOLOGY_UNKNOWN)
        }
        FaultCategory::Tls => Some(reason::TLS_HANDSHAKE_FAILED),
        FaultCategory::Unreachable | FaultCategory::Other => None,
    }
}

fn notifications(snapshot: &Snapshot) -> Verdict {
    let faults = || snapshot.nodes.iter().filter_map(|node| Some((node, node.notification_fault.as_ref()?)));
    let disabled = faults().find(|(_, fault)| matches!(fault, NotificationFault::Disabled { .. }));
    if let Some((node, fault)) = disabled {
        return no(reason::NOTIFICATIONS_DISABLED, of_node(&node.address, fault.message()));
    }
    if let Some((node, fault)) = faults().next() {
        return unknown(reason::CANNOT_INSPECT, of_node(&node.address, fault.message()));
    }
    if snapshot.nodes.is_empty() || snapshot.nodes.iter().any(|node| !node.notifications) {
        return pending("The nodes' settings have not been read yet.");
    }
    let tracked = snapshot.nodes.iter().filter(|node| node.change_source == Source::Tracking).count();
    if tracked > 0 {
        let all = snapshot.nodes.len();
        let message = format!("{tracked}/{all} nodes tell of their keys' changes by client tracking");
        let because = snapshot.nodes.iter().find_map(|node| Some((node, node.tracked_because.as_ref()?)));
        let message = match because {
            // By choice.
            None => format!("{message}."),
            Some((node, why)) => {
                let why = of_node(&node.address, why);
                format!("{message}, which does not tell an expiry from every deletion; for keyspace events: {why}")
            }
        };
        return yes(reason::CLIENT_TRACKING, message);
    }
    yes(reason::KEYSPACE_EVENTS_ON, "Every node tells of its keys' changes.")
}

fn delivering(snapshot: &Snapshot, suspend: bool) -> Verdict {
    let delivery = &snapshot.delivery;
    let error = delivery.last_error.as_deref().unwrap_or("no reason is known");
    if suspend {
        no(reason::SUSPENDED, "Set spec.suspend to false to go on.")
    } else if let Some(why) = delivery.paused.as_deref() {
        no(reason::PAUSED, why)
    } else if delivery.consecutive_failures >= FAILING_FROM {
        let why = match delivery.last_failure {
            Some(Failure::Rejected(_)) => reason::SINK_REJECTED,
            Some(Failure::EgressRefused) => reason::EGRESS_REFUSED,
            Some(Failure::Unreachable | Failure::Tls | Failure::Other) | None => reason::SINK_UNREACHABLE,
        };
        let failures = delivery.consecutive_failures;
        let fix = "see that the receiver runs and answers 2xx, or correct spec.webhook; nothing is lost meanwhile";
        no(why, format!("{failures} attempts in a row have failed, the last one: {error}; {fix}"))
    } else if delivery.last_delivered.is_some() || snapshot.counts.last_delivered.is_some() {
        yes(reason::DELIVERED, "The webhook takes what is sent.")
    } else {
        yes(reason::IDLE, "Nothing has had to be delivered yet.")
    }
}

fn durable(snapshot: &Snapshot) -> Verdict {
    if let Some(Hold::Store { category, message }) = &snapshot.hold {
        return store_failed(category, message);
    }
    match (&snapshot.store_error, snapshot.store_category) {
        (Some(error), category) => store_failed(category.unwrap_or("Unavailable"), error),
        (None, _) => match &snapshot.durability {
            Some(Durability::Volatile { reason: why, fix }) => no(reason::STORE_VOLATILE, format!("{why}; {fix}")),
            Some(Durability::Durable) | None => yes(reason::STORED, "The store takes what is recorded."),
        },
    }
}

/// Most other errors of a store say what to do.
fn store_failed(category: &str, error: &str) -> Verdict {
    let fix = match category {
        "Unavailable" => {
            "; see that its nodes run and can be reached from here, or correct the addresses of spec.store.redis, else of spec.redis"
        }
        _ => "",
    };
    no(store_reason(category), format!("{error}{fix}"))
}

/// `Store` and the category of [`crate::store::StoreError::category`], as one of the documented words.
fn store_reason(category: &str) -> &'static str {
    // Most stores lie in the watched Redis, which is reached after its store was opened: it is the credentials of both.
    if category == "Authentication" {
        return reason::AUTHENTICATION_FAILED;
    }
    let wanted = |word: &&&str| word.strip_prefix("Store").is_some_and(|rest| rest == category);
    reason::ALL.iter().find(wanted).copied().unwrap_or(reason::STORE_UNAVAILABLE)
}
