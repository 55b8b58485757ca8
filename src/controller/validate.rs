//! Whether a listener can be carried out here. No client.

use super::{Settings, references::Values};
use crate::{
    api::{Platform, Problem, RedisExpiryListener, Surroundings, reason, resolve},
    plan::{Plan, StorePlan},
};

/// What it comes to, or everything that is wrong with it.
pub fn validate(listener: &RedisExpiryListener, values: &Values, settings: &Settings) -> Result<Plan, Vec<Problem>> {
    let around = Surroundings { secrets: values, platform: Platform::Kubernetes, state_dir: &settings.state_dir };
    let plan = resolve::resolve(listener, around)?;
    let kind = match &plan.store {
        StorePlan::Memory => "Memory",
        StorePlan::Local { .. } => "Local",
        StorePlan::Redis { .. } => return Ok(plan),
    };
    if settings.replicas <= 1 {
        return Ok(plan);
    }
    Err(vec![Problem {
        field: "spec.store.type".to_owned(),
        found: format!("is {kind}, which the {} replicas of the operator cannot share", settings.replicas),
        fix: "use Redis, or run one replica".to_owned(),
        reason: reason::STORE_NOT_SHARED,
    }])
}
