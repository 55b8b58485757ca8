//! One listener: whose is it, resolve, validate, ensure, status.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{controller::Action, reflector::ObjectRef},
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{
    Context, FIELD_MANAGER,
    context::{Remembered, SAMPLE, STARTING},
    events, membership,
    references::ReferenceError,
    status::{self, Facts},
    validate::validate,
};
use crate::{
    api::{API_VERSION, KIND, Problem, RedisExpiryListener, RedisExpiryListenerStatus, reason},
    listener::Removal,
    model::ListenerId,
    plan::Plan,
};

/// An object that may be unreadable.
pub type Guarded = DeserializeGuard<RedisExpiryListener>;

/// Why an object has to be looked at again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("writing the status: {0}")]
    Status(#[source] Box<kube::Error>),
    #[error("writing the status: the API server does not answer within {PATIENCE:?}")]
    Silent,
}

const PATIENCE: Duration = Duration::from_secs(5);
/// Attempts under way may take so long when another replica takes over.
const HAND_OVER: Removal = Removal::HandOver { patience: Duration::from_secs(1) };
/// After a failure; doubled with each in a row.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Makes what an object says so.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let id = listener_of(&*object);
    if object.meta().deletion_timestamp.is_some() {
        // It stays visible while others' finalizers run.
        removed(&context, &id).await;
        return Ok(Action::await_change());
    }
    let roster = context.roster.borrow().clone();
    let Some(owner) = membership::owner(id.as_str(), &roster.members) else {
        // Nobody is known yet: the roster's first change comes round here.
        return Ok(Action::await_change());
    };
    if *owner != context.settings.me {
        let_go(&context, &id, HAND_OVER, &format!("Hands the listener over to {owner}.")).await;
        return Ok(Action::await_change());
    }
    let mut mine = context.take(&id).unwrap_or_default();
    if mine.uid.is_some() && mine.uid != object.uid() {
        // Deleted and made anew under the same name, faster than we were told.
        context.supervisor.remove(&id, Removal::Deleted).await;
        mine = Remembered::default();
    }
    mine.uid = object.uid();
    let done = own(&object, &context, &id, &mut mine).await;
    if done.is_ok() {
        mine.failures = 0;
    }
    let starting = mine.is_starting(Instant::now());
    context.put(id, mine);
    done.map(|()| Action::requeue(if starting { STARTING } else { SAMPLE }))
}

async fn own(
    object: &Guarded,
    context: &Context,
    id: &ListenerId,
    mine: &mut Remembered,
) -> Result<(), ReconcileError> {
    let planned = match planned(object, context, id).await {
        Ok(planned) => planned,
        // What is known of it is said all the same; it goes on as it was.
        Err(error) => {
            if mine.plan.is_some() {
                report(object, context, id, mine, &[]).await?;
            }
            return Err(error);
        }
    };
    let problems = match planned {
        Err(problems) => problems,
        Ok(plan) => {
            if mine.plan.as_ref() != Some(&plan) {
                mine.started.get_or_insert_with(Instant::now);
                context.supervisor.ensure(plan.clone()).await;
                mine.plan = Some(plan);
            }
            Vec::new()
        }
    };
    report(object, context, id, mine, &problems).await
}

/// Resolve (client) and validate (no client).
async fn planned(
    object: &Guarded,
    context: &Context,
    id: &ListenerId,
) -> Result<Result<Plan, Vec<Problem>>, ReconcileError> {
    match &object.0 {
        Ok(listener) => {
            let values = context.references.read(id, &listener.spec).await?;
            Ok(validate(listener, &values, &context.settings))
        }
        Err(invalid) => Ok(Err(vec![Problem {
            field: "spec".to_owned(),
            found: format!("cannot be read by this version of the operator: {}", invalid.error),
            fix: "correct it, or update the operator".to_owned(),
            reason: reason::INVALID_SPEC,
        }])),
    }
}

/// Writes the status if it has something new to say, and then the events that go with it.
async fn report(
    object: &Guarded,
    context: &Context,
    id: &ListenerId,
    mine: &mut Remembered,
    problems: &[Problem],
) -> Result<(), ReconcileError> {
    let snapshot = context.supervisor.snapshots().borrow().get(id).cloned();
    let found = object.0.as_ref().ok().and_then(|listener| listener.status.clone());
    let before = mine.status.clone().or(found).unwrap_or_default();
    let now = Instant::now();
    let facts = Facts {
        generation: object.meta().generation,
        refused: problems,
        suspend: object.0.as_ref().is_ok_and(|listener| listener.spec.suspend),
        webhook: object.0.as_ref().ok().and_then(|listener| listener.spec.webhook.shown(id.namespace())),
        snapshot: snapshot.as_deref(),
        starting: mine.is_starting(now),
        sample: mine.may_sample(now),
        owner: &context.settings.me,
        now: Timestamp::now(),
    };
    let after = status::next(&before, &facts, &mut mine.shown);
    let gaps = snapshot.as_ref().map_or(0, |snapshot| snapshot.gaps);
    let happened = events::between(&before, &after, gaps.saturating_sub(mine.gaps));
    if after != before {
        write(context, id, &after).await?;
        if after.delivery != before.delivery || after.tracked != before.tracked {
            mine.sampled = Some(now);
        }
    }
    (mine.status, mine.gaps) = (Some(after), gaps);
    events::publish(context, object, happened).await;
    Ok(())
}

async fn write(context: &Context, id: &ListenerId, status: &RedisExpiryListenerStatus) -> Result<(), ReconcileError> {
    let api = Api::<Guarded>::namespaced(context.client.clone(), id.namespace());
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "name": id.name() },
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match timeout(PATIENCE, api.patch_status(id.name(), &parameters, &Patch::Apply(&body))).await {
        Ok(Ok(_)) => Ok(()),
        // Deleted a moment ago.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(ReconcileError::Status(Box::new(error))),
        Err(_) => Err(ReconcileError::Silent),
    }
}

/// Lets go of a listener, if it is ours.
pub async fn let_go(context: &Context, id: &ListenerId, how: Removal, why: &str) {
    if context.take(id).is_none() {
        return;
    }
    tracing::info!(listener = %id, "{why}");
    context.references.forget(id);
    context.supervisor.remove(id, how).await;
}

/// An object is gone for good.
pub async fn removed(context: &Context, id: &ListenerId) {
    let_go(context, id, Removal::Deleted, "The listener was deleted.").await;
}

/// An object is not watched any more.
pub async fn unwatched(context: &Context, id: &ListenerId) {
    let_go(context, id, HAND_OVER, "The listener is not watched any more.").await;
}

/// The listener that an object is.
pub fn listener_of(object: &impl ResourceExt) -> ListenerId {
    ListenerId::new(object.namespace().as_deref().unwrap_or("default"), &object.name_any())
}

/// The object that a listener is.
pub fn object_of(listener: &ListenerId) -> ObjectRef<Guarded> {
    ObjectRef::new(listener.name()).within(listener.namespace())
}

/// When to try again.
#[expect(clippy::needless_pass_by_value, reason = "kube calls it so")]
pub fn again(object: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let id = listener_of(&*object);
    let failures = context.failed(&id);
    if failures == 1 {
        tracing::warn!(listener = %id, %error, "The listener could not be reconciled; it goes on as it was.");
    } else {
        tracing::debug!(listener = %id, %error, failures, "The listener could not be reconciled.");
    }
    Action::requeue(backoff(failures).mul_f64(rand::random_range(0.75..1.0)))
}

fn backoff(failures: u32) -> Duration {
    AGAIN.1.min(AGAIN.0 * 2_u32.saturating_pow(failures.saturating_sub(1).min(16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_to_a_minute() {
        let seconds: Vec<u64> = [1, 2, 3, 6, 7, 8, u32::MAX].map(|failures| backoff(failures).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60]);
    }
}
