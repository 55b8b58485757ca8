//! A disk that takes its time, and one that fails: what is asked meanwhile, and what is called durable.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use redis_expiry_operator::store::{
    Store, StoreError,
    sqlite::{Options, SqliteStore, Sync},
};
use tempfile::TempDir;

use crate::given::{FIRST, apply, entry, entry_of, record, settle};

/// Longer than anything here takes, and shorter than anybody waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A disk whose syncs wait until they are let go, one by one.
struct Disk {
    syncs: Mutex<Syncs>,
    changed: Condvar,
}

#[derive(Default)]
struct Syncs {
    begun: u32,
    /// So many may end.
    allowed: u32,
    failing: bool,
}

impl Disk {
    const fn new() -> Self {
        Self { syncs: Mutex::new(Syncs { begun: 0, allowed: 0, failing: false }), changed: Condvar::new() }
    }
    fn change(&self, change: impl FnOnce(&mut Syncs)) {
        change(&mut self.syncs.lock().unwrap());
        self.changed.notify_all();
    }
    fn wait(&self, until: impl Fn(&Syncs) -> bool) -> MutexGuard<'_, Syncs> {
        let syncs = self.syncs.lock().unwrap();
        let (syncs, late) = self.changed.wait_timeout_while(syncs, PATIENCE, |syncs| !until(syncs)).unwrap();
        assert!(!late.timed_out(), "begun {}, allowed {}", syncs.begun, syncs.allowed);
        syncs
    }
    fn sync(&self) -> io::Result<()> {
        self.change(|syncs| syncs.begun += 1);
        let mine = self.syncs.lock().unwrap().begun;
        let syncs = self.wait(|syncs| syncs.allowed >= mine);
        if syncs.failing { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

fn opened(folder: &TempDir, sync: Sync) -> SqliteStore {
    let path: PathBuf = folder.path().join("ledger.db");
    SqliteStore::open(&path, &Options { sync, ..Options::default() }).unwrap()
}

/// The answer of a future that is to have come by now.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    // Nobody waits for the disk.
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_no_answer_but_that_it_is_durable() {
    static DISK: Disk = Disk::new();
    let folder = TempDir::new().unwrap();
    let store = opened(&folder, |_: &File| DISK.sync());
    let mut first = store.apply(FIRST, vec![record("a", 5), record("b", 6)]);
    assert_eq!(soon(&mut first.done).await.unwrap(), [true, true]);
    drop(DISK.wait(|syncs| syncs.begun == 1));
    // The first sync is under way: what comes now is done, and is not part of it.
    let mut second = store.apply(FIRST, vec![settle("a", entry(5), 5, 7)]);
    assert_eq!(soon(&mut second.done).await.unwrap(), [true]);
    assert_eq!(soon(entry_of(&store, "b")).await, Some(entry(6)));
    assert_eq!(soon(store.counts()).await.unwrap().pending, 1);
    assert!((&mut first.durable).now_or_never().is_none());

    DISK.change(|syncs| syncs.allowed = 1);
    soon(&mut first.durable).await.unwrap();
    drop(DISK.wait(|syncs| syncs.begun == 2));
    assert!((&mut second.durable).now_or_never().is_none(), "the sync that it needs has not ended");
    DISK.change(|syncs| syncs.allowed = u32::MAX);
    soon(&mut second.durable).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_makes_nothing_durable_until_the_store_is_opened_again() {
    static DISK: Disk = Disk::new();
    let folder = TempDir::new().unwrap();
    let store = opened(&folder, |_: &File| DISK.sync());
    DISK.change(|syncs| syncs.allowed = 1);
    apply(&store, vec![record("a", 5)]).await;
    let under_way = store.apply(FIRST, vec![record("b", 6)]);
    soon(under_way.done).await.unwrap();
    drop(DISK.wait(|syncs| syncs.begun == 2));
    let waiting = store.apply(FIRST, vec![record("c", 7)]);
    soon(waiting.done).await.unwrap();
    DISK.change(|syncs| (syncs.allowed, syncs.failing) = (2, true));

    let unsynced =
        |error: &StoreError| matches!(error, StoreError::Unsynced { detail, .. } if detail.contains("broken"));
    let error = soon(under_way.durable).await.unwrap_err();
    assert!(unsynced(&error) && !error.retryable(), "{error}");
    // The next sync would be called good, and must not be believed.
    DISK.change(|syncs| (syncs.allowed, syncs.failing) = (u32::MAX, false));
    assert!(unsynced(&soon(waiting.durable).await.unwrap_err()));
    let refused = store.apply(FIRST, vec![record("d", 8)]);
    assert!(unsynced(&soon(refused.done).await.unwrap_err()) && unsynced(&soon(refused.durable).await.unwrap_err()));
    assert!(unsynced(&soon(store.take_epoch()).await.unwrap_err()));
    assert!(unsynced(&store.close().await.unwrap_err()));

    let store = opened(&folder, |_: &File| DISK.sync());
    assert_eq!(entry_of(&store, "a").await, Some(entry(5)));
    assert_eq!(entry_of(&store, "d").await, None);
    apply(&store, vec![record("d", 8)]).await;
}

#[tokio::test]
async fn what_is_synced_is_the_log_that_is_written_though_it_was_folded_and_began_anew() {
    static LOG: OnceLock<PathBuf> = OnceLock::new();
    static SYNCS: AtomicUsize = AtomicUsize::new(0);
    fn sync(log: &File) -> io::Result<()> {
        let (synced, there) = (log.metadata()?, fs::metadata(LOG.get().unwrap())?);
        assert_eq!((synced.dev(), synced.ino()), (there.dev(), there.ino()));
        SYNCS.fetch_add(1, Ordering::Relaxed);
        log.sync_data()
    }
    let folder = TempDir::new().unwrap();
    LOG.set(folder.path().join("ledger.db-wal")).unwrap();
    let store = opened(&folder, sync);
    for round in 0..40 {
        let before = SYNCS.load(Ordering::Relaxed);
        apply(&store, (0..3_000).map(|number| record(&format!("{round}:{number}"), 5)).collect()).await;
        assert!(SYNCS.load(Ordering::Relaxed) > before);
    }
    store.close().await.unwrap();
}
