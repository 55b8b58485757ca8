//! The maps, and the orders in which they are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    model::{EventId, Key, KeyMap, Millis, NodeId},
    store::{Counts, DeadLetter, DueCursor, Epoch, Known, Losses, NodeState, Pending, StoreError},
};

/// Where an event stands in the outbox: in the order of appending.
pub(super) type Place = u64;

#[derive(Default)]
pub(super) struct State {
    pub closed: bool,
    /// The newest epoch taken; 0 before the first.
    pub epoch: u64,
    pub keys: KeyMap<Known>,
    /// The keys of `keys` that have an entry.
    pub due: BTreeSet<DueCursor>,
    /// The keys of `keys` that have a memory.
    pub remembered: BTreeSet<(Millis, Key)>,
    pub outbox: BTreeMap<Place, Pending>,
    pub places: HashMap<EventId, Place>,
    /// The order of `pending`: (tried, when it was settled or `not_before`, place).
    pub order: BTreeSet<(bool, Millis, Place)>,
    pub soonest: BTreeSet<(Millis, Place)>,
    pub oldest: BTreeSet<(Millis, Place)>,
    pub last_delivered: Option<Millis>,
    pub parked: BTreeMap<(Millis, EventId), DeadLetter>,
    pub parked_at: HashMap<EventId, Millis>,
    pub nodes: BTreeMap<NodeId, NodeState>,
    pub meta: HashMap<&'static str, String>,
    pub losses: Losses,
}

impl State {
    /// Refuses an owner that another has followed.
    pub fn fence(&self, mine: Epoch) -> Result<(), StoreError> {
        let newest = Epoch(self.epoch);
        if mine < newest { Err(StoreError::Fenced { mine, newest }) } else { Ok(()) }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            tracked: self.due.len() as u64,
            pending: self.outbox.len() as u64,
            dead_letters: self.parked.len() as u64,
            oldest_pending: self.oldest.first().map(|(settled_at, _)| *settled_at),
            last_delivered: self.last_delivered,
        }
    }
}
