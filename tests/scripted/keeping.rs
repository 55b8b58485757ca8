//! The ledger's task on a deployment of scripted nodes: deadlines, periodic scans, whose ledger it is.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use redis_expiry_operator::{
    clock,
    deployment::Deployment,
    dial::Dialler,
    ledger::{Foreign, Identity, Keeper, Naming, Settings, Settled, Stats, Stopped},
    meters::{Ended, Looked, Shared},
    model::{Event, Evidence, Key, ListenerId, Millis, NodeId},
    plan::{Glob, Inferred, RedisPlan},
    store::{Change, Epoch, Known, MEMORY_MS, Seen, Store, StoreError, memory::MemoryStore, meta},
};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    fake::{Fake, Frame, until},
    looking::plan,
};

/// What may differ.
pub struct With {
    pub store: Arc<MemoryStore>,
    pub pattern: &'static str,
    pub resync_interval: Option<Duration>,
    pub foreign: Foreign,
}

impl Default for With {
    fn default() -> Self {
        Self { store: Arc::default(), pattern: "k*", resync_interval: None, foreign: Foreign::Hold }
    }
}

/// A running ledger.
pub struct Keeping {
    pub store: Arc<MemoryStore>,
    pub stats: watch::Receiver<Stats>,
    pub meters: Shared,
    told: Arc<Mutex<Vec<Event>>>,
    deployment: Deployment,
    stop: CancellationToken,
    task: JoinSet<Result<(), Stopped>>,
}

impl Keeping {
    pub async fn start(redis: RedisPlan, with: With) -> Self {
        let With { store, pattern, resync_interval, foreign } = with;
        let epoch = store.take_epoch().await.unwrap();
        let deployment = Deployment::start(redis, Dialler::everything());
        let naming =
            Naming { listener: ListenerId::new("shop", "orders"), database: 0, inferred: Inferred::Deliver, epoch };
        let pattern = Glob::new(pattern.as_bytes()).unwrap();
        let settings = Settings { naming, pattern: pattern.clone(), resync_interval, foreign };
        let (publish, stats) = watch::channel(Stats::default());
        let (told, stop) = (Arc::<Mutex<Vec<Event>>>::default(), CancellationToken::new());
        let (outlet, meters) = (Arc::clone(&told), Shared::default());
        let keeper = Keeper::run(
            settings,
            deployment.join(pattern.as_bytes()),
            Arc::clone(&store) as Arc<dyn Store>,
            Box::new(move |settled| {
                if let Settled::Events(events) = settled {
                    outlet.lock().unwrap().extend(events);
                }
            }),
            publish,
            Arc::clone(&meters),
            stop.clone(),
        );
        let mut task = JoinSet::new();
        task.spawn(keeper);
        Self { store, stats, meters, told, deployment, stop, task }
    }
    /// With one node that owns all slots, and ready.
    pub async fn alone(a: &Fake, with: With) -> Self {
        a.knows(&[a.row("master", "-", 1, "0-16383")]);
        let keeping = Self::start(plan(&[a]), with).await;
        keeping.ready().await;
        keeping
    }
    pub async fn ready(&self) {
        until("ready", || self.stats.borrow().ready).await;
    }
    pub fn told(&self) -> Vec<(Key, Millis, Evidence)> {
        let told = self.told.lock().unwrap();
        told.iter().map(|event| (event.key.clone(), event.deadline, event.evidence)).collect()
    }
    /// Who owns the key's slot, as the deployment has it.
    pub fn owner(&self, key: &str) -> Option<NodeId> {
        self.deployment.view().borrow().owner(Key::from(key).slot()).cloned()
    }
    pub async fn known(&self, key: &str) -> Known {
        self.store.known(vec![key.into()]).await.unwrap().remove(0)
    }
    /// Waits until the ledger has of `k` what is wanted.
    pub async fn until_known(&self, what: &str, wanted: impl Fn(Known) -> bool) {
        self.until_known_of("k", what, wanted).await;
    }
    pub async fn until_known_of(&self, key: &str, what: &str, wanted: impl Fn(Known) -> bool) {
        let over = tokio::time::Instant::now() + Duration::from_secs(10);
        while !wanted(self.known(key).await) {
            let known = self.known(key).await;
            assert!(
                tokio::time::Instant::now() < over,
                "not within 10 s: {what}; {known:?}, {:?}",
                self.stats.borrow()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    /// As a crash: nothing more is asked of it.
    pub async fn kill(mut self) -> Arc<MemoryStore> {
        self.task.shutdown().await;
        self.store
    }
    async fn ended(&mut self) -> Result<(), Stopped> {
        timeout(Duration::from_secs(5), self.task.join_next()).await.unwrap().unwrap().unwrap()
    }
}

/// A store whose ledger has these keys, with deadlines far ahead, of the deployment of these nodes.
async fn given(keys: &[&str], nodes: &[&str]) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    let ahead = Millis(99_999_999_999_999);
    let record = |key: &&str| Change::Record { key: (*key).into(), saw: None, deadline: ahead };
    store.apply(Epoch(0), keys.iter().map(record).collect()).durable.await.unwrap();
    store.set_meta(Epoch(0), meta::DEPLOYMENT, Identity::of(nodes).write()).await.unwrap();
    Arc::new(store)
}

async fn tracked(store: &MemoryStore) -> u64 {
    store.counts().await.unwrap().tracked
}

#[tokio::test]
async fn a_deadline_is_asked_about_by_the_owners_clock() {
    let a = Fake::start("a").await;
    a.state().ahead_micros = 3_600_000_000;
    let keeping = Keeping::alone(&a, With::default()).await;
    let deadline = a.clock_millis() + 1_000;
    a.state().keys.insert("k".into(), Some(deadline));
    a.push("k", "set");
    until("told", || !keeping.told().is_empty()).await;
    assert_eq!(keeping.told(), [("k".into(), Millis(deadline), Evidence::Witnessed)]);
    assert!(a.clock_millis() < deadline + 2_000);
    let late = || keeping.meters.ledger.lateness.read();
    until("timed", || late().count == 1).await;
    assert!(late().sum > 0.0 && late().sum < 2.0, "by the owner's clock: {:?}", late());
}

#[tokio::test]
async fn a_key_that_got_no_answer_at_its_deadline_is_asked_about_again() {
    let a = Fake::start("a").await;
    let keeping = Keeping::alone(&a, With::default()).await;
    let deadline = a.clock_millis() + 1_000;
    a.state().keys.insert("k".into(), Some(deadline));
    a.push("k", "set");
    keeping.until_known("recorded", |known| known.entry.is_some()).await;
    a.script("k", &[Frame::Reply("-LOADING for a while".into())]);
    until("told", || !keeping.told().is_empty()).await;
    let ledger = &keeping.meters.ledger;
    assert_eq!((ledger.looks.get(Looked::Error), ledger.looks.get(Looked::Alive)), (1, 1));
    until("counted", || ledger.settled.get(Evidence::Witnessed) == 1).await;
    assert_eq!(keeping.told(), [("k".into(), Millis(deadline), Evidence::Witnessed)]);
}

#[tokio::test]
async fn a_key_that_the_source_of_a_moving_slot_expires_long_after_it_was_told_is_not_told_again() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    for fake in [&a, &b] {
        fake.knows(&[a.row("master", "-", 1, "0-16383"), b.row("master", "-", 2, "")]);
    }
    let keeping = Keeping::start(plan(&[&a, &b]), With::default()).await;
    keeping.ready().await;
    // When it is told, its birth is forgotten.
    let deadline = a.clock_millis() + 3_000;
    a.state().keys.insert("k".into(), Some(deadline));
    a.push("k", "set");
    keeping.until_known("recorded", |known| known.entry.is_some()).await;
    // What is due is as good as gone for a node that its slot leaves, and stays there.
    for key in ["k", "k{k}"] {
        for _ in 0..50 {
            a.script(key, &[Frame::Reply(format!("-ASK 5 {}", b.address))]);
        }
    }
    until("told", || !keeping.told().is_empty()).await;
    // So much later that the store remembers none of it.
    let (other, saw) = (Key::from("other"), Seen { deadline: Millis(1), absent: false });
    let record = Change::Record { key: other.clone(), saw: None, deadline: saw.deadline };
    let forget = Change::Forget { key: other, saw, at: clock::now().plus(MEMORY_MS + 1) };
    keeping.store.apply(Epoch(9), vec![record, forget]).done.await.unwrap();
    assert_eq!(keeping.known("k").await, Known::default());
    let asked = b.times_asked("PEXPIRETIME k");
    a.push("k", "expired");
    until("asked", || b.times_asked("PEXPIRETIME k") > asked).await;
    // The answer to that comes before the answer to this.
    let next = b.clock_millis() + 100;
    b.state().keys.insert("k{k}".into(), Some(next));
    b.push("k{k}", "restore");
    until("the next is told", || keeping.told().iter().any(|(key, ..)| *key == "k{k}".into())).await;
    let told = [("k".into(), Millis(deadline), Evidence::Inferred), ("k{k}".into(), Millis(next), Evidence::Witnessed)];
    assert_eq!(keeping.told(), told);
}

#[tokio::test]
async fn a_key_that_no_push_told_of_is_found_by_the_periodic_scan_and_counted() {
    let a = Fake::start("a").await;
    let with = With { resync_interval: Some(Duration::from_millis(300)), ..With::default() };
    let keeping = Keeping::alone(&a, with).await;
    let gaps = keeping.stats.borrow().gaps;
    a.state().keys.insert("k".into(), Some(99_999_999_999_999));
    a.state().keys.insert("rx:{0}:k".into(), Some(99_999_999_999_999));
    keeping.until_known("recorded", |known| known.entry.is_some()).await;
    until("counted", || keeping.stats.borrow().resync_found == 1).await;
    let ours = keeping.known("rx:{0}:k").await;
    assert_eq!((ours.entry, keeping.stats.borrow().gaps), (None, gaps));
    let ledger = &keeping.meters.ledger;
    until("a periodic scan is done", || ledger.periodic.get(Ended::Done) > 0).await;
    assert_eq!((ledger.resync_found.get(), ledger.resyncs.get(Ended::Done)), (1, 1));
}

#[tokio::test]
async fn a_refused_owner_stops() {
    let a = Fake::start("a").await;
    let mut keeping = Keeping::alone(&a, With::default()).await;
    keeping.store.take_epoch().await.unwrap();
    a.state().keys.insert("k".into(), Some(99_999_999_999_999));
    a.push("k", "set");
    assert!(matches!(keeping.ended().await, Err(Stopped::Store(StoreError::Fenced { .. }))));
    assert_eq!(tracked(&keeping.store).await, 0);
}

#[tokio::test]
async fn a_ledger_of_another_deployment_is_not_touched_until_told() {
    let a = Fake::start("a").await;
    a.knows(&[a.row("master", "-", 1, "0-16383")]);
    let store = given(&["k"], &["x", "y"]).await;
    let mut keeping = Keeping::start(plan(&[&a]), With { store, ..With::default() }).await;
    assert!(matches!(keeping.ended().await, Err(Stopped::Foreign(_))));
    assert_eq!((tracked(&keeping.store).await, keeping.told()), (1, vec![]));
}

#[tokio::test]
async fn told_to_discard_it_drops_the_old_entries_and_told_to_keep_it_keeps_them() {
    for (foreign, left) in [(Foreign::Discard, 0), (Foreign::Keep, 1)] {
        let a = Fake::start("a").await;
        let store = given(&["k"], &["x", "y"]).await;
        let keeping = Keeping::alone(&a, With { store, foreign, ..With::default() }).await;
        assert_eq!(tracked(&keeping.store).await, left);
        keeping.stop.cancel();
    }
}

#[tokio::test]
async fn nodes_that_come_one_at_a_time_are_remembered_as_the_deployment() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let keeping = Keeping::alone(&a, With::default()).await;
    let rows = [a.row("master", "-", 1, "0-16383"), b.row("slave", "a", 1, "")];
    a.knows(&rows);
    b.knows(&rows);
    let both = Identity::of(["a", "b"]).write();
    let over = tokio::time::Instant::now() + Duration::from_secs(10);
    while keeping.store.meta(meta::DEPLOYMENT).await.unwrap().as_ref() != Some(&both) {
        assert!(tokio::time::Instant::now() < over, "b is not remembered");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_changed_pattern_drops_what_it_no_longer_covers_and_says_how_many() {
    let a = Fake::start("a").await;
    let store = given(&["k", "ka", "kb", "kab"], &["a"]).await;
    store.set_meta(Epoch(0), meta::PATTERN, data_encoding::BASE64.encode(b"k*")).await.unwrap();
    let ahead = Some(99_999_999_999_999);
    a.state().keys.extend(["k", "ka", "kb", "kab"].map(|key| (key.to_owned(), ahead)));
    a.state().keys.retain(|key, _| key.starts_with("ka"));
    let keeping = Keeping::alone(&a, With { store, pattern: "ka*", ..With::default() }).await;
    let entries = keeping.store.due(None, 9).await.unwrap();
    assert_eq!(entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), ["ka".into(), "kab".into()] as [Key; 2]);
    assert_eq!(keeping.stats.borrow().dropped_by_pattern, 2);
    assert_eq!(keeping.meters.ledger.dropped_by_pattern.get(), 2);
}
