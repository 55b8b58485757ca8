//! Where the ledger and the outbox will lie. Looked at and never opened: who runs the listener goes on meanwhile.

use super::finding::Finding;
use crate::{
    api::Platform,
    dial::Dialler,
    plan::{Plan, StorePlan},
};

mod local;
mod redis;

const SUBJECT: &str = "store";

/// `reached`: whether the watched Redis was.
pub(super) async fn check(plan: &Plan, dialler: &Dialler, platform: Platform, reached: bool) -> Vec<Finding> {
    match &plan.store {
        StorePlan::Memory => vec![Finding::warn(
            SUBJECT,
            "spec.store.type is Memory: a restart loses every event that is not delivered by then, and what expires meanwhile",
            "use type Redis or Local",
        )],
        StorePlan::Local { .. } if platform == Platform::Kubernetes => {
            let what = "spec.store.type is Local: a file on the operator's volume, which is not seen from here; for one replica";
            vec![Finding::ok(SUBJECT, what)]
        }
        StorePlan::Local { path } => local::check(path),
        StorePlan::Redis { redis } if *redis == plan.redis && !reached => {
            let what = "lies in the watched Redis, which was not reached: not looked at";
            vec![Finding::warn(SUBJECT, what, "see above, then check again")]
        }
        StorePlan::Redis { redis } => self::redis::check(plan, dialler, redis).await,
    }
}
