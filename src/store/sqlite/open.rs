//! Opening the file: the lock, the settings, the schema, and whether the file is ours and sound.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    Options,
    database::Database,
    failure::{Failure, of_io},
    lock::Lock,
};
use crate::store::StoreError;

/// "RExL": says that the file is a ledger of ours (`PRAGMA application_id`).
const APPLICATION: i32 = 0x5245_784C;
const SCHEMA: &str = include_str!("schema.sql");
const SCHEMA_VERSION: i64 = 1;
/// What SQLite keeps of the file in memory. The rest is the kernel's page cache, which is not counted as ours.
const CACHE_KIB: i64 = 8 * 1024;
/// A change touches one row here and there: small pages, because what is written is whole pages.
const PAGE_BYTES: i64 = 1024;
/// The write-ahead log is folded into the file when it has this many pages, if no quiet moment came before (see
/// [`super::thread`]): pages that many commits touch are then written once.
const CHECKPOINT_PAGES: i64 = 256 * 1024;
/// What is left of the log's file after that.
const LOG_BYTES: i64 = 16 * 1024 * 1024;
/// A file up to this size is read through at the start: a fraction of a second.
const CHECKED_BYTES: u64 = 16 * 1024 * 1024;
const STATEMENTS: usize = 64;
const PATIENCE: Duration = Duration::from_millis(200);

pub(super) fn open(path: &Path, options: &Options) -> Result<Database, StoreError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| of_io(&error, path))?;
    }
    let lock = Lock::take(path)?;
    database(path, options, lock).map_err(|failure| match failure {
        Opening::Failed(failure) => failure.named(path),
        Opening::Newer(found) => StoreError::Newer { path: path.to_path_buf(), found, known: SCHEMA_VERSION },
    })
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

fn database(path: &Path, options: &Options, lock: Lock) -> Result<Database, Opening> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A backup that is just being read holds the file for moments; anything longer is another owner.
    connection.busy_timeout(PATIENCE)?;
    // SQLite opens a file that it may not write for reading, and fails in other words later.
    if connection.is_readonly("main")? {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        return Err(rusqlite::Error::SqliteFailure(code, None).into());
    }
    // Exclusive: our lock file keeps our own kind out, this keeps out everybody else who would write to the file; and
    // the index of the log is in our memory then, not in a third file.
    pragma(&connection, "locking_mode", "EXCLUSIVE")?;
    let state = state(&connection)?;
    if let State::Newer(found) = state {
        return Err(Opening::Newer(found));
    }
    pragma(&connection, "page_size", PAGE_BYTES)?;
    pragma(&connection, "journal_mode", "WAL")?;
    // Each commit is on the disk before it is answered.
    pragma(&connection, "synchronous", "FULL")?;
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
        State::Ours | State::Newer(_) => check(&connection, path)?,
    }
    Ok(Database::new(connection, path, beside(path, "-wal"), lock, options.bulk)?)
}

/// Sets a value; what SQLite answers to that (some pragmas do) is left unread.
fn pragma(connection: &Connection, name: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    connection.pragma_update(None, name, value)
}

enum State {
    Empty,
    Ours,
    Newer(i64),
}

fn state(connection: &Connection) -> Result<State, Failure> {
    let read = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = read("PRAGMA application_id")?;
    let version = read("PRAGMA user_version")?;
    let tables = read("SELECT count(*) FROM sqlite_schema")?;
    if application == i64::from(APPLICATION) {
        return Ok(if version > SCHEMA_VERSION { State::Newer(version) } else { State::Ours });
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

/// Reads a small file through. A large one is not worth the delay of a start: its damage is found where it is read.
fn check(connection: &Connection, path: &Path) -> Result<(), Failure> {
    // The log is opened and, after a crash, read by the first transaction.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    let bytes = fs::metadata(path).map_or(0, |data| data.len());
    if bytes > CHECKED_BYTES {
        return Ok(());
    }
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Failure::Damaged(found)) }
}
