//! What only a file can suffer: each has its own clear error, and nothing that was recorded is lost.

use std::{
    env, fs,
    io::{Seek, SeekFrom, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use redis_expiry_operator::store::{
    Change, Store, StoreError,
    sqlite::{Options, SqliteStore},
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::given::{FIRST, all_due, apply, delivered, entry, entry_of, names, outbox, record, settle};

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, &Options::default())
}

fn open_with_pages(path: &Path, pages: u32) -> SqliteStore {
    SqliteStore::open(path, &Options { max_page_count: Some(pages), ..Options::default() }).unwrap()
}

fn refused(path: &Path) -> StoreError {
    open(path).err().unwrap()
}

/// A closed store with `entries` entries.
async fn given_file(folder: &TempDir, entries: i64) -> PathBuf {
    let path = folder.path().join("ledger.db");
    let store = open(&path).unwrap();
    apply(&store, records(0..entries)).await;
    store.close().await.unwrap();
    path
}

fn records(numbers: std::ops::Range<i64>) -> Vec<Change> {
    numbers.map(|number| record(&format!("order:pay:{number:08}"), number)).collect()
}

#[tokio::test]
async fn a_file_and_the_folders_to_it_are_made() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state/shop/orders.db");
    let store = open(&path).unwrap();
    apply(&store, vec![record("a", 5)]).await;
    drop(store);
    assert_eq!(entry_of(&open(&path).unwrap(), "a").await, Some(entry(5)));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_corrupt_and_left_as_it_was() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let text = b"This is somebody's letter, and no ledger at all.\n".repeat(200);
    fs::write(&path, &text).unwrap();
    assert!(matches!(refused(&path), StoreError::Corrupt { detail, .. } if detail.contains("not a database")));
    assert_eq!(fs::read(&path).unwrap(), text);
}

#[tokio::test]
async fn a_database_of_another_program_is_corrupt_and_left_as_it_was() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE shop (name TEXT)").unwrap();
    let before = fs::read(&path).unwrap();
    assert!(matches!(refused(&path), StoreError::Corrupt { detail, .. } if detail.contains("another program")));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_was() {
    let folder = TempDir::new().unwrap();
    let path = given_file(&folder, 10).await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Newer { found: 99, known: 2, .. }), "{error}");
    assert!(!error.retryable());
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_of_version_1_is_brought_forward_with_what_lies_in_it() {
    let folder = TempDir::new().unwrap();
    let path = given_file(&folder, 10).await;
    let store = open(&path).unwrap();
    apply(&store, vec![settle("order:pay:00000003", entry(3), 3, 5)]).await;
    store.close().await.unwrap();
    let old = "DROP INDEX event; CREATE UNIQUE INDEX by_id ON outbox (id); PRAGMA user_version = 1";
    Connection::open(&path).unwrap().execute_batch(old).unwrap();
    let store = open(&path).unwrap();
    assert_eq!((all_due(&store, 100).await.len(), outbox(&store).await.len()), (9, 1));
    store.delivered(FIRST, vec![delivered("order:pay:00000003", 3, 6)]).await.unwrap();
    assert!(outbox(&store).await.is_empty());
    apply(&store, vec![settle("order:pay:00000004", entry(4), 4, 7)]).await;
    store.close().await.unwrap();
    let file = Connection::open(&path).unwrap();
    let read = |sql| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(read("PRAGMA user_version"), 2);
    assert_eq!(read("SELECT count(*) FROM sqlite_schema WHERE name = 'event'"), 1);
    assert_eq!(outbox(&open(&path).unwrap()).await.len(), 1);
}

#[tokio::test]
async fn a_damaged_page_is_found_at_the_start() {
    let folder = TempDir::new().unwrap();
    let path = given_file(&folder, 20_000).await;
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(length > 200_000, "{length}");
    file.seek(SeekFrom::Start(100_000)).unwrap();
    file.write_all(&[0xA5; 12_000]).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_truncated_file_is_found_at_the_start() {
    let folder = TempDir::new().unwrap();
    let path = given_file(&folder, 20_000).await;
    for length in [200_000, 100_000, 4096, 1000, 50] {
        fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let error = refused(&path);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{length} bytes: {error}");
    }
}

#[tokio::test]
async fn a_full_store_says_so_loses_nothing_and_goes_on_when_there_is_room() {
    let folder = TempDir::new().unwrap();
    let path = given_file(&folder, 2_000).await;
    let store = open_with_pages(&path, 1);
    let mut recorded = 2_000;
    let error = loop {
        let applying = store.apply(FIRST, records(recorded..recorded + 500));
        match applying.durable.await {
            Ok(()) => recorded += 500,
            Err(error) => break error,
        }
        assert!(recorded < 100_000, "it was never full");
    };
    assert!(matches!(error, StoreError::Full { .. }) && error.retryable(), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(i64::try_from(all_due(&store, 1_000).await.len()).unwrap(), recorded);
    assert_eq!(store.counts().await.unwrap().tracked.cast_signed(), recorded);
    drop(store);

    let store = open(&path).unwrap();
    assert_eq!(i64::try_from(all_due(&store, 1_000).await.len()).unwrap(), recorded);
    assert!(apply(&store, records(recorded..recorded + 500)).await.into_iter().all(|done| done));
    assert_eq!(store.counts().await.unwrap().tracked.cast_signed(), recorded + 500);
}

#[tokio::test]
async fn a_full_store_still_settles_what_fits_beside_a_call_that_does_not() {
    let folder = TempDir::new().unwrap();
    let path = given_file(&folder, 100).await;
    let store = open_with_pages(&path, 30);
    let first = "order:pay:00000000";
    // Enqueued together, so that they share a transaction; nothing is awaited in between.
    let before = store.apply(FIRST, vec![settle(first, entry(0), 0, 9)]);
    let big = store.apply(FIRST, records(100..5_000));
    let after = store.apply(FIRST, vec![record("small", 7)]);
    assert_eq!(before.done.await.unwrap(), [true]);
    before.durable.await.unwrap();
    assert!(matches!(big.durable.await.unwrap_err(), StoreError::Full { .. }));
    assert!(matches!(big.done.await.unwrap_err(), StoreError::Full { .. }));
    assert_eq!(after.done.await.unwrap(), [true]);
    after.durable.await.unwrap();
    drop(store);
    let store = open(&path).unwrap();
    assert_eq!(all_due(&store, 1_000).await.len(), 100);
    assert_eq!(names(&outbox(&store).await), [first]);
    assert_eq!(entry_of(&store, "small").await, Some(entry(7)));
}

#[tokio::test]
async fn a_second_store_on_one_file_is_refused_at_once() {
    let folder = TempDir::new().unwrap();
    let path = given_file(&folder, 1).await;
    let store = open(&path).unwrap();
    let asked = Instant::now();
    let error = refused(&path);
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert!(matches!(error, StoreError::Locked { .. }) && !error.retryable(), "{error}");
    // The first goes on, and when it is closed another may have the file, though it is not yet dropped.
    apply(&store, vec![record("a", 5)]).await;
    store.close().await.unwrap();
    assert_eq!(entry_of(&open(&path).unwrap(), "a").await, Some(entry(5)));
}

#[tokio::test]
async fn a_file_in_use_by_another_program_is_locked() {
    let folder = TempDir::new().unwrap();
    let path = given_file(&folder, 1).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE mine (a)").unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(other);
    assert_eq!(all_due(&open(&path).unwrap(), 10).await.len(), 1);
}

#[tokio::test]
async fn a_removed_or_replaced_file_takes_no_more_writes() {
    for replace in [false, true] {
        let folder = TempDir::new().unwrap();
        let path = given_file(&folder, 1).await;
        let store = open(&path).unwrap();
        apply(&store, vec![record("a", 5)]).await;
        fs::remove_file(&path).unwrap();
        if replace {
            fs::write(&path, b"").unwrap();
        }
        let applying = store.apply(FIRST, vec![record("b", 5)]);
        let error = applying.durable.await.unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { detail, .. } if detail.contains("removed")), "{error}");
        assert!(applying.done.await.is_err());
        // What it had can still be read out.
        assert_eq!(entry_of(&store, "a").await, Some(entry(5)));
    }
}

const READ_ONLY: &str = "STORE_TEST_READ_ONLY_FILE";

/// Root writes where nobody may, so this test runs itself again as somebody else where it is root.
#[test]
fn a_file_or_folder_that_cannot_be_written_is_read_only() {
    if let Some(path) = env::var_os(READ_ONLY) {
        let error = refused(Path::new(&path));
        assert!(matches!(error, StoreError::ReadOnly { .. }) && error.retryable(), "{error}");
        assert!(error.to_string().contains("writable"), "{error}");
        return;
    }
    for (file_mode, lock_mode, folder_mode) in
        [(0o444, 0o666, 0o777), (0o666, 0o444, 0o777), (0o666, 0o666, 0o555), (0o444, 0o444, 0o555)]
    {
        let folder = TempDir::new().unwrap();
        let inner = folder.path().join("state");
        let path = inner.join("ledger.db");
        let lock = inner.join("ledger.db.lock");
        drop(open(&path).unwrap());
        // The folder of the build may be closed to others. Copied by another process: a file that this one has open for
        // writing is open in what other tests fork just then, too, and cannot be run.
        let program = folder.path().join("program");
        let copied = Command::new("cp").arg(env::current_exe().unwrap()).arg(&program).status().unwrap();
        assert!(copied.success());
        let modes = [(folder.path(), 0o755), (&program, 0o755), (&path, file_mode), (&lock, lock_mode)];
        for (path, mode) in modes.into_iter().chain([(inner.as_path(), folder_mode)]) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut again = Command::new(&program);
        again.args(["--exact", "files::a_file_or_folder_that_cannot_be_written_is_read_only"]).env(READ_ONLY, &path);
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            again.uid(65_534).gid(65_534).current_dir("/");
        }
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{file_mode:o} {folder_mode:o}: {said}");
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn a_path_that_is_a_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    fs::create_dir(&path).unwrap();
    assert!(open(&path).is_err());
}

#[tokio::test]
async fn the_log_beside_the_file_does_not_grow_for_ever() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let store = open(&path).unwrap();
    for round in 0..60 {
        apply(&store, records(round * 2_000..(round + 1) * 2_000)).await;
    }
    let log = fs::metadata(folder.path().join("ledger.db-wal")).unwrap().len();
    assert!(log < 80 * 1024 * 1024, "{log} bytes");
    store.close().await.unwrap();
    assert!(!folder.path().join("ledger.db-wal").exists(), "a closed store is one file");
}
