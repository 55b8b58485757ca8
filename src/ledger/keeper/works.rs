//! Looks that were judged, on their way to the store. Pure.

use std::collections::BTreeMap;

use crate::{
    deployment::Look,
    ledger::Again,
    model::{Key, Millis},
    store::{Change, Known, Seen},
};

/// Looks whose changes are made together.
#[derive(Default)]
pub(super) struct Works {
    pub keys: Vec<Work>,
    pub changes: Vec<Change>,
    /// How many works are in it that the store had refused. Their events were handed out already.
    pub refused: usize,
    /// The keys of what the store had refused: of those nothing is judged until it is durable.
    pub owed: Vec<Key>,
    /// The store has lost it once: whatever came of the keys is looked at anew when it is done.
    pub relook: bool,
}

pub(super) struct Work {
    pub key: Key,
    /// Which of the changes are this key's.
    pub changes: std::ops::Range<usize>,
    pub again: Again,
    pub entry: Option<Seen>,
    /// It is gone, and its entry is not.
    pub gone: bool,
    /// What it was judged by. Its evidence is used up: should the store hold another entry than we thought, the same look
    /// is judged once more. `None`: it was not looked at.
    pub judged: Option<(Look, Known)>,
}

impl Work {
    /// Nobody looked at the key; its changes are made whatever there is of it in memory.
    pub fn unseen(key: Key) -> Self {
        Self { key, changes: 0..0, again: Again::No, entry: None, gone: false, judged: None }
    }
}

impl Works {
    /// Puts a key's changes behind the others.
    pub fn add(&mut self, mut work: Work, changes: impl IntoIterator<Item = Change>) {
        let from = self.changes.len();
        self.changes.extend(changes);
        work.changes = from..self.changes.len();
        self.keys.push(work);
    }

    /// Those of some keys apart, and the others.
    pub fn divide(self, apart: impl Fn(&Key) -> bool) -> (Self, Self) {
        let (mut some, mut others) = (Self::default(), Self::default());
        for part in self.split(|key| usize::from(apart(key))) {
            let into = if part.keys.first().is_some_and(|work| apart(&work.key)) { &mut some } else { &mut others };
            *into = part;
        }
        (some, others)
    }

    /// Puts works that the store refused, too, behind these.
    pub fn absorb(&mut self, other: Self) {
        let Self { keys, changes, refused, owed, relook } = other;
        let from = self.changes.len();
        let moved = |range: &std::ops::Range<usize>| range.start + from..range.end + from;
        self.keys.extend(keys.into_iter().map(|work| Work { changes: moved(&work.changes), ..work }));
        self.changes.extend(changes);
        self.owed.extend(owed);
        self.refused += refused;
        self.relook |= relook;
    }

    /// Divides what was not refused by the partitions of the store: one that is away is not to hold up the keys of the others.
    pub fn split(self, partition_of: impl Fn(&Key) -> usize) -> Vec<Self> {
        let Self { keys, changes, relook, .. } = self;
        let mut parts: BTreeMap<usize, Self> = BTreeMap::new();
        let mut changes = changes.into_iter();
        // Each key's changes follow those of the key before it.
        for work in keys {
            let own = changes.by_ref().take(work.changes.len());
            let part = parts.entry(partition_of(&work.key)).or_default();
            part.add(work, own);
        }
        parts.into_values().map(|part| Self { relook, ..part }).collect()
    }

    /// Whether a key's changes are what the store has under it: then they were made, and only the answer was lost.
    pub fn is_made(&self, work: &Work, known: Known, epoch: crate::store::Epoch) -> bool {
        let remembered = |change: &Change| match change {
            Change::Settle { at, .. } | Change::Forget { at, .. } => Some(*at),
            Change::Record { .. } | Change::MarkAbsent { .. } => None,
        };
        let last: Option<Millis> = self.changes[work.changes.clone()].iter().filter_map(remembered).next_back();
        let memory = known.memory.filter(|memory| memory.epoch == epoch).map(|memory| memory.at);
        known.entry == work.entry && (last.is_none() || last == memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Epoch, Memory};

    const EPOCH: Epoch = Epoch(3);

    fn seen(deadline: i64) -> Seen {
        Seen { deadline: Millis(deadline), absent: false }
    }
    fn record(key: &str, deadline: i64) -> Change {
        Change::Record { key: key.into(), saw: None, deadline: Millis(deadline) }
    }
    fn forget(key: &str, at: i64) -> Change {
        Change::Forget { key: key.into(), saw: seen(5), at: Millis(at) }
    }

    #[test]
    fn each_partition_gets_its_own_keys_with_their_changes_in_order() {
        let mut works = Works { relook: true, ..Works::default() };
        works.add(Work::unseen("a".into()), [forget("a", 1), record("a", 2)]);
        works.add(Work::unseen("bb".into()), []);
        works.add(Work::unseen("c".into()), [record("c", 3)]);
        works.add(Work::unseen("dd".into()), [record("dd", 4)]);
        let parts = works.split(|key| key.as_bytes().len());
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].changes, [forget("a", 1), record("a", 2), record("c", 3)]);
        assert_eq!(parts[1].changes, [record("dd", 4)]);
        let ranges: Vec<_> = parts.iter().flat_map(|part| part.keys.iter().map(|work| work.changes.clone())).collect();
        assert_eq!(ranges, [0..2, 2..3, 0..0, 0..1]);
        assert!(parts.iter().all(|part| part.relook));
    }

    #[test]
    fn works_that_were_refused_one_after_the_other_are_made_again_in_that_order() {
        let refused = |key: &str, at: i64, relook: bool| {
            let mut works = Works { refused: 1, owed: vec![key.into()], relook, ..Works::default() };
            works.add(Work::unseen(key.into()), [record(key, at)]);
            works
        };
        let mut works = refused("a", 1, false);
        works.absorb(refused("b", 2, true));
        works.absorb(refused("a", 3, false));
        assert_eq!(works.changes, [record("a", 1), record("b", 2), record("a", 3)]);
        assert_eq!(works.keys.iter().map(|work| work.changes.clone()).collect::<Vec<_>>(), [0..1, 1..2, 2..3]);
        assert_eq!((works.refused, works.owed.len(), works.relook), (3, 3, true));
    }

    #[test]
    fn what_was_made_though_it_was_called_refused_is_known_by_its_entry_and_its_memory() {
        let mut works = Works::default();
        works.add(Work::unseen("a".into()), [forget("a", 70)]);
        works.add(Work { entry: Some(seen(9)), ..Work::unseen("b".into()) }, [record("b", 9)]);
        let memory = |at, epoch| Known { entry: None, memory: Some(Memory { at: Millis(at), epoch: Epoch(epoch) }) };
        let made = |place: usize, known| works.is_made(&works.keys[place], known, EPOCH);
        assert!(made(0, memory(70, 3)));
        // Of another time, another owner, or not there: it was not this one.
        assert!(!made(0, memory(69, 3)) && !made(0, memory(70, 2)) && !made(0, Known::default()));
        assert!(!made(0, Known { entry: Some(seen(5)), ..memory(70, 3) }));
        assert!(made(1, Known { entry: Some(seen(9)), memory: None }) && !made(1, Known::default()));
    }
}
