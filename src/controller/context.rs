//! What all reconciliations share, and what is remembered of each listener between two of them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{
    REPORTER,
    events::Counted,
    membership::{self, Member, Roster},
    references::References,
    status::{Shown, Start},
    turns::Turns,
};
use crate::{api::RedisExpiryListenerStatus, listener::Supervisor, meters::Operator, model::ListenerId, plan::Plan};

/// What the operator was told about itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This replica.
    pub me: String,
    /// A replica that the others have not seen for so long is dead to them.
    pub lease_expiry: Duration,
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
    pub turns: Turns,
    /// Who writes to the API server has a permit.
    pub writing: Semaphore,
}

/// One listener that is ours.
#[derive(Default)]
pub struct Remembered {
    pub uid: Option<String>,
    /// What was made to run.
    pub plan: Option<Plan>,
    /// When that was begun.
    pub started: Option<Instant>,
    /// When the store was opened that it has been ready with since.
    pub up: Option<Instant>,
    /// What was written last, and the `resourceVersion` that the object has had since.
    pub status: Option<RedisExpiryListenerStatus>,
    pub version: Option<String>,
    /// When the counts were taken last.
    pub sampled: Option<Instant>,
    /// When a message was last written in other words.
    pub worded: Option<Instant>,
    pub shown: Shown,
    /// What was told of.
    pub counted: Counted,
    /// Failures in a row.
    pub failures: u32,
}

/// So many statuses and events are written at once: of a hundred or more, all replicas' together, a small API server answers none in
/// time.
const WRITTEN_AT_ONCE: usize = 16;

/// From its start, and from the opening of its store, for which hundreds may have to wait, a listener may be late for so long.
pub const STARTING: Duration = Duration::from_secs(15);
/// And so long where nothing is wrong with it: it may be this machine that has much to do.
const OVERDUE: Duration = Duration::from_secs(60);
/// Counts are taken anew, and what has not changed is said in other words, so often at most.
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
        let (turns, writing) = (Turns::default(), Semaphore::new(WRITTEN_AT_ONCE));
        Self { settings, client, supervisor, roster, references, recorder, meters, turns, writing }
    }

    /// Who is to run the listener, by the newest reading of the membership; `None` before the first.
    pub fn owner(&self, id: &ListenerId) -> Option<Member> {
        membership::owner(id.as_str(), &self.roster.borrow().members).cloned()
    }

    pub fn owns(&self, id: &ListenerId) -> bool {
        self.owner(id).as_ref() == Some(&self.settings.me)
    }

    /// Whether that reading is so new that nobody else may have been given the listener since.
    pub fn owns_surely(&self, id: &ListenerId, now: Instant) -> bool {
        let read_at = self.roster.borrow().read_at;
        let fresh = read_at.is_some_and(|at| now.saturating_duration_since(at) < self.settings.lease_expiry);
        fresh && self.owns(id)
    }
}

impl Remembered {
    /// `opened`: when its store was; `None` while it is not. Who was ready once has been started.
    pub fn start(&self, opened: Option<Instant>, now: Instant) -> Start {
        if self.up.is_some_and(|up| opened.is_none_or(|opened| opened == up)) {
            return Start::Over;
        }
        let Some(started) = self.started.max(opened) else { return Start::Fresh };
        match now.saturating_duration_since(started) {
            age if age < STARTING => Start::Fresh,
            age if age < OVERDUE => Start::Late,
            _ => Start::Over,
        }
    }
    pub fn may_sample(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|sampled| now.duration_since(sampled) >= SAMPLE)
    }
    pub fn may_reword(&self, now: Instant) -> bool {
        self.worded.is_none_or(|worded| now.duration_since(worded) >= SAMPLE)
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
        assert_eq!(mine.start(None, now), Start::Fresh, "it has not been started yet");
        mine.started = Some(now);
        let after = |age| mine.start(None, now + age);
        assert_eq!([after(STARTING / 2), after(STARTING)], [Start::Fresh, Start::Late]);
        assert_eq!([after(OVERDUE / 2), after(OVERDUE)], [Start::Late, Start::Over]);
        let half = STARTING / 2;
        let after = |age| mine.start(Some(now + half), now + half + age);
        assert_eq!([after(half), after(STARTING), after(OVERDUE)], [Start::Fresh, Start::Late, Start::Over]);
        // It was ready: what comes then is news.
        mine.up = Some(now + half);
        assert_eq!([mine.start(Some(now + half), now + half), mine.start(None, now + half)], [Start::Over; 2]);
        assert_eq!(mine.start(Some(now + STARTING), now + STARTING), Start::Fresh, "another run");
    }
}
