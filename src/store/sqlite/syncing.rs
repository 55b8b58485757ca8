//! The thread that makes commits durable, so that a slow disk holds up nobody who only asks.
//!
//! A commit writes the log and does not wait for the disk (`synchronous=NORMAL`: SQLite then syncs around a fold alone,
//! which keeps the file whole but not the last commits). Here the log is synced for all commits that came meanwhile, and
//! each is told.
//!
//! # Guarantees
//! - A write is told that it is durable after a sync of the log that began after its commit. If the log was folded in
//!   between, SQLite had synced both.
//! - After a sync that failed, nothing is called durable any more: the kernel may have let go of what it could not write,
//!   and call the next sync good. Who waits is told, and every write is refused until the store is opened again, which
//!   writes anew all that is in the log (see [`super::open`]).

use std::{
    fs::File,
    io, mem,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use super::thread::Told;
use crate::store::StoreError;

/// Changes that may wait for the disk: with more, the store waits for it too.
const WAITING: usize = 65_536;

/// How the log is synced: [`File::sync_data`], but in tests.
pub type Sync = fn(&File) -> io::Result<()>;

pub(super) struct Syncing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Told>,
    /// Changes that are not on the disk, those that are just being synced among them.
    weight: usize,
    failed: Option<StoreError>,
    over: bool,
}

impl Syncing {
    /// `log` is the log of the file at `path`.
    pub fn start(path: PathBuf, log: File, sync: Sync) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("store-sync".to_owned()).spawn(move || {
            ours.serve(|| {
                sync(&log).map_err(|error| StoreError::Unsynced { path: path.clone(), detail: error.to_string() })
            });
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes writes of `weight` changes that were committed just now. Waits while too many changes wait for the disk.
    pub fn add(&self, writes: impl Iterator<Item = Told>, weight: usize) {
        let state = self.shared.state();
        let mut state =
            self.shared.wait_while(state, |state| state.weight > WAITING && state.failed.is_none() && !state.over);
        if let Err(error) = state.sound() {
            drop(state);
            return writes.for_each(|told| told(Err(error.clone())));
        }
        state.waiting.extend(writes);
        state.weight += weight;
        self.shared.changed.notify_all();
    }

    /// Whether what is committed now can become durable.
    pub fn sound(&self) -> Result<(), StoreError> {
        self.shared.state().sound()
    }

    /// Returns when all is on the disk, or why it is not.
    pub fn end(&mut self) -> Result<(), StoreError> {
        self.shared.state().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported by the hook.
            let _ = thread.join();
        }
        self.sound()
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl State {
    fn sound(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(&self, state: MutexGuard<'a, State>, waits: impl Fn(&State) -> bool) -> MutexGuard<'a, State> {
        self.changed.wait_while(state, |state| waits(state)).unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, sync: impl Fn() -> Result<(), StoreError>) {
        let _ended = Ended(self);
        loop {
            let mut state = self.wait_while(self.state(), |state| state.waiting.is_empty() && !state.over);
            let (writes, weight) = (mem::take(&mut state.waiting), state.weight);
            let outcome = state.sound();
            drop(state);
            if writes.is_empty() {
                return;
            }
            let outcome = outcome.and_then(|()| sync());
            let mut state = self.state();
            state.weight -= weight;
            if let Err(error) = &outcome {
                state.failed.get_or_insert_with(|| error.clone());
            }
            drop(state);
            self.changed.notify_all();
            for told in writes {
                told(outcome.clone());
            }
        }
    }
}

/// Whoever comes when the thread has ended by a fault is refused.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if std::thread::panicking() {
            state.failed.get_or_insert(StoreError::Closed);
        }
        state.waiting.clear();
        drop(state);
        self.0.changed.notify_all();
    }
}
