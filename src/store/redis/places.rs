//! Numbers that tell which came first. Pure but for the clock it begins with.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::record::PLACE;
use crate::{
    model::{Deadline, Millis},
    store::{Epoch, MEMORY_MS, Memory},
};

/// Counts what is appended. It begins with the time in microseconds, so that it goes on behind an earlier process's.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn from_clock() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(AtomicU64::new(u64::try_from(since.as_micros()).unwrap_or_default()))
    }
    pub fn next(&self) -> [u8; 8] {
        self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }
    pub fn place(&self) -> [u8; PLACE] {
        let mut place = [0; PLACE];
        place[..8].copy_from_slice(&self.next());
        place
    }
}

/// The newest time that a memory was given, by which others are told to be old.
pub struct Newest(AtomicI64);

impl Newest {
    pub fn new() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
    pub fn saw(&self, at: Millis) {
        self.0.fetch_max(at.0, Ordering::Relaxed);
    }
    /// A memory from before this may go.
    pub fn bound(&self) -> Millis {
        Millis(self.0.load(Ordering::Relaxed)).plus(-MEMORY_MS)
    }
}

/// Scores are doubles: whole numbers up to this are exact.
const EXACT: i64 = 1 << 53;
/// So many owners are told apart in a memory. The millisecond has the other 42 bits: until the year 2109.
const OWNERS: i64 = 1 << 11;

/// A deadline as a score. One beyond the year 287396 counts as that: for comparing and for finding it is the same one.
pub fn deadline_score(deadline: Deadline) -> i64 {
    deadline.0.clamp(-EXACT, EXACT)
}

/// When something was remembered and by whom, in one score: sorted by when.
pub fn memory_score(at: Millis, epoch: Epoch) -> i64 {
    at.0.clamp(0, EXACT / OWNERS - 1) * OWNERS + i64::try_from(epoch.0 % OWNERS.unsigned_abs()).unwrap_or(0)
}

/// What [`memory_score`] says, where `newest` is about the newest epoch.
pub fn memory_of(score: i64, newest: Epoch) -> Memory {
    let (at, owner) = (score.div_euclid(OWNERS), score.rem_euclid(OWNERS));
    // The one nearest to the newest that ends like this.
    let newest = i64::try_from(newest.0).unwrap_or(i64::MAX);
    let behind = (newest - owner).rem_euclid(OWNERS);
    let near = newest - behind;
    let epoch = if behind > OWNERS / 2 || near < 0 { near + OWNERS } else { near };
    Memory { at: Millis(at), epoch: Epoch(epoch.unsigned_abs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_tells_when_and_by_whom() {
        for (epoch, newest) in [(0, 0), (0, 5), (4, 5), (99, 2), (2_047, 2_050), (10_000, 10_001), (2_050, 2_040)] {
            let score = memory_score(Millis(1_795_328_020_119), Epoch(epoch));
            let expected = Memory { at: Millis(1_795_328_020_119), epoch: Epoch(epoch) };
            assert_eq!(memory_of(score, Epoch(newest)), expected, "{epoch} where {newest} is the newest");
            assert!(score < EXACT);
        }
        assert!(memory_score(Millis(7), Epoch(2_047)) < memory_score(Millis(8), Epoch(0)));
    }

    #[test]
    fn places_follow_each_other() {
        let counter = Counter::from_clock();
        let places = [counter.place(), counter.place(), counter.place()];
        assert!(places.is_sorted() && places[0] != places[1]);
    }
}
