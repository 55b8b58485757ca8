//! What the stages count of themselves: plain atomics, one [`Meters`] a listener, rendered by telemetry.
//!
//! A leaf, so that every stage may count: it knows the vocabulary and nothing else. No registry, nothing global: when a
//! listener leaves, its meters leave with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

mod atomics;
mod histogram;
mod labels;

pub use atomics::{Counter, Gauge, Label, Table};
pub use histogram::{Histogram, Reading};
pub use labels::{Attempt, Call, Ended, Looked, Outcome, StoreFault};

use crate::model::{Evidence, ListenerId};

/// One listener's. Equal only to itself: what was counted is no change of a listener's state.
#[derive(Debug, Default)]
pub struct Meters {
    pub ledger: Ledger,
    pub delivery: Delivery,
    pub store: Store,
    /// How often the topology turned wrong.
    pub topology_errors: Counter,
}

impl PartialEq for Meters {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for Meters {}

#[derive(Debug)]
pub struct Ledger {
    /// Looks at keys, by what came of them.
    pub looks: Table<Looked>,
    pub settled: Table<Evidence>,
    /// From the deadline, by its owner's clock, to the settle.
    pub lateness: Histogram,
    pub gaps: Counter,
    /// Resyncs that could not take a node's data for what it was before.
    pub losses: Counter,
    /// How often the store had lost more of what it had acknowledged than it could make good.
    pub store_losses: Counter,
    /// Resyncs after a gap, a loss or a move of slots, by how they ended; and periodic ones.
    pub resyncs: Table<Ended>,
    pub periodic: Table<Ended>,
    /// Keys that they looked at.
    pub resync_keys: Counter,
    /// Keys that only a periodic scan found.
    pub resync_found: Counter,
    pub dropped_by_pattern: Counter,
    /// Keys that are held in memory because the store takes nothing.
    pub held: Gauge,
    pub in_flight: Gauge,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            looks: Table::default(),
            settled: Table::default(),
            lateness: Histogram::new(&LATENESS),
            gaps: Counter::default(),
            losses: Counter::default(),
            store_losses: Counter::default(),
            resyncs: Table::default(),
            periodic: Table::default(),
            resync_keys: Counter::default(),
            resync_found: Counter::default(),
            dropped_by_pattern: Counter::default(),
            held: Gauge::default(),
            in_flight: Gauge::default(),
        }
    }
}

#[derive(Debug)]
pub struct Delivery {
    pub attempts: Table<Attempt>,
    /// From the start of an attempt to its answer, or to giving it up.
    pub attempt_time: Histogram,
    /// From the settle to the 2xx.
    pub delivery_time: Histogram,
    pub dead_lettered: Counter,
    /// Outcomes that are held in memory because the store does not have them yet.
    pub unstored: Gauge,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            attempts: Table::default(),
            attempt_time: Histogram::new(&CALL),
            delivery_time: Histogram::new(&LATENESS),
            dead_lettered: Counter::default(),
            unstored: Gauge::default(),
        }
    }
}

#[derive(Debug)]
pub struct Store {
    pub reads: Histogram,
    pub writes: Histogram,
    pub errors: Table<StoreFault>,
}

impl Default for Store {
    fn default() -> Self {
        Self { reads: Histogram::new(&CALL), writes: Histogram::new(&CALL), errors: Table::default() }
    }
}

impl Store {
    pub fn time(&self, call: Call) -> &Histogram {
        match call {
            Call::Read => &self.reads,
            Call::Write => &self.writes,
        }
    }
}

/// What an operator counts beside its listeners; `run` has none.
#[derive(Debug, Default)]
pub struct Operator {
    /// Listeners that are watched, whoever owns them.
    pub watched: Gauge,
    /// Replicas with a live Lease, as this one sees them.
    pub replicas: Gauge,
    pub reconciles: Table<Outcome>,
    pub conditions: Conditions,
}

/// What the statuses say of the listeners that are ours.
#[derive(Debug, Default)]
pub struct Conditions(Mutex<BTreeMap<ListenerId, Vec<Said>>>);

/// One condition, as it is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub condition: String,
    pub status: String,
    pub reason: String,
}

impl Conditions {
    pub fn say(&self, listener: &ListenerId, said: Vec<Said>) {
        self.all().insert(listener.clone(), said);
    }
    /// It is not ours any more.
    pub fn forget(&self, listener: &ListenerId) {
        self.all().remove(listener);
    }
    pub fn read(&self) -> BTreeMap<ListenerId, Vec<Said>> {
        self.all().clone()
    }
    fn all(&self) -> MutexGuard<'_, BTreeMap<ListenerId, Vec<Said>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared by a listener's stages.
pub type Shared = Arc<Meters>;

/// Bounds in microseconds: dense where 2xx within 5 ms of the deadline is told from within 50 ms, up to an hour's outage.
static LATENESS: [u64; 14] = [
    1_000,
    2_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
];
/// Of a call to a webhook or a store, which has a limit of seconds.
static CALL: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000, 10_000_000];
