//! Owns running listeners: what is declared is made to run, and how it fares can be read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
};

use crate::{
    deployment::Deployment,
    model::ListenerId,
    plan::{Plan, RedisPlan},
    store::{DeadLetter, Selection, Store, StoreError, memory::MemoryStore},
};

mod pipeline;
mod snapshot;

use pipeline::{Access, Ending, Pipeline};
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

/// How long attempts under way may take to end when a listener is changed or removed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs listeners. What it runs ends, as in a crash, when it is dropped; [`Supervisor::stop`] ends it well.
pub struct Supervisor {
    on_deployment_change: OnDeploymentChange,
    make_memory: Box<dyn Fn() -> Arc<dyn Store> + Send + Sync>,
    snapshots: Arc<watch::Sender<Snapshots>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<ListenerId, Running>,
    /// Listeners with equal connection settings share one.
    deployments: HashMap<RedisPlan, Weak<Deployment>>,
    /// Memory stores outlive a change of their listener's settings.
    memories: BTreeMap<ListenerId, Arc<dyn Store>>,
}

struct Running {
    plan: Plan,
    plans: watch::Sender<Plan>,
    ending: watch::Sender<Ending>,
    access: watch::Receiver<Option<Access>>,
    task: JoinSet<()>,
}

impl Supervisor {
    pub fn new(on_deployment_change: OnDeploymentChange) -> Self {
        Self::with_memory(on_deployment_change, || Arc::new(MemoryStore::new()))
    }

    /// With a store of the caller's for the listeners whose store is memory: for tests of what asks it when.
    pub fn with_memory(
        on_deployment_change: OnDeploymentChange,
        make_memory: impl Fn() -> Arc<dyn Store> + Send + Sync + 'static,
    ) -> Self {
        let snapshots = Arc::new(watch::Sender::new(Snapshots::new()));
        Self { on_deployment_change, make_memory: Box::new(make_memory), snapshots, state: Mutex::default() }
    }

    /// Makes exactly these listeners run: starts, stops, restarts, or changes in place what differs.
    pub async fn declare(&self, plans: Vec<Plan>) {
        let mut state = self.state.lock().await;
        let declared: BTreeMap<ListenerId, Plan> =
            plans.into_iter().map(|plan| (plan.listener.clone(), plan)).collect();
        let gone: Vec<ListenerId> = state
            .running
            .iter()
            .filter(|(id, running)| declared.get(*id).is_none_or(|plan| !same_pipeline(&running.plan, plan)))
            .map(|(id, _)| id.clone())
            .collect();
        let mut ending = JoinSet::new();
        for id in gone {
            if let Some(running) = state.running.remove(&id) {
                ending.spawn(running.end(PATIENCE));
            }
        }
        // A successor starts when its predecessor has ended: they share a file.
        while ending.join_next().await.is_some() {}
        state.memories.retain(|id, _| declared.contains_key(id));
        self.snapshots.send_modify(|snapshots| snapshots.retain(|id, _| declared.contains_key(id)));
        for (id, plan) in declared {
            if let Some(running) = state.running.get_mut(&id) {
                running.plan = plan.clone();
                running.plans.send_replace(plan);
            } else {
                let running = self.start(&mut state, plan);
                state.running.insert(id, running);
            }
        }
        state.deployments.retain(|_, deployment| deployment.strong_count() > 0);
    }

    fn start(&self, state: &mut State, plan: Plan) -> Running {
        let shared = state.deployments.get(&plan.redis).and_then(Weak::upgrade);
        let deployment = shared.unwrap_or_else(|| {
            let deployment = Arc::new(Deployment::start(plan.redis.clone()));
            state.deployments.insert(plan.redis.clone(), Arc::downgrade(&deployment));
            deployment
        });
        let memory = Arc::clone(state.memories.entry(plan.listener.clone()).or_insert_with(&self.make_memory));
        let (plans, planned) = watch::channel(plan.clone());
        let (ending, end) = watch::channel(Ending::Never);
        let (grant, access) = watch::channel(None);
        let pipeline = Pipeline {
            plans: planned,
            deployment,
            memory,
            on_deployment_change: self.on_deployment_change,
            snapshots: Arc::clone(&self.snapshots),
            end,
            grant,
            meters: Arc::default(),
        };
        let mut task = JoinSet::new();
        task.spawn(pipeline.run());
        Running { plan, plans, ending, access, task }
    }

    pub fn snapshots(&self) -> watch::Receiver<Snapshots> {
        self.snapshots.subscribe()
    }

    /// The dead letters of a running listener; `None` while it does not run or has no store.
    pub async fn dead_letters(&self, listener: &ListenerId) -> Option<DeadLetters> {
        let state = self.state.lock().await;
        let access = state.running.get(listener)?.access.borrow().clone()?;
        Some(DeadLetters(access))
    }

    /// Hands over: stops detection, lets attempts under way end for at most `patience`, closes the stores.
    pub async fn stop(self, patience: Duration) {
        let mut ending = JoinSet::new();
        for (_, running) in self.state.into_inner().running {
            ending.spawn(running.end(patience));
        }
        while ending.join_next().await.is_some() {}
    }
}

impl Running {
    async fn end(mut self, patience: Duration) {
        self.ending.send_replace(Ending::Within(patience));
        while let Some(ended) = self.task.join_next().await {
            if let Err(error) = ended {
                tracing::error!(listener = %self.plan.listener, %error, "A listener failed.");
            }
        }
    }
}

/// What differs can be changed while the listener runs: whom to tell, how, and under which names.
fn same_pipeline(old: &Plan, new: &Plan) -> bool {
    let Plan { suspend, id_template, webhook, delivery, .. } = new.clone();
    Plan { suspend, id_template, webhook, delivery, ..old.clone() } == *new
}

/// A running listener's dead letters.
pub struct DeadLetters(Access);

impl DeadLetters {
    /// The oldest `limit` of them.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.0.store.dead_letters(None, limit).await
    }
    /// Puts them back into the outbox as if never tried; says how many.
    pub async fn replay(&self, which: Selection) -> Result<u64, StoreError> {
        let count = self.0.store.replay(self.0.epoch, which).await?;
        if let Some(delivery) = self.0.delivery.upgrade() {
            delivery.wake();
        }
        Ok(count)
    }
    /// Removes them for good; says how many.
    pub async fn purge(&self, which: Selection) -> Result<u64, StoreError> {
        self.0.store.purge(self.0.epoch, which).await
    }
}
