//! Sees a node whole again after a gap (DESIGN rule 8).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::Purpose;
use crate::{
    deployment::{NodeData, Scanner},
    model::{Key, NodeId, Slot, SlotSet},
    plan::STORE_PREFIX,
    store::{Epoch, NodeState, Store},
};

/// Keys to be looked at; `done` is told when all were answered.
pub struct Request {
    pub keys: Vec<Key>,
    pub purpose: Purpose,
    pub done: oneshot::Sender<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// After a gap or a loss: the node's keys, then the ledger's.
    Whole,
    /// No gap is known: the node's keys, to find what was missed.
    Periodic,
}

/// What a resync came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resynced {
    pub keys: usize,
}

/// One resync of one node.
pub struct Job {
    pub node: NodeId,
    pub kind: Kind,
    /// The slots whose keys are looked at.
    pub scope: SlotSet,
    /// All the slots that it owns, and its configuration epoch.
    pub slots: SlotSet,
    pub config_epoch: u64,
    /// The ledger had no entries: what it has now was seen just now.
    pub fresh: bool,
    pub fencing: Epoch,
    pub scanner: Scanner,
    pub store: Arc<dyn Store>,
    pub requests: mpsc::Sender<Request>,
}

/// Requests under way at once.
const AHEAD: usize = 4;
/// Ledger entries a page.
const PAGE: usize = 2_048;
/// A periodic scan rests this many times as long as it works.
const REST: u32 = 3;

impl Job {
    /// # Errors
    /// Why the node was not seen whole, for people. It has to be done again.
    pub async fn run(self) -> Result<Resynced, String> {
        match self.kind {
            Kind::Periodic => self.scan(|_| Purpose::Ordinary).await,
            Kind::Whole => self.whole().await,
        }
    }

    async fn whole(&self) -> Result<Resynced, String> {
        let before = self.scanner.data(&self.node).await?;
        let states = self.store.node_states().await.map_err(|error| error.to_string())?;
        let remembered =
            states.into_iter().find(|state| state.node == self.node).filter(|state| self.same(state, &before));
        let purpose = |slot: Slot| match &remembered {
            Some(state) if state.slots.contains(slot) => Purpose::AfterGap,
            _ => Purpose::AfterLoss,
        };
        let Resynced { mut keys } = self.scan(purpose).await?;
        if !self.fresh {
            keys += self.ledger(purpose).await?;
        }
        let after = self.scanner.data(&self.node).await?;
        if after != before {
            return Err("the node restarted or was flushed meanwhile".into());
        }
        let state = NodeState {
            node: self.node.clone(),
            run_id: after.run_id,
            config_epoch: self.config_epoch,
            flushes: after.flushes,
            slots: self.slots.clone(),
        };
        self.store.remember_node(self.fencing, state).await.map_err(|error| error.to_string())?;
        Ok(Resynced { keys })
    }

    fn same(&self, state: &NodeState, data: &NodeData) -> bool {
        state.run_id == data.run_id && state.flushes == data.flushes && state.config_epoch == self.config_epoch
    }

    async fn scan(&self, purpose: impl Fn(Slot) -> Purpose) -> Result<Resynced, String> {
        let mut asking = Asking::new(&self.requests);
        let mut cursor = "0".to_owned();
        let mut count = 0;
        loop {
            let began = Instant::now();
            let (next, mut keys) = self.scanner.scan(&self.node, &cursor).await?;
            keys.retain(|key| !key.as_bytes().starts_with(STORE_PREFIX) && self.scope.contains(key.slot()));
            count += keys.len();
            asking.ask(keys, &purpose).await?;
            if next == "0" {
                break;
            }
            cursor = next;
            if self.kind == Kind::Periodic {
                tokio::time::sleep(began.elapsed().max(Duration::from_millis(1)) * REST).await;
            }
        }
        asking.finish().await?;
        Ok(Resynced { keys: count })
    }

    /// The ledger's keys of the scope, soonest first.
    async fn ledger(&self, purpose: impl Fn(Slot) -> Purpose) -> Result<usize, String> {
        let mut asking = Asking::new(&self.requests);
        let mut cursor = None;
        let mut count = 0;
        loop {
            let page = self.store.due(cursor, PAGE).await.map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { break };
            cursor = Some((last.seen.deadline, last.key.clone()));
            let keys: Vec<Key> =
                page.into_iter().map(|entry| entry.key).filter(|key| self.scope.contains(key.slot())).collect();
            count += keys.len();
            asking.ask(keys, &purpose).await?;
        }
        asking.finish().await?;
        Ok(count)
    }
}

/// Requests of one resync: a few under way at once.
struct Asking<'a> {
    requests: &'a mpsc::Sender<Request>,
    under_way: VecDeque<oneshot::Receiver<()>>,
}

impl<'a> Asking<'a> {
    fn new(requests: &'a mpsc::Sender<Request>) -> Self {
        Self { requests, under_way: VecDeque::new() }
    }

    async fn ask(&mut self, keys: Vec<Key>, purpose: impl Fn(Slot) -> Purpose) -> Result<(), String> {
        for wanted in [Purpose::Ordinary, Purpose::AfterGap, Purpose::AfterLoss] {
            let keys: Vec<Key> = keys.iter().filter(|key| purpose(key.slot()) == wanted).cloned().collect();
            if keys.is_empty() {
                continue;
            }
            while self.under_way.len() >= AHEAD {
                self.one().await?;
            }
            let (done, under_way) = oneshot::channel();
            let stopped = |_| "the ledger has stopped".to_owned();
            self.requests.send(Request { keys, purpose: wanted, done }).await.map_err(stopped)?;
            self.under_way.push_back(under_way);
        }
        Ok(())
    }

    async fn one(&mut self) -> Result<(), String> {
        if let Some(first) = self.under_way.pop_front() {
            first.await.map_err(|_| "the ledger has stopped".to_owned())?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), String> {
        while !self.under_way.is_empty() {
            self.one().await?;
        }
        Ok(())
    }
}
