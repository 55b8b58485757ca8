//! How much all journals of a process keep together: each has bounds of its own, and hundreds of listeners would add them up.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Of all listeners together, in bytes.
const MOST: usize = 256 << 20;
/// What a partition may keep however much the others do.
const FAIR: usize = 32 << 10;

pub(super) struct Budget {
    kept: AtomicUsize,
    most: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(MOST)
    }
}

impl Budget {
    pub fn of(most: usize) -> Self {
        Self { kept: AtomicUsize::new(0), most }
    }
}

/// One journal's part of it; given back when it is dropped.
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.kept.fetch_add(bytes, Ordering::Relaxed);
    }
    pub fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.kept.fetch_sub(bytes, Ordering::Relaxed);
    }
    /// All keep too much together, and this one has enough to give some back.
    pub fn is_over(&self) -> bool {
        self.bytes > FAIR && self.budget.kept.load(Ordering::Relaxed) > self.budget.most
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_more_than_its_part_gives_back_while_all_have_too_much() {
        let budget = Arc::new(Budget::of(3 * FAIR));
        let mut shares = [(); 2].map(|()| Share::new(Arc::clone(&budget)));
        shares[0].add(FAIR);
        shares[1].add(2 * FAIR);
        assert!(shares.iter().all(|share| !share.is_over()));
        shares[1].add(1);
        assert!(!shares[0].is_over() && shares[1].is_over());
        shares[1].give_back(1);
        assert!(!shares[1].is_over());
        let [left, mut alone] = shares;
        drop(left);
        alone.add(FAIR);
        assert!(!alone.is_over() && alone.bytes() == 3 * FAIR);
        drop(alone);
        assert_eq!(budget.kept.load(Ordering::Relaxed), 0);
    }
}
