//! What is done when the store holds another entry than it was thought to: a failover has taken back what it had acknowledged,
//! and more than it could make good itself. What this process knows is the truth then, and the store is told it again.

use std::collections::VecDeque;

use super::{
    Done, Keeper, Purpose, TOGETHER,
    works::{Work, Works},
};
use crate::{
    clock,
    ledger::{Again, Judgement, judge},
    model::Key,
    store::{Change, Known, Losses, Seen, StoreError, meta},
};

/// What a store that loses something gets back.
#[derive(Default)]
pub(super) struct Restoring {
    /// Those that were dealt with.
    losses: Losses,
    /// Some entry is or was marked absent.
    pub marked: bool,
    /// Keys of the book that are to be compared with the store.
    keys: VecDeque<Key>,
    comparing: bool,
}

impl Restoring {
    pub fn after(losses: Losses) -> Self {
        Self { losses, ..Self::default() }
    }
}

impl Keeper {
    /// The store refused their changes: the same looks are judged again, by what it has.
    pub(super) fn judge_again(&mut self, works: Works) {
        let known = self.store.known(works.keys.iter().map(|work| work.key.clone()).collect());
        self.waiting.push(Box::pin(async move { Done::Refused(works, known.await) }));
    }

    pub(super) fn known_again(&mut self, refused: &Works, known: Vec<Known>) {
        let at = clock::now();
        let has_lost = self.store.losses().count > 0;
        let mut works = Works { relook: true, ..Works::default() };
        for (place, known) in known.into_iter().enumerate() {
            let work = &refused.keys[place];
            let (key, again, entry, gone) = (work.key.clone(), work.again, work.entry, work.gone);
            let made = refused.is_made(work, known, self.epoch());
            match &work.judged {
                Some((look, believed)) if !made => {
                    let purpose = self.purpose(look);
                    // What we knew of it holds where the store has lost something. Elsewhere, and where we knew nothing, the store
                    // knows better.
                    let entry = believed.entry.filter(|_| has_lost).or(known.entry);
                    let believed = Known { entry, memory: known.memory };
                    let Judgement { changes, again, entry } = judge(&self.settings.naming, believed, look, purpose, at);
                    let judged = Some((look.clone(), believed));
                    let work = Work { key: key.clone(), changes: 0..0, again, entry, gone, judged };
                    works.add(work, repair(&key, known.entry, believed.entry).into_iter().chain(changes));
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
        let epoch = self.epoch();
        let pattern = self.settings.pattern.encoded();
        drop(self.store.set_meta(epoch, meta::DEPLOYMENT, self.identity.write()));
        drop(self.store.set_meta(epoch, meta::PATTERN, pattern));
        // A mark that an entry is absent may be lost, and with it what tells an evicted key from a deleted one: then what is gone
        // must not be forgotten.
        if self.restoring.marked || losses.before_us != before_us {
            for node in self.view.nodes.keys() {
                drop(self.store.forget_node(epoch, node.clone()));
            }
        }
        self.fresh = false;
        self.synced.clear();
        self.resyncing.values().for_each(|running| running.stop.cancel());
        self.book.read_anew_soon();
        self.restoring.keys = self.book.recorded().collect();
        self.compare_some();
    }

    /// Asks for what the store has under some keys that it should have: those in flight are left for later.
    pub(super) fn compare_some(&mut self) {
        if self.restoring.comparing {
            return;
        }
        let mut entries = Vec::new();
        for _ in 0..self.restoring.keys.len().min(TOGETHER.min(self.room())) {
            let Some(key) = self.restoring.keys.pop_front() else { break };
            if self.book.is_in_flight(&key) {
                self.restoring.keys.push_back(key);
            } else if let Some(seen) = self.book.seen(&key) {
                self.book.want(&key, Purpose::Ordinary, None);
                entries.push((key, seen));
            }
        }
        if !entries.is_empty() {
            self.restoring.comparing = true;
            self.compare(entries);
        }
    }

    pub(super) fn compare(&mut self, entries: Vec<(Key, Seen)>) {
        let known = self.store.known(entries.iter().map(|(key, _)| key.clone()).collect());
        self.waiting.push(Box::pin(async move { Done::Compared(entries, known.await) }));
    }

    pub(super) fn compared(
        &mut self,
        entries: Vec<(Key, Seen)>,
        known: Result<Vec<Known>, StoreError>,
    ) -> Option<StoreError> {
        let known = match known {
            Ok(known) => known,
            Err(error) => {
                self.later(Done::Compare(entries));
                return Some(error);
            }
        };
        self.restoring.comparing = false;
        let mut works = Works::default();
        for ((key, seen), known) in entries.into_iter().zip(known) {
            let repaired = repair(&key, known.entry, Some(seen));
            let work = Work { again: Again::At(seen.deadline), entry: Some(seen), ..Work::unseen(key) };
            works.add(work, repaired);
        }
        self.apply_each(works);
        self.compare_some();
        None
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
