//! Owns running listeners: what is declared is made to run, and how it fares can be read.
//!
//! # Guarantees
//! - No listener waits for another: each is ended, started and changed under a lock of its own.
//! - A pipeline that fails by a fault of this program is reported, and begun again after a while.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::store::redis::Links;
use crate::{
    deployment::Deployment,
    dial::Dialler,
    meters::Shared,
    model::ListenerId,
    plan::{Plan, RedisPlan},
    store::{Store, memory::MemoryStore},
};

mod changing;
mod dead_letters;
mod fencing;
mod granted;
mod guard;
mod health;
mod opening;
mod pipeline;
mod snapshot;
mod successor;

pub use crate::{
    deployment::Source,
    store::{Counts, Durability},
};
pub use dead_letters::DeadLetters;
pub use fencing::Fencing;
use fencing::Gate;
use opening::Opening;
pub use opening::settings as store_settings;
use pipeline::{Access, Ending, Pipeline, Planned};
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

/// How a listener comes to run no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Another process goes on with it: attempts under way may end for at most `patience`, and all is kept.
    HandOver { patience: Duration },
    /// It is gone for good: stops at once, and removes what the store holds of it.
    Deleted,
}

/// How long attempts under way may take to end when a listener is changed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs listeners. What it runs ends, as in a crash, when it is dropped; [`Supervisor::stop`] ends it well.
pub struct Supervisor {
    common: Arc<Common>,
    places: Mutex<BTreeMap<ListenerId, Arc<Place>>>,
}

/// What all listeners share.
struct Common {
    on_deployment_change: OnDeploymentChange,
    dialler: Dialler,
    fencing: Fencing,
    make_memory: Box<dyn Fn() -> Arc<dyn Store> + Send + Sync>,
    snapshots: Arc<watch::Sender<Snapshots>>,
    /// Listeners with equal connection settings share one.
    deployments: Mutex<HashMap<RedisPlan, Weak<Deployment>>>,
    /// So do stores.
    links: Arc<Links>,
}

/// Where one listener runs, or is being ended.
#[derive(Default)]
struct Place {
    running: tokio::sync::Mutex<Option<Running>>,
    /// A memory store outlives a change of its listener's settings.
    memory: Mutex<Option<Arc<dyn Store>>>,
    gate: Arc<Gate>,
    access: Arc<watch::Sender<Option<Access>>>,
    meters: Shared,
}

struct Running {
    plan: Plan,
    plans: watch::Sender<Planned>,
    ending: watch::Sender<Ending>,
    task: JoinSet<()>,
}

impl Supervisor {
    pub fn new(on_deployment_change: OnDeploymentChange, fencing: Fencing) -> Self {
        Self::dialling(Dialler::everything(), on_deployment_change, fencing)
    }

    /// Reaches nodes, stores and webhooks through `dialler`; the others dial whatever they are told to.
    pub fn dialling(dialler: Dialler, on_deployment_change: OnDeploymentChange, fencing: Fencing) -> Self {
        Self::build(dialler, on_deployment_change, fencing, || Arc::new(MemoryStore::new()))
    }

    /// With a store of the caller's for the listeners whose store is memory: for tests of what asks it when.
    pub fn with_memory(
        on_deployment_change: OnDeploymentChange,
        fencing: Fencing,
        make_memory: impl Fn() -> Arc<dyn Store> + Send + Sync + 'static,
    ) -> Self {
        Self::build(Dialler::everything(), on_deployment_change, fencing, make_memory)
    }

    /// Counts the listeners that it is made to run: for tests of what is not.
    #[cfg(test)]
    pub fn counting(made: Arc<std::sync::atomic::AtomicU32>) -> Self {
        Self::with_memory(OnDeploymentChange::Hold, Fencing::Permit, move || {
            made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Arc::new(MemoryStore::new())
        })
    }

    fn build(
        dialler: Dialler,
        on_deployment_change: OnDeploymentChange,
        fencing: Fencing,
        make_memory: impl Fn() -> Arc<dyn Store> + Send + Sync + 'static,
    ) -> Self {
        let common = Common {
            on_deployment_change,
            dialler,
            fencing,
            make_memory: Box::new(make_memory),
            snapshots: Arc::new(watch::Sender::new(Snapshots::new())),
            deployments: Mutex::default(),
            links: Arc::default(),
        };
        Self { common: Arc::new(common), places: Mutex::default() }
    }

    /// Makes exactly these listeners run: starts, stops, restarts, or changes in place what differs.
    pub async fn declare(&self, plans: Vec<Plan>) {
        let declared: BTreeMap<ListenerId, Plan> =
            plans.into_iter().map(|plan| (plan.listener.clone(), plan)).collect();
        let gone: Vec<ListenerId> =
            lock(&self.places).keys().filter(|id| !declared.contains_key(*id)).cloned().collect();
        let removing = gone.iter().map(|id| self.remove(id, Removal::HandOver { patience: PATIENCE }));
        let ensuring = declared.into_values().map(|plan| self.ensure(plan));
        futures_util::future::join(futures_util::future::join_all(removing), futures_util::future::join_all(ensuring))
            .await;
    }

    /// Makes this listener run with these settings: starts it, changes it in place, or ends and restarts its pipeline.
    /// Returns when that is done, which takes a moment at most, or [`PATIENCE`] where attempts are under way; says whether a
    /// pipeline was begun.
    pub async fn ensure(&self, plan: Plan) -> bool {
        let place = Arc::clone(lock(&self.places).entry(plan.listener.clone()).or_default());
        let mut running = place.running.lock().await;
        // Held while one ends: what both use is not to be torn down in between.
        let deployment = self.common.deployment(&plan.redis);
        if let Some(running) = running.as_mut().filter(|running| same_pipeline(&running.plan, &plan)) {
            running.plan = plan.clone();
            running.plans.send_replace(Planned { plan, deployment });
            return false;
        }
        // A successor starts when its predecessor has ended: they may share a file.
        if let Some(predecessor) = running.take() {
            predecessor.end(Ending::Within(PATIENCE)).await;
            // How that one fared says nothing of what is declared now; but whose the store is has not changed.
            let fenced = place.gate.is_shut();
            self.common.snapshots.send_if_modified(|snapshots| snapshot::succeeded(snapshots, &plan.listener, fenced));
        }
        *running = Some(self.common.start(&place, plan, deployment));
        true
    }

    /// Ends the listener, if it runs here; returns when it has ended.
    pub async fn remove(&self, listener: &ListenerId, how: Removal) {
        let Some(place) = lock(&self.places).get(listener).cloned() else { return };
        let mut running = place.running.lock().await;
        if let Some(running) = running.take() {
            running.end(how.into()).await;
        }
        *lock(&place.memory) = None;
        self.common.snapshots.send_if_modified(|snapshots| snapshots.remove(listener).is_some());
        drop(running);
        let mut places = lock(&self.places);
        // The map's and ours: else somebody is about to run it anew.
        if Arc::strong_count(&place) == 2 {
            places.remove(listener);
        }
    }

    /// A reading of the membership, made at `read_at`, names this process as the listener's owner. One that was made after
    /// another process had taken the store lets this one take it again; no other does ([`Fencing::Permit`]).
    pub fn permit(&self, listener: &ListenerId, read_at: Instant) {
        if let Some(place) = lock(&self.places).get(listener) {
            place.gate.permit(read_at);
        }
    }

    pub fn snapshots(&self) -> watch::Receiver<Snapshots> {
        self.common.snapshots.subscribe()
    }

    /// The dead letters of a running listener; `None` while it does not run or has no store.
    pub fn dead_letters(&self, listener: &ListenerId) -> Option<DeadLetters> {
        let access = lock(&self.places).get(listener)?.access.borrow().clone()?;
        Some(DeadLetters(access))
    }

    /// Hands over: stops detection, lets attempts under way end for at most `patience`, closes the stores.
    pub async fn stop(self, patience: Duration) {
        let places = std::mem::take(&mut *lock(&self.places));
        let ending = places.into_values().map(|place| async move {
            if let Some(running) = place.running.lock().await.take() {
                running.end(Ending::Within(patience)).await;
            }
        });
        futures_util::future::join_all(ending).await;
    }
}

impl Common {
    fn deployment(&self, plan: &RedisPlan) -> Arc<Deployment> {
        let mut deployments = lock(&self.deployments);
        deployments.retain(|_, deployment| deployment.strong_count() > 0);
        let key = plan.in_any_order();
        if let Some(shared) = deployments.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        let deployment = Arc::new(Deployment::start(plan.clone(), self.dialler.clone()));
        deployments.insert(key, Arc::downgrade(&deployment));
        deployment
    }

    fn start(self: &Arc<Self>, place: &Place, plan: Plan, deployment: Arc<Deployment>) -> Running {
        let (plans, planned) = watch::channel(Planned { plan: plan.clone(), deployment });
        let (ending, end) = watch::channel(Ending::Never);
        let (common, gate, access) = (Arc::clone(self), Arc::clone(&place.gate), Arc::clone(&place.access));
        let memory = Arc::clone(lock(&place.memory).get_or_insert_with(&self.make_memory));
        let (ended, meters) = (end.clone(), Arc::clone(&place.meters));
        let make = move || Pipeline {
            plans: planned.clone(),
            opening: Opening {
                memory: Arc::clone(&memory),
                links: Arc::clone(&common.links),
                dialler: common.dialler.clone(),
            },
            on_deployment_change: common.on_deployment_change,
            fencing: common.fencing,
            gate: Arc::clone(&gate),
            snapshots: Arc::clone(&common.snapshots),
            end: end.clone(),
            grant: Arc::clone(&access),
            buried: false,
            meters: Arc::clone(&meters),
        };
        let mut task = JoinSet::new();
        task.spawn(guard::keep_running(make, ended));
        Running { plan, plans, ending, task }
    }
}

impl Running {
    async fn end(mut self, ending: Ending) {
        self.ending.send_replace(ending);
        while let Some(ended) = self.task.join_next().await {
            if let Err(error) = ended {
                tracing::error!(listener = %self.plan.listener, %error, "A listener failed.");
            }
        }
    }
}

impl From<Removal> for Ending {
    fn from(how: Removal) -> Self {
        match how {
            Removal::HandOver { patience } => Self::Within(patience),
            Removal::Deleted => Self::Deleted,
        }
    }
}

/// What differs can be changed while the listener runs: whom to tell, how, and under which names; who we are to Redis; and what
/// is to become of a ledger that is another deployment's.
fn same_pipeline(old: &Plan, new: &Plan) -> bool {
    let Plan { suspend, redis, id_template, webhook, delivery, answer, .. } = new.clone();
    let mode = if old.redis.mode.leads_to(&redis.mode) { redis.mode } else { old.redis.mode.clone() };
    let RedisPlan { username, password, tls, .. } = redis;
    let redis = RedisPlan { mode, username, password, tls, ..old.redis.clone() };
    Plan { suspend, redis, id_template, webhook, delivery, answer, ..old.clone() } == *new
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No step panics between two writes that belong together.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
