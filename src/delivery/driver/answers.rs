//! What the driver makes of an answer: the receiver's to an attempt, the store's to a write or a reading.

use std::time::Duration;

use tokio::task::{self, JoinError};
use tracing::{info, warn};

use super::{Driver, READ_AGAIN_MS, UnderWay, plus, wall};
use crate::{
    clock,
    delivery::{
        outcome::{Answer, Class, Failed, Verdict, longest_wait},
        queue::Waiting,
    },
    meters::Attempt,
    model::{Event, Failure, Millis},
    store::{Delivery, Outcome, Pending, StoreError},
};

impl Driver {
    pub(super) fn ended(&mut self, ended: Result<(task::Id, Answer), JoinError>) {
        let (id, answer) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                let why = "the attempt ended by a fault of this program".to_owned();
                (error.id(), Answer::None { sort: Attempt::Other, why })
            }
        };
        let Some(UnderWay { waiting, since, began, generation }) = self.under_way.remove(&id) else { return };
        self.meters.delivery.attempts.add(answer.sort(), 1);
        self.meters.delivery.attempt_time.observe(began.elapsed());
        self.retries_under_way -= usize::from(waiting.attempts > 0);
        if answer.class() == Class::Delivered {
            self.delivered(&waiting);
        } else {
            self.failed(waiting, since, generation, &answer);
        }
    }

    fn delivered(&mut self, waiting: &Waiting) {
        let at = wall();
        // By the clock that the settle was told by, which does not step while we run.
        let settled_at = waiting.event.settled_at.0.saturating_mul(1_000);
        self.meters.delivery.delivery_time.observe_micros(clock::micros().saturating_sub(settled_at));
        self.queue.finished(&waiting.event.id);
        self.refusals.forget(&waiting.event.id);
        self.keep(&waiting.event, Outcome::Delivered { at });
        self.snapshot.delivered += 1;
        self.snapshot.last_delivered = Some(at);
        if self.snapshot.consecutive_failures > 0 {
            info!(listener = %self.settings.listener, failures = self.snapshot.consecutive_failures, "The webhook answers again.");
            self.snapshot.consecutive_failures = 0;
            self.snapshot.last_error = None;
            self.snapshot.last_failure = None;
        }
    }

    fn failed(&mut self, waiting: Waiting, since: Millis, generation: u64, answer: &Answer) {
        let (at, now) = (wall(), self.clock.now());
        let id = waiting.event.id.clone();
        let current = generation == self.generation;
        let refused = (answer.class() == Class::Refused).then(|| self.refusals.count(&id, at));
        let attempts = waiting.attempts.saturating_add(1);
        let settled_at = waiting.event.settled_at;
        let failed = Failed { answer, attempts, refused, settled_at, now: at, chance: rand::random() };
        let verdict = failed.verdict(&self.settings.delivery);
        self.count_failure(answer.reason(), answer.failure());
        match verdict {
            Verdict::Pause => {
                if current && !self.gone {
                    warn!(listener = %self.settings.listener, "The receiver answered 410: nothing more is sent until the webhook changes.");
                    self.gone = true;
                }
                self.queue.put_back(waiting, now);
            }
            Verdict::DeadLetter { reason } => {
                warn!(listener = %self.settings.listener, event = %id, %reason, "Gave up an event: it is a dead letter.");
                self.queue.finished(&id);
                self.refusals.forget(&id);
                self.keep(&waiting.event, Outcome::DeadLetter { attempts, reason, at });
                self.snapshot.dead_lettered += 1;
                self.meters.delivery.dead_lettered.add(1);
            }
            Verdict::Retry { after, hold } => {
                if let Some(hold) = hold.filter(|_| current) {
                    self.hold = self.hold.max(plus(now, hold));
                }
                let first_attempt = waiting.first_attempt.unwrap_or(since);
                let not_before = plus(at, after);
                self.keep(&waiting.event, Outcome::Retry { attempts, first_attempt, not_before });
                let waiting = Waiting { attempts, first_attempt: Some(first_attempt), ..waiting };
                self.queue.retry(waiting, plus(now, after));
            }
        }
    }

    /// Until the store has it.
    fn keep(&mut self, event: &Event, outcome: Outcome) {
        let delivery = Delivery { id: event.id.clone(), key: event.key.clone(), deadline: event.deadline, outcome };
        self.unstored.push(self.store.partition_of(&event.key), delivery, self.clock.now());
    }

    fn count_failure(&mut self, reason: String, failure: Failure) {
        if self.snapshot.consecutive_failures == 0 {
            warn!(listener = %self.settings.listener, %reason, "The webhook failed; it is tried again.");
        }
        self.snapshot.failed_attempts += 1;
        self.snapshot.consecutive_failures += 1;
        self.snapshot.last_error = Some(reason);
        self.snapshot.last_failure = Some(failure);
    }

    pub(super) fn stored(&mut self, partition: usize, stored: Result<(), StoreError>) -> Result<(), StoreError> {
        match stored {
            Ok(()) => {
                self.unstored.stored(partition);
                if self.unstored.has_room(partition) {
                    self.queue.unpark(partition, self.clock.now());
                }
                if self.trouble.is_some() && !self.unstored.is_refused() {
                    info!(listener = %self.settings.listener, "Outcomes are stored again.");
                    self.trouble = None;
                    // A reading has left out what lay here, be it held or not.
                    self.queue.look_again();
                }
            }
            Err(error) if error.retryable() => {
                // Not for each partition, nor each time.
                if self.trouble.replace(error.category()) != Some(error.category()) {
                    warn!(listener = %self.settings.listener, %error, "Outcomes are not stored; they are kept and stored later.");
                }
                self.unstored.refused(partition, self.clock.now());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn read(&mut self, found: Result<Vec<Pending>, StoreError>) -> Result<(), StoreError> {
        let Some((asked, _)) = self.reading.take() else { return Ok(()) };
        let (wall, now) = (wall(), self.clock.now());
        match found {
            Ok(found) => {
                let longest = longest_wait(&self.settings.delivery);
                let due = |not_before: Millis| {
                    let wait = Duration::from_millis(u64::try_from(not_before.since(wall)).unwrap_or_default());
                    plus(now, wait.min(longest))
                };
                let found = found.into_iter().map(|Pending { event, attempts, first_attempt, not_before }| {
                    (Waiting { event, attempts, first_attempt }, due(not_before))
                });
                self.queue.read(asked, found.collect());
            }
            Err(error) if error.retryable() => {
                warn!(listener = %self.settings.listener, %error, "The outbox cannot be read; it is tried again.");
                self.read_again = now.plus(READ_AGAIN_MS);
                self.queue.read_failed(asked);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
