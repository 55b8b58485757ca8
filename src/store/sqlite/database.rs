//! The open file: its transaction, and the figures of it that are kept in memory.

use std::{
    cell::OnceCell,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{failure::Failure, lock::Lock, unfiled::Unfiled};
use crate::{
    model::Millis,
    store::{Counts, Epoch},
};

pub(super) struct Database {
    pub connection: Connection,
    pub path: PathBuf,
    pub figures: Figures,
    /// What came in bulk and is not in `keys` yet. Empty until it is read, and after a transaction was undone.
    pub unfiled: OnceCell<Unfiled>,
    /// A call with so many changes is one in bulk.
    pub bulk: usize,
    /// The figures when the open transaction began.
    before: Option<Figures>,
    files: [(PathBuf, Identity); 2],
    /// The last field: it is let go of when the connection is closed.
    pub lock: Lock,
}

/// What would cost a scan to ask each time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// The newest epoch taken; 0 before the first.
    pub epoch: u64,
    pub tracked: u64,
    pub pending: u64,
    pub dead_letters: u64,
    pub last_delivered: Option<Millis>,
    /// The `at` that was written last: what memories are old by.
    pub clock: Option<Millis>,
}

type Identity = (u64, u64);

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|data| (data.dev(), data.ino()))
}

impl Database {
    pub fn new(connection: Connection, path: &Path, log: PathBuf, lock: Lock, bulk: usize) -> Result<Self, Failure> {
        let known = |path: PathBuf| match identity(&path) {
            Ok(identity) => Ok((path, identity)),
            Err(error) => Err(Failure::Damaged(format!("{}: {error}", path.display()))),
        };
        let files = [known(path.to_path_buf())?, known(log)?];
        let figures = Figures::read(&connection)?;
        let unfiled = OnceCell::new();
        let database = Self { connection, path: path.to_path_buf(), figures, unfiled, bulk, before: None, files, lock };
        database.unfiled()?;
        Ok(database)
    }

    /// Opens a transaction for writing.
    ///
    /// A file that was removed takes writes as before, on Linux, and they are gone with the process: so it is looked at
    /// each time, at the price of two `stat`s a commit.
    pub fn begin(&mut self) -> Result<(), Failure> {
        for (path, opened) in &self.files {
            if identity(path).ok() != Some(*opened) {
                let gone = format!("{} was removed or replaced while in use", path.display());
                return Err(Failure::Damaged(gone));
            }
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.before = Some(self.figures);
        Ok(())
    }

    /// Ends the transaction, which [`super::syncing`] makes durable. Where that fails, it is undone.
    pub fn commit(&mut self) -> Result<(), Failure> {
        let committed = self.connection.prepare_cached("COMMIT")?.execute([]);
        if let Err(error) = committed {
            self.roll_back();
            return Err(error.into());
        }
        self.before = None;
        Ok(())
    }

    pub fn roll_back(&mut self) {
        // SQLite has done it already after some errors; and where it cannot, the next BEGIN says so.
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        if let Some(before) = self.before.take() {
            self.figures = before;
            self.unfiled.take();
        }
    }

    /// Refuses an owner that another has followed.
    pub fn fence(&self, mine: Epoch) -> Result<(), Failure> {
        let newest = Epoch(self.figures.epoch);
        if mine < newest { Err(Failure::Fenced { mine, newest }) } else { Ok(()) }
    }

    pub fn counts(&self) -> Result<Counts, Failure> {
        let oldest = |sql| -> Result<Option<i64>, Failure> {
            Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
        };
        let untried =
            oldest("SELECT settled_at FROM outbox INDEXED BY untried WHERE attempts = 0 ORDER BY settled_at LIMIT 1")?;
        let tried = oldest(
            "SELECT settled_at FROM outbox INDEXED BY tried_oldest WHERE attempts > 0 ORDER BY settled_at LIMIT 1",
        )?;
        Ok(Counts {
            tracked: self.figures.tracked,
            pending: self.figures.pending,
            dead_letters: self.figures.dead_letters,
            oldest_pending: untried.into_iter().chain(tried).min().map(Millis),
            last_delivered: self.figures.last_delivered,
        })
    }

    pub fn set_fact(&self, name: &str, value: i64) -> Result<(), Failure> {
        self.connection
            .prepare_cached("INSERT INTO facts VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2")?
            .execute(params![name, value])?;
        Ok(())
    }
}

pub(super) mod fact {
    pub const EPOCH: &str = "epoch";
    pub const LAST_DELIVERED: &str = "last_delivered";
}

impl Figures {
    fn read(connection: &Connection) -> Result<Self, Failure> {
        let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
        let fact = |name| {
            connection
                .query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get::<_, i64>(0))
                .optional()
        };
        Ok(Self {
            epoch: fact(fact::EPOCH)?.unwrap_or(0).cast_unsigned(),
            tracked: count("SELECT count(*) FROM keys INDEXED BY due WHERE deadline IS NOT NULL")?
                + count("SELECT coalesce(sum(count), 0) FROM unfiled")?,
            pending: count("SELECT count(*) FROM outbox")?,
            dead_letters: count("SELECT count(*) FROM dead_letters")?,
            last_delivered: fact(fact::LAST_DELIVERED)?.map(Millis),
            clock: None,
        })
    }
}
