//! Connections, topology and ledger against nodes that answer what the test wants: what the simulation says again in its
//! own words (`nodes::session`, `deployment`, `ledger::keeper`, `ledger::resync`) is held here, as it is. No redis-server.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod changing;
mod declaring;
mod fake;
mod keeping;
mod looking;
mod losing;
mod owning;
#[path = "../support/plan.rs"]
mod plan;
mod resyncing;
mod seeing;
