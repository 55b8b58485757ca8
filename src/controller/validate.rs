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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn judged(kind: &str, replicas: u32) -> Result<Plan, Vec<Problem>> {
        let listener: RedisExpiryListener = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {
                "redis": {"addresses": ["redis:6379"]},
                "keyPattern": "order:*",
                "store": {"type": kind},
                "webhook": {"url": "http://orders.shop.svc/hook"},
            },
        }))
        .unwrap();
        let settings = Settings {
            me: "a".into(),
            lease_expiry: std::time::Duration::from_secs(6),
            replicas,
            state_dir: PathBuf::from("/state"),
            namespaces: Vec::new(),
            selector: None,
        };
        validate(&listener, &Values::default(), &settings)
    }

    #[test]
    fn a_store_of_one_process_is_refused_where_several_replicas_might_each_have_one() {
        for kind in ["Local", "Memory"] {
            assert!(judged(kind, 1).is_ok(), "{kind}");
            let problems = judged(kind, 2).unwrap_err();
            let [problem] = problems.as_slice() else { unreachable!("{problems:?}") };
            assert_eq!((problem.reason, problem.field.as_str()), (reason::STORE_NOT_SHARED, "spec.store.type"));
            assert!(problem.to_string().contains("run one replica"), "{problem}");
        }
        assert!(judged("Redis", 2).is_ok());
    }
}
