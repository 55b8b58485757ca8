//! Delivers the outbox until the receiver says 2xx.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tracing::error;

use self::{driver::Driver, inbox::Inbox};

use crate::{
    dial::Dialler,
    meters::Shared,
    model::{Event, Failure, ListenerId, Millis},
    plan::{DeliveryPlan, Glob, IdTemplate, WebhookPlan},
    store::{Epoch, Store, StoreError},
};

mod client;
mod driver;
mod endpoint;
mod inbox;
mod outcome;
mod queue;
mod refusals;
pub(crate) mod request;
mod signing;
mod unstored;

/// What delivery needs to know of its listener. May change while it runs: a retry uses the current URL, headers and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listener: ListenerId,
    pub database: u32,
    pub pattern: Glob,
    pub id_template: IdTemplate,
    pub suspend: bool,
    pub webhook: WebhookPlan,
    pub delivery: DeliveryPlan,
}

/// How delivery fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub in_flight: usize,
    pub delivered: u64,
    pub dead_lettered: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Failures since the last 2xx; 0 is healthy.
    pub consecutive_failures: u64,
    /// The last failure, for people: "answered 503", "connection refused". Cleared by a 2xx.
    pub last_error: Option<String>,
    /// The same for programs.
    pub last_failure: Option<Failure>,
    /// Why nothing is sent though it could be, or only part of it: "the receiver answered 410".
    pub paused: Option<String>,
    pub last_delivered: Option<Millis>,
    /// Delivery has ended, because the store will have nothing more from it.
    pub stopped_by: Option<StoreError>,
}

/// A running delivery. Dropping it ends it at once, as a crash would; [`Self::drain`] ends it well.
pub struct Delivery {
    inbox: Arc<Inbox>,
    snapshot: watch::Receiver<Snapshot>,
    /// The driver, alone.
    task: JoinSet<()>,
}

impl Delivery {
    /// Starts with what lies in the outbox. A webhook that cannot be used is told in [`Snapshot::paused`]. Needs a tokio runtime.
    pub fn start(settings: Settings, dialler: Dialler, store: Arc<dyn Store>, epoch: Epoch, meters: Shared) -> Self {
        let inbox = Arc::new(Inbox::new(driver::CAPACITY.fresh));
        let (publisher, snapshot) = watch::channel(Snapshot::default());
        let driver = Driver::new(settings, dialler, store, epoch, inbox.clone(), publisher, meters);
        let mut task = JoinSet::new();
        task.spawn(driver.run());
        Self { inbox, snapshot, task }
    }

    /// Events that were settled just now and lie in the outbox: their first attempts are due. Never waits; what it has no
    /// room for is read back from the outbox later.
    pub fn offer(&self, events: Vec<Event>) {
        self.inbox.offer(events);
    }

    /// The outbox has changed in another way (a replay): look again.
    pub fn wake(&self) {
        self.inbox.change(|letters| letters.look_again = true);
    }

    pub fn update(&self, settings: Settings) {
        self.inbox.change(|letters| letters.settings = Some(settings));
    }

    /// Fresh at most every 100 ms. Closed when delivery has ended; the last one then says why, in `paused`.
    pub fn snapshot(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Takes no more, lets attempts under way end for at most `patience`, and waits until their outcomes are stored.
    pub async fn drain(mut self, patience: Duration) {
        self.inbox.change(|letters| letters.drain = Some(patience));
        while let Some(ended) = self.task.join_next().await {
            if let Err(error) = ended {
                error!(%error, "Delivery ended by a fault of this program: what it had not stored is delivered again.");
            }
        }
    }
}
