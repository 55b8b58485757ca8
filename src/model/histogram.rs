//! How long things took, counted in buckets. Plain data, so that it travels in a snapshot.

/// The upper bounds of the buckets, in milliseconds; what is beyond is counted in none of them.
pub const BOUNDS_MS: [i64; 14] = [1, 2, 5, 10, 20, 50, 100, 250, 500, 1_000, 5_000, 30_000, 120_000, 600_000];

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were in each bucket, and not in the one before.
    pub counts: [u64; BOUNDS_MS.len()],
    pub count: u64,
    pub sum_ms: u64,
}

impl Histogram {
    /// A negative one, which clocks that differ can give, counts as none at all.
    pub fn record(&mut self, milliseconds: i64) {
        let milliseconds = milliseconds.max(0);
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(milliseconds.unsigned_abs());
        if let Some(bucket) = BOUNDS_MS.iter().position(|bound| milliseconds <= *bound) {
            self.counts[bucket] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_in_the_first_bucket_that_has_room_for_it() {
        let mut histogram = Histogram::default();
        for milliseconds in [-3, 0, 1, 2, 600_000, 600_001] {
            histogram.record(milliseconds);
        }
        assert_eq!((histogram.count, histogram.sum_ms), (6, 1_200_004));
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[13]), (3, 1, 1));
    }
}
