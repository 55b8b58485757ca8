//! What the fault suite is made of: a generator that knows the truth, a receiver that writes down what it was told,
//! and a judge that compares the two. None of it uses the engine's own code for what it checks.

pub mod acl;
pub mod certificates;
mod clock;
pub mod faults;
pub mod generator;
pub mod judge;
pub mod listener;
pub mod receiver;
pub mod report;
pub mod routes;
pub mod scenario;
pub mod script;
pub mod truth;
pub mod verdict;
pub mod wire;

pub use clock::now;
use redis_expiry_operator::model::Millis;

/// Sleeps until `at` by [`now`].
pub async fn sleep_until(at: Millis) {
    if let Ok(left) = u64::try_from(at.since(now())) {
        tokio::time::sleep(std::time::Duration::from_millis(left)).await;
    }
}
