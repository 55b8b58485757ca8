//! Stores to test, and short ways to say what a test does.

use std::{path::PathBuf, time::Duration};

use redis_expiry_operator::{
    model::{Event, EventId, Evidence, Key, ListenerId, Millis},
    store::{
        Change, Counts, DeadLetter, Delivery, Entry, Epoch, Known, MEMORY_MS, NodeState, Outcome, Pending, Seen, Store,
        memory::MemoryStore,
        sqlite::{Options, SqliteStore},
    },
};
use tempfile::TempDir;

/// A store that starts empty and can be closed and opened again.
pub trait Fresh {
    type Store: Store;
    fn store(&self) -> &Self::Store;
    async fn reopen(&mut self);
    /// Opens it anew where it was closed already.
    async fn again(&mut self);
    /// What there is of it once it was destroyed, but for what is to be there.
    async fn left(&self) -> Vec<String>;
    fn durable(&self) -> bool {
        true
    }
}

pub struct Sqlite {
    store: Option<SqliteStore>,
    folder: TempDir,
    options: Options,
}

impl Sqlite {
    pub fn fresh() -> Self {
        Self::with(Options::default())
    }
    /// Each call is one in bulk, and what it brings stays unfiled.
    pub fn unfiled() -> Self {
        Self::with(in_bulk(Duration::from_secs(3_600)))
    }
    /// Each call is one in bulk, and what it brings is filed as soon as nobody waits.
    pub fn filing() -> Self {
        Self::with(in_bulk(Duration::ZERO))
    }
    fn with(options: Options) -> Self {
        let mut fresh = Self { store: None, folder: TempDir::new().unwrap(), options };
        fresh.open();
        fresh
    }
    fn open(&mut self) {
        let path: PathBuf = self.folder.path().join("ledger.db");
        self.store = Some(SqliteStore::open(&path, &self.options).unwrap());
    }
}

pub fn in_bulk(quiet: Duration) -> Options {
    Options { bulk: 1, quiet, ..Options::default() }
}

impl Fresh for Sqlite {
    type Store = SqliteStore;
    fn store(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }
    async fn reopen(&mut self) {
        self.store().close().await.unwrap();
        self.open();
    }
    async fn again(&mut self) {
        self.open();
    }
    async fn left(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

pub struct Memory(MemoryStore);

impl Memory {
    pub fn fresh() -> Self {
        Self(MemoryStore::new())
    }
}

impl Fresh for Memory {
    type Store = MemoryStore;
    fn store(&self) -> &MemoryStore {
        &self.0
    }
    /// It does not outlive its process; what it says of a reopened store, it says of itself.
    async fn reopen(&mut self) {}
    async fn again(&mut self) {
        self.0 = MemoryStore::new();
    }
    async fn left(&self) -> Vec<String> {
        Vec::new()
    }
    fn durable(&self) -> bool {
        false
    }
}

/// The first owner of a test's store; epoch 0 is never refused before somebody took one.
pub const FIRST: Epoch = Epoch(0);

pub fn entry(deadline: i64) -> Seen {
    Seen { deadline: Millis(deadline), absent: false }
}
pub fn absent(deadline: i64) -> Seen {
    Seen { deadline: Millis(deadline), absent: true }
}

pub fn record(key: &str, deadline: i64) -> Change {
    Change::Record { key: key.into(), saw: None, deadline: Millis(deadline) }
}
pub fn record_over(key: &str, saw: Seen, deadline: i64) -> Change {
    Change::Record { key: key.into(), saw: Some(saw), deadline: Millis(deadline) }
}
pub fn forget(key: &str, saw: Seen, at: i64) -> Change {
    Change::Forget { key: key.into(), saw, at: Millis(at) }
}
pub fn mark_absent(key: &str, saw: Seen) -> Change {
    Change::MarkAbsent { key: key.into(), saw }
}
/// Settles `key` at `at` with the event of its deadline.
pub fn settle(key: &str, saw: impl Into<Option<Seen>>, deadline: i64, at: i64) -> Change {
    Change::Settle { saw: saw.into(), event: event(key, deadline, at), at: Millis(at) }
}

pub fn id(key: &str, deadline: i64) -> EventId {
    EventId::of(&ListenerId::new("shop", "orders"), 0, &key.into(), Millis(deadline))
}
pub fn event(key: &str, deadline: i64, settled_at: i64) -> Event {
    Event {
        id: id(key, deadline),
        key: key.into(),
        deadline: Millis(deadline),
        evidence: if deadline % 2 == 0 { Evidence::Witnessed } else { Evidence::Inferred },
        settled_at: Millis(settled_at),
    }
}

fn outcome(key: &str, deadline: i64, outcome: Outcome) -> Delivery {
    Delivery { id: id(key, deadline), key: key.into(), deadline: Millis(deadline), outcome }
}
pub fn delivered(key: &str, deadline: i64, at: i64) -> Delivery {
    outcome(key, deadline, Outcome::Delivered { at: Millis(at) })
}
pub fn retry(key: &str, deadline: i64, attempts: u32, not_before: i64) -> Delivery {
    let (first_attempt, not_before) = (Millis(not_before - 10), Millis(not_before));
    outcome(key, deadline, Outcome::Retry { attempts, first_attempt, not_before })
}
pub fn dead_letter(key: &str, deadline: i64, at: i64) -> Delivery {
    let reason = format!("answered 422 until {at}");
    outcome(key, deadline, Outcome::DeadLetter { attempts: 3, reason, at: Millis(at) })
}

/// Applies and waits until it is durable.
pub async fn apply(store: &impl Store, changes: Vec<Change>) -> Vec<bool> {
    let applying = store.apply(FIRST, changes);
    let done = applying.done.await.unwrap();
    applying.durable.await.unwrap();
    done
}

/// Appends events `key` with deadline `settled_at`, as they settle.
pub async fn given_events(store: &impl Store, events: &[(&str, i64)]) {
    let changes = events.iter().map(|(key, settled_at)| settle(key, None, *settled_at, *settled_at)).collect();
    assert!(apply(store, changes).await.into_iter().all(|done| done));
}

pub async fn known(store: &impl Store, key: &str) -> Known {
    store.known(vec![key.into()]).await.unwrap().remove(0)
}
pub async fn entry_of(store: &impl Store, key: &str) -> Option<Seen> {
    known(store, key).await.entry
}

/// All entries, read in pages of `limit`.
pub async fn all_due(store: &impl Store, limit: usize) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map(|entry| (entry.seen.deadline, entry.key.clone()));
        let page = store.due(after, limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

pub const EVER: Millis = Millis(i64::MAX);

/// The whole outbox, in its order.
pub async fn outbox(store: &impl Store) -> Vec<Pending> {
    store.pending(EVER, Vec::new(), usize::MAX).await.unwrap()
}
pub fn names(pending: &[Pending]) -> Vec<&str> {
    pending.iter().map(|pending| pending.event.key.as_str().unwrap()).collect()
}
pub async fn letters(store: &impl Store) -> Vec<DeadLetter> {
    store.dead_letters(None, usize::MAX).await.unwrap()
}

/// All that a store holds; of memories those that it must still have at `now`.
#[derive(Debug, PartialEq)]
pub struct Holding {
    known: Vec<(Key, Known)>,
    due: Vec<Entry>,
    outbox: Vec<Pending>,
    next: Option<Millis>,
    letters: Vec<DeadLetter>,
    nodes: Vec<NodeState>,
    texts: [Option<String>; 2],
    counts: Counts,
}

impl Holding {
    pub fn is_empty(&self) -> bool {
        let unknown = self.known.iter().all(|(_, known)| *known == Known::default());
        unknown
            && self.due.is_empty()
            && self.outbox.is_empty()
            && self.letters.is_empty()
            && self.nodes.is_empty()
            && self.texts == [None, None]
    }
}

pub async fn holding(store: &impl Store, keys: &[Key], now: Millis) -> Holding {
    use redis_expiry_operator::store::meta;
    let mut known = store.known(keys.to_vec()).await.unwrap();
    for known in &mut known {
        known.memory = known.memory.filter(|memory| now.since(memory.at) <= MEMORY_MS);
    }
    let outbox = outbox(store).await;
    Holding {
        known: keys.iter().cloned().zip(known).collect(),
        due: all_due(store, 7).await,
        outbox,
        next: store.next_pending(Vec::new()).await.unwrap(),
        letters: letters(store).await,
        nodes: store.node_states().await.unwrap(),
        texts: [store.meta(meta::DEPLOYMENT).await.unwrap(), store.meta(meta::PATTERN).await.unwrap()],
        counts: store.counts().await.unwrap(),
    }
}
