//! A store whose calls are timed and whose errors are counted. It changes nothing else of them.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Applying, Change, Counts, DeadLetter, Delivery, DueCursor, Durability, Entry, Epoch, Known, Losses, NodeState,
    Pending, Reply, Selection, Store,
};
use crate::{
    meters::{Call, Shared, StoreFault},
    model::{EventId, Key, Millis, NodeId},
};

/// Another store, and where it is counted.
pub struct Metered {
    store: Arc<dyn Store>,
    meters: Shared,
}

impl Metered {
    pub fn new(store: Arc<dyn Store>, meters: Shared) -> Self {
        Self { store, meters }
    }

    /// The call was made already, so this may wait for its answer later.
    fn timed<T: 'static>(&self, call: Call, reply: Reply<T>) -> Reply<T> {
        let (meters, began) = (Arc::clone(&self.meters), Instant::now());
        Box::pin(async move {
            let answer = reply.await;
            meters.store.time(call).observe(began.elapsed());
            if let Err(error) = &answer {
                meters.store.errors.add(StoreFault::of_category(error.category()), 1);
            }
            answer
        })
    }
    fn read<T: 'static>(&self, reply: Reply<T>) -> Reply<T> {
        self.timed(Call::Read, reply)
    }
    fn write<T: 'static>(&self, reply: Reply<T>) -> Reply<T> {
        self.timed(Call::Write, reply)
    }
}

impl Store for Metered {
    fn take_epoch(&self) -> Reply<Epoch> {
        self.write(self.store.take_epoch())
    }
    fn known(&self, keys: Vec<Key>) -> Reply<Vec<Known>> {
        self.read(self.store.known(keys))
    }
    fn due(&self, after: Option<DueCursor>, limit: usize) -> Reply<Vec<Entry>> {
        self.read(self.store.due(after, limit))
    }
    fn apply(&self, epoch: Epoch, changes: Vec<Change>) -> Applying {
        let Applying { done, durable } = self.store.apply(epoch, changes);
        let meters = Arc::clone(&self.meters);
        // Nobody waits for it where `done` failed, so no error is counted twice.
        let durable = Box::pin(async move {
            let answer = durable.await;
            if let Err(error) = &answer {
                meters.store.errors.add(StoreFault::of_category(error.category()), 1);
            }
            answer
        });
        Applying { done: self.write(done), durable }
    }
    fn pending(&self, ready: Millis, but: Vec<EventId>, limit: usize) -> Reply<Vec<Pending>> {
        self.read(self.store.pending(ready, but, limit))
    }
    fn next_pending(&self, but: Vec<EventId>) -> Reply<Option<Millis>> {
        self.read(self.store.next_pending(but))
    }
    fn delivered(&self, epoch: Epoch, outcomes: Vec<Delivery>) -> Reply<()> {
        self.write(self.store.delivered(epoch, outcomes))
    }
    fn dead_letters(&self, after: Option<(Millis, EventId)>, limit: usize) -> Reply<Vec<DeadLetter>> {
        self.read(self.store.dead_letters(after, limit))
    }
    fn replay(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        self.write(self.store.replay(epoch, which))
    }
    fn purge(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        self.write(self.store.purge(epoch, which))
    }
    fn node_states(&self) -> Reply<Vec<NodeState>> {
        self.read(self.store.node_states())
    }
    fn remember_node(&self, epoch: Epoch, state: NodeState) -> Reply<()> {
        self.write(self.store.remember_node(epoch, state))
    }
    fn forget_node(&self, epoch: Epoch, node: NodeId) -> Reply<()> {
        self.write(self.store.forget_node(epoch, node))
    }
    fn meta(&self, name: &'static str) -> Reply<Option<String>> {
        self.read(self.store.meta(name))
    }
    fn set_meta(&self, epoch: Epoch, name: &'static str, value: String) -> Reply<()> {
        self.write(self.store.set_meta(epoch, name, value))
    }
    fn discard_ledger(&self, epoch: Epoch) -> Reply<u64> {
        self.write(self.store.discard_ledger(epoch))
    }
    fn partitions(&self) -> usize {
        self.store.partitions()
    }
    fn partition_of(&self, key: &Key) -> usize {
        self.store.partition_of(key)
    }
    fn losses(&self) -> Losses {
        self.store.losses()
    }
    fn counts(&self) -> Reply<Counts> {
        self.read(self.store.counts())
    }
    fn durability(&self) -> Reply<Durability> {
        self.read(self.store.durability())
    }
    fn destroy(&self, epoch: Epoch) -> Reply<()> {
        // Not timed, like `close`: afterwards nobody is there to see it.
        self.store.destroy(epoch)
    }
    fn close(&self) -> Reply<()> {
        // Not timed: a close takes as long as what was enqueued before it.
        self.store.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreError, memory::MemoryStore};

    #[tokio::test]
    async fn calls_are_timed_by_sort_and_errors_counted_by_category() {
        let meters = Shared::default();
        let store = Metered::new(Arc::new(MemoryStore::new()), Arc::clone(&meters));
        let old = store.take_epoch().await.unwrap();
        let new = store.take_epoch().await.unwrap();
        assert!(store.counts().await.is_ok());
        let refused = store.apply(old, Vec::new()).done.await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
        store.apply(new, Vec::new()).durable.await.unwrap();
        let (reads, writes) = (meters.store.reads.read().count, meters.store.writes.read().count);
        assert_eq!((reads, writes), (1, 3), "what was not waited for is not timed");
        assert_eq!(meters.store.errors.get(StoreFault::Fenced), 1);
    }

    #[test]
    fn every_category_has_a_label() {
        let source = include_str!("error.rs");
        let words = source.split("fn category").nth(1).and_then(|rest| rest.split("    }\n").next()).unwrap();
        for word in words.split('"').skip(1).step_by(2) {
            assert_ne!(StoreFault::of_category(word), StoreFault::Other, "{word}: add it to meters::StoreFault");
        }
    }
}
