//! The Kubernetes side: declares (spec in) and reports (snapshot out). It never touches Redis or HTTP.
//!
//! ```text
//!   objects, Secrets, ConfigMaps ──▶ reconcile: whose is it ─▶ resolve ─▶ validate ─▶ ensure ─▶ status
//!   Leases ──▶ membership ──▶ roster ────────┘                 (client)   (pure)    (Supervisor)  (pure; one patch)
//! ```
//!
//! # Guarantees
//! - An object that cannot be read, or that fails, holds up no other.
//! - A listener that runs goes on as it was while its object is wrong, or a Secret of it is gone, or the API server is down.
//! - A watch that fails makes no other deaf, and is tried again within 5 s; one that is dead is noticed within 30 s.
//! - What a listener holds is removed when its object is known to be deleted, and never because it was not seen.

mod context;
mod events;
#[cfg(test)]
mod fake;
pub mod membership;
mod permits;
mod reconcile;
mod references;
pub mod status;
mod triggers;
mod turns;
mod validate;
mod watches;
mod watching;

pub use context::{Context, Settings};
pub use watches::{Synced, run};

/// Who writes the status.
pub const FIELD_MANAGER: &str = "rel-controller";
/// Who reports events.
pub const REPORTER: &str = "redisexpiry.io/operator";
