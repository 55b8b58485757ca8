//! What all reconciliations share, and what is remembered of each listener between two of them.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use tokio::{sync::watch, time::Instant};

use super::{REPORTER, membership::Roster, references::References, status::Shown};
use crate::{api::RedisExpiryListenerStatus, listener::Supervisor, meters::Operator, model::ListenerId, plan::Plan};

/// What the operator was told about itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This replica.
    pub me: String,
    /// How many replicas are meant to run: above one, a store of one process is refused.
    pub replicas: u32,
    /// Where `Local` stores lie.
    pub state_dir: PathBuf,
    /// Namespaces that are watched; empty: all.
    pub namespaces: Vec<String>,
    /// Only listeners with these labels.
    pub selector: Option<String>,
}

pub struct Context {
    pub settings: Settings,
    pub client: Client,
    pub supervisor: Arc<Supervisor>,
    pub roster: watch::Receiver<Roster>,
    pub references: References,
    pub recorder: Recorder,
    pub meters: Arc<Operator>,
    remembered: Mutex<HashMap<ListenerId, Remembered>>,
}

/// One listener that is ours.
#[derive(Default)]
pub struct Remembered {
    pub uid: Option<String>,
    /// What was made to run.
    pub plan: Option<Plan>,
    /// When that was begun.
    pub started: Option<Instant>,
    /// What was written last.
    pub status: Option<RedisExpiryListenerStatus>,
    /// When the counts were taken last.
    pub sampled: Option<Instant>,
    pub shown: Shown,
    /// Gaps that were told of.
    pub gaps: u64,
    /// Failures in a row.
    pub failures: u32,
}

/// A listener that was started so long ago is expected to be up.
pub const STARTING: Duration = Duration::from_secs(15);
/// Counts are taken anew so often at most.
pub const SAMPLE: Duration = Duration::from_secs(30);

impl Context {
    /// `client` must not retry by itself: its calls have limits of their own.
    pub fn new(
        settings: Settings,
        client: Client,
        supervisor: Arc<Supervisor>,
        roster: watch::Receiver<Roster>,
        meters: Arc<Operator>,
    ) -> Self {
        let reporter = Reporter { controller: REPORTER.into(), instance: Some(settings.me.clone()) };
        let recorder = Recorder::new(client.clone(), reporter);
        let references = References::new(client.clone());
        Self { settings, client, supervisor, roster, references, recorder, meters, remembered: Mutex::default() }
    }

    /// Takes what is remembered of a listener; it is to be put back. There is one reconciliation of it at a time.
    pub fn take(&self, id: &ListenerId) -> Option<Remembered> {
        self.remembered().remove(id)
    }
    pub fn put(&self, id: ListenerId, remembered: Remembered) {
        self.remembered().insert(id, remembered);
    }
    /// The object that a listener of ours is.
    pub fn uid(&self, id: &ListenerId) -> Option<String> {
        self.remembered().get(id)?.uid.clone()
    }
    /// Counts one more failure; how many there are in a row.
    pub fn failed(&self, id: &ListenerId) -> u32 {
        let mut remembered = self.remembered();
        let Some(of) = remembered.get_mut(id) else { return 1 };
        of.failures += 1;
        of.failures
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<ListenerId, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    pub fn is_starting(&self, now: Instant) -> bool {
        self.started.is_none_or(|started| now.duration_since(started) < STARTING)
    }
    pub fn may_sample(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|sampled| now.duration_since(sampled) >= SAMPLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_at_once_and_then_every_half_minute() {
        let now = Instant::now();
        let mut mine = Remembered::default();
        assert!(mine.may_sample(now));
        mine.sampled = Some(now);
        assert!(!mine.may_sample(now + SAMPLE / 2));
        assert!(mine.may_sample(now + SAMPLE));
        assert_eq!(SAMPLE, Duration::from_secs(30));
    }

    #[test]
    fn a_listener_is_expected_to_be_up_after_a_while() {
        let now = Instant::now();
        let mut mine = Remembered::default();
        assert!(mine.is_starting(now), "it has not been started yet");
        mine.started = Some(now);
        assert!(mine.is_starting(now + STARTING / 2) && !mine.is_starting(now + STARTING));
    }
}
