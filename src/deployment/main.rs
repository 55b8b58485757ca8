//! The deployment's loop: sightings in, guidance and view out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{NodeView, View};
use crate::{
    dial::Dialler,
    model::{Fault, FaultCategory, NodeId},
    nodes::{Ask, Clerk, Connection, Control, Dial, Driver, Guidance, Notifications, Offset, Setting},
    plan::RedisPlan,
    topology::{Discovery, Node, Refresh, Sighting, Topology},
};

/// How often the topology is read while something is wrong.
const WHILE_WRONG: Duration = Duration::from_millis(100);
/// Two readings are at least this far apart, however many ask for one.
const APART: Duration = Duration::from_millis(10);

/// A node that is being driven.
struct Driven {
    asks: mpsc::Sender<Ask>,
    connection: watch::Receiver<Connection>,
    notifications: watch::Receiver<Notifications>,
    offset: Offset,
    control: Arc<Control>,
    dial: watch::Sender<Dial>,
    check: Arc<Notify>,
    /// When its subscription was opened, as last seen: its settings are read again when that changes.
    seen: (u64, bool),
    stop: CancellationToken,
}

struct Main {
    plan: RedisPlan,
    dialler: Dialler,
    guidance: Arc<watch::Sender<Arc<Guidance>>>,
    publish: watch::Sender<Arc<View>>,
    refresh: Refresh,
    stop: CancellationToken,
    nodes: BTreeMap<NodeId, Driven>,
    tasks: JoinSet<()>,
    changed: Arc<Notify>,
    topology: Arc<Topology>,
    confirmed: HashMap<NodeId, Instant>,
    error: Option<Fault>,
}

pub(super) async fn run(
    plan: RedisPlan,
    dialler: Dialler,
    guidance: Arc<watch::Sender<Arc<Guidance>>>,
    publish: watch::Sender<Arc<View>>,
    refresh: Refresh,
    stop: CancellationToken,
) {
    let stop = stop.child_token();
    let (doubts, doubted) = watch::channel((true, Vec::new()));
    let (tell, mut told) = mpsc::channel(4);
    let steady = plan.topology_refresh;
    let mut main = Main {
        plan: plan.clone(),
        dialler: dialler.clone(),
        guidance,
        publish,
        refresh: refresh.clone(),
        stop: stop.clone(),
        nodes: BTreeMap::new(),
        tasks: JoinSet::new(),
        changed: Arc::new(Notify::new()),
        topology: Arc::default(),
        confirmed: HashMap::new(),
        error: None,
    };
    main.tasks.spawn(discover(Discovery::new(plan, dialler), steady, doubted, tell, refresh, stop.clone()));
    let changed = Arc::clone(&main.changed);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            sighting = told.recv() => match sighting {
                Some(sighting) => main.sighted(sighting),
                None => break,
            },
            () = changed.notified() => {}
            Some(ended) = main.tasks.join_next() => if let Err(error) = ended {
                // Which of them is not known: all begin again, and whatever they missed is a gap.
                tracing::error!(%error, "A task of the deployment failed; it begins again.");
                break;
            },
        }
        main.look_again();
        main.tell();
        doubts.send_if_modified(|doubts| {
            let now = main.doubts();
            let changed = *doubts != now;
            *doubts = now;
            changed
        });
    }
    stop.cancel();
    while main.tasks.join_next().await.is_some() {}
}

/// Reads the topology at the interval of the plan, sooner while something is wrong or somebody asks.
async fn discover(
    mut discovery: Discovery,
    steady: Duration,
    doubted: watch::Receiver<(bool, Vec<NodeId>)>,
    tell: mpsc::Sender<Result<Sighting, Fault>>,
    refresh: Refresh,
    stop: CancellationToken,
) {
    let mut known = Arc::new(Topology::default());
    loop {
        let (_, doubts) = doubted.borrow().clone();
        let Some(sighting) = stop.run_until_cancelled(Box::pin(discovery.look(&known, &doubts))).await else { return };
        let failed = sighting.is_err();
        if let Ok(sighting) = &sighting {
            known = Arc::clone(&sighting.topology);
        }
        if tell.send(sighting).await.is_err() {
            return;
        }
        let wait = if failed || doubted.borrow().0 { WHILE_WRONG.min(steady) } else { steady };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
            () = refresh.requested() => sleep(APART).await,
        }
    }
}

impl Main {
    fn sighted(&mut self, sighting: Result<Sighting, Fault>) {
        match sighting {
            Err(error) => self.error = Some(error),
            Ok(Sighting { topology, confirmed }) => {
                self.error.clone_from(&topology.error);
                if !topology.covered() && self.error.is_none() {
                    let what = "some slots have no owner; see CLUSTER NODES, and redis-cli --cluster fix";
                    self.error = Some(FaultCategory::Uncovered.fault(what));
                }
                for (id, asked_at) in confirmed {
                    let latest = self.confirmed.entry(id).or_insert(asked_at);
                    *latest = (*latest).max(asked_at);
                }
                self.confirmed.retain(|id, _| topology.node(id).is_some());
                self.topology = topology;
                self.follow();
                self.guide();
            }
        }
    }

    /// Drives each node of the topology, and no other.
    fn follow(&mut self) {
        let topology = Arc::clone(&self.topology);
        self.nodes.retain(|id, driven| {
            let stays = topology.node(id).is_some();
            if !stays {
                driven.stop.cancel();
            }
            stays
        });
        for node in topology.nodes() {
            match self.nodes.get(&node.id) {
                Some(driven) => {
                    driven.dial.send_if_modified(|dial| {
                        let changed = *dial != node.dial;
                        dial.clone_from(&node.dial);
                        changed
                    });
                }
                None => self.drive(node),
            }
        }
    }

    fn drive(&mut self, node: &Node) {
        let stop = self.stop.child_token();
        let (dial, dialled) = watch::channel(node.dial.clone());
        let control = Arc::new(Control::new(self.plan.clone(), self.dialler.clone(), dialled.clone()));
        let check = Arc::new(Notify::new());
        let (notifications, checking) = Clerk::watch(
            node.id.clone(),
            &self.plan,
            Arc::clone(&control),
            dialled.clone(),
            Arc::clone(&check),
            stop.clone(),
        );
        let setting = Setting {
            id: node.id.clone(),
            plan: self.plan.clone(),
            dialler: self.dialler.clone(),
            dial: dialled,
            guidance: self.guidance.subscribe(),
            refresh: self.refresh.clone(),
            notifications: notifications.clone(),
        };
        let (driver, driving) = Driver::new(setting, stop.clone());
        self.tasks.spawn(driving);
        self.tasks.spawn(checking);
        self.tasks.spawn(forward(
            driver.connection.clone(),
            notifications.clone(),
            Arc::clone(&self.changed),
            stop.clone(),
        ));
        let Driver { asks, connection, offset } = driver;
        let seen = (0, false);
        self.nodes.insert(
            node.id.clone(),
            Driven { asks, connection, notifications, offset, control, dial, check, seen, stop },
        );
    }

    fn guide(&self) {
        let (topology, confirmed) = (Arc::clone(&self.topology), self.confirmed.clone());
        let asks = self.nodes.iter().map(|(id, driven)| (id.clone(), driven.asks.clone())).collect();
        self.guidance.send_modify(|guidance| {
            let (taps, patterns) = (guidance.taps.clone(), guidance.patterns);
            *guidance = Arc::new(Guidance { topology, confirmed, taps, patterns, asks });
        });
    }

    /// Reads the settings of nodes again that were connected anew or promoted.
    fn look_again(&mut self) {
        for (id, driven) in &mut self.nodes {
            let master = self.topology.node(id).is_some_and(Node::is_master);
            let now = (driven.connection.borrow().continuity, master);
            if std::mem::replace(&mut driven.seen, now) != now {
                driven.check.notify_one();
            }
        }
    }

    fn tell(&self) {
        let nodes = self.nodes.iter().filter_map(|(id, driven)| {
            let node = self.topology.node(id)?;
            let view = NodeView {
                address: node.dial.first().cloned(),
                master: node.is_master(),
                drives: node.drives(),
                slots: node.slots.clone(),
                epoch: node.epoch,
                connection: driven.connection.borrow().clone(),
                notifications: driven.notifications.borrow().clone(),
                offset: driven.offset.clone(),
                control: Arc::clone(&driven.control),
            };
            Some((id.clone(), view))
        });
        let view = View { topology: Arc::clone(&self.topology), nodes: nodes.collect(), error: self.error.clone() };
        self.publish.send_replace(Arc::new(view));
    }

    /// Whether something is wrong, and which nodes are not to be asked about it first.
    fn doubts(&self) -> (bool, Vec<NodeId>) {
        let doubted: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(_, driven)| {
                let connection = driven.connection.borrow();
                connection.since.is_none() || !connection.trusted
            })
            .map(|(id, _)| id.clone())
            .collect();
        let wrong = self.error.is_some()
            || self.nodes.is_empty()
            || doubted
                .iter()
                .any(|id| self.topology.node(id).is_some_and(|node| !node.failed || !node.slots.is_empty()));
        (wrong, doubted)
    }
}

/// Wakes the loop when a node has changed.
async fn forward(
    mut connection: watch::Receiver<Connection>,
    mut notifications: watch::Receiver<Notifications>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = connection.changed() => changed,
            changed = notifications.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        wake.notify_one();
    }
}
