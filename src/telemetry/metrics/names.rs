//! Every metric: its name, labels and meaning, and nowhere else. `docs/metrics.md` is made of this.

/// A metric and what is known of it beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// A counter's name goes without `_total` here, as OpenMetrics has it.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// One sentence without its full stop.
    pub help: &'static str,
    pub shown: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Where it is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Always,
    /// By `controller` alone.
    Operator,
    /// Where the system tells: on Linux.
    Process,
}

impl Family {
    /// As a query names it; a histogram's ends in `_bucket`, `_sum` or `_count` besides.
    pub fn shown_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
    pub fn unit(&self) -> &'static str {
        let ends = |unit: &str| self.name.ends_with(unit);
        match () {
            () if ends("_timestamp_seconds") || ends("_start_time_seconds") => "seconds since 1970",
            () if ends("_seconds") => "seconds",
            () if ends("_bytes") => "bytes",
            () => "",
        }
    }
}

const LISTENER: &[&str] = &["namespace", "name"];
const NODE: &[&str] = &["namespace", "name", "node", "address"];

const fn family(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind, labels, help, shown: Shown::Always }
}
const fn counter(name: &'static str, help: &'static str) -> Family {
    family(name, Kind::Counter, LISTENER, help)
}
const fn gauge(name: &'static str, help: &'static str) -> Family {
    family(name, Kind::Gauge, LISTENER, help)
}
const fn histogram(name: &'static str, help: &'static str) -> Family {
    family(name, Kind::Histogram, LISTENER, help)
}
const fn labelled(family: Family, labels: &'static [&'static str]) -> Family {
    Family { labels, ..family }
}
const fn operator(family: Family) -> Family {
    Family { shown: Shown::Operator, ..family }
}
const fn process(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { shown: Shown::Process, ..family(name, kind, &[], help) }
}

// A listener as a whole.
pub const READY: Family = gauge(
    "redis_expiry_listener_ready",
    "1 if every master is subscribed, tells of its keys and was scanned, every slot has an owner and the store takes what is settled",
);
pub const HELD: Family = gauge(
    "redis_expiry_listener_held",
    "1 if nothing is detected until somebody acts: the store cannot be opened, or the ledger is of another deployment",
);
pub const MASTERS: Family = gauge("redis_expiry_masters", "Masters of the deployment");
pub const SUBSCRIBED_MASTERS: Family =
    gauge("redis_expiry_subscribed_masters", "Masters that are subscribed, have the flags, and were scanned since");
pub const TOPOLOGY_FAILING: Family =
    gauge("redis_expiry_topology_failing", "1 if the topology cannot be read or a slot has no owner");
pub const TOPOLOGY_ERRORS: Family = counter("redis_expiry_topology_errors", "How often that began");
pub const PATTERNS: Family = gauge(
    "redis_expiry_patterns",
    "Patterns that are subscribed to on each node of the deployment; more than 20 cost the nodes noticeably",
);

// Its nodes.
pub const NODE_SUBSCRIBED: Family = labelled(
    gauge("redis_expiry_node_subscribed", "1 if the subscription to the node is open and the node answers"),
    &["namespace", "name", "node", "address", "role"],
);
pub const NODE_NOTIFICATIONS: Family = labelled(
    gauge(
        "redis_expiry_node_notifications",
        "1 if the node tells what happens to its keys: its notify-keyspace-events has the flags that are needed, or there is \
         client tracking",
    ),
    NODE,
);
pub const NODE_TRACKING: Family = labelled(
    gauge("redis_expiry_node_client_tracking", "1 if the node tells by client tracking, 0 by keyspace events"),
    NODE,
);
pub const NODE_CLOCK_OFFSET: Family =
    labelled(gauge("redis_expiry_node_clock_offset_seconds", "The node's clock less ours"), NODE);

// Its ledger.
pub const TRACKED: Family = gauge("redis_expiry_tracked_keys", "Keys whose deadlines the ledger holds");
pub const LOOKS: Family = labelled(
    counter("redis_expiry_looks", "Looks at keys, by what the owner of the key's slot answered"),
    &["namespace", "name", "result"],
);
pub const LOOKS_IN_FLIGHT: Family =
    gauge("redis_expiry_looks_in_flight", "Keys that are being asked about, judged or stored");
pub const SETTLED: Family = labelled(
    counter("redis_expiry_events_settled", "Expiries settled into the outbox, by evidence"),
    &["namespace", "name", "evidence"],
);
pub const LATENESS: Family = histogram(
    "redis_expiry_lateness_seconds",
    "From the deadline, by the clock of the node that owns the key, to the settle",
);
pub const GAPS: Family =
    counter("redis_expiry_gaps", "Gaps in what was heard of a node; what may have been missed is looked for");
pub const LOSSES: Family = counter(
    "redis_expiry_losses",
    "Nodes seen whole again whose data was not what it was: restarted, flushed, failed over to, or given slots",
);
pub const STORE_LOSSES: Family = counter(
    "redis_expiry_store_losses",
    "How often the store had lost more of what it had acknowledged than is kept to make it good; all is then looked at anew",
);
pub const RESYNCS: Family = labelled(
    counter("redis_expiry_resyncs", "Scans of a node: whole after a gap, a loss or a move of slots, or periodic"),
    &["namespace", "name", "kind", "result"],
);
pub const RESYNC_KEYS: Family = counter("redis_expiry_resync_keys", "Keys that those scans looked at");
pub const RESYNC_FOUND: Family = counter(
    "redis_expiry_resync_found",
    "Keys that only a periodic scan found though no gap was known; each should have been told of",
);
pub const DROPPED_BY_PATTERN: Family = counter(
    "redis_expiry_dropped_by_pattern",
    "Ledger entries dropped because a changed keyPattern no longer covers them",
);

// Its store.
pub const STORE_CALL: Family = labelled(
    histogram("redis_expiry_store_call_seconds", "From a call of the store to its answer"),
    &["namespace", "name", "call"],
);
pub const STORE_ERRORS: Family = labelled(
    counter("redis_expiry_store_errors", "Calls that the store refused, by category"),
    &["namespace", "name", "category"],
);
pub const STORE_ERROR: Family = labelled(
    gauge("redis_expiry_store_error", "1 while the store takes nothing, or cannot be opened, by category; else absent"),
    &["namespace", "name", "category"],
);
pub const HELD_KEYS: Family = gauge("redis_expiry_held_keys", "Keys held in memory because the store takes nothing");
pub const HELD_OUTCOMES: Family = gauge(
    "redis_expiry_held_outcomes",
    "Outcomes of deliveries held in memory because the store does not have them yet",
);

// Its delivery.
pub const OUTBOX: Family = gauge("redis_expiry_outbox_events", "Events that wait to be delivered");
pub const OUTBOX_AGE: Family =
    gauge("redis_expiry_outbox_oldest_age_seconds", "How long the oldest of them has waited; 0 if there is none");
pub const DEAD_LETTERS: Family = gauge("redis_expiry_dead_letters", "Events that are parked");
pub const DEAD_LETTERED: Family = counter("redis_expiry_dead_lettered", "Events given up and parked");
pub const ATTEMPTS: Family = labelled(
    counter("redis_expiry_attempts", "Attempts to deliver, by what came of them"),
    &["namespace", "name", "outcome"],
);
pub const ATTEMPTS_IN_FLIGHT: Family = gauge("redis_expiry_attempts_in_flight", "Attempts under way");
pub const ATTEMPT_TIME: Family =
    histogram("redis_expiry_webhook_seconds", "From the start of an attempt to its answer, or to giving it up");
pub const DELIVERY_TIME: Family =
    histogram("redis_expiry_delivery_seconds", "From the settle of an event to the first 2xx");
pub const CONSECUTIVE_FAILURES: Family =
    gauge("redis_expiry_consecutive_failures", "Failed attempts since the last 2xx");
pub const DELIVERY_PAUSED: Family = gauge(
    "redis_expiry_delivery_paused",
    "1 if something is not sent though it could be: the receiver answered 410, the webhook cannot be used, or the store takes no outcomes",
);
pub const LAST_DELIVERED: Family =
    gauge("redis_expiry_last_delivered_timestamp_seconds", "When the last event was delivered; absent if none was");

// The process.
pub const BUILD: Family =
    family("redis_expiry_build_info", Kind::Gauge, &["version"], "Always 1; its label is the version");
pub const LISTENERS: Family = family(
    "redis_expiry_listeners",
    Kind::Gauge,
    &["ready"],
    "Listeners that run in this process, by whether they are ready",
);
pub const OWNED: Family =
    family("redis_expiry_listeners_owned", Kind::Gauge, &[], "Listeners that run in this process");
pub const WATCHED: Family = operator(family(
    "redis_expiry_listeners_watched",
    Kind::Gauge,
    &[],
    "RedisExpiryListeners that this replica sees, whoever owns them",
));
pub const REPLICAS: Family =
    operator(family("redis_expiry_replicas", Kind::Gauge, &[], "Replicas with a live Lease, as this one sees them"));
pub const RECONCILES: Family =
    operator(family("redis_expiry_reconciles", Kind::Counter, &["result"], "Reconciles, by how they went"));
pub const CONDITION: Family = operator(family(
    "redis_expiry_listener_condition",
    Kind::Gauge,
    &["namespace", "name", "condition", "status", "reason"],
    "1 for each condition of a listener of this replica's, with the status and the reason that its status has or is to have",
));
pub const TASKS: Family = process(
    "redis_expiry_tasks",
    Kind::Gauge,
    "Tasks of the process that have not ended; a number that grows is a leak",
);
pub const CPU: Family = process("process_cpu_seconds", Kind::Counter, "CPU time, of the user and of the system");
pub const MEMORY: Family = process("process_resident_memory_bytes", Kind::Gauge, "Memory that is resident");
pub const OPEN_FILES: Family = process("process_open_fds", Kind::Gauge, "Open file descriptors");
pub const MOST_FILES: Family = process("process_max_fds", Kind::Gauge, "How many may be open");
pub const STARTED: Family = process("process_start_time_seconds", Kind::Gauge, "When the process started");

/// All of them by what they are about, as they are shown and documented.
pub const SECTIONS: &[(&str, &[Family])] = &[
    ("A listener", &[READY, CONDITION, HELD, MASTERS, SUBSCRIBED_MASTERS, TOPOLOGY_FAILING, TOPOLOGY_ERRORS, PATTERNS]),
    (
        "Its ledger",
        &[
            TRACKED,
            LOOKS,
            LOOKS_IN_FLIGHT,
            SETTLED,
            LATENESS,
            GAPS,
            LOSSES,
            STORE_LOSSES,
            RESYNCS,
            RESYNC_KEYS,
            RESYNC_FOUND,
            DROPPED_BY_PATTERN,
        ],
    ),
    ("Its store", &[STORE_CALL, STORE_ERRORS, STORE_ERROR, HELD_KEYS, HELD_OUTCOMES]),
    (
        "Its delivery",
        &[
            OUTBOX,
            OUTBOX_AGE,
            DEAD_LETTERS,
            DEAD_LETTERED,
            ATTEMPTS,
            ATTEMPTS_IN_FLIGHT,
            ATTEMPT_TIME,
            DELIVERY_TIME,
            CONSECUTIVE_FAILURES,
            DELIVERY_PAUSED,
            LAST_DELIVERED,
        ],
    ),
    ("Its nodes", &[NODE_SUBSCRIBED, NODE_NOTIFICATIONS, NODE_TRACKING, NODE_CLOCK_OFFSET]),
    ("The operator", &[BUILD, LISTENERS, OWNED, WATCHED, REPLICAS, RECONCILES]),
    ("The process", &[TASKS, CPU, MEMORY, OPEN_FILES, MOST_FILES, STARTED]),
];

pub fn all() -> impl Iterator<Item = &'static Family> {
    SECTIONS.iter().flat_map(|(_, families)| *families)
}
