//! A listener that is pointed at another Redis: what is told meanwhile, and that it holds until it is told what to do (DESIGN rule 14).

use std::sync::Arc;

use redis_expiry_operator::{
    listener::{Fencing, Hold, OnDeploymentChange, Snapshot, Supervisor},
    model::ListenerId,
    plan::{Answer, Glob, Plan},
};
use std::time::Duration;

use crate::{
    fake::{Fake, until},
    looking::plan as redis_plan,
    plan,
};

fn plan(fake: &Fake) -> Plan {
    plan::plan(redis_plan(&[fake]), b"k*", "http://127.0.0.1:9/")
}

fn answered(fake: &Fake, change: &str, keep: bool) -> Plan {
    Plan { answer: Some(Answer { change: change.to_owned(), keep }), ..plan(fake) }
}

/// `id` with a key that it holds.
async fn deployment(id: &'static str, key: &str) -> Fake {
    let fake = Fake::start(id).await;
    fake.knows(&[fake.row("master", "-", 1, "0-16383")]);
    let deadline = fake.clock_millis() + 60_000;
    fake.state().keys.insert(key.into(), Some(deadline));
    fake
}

/// A listener that has tracked a key of `a`.
async fn ready(a: &Fake) -> (Supervisor, impl Fn() -> Arc<Snapshot>) {
    let supervisor = Supervisor::new(OnDeploymentChange::Hold, Fencing::Permit);
    supervisor.ensure(plan(a)).await;
    let snapshots = supervisor.snapshots();
    let shown = move || snapshots.borrow().get(&ListenerId::new("shop", "orders")).cloned().unwrap_or_default();
    until("ready", || shown().ready && shown().counts.tracked == 1).await;
    (supervisor, shown)
}

/// The change that it holds for.
fn change(shown: &Snapshot) -> Option<String> {
    match &shown.hold {
        Some(Hold::DeploymentChanged { change, .. }) => Some(change.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn how_the_old_pipeline_fared_is_not_told_of_the_new_one() {
    let a = deployment("a", "k1").await;
    let (supervisor, shown) = ready(&a).await;
    assert!(!supervisor.ensure(Plan { suspend: true, ..plan(&a) }).await, "it goes on");
    assert!(shown().ready);
    // On one thread nothing of the new one has run when this returns.
    let other = Plan { pattern: Glob::new(b"j*").unwrap(), ..plan(&a) };
    assert!(supervisor.ensure(other).await, "it is begun anew");
    assert_eq!(shown(), Arc::default());
    until("ready", || shown().ready).await;
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn it_holds_until_it_is_told_of_this_very_change_what_to_do() {
    let (a, b) = (deployment("a", "k1").await, deployment("b", "k2").await);
    let (supervisor, shown) = ready(&a).await;
    supervisor.ensure(plan(&b)).await;
    until("holds", || change(&shown()).is_some()).await;
    let there = change(&shown()).unwrap();
    // What is told meanwhile is not frozen.
    let fault = || shown().nodes.first().map(|node| node.last_error.is_some());
    until("it is connected to", || fault() == Some(false)).await;
    b.leave();
    until("it is not", || fault() == Some(true)).await;
    assert!(!shown().ready && shown().hold.is_some());
    // That it is well again shows when it is subscribed to.
    b.come_back();
    assert!(!supervisor.ensure(answered(&b, "0a1b2c3d", false)).await);
    // Whatever that brings about would have been read before this is.
    supervisor.ensure(Plan { suspend: true, ..answered(&b, "0a1b2c3d", false) }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((change(&shown()), shown().counts.tracked), (Some(there.clone()), 1), "another change was meant");
    assert!(!supervisor.ensure(answered(&b, &there, false)).await, "it goes on where it is");
    until("ready", || shown().ready && shown().hold.is_none()).await;
    until("the other's key alone", || shown().counts.tracked == 1).await;

    // Back is another change, for which the answer that is still there is none.
    supervisor.ensure(answered(&a, &there, false)).await;
    until("holds", || change(&shown()).is_some()).await;
    let back = change(&shown()).unwrap();
    assert_ne!(back, there);
    supervisor.ensure(answered(&a, &back, true)).await;
    until("both keys", || shown().ready && shown().counts.tracked == 2).await;
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn an_answer_is_not_taken_for_what_the_change_has_become_since_it_was_given() {
    let (a, b, c) = (deployment("a", "k1").await, deployment("b", "k2").await, Fake::start("c").await);
    let (supervisor, shown) = ready(&a).await;
    supervisor.ensure(plan(&b)).await;
    until("holds", || change(&shown()).is_some()).await;
    let told = change(&shown()).unwrap();
    let rows = [b.row("master", "-", 1, "0-16383"), c.row("slave", "b", 1, "")];
    b.knows(&rows);
    c.knows(&rows);
    until("it has a node more", || shown().nodes.len() == 2).await;
    assert_eq!(change(&shown()).as_ref(), Some(&told), "who holds does not look");
    assert!(!supervisor.ensure(answered(&b, &told, false)).await);
    until("holds for what it is now", || change(&shown()).is_some_and(|change| change != told)).await;
    assert_eq!(shown().counts.tracked, 1);
    let now = change(&shown()).unwrap();
    supervisor.ensure(answered(&b, &now, false)).await;
    until("ready", || shown().ready && shown().hold.is_none()).await;
    supervisor.stop(Duration::ZERO).await;
}
