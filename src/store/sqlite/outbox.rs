//! The outbox: what was settled and is not yet delivered.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Row, params};

use super::{
    database::{Database, fact},
    failure::Failure,
};
use crate::{
    model::{Event, EventId, Evidence, Key, Millis},
    store::{Delivery, Epoch, Outcome, Pending},
};

pub(super) const fn evidence_number(evidence: Evidence) -> i64 {
    match evidence {
        Evidence::Witnessed => 0,
        Evidence::Inferred => 1,
    }
}

/// Reads an event from the first five columns: id, key, deadline, evidence, settled at.
pub(super) fn event_of(row: &Row<'_>) -> rusqlite::Result<Event> {
    let evidence = match row.get::<_, i64>(3)? {
        0 => Evidence::Witnessed,
        1 => Evidence::Inferred,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(3, other)),
    };
    Ok(Event {
        id: EventId::from(row.get_ref(0)?.as_str()?),
        key: Key::from(row.get_ref(1)?.as_blob()?),
        deadline: Millis(row.get(2)?),
        evidence,
        settled_at: Millis(row.get(4)?),
    })
}

fn pending_of(row: &Row<'_>) -> rusqlite::Result<Pending> {
    Ok(Pending {
        event: event_of(row)?,
        attempts: row.get(5)?,
        first_attempt: row.get::<_, Option<i64>>(6)?.map(Millis),
        not_before: Millis(row.get(7)?),
    })
}

/// Without an attempt, by when they were settled; of two at once, the one that came first. (The place ends every index.)
const UNTRIED: &str = "SELECT id, key, deadline, evidence, settled_at, attempts, first_attempt, not_before
    FROM outbox INDEXED BY untried WHERE attempts = 0 AND not_before <= ?1 ORDER BY settled_at, place";
const TRIED: &str = "SELECT id, key, deadline, evidence, settled_at, attempts, first_attempt, not_before
    FROM outbox INDEXED BY tried WHERE attempts > 0 AND not_before <= ?1 ORDER BY not_before, place";

impl Database {
    /// Appends an event, unless its id is in the outbox or among the dead letters.
    pub fn append(&mut self, event: &Event) -> Result<(), Failure> {
        if self.figures.dead_letters > 0
            && self
                .connection
                .prepare_cached("SELECT 1 FROM dead_letters WHERE id = ?1")?
                .exists([event.id.as_str()])?
        {
            return Ok(());
        }
        let appended = self
            .connection
            .prepare_cached(
                "INSERT INTO outbox (id, key, deadline, evidence, settled_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                event.id.as_str(),
                event.key.as_bytes(),
                event.deadline.0,
                evidence_number(event.evidence),
                event.settled_at.0
            ])?;
        self.figures.pending += appended as u64;
        Ok(())
    }

    pub fn pending(&self, ready: Millis, but: &[EventId], limit: usize) -> Result<Vec<Pending>, Failure> {
        let but: HashSet<&str> = but.iter().map(EventId::as_str).collect();
        let mut found = Vec::new();
        for sql in [UNTRIED, TRIED] {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([ready.0])?;
            while found.len() < limit
                && let Some(row) = rows.next()?
            {
                if !but.contains(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?) {
                    found.push(pending_of(row)?);
                }
            }
        }
        Ok(found)
    }

    pub fn next_pending(&self, but: &[EventId]) -> Result<Option<Millis>, Failure> {
        const SOONEST: [&str; 3] = [
            "SELECT id, not_before FROM outbox INDEXED BY untried WHERE attempts = 0 AND not_before = 0",
            "SELECT id, not_before FROM outbox INDEXED BY untried_waiting WHERE attempts = 0 AND not_before <> 0
             ORDER BY not_before",
            "SELECT id, not_before FROM outbox INDEXED BY tried WHERE attempts > 0 ORDER BY not_before",
        ];
        let but: HashSet<&str> = but.iter().map(EventId::as_str).collect();
        let mut soonest: Option<i64> = None;
        for sql in SOONEST {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if !but.contains(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?) {
                    let not_before = row.get(1)?;
                    soonest = Some(soonest.map_or(not_before, |least| least.min(not_before)));
                    break;
                }
            }
        }
        Ok(soonest.map(Millis))
    }

    pub fn delivered(&mut self, epoch: Epoch, outcomes: &[Delivery]) -> Result<(), Failure> {
        self.fence(epoch)?;
        outcomes.iter().try_for_each(|delivery| match &delivery.outcome {
            Outcome::Delivered { at } => self.remove_delivered(delivery, *at),
            Outcome::Retry { attempts, first_attempt, not_before } => {
                let Delivery { id, key, deadline, .. } = delivery;
                self.connection
                    .prepare_cached(
                        "UPDATE outbox SET attempts = ?4, first_attempt = ?5, not_before = ?6
                         WHERE deadline = ?1 AND key = ?2 AND id = ?3",
                    )?
                    .execute(params![
                        deadline.0,
                        key.as_bytes(),
                        id.as_str(),
                        attempts,
                        first_attempt.0,
                        not_before.0
                    ])?;
                Ok(())
            }
            Outcome::DeadLetter { attempts, reason, at } => self.park(delivery, *attempts, reason, *at),
        })
    }

    fn remove_delivered(&mut self, delivery: &Delivery, at: Millis) -> Result<(), Failure> {
        let Delivery { id, key, deadline, .. } = delivery;
        let removed = self
            .connection
            .prepare_cached("DELETE FROM outbox WHERE deadline = ?1 AND key = ?2 AND id = ?3")?
            .execute(params![deadline.0, key.as_bytes(), id.as_str()])?;
        if removed == 0 {
            return Ok(());
        }
        self.figures.pending = self.figures.pending.saturating_sub(1);
        // Outcomes of several attempts arrive in the order in which they ended, more or less.
        if self.figures.last_delivered.is_none_or(|last| last < at) {
            self.figures.last_delivered = Some(at);
            self.set_fact(fact::LAST_DELIVERED, at.0)?;
        }
        Ok(())
    }

    /// Moves an event from the outbox to the dead letters.
    fn park(&mut self, delivery: &Delivery, attempts: u32, reason: &str, at: Millis) -> Result<(), Failure> {
        let Delivery { id, key, deadline, .. } = delivery;
        let event = self
            .connection
            .prepare_cached(
                "DELETE FROM outbox WHERE deadline = ?1 AND key = ?2 AND id = ?3
                 RETURNING id, key, deadline, evidence, settled_at",
            )?
            .query_row(params![deadline.0, key.as_bytes(), id.as_str()], event_of)
            .optional()?;
        let Some(event) = event else { return Ok(()) };
        self.connection.prepare_cached("INSERT INTO dead_letters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(
            params![
                event.id.as_str(),
                event.key.as_bytes(),
                event.deadline.0,
                evidence_number(event.evidence),
                event.settled_at.0,
                attempts,
                reason,
                at.0
            ],
        )?;
        self.figures.pending = self.figures.pending.saturating_sub(1);
        self.figures.dead_letters += 1;
        Ok(())
    }
}
