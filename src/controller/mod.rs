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
//! - What a listener holds is removed when its object is known to be deleted, and never because it was not seen.

mod context;
mod events;
pub mod membership;
mod reconcile;
mod references;
pub mod status;
mod triggers;
mod validate;
mod watches;

pub use context::{Context, Settings};
pub use watches::{Synced, run};

/// Who writes the status.
pub const FIELD_MANAGER: &str = "rel-controller";
/// Who reports events.
pub const REPORTER: &str = "redisexpiry.io/operator";
