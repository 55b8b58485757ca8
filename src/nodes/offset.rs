//! How far a node's clock is from ours. Pure.

use std::collections::VecDeque;

/// How many exchanges count: those of the last eight seconds.
const RECENT: usize = 16;

/// The offset by the fastest of the recent exchanges (DESIGN rule 7): the faster, the less it can be wrong.
#[derive(Default)]
pub struct Offsets(VecDeque<(i64, i64)>);

impl Offsets {
    /// An exchange: asked at `sent` and answered at `received` by our clock, with `theirs`; all in microseconds. Gives the
    /// node's clock less ours.
    pub fn exchange(&mut self, sent: i64, received: i64, theirs: i64) -> i64 {
        let took = received - sent;
        if self.0.len() == RECENT {
            self.0.pop_front();
        }
        self.0.push_back((took, theirs - (sent + took / 2)));
        self.fastest().map_or(0, |(_, offset)| offset)
    }

    /// What the node's clock shows at the latest at `at` by ours: the offset is wrong by half the exchange at most.
    pub fn latest(&self, at: i64) -> Option<i64> {
        self.fastest().map(|(took, offset)| at + offset + (took + 1) / 2)
    }

    fn fastest(&self) -> Option<(i64, i64)> {
        self.0.iter().min_by_key(|(took, _)| *took).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_exchange_leaves_the_latest_time_no_earlier_than_the_true_one() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.latest(0), None);
        // The two clocks agree; the request took 1 ms, the answer 199 ms.
        offsets.exchange(0, 200_000, 1_000);
        assert!((300_000..=500_000).contains(&offsets.latest(300_000).unwrap()));
    }

    #[test]
    fn the_fastest_exchange_decides_until_it_is_old() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.exchange(0, 100, 1_050), 1_000);
        assert_eq!(offsets.exchange(1_000, 9_000, 9_000), 1_000);
        for _ in 0..RECENT {
            offsets.exchange(0, 200, 2_100);
        }
        assert_eq!(offsets.exchange(0, 200, 2_100), 2_000);
    }
}
