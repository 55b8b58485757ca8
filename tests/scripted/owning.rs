//! Who owns a listener says so before it listens (DESIGN rule 9), and begins anew when its store has to be opened again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use redis_expiry_operator::{
    listener::{Hold, OnDeploymentChange, Supervisor},
    model::{EventId, Key, ListenerId, Millis, NodeId},
    plan::{DeliveryPlan, Glob, IdTemplate, Inferred, Plan, StorePlan, WebhookPlan},
    store::{
        Applying, Change, Counts, DeadLetter, Delivery, DueCursor, Entry, Epoch, Known, NodeState, Pending, Reply,
        Selection, Store, StoreError, memory::MemoryStore,
    },
};
use tokio::sync::watch;

use crate::{
    fake::{Fake, until},
    looking::plan as redis_plan,
};

fn plan(fake: &Fake) -> Plan {
    Plan {
        listener: ListenerId::new("shop", "orders"),
        suspend: false,
        redis: redis_plan(&[fake]),
        pattern: Glob::new(b"k*").unwrap(),
        id_template: IdTemplate::FirstStar,
        inferred: Inferred::Deliver,
        resync_interval: None,
        webhook: WebhookPlan {
            url: "http://127.0.0.1:9/".into(),
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            event_type: "expired".into(),
            headers: Vec::new(),
            bearer: None,
            signing_keys: Vec::new(),
        },
        delivery: DeliveryPlan {
            max_in_flight: 1,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(1),
            retry_after_max: Duration::ZERO,
            deadline: Duration::from_secs(60),
        },
        store: StorePlan::Memory,
    }
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

fn supervisor(store: &Arc<Troubled>) -> Supervisor {
    let store = Arc::clone(store);
    Supervisor::with_memory(OnDeploymentChange::Hold, move || Arc::clone(&store) as Arc<dyn Store>)
}

/// A store that takes its time to give an epoch, and whose disk may fail.
#[derive(Default)]
struct Troubled {
    inner: MemoryStore,
    /// How often it was asked for an epoch.
    asked: AtomicU32,
    gives: watch::Sender<bool>,
    /// What is done now is undone, and never durable.
    unsynced: AtomicBool,
}

impl Store for Troubled {
    fn take_epoch(&self) -> Reply<Epoch> {
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
        self.inner.apply(epoch, changes)
    }
    fn pending(&self, ready: Millis, but: Vec<EventId>, limit: usize) -> Reply<Vec<Pending>> {
        self.inner.pending(ready, but, limit)
    }
    fn next_pending(&self, but: Vec<EventId>) -> Reply<Option<Millis>> {
        self.inner.next_pending(but)
    }
    fn delivered(&self, epoch: Epoch, outcomes: Vec<Delivery>) -> Reply<()> {
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
    fn close(&self) -> Reply<()> {
        self.inner.close()
    }
}
