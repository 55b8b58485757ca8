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
    events::{self, Counted},
    references::ReferenceError,
    status::{self, Facts, Start},
    turns::Turn,
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

/// How a reconciliation went.
enum Done {
    /// The status says what is, of a listener that has got so far.
    Told { start: Start },
    /// The status is not ours to write, as far as we know, or the object is another than we saw: to be looked at again.
    Again,
    /// The listener has become another replica's.
    Lost,
}

/// Makes what an object says so.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let id = listener_of(&*object);
    let mut turn = context.turns.take(&id).await;
    if object.meta().deletion_timestamp.is_some() {
        // It stays visible while others' finalizers run.
        removed(&context, &id, &mut turn).await;
        return Ok(Action::await_change());
    }
    // Nobody is known yet: the roster's first change comes round here.
    let Some(owner) = context.owner(&id) else { return Ok(Action::await_change()) };
    if owner != context.settings.me {
        handed_over(&context, &id, &mut turn).await;
        return Ok(Action::await_change());
    }
    if turn.uid().is_some() && turn.uid() != object.uid().as_deref() {
        removed(&context, &id, &mut turn).await;
    }
    let mine = turn.get_or_insert_default();
    mine.uid = object.uid();
    let done = own(&object, &context, &id, mine).await;
    if done.is_ok() {
        mine.failures = 0;
    }
    Ok(match done? {
        Done::Told { start: Start::Over } => Action::requeue(SAMPLE),
        Done::Told { .. } => Action::requeue(STARTING),
        Done::Again => Action::requeue(AGAIN.0),
        Done::Lost => {
            handed_over(&context, &id, &mut turn).await;
            Action::await_change()
        }
    })
}

async fn own(
    object: &Guarded,
    context: &Context,
    id: &ListenerId,
    mine: &mut Remembered,
) -> Result<Done, ReconcileError> {
    let planned = planned(object, context, id).await;
    // Reading takes time, in which the listener may have become another's: two would take it from each other.
    if !context.owns(id) {
        return Ok(Done::Lost);
    }
    let problems = match planned {
        // What is known of it is said all the same; it goes on as it was.
        Err(error) => {
            if mine.plan.is_some() {
                report(object, context, id, mine, &[]).await?;
            }
            return Err(error);
        }
        Ok(Err(problems)) => problems,
        Ok(Ok(plan)) => {
            if mine.plan.as_ref() != Some(&plan) {
                let now = Instant::now();
                if context.supervisor.ensure(plan.clone()).await {
                    (mine.started, mine.up) = (Some(now), None);
                }
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
) -> Result<Done, ReconcileError> {
    let now = Instant::now();
    // A replica that was cut off, or stopped, knows of no successor, and would write over what that one says.
    if !context.owns_surely(id, now) {
        return Ok(Done::Again);
    }
    let snapshot = context.supervisor.snapshots().borrow().get(id).cloned();
    let (before, version) = standing(object, mine, &context.settings.me);
    let opened = snapshot.as_ref().and_then(|snapshot| snapshot.opened);
    let start = mine.start(opened, now);
    if snapshot.as_ref().is_some_and(|snapshot| snapshot.ready) {
        mine.up = opened;
    }
    let facts = Facts {
        listener: id,
        generation: object.meta().generation,
        refused: problems,
        suspend: object.0.as_ref().is_ok_and(|listener| listener.spec.suspend),
        webhook: object.0.as_ref().ok().and_then(|listener| listener.spec.webhook.shown(id.namespace())),
        snapshot: snapshot.as_deref(),
        start,
        sample: mine.may_sample(now),
        reword: mine.may_reword(now),
        owner: &context.settings.me,
        now: Timestamp::now(),
    };
    let after = status::next(&before, &facts, &mut mine.shown);
    // Also where it cannot be written.
    context.meters.conditions.say(id, status::said(&after));
    let counted = snapshot.as_deref().map(Counted::of).unwrap_or_default();
    let happened = events::between(&before, &after, counted.since(mine.counted));
    if after != before {
        match write(context, id, version, &after).await? {
            Written::As(version) => mine.version = version,
            // Another has written, or the spec is another: it comes through the watch, and is judged then.
            Written::Overtaken => return Ok(Done::Again),
        }
        if after.delivery != before.delivery || after.tracked != before.tracked {
            mine.sampled = Some(now);
        }
        if status::says_otherwise(&before, &after) {
            mine.worded = Some(now);
        }
    }
    (mine.status, mine.counted) = (Some(after), counted);
    events::publish(context, object, happened).await;
    Ok(Done::Told { start })
}

/// What the status says, and of which version of the object that is so. The watch may be behind our own last writing; what it
/// shows from after that is another's.
fn standing(object: &Guarded, mine: &Remembered, me: &str) -> (RedisExpiryListenerStatus, Option<String>) {
    let found = object.0.as_ref().ok().and_then(|listener| listener.status.clone());
    let seen = object.meta().resource_version.clone();
    let Some(ours) = &mine.status else { return (found.unwrap_or_default(), seen) };
    let behind = mine.version.as_deref().is_some_and(|version| is_later(version, seen.as_deref().unwrap_or_default()));
    if behind {
        return (ours.clone(), mine.version.clone());
    }
    let overwritten = object.0.is_ok() && found.as_ref().and_then(|found| found.owner.as_deref()) != Some(me);
    (if overwritten { found.unwrap_or_default() } else { ours.clone() }, seen)
}

/// Whether a `resourceVersion` is later than another of the same object: they are numbers (KEP-5504).
fn is_later(version: &str, than: &str) -> bool {
    matches!((version.parse::<u128>(), than.parse::<u128>()), (Ok(version), Ok(than)) if version > than)
}

/// What became of a status.
enum Written {
    /// The object has this `resourceVersion` now; `None` where it was deleted a moment ago.
    As(Option<String>),
    /// Not written: the object was another.
    Overtaken,
}

/// Writes the status of the object that had this version. Late, it is refused: somebody may have followed us meanwhile.
async fn write(
    context: &Context,
    id: &ListenerId,
    version: Option<String>,
    status: &RedisExpiryListenerStatus,
) -> Result<Written, ReconcileError> {
    let api = Api::<Guarded>::namespaced(context.client.clone(), id.namespace());
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "name": id.name(), "resourceVersion": version },
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let _turn = context.writing.acquire().await;
    match timeout(PATIENCE, api.patch_status(id.name(), &parameters, &Patch::Apply(&body))).await {
        Ok(Ok(written)) => Ok(Written::As(written.resource_version())),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(Written::As(None)),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(Written::Overtaken),
        Ok(Err(error)) => Err(ReconcileError::Status(Box::new(error))),
        Err(_) => Err(ReconcileError::Silent),
    }
}

/// Lets go of a listener, if it is ours.
async fn let_go(context: &Context, id: &ListenerId, turn: &mut Turn<'_>, how: Removal, why: &str) {
    if turn.take().is_none() {
        return;
    }
    tracing::info!(listener = %id, "{why}");
    context.references.forget(id);
    context.meters.conditions.forget(id);
    context.supervisor.remove(id, how).await;
}

/// An object is gone for good.
pub async fn removed(context: &Context, id: &ListenerId, turn: &mut Turn<'_>) {
    let_go(context, id, turn, Removal::Deleted, "The listener was deleted.").await;
}

/// An object is not watched any more.
pub async fn unwatched(context: &Context, id: &ListenerId, turn: &mut Turn<'_>) {
    let_go(context, id, turn, HAND_OVER, "The listener is not watched any more.").await;
}

async fn handed_over(context: &Context, id: &ListenerId, turn: &mut Turn<'_>) {
    let owner = context.owner(id).unwrap_or_default();
    let_go(context, id, turn, HAND_OVER, &format!("Hands the listener over to {owner}.")).await;
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
    let failures = context.turns.failed(&id);
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
mod tests;
