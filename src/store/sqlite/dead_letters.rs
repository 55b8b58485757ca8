//! What could not be delivered.

use rusqlite::params;

use super::{database::Database, failure::Failure, outbox::event_of};
use crate::{
    model::{EventId, Millis},
    store::{DeadLetter, Epoch, Selection},
};

impl Database {
    pub fn dead_letters(&self, after: Option<&(Millis, EventId)>, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        // Nothing is before the least time with the empty id.
        let (at, id) = after.map_or((i64::MIN, ""), |(at, id)| (at.0, id.as_str()));
        let letters = self
            .connection
            .prepare_cached(
                "SELECT id, key, deadline, evidence, settled_at, attempts, reason, at FROM dead_letters
                 INDEXED BY parked WHERE (at, id) > (?1, ?2) ORDER BY at, id LIMIT ?3",
            )?
            .query_map(params![at, id, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                Ok(DeadLetter {
                    event: event_of(row)?,
                    attempts: row.get(5)?,
                    reason: row.get(6)?,
                    at: Millis(row.get(7)?),
                })
            })?
            .collect::<Result<_, _>>()?;
        Ok(letters)
    }

    pub fn replay(&mut self, epoch: Epoch, which: &Selection) -> Result<u64, Failure> {
        const BACK: &str = "INSERT INTO outbox (id, key, deadline, evidence, settled_at)
            SELECT id, key, deadline, evidence, settled_at FROM dead_letters";
        self.fence(epoch)?;
        match which {
            Selection::All => {
                self.connection.prepare_cached(&format!("{BACK} ORDER BY at, id"))?.execute([])?;
            }
            Selection::Ids(ids) => {
                let mut back =
                    self.connection.prepare_cached(&format!("{BACK} WHERE id = ?1 ON CONFLICT DO NOTHING"))?;
                for id in ids {
                    back.execute([id.as_str()])?;
                }
            }
        }
        let moved = self.purge(epoch, which)?;
        self.figures.pending += moved;
        Ok(moved)
    }

    pub fn purge(&mut self, epoch: Epoch, which: &Selection) -> Result<u64, Failure> {
        self.fence(epoch)?;
        let removed = match which {
            Selection::All => self.connection.prepare_cached("DELETE FROM dead_letters")?.execute([])?,
            Selection::Ids(ids) => {
                let mut remove = self.connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?;
                let each = ids.iter().map(|id| remove.execute([id.as_str()]));
                each.sum::<rusqlite::Result<usize>>()?
            }
        } as u64;
        self.figures.dead_letters = self.figures.dead_letters.saturating_sub(removed);
        Ok(removed)
    }
}
