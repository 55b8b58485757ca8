//! Who owns a listener says so before it listens (DESIGN rule 9), and begins anew when its store has to be opened again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use redis_expiry_operator::{
    clock,
    listener::{Fencing, Hold, OnDeploymentChange, Removal, Snapshot, Supervisor},
    model::{EventId, Key, ListenerId, Millis, NodeId},
    plan::{Glob, Inferred, Plan},
    store::{
        Applying, Change, Counts, DeadLetter, Delivery, DueCursor, Durability, Entry, Epoch, Known, MEMORY_MS,
        NodeState, Pending, Reply, Seen, Selection, Store, StoreError, memory::MemoryStore,
    },
};
use tokio::{sync::watch, time::Instant};

use crate::{
    fake::{Fake, until},
    looking::plan as redis_plan,
    plan,
};

pub fn plan(fake: &Fake) -> Plan {
    plan::plan(redis_plan(&[fake]), b"k*", "http://127.0.0.1:9/")
}

#[tokio::test]
async fn nothing_is_subscribed_to_before_the_store_has_given_the_epoch() {
    let a = Fake::start("a").await;
    a.knows(&[a.row("master", "-", 1, "0-16383")]);
    let store = Arc::new(Troubled::default());
    let supervisor = supervisor(&store);
    supervisor.declare(vec![plan(&a)]).await;
    until("asked for an epoch", || store.asked.load(Ordering::SeqCst) > 0).await;
    // The connection is there, and whatever was sent over it before this second sign of life has been read.
    until("two signs of life", || a.times_asked("TIME") >= 2).await;
    assert_eq!(a.times_asked("PSUBSCRIBE"), 0);
    store.gives.send_replace(true);
    until("subscribed", || a.times_asked("PSUBSCRIBE") == 1).await;
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_store_whose_disk_failed_is_opened_again_and_the_listener_goes_on() {
    let a = Fake::start("a").await;
    a.knows(&[a.row("master", "-", 1, "0-16383")]);
    let store = Arc::new(Troubled::default());
    store.gives.send_replace(true);
    let supervisor = supervisor(&store);
    supervisor.declare(vec![plan(&a)]).await;
    let snapshots = supervisor.snapshots();
    let shown = || snapshots.borrow().get(&ListenerId::new("shop", "orders")).cloned().unwrap_or_default();
    until("subscribed", || a.times_asked("PSUBSCRIBE") == 1).await;
    store.unsynced.store(true, Ordering::SeqCst);
    let deadline = a.clock_millis() + 60_000;
    a.state().keys.insert("k".into(), Some(deadline));
    a.push("k", "set");
    until("held", || matches!(shown().hold, Some(Hold::Store { category: "Unsynced", .. }))).await;
    store.unsynced.store(false, Ordering::SeqCst);
    until("opened again", || store.asked.load(Ordering::SeqCst) > 1).await;
    // What was not on the disk is found again by the scan.
    until("goes on", || shown().hold.is_none() && shown().ready && shown().counts.tracked == 1).await;
    supervisor.stop(Duration::ZERO).await;
}

/// The store did what it was asked, and its answer was lost: what it did is delivered though nobody handed it out.
#[tokio::test]
async fn what_was_settled_by_a_call_that_failed_is_delivered_as_soon_as_the_store_answers() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let (supervisor, shown) = ready(&a, &store, Fencing::Permit).await;
    born(&a, "k");
    until("tracked", || shown().counts.tracked == 1).await;
    store.answers_lost.store(true, Ordering::SeqCst);
    // Long before its deadline: its id has the time of the push in it, and it is not told before it is durable.
    a.state().keys.remove("k");
    a.push("k", "expired");
    until("refused", || shown().store_error.is_some()).await;
    assert_eq!(shown().delivery.failed_attempts, 0);
    store.answers_lost.store(false, Ordering::SeqCst);
    // Nobody listens at the webhook: that it was tried is enough. (`until` waits for 10 s, and the outbox is read each 60 s.)
    until("tried", || shown().delivery.failed_attempts > 0).await;
    assert_eq!(shown().counts.pending, 1);
    supervisor.stop(Duration::ZERO).await;
}

/// The same, and the store is back only when nothing in it tells any more that it was done.
#[tokio::test]
async fn what_was_settled_by_a_call_that_failed_is_not_told_again_under_another_id_however_late_the_answer_comes() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let (supervisor, shown) = ready(&a, &store, Fencing::Permit).await;
    let due = |key: &str| {
        let deadline = a.clock_millis() + 2_500;
        a.state().keys.insert(key.into(), Some(deadline));
        a.push(key, "set");
    };
    due("k1");
    until("tracked", || shown().counts.tracked == 1).await;
    store.answers_lost.store(true, Ordering::SeqCst);
    until("refused", || shown().store_error.is_some()).await;
    let (other, saw) = (Key::from("other"), Seen { deadline: Millis(1), absent: false });
    let record = Change::Record { key: other.clone(), saw: None, deadline: saw.deadline };
    let forget = Change::Forget { key: other, saw, at: clock::now().plus(MEMORY_MS + 1) };
    store.inner.apply(Epoch(9), vec![record, forget]).done.await.unwrap();
    assert_eq!(store.inner.known(vec!["k1".into()]).await.unwrap(), [Known::default()]);
    store.answers_lost.store(false, Ordering::SeqCst);
    until("well", || shown().store_error.is_none()).await;
    due("k2");
    until("the next is told", || shown().counts.pending >= 2).await;
    let pending = store.inner.pending(Millis(i64::MAX), Vec::new(), 9).await.unwrap();
    let mut told: Vec<_> = pending.iter().map(|pending| pending.event.key.to_string()).collect();
    told.sort();
    assert_eq!(told, ["k1", "k2"]);
    supervisor.stop(Duration::ZERO).await;
}

fn listener() -> ListenerId {
    ListenerId::new("shop", "orders")
}

/// A supervisor, how it tells that its listener fares, and a listener that is ready.
async fn ready(a: &Fake, store: &Arc<Troubled>, fencing: Fencing) -> (Supervisor, impl Fn() -> Arc<Snapshot>) {
    a.knows(&[a.row("master", "-", 1, "0-16383")]);
    store.gives.send_replace(true);
    let made = Arc::clone(store);
    started(a, fencing, move || Arc::clone(&made) as Arc<dyn Store>).await
}

async fn started(
    a: &Fake,
    fencing: Fencing,
    make: impl Fn() -> Arc<dyn Store> + Send + Sync + 'static,
) -> (Supervisor, impl Fn() -> Arc<Snapshot>) {
    let supervisor = Supervisor::with_memory(OnDeploymentChange::Hold, fencing, make);
    supervisor.ensure(plan(a)).await;
    let snapshots = supervisor.snapshots();
    let shown = move || snapshots.borrow().get(&listener()).cloned().unwrap_or_default();
    until("ready", || shown().ready).await;
    (supervisor, shown)
}

fn fenced(shown: &Snapshot) -> bool {
    matches!(shown.hold, Some(Hold::Store { category: "Fenced", .. }))
}

/// A key is born, so that the ledger has something to write.
fn born(a: &Fake, key: &str) {
    let deadline = a.clock_millis() + 60_000;
    a.state().keys.insert(key.into(), Some(deadline));
    a.push(key, "set");
}

#[tokio::test]
async fn a_fenced_listener_holds_until_a_younger_reading_of_the_membership_permits_it() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let (supervisor, shown) = ready(&a, &store, Fencing::Permit).await;
    let before = Instant::now();
    // Another process takes the store.
    store.inner.take_epoch().await.unwrap();
    born(&a, "k1");
    until("fenced", || fenced(&shown())).await;
    until("unsubscribed", || !a.subscribed("k*")).await;
    supervisor.permit(&listener(), before);
    supervisor.permit(&ListenerId::new("shop", "nobody"), Instant::now());
    // Changed settings are no permit either.
    supervisor.ensure(Plan { inferred: Inferred::Drop, ..plan(&a) }).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!((fenced(&shown()), store.asked.load(Ordering::SeqCst)), (true, 1), "it took the store back");
    supervisor.permit(&listener(), Instant::now());
    until("goes on", || shown().ready && shown().hold.is_none() && shown().counts.tracked == 1).await;
    assert_eq!(store.asked.load(Ordering::SeqCst), 2);
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn where_nobody_permits_it_says_that_another_process_has_it_and_takes_it_back_later() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let (supervisor, shown) = ready(&a, &store, Fencing::Wait(Duration::from_millis(1_500))).await;
    store.inner.take_epoch().await.unwrap();
    born(&a, "k1");
    until("fenced", || fenced(&shown())).await;
    let since = Instant::now();
    let Some(Hold::Store { message, .. }) = shown().hold.clone() else { unreachable!("it is fenced") };
    assert!(message.contains("another process") && message.contains("stop one of the two"), "{message}");
    until("goes on", || shown().ready && shown().hold.is_none() && shown().counts.tracked == 1).await;
    assert!(since.elapsed() >= Duration::from_millis(1_400), "at once");
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_delivery_that_is_fenced_first_holds_the_listener_as_fenced() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let (supervisor, shown) = ready(&a, &store, Fencing::Permit).await;
    let deadline = a.clock_millis() + 100;
    a.state().keys.insert("k1".into(), Some(deadline));
    store.fence_outcomes.store(true, Ordering::SeqCst);
    a.push("k1", "set");
    // The webhook refuses connections: the retry is what it writes down.
    until("fenced", || fenced(&shown())).await;
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_listener_that_fails_is_begun_again_and_takes_no_other_with_it() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let (supervisor, shown) = ready(&a, &store, Fencing::Permit).await;
    let other = ListenerId::new("shop", "other");
    store.panics.store(2, Ordering::SeqCst);
    let snapshots = supervisor.snapshots();
    let of_other = || snapshots.borrow().get(&other).cloned().unwrap_or_default();
    supervisor.ensure(Plan { listener: other.clone(), ..plan(&a) }).await;
    until("told", || matches!(of_other().hold, Some(Hold::Store { category: "Failed", .. }))).await;
    assert!(shown().hold.is_none() && shown().ready);
    until("begun again", || of_other().ready && of_other().hold.is_none()).await;
    assert_eq!(store.panics.load(Ordering::SeqCst), 0);
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_listener_that_ends_slowly_holds_up_no_other() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    a.knows(&[a.row("master", "-", 1, "0-16383")]);
    store.gives.send_replace(true);
    let first = std::sync::Mutex::new(Some(Arc::clone(&store)));
    let make = move || match first.lock().unwrap().take() {
        Some(first) => first as Arc<dyn Store>,
        None => Arc::new(MemoryStore::new()),
    };
    let (supervisor, _) = started(&a, Fencing::Permit, make).await;
    store.closes.send_replace(false);
    let how = Removal::Deleted;
    let id = listener();
    let mut removing = Box::pin(supervisor.remove(&id, how));
    let began = tokio::time::timeout(Duration::from_millis(300), removing.as_mut()).await;
    assert!(began.is_err(), "it ended at once");
    let others = ["b", "c"].map(|name| Plan { listener: ListenerId::new("shop", name), ..plan(&a) });
    let others = others.map(|plan| supervisor.ensure(plan));
    tokio::time::timeout(Duration::from_secs(2), futures_util::future::join_all(others)).await.unwrap();
    let snapshots = supervisor.snapshots();
    until("the others are ready", || snapshots.borrow().values().filter(|shown| shown.ready).count() >= 2).await;
    store.closes.send_replace(true);
    removing.await;
    assert!(!snapshots.borrow().contains_key(&listener()));
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_deleted_listener_stops_at_once_and_its_store_is_emptied_and_one_handed_over_keeps_it() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let (supervisor, shown) = ready(&a, &store, Fencing::Permit).await;
    born(&a, "k1");
    until("tracked", || shown().counts.tracked == 1).await;
    supervisor.remove(&listener(), Removal::HandOver { patience: Duration::ZERO }).await;
    assert_eq!((store.destroyed.load(Ordering::SeqCst), a.subscribed("k*")), (0, false));
    assert_eq!(shown(), Arc::default());
    supervisor.ensure(plan(&a)).await;
    until("ready with what it had", || shown().ready && shown().counts.tracked == 1).await;
    supervisor.remove(&listener(), Removal::Deleted).await;
    assert_eq!(store.destroyed.load(Ordering::SeqCst), 1);
    assert!(matches!(store.inner.counts().await, Err(StoreError::Closed)));
    supervisor.remove(&listener(), Removal::Deleted).await;
    assert_eq!(store.destroyed.load(Ordering::SeqCst), 1, "there is nothing left to remove");
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_listener_that_is_deleted_while_it_holds_leaves_nothing_behind_unless_it_is_anothers() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let (supervisor, shown) = ready(&a, &store, Fencing::Permit).await;
    store.inner.take_epoch().await.unwrap();
    born(&a, "k1");
    until("fenced", || fenced(&shown())).await;
    supervisor.remove(&listener(), Removal::Deleted).await;
    assert_eq!(store.destroyed.load(Ordering::SeqCst), 0, "another has it");
    store.unavailable.store(true, Ordering::SeqCst);
    supervisor.ensure(plan(&a)).await;
    until("holds", || matches!(shown().hold, Some(Hold::Store { category: "Unavailable", .. }))).await;
    store.unavailable.store(false, Ordering::SeqCst);
    supervisor.remove(&listener(), Removal::Deleted).await;
    assert_eq!(store.destroyed.load(Ordering::SeqCst), 1);
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_snapshot_counts_the_patterns_of_the_deployment_and_says_when_it_was_started() {
    let (a, store) = (Fake::start("a").await, Arc::new(Troubled::default()));
    let before = clock::now();
    let (supervisor, shown) = ready(&a, &store, Fencing::Permit).await;
    assert_eq!(shown().patterns, 1);
    assert!((before..=clock::now()).contains(&shown().started));
    let other = |name, pattern: &str| Plan {
        listener: ListenerId::new("shop", name),
        pattern: Glob::new(pattern.as_bytes()).unwrap(),
        ..plan(&a)
    };
    supervisor.ensure(other("same", "k*")).await;
    supervisor.ensure(other("another", "j*")).await;
    until("two patterns", || shown().patterns == 2).await;
    supervisor.remove(&ListenerId::new("shop", "another"), Removal::Deleted).await;
    until("one pattern", || shown().patterns == 1).await;
    let started = shown().started;
    supervisor.ensure(Plan { suspend: true, ..plan(&a) }).await;
    assert_eq!(shown().started, started, "a change in place starts nothing");
    supervisor.ensure(Plan { inferred: Inferred::Drop, ..plan(&a) }).await;
    until("started anew", || shown().started > started).await;
    supervisor.stop(Duration::ZERO).await;
}

fn supervisor(store: &Arc<Troubled>) -> Supervisor {
    let store = Arc::clone(store);
    Supervisor::with_memory(OnDeploymentChange::Hold, Fencing::Permit, move || Arc::clone(&store) as Arc<dyn Store>)
}

/// A store that takes its time to give an epoch, and whose disk may fail.
struct Troubled {
    inner: MemoryStore,
    /// How often it was asked for an epoch.
    asked: AtomicU32,
    gives: watch::Sender<bool>,
    /// What is done now is undone, and never durable.
    unsynced: AtomicBool,
    /// Changes are made, and said to have failed.
    answers_lost: AtomicBool,
    /// It cannot be asked for an epoch.
    unavailable: AtomicBool,
    /// Outcomes are refused as another's.
    fence_outcomes: AtomicBool,
    /// It panics when it is asked for an epoch, so often.
    panics: AtomicU32,
    /// While this is false, its end takes time.
    closes: watch::Sender<bool>,
    /// How often it was destroyed.
    destroyed: AtomicU32,
}

impl Default for Troubled {
    fn default() -> Self {
        Self {
            inner: MemoryStore::new(),
            asked: 0.into(),
            gives: watch::Sender::new(false),
            unsynced: false.into(),
            answers_lost: false.into(),
            unavailable: false.into(),
            fence_outcomes: false.into(),
            panics: 0.into(),
            closes: watch::Sender::new(true),
            destroyed: 0.into(),
        }
    }
}

impl Store for Troubled {
    fn take_epoch(&self) -> Reply<Epoch> {
        let panics = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(panics.is_err(), "as the test wants it");
        if self.unavailable.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Unavailable("as the test wants it".into())) });
        }
        let (epoch, mut gives) = (self.inner.take_epoch(), self.gives.subscribe());
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let _ = gives.wait_for(|gives| *gives).await;
            epoch.await
        })
    }

    fn known(&self, keys: Vec<Key>) -> Reply<Vec<Known>> {
        self.inner.known(keys)
    }
    fn due(&self, after: Option<DueCursor>, limit: usize) -> Reply<Vec<Entry>> {
        self.inner.due(after, limit)
    }
    fn apply(&self, epoch: Epoch, changes: Vec<Change>) -> Applying {
        if self.unsynced.load(Ordering::SeqCst) {
            let done = Ok(vec![true; changes.len()]);
            let error = StoreError::Unsynced { path: "ledger.db".into(), detail: "the disk is broken".into() };
            return Applying { done: Box::pin(async { done }), durable: Box::pin(async { Err(error) }) };
        }
        let applying = self.inner.apply(epoch, changes);
        if self.answers_lost.load(Ordering::SeqCst) {
            let error = StoreError::Unavailable("as the test wants it".into());
            let durable = Err(error.clone());
            return Applying { done: Box::pin(async { Err(error) }), durable: Box::pin(async { durable }) };
        }
        applying
    }
    fn pending(&self, ready: Millis, but: Vec<EventId>, limit: usize) -> Reply<Vec<Pending>> {
        self.inner.pending(ready, but, limit)
    }
    fn next_pending(&self, but: Vec<EventId>) -> Reply<Option<Millis>> {
        self.inner.next_pending(but)
    }
    fn delivered(&self, epoch: Epoch, outcomes: Vec<Delivery>) -> Reply<()> {
        if self.fence_outcomes.load(Ordering::SeqCst) {
            let newest = Epoch(epoch.0 + 1);
            return Box::pin(async move { Err(StoreError::Fenced { mine: epoch, newest }) });
        }
        self.inner.delivered(epoch, outcomes)
    }
    fn dead_letters(&self, after: Option<(Millis, EventId)>, limit: usize) -> Reply<Vec<DeadLetter>> {
        self.inner.dead_letters(after, limit)
    }
    fn replay(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        self.inner.replay(epoch, which)
    }
    fn purge(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        self.inner.purge(epoch, which)
    }
    fn node_states(&self) -> Reply<Vec<NodeState>> {
        self.inner.node_states()
    }
    fn remember_node(&self, epoch: Epoch, state: NodeState) -> Reply<()> {
        self.inner.remember_node(epoch, state)
    }
    fn forget_node(&self, epoch: Epoch, node: NodeId) -> Reply<()> {
        self.inner.forget_node(epoch, node)
    }
    fn meta(&self, name: &'static str) -> Reply<Option<String>> {
        self.inner.meta(name)
    }
    fn set_meta(&self, epoch: Epoch, name: &'static str, value: String) -> Reply<()> {
        self.inner.set_meta(epoch, name, value)
    }
    fn discard_ledger(&self, epoch: Epoch) -> Reply<u64> {
        self.inner.discard_ledger(epoch)
    }
    fn counts(&self) -> Reply<Counts> {
        self.inner.counts()
    }
    fn durability(&self) -> Reply<Durability> {
        self.inner.durability()
    }
    fn destroy(&self, epoch: Epoch) -> Reply<()> {
        self.destroyed.fetch_add(1, Ordering::SeqCst);
        let (destroyed, mut closes) = (self.inner.destroy(epoch), self.closes.subscribe());
        Box::pin(async move {
            let _ = closes.wait_for(|closes| *closes).await;
            destroyed.await
        })
    }
    fn close(&self) -> Reply<()> {
        self.inner.close()
    }
}
