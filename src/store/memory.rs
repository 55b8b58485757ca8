//! A store in maps, for tests and for users who accept that a restart forgets it.
//!
//! What it answers is what [`super::sqlite`] answers; `done` and `durable` are ready at once.

use std::{
    future::ready,
    sync::{Mutex, PoisonError},
};

use self::state::State;
use super::{
    Applying, Change, Counts, DeadLetter, Delivery, DueCursor, Durability, Entry, Epoch, Known, Losses, NodeState,
    Pending, Reply, Selection, Store, StoreError,
};
use crate::model::{EventId, Key, Millis, NodeId};

mod ledger;
mod outbox;
mod state;

#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// For tests: a failover of what a store lies in. `keys` are as if it had never heard of them, and it says that it has found
    /// so many losses.
    pub fn lose(&self, keys: &[Key], losses: Losses) {
        let _ = self.now(|state| {
            for key in keys {
                state.lose(key);
            }
            state.losses = losses;
            Ok(())
        });
    }

    fn now<T>(&self, work: impl FnOnce(&mut State) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // No step panics between two writes that belong together.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(StoreError::Closed) } else { work(&mut state) }
    }

    fn read<T: Send + 'static>(&self, ask: impl FnOnce(&State) -> T) -> Reply<T> {
        Box::pin(ready(self.now(|state| Ok(ask(state)))))
    }

    fn write<T: Send + 'static>(&self, epoch: Epoch, work: impl FnOnce(&mut State) -> T) -> Reply<T> {
        Box::pin(ready(self.now(|state| {
            state.fence(epoch)?;
            Ok(work(state))
        })))
    }
}

impl Store for MemoryStore {
    fn take_epoch(&self) -> Reply<Epoch> {
        Box::pin(ready(self.now(|state| {
            state.epoch += 1;
            Ok(Epoch(state.epoch))
        })))
    }

    fn known(&self, keys: Vec<Key>) -> Reply<Vec<Known>> {
        self.read(|state| keys.iter().map(|key| state.known(key)).collect())
    }
    fn due(&self, after: Option<DueCursor>, limit: usize) -> Reply<Vec<Entry>> {
        self.read(|state| state.due(after, limit))
    }
    fn apply(&self, epoch: Epoch, changes: Vec<Change>) -> Applying {
        let done = self.now(|state| {
            state.fence(epoch)?;
            Ok(state.apply(epoch, changes))
        });
        let durable = done.as_ref().map(|_| ()).map_err(StoreError::clone);
        Applying { done: Box::pin(ready(done)), durable: Box::pin(ready(durable)) }
    }

    fn pending(&self, by: Millis, but: Vec<EventId>, limit: usize) -> Reply<Vec<Pending>> {
        self.read(|state| state.pending(by, &but, limit))
    }
    fn next_pending(&self, but: Vec<EventId>) -> Reply<Option<Millis>> {
        self.read(|state| state.next_pending(&but))
    }
    fn delivered(&self, epoch: Epoch, outcomes: Vec<Delivery>) -> Reply<()> {
        self.write(epoch, |state| outcomes.into_iter().for_each(|outcome| state.delivered(outcome)))
    }

    fn dead_letters(&self, after: Option<(Millis, EventId)>, limit: usize) -> Reply<Vec<DeadLetter>> {
        self.read(|state| state.dead_letters(after, limit))
    }
    fn replay(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        self.write(epoch, |state| state.replay(which))
    }
    fn purge(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        self.write(epoch, |state| state.take_parked(which).len() as u64)
    }

    fn node_states(&self) -> Reply<Vec<NodeState>> {
        self.read(|state| state.nodes.values().cloned().collect())
    }
    fn remember_node(&self, epoch: Epoch, node: NodeState) -> Reply<()> {
        self.write(epoch, |state| drop(state.nodes.insert(node.node.clone(), node)))
    }
    fn forget_node(&self, epoch: Epoch, node: NodeId) -> Reply<()> {
        self.write(epoch, |state| drop(state.nodes.remove(&node)))
    }

    fn meta(&self, name: &'static str) -> Reply<Option<String>> {
        self.read(|state| state.meta.get(name).cloned())
    }
    fn set_meta(&self, epoch: Epoch, name: &'static str, value: String) -> Reply<()> {
        self.write(epoch, |state| drop(state.meta.insert(name, value)))
    }
    fn discard_ledger(&self, epoch: Epoch) -> Reply<u64> {
        self.write(epoch, State::discard_ledger)
    }

    fn losses(&self) -> Losses {
        self.now(|state| Ok(state.losses)).unwrap_or_default()
    }
    fn counts(&self) -> Reply<Counts> {
        self.read(State::counts)
    }
    fn durability(&self) -> Reply<Durability> {
        let volatile = Durability::Volatile {
            reason: "the store is in the memory of this process, and a restart forgets what waits for its delivery"
                .into(),
            fix: "set spec.store.type to Redis or Local".into(),
        };
        self.read(|_| volatile)
    }
    fn destroy(&self, epoch: Epoch) -> Reply<()> {
        self.write(epoch, |state| *state = State { epoch: state.epoch, closed: true, ..State::default() })
    }
    fn close(&self) -> Reply<()> {
        Box::pin(ready(self.now(|state| {
            state.closed = true;
            Ok(())
        })))
    }
}
