//! What must outlive us: the ledger (what is due), the outbox (what was settled and is not yet delivered), the dead
//! letters, and what we knew of the nodes when we last had seen everything.
//!
//! # Guarantees
//! - Calls take effect in the order in which they were *made*, not awaited: each enqueues before it returns.
//! - Every [`Change`] is a compare-and-set: it names the entry that it saw and does nothing if another is there.
//! - [`Change::Settle`] removes the entry and appends to the outbox in one step, or does neither.
//! - A write with an epoch older than the newest taken is refused with [`StoreError::Fenced`] and changes nothing.
//! - A call that answers with an error has changed nothing, and may be made again if [`StoreError::retryable`].

use std::{future::Future, pin::Pin};

use crate::model::{Deadline, Event, EventId, Key, Millis, NodeId, SlotSet};

mod error;
pub mod memory;
pub mod metered;
pub mod redis;
pub mod sqlite;

pub use error::StoreError;

/// An answer still to come; the call has been enqueued already. Dropping it does not take the call back.
pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// The fencing token of one owner of a listener. A later owner has a greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// What the ledger knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub seen: Seen,
}

/// The state of an entry, which a change names to say what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub deadline: Deadline,
    /// Its data went away without anybody deleting it: it is settled at its deadline (DESIGN section 2).
    pub absent: bool,
}

/// When a key was last settled or forgotten, by the clock of the process that did it. Kept for at least
/// [`MEMORY_MS`], then for as long as it is convenient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub at: Millis,
    /// Whose memory it is: [`Epoch`] of the owner that wrote it.
    pub epoch: Epoch,
}

/// How long a [`Memory`] is kept at least: longer than a replica that Redis promotes by itself can be behind, or it would expire
/// once more what was told of long ago. As Redis comes that is 160 s: `cluster-node-timeout` (15 s) times
/// `cluster-replica-validity-factor` (10), and `repl-ping-replica-period` (10 s).
pub const MEMORY_MS: i64 = 180_000;

/// What the store has under a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub entry: Option<Seen>,
    pub memory: Option<Memory>,
}

/// One step of the ledger. `saw` is the entry on which it was decided; where another is there, nothing happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Puts `deadline` down for `key`, not absent, in place of what was `saw`.
    Record { key: Key, saw: Option<Seen>, deadline: Deadline },
    /// Removes the entry, and remembers that at `at`.
    Forget { key: Key, saw: Seen, at: Millis },
    /// Marks the entry absent.
    MarkAbsent { key: Key, saw: Seen },
    /// Removes the entry (if there was one), appends `event` to the outbox, and remembers that at `at`. An event whose
    /// id lies in the outbox already, or among the dead letters, is not appended again; the rest is done all the same.
    Settle { saw: Option<Seen>, event: Event, at: Millis },
}

impl Change {
    pub fn key(&self) -> &Key {
        match self {
            Self::Record { key, .. } | Self::Forget { key, .. } | Self::MarkAbsent { key, .. } => key,
            Self::Settle { event, .. } => &event.key,
        }
    }
}

/// The two answers of [`Store::apply`].
pub struct Applying {
    /// In the order of the changes: whether each was done (`false`: another entry was there). Arrives as soon as it is
    /// decided, when a crash may still undo it.
    pub done: Reply<Vec<bool>>,
    /// Arrives when a crash can no longer undo it.
    pub durable: Reply<()>,
}

/// An event of the outbox, with what its delivery came to so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub event: Event,
    /// Attempts that were made and failed.
    pub attempts: u32,
    /// When the first of those was made, by our clock.
    pub first_attempt: Option<Millis>,
    /// No attempt before this, by our clock; 0 for a first attempt.
    pub not_before: Millis,
}

/// What became of an attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: EventId,
    /// The event's own, as is the deadline: they say in which partition the event lies, and where. With another's it may not be found.
    pub key: Key,
    pub deadline: Deadline,
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx: remove it from the outbox.
    Delivered { at: Millis },
    /// It failed and is to be tried again.
    Retry { attempts: u32, first_attempt: Millis, not_before: Millis },
    /// It is parked, out of the outbox.
    DeadLetter { attempts: u32, reason: String, at: Millis },
}

/// A parked event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub event: Event,
    pub attempts: u32,
    /// Why, for people: "answered 422 three times over 10 minutes".
    pub reason: String,
    pub at: Millis,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    All,
    Ids(Vec<EventId>),
}

/// What a node was when everything on it had been seen (DESIGN rule 8). Equal states: the same data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    pub node: NodeId,
    pub run_id: String,
    pub config_epoch: u64,
    /// Calls of FLUSHALL, FLUSHDB and SWAPDB since its start.
    pub flushes: u64,
    /// The slots that it owned.
    pub slots: SlotSet,
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries of the ledger.
    pub tracked: u64,
    /// Events of the outbox.
    pub pending: u64,
    pub dead_letters: u64,
    /// When the oldest event of the outbox was settled.
    pub oldest_pending: Option<Millis>,
    /// When the last event was delivered.
    pub last_delivered: Option<Millis>,
}

/// Whether what a store has acknowledged outlives a crash of what holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    Durable,
    /// It does not, for people: why, and what to do about it.
    Volatile {
        reason: String,
        fix: String,
    },
}

/// How often a store has lost what it had acknowledged, and could not make good itself: whoever knows what was in it is to see
/// to it that it is there again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    pub count: u64,
    /// Those among them that went back to before our epoch was taken: what earlier owners wrote may be gone as well.
    pub before_us: u64,
}

/// A page of something that is listed in an order: pass `after` of the last page to get the next.
pub type DueCursor = (Deadline, Key);

/// Names of [`Store::meta`].
pub mod meta {
    /// The node ids of the deployment that the ledger belongs to (DESIGN rule 14), as JSON.
    pub const DEPLOYMENT: &str = "deployment";
    /// The key pattern that the ledger covers, as base64.
    pub const PATTERN: &str = "pattern";
}

/// One listener's store.
pub trait Store: Send + Sync + 'static {
    /// Becomes the owner: every older epoch is refused from here on.
    fn take_epoch(&self) -> Reply<Epoch>;

    /// What the store has under each of `keys`, in their order.
    fn known(&self, keys: Vec<Key>) -> Reply<Vec<Known>>;
    /// Entries by (deadline, key), from after `after`, at most `limit`.
    fn due(&self, after: Option<DueCursor>, limit: usize) -> Reply<Vec<Entry>>;
    /// Does the changes in order, all or (on an error) none.
    fn apply(&self, epoch: Epoch, changes: Vec<Change>) -> Applying;

    /// Events of the outbox: those without an attempt first, by when they were settled, then by `not_before`; only those
    /// with `not_before <= ready`; without those in `but`; at most `limit`.
    fn pending(&self, ready: Millis, but: Vec<EventId>, limit: usize) -> Reply<Vec<Pending>>;
    /// The least `not_before` in the outbox, without those in `but`.
    fn next_pending(&self, but: Vec<EventId>) -> Reply<Option<Millis>>;
    /// What became of attempts, in order. An id that is not in the outbox is passed over.
    fn delivered(&self, epoch: Epoch, outcomes: Vec<Delivery>) -> Reply<()>;

    /// Dead letters by when they were parked, from after `after`, at most `limit`.
    fn dead_letters(&self, after: Option<(Millis, EventId)>, limit: usize) -> Reply<Vec<DeadLetter>>;
    /// Puts dead letters back into the outbox as if never tried; says how many.
    fn replay(&self, epoch: Epoch, which: Selection) -> Reply<u64>;
    /// Removes dead letters for good; says how many.
    fn purge(&self, epoch: Epoch, which: Selection) -> Reply<u64>;

    /// The states of all nodes that are remembered.
    fn node_states(&self) -> Reply<Vec<NodeState>>;
    /// Remembers a node's state in place of what was remembered of it.
    fn remember_node(&self, epoch: Epoch, state: NodeState) -> Reply<()>;
    /// Forgets a node's state: the next resync of it is after a loss.
    fn forget_node(&self, epoch: Epoch, node: NodeId) -> Reply<()>;

    /// A named text about the ledger as a whole: see [`meta`].
    fn meta(&self, name: &'static str) -> Reply<Option<String>>;
    fn set_meta(&self, epoch: Epoch, name: &'static str, value: String) -> Reply<()>;
    /// Drops the whole ledger and the node states, but not the outbox and the dead letters; says how many entries.
    fn discard_ledger(&self, epoch: Epoch) -> Reply<u64>;

    /// How many partitions there are.
    fn partitions(&self) -> usize {
        1
    }
    /// Changes of keys of one partition, counted from 0, are done or fail together; a call that concerns one partition alone
    /// does not wait for another.
    fn partition_of(&self, _key: &Key) -> usize {
        0
    }
    /// Told at once: what was found until now.
    fn losses(&self) -> Losses {
        Losses::default()
    }

    fn counts(&self) -> Reply<Counts>;
    /// Whether what is acknowledged outlives a crash of what holds it. Fails where it must not be trusted at all.
    fn durability(&self) -> Reply<Durability>;
    /// Removes all there is of the listener, for good, and closes. Refused to an older owner, who changes nothing.
    fn destroy(&self, epoch: Epoch) -> Reply<()>;
    /// Finishes what was enqueued, makes it durable, and lets go of locks and files. Later calls fail with `Closed`.
    fn close(&self) -> Reply<()>;
}
