//! What a running listener dials, what its snapshot says when it cannot, and how it goes on once that is mended: against
//! real redis-servers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]

#[path = "../support/certificates.rs"]
mod certificates;
mod egress;
mod faults;
#[path = "../support/plan.rs"]
mod plan;
mod rotation;
mod setup;
mod tls;
mod tracking;
