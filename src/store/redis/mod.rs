//! A store in a Redis Cluster (or one server), shared by whoever may own the listener.
//!
//! A listener has [`PARTITIONS`] partitions, each a hash tag of its own: an entry, its event and its memory lie together, and
//! every partition has the epoch. One task works on each; it has one script under way and puts what gathers meanwhile into
//! the next. So a partition's writes are in order, cost one round trip for hundreds, and can be sent again.
//!
//! # Guarantees
//! - Those of [`Store`], but for the second caveat. `done` and `durable` come together, when Redis has answered.
//! - A write is done once however often it is sent: it has a number (`seq`), counted up in the partition, and its answer is
//!   kept beside it. One that arrives late, given up long ago, finds a greater number and does nothing.
//! - Writes that a failover (or a flush) takes back are made again, exactly those, if they are no older than
//!   [`Settings::keep_writes`] and this process still runs: see [`journal`].
//! - Every call ends within about twice [`Settings::patience`], whatever the nodes do. Queues and what is kept are bounded.
//! - No KEYS, no SCAN, nothing outside of keys that begin with [`PREFIX`].
//!
//! # Caveats
//! - What is acknowledged is as durable as the Redis is: a master that dies has told us of writes that its replica lacks. They
//!   are made again by this process; if it dies as well, they are lost with it.
//! - A call that answers with an error may have been done, wholly or in some partitions. Made again, what was done answers `false`
//!   (another entry is there), or, for an event that is in the outbox already, is done again without effect.
//! - While a new owner takes its epoch, an old one may be refused by some partitions and not yet by others.
//! - A partition that a failover has taken back to before the last owner's epoch accepts the owner before it until the last one
//!   writes there or probes it (after a second, two, four and so on, for half a minute); then those writes stay, as if made before the
//!   epoch was taken.
//! - The journals of all stores of a process share a bound. Those of partitions that are away keep their part of it until they are back.
//! - Deadlines beyond the year 287396 are one.
//! - While one partition is away, the others record and settle; the store is not opened, [`Store::due`] and [`Store::pending`] read
//!   none of it, and outcomes of its deliveries are kept until it is back (those deliveries stop where too many are kept). A keeper stops asking
//!   where 12,288 keys are in flight, those that it cannot record among them: at 70 a second, after three minutes.
//!
//! # Refused
//! DESIGN section 5 had a stream with a consumer group as the outbox. It cannot give what [`Store::pending`] promises: a stream
//! is ordered by when things were added, and the outbox is by `settled_at`, then by a `not_before` that changes with each
//! attempt; XPENDING and XAUTOCLAIM know idle times alone, so a retry would have to be kept elsewhere anyway. An event that is
//! there already must not be added again, which takes an index by id. And a consumer group divides work among consumers, where the
//! epoch allows one: what a dead owner had in its hands is simply still in the outbox, and there is nothing to take over.
//! Hence a hash by id and sorted sets, at 281 bytes an untried event (a stream entry with its pending entry: 134).

use std::sync::{Arc, atomic::Ordering};

use tokio::{task::JoinSet, time::Instant};

use self::{
    budget::Share,
    counting::Counting,
    journal::Journal,
    names::Names,
    places::{Counter, Newest},
    queues::Queues,
    upkeep::Upkeep,
    worker::{Shared, Worker},
};
pub use self::{
    link::Links,
    names::PREFIX,
    settings::{Mode, PARTITIONS, Settings},
    trial::{Refused, Trial, trial},
};
#[cfg(doc)]
use super::Store;
use super::{Epoch, StoreError};
use crate::model::{ListenerId, Slot};

mod budget;
pub(crate) mod calls;
mod counting;
mod epoch;
mod facts;
pub(crate) mod id;
mod jobs;
mod journal;
mod line;
mod link;
mod mend;
mod names;
pub(crate) mod ops;
mod pages;
mod places;
mod queues;
pub(crate) mod record;
mod refusal;
pub(crate) mod reply;
mod routes;
mod scatter;
mod script;
mod servers;
mod settings;
mod trial;
mod upkeep;
mod worker;

/// One listener's store.
pub struct RedisStore {
    shared: Arc<Shared>,
    appended: Counter,
    /// Of the partitions.
    slots: Vec<Slot>,
    /// They end when they are closed, or with the store.
    _tasks: JoinSet<()>,
}

impl RedisStore {
    /// Opens the listener's partitions, or makes them.
    ///
    /// # Errors
    /// [`StoreError::Evicts`] where a master may evict what has no TTL, [`StoreError::Denied`] where a right is missing that a
    /// write would need, [`StoreError::Newer`] for a schema of a later release.
    pub async fn open(settings: Settings, listener: &ListenerId) -> Result<Self, StoreError> {
        Self::open_over(&Links::default(), settings, listener).await
    }

    /// As [`Self::open`], over connections that are shared.
    pub async fn open_over(links: &Links, settings: Settings, listener: &ListenerId) -> Result<Self, StoreError> {
        let names = Names::of(listener, settings.partitions);
        let slots = names.iter().map(|names| names.slot).collect();
        let shared = Arc::new(Shared {
            link: links.of(&settings),
            queues: Queues::new(names.len()),
            newest: Newest::new(),
            writer: format!("{:016x}", rand::random::<u64>()),
            reapplied: 0.into(),
            losses: worker::Lost::default(),
            counting: Counting::new(names.len()),
            settings,
        });
        let turn = shared.link.opening.acquire().await;
        let mut opening = JoinSet::new();
        for (index, names) in names.into_iter().enumerate() {
            let kept = Share::new(Arc::clone(&links.budget));
            opening.spawn(Worker::open(Arc::clone(&shared), index, names, kept));
        }
        let mut workers = Vec::new();
        while let Some(opened) = opening.join_next().await {
            workers.push(opened.map_err(|error| StoreError::Unavailable(error.to_string()))??);
        }
        drop(turn);
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(worker.serve());
        }
        Ok(Self { shared, appended: Counter::from_clock(), slots, _tasks: tasks })
    }

    /// How many writes a failover had lost and this process has made again.
    pub fn reapplied(&self) -> u64 {
        self.shared.reapplied.load(Ordering::Relaxed)
    }

    /// The names of all its keys, for ACLs and for removing them when the listener is removed.
    pub fn keys(&self, listener: &ListenerId) -> Vec<String> {
        let partitions = Names::of(listener, self.shared.settings.partitions);
        partitions.into_iter().flat_map(|names| names.keys).collect()
    }
}

impl Worker {
    async fn open(shared: Arc<Shared>, index: usize, names: Names, kept: Share) -> Result<Self, StoreError> {
        let now = Instant::now();
        let (keep, bytes) = (shared.settings.keep_writes, shared.settings.keep_bytes / shared.queues.partitions());
        let journal = Journal::new(keep, bytes, kept);
        let upkeep = Upkeep::new(now);
        let mut worker = Self {
            shared,
            index,
            names,
            journal,
            seq: 0,
            next: 1,
            taken: Epoch(0),
            raised: 0,
            upkeep,
            holed: 0,
            seen: now,
            probed: now,
            wrote: None,
            counted: None,
        };
        // Before anything is put where it may be evicted.
        worker.check_policy(now).await?;
        let (seq, _) = worker.init().await?;
        (worker.seq, worker.next) = (seq, seq + 1);
        worker.journal.clear(seq);
        worker.look_after(now).await?;
        Ok(worker)
    }
}
