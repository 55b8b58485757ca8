//! One row of the table.

use serde_json::{Value, json};

use crate::model::ListenerId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// It runs, with less than it could have.
    Warn,
    /// It does not run, or loses what it promises.
    Fail,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// A node's address, `cluster`, `store` or `webhook`.
    pub subject: String,
    pub what: String,
    /// What to do; empty where nothing is.
    pub fix: String,
}

impl Finding {
    pub fn ok(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.into(), what: what.into(), fix: String::new() }
    }
    pub fn warn(subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warn, subject: subject.into(), what: what.into(), fix: fix.into() }
    }
    pub fn fail(subject: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Fail, subject: subject.into(), what: what.into(), fix: fix.into() }
    }

    /// `FAIL  10.0.0.1:6379  what was found -> what to do`.
    pub fn row(&self, width: usize) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let fix = if self.fix.is_empty() { String::new() } else { format!(" -> {}", self.fix) };
        format!("{level:<4}  {:<width$}  {}{fix}", self.subject, self.what)
    }

    pub fn object(&self, listener: &ListenerId) -> Value {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        json!({"listener": listener, "level": level, "subject": self.subject, "what": self.what, "fix": self.fix})
    }
}
