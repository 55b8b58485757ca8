//! What is due, and what became of it.
//!
//! # Guarantees
//! - Each entry is asked about at its deadline + 1 ms by its owner's clock, and again until somebody who may answers.
//! - What a look found is decided by [`judge`] alone, and done by the store's compare-and-set alone.
//! - One look per key is in flight; a hint that arrives meanwhile repeats it.
//! - Memory is bounded: the [`Book`] holds the entries that are due soonest, the store holds all.

mod book;
mod identity;
mod judge;
mod keeper;
mod resync;

pub use book::Book;
pub use identity::{Foreign, Identity, IdentityError};
pub use judge::{Again, Judgement, Naming, Purpose, judge};
pub use keeper::{Keeper, Settings, Settled, Stats, Stopped};
