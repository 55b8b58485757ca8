//! New entries that came in bulk: put down as they come, and filed into `keys` when nobody waits.
//!
//! A first scan brings a million keys in no order, and each would dirty a page of `keys` and one of its index: gigabytes are
//! written for some tens of megabytes. So many at once are put down in batches instead, each a row of its own, and are found
//! again by filters in memory.
//!
//! # Guarantees
//! - An entry is in a batch or in `keys`, never in both. What is changed is in `keys`: [`Database::file_key`] comes first.
//! - A batch is as durable as any other change of its call.

use std::collections::BinaryHeap;

use foldhash::quality::RandomState;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    database::Database,
    failure::Failure,
    unfiled::{self, BATCH, BATCH_BYTES, Unfiled},
};
use crate::{
    model::{Deadline, Key, KeySet},
    store::{Change, DueCursor, Entry, Epoch, Seen},
};

/// With so many keys unfiled, what comes is filed at once: the filters are memory.
const MOST: usize = 2_000_000;

/// An entry in a batch.
pub(super) struct Arrived {
    pub deadline: Deadline,
    /// Its batch, and what lies in it.
    number: i64,
    bytes: Vec<u8>,
}

impl Database {
    /// Does `changes` in order. On an error some of them may have been done: the caller undoes them.
    pub fn apply(&mut self, epoch: Epoch, changes: &[Change]) -> Result<Vec<bool>, Failure> {
        self.fence(epoch)?;
        let bulk = changes.len() >= self.bulk && self.unfiled()?.keys() < MOST;
        let new = if bulk { self.new_keys(changes)? } else { KeySet::default() };
        let mut done = Vec::with_capacity(changes.len());
        let mut arriving = Vec::new();
        for change in changes {
            let key = change.key();
            if let Change::Record { saw: None, deadline, .. } = change
                && new.contains(key)
            {
                arriving.push((key, *deadline));
                done.push(true);
                continue;
            }
            self.file_key(key)?;
            done.push(self.change(epoch, change)?);
        }
        self.put_down(&arriving, epoch)?;
        Ok(done)
    }

    /// Keys of which nothing is there, neither entry nor memory, and that are in one change only.
    fn new_keys(&self, changes: &[Change]) -> Result<KeySet, Failure> {
        let anything = self.connection.prepare_cached("SELECT 1 FROM keys LIMIT 1")?.exists([])?;
        let mut filed = self.connection.prepare_cached("SELECT 1 FROM keys WHERE key = ?1")?;
        let mut new = KeySet::with_capacity_and_hasher(changes.len(), RandomState::default());
        let mut others = Vec::new();
        for key in changes.iter().map(Change::key) {
            let known = (anything && filed.exists([key.as_bytes()])?) || self.arrived(key)?.is_some();
            if known || !new.insert(key.clone()) {
                others.push(key);
            }
        }
        for key in others {
            new.remove(key);
        }
        Ok(new)
    }

    /// Puts down entries that are new.
    fn put_down(&mut self, entries: &[(&Key, Deadline)], epoch: Epoch) -> Result<(), Failure> {
        // Keys may be large, and a row has its limit.
        let size = entries.iter().map(|(key, _)| key.as_bytes().len()).max().unwrap_or(0).max(1);
        for batch in entries.chunks((BATCH_BYTES / size).clamp(1, BATCH)) {
            if batch.len() < self.bulk / 4 {
                // Too few for a row of their own.
                for (key, deadline) in batch {
                    self.change(epoch, &Change::Record { key: (*key).clone(), saw: None, deadline: *deadline })?;
                }
                continue;
            }
            let number = self.unfiled()?.next();
            let bytes = unfiled::write(batch.iter().map(|(key, deadline)| (key.as_bytes(), *deadline)));
            self.connection
                .prepare_cached("INSERT INTO unfiled (batch, count, entries) VALUES (?1, ?2, ?3)")?
                .execute(params![number, count(batch.len()), bytes])?;
            if let Some(unfiled) = self.unfiled.get_mut() {
                unfiled.add(number, batch.iter().map(|(key, _)| key.as_bytes()));
            }
            self.figures.tracked += batch.len() as u64;
        }
        Ok(())
    }

    /// What lies in batches; read from the file at the start, and after what was undone.
    pub fn unfiled(&self) -> Result<&Unfiled, Failure> {
        if let Some(unfiled) = self.unfiled.get() {
            return Ok(unfiled);
        }
        let found = read(&self.connection)?;
        Ok(self.unfiled.get_or_init(|| found))
    }

    /// The entry of a key that is in a batch.
    pub fn arrived(&self, key: &Key) -> Result<Option<Arrived>, Failure> {
        for number in self.unfiled()?.candidates(key.as_bytes()) {
            let bytes = self.batch(number)?;
            if let Some((_, deadline)) = entries(&bytes)?.into_iter().find(|(held, _)| *held == key.as_bytes()) {
                return Ok(Some(Arrived { deadline, number, bytes }));
            }
        }
        Ok(None)
    }

    fn batch(&self, number: i64) -> Result<Vec<u8>, Failure> {
        let mut statement = self.connection.prepare_cached("SELECT entries FROM unfiled WHERE batch = ?1")?;
        Ok(statement.query_row([number], |row| row.get(0)).optional()?.unwrap_or_default())
    }

    fn insert(&self, key: &[u8], deadline: Deadline) -> Result<(), Failure> {
        self.connection
            .prepare_cached("INSERT INTO keys (key, deadline) VALUES (?1, ?2)")?
            .execute(params![key, deadline.0])?;
        Ok(())
    }

    /// Moves one key's entry to where it can be changed, if it is in a batch.
    fn file_key(&mut self, key: &Key) -> Result<(), Failure> {
        let Some(Arrived { deadline, number, bytes }) = self.arrived(key)? else { return Ok(()) };
        let others: Vec<_> = entries(&bytes)?.into_iter().filter(|(held, _)| *held != key.as_bytes()).collect();
        self.connection
            .prepare_cached("UPDATE unfiled SET count = ?2, entries = ?3 WHERE batch = ?1")?
            .execute(params![number, count(others.len()), unfiled::write(others.into_iter())])?;
        self.insert(key.as_bytes(), deadline)
    }

    /// Files the batches that have waited longest, about `limit` entries of them.
    pub fn file(&mut self, limit: usize) -> Result<(), Failure> {
        let mut filed = 0;
        while filed < limit
            && let Some(number) = self.unfiled()?.first()
        {
            let bytes = self.batch(number)?;
            for (key, deadline) in entries(&bytes)? {
                self.insert(key, deadline)?;
                filed += 1;
            }
            self.connection.prepare_cached("DELETE FROM unfiled WHERE batch = ?1")?.execute([number])?;
            if let Some(unfiled) = self.unfiled.get_mut() {
                unfiled.remove_first();
            }
        }
        Ok(())
    }

    /// Entries of batches as [`Database::due`] wants them. All batches are read, in no order: some 0.1 s for a million
    /// entries, and rare, for whoever asks holds the soonest in memory.
    pub fn unfiled_due(&self, after: Option<&DueCursor>, limit: usize) -> Result<Vec<Entry>, Failure> {
        let mut soonest: BinaryHeap<(Deadline, Key)> = BinaryHeap::new();
        if self.unfiled()?.is_empty() {
            return Ok(Vec::new());
        }
        let mut statement = self.connection.prepare_cached("SELECT entries FROM unfiled")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for (key, deadline) in entries(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)? {
                let here = (deadline, key);
                let before = after.is_some_and(|(deadline, key)| here <= (*deadline, key.as_bytes()));
                let beyond = || soonest.peek().is_some_and(|(deadline, key)| here > (*deadline, key.as_bytes()));
                if before || (soonest.len() >= limit && beyond()) {
                    continue;
                }
                soonest.push((deadline, Key::from(key)));
                if soonest.len() > limit {
                    soonest.pop();
                }
            }
        }
        let entry = |(deadline, key)| Entry { key, seen: Seen { deadline, absent: false } };
        Ok(soonest.into_sorted_vec().into_iter().map(entry).collect())
    }
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

fn entries(bytes: &[u8]) -> Result<Vec<(&[u8], Deadline)>, Failure> {
    unfiled::read(bytes).ok_or_else(|| Failure::Damaged("a batch of new entries is not as it was written".into()))
}

fn read(connection: &Connection) -> Result<Unfiled, Failure> {
    let mut unfiled = Unfiled::default();
    let mut statement = connection.prepare_cached("SELECT batch, entries FROM unfiled ORDER BY batch")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        unfiled.add(row.get(0)?, entries(bytes)?.iter().map(|(key, _)| *key));
    }
    Ok(unfiled)
}
