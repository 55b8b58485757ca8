//! What is declared runs, and nothing else; a change of one listener is no other's affair.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redis_expiry_operator::{
    clock,
    listener::{Fencing, Hold, OnDeploymentChange, Supervisor},
    model::{ListenerId, Millis},
    plan::{Glob, Plan, StorePlan},
    store::memory::MemoryStore,
};

use crate::{
    fake::{Fake, until},
    owning::plan,
};

fn named(a: &Fake, name: &str, pattern: &str) -> Plan {
    Plan { listener: ListenerId::new("shop", name), pattern: Glob::new(pattern.as_bytes()).unwrap(), ..plan(a) }
}

#[tokio::test]
async fn what_has_changed_begins_anew_and_what_is_no_longer_declared_ends_and_nothing_else_does() {
    let a = Fake::start("a").await;
    a.knows(&[a.row("master", "-", 1, "0-16383")]);
    let made = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&made);
    let supervisor = Supervisor::with_memory(OnDeploymentChange::Hold, Fencing::Permit, move || {
        count.fetch_add(1, Ordering::SeqCst);
        Arc::new(MemoryStore::new())
    });
    let snapshots = supervisor.snapshots();
    let shown = |name: &str| snapshots.borrow().get(&ListenerId::new("shop", name)).cloned();
    let ready_since = |name: &str| shown(name).filter(|shown| shown.ready).map_or(Millis(0), |shown| shown.started);
    supervisor.declare(vec![named(&a, "x", "k*"), named(&a, "y", "k*")]).await;
    until("both are ready", || ready_since("x") > Millis(0) && ready_since("y") > Millis(0)).await;
    let (x, y) = (ready_since("x"), ready_since("y"));

    supervisor.declare(vec![named(&a, "x", "j*"), named(&a, "y", "k*")]).await;
    until("x begins anew", || ready_since("x") > x).await;
    assert_eq!(ready_since("y"), y, "it went on");
    assert_eq!(made.load(Ordering::SeqCst), 2, "what is in memory outlives a change of the settings");

    supervisor.declare(vec![named(&a, "x", "j*")]).await;
    assert!(shown("y").is_none(), "nobody declares it");
    supervisor.declare(vec![named(&a, "x", "j*"), named(&a, "y", "k*")]).await;
    until("y is there again", || ready_since("y") > y).await;
    assert_eq!(made.load(Ordering::SeqCst), 3, "and not what had ended");
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_successor_begins_when_its_predecessor_has_let_go_of_the_store() {
    let a = Fake::start("a").await;
    a.knows(&[a.row("master", "-", 1, "0-16383")]);
    let folder = tempfile::tempdir().unwrap();
    let store = StorePlan::Local { path: folder.path().join("x.db") };
    let supervisor = Supervisor::new(OnDeploymentChange::Hold, Fencing::Permit);
    let snapshots = supervisor.snapshots();
    for pattern in ["k*", "j*", "k*", "j*", "k*"] {
        let before = clock::now();
        supervisor.ensure(Plan { store: store.clone(), ..named(&a, "x", pattern) }).await;
        until("ready", || {
            let shown = snapshots.borrow().get(&ListenerId::new("shop", "x")).cloned().unwrap_or_default();
            assert!(!matches!(shown.hold, Some(Hold::Store { .. })), "{:?}: the file is still the other's", shown.hold);
            shown.ready && shown.started >= before
        })
        .await;
    }
    supervisor.stop(Duration::ZERO).await;
}
