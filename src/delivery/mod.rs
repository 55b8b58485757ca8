//! Delivers the outbox until the receiver says 2xx.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    model::{Event, ListenerId, Millis},
    plan::{DeliveryPlan, Glob, IdTemplate, WebhookPlan},
    store::{Epoch, Store},
};

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
    /// Why nothing is sent though it could be: "the receiver answered 410".
    pub paused: Option<String>,
    pub last_delivered: Option<Millis>,
}

/// A running delivery.
pub struct Delivery {}

impl Delivery {
    /// Starts with what lies in the outbox.
    pub fn start(settings: Settings, store: Arc<dyn Store>, epoch: Epoch) -> anyhow::Result<Self> {
        let _ = (settings, store, epoch);
        todo!()
    }
    /// Events that were settled just now and lie in the outbox: their first attempts are due. Never waits; what it has no
    /// room for is read back from the outbox later.
    pub fn offer(&self, events: Vec<Event>) {
        let _ = events;
        todo!()
    }
    /// The outbox has changed in another way (a replay): look again.
    pub fn wake(&self) {
        todo!()
    }
    pub fn update(&self, settings: Settings) {
        let _ = settings;
        todo!()
    }
    pub fn snapshot(&self) -> watch::Receiver<Snapshot> {
        todo!()
    }
    /// Takes no more, lets attempts under way end for at most `patience`, and waits until their outcomes are stored.
    pub async fn drain(self, patience: Duration) {
        let _ = patience;
        todo!()
    }
}
