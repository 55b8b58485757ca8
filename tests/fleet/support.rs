//! What the bed uses of the fault suite's.

#[path = "../support/clock.rs"]
mod clock;

pub use clock::now;
