//! A store that takes no outcomes while it is told so, of all events or of those in one of its two partitions.

use std::sync::Mutex;

use redis_expiry_operator::{
    model::{EventId, Key, Millis, NodeId},
    store::{
        Applying, Change, Counts, DeadLetter, Delivery, DueCursor, Durability, Entry, Epoch, Known, NodeState, Pending,
        Reply, Selection, Store, StoreError, memory::MemoryStore,
    },
};

pub struct Refusing {
    pub inner: MemoryStore,
    refusal: Mutex<Option<StoreError>>,
    /// The keys of the partition that refuses begin with this; `None`: there is but one.
    away: Option<&'static str>,
}

impl Refusing {
    pub fn with(error: StoreError) -> Self {
        Self { inner: MemoryStore::new(), refusal: Mutex::new(Some(error)), away: None }
    }
    /// Only of keys that begin with `prefix`, which are a partition.
    pub fn partition(prefix: &'static str, error: StoreError) -> Self {
        Self { away: Some(prefix), ..Self::with(error) }
    }
    pub fn relent(&self) {
        *self.refusal.lock().unwrap() = None;
    }
}

impl Store for Refusing {
    fn delivered(&self, epoch: Epoch, outcomes: Vec<Delivery>) -> Reply<()> {
        let concerned = self.away.is_none() || outcomes.iter().any(|delivery| self.partition_of(&delivery.key) == 1);
        match self.refusal.lock().unwrap().clone().filter(|_| concerned) {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.inner.delivered(epoch, outcomes),
        }
    }

    fn partitions(&self) -> usize {
        1 + usize::from(self.away.is_some())
    }
    fn partition_of(&self, key: &Key) -> usize {
        usize::from(self.away.is_some_and(|prefix| key.as_bytes().starts_with(prefix.as_bytes())))
    }

    fn take_epoch(&self) -> Reply<Epoch> {
        self.inner.take_epoch()
    }
    fn known(&self, keys: Vec<Key>) -> Reply<Vec<Known>> {
        self.inner.known(keys)
    }
    fn due(&self, after: Option<DueCursor>, limit: usize) -> Reply<Vec<Entry>> {
        self.inner.due(after, limit)
    }
    fn apply(&self, epoch: Epoch, changes: Vec<Change>) -> Applying {
        self.inner.apply(epoch, changes)
    }
    fn pending(&self, ready: Millis, but: Vec<EventId>, limit: usize) -> Reply<Vec<Pending>> {
        self.inner.pending(ready, but, limit)
    }
    fn next_pending(&self, but: Vec<EventId>) -> Reply<Option<Millis>> {
        self.inner.next_pending(but)
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
        self.inner.destroy(epoch)
    }
    fn close(&self) -> Reply<()> {
        self.inner.close()
    }
}
