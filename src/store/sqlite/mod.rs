//! A store in one SQLite file.
//!
//! # Guarantees
//! - Those of [`Store`]. An answer of a write, and [`Applying::durable`], comes after the fsync; hardly anything else
//!   waits for it: see the caveats of [`thread`].
//! - One of our processes at a time: a second is refused at once, and a killed one leaves nothing locked. Other programs can
//!   read the file meanwhile, and must not write it.
//!
//! # Caveats
//! - [`Applying::done`] and reads answer before the commit that they are part of. Should the disk be full just then,
//!   `durable` says so, and the changes are undone although `done` was said: make the call again. Should it fail to keep
//!   what was written, the store is [`StoreError::Unsynced`] from then on: open it again.
//! - Opening reads the file, and dropping joins the store's thread: do both where blocking does no harm, or `close` first.

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

pub use self::syncing::Sync;
use self::{
    database::Database,
    failure::{Failure, of_io},
    thread::{Apply, Call, Job, QUEUE, Question, serve},
};
use super::{
    Applying, Change, Counts, DeadLetter, Delivery, DueCursor, Durability, Entry, Epoch, Known, NodeState, Pending,
    Reply, Selection, Store, StoreError,
};
use crate::model::{EventId, Key, Millis, NodeId};

mod database;
mod dead_letters;
mod deployment;
mod failure;
mod filing;
mod folding;
mod ledger;
mod lock;
mod open;
mod outbox;
mod syncing;
mod thread;
pub(crate) mod unfiled;

/// Whether a process has the store at `path` open. Opens nothing itself.
pub fn in_use(path: &Path) -> io::Result<bool> {
    lock::Lock::is_held(path)
}

/// How a file is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of the file at most, in pages of 1 KiB. For tests of a full disk.
    pub max_page_count: Option<u32>,
    /// A call with so many changes comes in bulk: its new entries are put down as they are, and filed later.
    pub bulk: usize,
    /// They are filed when none has come for so long: a scan that goes on needs the time itself.
    pub quiet: Duration,
    /// For tests of a disk that is slow or fails.
    pub sync: Sync,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_page_count: None, bulk: 64, quiet: Duration::from_secs(1), sync: File::sync_data }
    }
}

/// One listener's file, and the threads that work on it.
pub struct SqliteStore {
    /// `None` only while it is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    closed: AtomicBool,
    thread: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the file, or makes it and the folders that lead to it.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let (database, beside) = open::open(path, options)?;
        let quiet = options.quiet;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(database, beside, queue, quiet))
            .map_err(|error| of_io(&error, path))?;
        Ok(Self { jobs: Some(jobs), closed: AtomicBool::new(false), thread: Some(thread) })
    }

    fn enqueue(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().filter(|_| !self.closed.load(Ordering::Acquire)).ok_or(StoreError::Closed)?;
        jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Unavailable(format!("{QUEUE} calls wait for the disk")),
            TrySendError::Closed(_) => StoreError::Closed,
        })
    }

    fn read<T: Send + 'static>(&self, ask: impl FnOnce(&Database) -> Result<T, Failure> + Send + 'static) -> Reply<T> {
        let (answer, reply) = oneshot::channel();
        let enqueued = self.enqueue(Job::Read(Box::new(Question { ask, answer })));
        replying(enqueued, reply)
    }

    /// `work` may be run more than once: see [`thread`].
    fn write<T: Send + 'static>(
        &self,
        weight: usize,
        work: impl FnMut(&mut Database) -> Result<T, Failure> + Send + 'static,
    ) -> Reply<T> {
        let (answer, reply) = oneshot::channel();
        let enqueued = self.enqueue(Job::Write(Box::new(Call { work, weight, result: None, answer })));
        replying(enqueued, reply)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ends when it has done what was enqueued. A panic in it was reported by the hook.
            let _ = thread.join();
        }
    }
}

fn replying<T: Send + 'static>(
    enqueued: Result<(), StoreError>,
    reply: oneshot::Receiver<Result<T, StoreError>>,
) -> Reply<T> {
    Box::pin(async move {
        enqueued?;
        reply.await.unwrap_or_else(|_| Err(StoreError::Unavailable("its thread ended".to_owned())))
    })
}

impl Store for SqliteStore {
    fn take_epoch(&self) -> Reply<Epoch> {
        self.write(1, Database::take_epoch)
    }

    fn known(&self, keys: Vec<Key>) -> Reply<Vec<Known>> {
        self.read(move |database| database.known(&keys))
    }
    fn due(&self, after: Option<DueCursor>, limit: usize) -> Reply<Vec<Entry>> {
        self.read(move |database| database.due(after.as_ref(), limit))
    }
    fn apply(&self, epoch: Epoch, changes: Vec<Change>) -> Applying {
        let (done, is_done) = oneshot::channel();
        let (durable, is_durable) = oneshot::channel();
        let enqueued = self.enqueue(Job::Write(Box::new(Apply { epoch, changes, done: Some(done), durable })));
        Applying { done: replying(enqueued.clone(), is_done), durable: replying(enqueued, is_durable) }
    }

    fn pending(&self, ready: Millis, but: Vec<EventId>, limit: usize) -> Reply<Vec<Pending>> {
        self.read(move |database| database.pending(ready, &but, limit))
    }
    fn next_pending(&self, but: Vec<EventId>) -> Reply<Option<Millis>> {
        self.read(move |database| database.next_pending(&but))
    }
    fn delivered(&self, epoch: Epoch, outcomes: Vec<Delivery>) -> Reply<()> {
        self.write(outcomes.len(), move |database| database.delivered(epoch, &outcomes))
    }

    fn dead_letters(&self, after: Option<(Millis, EventId)>, limit: usize) -> Reply<Vec<DeadLetter>> {
        self.read(move |database| database.dead_letters(after.as_ref(), limit))
    }
    fn replay(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        self.write(1, move |database| database.replay(epoch, &which))
    }
    fn purge(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        self.write(1, move |database| database.purge(epoch, &which))
    }

    fn node_states(&self) -> Reply<Vec<NodeState>> {
        self.read(Database::node_states)
    }
    fn remember_node(&self, epoch: Epoch, state: NodeState) -> Reply<()> {
        self.write(1, move |database| database.remember_node(epoch, &state))
    }
    fn forget_node(&self, epoch: Epoch, node: NodeId) -> Reply<()> {
        self.write(1, move |database| database.forget_node(epoch, &node))
    }

    fn meta(&self, name: &'static str) -> Reply<Option<String>> {
        self.read(move |database| database.meta(name))
    }
    fn set_meta(&self, epoch: Epoch, name: &'static str, value: String) -> Reply<()> {
        self.write(1, move |database| database.set_meta(epoch, name, &value))
    }
    fn discard_ledger(&self, epoch: Epoch) -> Reply<u64> {
        self.write(1, move |database| database.discard_ledger(epoch))
    }

    fn counts(&self) -> Reply<Counts> {
        self.read(Database::counts)
    }
    /// A commit is on the disk when it is told to be.
    fn durability(&self) -> Reply<Durability> {
        self.read(|_| Ok(Durability::Durable))
    }
    fn destroy(&self, epoch: Epoch) -> Reply<()> {
        let (answer, reply) = oneshot::channel();
        replying(self.enqueue(Job::Destroy(epoch, answer)), reply)
    }
    fn close(&self) -> Reply<()> {
        let (answer, reply) = oneshot::channel();
        let enqueued = self.enqueue(Job::Close(answer));
        if enqueued.is_ok() {
            self.closed.store(true, Ordering::Release);
        }
        replying(enqueued, reply)
    }
}
