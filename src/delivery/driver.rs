//! The task that owns a delivery: takes from the queue, sends, and writes down what came of it.

use std::{collections::HashMap, future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    task::{self, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{info, warn};

use super::{
    Settings, Snapshot,
    endpoint::Endpoint,
    inbox::{Inbox, Letters},
    outcome::Answer,
    queue::{Capacity, Queue, ReadBack, Waiting},
    refusals::Refusals,
    unstored::Unstored,
};
use crate::{
    dial::Dialler,
    meters::Shared,
    model::{EventId, Millis},
    store::{Epoch, Pending, Reply, Store, StoreError},
};

mod answers;

/// An event is some 250 bytes: this is 10 MB at the very most, and only while a burst lasts.
pub const CAPACITY: Capacity = Capacity { fresh: 32_768, retries: 8_192 };
/// Whoever watches the snapshot is woken this often at most.
/// What is told after a 410. The same settings would meet the same answer; others may not.
const GONE: &str = "the receiver answered 410 Gone; correct spec.webhook.url, or, if the receiver is back there, change another field of spec.webhook, such as timeouts.request; everything is kept";
const PUBLISH_MS: i64 = 100;
/// After the outbox could not be read.
const READ_AGAIN_MS: i64 = 1_000;
/// The outbox is read this often though nobody said that it had changed: nothing is to lie there for want of a word.
const LOOK_AGAIN_MS: i64 = 60_000;
/// At the end: how long a store that refuses is asked again.
const LAST_STORING: Duration = Duration::from_secs(5);

/// Milliseconds that never go back, for waiting; our wall clock is for what others are told.
struct Clock {
    start: Instant,
    wall: Millis,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), wall: wall() }
    }
    fn now(&self) -> Millis {
        self.wall.plus(i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
    fn instant(&self, at: Millis) -> Instant {
        self.start + Duration::from_millis(u64::try_from(at.since(self.wall)).unwrap_or_default())
    }
}

fn wall() -> Millis {
    Millis(jiff::Timestamp::now().as_millisecond())
}

fn plus(at: Millis, wait: Duration) -> Millis {
    at.plus(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

/// An attempt that was sent.
struct UnderWay {
    waiting: Waiting,
    /// By our clock.
    since: Millis,
    began: Instant,
    /// [`Driver::generation`] when it was sent.
    generation: u64,
}

enum Happened {
    Told,
    Ended(Result<(task::Id, Answer), JoinError>),
    /// The batch of a partition.
    Stored(usize, Result<(), StoreError>),
    Read(Result<Vec<Pending>, StoreError>),
    Time,
}

/// A partition, and what the store answers of its batch.
type Storing = Pin<Box<dyn Future<Output = (usize, Result<(), StoreError>)> + Send>>;

pub struct Driver {
    settings: Settings,
    dialler: Dialler,
    /// `None`: nothing can be sent with the settings, and `unusable` says why.
    endpoint: Option<Arc<Endpoint>>,
    unusable: Option<String>,
    /// Grows with each change of the webhook: an answer of the old one says nothing about the new.
    generation: u64,
    store: Arc<dyn Store>,
    epoch: Epoch,
    clock: Clock,
    inbox: Arc<Inbox>,
    queue: Queue,
    refusals: Refusals,
    unstored: Unstored,
    attempts: JoinSet<Answer>,
    under_way: HashMap<task::Id, UnderWay>,
    retries_under_way: usize,
    /// A batch for each partition at most.
    storing: FuturesUnordered<Storing>,
    reading: Option<(ReadBack, Reply<Vec<Pending>>)>,
    /// The receiver asked that nothing be sent before.
    hold: Millis,
    /// The receiver answered 410.
    gone: bool,
    /// Why outcomes are not stored: the last error's category.
    trouble: Option<&'static str>,
    read_again: Millis,
    look_again: Millis,
    snapshot: Snapshot,
    published: Millis,
    publisher: watch::Sender<Snapshot>,
    meters: Shared,
}

impl Driver {
    pub fn new(
        settings: Settings,
        dialler: Dialler,
        store: Arc<dyn Store>,
        epoch: Epoch,
        inbox: Arc<Inbox>,
        publisher: watch::Sender<Snapshot>,
        meters: Shared,
    ) -> Self {
        let clock = Clock::start();
        let (now, unstored) = (clock.now(), Unstored::new(store.partitions()));
        let mut driver = Self {
            settings,
            dialler,
            endpoint: None,
            unusable: None,
            generation: 0,
            store,
            epoch,
            clock,
            inbox,
            queue: Queue::new(CAPACITY),
            refusals: Refusals::default(),
            unstored,
            attempts: JoinSet::new(),
            under_way: HashMap::new(),
            retries_under_way: 0,
            storing: FuturesUnordered::new(),
            reading: None,
            hold: now,
            gone: false,
            trouble: None,
            read_again: now,
            look_again: now.plus(LOOK_AGAIN_MS),
            snapshot: Snapshot::default(),
            published: now,
            publisher,
            meters,
        };
        driver.set_up();
        driver
    }

    /// Until it is told to drain, or the store will have nothing more from us.
    pub async fn run(mut self) {
        let patience = loop {
            let letters = self.inbox.take();
            if let Some(patience) = letters.drain {
                break patience;
            }
            self.told(letters);
            let now = self.clock.now();
            self.start_attempts(now);
            self.start_storing(now, false);
            self.start_reading(now);
            self.publish(false);
            let happened = self.happens(now).await;
            if let Err(error) = self.handle(happened) {
                return self.stopped_by(&error);
            }
        };
        if let Err(error) = self.drain(patience).await {
            return self.stopped_by(&error);
        }
        self.publish(true);
    }

    async fn happens(&mut self, now: Millis) -> Happened {
        let wake = self.wake(now);
        tokio::select! {
            () = self.inbox.arrived() => Happened::Told,
            Some(ended) = self.attempts.join_next_with_id() => Happened::Ended(ended),
            Some((partition, stored)) = self.storing.next() => Happened::Stored(partition, stored),
            found = answer_of(self.reading.as_mut().map(|(_, reply)| reply)) => Happened::Read(found),
            () = sleep_until(wake) => Happened::Time,
        }
    }

    /// The moment at which there is something to do though nothing happened. What was due at `now` has been seen to.
    fn wake(&self, now: Millis) -> Instant {
        let next = [
            self.unstored.next(),
            // One that is due already waits for a place, not for time.
            self.queue.next_due().filter(|due| *due > now),
            Some(self.hold).filter(|hold| *hold > now),
            Some(self.read_again).filter(|again| *again > now),
            Some(self.published.plus(PUBLISH_MS)).filter(|_| self.unpublished()),
            Some(self.look_again),
        ];
        self.clock.instant(next.into_iter().flatten().min().unwrap_or(self.look_again))
    }

    fn told(&mut self, letters: Letters) {
        self.queue.offer(letters.events);
        let now = self.clock.now();
        if letters.look_again || self.look_again <= now {
            self.look_again = now.plus(LOOK_AGAIN_MS);
            self.queue.look_again();
            if self.endpoint.is_none() {
                // It may be a file that was not there yet.
                self.set_up();
            }
        }
        if let Some(settings) = letters.settings {
            self.change(settings);
        }
    }

    fn change(&mut self, settings: Settings) {
        if settings == self.settings {
            return;
        }
        if settings.webhook != self.settings.webhook {
            self.generation += 1;
            self.hold = self.clock.now();
            if std::mem::take(&mut self.gone) {
                info!(listener = %settings.listener, "The webhook has changed: delivery goes on.");
            }
        }
        self.settings = settings;
        self.set_up();
    }

    /// Makes of the settings what sends by them.
    fn set_up(&mut self) {
        match Endpoint::new(self.settings.clone(), &self.dialler, self.endpoint.as_deref()) {
            Ok(endpoint) => {
                self.endpoint = Some(Arc::new(endpoint));
                self.unusable = None;
            }
            Err(error) => {
                warn!(listener = %self.settings.listener, error = %format!("{error:#}"), "The webhook cannot be used.");
                self.endpoint = None;
                self.unusable = Some(format!("{error:#}"));
            }
        }
    }

    /// The endpoint, if anything may be sent to it now.
    fn ready(&self, now: Millis) -> Option<Arc<Endpoint>> {
        let held = self.settings.suspend || self.gone || self.hold > now;
        self.endpoint.clone().filter(|_| !held)
    }

    fn start_attempts(&mut self, now: Millis) {
        let Some(endpoint) = self.ready(now) else { return };
        let places = self.settings.delivery.max_in_flight;
        while self.attempts.len() < places {
            let Some(waiting) = self.queue.next(now, self.retries_under_way, places) else { return };
            let partition = self.store.partition_of(&waiting.event.key);
            if !self.unstored.has_room(partition) {
                self.queue.park(partition, waiting);
                continue;
            }
            let since = wall();
            let (endpoint, sent) = (endpoint.clone(), waiting.clone());
            let handle = self.attempts.spawn(async move { endpoint.attempt(&sent, since).await });
            self.retries_under_way += usize::from(waiting.attempts > 0);
            let (began, generation) = (Instant::now(), self.generation);
            self.under_way.insert(handle.id(), UnderWay { waiting, since, began, generation });
        }
    }

    fn start_storing(&mut self, now: Millis, hurry: bool) {
        for (partition, batch) in self.unstored.batches(now, hurry) {
            let stored = self.store.delivered(self.epoch, batch);
            self.storing.push(Box::pin(async move { (partition, stored.await) }));
        }
    }

    fn start_reading(&mut self, now: Millis) {
        if self.read_again > now || self.ready(now).is_none() {
            return;
        }
        let Some(asked) = self.queue.start_reading() else { return };
        let but: Vec<EventId> = self.queue.known().chain(self.unstored.ids()).cloned().collect();
        let reply = match asked {
            // Only what was never tried has 0.
            ReadBack::Fresh(limit) => self.store.pending(Millis(0), but, limit),
            // Also what is not due yet: it is held until it is.
            ReadBack::Any(limit) => self.store.pending(Millis(i64::MAX), but, limit),
        };
        self.reading = Some((asked, reply));
    }

    fn handle(&mut self, happened: Happened) -> Result<(), StoreError> {
        match happened {
            Happened::Told | Happened::Time => Ok(()),
            Happened::Ended(ended) => {
                self.ended(ended);
                while let Some(ended) = self.attempts.try_join_next_with_id() {
                    self.ended(ended);
                }
                Ok(())
            }
            Happened::Stored(partition, stored) => self.stored(partition, stored),
            Happened::Read(found) => self.read(found),
        }
    }

    /// Attempts under way end, or are given up when `patience` is over: those stay in the outbox as they were. Then what
    /// came of the others is stored.
    async fn drain(&mut self, patience: Duration) -> Result<(), StoreError> {
        let until = Instant::now() + patience;
        while !self.attempts.is_empty() {
            self.told(Letters::default());
            let now = self.clock.now();
            self.start_storing(now, false);
            self.publish(false);
            match timeout_at(until, self.happens(now)).await {
                Ok(happened) => self.handle(happened)?,
                Err(_) => break,
            }
        }
        self.attempts.abort_all();
        while let Some(ended) = self.attempts.join_next_with_id().await {
            self.ended(ended);
        }
        let until = Instant::now() + LAST_STORING;
        while !self.unstored.is_empty() {
            self.start_storing(self.clock.now(), true);
            let again = self.unstored.next().map_or(until, |again| self.clock.instant(again).min(until));
            tokio::select! {
                Some((partition, stored)) = self.storing.next() => self.stored(partition, stored)?,
                () = sleep_until(again) => {}
            }
            if Instant::now() >= until {
                warn!(listener = %self.settings.listener, "The store does not take all outcomes: some events will be delivered again.");
                break;
            }
        }
        Ok(())
    }

    fn stopped_by(mut self, error: &StoreError) {
        warn!(listener = %self.settings.listener, %error, "Delivery stops.");
        self.attempts.abort_all();
        self.snapshot.paused = Some(error.to_string());
        self.snapshot.stopped_by = Some(error.clone());
        self.snapshot.in_flight = 0;
        self.publisher.send_replace(self.snapshot);
    }

    fn paused(&self) -> Option<String> {
        if self.gone {
            Some(GONE.to_owned())
        } else if let Some(why) = self.unusable.clone() {
            Some(why)
        } else {
            match self.unstored.full() {
                (0, _) => None,
                (full, all) if full == all => Some("the store takes no outcomes: see the condition Durable".to_owned()),
                (full, all) => Some(format!(
                    "{full} of {all} partitions of the store take no outcomes, and their events wait: see the condition Durable"
                )),
            }
        }
    }

    fn unpublished(&self) -> bool {
        self.snapshot != *self.publisher.borrow()
    }

    fn publish(&mut self, at_once: bool) {
        let now = self.clock.now();
        self.snapshot.in_flight = self.attempts.len();
        self.meters.delivery.unstored.set(self.unstored.len());
        self.snapshot.paused = self.paused();
        if (at_once || self.published.plus(PUBLISH_MS) <= now) && self.unpublished() {
            self.publisher.send_replace(self.snapshot.clone());
            self.published = now;
        }
    }
}

/// The answer, or never if nothing was asked.
async fn answer_of<T>(reply: Option<&mut Reply<T>>) -> Result<T, StoreError> {
    match reply {
        Some(reply) => reply.await,
        None => future::pending().await,
    }
}
