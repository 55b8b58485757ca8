//! What really happened to each key, and what we could know of it.

use std::collections::BTreeMap;

use crate::server::{KeyIndex, Value};

/// An index into [`Truth::lives`].
pub type LifeId = usize;

/// How a life ended, but by expiring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Deleted, renamed, or left without a deadline.
    Removed,
    /// Lost in a failover, flushed, evicted, not there after a restart.
    DataGone,
}

#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// When, in true time.
    pub at: i64,
    /// When its node's clock was at its deadline, in true time.
    pub due: i64,
    /// When, by the node's clock in milliseconds.
    pub server_at: i64,
}

/// The time from a key's creation to its end.
#[derive(Debug, Default)]
pub struct Life {
    pub key: KeyIndex,
    pub born: i64,
    /// When it was given which deadline (milliseconds of its node's clock). Empty: none.
    pub deadlines: Vec<(i64, i64)>,
    pub ends: Vec<(i64, End)>,
    pub evicted: bool,
    /// More than one only where a failover resurrected it.
    pub expiries: Vec<Expiry>,
    /// When a look saw it alive and the store had it.
    pub recorded: Option<i64>,
    /// When a birth that counts was heard.
    pub heard: Option<i64>,
}

#[derive(Default)]
pub struct Truth {
    pub lives: Vec<Life>,
    /// When pushes may have been missed, until all was seen whole again.
    pub gaps: Vec<(i64, i64)>,
    gap: Option<i64>,
    /// When processes of ours began.
    pub starts: Vec<i64>,
    /// When the slot moved.
    pub moves: Vec<(i64, i64)>,
}

impl Truth {
    pub fn born(&mut self, key: KeyIndex, now: i64) -> LifeId {
        self.lives.push(Life { key, born: now, ..Life::default() });
        self.lives.len() - 1
    }
    pub fn armed(&mut self, life: LifeId, now: i64, deadline: i64) {
        self.lives[life].deadlines.push((now, deadline));
    }
    pub fn ended(&mut self, life: LifeId, now: i64, end: End) {
        self.lives[life].ends.push((now, end));
    }
    pub fn expired(&mut self, life: LifeId, at: i64, due: i64, server_at: i64) {
        self.lives[life].expiries.push(Expiry { at, due, server_at });
    }
    pub fn recorded(&mut self, life: LifeId, now: i64) {
        self.lives[life].recorded.get_or_insert(now);
    }
    pub fn heard(&mut self, life: LifeId, now: i64) {
        self.lives[life].heard.get_or_insert(now);
    }

    /// A failover: what the new owner has is what is.
    pub fn promoted(&mut self, now: i64, old: &BTreeMap<KeyIndex, Value>, new: &BTreeMap<KeyIndex, Value>) {
        for (key, value) in old {
            if new.get(key).is_none_or(|other| other.life != value.life) {
                self.ended(value.life, now, End::DataGone);
            }
        }
        for (key, value) in new {
            if old.get(key) != Some(value)
                && let Some(deadline) = value.deadline
            {
                self.armed(value.life, now, deadline);
            }
        }
    }

    pub fn gap_begins(&mut self, at: i64) {
        self.gap.get_or_insert(at);
    }
    pub fn gap_ends(&mut self, at: i64) {
        self.gaps.extend(self.gap.take().map(|from| (from, at)));
    }
    pub fn gap_is_open(&self) -> bool {
        self.gap.is_some()
    }
    pub fn move_begins(&mut self, at: i64) {
        self.moves.push((at, i64::MAX));
    }
    pub fn move_ends(&mut self, at: i64) {
        if let Some(last) = self.moves.last_mut() {
            last.1 = at;
        }
    }

    /// Whether something lies in a gap.
    pub fn in_gap(&self, at: i64) -> bool {
        self.gaps.iter().any(|(from, to)| (*from..=*to).contains(&at))
    }
    /// Whether both lie in one gap.
    pub fn in_one_gap(&self, first: i64, second: i64) -> bool {
        self.gaps.iter().any(|gap| (gap.0..=gap.1).contains(&first) && (gap.0..=gap.1).contains(&second))
    }
    /// Whether a gap lies between, or around.
    pub fn gap_between(&self, from: i64, to: i64) -> bool {
        self.gaps.iter().any(|gap| gap.0 <= to && from <= gap.1)
    }
    pub fn moving_between(&self, from: i64, to: i64) -> bool {
        self.moves.iter().any(|moving| moving.0 <= to && from <= moving.1)
    }
}
