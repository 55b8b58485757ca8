//! Every metric, in one place: docs/metrics.md is made from this.

use super::{Labels, Samples, Scrape, Value};
use crate::{
    delivery::AttemptClass,
    listener::{NodeSnapshot, Role, Snapshot},
    model::ListenerId,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric.
pub struct Metric {
    /// With `_total`, where it is a counter.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// A sentence without its full stop, which the format adds.
    pub help: &'static str,
    pub(super) samples: fn(&Scrape) -> Samples,
}

const LISTENER: &[&str] = &["namespace", "name"];

macro_rules! metrics {
    ($($kind:ident $name:literal, $labels:expr, $help:literal, $samples:expr;)*) => {
        /// All of them, in the order in which they are shown.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name, kind: Kind::$kind, labels: $labels, help: $help, samples: $samples,
        }),*];
    };
}

metrics! {
    Gauge "redis_expiry_build_info", &["version"], "1, with the version of the program",
        |_| vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], Value::Level(1.0))];
    Gauge "redis_expiry_process_resident_memory_bytes", &[], "Memory of the process that is resident",
        |scrape| scrape.resident.map(|bytes| (Vec::new(), level(bytes))).into_iter().collect();
    Gauge "redis_expiry_process_open_files", &[], "Files and sockets that the process has open",
        |scrape| scrape.files.map(|files| (Vec::new(), level(files))).into_iter().collect();
    Gauge "redis_expiry_listeners", &["state"], "Listeners that this process owns, by whether every master is heard (ready), not yet (not_ready), or nothing is done (holds)",
        listeners;

    Gauge "redis_expiry_listener_ready", LISTENER, "1 where every master is subscribed and scanned and the store takes what is recorded, else 0",
        |scrape| each(scrape, |snapshot| Value::Level(f64::from(u8::from(snapshot.ready))));
    Gauge "redis_expiry_masters", LISTENER, "Masters of the watched Redis",
        |scrape| each(scrape, |snapshot| level(snapshot.masters as u64));
    Gauge "redis_expiry_subscribed_masters", LISTENER, "Masters that are subscribed, have the flags, and were scanned since",
        |scrape| each(scrape, |snapshot| level(snapshot.subscribed_masters as u64));
    Gauge "redis_expiry_node_subscribed", &["namespace", "name", "node", "address", "role"], "1 where the subscription to a node is open and the node may be believed, else 0",
        |scrape| each_node(scrape, |node| Some(Value::Level(f64::from(u8::from(node.subscribed)))));
    Gauge "redis_expiry_node_clock_offset_seconds", &["namespace", "name", "node", "address", "role"], "A node's clock less ours",
        |scrape| each_node(scrape, |node| {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds as seconds")]
            node.clock_offset_ms.map(|offset| Value::Level(offset as f64 / 1_000.0))
        });
    Gauge "redis_expiry_topology_error", LISTENER, "1 while the topology is not known or not whole, else 0",
        |scrape| each(scrape, |snapshot| Value::Level(f64::from(u8::from(snapshot.topology_error.is_some()))));

    Gauge "redis_expiry_tracked_keys", LISTENER, "Keys whose deadline is in the ledger",
        |scrape| each(scrape, |snapshot| level(snapshot.counts.tracked));
    Counter "redis_expiry_looks_total", &["namespace", "name", "result"], "Keys that the owner of their slot was asked about, by the answer: alive, persistent (without a TTL), gone, none",
        looks;
    Counter "redis_expiry_settled_total", &["namespace", "name", "evidence"], "Expiries that were settled, by whether they were heard (Witnessed) or concluded (Inferred)",
        |scrape| split(scrape, "evidence", |snapshot| {
            vec![("Witnessed", snapshot.witnessed), ("Inferred", snapshot.inferred)]
        });
    Histogram "redis_expiry_lateness_seconds", LISTENER, "From a key's deadline to its settle",
        |scrape| each(scrape, |snapshot| Value::Times(snapshot.lateness.clone()));
    Counter "redis_expiry_gaps_total", LISTENER, "Times in which something may have been missed; each is followed by a scan",
        |scrape| each(scrape, |snapshot| Value::Count(snapshot.gaps));
    Counter "redis_expiry_resync_found_total", LISTENER, "Keys that a periodic scan found and that should have been known; 0 is healthy",
        |scrape| each(scrape, |snapshot| Value::Count(snapshot.resync_found));
    Counter "redis_expiry_dropped_by_pattern_total", LISTENER, "Entries of the ledger that were dropped because keyPattern changed",
        |scrape| each(scrape, |snapshot| Value::Count(snapshot.dropped_by_pattern));
    Gauge "redis_expiry_store_error", &["namespace", "name", "category"], "1 while the store refuses, by why",
        store_errors;

    Gauge "redis_expiry_outbox_events", LISTENER, "Events that are settled and not yet delivered",
        |scrape| each(scrape, |snapshot| level(snapshot.counts.pending));
    Gauge "redis_expiry_outbox_oldest_age_seconds", LISTENER, "Age of the oldest event in the outbox, 0 where it is empty",
        oldest;
    Gauge "redis_expiry_dead_letters", LISTENER, "Events that were given up and can be replayed",
        |scrape| each(scrape, |snapshot| level(snapshot.counts.dead_letters));
    Counter "redis_expiry_attempts_total", &["namespace", "name", "outcome"], "Requests to the webhook that have ended: 2xx, 3xx, 4xx, 5xx, timeout, connection, tls, refused, other",
        |scrape| split(scrape, "outcome", |snapshot| {
            AttemptClass::ALL.iter().map(|class| (class.as_str(), snapshot.delivery.attempts[*class as usize])).collect()
        });
    Gauge "redis_expiry_attempts_in_flight", LISTENER, "Requests to the webhook that are under way",
        |scrape| each(scrape, |snapshot| level(snapshot.delivery.in_flight as u64));
    Counter "redis_expiry_delivered_total", LISTENER, "Events that the webhook answered with 2xx",
        |scrape| each(scrape, |snapshot| Value::Count(snapshot.delivery.delivered));
    Counter "redis_expiry_dead_lettered_total", LISTENER, "Events that were given up",
        |scrape| each(scrape, |snapshot| Value::Count(snapshot.delivery.dead_lettered));
    Histogram "redis_expiry_delivery_seconds", LISTENER, "From an event's settle to the 2xx",
        |scrape| each(scrape, |snapshot| Value::Times(snapshot.delivery.latency.clone()));
    Gauge "redis_expiry_consecutive_failures", LISTENER, "Attempts that failed since the last 2xx",
        |scrape| each(scrape, |snapshot| level(snapshot.delivery.consecutive_failures));
    Gauge "redis_expiry_delivery_paused", LISTENER, "1 while nothing is sent though it could be (the receiver answered 410), else 0",
        |scrape| each(scrape, |snapshot| Value::Level(f64::from(u8::from(snapshot.delivery.paused.is_some()))));
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn level(value: u64) -> Value {
    Value::Level(value as f64)
}

fn of(listener: &ListenerId) -> Labels {
    vec![("namespace", listener.namespace().to_owned()), ("name", listener.name().to_owned())]
}

fn each(scrape: &Scrape, value: impl Fn(&Snapshot) -> Value) -> Samples {
    scrape.snapshots.iter().map(|(listener, snapshot)| (of(listener), value(snapshot))).collect()
}

fn split(scrape: &Scrape, label: &'static str, parts: impl Fn(&Snapshot) -> Vec<(&'static str, u64)>) -> Samples {
    let of_one = |(listener, snapshot): (&ListenerId, &std::sync::Arc<Snapshot>)| -> Samples {
        let with = |word: &str| [of(listener), vec![(label, word.to_owned())]].concat();
        parts(snapshot).into_iter().map(|(word, count)| (with(word), Value::Count(count))).collect()
    };
    scrape.snapshots.iter().flat_map(of_one).collect()
}

fn looks(scrape: &Scrape) -> Samples {
    split(scrape, "result", |snapshot| {
        let looks = &snapshot.looks;
        vec![("alive", looks.alive), ("persistent", looks.persistent), ("gone", looks.gone), ("none", looks.unanswered)]
    })
}

fn each_node(scrape: &Scrape, value: impl Fn(&NodeSnapshot) -> Option<Value>) -> Samples {
    let mut samples = Samples::new();
    for (listener, snapshot) in &scrape.snapshots {
        for node in &snapshot.nodes {
            let role = match node.role {
                Role::Master => "master",
                Role::Replica => "replica",
            };
            let mut labels = of(listener);
            labels.push(("node", node.id.to_string()));
            labels.push(("address", node.address.to_string()));
            labels.push(("role", role.to_owned()));
            samples.extend(value(node).map(|value| (labels, value)));
        }
    }
    samples
}

fn listeners(scrape: &Scrape) -> Samples {
    let state = |snapshot: &Snapshot| match (&snapshot.hold, snapshot.ready) {
        (Some(_), _) => "holds",
        (None, true) => "ready",
        (None, false) => "not_ready",
    };
    let count = |word| scrape.snapshots.values().filter(|snapshot| state(snapshot) == word).count() as u64;
    ["ready", "not_ready", "holds"]
        .map(|word| (vec![("state", word.to_owned())], level(count(word))))
        .into_iter()
        .collect()
}

fn store_errors(scrape: &Scrape) -> Samples {
    let category = |snapshot: &Snapshot| match &snapshot.hold {
        Some(crate::listener::Hold::Store { category, .. }) => Some(*category),
        _ => snapshot.store_category,
    };
    let failing = scrape.snapshots.iter().filter_map(|(listener, snapshot)| Some((listener, category(snapshot)?)));
    let labels = |listener, category: &str| [of(listener), vec![("category", category.to_owned())]].concat();
    failing.map(|(listener, category)| (labels(listener, category), Value::Level(1.0))).collect()
}

fn oldest(scrape: &Scrape) -> Samples {
    each(scrape, |snapshot| {
        let age = snapshot.counts.oldest_pending.map_or(0, |oldest| scrape.now.since(oldest).max(0));
        #[expect(clippy::cast_precision_loss, reason = "milliseconds as seconds")]
        Value::Level(age as f64 / 1_000.0)
    })
}
