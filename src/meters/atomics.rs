//! Numbers that one task writes and another reads. Relaxed: each stands for itself.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// As it is now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The values of a label: few, and known beforehand.
pub trait Label: Copy + 'static {
    const ALL: &'static [Self];
    /// Its place in [`Label::ALL`].
    fn place(self) -> usize;
    fn as_str(self) -> &'static str;
}

/// A counter for each value of a label.
#[derive(Debug)]
pub struct Table<L> {
    counters: Box<[Counter]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Default for Table<L> {
    fn default() -> Self {
        Self { counters: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> Table<L> {
    pub fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.counters.get(label.place()) {
            counter.add(count);
        }
    }
    pub fn get(&self, label: L) -> u64 {
        self.counters.get(label.place()).map_or(0, Counter::get)
    }
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        L::ALL.iter().map(|label| (label.as_str(), self.get(*label)))
    }
}
