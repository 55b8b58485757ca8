//! One listener's stages, put together: deployment, ledger, store, delivery. The only place that makes the channels.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Fencing, Hold, OnDeploymentChange, Snapshot, Snapshots, changing,
    fencing::{self, Gate},
    granted::Granted,
    guard::Backoff,
    health::{self, Health},
    opening::Opening,
    snapshot::{self, Teller},
    successor::{Successor, heard},
};
use crate::{
    clock,
    delivery::{self, Delivery},
    deployment::{Deployment, View},
    ledger::{self, Foreign, Keeper, Naming, Settled, Stats, Stopped},
    meters::{Shared, StoreFault},
    model::Millis,
    plan::{Answer, Plan, StorePlan},
    store::{Counts, Epoch, Store, StoreError, metered::Metered},
};

/// Whether a listener is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Never,
    /// Attempts under way may take so long.
    Within(Duration),
    /// At once, and nothing is to be left of it.
    Deleted,
}

/// What reaches into a running listener.
#[derive(Clone)]
pub(super) struct Access {
    pub store: Arc<dyn Store>,
    pub epoch: Epoch,
    pub delivery: Weak<Delivery>,
}

/// What a listener is to do, and the Redis that it is about.
#[derive(Clone)]
pub(super) struct Planned {
    pub plan: Plan,
    pub deployment: Arc<Deployment>,
}

pub(super) struct Pipeline {
    pub plans: watch::Receiver<Planned>,
    pub opening: Opening,
    pub on_deployment_change: OnDeploymentChange,
    pub fencing: Fencing,
    pub gate: Arc<Gate>,
    pub snapshots: Arc<watch::Sender<Snapshots>>,
    pub end: watch::Receiver<Ending>,
    pub grant: Arc<watch::Sender<Option<Access>>>,
    /// It was deleted, and so is what its store held.
    pub buried: bool,
    pub meters: Shared,
}

/// How long a deleted listener's store may take to be opened and emptied.
const BURYING: Duration = Duration::from_secs(10);
/// A store in Redis has this long at least to take what is still under way, and as long as attempts that are under way else.
const CLOSING: Duration = Duration::from_secs(2);
/// How long a snapshot that turns ready waits for its counts.
const COUNTING: Duration = Duration::from_millis(500);
/// How often the snapshot is made at the most.
const APART: Duration = Duration::from_millis(50);

/// Why one run of the stages is over.
enum Over {
    /// It was told to end.
    Ended,
    /// It is to be tried again.
    Again(Hold),
}

impl Pipeline {
    /// Runs until it is told to end.
    pub async fn run(mut self) {
        let teller = self.teller();
        let mut backoff = Backoff::new();
        loop {
            let mut end = self.end.clone();
            tokio::select! {
                () = self.gate.pass(self.fencing) => {}
                () = ending(&mut end) => break,
            }
            backoff.begin();
            let hold = match self.once(teller.started).await {
                Over::Ended => break,
                Over::Again(hold) => hold,
            };
            let fenced = matches!(hold, Hold::Store { category: FENCED, .. });
            if fenced {
                self.gate.shut();
            }
            teller.hold(self.explained(hold));
            if !fenced {
                tokio::select! {
                    () = tokio::time::sleep(backoff.wait()) => {}
                    () = ending(&mut end) => break,
                }
            }
        }
        self.bury().await;
    }

    /// What tells of this pipeline while it does not run.
    pub fn teller(&self) -> Teller {
        Teller::new(self.plan().listener, Arc::clone(&self.snapshots), Arc::clone(&self.meters))
    }

    fn plan(&self) -> Plan {
        self.plans.borrow().plan.clone()
    }

    /// What a refused owner is to do depends on who else may be one.
    fn explained(&self, hold: Hold) -> Hold {
        match hold {
            Hold::Store { category: FENCED, message } => {
                Hold::Store { category: FENCED, message: fencing::message(self.fencing, &message) }
            }
            hold => hold,
        }
    }

    /// A listener that is deleted while it holds leaves nothing behind either, where its store can be opened.
    async fn bury(&mut self) {
        // What is another's by now is not ours to remove.
        if *self.end.borrow() != Ending::Deleted || self.buried || self.gate.is_shut() {
            return;
        }
        let plan = self.plan();
        let burying = async {
            let (store, epoch) = self.opening.open(&plan.listener, &plan.store).await?;
            store.destroy(epoch).await
        };
        let buried = timeout(BURYING, burying).await;
        let late = |_| Err(StoreError::Unavailable("it took too long".to_owned()));
        if let Err(error) = buried.unwrap_or_else(late) {
            left_behind(&plan, &error);
        }
    }

    async fn once(&mut self, started: Millis) -> Over {
        let plan = self.plan();
        let mut end = self.end.clone();
        let opened = tokio::select! {
            opened = self.opening.open(&plan.listener, &plan.store) => opened,
            () = ending(&mut end) => return Over::Ended,
        };
        let (store, epoch) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.meters.store.errors.add(StoreFault::of_category(error.category()), 1);
                return Over::Again(refused(&error));
            }
        };
        let store: Arc<dyn Store> = Arc::new(Metered::new(store, Arc::clone(&self.meters)));
        let (dialler, meters) = (self.opening.dialler.clone(), Arc::clone(&self.meters));
        let delivery = Arc::new(Delivery::start(delivery_settings(&plan), dialler, Arc::clone(&store), epoch, meters));
        let access = Access { store: Arc::clone(&store), epoch, delivery: Arc::downgrade(&delivery) };
        let granted = Granted::new(Arc::clone(&self.grant), access);
        let over = self.serve(&plan, &store, epoch, &delivery, started).await;
        drop(granted);
        let ending = *self.end.borrow();
        let patience = match ending {
            Ending::Within(patience) => patience,
            Ending::Never | Ending::Deleted => Duration::ZERO,
        };
        // The keeper has ended and `Access` upgrades for no longer than a call.
        match Arc::into_inner(delivery) {
            Some(delivery) => delivery.drain(patience).await,
            None => {
                tracing::warn!(listener = %plan.listener, "Delivery is in use; what is under way is sent again later.");
            }
        }
        if ending == Ending::Deleted {
            self.buried = true;
            match within(BURYING, store.destroy(epoch)).await {
                Ok(()) => tracing::info!(listener = %plan.listener, "The listener was deleted, and its store with it."),
                Err(error) => left_behind(&plan, &error),
            }
        } else {
            close(&plan, &store, patience.max(CLOSING)).await;
        }
        over
    }

    /// Runs the ledger, keeps the settings and the snapshot current, until something ends.
    async fn serve(
        &mut self,
        plan: &Plan,
        store: &Arc<dyn Store>,
        epoch: Epoch,
        delivery: &Arc<Delivery>,
        started: Millis,
    ) -> Over {
        let mut deployment = Arc::clone(&self.plans.borrow().deployment);
        let settings = self.ledger_settings(plan, epoch);
        let mut ledger = Ledger::start(settings.clone(), &deployment, store, delivery, &self.meters);
        let mut successor: Option<Successor> = None;
        let (tell, health) = watch::channel(Health::default());
        let mut watching = JoinSet::new();
        let shared = matches!(plan.store, StorePlan::Redis { .. });
        watching.spawn(health::watch(Arc::clone(store), epoch, shared, Arc::clone(&self.meters), tell));
        let mut shown = Shown {
            view: deployment.view(),
            stats: ledger.stats.clone(),
            delivery: delivery.snapshot(),
            health,
            counts: Counts::default(),
            counted: 0,
            hold: None,
            ready: false,
            meters: Arc::clone(&self.meters),
            topology_error: false,
            started,
            opened: Instant::now(),
        };
        let mut delivering = delivery.snapshot();
        let over = loop {
            let answered = changing::answered(shown.hold.as_ref(), self.plans.borrow().plan.answer.as_ref()).cloned();
            tokio::select! {
                () = ending(&mut self.end) => break Over::Ended,
                () = gone(&mut delivering) => {
                    let why = delivering.borrow().stopped_by.clone();
                    break Over::Again(why.map_or_else(|| failed(&"delivery has ended"), |error| refused(&error)));
                }
                Some(ended) = ledger.task.join_next() => match ended {
                    Ok(Ok(())) => break Over::Ended,
                    Ok(Err(Stopped::Foreign(foreign))) => {
                        // What is in the outbox is delivered all the same.
                        let change = foreign.name();
                        shown.hold = Some(Hold::DeploymentChanged { message: foreign.to_string(), change });
                    }
                    Ok(Err(Stopped::Store(error))) => break Over::Again(refused(&error)),
                    Ok(Err(error @ Stopped::Deployment)) => break Over::Again(failed(&error)),
                    Err(error) => break Over::Again(failed(&error)),
                },
                changed = self.plans.changed() => if changed.is_ok() {
                    let planned = self.plans.borrow_and_update().clone();
                    delivery.update(delivery_settings(&planned.plan));
                    let other = !Arc::ptr_eq(&planned.deployment, &deployment);
                    let works = shown.stats.borrow().ready;
                    successor = other.then(|| Successor::join(planned.deployment, plan.pattern.as_bytes(), works));
                },
                Some(answer) = std::future::ready(answered) => {
                    let Answer { change, keep } = &answer;
                    tracing::warn!(listener = %plan.listener, change, keep, "The ledger of another deployment is taken over, as told.");
                    let settings = ledger::Settings { foreign: Foreign::Told(answer), ..settings.clone() };
                    ledger = Ledger::start(settings, &deployment, store, delivery, &self.meters);
                    (shown.stats, shown.hold) = (ledger.stats.clone(), None);
                }
                () = heard(successor.as_ref()) => {
                    // What is under way to the webhook, and the store, are none of its concern.
                    ledger.end(plan).await;
                    // Left behind the ledger's joining, or its pattern would be unsubscribed from in between.
                    let joined = successor.take();
                    if let Some(next) = &joined {
                        deployment = Arc::clone(&next.deployment);
                    }
                    ledger = Ledger::start(settings.clone(), &deployment, store, delivery, &self.meters);
                    (shown.view, shown.stats) = (deployment.view(), ledger.stats.clone());
                    (shown.hold, shown.started) = (None, clock::now());
                }
                () = shown.changed() => tokio::time::sleep(APART).await,
                Some(ended) = watching.join_next() => match ended {
                    Ok(error) => break Over::Again(refused(&error)),
                    Err(error) => break Over::Again(failed(&error)),
                },
            }
            shown.read_health();
            if shown.turns_ready()
                && let Ok(Ok(counts)) = timeout(COUNTING, store.counts()).await
            {
                shown.counts = counts;
            }
            let mut snapshot = shown.snapshot(plan);
            snapshot.patterns = deployment.patterns();
            let snapshot = Arc::new(snapshot);
            self.snapshots.send_if_modified(|snapshots| {
                let before = snapshots.insert(plan.listener.clone(), Arc::clone(&snapshot));
                before.as_ref() != Some(&snapshot)
            });
        };
        watching.shutdown().await;
        ledger.end(plan).await;
        over
    }

    fn ledger_settings(&self, plan: &Plan, epoch: Epoch) -> ledger::Settings {
        ledger::Settings {
            naming: Naming {
                listener: plan.listener.clone(),
                database: plan.redis.database,
                inferred: plan.inferred,
                epoch,
            },
            pattern: plan.pattern.clone(),
            resync_interval: plan.resync_interval,
            foreign: match self.on_deployment_change {
                OnDeploymentChange::Hold => Foreign::Hold,
                OnDeploymentChange::Discard => Foreign::Discard,
                OnDeploymentChange::Keep => Foreign::Keep,
            },
        }
    }
}

/// The ledger, running over one deployment.
struct Ledger {
    task: JoinSet<Result<(), Stopped>>,
    stats: watch::Receiver<Stats>,
    stop: CancellationToken,
}

impl Ledger {
    fn start(
        settings: ledger::Settings,
        deployment: &Deployment,
        store: &Arc<dyn Store>,
        delivery: &Arc<Delivery>,
        meters: &Shared,
    ) -> Self {
        let (publish, stats) = watch::channel(Stats::default());
        let stop = CancellationToken::new();
        let outlet = Arc::clone(delivery);
        let joined = deployment.join(settings.pattern.as_bytes());
        let mut task = JoinSet::new();
        task.spawn(Keeper::run(
            settings,
            joined,
            Arc::clone(store),
            Box::new(move |settled| match settled {
                Settled::Events(events) => outlet.offer(events),
                Settled::Unsure => outlet.wake(),
            }),
            publish,
            Arc::clone(meters),
            stop.clone(),
        ));
        Self { task, stats, stop }
    }

    async fn end(&mut self, plan: &Plan) {
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            if let Err(error) = ended {
                tracing::error!(listener = %plan.listener, %error, "The ledger failed.");
            }
        }
    }
}

/// What a snapshot is made of.
struct Shown {
    view: watch::Receiver<Arc<View>>,
    stats: watch::Receiver<Stats>,
    delivery: watch::Receiver<delivery::Snapshot>,
    health: watch::Receiver<Health>,
    /// As new as the last of those in `health`, or newer.
    counts: Counts,
    counted: u64,
    hold: Option<Hold>,
    /// As last shown.
    ready: bool,
    meters: Shared,
    /// The topology was wrong when last shown.
    topology_error: bool,
    started: Millis,
    opened: Instant,
}

impl Shown {
    async fn changed(&mut self) {
        // A sender that is gone changes nothing more, as a ledger's that holds; the others still do. Its end is seen elsewhere.
        tokio::select! {
            Ok(()) = self.view.changed() => {}
            Ok(()) = self.stats.changed() => {}
            Ok(()) = self.delivery.changed() => {}
            Ok(()) = self.health.changed() => {}
            else => std::future::pending::<()>().await,
        }
    }

    fn read_health(&mut self) {
        let health = self.health.borrow();
        if self.counted != health.counted {
            (self.counts, self.counted) = (health.counts, health.counted);
        }
    }

    /// Readiness is told with counts as new as itself.
    fn turns_ready(&mut self) -> bool {
        let now = self.stats.borrow().ready;
        std::mem::replace(&mut self.ready, now) != now
    }

    fn snapshot(&mut self, plan: &Plan) -> Snapshot {
        let view = self.view.borrow_and_update();
        let stats = self.stats.borrow_and_update();
        let delivery = self.delivery.borrow_and_update();
        let health = self.health.borrow();
        let mut snapshot = snapshot::of(plan, &view, &stats, &delivery, self.counts);
        (snapshot.started, snapshot.opened) = (self.started, Some(self.opened));
        snapshot.durability.clone_from(&health.durability);
        if let Some(error) = health.error.as_ref().filter(|_| snapshot.store_error.is_none()) {
            snapshot.store_error = Some(error.to_string());
            snapshot.store_category = Some(error.category());
            snapshot.ready = false;
        }
        snapshot.ready &= self.hold.is_none();
        snapshot.hold.clone_from(&self.hold);
        let wrong = snapshot.topology_error.is_some();
        self.meters.topology_errors.add(u64::from(wrong && !self.topology_error));
        self.topology_error = wrong;
        snapshot.meters = Some(Arc::clone(&self.meters));
        snapshot
    }
}

/// Waits until delivery has ended, which it does of its own accord only when it cannot go on.
async fn gone(delivering: &mut watch::Receiver<delivery::Snapshot>) {
    while delivering.changed().await.is_ok() {}
}

pub(super) async fn ending(end: &mut watch::Receiver<Ending>) {
    // A supervisor that is gone ends it too.
    let _ = end.wait_for(|ending| *ending != Ending::Never).await;
}

/// One in Redis that does not answer is left after `patience`, as if we had been killed: who follows scans, and delivers again what it
/// was not told is delivered; a deletion that it was not told of may be told, `Inferred`. One in a file has to be let go of.
async fn close(plan: &Plan, store: &Arc<dyn Store>, patience: Duration) {
    let closed = match plan.store {
        StorePlan::Memory => return,
        StorePlan::Local { .. } => store.close().await,
        StorePlan::Redis { .. } => within(patience, store.close()).await,
    };
    if let Err(error) = closed {
        tracing::error!(listener = %plan.listener, %error, "The store did not close well.");
    }
}

/// What the store's answer is, if it comes in time.
async fn within(patience: Duration, answer: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    let late = |_| Err(StoreError::Unavailable(format!("not within {patience:?}")));
    timeout(patience, answer).await.unwrap_or_else(late)
}

fn left_behind(plan: &Plan, error: &StoreError) {
    tracing::error!(
        listener = %plan.listener,
        %error,
        "The listener was deleted, and what its store holds was not; in Redis it goes by itself after 14 days, unless \
         maxmemory-policy is volatile-*."
    );
}

/// [`StoreError::category`] of an owner that another has followed.
const FENCED: &str = "Fenced";

fn refused(error: &StoreError) -> Hold {
    Hold::Store { category: error.category(), message: error.to_string() }
}

fn failed(error: &dyn std::fmt::Display) -> Hold {
    Hold::Store { category: "Failed", message: error.to_string() }
}

fn delivery_settings(plan: &Plan) -> delivery::Settings {
    delivery::Settings {
        listener: plan.listener.clone(),
        database: plan.redis.database,
        pattern: plan.pattern.clone(),
        id_template: plan.id_template.clone(),
        suspend: plan.suspend,
        webhook: plan.webhook.clone(),
        delivery: plan.delivery.clone(),
    }
}
