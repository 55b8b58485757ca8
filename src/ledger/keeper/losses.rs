//! What is done when the store holds another entry than it was thought to: a failover has taken back what it had acknowledged,
//! and more than it could make good itself. What this process knows is the truth then, and the store is told it again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Behind, Done, Keeper, Purpose, TOGETHER,
    works::{Work, Works},
};
use crate::{
    clock,
    ledger::{Again, Judgement, judge},
    model::Key,
    store::{Change, Known, Losses, Seen, meta},
};

/// What a store that loses something gets back.
#[derive(Default)]
pub(super) struct Restoring {
    /// Those that were dealt with.
    losses: Losses,
    /// Some entry is or was marked absent.
    pub marked: bool,
    /// Losses of which the store was not yet told what it should know of us: no master is scanned before.
    pub untold: usize,
    /// Keys of the book that are to be compared with the store, by its partitions, and those where some are.
    keys: BTreeMap<usize, VecDeque<Key>>,
    comparing: BTreeSet<usize>,
}

/// Entries of one partition that the store should have.
pub(super) struct Compare {
    pub partition: usize,
    entries: Vec<(Key, Seen)>,
}

impl Restoring {
    pub fn after(losses: Losses) -> Self {
        Self { losses, ..Self::default() }
    }

    /// Nothing is still to be told or compared.
    pub fn is_done(&self) -> bool {
        self.untold == 0 && self.keys.is_empty() && self.comparing.is_empty()
    }
}

impl Keeper {
    /// The store refused their changes: the same looks are judged again, by what it has.
    pub(super) fn judge_again(&mut self, works: Works) {
        let partition = self.partition_of(works.keys.iter().map(|work| &work.key));
        if let Some(works) = self.undurable.wait(partition, Behind::Works(works)) {
            self.resume(works);
        }
    }

    pub(super) fn judge_again_now(&mut self, works: Works) {
        // What the store has of those is not what it is to have.
        let (owed, works) = works.divide(|key| self.owed.contains_key(key));
        if !owed.keys.is_empty() {
            self.later(Done::JudgeAgain(owed));
        }
        if works.keys.is_empty() {
            return;
        }
        let known = self.store.known(works.keys.iter().map(|work| work.key.clone()).collect());
        self.waiting.push(Box::pin(async move { Done::Refused(works, known.await) }));
    }

    pub(super) fn known_again(&mut self, mut refused: Works, known: Vec<Known>) {
        let at = clock::now();
        let has_lost = self.store.losses().count > 0;
        let mut works = Works::default();
        for (work, known) in std::mem::take(&mut refused.keys).into_iter().zip(known) {
            let knew = work.judged.as_ref().is_some_and(|(_, believed)| believed.entry.is_some());
            // Where nothing was lost, only we can have made of an entry that we knew what we wanted.
            let made = refused.is_made(&work, known, self.epoch()) || (!has_lost && knew && known.entry == work.entry);
            let Work { key, again, entry, gone, judged, .. } = work;
            match judged {
                Some((look, believed)) if !made => {
                    let purpose = self.purpose(&look);
                    // What we knew of it holds where the store has lost something. Elsewhere, and where we knew nothing, the store
                    // knows better.
                    let entry = believed.entry.filter(|_| has_lost).or(known.entry);
                    let believed = Known { entry, memory: known.memory };
                    let Judgement { changes, again, entry } =
                        judge(&self.settings.naming, believed, &look, purpose, at);
                    let repaired = repair(&key, known.entry, believed.entry);
                    let work = Work { key, changes: 0..0, again, entry, gone, judged: Some((look, believed)) };
                    works.add(work, repaired.into_iter().chain(changes));
                }
                _ => works.add(Work { key, changes: 0..0, again, entry, gone, judged: None }, []),
            }
        }
        self.apply_each(works);
    }

    /// The store has lost what it had acknowledged: nothing that it says is taken for whole until each master was scanned
    /// again, and it gets back what the book has.
    pub(super) fn look_for_losses(&mut self) {
        let losses = self.store.losses();
        if losses == self.restoring.losses {
            return;
        }
        let Losses { count, before_us } = std::mem::replace(&mut self.restoring.losses, losses);
        let more = losses.count.saturating_sub(count);
        self.stats.store_losses += more;
        self.meters.ledger.store_losses.add(more);
        tracing::error!(
            listener = %self.settings.naming.listener,
            "The store has lost what it had acknowledged: every master is scanned, and what is known is written anew."
        );
        self.fresh = false;
        self.synced.clear();
        self.resyncing.values().for_each(|running| running.stop.cancel());
        // A mark that an entry is absent may be lost, and with it what tells an evicted key from a deleted one: then what is gone
        // must not be forgotten.
        self.restoring.untold += 1;
        self.write_anew(self.restoring.marked || losses.before_us != before_us);
        self.book.read_anew_soon();
        let mut keys: BTreeMap<usize, VecDeque<Key>> = BTreeMap::new();
        for key in self.book.recorded() {
            keys.entry(self.store.partition_of(&key)).or_default().push_back(key);
        }
        self.restoring.keys = keys;
        self.compare_some();
    }

    /// Whose ledger it is, and what is known of its nodes: no master is scanned before the store has it.
    pub(super) fn write_anew(&mut self, distrust: bool) {
        let (epoch, pattern) = (self.epoch(), self.settings.pattern.encoded());
        let mut calls = vec![
            self.store.set_meta(epoch, meta::DEPLOYMENT, self.identity.write()),
            self.store.set_meta(epoch, meta::PATTERN, pattern),
        ];
        if distrust {
            calls.extend(self.view.nodes.keys().map(|node| self.store.forget_node(epoch, node.clone())));
        }
        self.waiting.push(Box::pin(async move {
            let mut written = Ok(());
            for call in calls {
                written = written.and(call.await);
            }
            Done::WrittenAnew(distrust, written)
        }));
    }

    pub(super) fn written_anew(&mut self) {
        self.restoring.untold -= 1;
        self.resync();
    }

    /// Asks for what the store has under some keys that it should have, of each partition apart; those in flight are left for
    /// later.
    pub(super) fn compare_some(&mut self) {
        let mut room = self.room();
        let mut keys = std::mem::take(&mut self.restoring.keys);
        for (partition, keys) in &mut keys {
            if self.restoring.comparing.contains(partition) {
                continue;
            }
            let mut entries = Vec::new();
            for _ in 0..keys.len().min(TOGETHER.min(room)) {
                let Some(key) = keys.pop_front() else { break };
                if self.book.is_in_flight(&key) {
                    keys.push_back(key);
                } else if let Some(seen) = self.book.seen(&key) {
                    self.book.want(&key, Purpose::Ordinary, None);
                    entries.push((key, seen));
                }
            }
            if !entries.is_empty() {
                room = room.saturating_sub(entries.len());
                self.restoring.comparing.insert(*partition);
                let compare = Compare { partition: *partition, entries };
                self.compare(compare);
            }
        }
        keys.retain(|_, keys| !keys.is_empty());
        self.restoring.keys = keys;
    }

    pub(super) fn compare(&mut self, compare: Compare) {
        let known = self.store.known(compare.entries.iter().map(|(key, _)| key.clone()).collect());
        self.waiting.push(Box::pin(async move { Done::Compared(compare, known.await) }));
    }

    pub(super) fn compared(&mut self, compare: Compare, known: Vec<Known>) {
        self.restoring.comparing.remove(&compare.partition);
        let mut works = Works::default();
        for ((key, seen), known) in compare.entries.into_iter().zip(known) {
            let repaired = repair(&key, known.entry, Some(seen));
            let work = Work { again: Again::At(seen.deadline), entry: Some(seen), ..Work::unseen(key) };
            works.add(work, repaired);
        }
        self.apply_each(works);
        self.compare_some();
    }
}

/// Makes what the store `has` under a key what it should have. Pure.
fn repair(key: &Key, has: Option<Seen>, should: Option<Seen>) -> Vec<Change> {
    let Some(seen) = should.filter(|_| has != should) else { return Vec::new() };
    let mut changes = vec![Change::Record { key: key.clone(), saw: has, deadline: seen.deadline }];
    if seen.absent {
        changes.push(Change::MarkAbsent { key: key.clone(), saw: Seen { absent: false, ..seen } });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Millis;

    #[test]
    fn what_the_store_has_lost_is_recorded_again_and_marked_if_it_was() {
        let key = Key::from("a");
        let seen = |deadline, absent| Some(Seen { deadline: Millis(deadline), absent });
        let record = |saw| Change::Record { key: key.clone(), saw, deadline: Millis(9) };
        assert_eq!(repair(&key, seen(9, false), seen(9, false)), []);
        assert_eq!(repair(&key, seen(9, false), None), []);
        assert_eq!(repair(&key, None, seen(9, false)), [record(None)]);
        assert_eq!(repair(&key, seen(5, true), seen(9, false)), [record(seen(5, true))]);
        let mark = Change::MarkAbsent { key: key.clone(), saw: seen(9, false).unwrap() };
        assert_eq!(repair(&key, None, seen(9, true)), [record(None), mark]);
    }
}
