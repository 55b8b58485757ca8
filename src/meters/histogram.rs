//! How long things take, in buckets that are fixed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Bounds and sum are in microseconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: the last is for what is beyond them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram at one moment, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The upper bound of each bucket, the last one infinite, and how many fell into it and into no lower one.
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
    /// All of them together.
    pub count: u64,
}

impl Histogram {
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, time: Duration) {
        self.observe_micros(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
    }

    /// A negative time, as two clocks that differ give it, counts as none.
    pub fn observe_micros(&self, micros: i64) {
        let micros = u64::try_from(micros).unwrap_or(0);
        let place = self.bounds.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a sum of more than 285 years is no longer exact to the microsecond"
    )]
    pub fn read(&self) -> Reading {
        let seconds = |micros: u64| micros as f64 / 1e6;
        let bounds = self.bounds.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        // Of the buckets that were read, lest the two differ.
        let count = buckets.iter().map(|(_, count)| count).sum();
        Reading { buckets, sum: seconds(self.sum.load(Ordering::Relaxed)), count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_whose_bound_is_not_less() {
        let histogram = Histogram::new(&[1_000, 5_000]);
        for micros in [-3, 0, 1_000, 1_001, 5_000, 5_001, 9_000_000] {
            histogram.observe_micros(micros);
        }
        let read = histogram.read();
        assert_eq!(read.buckets, [(0.001, 3), (0.005, 2), (f64::INFINITY, 2)]);
        assert_eq!(read.count, 7);
        assert!((read.sum - 9.012_002).abs() < 1e-9, "{}", read.sum);
    }
}
