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

/// Keys to be looked at.
pub struct Request {
    /// Whose keys they are: [`Purpose::AfterGap`] holds only for what this node answers.
    pub node: NodeId,
    pub keys: Vec<Key>,
    pub purpose: Purpose,
    pub kind: Kind,
    /// Told, when all were answered, which of them are gone though the ledger has them and their deadlines are ahead.
    pub done: oneshot::Sender<Vec<Key>>,
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
    /// The node's data could not be taken for what it was before: it restarted, was flushed or failed over to, or slots
    /// came to it.
    pub loss: bool,
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
/// Keys a request.
const PAGE: usize = 2_048;
/// Ledger entries a page: fewer pages are less work for the store.
const LEDGER_PAGE: usize = 16_384;
/// How often what is gone is asked about until it was forgotten.
const TRIES: usize = 5;
/// A periodic scan rests this many times as long as it works.
const REST: u32 = 3;

impl Job {
    /// # Errors
    /// Why the node was not seen whole, for people. It has to be done again.
    pub async fn run(self) -> Result<Resynced, String> {
        match self.kind {
            Kind::Periodic => self.scan(|_| Purpose::Ordinary).await.map(|(keys, _)| Resynced { keys, loss: false }),
            Kind::Whole => self.whole().await,
        }
    }

    async fn whole(&self) -> Result<Resynced, String> {
        let before = self.scanner.data(&self.node).await?;
        let states = self.store.node_states().await.map_err(|error| error.to_string())?;
        let remembered =
            states.into_iter().find(|state| state.node == self.node).filter(|state| self.same(state, &before));
        // What is gone after a gap is forgotten only once it is sure that the data is the same still.
        let purpose = |slot: Slot| match &remembered {
            Some(state) if state.slots.contains(slot) => Purpose::Ordinary,
            _ => Purpose::AfterLoss,
        };
        let loss = !self.fresh && !remembered.as_ref().is_some_and(|state| self.scope.minus(&state.slots).is_empty());
        let (mut keys, mut gone) = self.scan(purpose).await?;
        if !self.fresh {
            let (count, more) = self.ledger(purpose).await?;
            keys += count;
            gone.extend(more);
        }
        self.unchanged(&before).await?;
        gone.retain(|key| purpose(key.slot()) == Purpose::Ordinary);
        for _ in 0..TRIES {
            if gone.is_empty() {
                break;
            }
            let mut asking = Asking::new(self);
            asking.ask(gone, |_| Purpose::AfterGap).await?;
            // A question that once got no answer is an ordinary one from then on: those are asked again.
            gone = asking.finish().await?;
            self.unchanged(&before).await?;
        }
        if !gone.is_empty() {
            return Err(format!("{} keys that are gone got no clear answer", gone.len()));
        }
        let state = NodeState {
            node: self.node.clone(),
            run_id: before.run_id,
            config_epoch: self.config_epoch,
            flushes: before.flushes,
            slots: self.slots.clone(),
        };
        self.store.remember_node(self.fencing, state).await.map_err(|error| error.to_string())?;
        Ok(Resynced { keys, loss })
    }

    async fn unchanged(&self, before: &NodeData) -> Result<(), String> {
        if self.scanner.data(&self.node).await? == *before {
            Ok(())
        } else {
            Err("the node restarted or was flushed meanwhile".into())
        }
    }

    fn same(&self, state: &NodeState, data: &NodeData) -> bool {
        state.run_id == data.run_id && state.flushes == data.flushes && state.config_epoch == self.config_epoch
    }

    /// The node's keys: how many, and which of them were gone when they were looked at.
    async fn scan(&self, purpose: impl Fn(Slot) -> Purpose) -> Result<(usize, Vec<Key>), String> {
        let mut asking = Asking::new(self);
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
        Ok((count, asking.finish().await?))
    }

    /// The ledger's keys of the scope, soonest first; else as [`Job::scan`].
    async fn ledger(&self, purpose: impl Fn(Slot) -> Purpose) -> Result<(usize, Vec<Key>), String> {
        let mut asking = Asking::new(self);
        let mut cursor = None;
        let mut count = 0;
        loop {
            let page = self.store.due(cursor, LEDGER_PAGE).await.map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { break };
            cursor = Some((last.seen.deadline, last.key.clone()));
            let keys: Vec<Key> =
                page.into_iter().map(|entry| entry.key).filter(|key| self.scope.contains(key.slot())).collect();
            count += keys.len();
            asking.ask(keys, &purpose).await?;
        }
        Ok((count, asking.finish().await?))
    }
}

/// Requests of one resync: a few under way at once.
struct Asking<'a> {
    job: &'a Job,
    under_way: VecDeque<oneshot::Receiver<Vec<Key>>>,
    gone: Vec<Key>,
}

impl<'a> Asking<'a> {
    fn new(job: &'a Job) -> Self {
        Self { job, under_way: VecDeque::new(), gone: Vec::new() }
    }

    async fn ask(&mut self, keys: Vec<Key>, purpose: impl Fn(Slot) -> Purpose) -> Result<(), String> {
        let mut by_purpose = [const { Vec::new() }; Purpose::ALL.len()];
        for key in keys {
            by_purpose[purpose(key.slot()) as usize].push(key);
        }
        for (wanted, mut keys) in Purpose::ALL.into_iter().zip(by_purpose) {
            while !keys.is_empty() {
                let rest = keys.split_off(keys.len().min(PAGE));
                let keys = std::mem::replace(&mut keys, rest);
                while self.under_way.len() >= AHEAD {
                    self.one().await?;
                }
                let (done, under_way) = oneshot::channel();
                let (node, kind) = (self.job.node.clone(), self.job.kind);
                let request = Request { node, keys, purpose: wanted, kind, done };
                self.job.requests.send(request).await.map_err(|_| "the ledger has stopped")?;
                self.under_way.push_back(under_way);
            }
        }
        Ok(())
    }

    async fn one(&mut self) -> Result<(), String> {
        if let Some(first) = self.under_way.pop_front() {
            self.gone.extend(first.await.map_err(|_| "the ledger has stopped")?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<Key>, String> {
        while !self.under_way.is_empty() {
            self.one().await?;
        }
        Ok(self.gone)
    }
}
