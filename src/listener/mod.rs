//! Owns running listeners: what is declared is made to run, and how it fares can be read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{model::ListenerId, plan::Plan, store::StoreError};

mod snapshot;

pub use snapshot::{Hold, NodeSnapshot, Role, Snapshot};

/// Every listener's snapshot.
pub type Snapshots = BTreeMap<ListenerId, Arc<Snapshot>>;

/// What to do with a ledger that belongs to another deployment (DESIGN rule 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeploymentChange {
    /// Do nothing until told.
    Hold,
    /// Drop the old entries.
    Discard,
    /// The old entries are about keys of the new one too (it was moved, or restored from a copy).
    Keep,
}

/// Runs listeners.
pub struct Supervisor {}

impl Supervisor {
    pub fn new(on_deployment_change: OnDeploymentChange) -> Self {
        let _ = on_deployment_change;
        todo!()
    }
    /// Makes exactly these listeners run: starts, stops, restarts, or changes in place what differs.
    pub async fn declare(&self, plans: Vec<Plan>) {
        let _ = plans;
        todo!()
    }
    pub fn snapshots(&self) -> watch::Receiver<Snapshots> {
        todo!()
    }
    /// The dead letters of a running listener.
    pub fn dead_letters(&self, listener: &ListenerId) -> Option<DeadLetters> {
        let _ = listener;
        todo!()
    }
    /// Hands over: stops detection, lets attempts under way end for at most `patience`, closes the stores.
    pub async fn stop(self, patience: Duration) {
        let _ = patience;
        todo!()
    }
}

/// A running listener's dead letters.
pub struct DeadLetters {}

impl DeadLetters {
    pub async fn list(&self, limit: usize) -> Result<Vec<crate::store::DeadLetter>, StoreError> {
        let _ = limit;
        todo!()
    }
    pub async fn replay(&self, which: crate::store::Selection) -> Result<u64, StoreError> {
        let _ = which;
        todo!()
    }
    pub async fn purge(&self, which: crate::store::Selection) -> Result<u64, StoreError> {
        let _ = which;
        todo!()
    }
}
