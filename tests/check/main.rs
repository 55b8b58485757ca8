//! `check` against real servers: each thing that can be wrong is told, with what to do, and nothing else is.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "../support/certificates.rs"]
mod certificates;
#[path = "../support/certified.rs"]
mod certified;
mod nodes;
#[path = "../support/rights.rs"]
mod rights;
mod setup;
mod store;
mod webhook;
