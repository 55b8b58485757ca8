//! What a document or an object of the Kubernetes API comes to: a [`Plan`], or everything that is wrong with it, at once.
//!
//! Pure but for the [`Secrets`] port. What is refused because this version does not enforce it is refused in one place
//! ([`unenforced`]), so that enforcing a field is one line less there.

use std::{fmt, path::Path, time::Duration as StdDuration};

use super::{Inferred, KeyRef, RedisExpiryListener, RefKind, Secrets, StoreType, reason};
use crate::plan::{self, Glob, IdTemplate, Plan, RedisPlan, StorePlan};

mod answer;
mod connection;
mod delivery;
mod headers;
mod names;
mod signing;
mod tls;
mod unenforced;
mod webhook;

/// A mistake: a sentence that begins with the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `spec.redis.addresses[0]`.
    pub field: String,
    /// What was found there, as the sentence goes on: `is "redis", without a port`.
    pub found: String,
    /// What to do; empty where `found` says it.
    pub fix: String,
    /// One of [`reason`]: that of the condition `Accepted`.
    pub reason: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.found)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", self.fix) }
    }
}

/// What a document's meaning depends on besides itself.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub secrets: &'a dyn Secrets,
    pub platform: Platform,
    /// Where `Local` stores lie.
    pub state_dir: &'a Path,
}

/// Where a listener runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    Kubernetes,
    /// `run`: without Kubernetes, so without Services, and with a store of its own unless told otherwise.
    Process,
}

/// Resolves a document or an object.
pub fn resolve(listener: &RedisExpiryListener, around: Surroundings<'_>) -> Result<Plan, Vec<Problem>> {
    let mut check = Check { problems: Vec::new(), around, namespace: "" };
    check.namespace = listener.metadata.namespace.as_deref().unwrap_or("default");
    names::metadata(&mut check, &listener.metadata);
    let answer = answer::answer(&mut check, &listener.metadata);
    let spec = &listener.spec;
    unenforced::refuse(&mut check, spec);
    let redis = connection::redis(&mut check, &spec.redis);
    let pattern = Glob::new(spec.key_pattern.as_bytes());
    let pattern = check.ok("spec.keyPattern", pattern);
    let id_template = match &spec.id_template {
        None => Some(IdTemplate::FirstStar),
        Some(template) => check.ok("spec.idTemplate", IdTemplate::parse(template)),
    };
    let interval = spec.resync.interval.get();
    if !interval.is_zero() {
        check.within("spec.resync.interval", interval, SECOND, WEEK);
    }
    let webhook = webhook::webhook(&mut check, &spec.webhook);
    let delivery = delivery::delivery(&mut check, &spec.delivery);
    let store = store(&mut check, listener, &redis);
    // Whatever is refused leaves a problem, so a part that could not be made is never left out silently.
    match (pattern, id_template, webhook) {
        (Some(pattern), Some(id_template), Some(webhook)) if check.problems.is_empty() => Ok(Plan {
            listener: listener.id(),
            suspend: spec.suspend,
            redis,
            pattern,
            id_template,
            inferred: match spec.inferred {
                Inferred::Deliver => plan::Inferred::Deliver,
                Inferred::Drop => plan::Inferred::Drop,
            },
            resync_interval: (!interval.is_zero()).then_some(interval),
            webhook,
            delivery,
            store,
            answer,
        }),
        _ => Err(check.problems),
    }
}

/// Where the ledger of one that watches `watched` lies.
fn store(check: &mut Check<'_>, listener: &RedisExpiryListener, watched: &RedisPlan) -> StorePlan {
    let spec = listener.spec.store.as_ref();
    let default = match check.around.platform {
        Platform::Kubernetes => StoreType::Redis,
        Platform::Process => StoreType::Local,
    };
    let store_type = spec.map_or(default, |spec| spec.store_type);
    let other = spec.and_then(|spec| spec.redis.as_ref());
    if other.is_some() && store_type != StoreType::Redis {
        let found = format!("is set, and spec.store.type is {store_type:?}");
        check.problem("spec.store.redis", found, "remove it, or use type Redis");
    }
    match store_type {
        StoreType::Memory => StorePlan::Memory,
        StoreType::Local => {
            // A namespace has no dot, so two listeners never share a file.
            let file = format!("{}.{}.db", check.namespace, listener.id().name());
            StorePlan::Local { path: check.around.state_dir.join(file) }
        }
        StoreType::Redis => {
            let redis = other.map_or_else(|| watched.clone(), |other| connection::store(check, other));
            StorePlan::Redis { redis }
        }
    }
}

const SECOND: StdDuration = StdDuration::from_secs(1);
const MINUTE: StdDuration = StdDuration::from_secs(60);
const HOUR: StdDuration = StdDuration::from_secs(3600);
const WEEK: StdDuration = StdDuration::from_secs(7 * 24 * 3600);

/// Collects problems.
struct Check<'a> {
    problems: Vec<Problem>,
    around: Surroundings<'a>,
    namespace: &'a str,
}

impl Check<'_> {
    fn problem(&mut self, field: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) {
        self.problem_of(reason::INVALID_SPEC, field, found, fix);
    }

    fn problem_of(
        &mut self,
        reason: &'static str,
        field: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.problems.push(Problem { field: field.into(), found: found.into(), fix: fix.into(), reason });
    }

    /// The value; an error's text goes on after the field's name.
    fn ok<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problem(field, error.to_string(), "")).ok()
    }

    fn within(&mut self, field: &str, found: StdDuration, least: StdDuration, most: StdDuration) {
        if !(least..=most).contains(&found) {
            let [found, least, most] = [found, least, most].map(super::Duration::from);
            self.problem(field, format!("is {found}"), format!("choose {least} to {most}"));
        }
    }

    fn count(&mut self, field: &str, found: usize, least: usize, most: usize, what: &str) {
        if !(least..=most).contains(&found) {
            self.problem(field, format!("has {found} {what}"), format!("give {least} to {most}"));
        }
    }

    /// The value behind a reference.
    fn secret(&mut self, field: &str, reference: &KeyRef) -> Option<Vec<u8>> {
        self.referenced(field, RefKind::Secret, reference)
    }

    fn referenced(&mut self, field: &str, kind: RefKind, reference: &KeyRef) -> Option<Vec<u8>> {
        if !names::reference(self, field, reference) {
            return None;
        }
        match self.around.secrets.read(kind, self.namespace, reference).map(stripped) {
            Ok(value) if value.is_empty() => {
                let what = kind.as_str();
                self.problem_of(
                    kind.invalid(),
                    field,
                    format!("refers to key {} of {what} {}, which is empty", reference.key, reference.name),
                    "put a value there",
                );
                None
            }
            Ok(value) => Some(value),
            Err(no) => {
                self.problem_of(no.reason, field, no.why, "");
                None
            }
        }
    }

    /// As [`Self::secret`], for what has to be text.
    fn secret_text(&mut self, field: &str, reference: &KeyRef) -> Option<String> {
        let value = self.secret(field, reference)?;
        let text = String::from_utf8(value).ok();
        if text.is_none() {
            let (name, key) = (&reference.name, &reference.key);
            let found = format!("refers to key {key} of Secret {name}, which is not UTF-8");
            self.problem_of(reason::SECRET_INVALID, field, found, "put text there");
        }
        text
    }
}

/// Without the line break that editors and `echo` leave at the end.
fn stripped(mut value: Vec<u8>) -> Vec<u8> {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_taken_off_and_no_more() {
        for (value, left) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("\n", ""), ("", "")] {
            assert_eq!(stripped(value.into()), left.as_bytes(), "{value:?}");
        }
    }
}
