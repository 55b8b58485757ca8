//! The ledger: what is due, and when a key was last settled or forgotten.

use std::ops::Bound;

use super::state::State;
use crate::{
    model::{Key, Millis},
    store::{Change, DueCursor, Entry, Epoch, Known, MEMORY_MS, Memory, Seen},
};

impl State {
    pub fn known(&self, key: &Key) -> Known {
        self.keys.get(key).copied().unwrap_or_default()
    }

    pub fn due(&self, after: Option<DueCursor>, limit: usize) -> Vec<Entry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let cursors = self.due.range((from, Bound::Unbounded)).take(limit);
        cursors.filter_map(|(_, key)| self.known(key).entry.map(|seen| Entry { key: key.clone(), seen })).collect()
    }

    pub fn apply(&mut self, epoch: Epoch, changes: Vec<Change>) -> Vec<bool> {
        changes.into_iter().map(|change| self.change(epoch, change)).collect()
    }

    fn change(&mut self, epoch: Epoch, change: Change) -> bool {
        let saw = match &change {
            Change::Record { saw, .. } | Change::Settle { saw, .. } => *saw,
            Change::Forget { saw, .. } | Change::MarkAbsent { saw, .. } => Some(*saw),
        };
        if self.known(change.key()).entry != saw {
            return false;
        }
        match change {
            Change::Record { key, deadline, .. } => self.put(key, Some(Seen { deadline, absent: false })),
            Change::MarkAbsent { key, saw } => self.put(key, Some(Seen { absent: true, ..saw })),
            Change::Forget { key, at, .. } => self.remove(key, Memory { at, epoch }),
            Change::Settle { event, at, .. } => {
                self.remove(event.key.clone(), Memory { at, epoch });
                self.append(event);
            }
        }
        true
    }

    pub fn lose(&mut self, key: &Key) {
        self.put(key.clone(), None);
        if let Some(memory) = self.keys.remove(key).and_then(|known| known.memory) {
            self.remembered.remove(&(memory.at, key.clone()));
        }
    }

    fn put(&mut self, key: Key, entry: Option<Seen>) {
        let known = self.keys.entry(key.clone()).or_default();
        if let Some(old) = std::mem::replace(&mut known.entry, entry) {
            self.due.remove(&(old.deadline, key.clone()));
        }
        if let Some(new) = entry {
            self.due.insert((new.deadline, key));
        }
    }

    fn remove(&mut self, key: Key, memory: Memory) {
        self.put(key.clone(), None);
        let known = self.keys.entry(key.clone()).or_default();
        if let Some(old) = known.memory.replace(memory) {
            self.remembered.remove(&(old.at, key.clone()));
        }
        self.remembered.insert((memory.at, key));
        self.prune(memory.at);
    }

    /// Forgets the memories that are older than they need to be.
    fn prune(&mut self, now: Millis) {
        while let Some((at, _)) = self.remembered.first()
            && *at < now.plus(-MEMORY_MS)
            && let Some((_, key)) = self.remembered.pop_first()
        {
            match self.keys.get_mut(&key) {
                Some(known) if known.entry.is_some() => known.memory = None,
                _ => drop(self.keys.remove(&key)),
            }
        }
    }

    /// Drops entries, memories and node states: all that was said of one deployment.
    pub fn discard_ledger(&mut self) -> u64 {
        let entries = self.due.len() as u64;
        self.keys.clear();
        self.due.clear();
        self.remembered.clear();
        self.nodes.clear();
        entries
    }
}
