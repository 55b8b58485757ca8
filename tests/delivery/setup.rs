//! A delivery over a store, with a receiver to tell.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use redis_expiry_operator::{
    delivery::{Delivery, Settings, Snapshot},
    dial::Dialler,
    meters::Shared,
    model::{Event, EventId, Evidence, Key, ListenerId, Millis},
    plan::{DeliveryPlan, Glob, IdTemplate, WebhookPlan},
    store::{Change, DeadLetter, Epoch, Pending, Store, memory::MemoryStore},
};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Millis(i64::try_from(since.as_millis()).unwrap())
}

pub fn settings(url: &str) -> Settings {
    Settings {
        listener: ListenerId::new("shop", "orders"),
        database: 0,
        pattern: Glob::new(b"*").unwrap(),
        id_template: IdTemplate::FirstStar,
        suspend: false,
        webhook: WebhookPlan {
            url: url.to_owned(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            event_type: "order.timeout.expired".to_owned(),
            headers: Vec::new(),
            bearer: None,
            tls: None,
            signing_keys: Vec::new(),
        },
        delivery: DeliveryPlan {
            max_in_flight: 64,
            initial_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(100),
            retry_after_max: Duration::from_secs(300),
            deadline: Duration::from_secs(86_400),
        },
    }
}

pub fn event(key: impl Into<Key>) -> Event {
    let (key, at) = (key.into(), now());
    let id = EventId::of(&ListenerId::new("shop", "orders"), 0, &key, at);
    Event { id, key, deadline: at, evidence: Evidence::Witnessed, settled_at: at }
}

pub fn events(name: &str, count: usize) -> Vec<Event> {
    (0..count).map(|number| event(format!("{name}:{number}").as_str())).collect()
}

/// A listener's store, with events settled into it as the ledger does it.
pub struct Outbox<S = MemoryStore> {
    pub store: Arc<S>,
    pub epoch: Epoch,
    pub meters: Shared,
}

impl Outbox {
    pub async fn empty() -> Self {
        Self::over(MemoryStore::new()).await
    }
}

impl<S: Store> Outbox<S> {
    pub async fn over(store: S) -> Self {
        let epoch = store.take_epoch().await.unwrap();
        Self { store: Arc::new(store), epoch, meters: Shared::default() }
    }
    pub fn deliver(&self, settings: Settings) -> Delivery {
        self.deliver_through(Dialler::everything(), settings)
    }
    pub fn deliver_through(&self, dialler: Dialler, settings: Settings) -> Delivery {
        Delivery::start(settings, dialler, self.store.clone(), self.epoch, Arc::clone(&self.meters))
    }
    pub async fn settle(&self, events: &[Event]) {
        let changes =
            events.iter().map(|event| Change::Settle { saw: None, event: event.clone(), at: event.settled_at });
        self.store.apply(self.epoch, changes.collect()).durable.await.unwrap();
    }
    pub async fn settle_and_offer(&self, delivery: &Delivery, events: Vec<Event>) {
        self.settle(&events).await;
        delivery.offer(events);
    }
    pub async fn pending(&self) -> Vec<Pending> {
        self.store.pending(Millis(i64::MAX), Vec::new(), 1_000_000).await.unwrap()
    }
    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.store.dead_letters(None, 1_000).await.unwrap()
    }
    pub async fn becomes_empty(&self) {
        eventually("the outbox is empty", async || self.pending().await.is_empty()).await;
    }
}

pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < until, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The first snapshot that is so.
pub async fn snapshot(delivery: &Delivery, what: &str, condition: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    let mut snapshots = delivery.snapshot();
    let found = tokio::time::timeout(PATIENCE, snapshots.wait_for(condition)).await;
    let Ok(Ok(snapshot)) = found.map(|found| found.map(|snapshot| snapshot.clone())) else {
        panic!("did not come true: {what}: {:?}", delivery.snapshot().borrow());
    };
    snapshot
}
