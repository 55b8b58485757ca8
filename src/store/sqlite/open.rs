//! Opening the file: the lock, the settings, the schema, and whether the file is ours and sound.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    Options,
    database::Database,
    failure::{Failure, of_io},
    folding::Folding,
    lock::Lock,
    syncing::Syncing,
};
use crate::store::StoreError;

/// "RExL": says that the file is a ledger of ours (`PRAGMA application_id`).
const APPLICATION: i32 = 0x5245_784C;
const SCHEMA: &str = include_str!("schema.sql");
const SCHEMA_VERSION: i64 = 2;
/// Version 1 knew events by their ids alone.
const FROM_1: &str = "CREATE UNIQUE INDEX event ON outbox (deadline, key, id)";
/// What SQLite keeps of the file in memory. The rest is the kernel's page cache, which is not counted as ours.
const CACHE_KIB: i64 = 6 * 1024;
/// A change touches one row here and there: small pages, because what is written is whole pages.
const PAGE_BYTES: i64 = 1024;
/// The store's own connection folds the log into the file when it has this many pages, if no moment came at which it could
/// start anew (see [`super::folding`]): pages that many commits touch are then written once.
const CHECKPOINT_PAGES: i64 = 256 * 1024;
/// What is left of the log's file after that.
const LOG_BYTES: i64 = 16 * 1024 * 1024;
/// A file up to this size is read through at the start: a fraction of a second.
const CHECKED_BYTES: u64 = 16 * 1024 * 1024;
/// The same for the connection that folds, which reads pages of the log one by one.
const FOLDING_CACHE_KIB: i64 = 64;
const STATEMENTS: usize = 64;
const PATIENCE: Duration = Duration::from_millis(200);

pub(super) fn open(path: &Path, options: &Options) -> Result<(Database, (Syncing, Folding)), StoreError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| of_io(&error, path))?;
    }
    let lock = Lock::take(path)?;
    let log = beside(path, "-wal");
    let refused = |failure| match failure {
        Opening::Failed(failure) => Failure::named(failure, path),
        Opening::Newer(found) => StoreError::Newer { path: path.to_path_buf(), found, known: SCHEMA_VERSION },
    };
    let database = database(path, log.clone(), options, lock).map_err(refused)?;
    let folding = folder(path).map_err(|error| refused(error.into()))?;
    let beside = File::options()
        .write(true)
        .open(log)
        .and_then(|log| Syncing::start(path.to_path_buf(), log, options.sync))
        .and_then(|syncing| Ok((syncing, Folding::start(folding)?)))
        .map_err(|error| of_io(&error, path))?;
    Ok((database, beside))
}

/// Removes the file and all that belongs to it, the lock last.
pub(super) fn remove(path: &Path, lock: Lock) -> Result<(), StoreError> {
    for file in [beside(path, "-wal"), beside(path, "-shm"), path.to_path_buf()] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(of_io(&error, path)),
            _ => {}
        }
    }
    lock.remove(path)
}

enum Opening {
    Failed(Failure),
    Newer(i64),
}

impl<E: Into<Failure>> From<E> for Opening {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The path of a file that belongs to the one at `path`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

const OPENING: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// The connection that folds the log.
fn folder(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OPENING)?;
    pragma(&connection, "synchronous", "NORMAL")?;
    pragma(&connection, "cache_size", -FOLDING_CACHE_KIB)?;
    Ok(connection)
}

fn database(path: &Path, log: PathBuf, options: &Options, lock: Lock) -> Result<Database, Opening> {
    let mut connection = Connection::open_with_flags(path, OPENING | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A backup that is just being read holds the file for moments; anything longer is another owner.
    connection.busy_timeout(PATIENCE)?;
    // SQLite opens a file that it may not write for reading, and fails in other words later.
    if connection.is_readonly("main")? {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        return Err(rusqlite::Error::SqliteFailure(code, None).into());
    }
    let state = state(&connection)?;
    if let State::Newer(found) = state {
        return Err(Opening::Newer(found));
    }
    pragma(&connection, "page_size", PAGE_BYTES)?;
    pragma(&connection, "journal_mode", "WAL")?;
    // SQLite syncs around a fold only; commits are made durable by `syncing`.
    pragma(&connection, "synchronous", "NORMAL")?;
    pragma(&connection, "cache_size", -CACHE_KIB)?;
    pragma(&connection, "mmap_size", 0)?;
    pragma(&connection, "temp_store", "MEMORY")?;
    pragma(&connection, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    pragma(&connection, "journal_size_limit", LOG_BYTES)?;
    if let Some(pages) = options.max_page_count {
        pragma(&connection, "max_page_count", pages)?;
    }
    match state {
        State::Empty => create(&mut connection)?,
        State::Ours(version) | State::Newer(version) => {
            check(&connection, path)?;
            bring_forward(&mut connection, version)?;
        }
    }
    Ok(Database::new(connection, path, log, lock, options.bulk)?)
}

/// Sets a value; what SQLite answers to that (some pragmas do) is left unread.
fn pragma(connection: &Connection, name: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    connection.pragma_update(None, name, value)
}

enum State {
    Empty,
    /// Of that version.
    Ours(i64),
    Newer(i64),
}

fn state(connection: &Connection) -> Result<State, Failure> {
    let read = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = read("PRAGMA application_id")?;
    let version = read("PRAGMA user_version")?;
    let tables = read("SELECT count(*) FROM sqlite_schema")?;
    if application == i64::from(APPLICATION) {
        return Ok(if version > SCHEMA_VERSION { State::Newer(version) } else { State::Ours(version) });
    }
    if application == 0 && version == 0 && tables == 0 {
        return Ok(State::Empty);
    }
    Err(Failure::Damaged(format!("it is a database of another program, application id {application:#x}")))
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

fn bring_forward(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    if from >= SCHEMA_VERSION {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(FROM_1)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Reads a small file through. A large one is not worth the delay of a start: its damage is found where it is read.
fn check(connection: &Connection, path: &Path) -> Result<(), Failure> {
    // The log is opened and, after a crash, read by the first transaction. What lies in it is then written to the file,
    // though it may seem to be on the disk already: see `syncing` on syncs that failed.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    if connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))? {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(code, None).into());
    }
    let bytes = fs::metadata(path).map_or(0, |data| data.len());
    if bytes > CHECKED_BYTES {
        return Ok(());
    }
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Failure::Damaged(found)) }
}
