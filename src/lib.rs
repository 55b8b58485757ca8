//! Turns the expiry of Redis keys into webhooks: on time, none lost, none invented.
//!
//! ```text
//!   a deployment (shared)                one listener
//!   topology ──▶ nodes ──signals──▶ ledger ──▶ store { ledger | outbox } ──▶ delivery ──▶ webhook
//!   who they are   one connection     what is      settle: one atomic         POST, retry,
//!       ▲          each: pushes,      due, what    step from one to           dead-letter
//!       └─refresh──  answers ◀──ask── became of it the other
//! ```
//!
//! Notifications make it fast. Asking makes it right. The outbox makes it stay right.
//!
//! Facts flow one way, left to right. Two questions go back, through two narrow ports and nothing else: `ask` (look at
//! these keys, scan this node) and `refresh` (the topology seems old). `tests/layering.rs` holds each module to that.

pub mod api;
pub mod clock;
pub mod commands;
pub mod controller;
pub mod delivery;
pub mod deployment;
pub mod dial;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod ledger;
pub mod listener;
pub mod meters;
pub mod model;
pub mod nodes;
pub mod plan;
pub mod servers;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod topology;
