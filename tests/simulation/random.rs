//! The dice: everything that a run leaves open comes from one seed.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

pub struct Random(StdRng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }
    /// Both ends included.
    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        self.0.random_range(least..=most)
    }
    pub fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }
    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }
    /// A network's delay in microseconds: mostly short, now and then long.
    pub fn delay(&mut self) -> i64 {
        match self.0.random_range(0..100) {
            0..85 => self.between(50, 800),
            85..97 => self.between(800, 6_000),
            _ => self.between(6_000, 40_000),
        }
    }
}
