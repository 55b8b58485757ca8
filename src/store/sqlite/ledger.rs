//! The ledger: what is due, and when a key was last settled or forgotten.

use rusqlite::{OptionalExtension, params};

use super::{database::Database, failure::Failure};
use crate::{
    model::{Key, Millis},
    store::{Change, DueCursor, Entry, Epoch, Known, MEMORY_MS, Memory, Seen},
};

const RECORD_NEW: &str = "INSERT INTO keys (key, deadline) VALUES (?1, ?2)
    ON CONFLICT (key) DO UPDATE SET deadline = ?2, absent = 0 WHERE deadline IS NULL";
const RECORD: &str = "UPDATE keys SET deadline = ?4, absent = 0 WHERE key = ?1 AND deadline = ?2 AND absent = ?3";
const MARK_ABSENT: &str = "UPDATE keys SET absent = 1 WHERE key = ?1 AND deadline = ?2 AND absent = ?3";
const REMOVE: &str = "UPDATE keys SET deadline = NULL, absent = 0, remembered = ?4, epoch = ?5
    WHERE key = ?1 AND deadline = ?2 AND absent = ?3";
const REMEMBER_NEW: &str = "INSERT INTO keys (key, remembered, epoch) VALUES (?1, ?2, ?3)
    ON CONFLICT (key) DO UPDATE SET remembered = ?2, epoch = ?3 WHERE deadline IS NULL";

impl Database {
    /// Does one change; the key's entry is not in a batch.
    pub fn change(&mut self, epoch: Epoch, change: &Change) -> Result<bool, Failure> {
        match change {
            Change::Record { key, saw: None, deadline } => {
                let done = self.touch(RECORD_NEW, params![key.as_bytes(), deadline.0])?;
                self.figures.tracked += u64::from(done);
                Ok(done)
            }
            Change::Record { key, saw: Some(saw), deadline } => {
                self.touch(RECORD, params![key.as_bytes(), saw.deadline.0, saw.absent, deadline.0])
            }
            Change::MarkAbsent { key, saw } => {
                self.touch(MARK_ABSENT, params![key.as_bytes(), saw.deadline.0, saw.absent])
            }
            Change::Forget { key, saw, at } => self.remove(epoch, key, *saw, *at),
            Change::Settle { saw, event, at } => {
                let done = match saw {
                    Some(saw) => self.remove(epoch, &event.key, *saw, *at)?,
                    None => self.remember(epoch, &event.key, *at)?,
                };
                if done {
                    self.append(event)?;
                }
                Ok(done)
            }
        }
    }

    /// Runs a statement that changes one row or none; whether it changed one.
    fn touch(&self, sql: &str, values: impl rusqlite::Params) -> Result<bool, Failure> {
        Ok(self.connection.prepare_cached(sql)?.execute(values)? > 0)
    }

    fn remove(&mut self, epoch: Epoch, key: &Key, saw: Seen, at: Millis) -> Result<bool, Failure> {
        let values = params![key.as_bytes(), saw.deadline.0, saw.absent, at.0, epoch.0.cast_signed()];
        let done = self.touch(REMOVE, values)?;
        if done {
            self.figures.tracked = self.figures.tracked.saturating_sub(1);
            self.figures.clock = Some(at);
        }
        Ok(done)
    }

    fn remember(&mut self, epoch: Epoch, key: &Key, at: Millis) -> Result<bool, Failure> {
        let done = self.touch(REMEMBER_NEW, params![key.as_bytes(), at.0, epoch.0.cast_signed()])?;
        if done {
            self.figures.clock = Some(at);
        }
        Ok(done)
    }

    /// Forgets memories that are older than they need to be, at most `limit`: oldest first.
    pub fn prune(&mut self, limit: usize) -> Result<(), Failure> {
        const OLD: &str =
            "SELECT key FROM keys INDEXED BY remembered WHERE remembered < ?1 ORDER BY remembered LIMIT ?2";
        let Some(clock) = self.figures.clock else { return Ok(()) };
        let values = (clock.plus(-MEMORY_MS).0, i64::try_from(limit).unwrap_or(i64::MAX));
        let alone = format!("DELETE FROM keys WHERE deadline IS NULL AND key IN ({OLD})");
        let with_entry = format!("UPDATE keys SET remembered = NULL, epoch = NULL WHERE key IN ({OLD})");
        self.connection.prepare_cached(&alone)?.execute(values)?;
        self.connection.prepare_cached(&with_entry)?.execute(values)?;
        Ok(())
    }

    pub fn known(&self, keys: &[Key]) -> Result<Vec<Known>, Failure> {
        let mut statement =
            self.connection.prepare_cached("SELECT deadline, absent, remembered, epoch FROM keys WHERE key = ?1")?;
        keys.iter()
            .map(|key| {
                if let Some(arrived) = self.arrived(key)? {
                    return Ok(Known { entry: Some(Seen { deadline: arrived.deadline, absent: false }), memory: None });
                }
                let known = statement.query_row([key.as_bytes()], |row| {
                    let deadline: Option<i64> = row.get(0)?;
                    let absent = row.get(1)?;
                    let remembered: Option<i64> = row.get(2)?;
                    let epoch: Option<i64> = row.get(3)?;
                    Ok(Known {
                        entry: deadline.map(|deadline| Seen { deadline: Millis(deadline), absent }),
                        memory: remembered
                            .zip(epoch)
                            .map(|(at, epoch)| Memory { at: Millis(at), epoch: Epoch(epoch.cast_unsigned()) }),
                    })
                });
                Ok(known.optional()?.unwrap_or_default())
            })
            .collect()
    }

    pub fn due(&self, after: Option<&DueCursor>, limit: usize) -> Result<Vec<Entry>, Failure> {
        let (mut entries, unfiled) = (self.filed_due(after, limit)?, self.unfiled_due(after, limit)?);
        if !unfiled.is_empty() {
            entries.extend(unfiled);
            entries.sort_by(|a, b| (a.seen.deadline, &a.key).cmp(&(b.seen.deadline, &b.key)));
            entries.truncate(limit);
        }
        Ok(entries)
    }

    fn filed_due(&self, after: Option<&DueCursor>, limit: usize) -> Result<Vec<Entry>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let entry = |row: &rusqlite::Row<'_>| {
            let key = Key::from(row.get_ref(0)?.as_blob()?);
            Ok(Entry { key, seen: Seen { deadline: Millis(row.get(1)?), absent: row.get(2)? } })
        };
        let entries = match after {
            None => self
                .connection
                .prepare_cached(
                    "SELECT key, deadline, absent FROM keys INDEXED BY due WHERE deadline IS NOT NULL
                     ORDER BY deadline, key LIMIT ?1",
                )?
                .query_map([limit], entry)?
                .collect::<Result<_, _>>()?,
            Some((deadline, key)) => self
                .connection
                .prepare_cached(
                    "SELECT key, deadline, absent FROM keys INDEXED BY due
                     WHERE deadline IS NOT NULL AND (deadline, key) > (?1, ?2) ORDER BY deadline, key LIMIT ?3",
                )?
                .query_map(params![deadline.0, key.as_bytes(), limit], entry)?
                .collect::<Result<_, _>>()?,
        };
        Ok(entries)
    }

    /// Drops entries, memories and node states: all that was said of one deployment.
    pub fn discard_ledger(&mut self, epoch: Epoch) -> Result<u64, Failure> {
        self.fence(epoch)?;
        self.connection.execute_batch("DELETE FROM keys; DELETE FROM unfiled; DELETE FROM nodes")?;
        self.unfiled.take();
        Ok(std::mem::take(&mut self.figures.tracked))
    }
}
