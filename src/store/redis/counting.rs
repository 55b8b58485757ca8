//! How much a store holds, kept while nothing changes it: whoever runs a listener counts it each second, and one of many that has
//! nothing to do is to cost neither its Redis nor this process anything.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::store::Counts;

/// What was counted, of a partition or of all, is counted again after this, should it not be what we think.
pub(super) const COUNTED: Duration = Duration::from_secs(600);

pub(super) struct Counting {
    /// Grows with whatever may change a count.
    changes: AtomicU64,
    /// Partitions whose count is not known to be ours: another owner's writes we do not see.
    unknown: AtomicUsize,
    found: Mutex<Option<Found>>,
}

struct Found {
    changes: u64,
    at: Instant,
    counts: Counts,
}

impl Counting {
    pub fn new(partitions: usize) -> Self {
        Self { changes: AtomicU64::new(0), unknown: AtomicUsize::new(partitions), found: Mutex::default() }
    }

    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Something is to be written.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// A partition is known by its count, or is so no more.
    pub fn known(&self, before: bool, now: bool) {
        match (before, now) {
            (false, true) => {
                self.unknown.fetch_sub(1, Ordering::AcqRel);
            }
            (true, false) => {
                self.unknown.fetch_add(1, Ordering::AcqRel);
            }
            _ => {}
        }
        if !now {
            self.changed();
        }
    }

    /// What was counted, if nothing has changed since.
    pub fn found(&self) -> Option<Counts> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let valid = |found: &&Found| found.changes == self.changes() && found.at.elapsed() < COUNTED;
        found.as_ref().filter(valid).map(|found| found.counts)
    }

    /// `changes`: as they were before it was counted.
    pub fn keep(&self, changes: u64, counts: Counts) {
        if self.unknown.load(Ordering::Acquire) == 0 {
            let found = Found { changes, at: Instant::now(), counts };
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_kept_until_something_changes_and_only_where_every_partition_is_ours() {
        let counting = Counting::new(2);
        let seven = Counts { tracked: 7, ..Counts::default() };
        let keep = |counting: &Counting| counting.keep(counting.changes(), seven);
        counting.known(false, true);
        keep(&counting);
        assert_eq!(counting.found(), None, "one partition may be another's");
        counting.known(false, true);
        keep(&counting);
        assert_eq!(counting.found(), Some(seven));
        counting.changed();
        assert_eq!(counting.found(), None);
        let before = counting.changes();
        counting.changed();
        counting.keep(before, seven);
        assert_eq!(counting.found(), None, "it was written to meanwhile");
        keep(&counting);
        counting.known(true, false);
        keep(&counting);
        assert_eq!(counting.found(), None);
        counting.known(false, false);
        counting.known(false, true);
        keep(&counting);
        assert_eq!(counting.found(), Some(seven));
    }
}
