//! One run: virtual time, the events, and what everybody shares.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use redis_expiry_operator::{
    model::{EventId, Key, NodeId, Slot},
    plan::Inferred,
    store::memory::MemoryStore,
    topology::{Role, Topology, View, merge},
};
use tokio::time::Instant;

use crate::{
    faults::Step,
    network::{Flow, Frame, Line, Pid, Question},
    process::{Call, Process, Sighted, Told},
    random::Random,
    resync::{Errand, Result},
    server::{A, B, Config, KeyIndex, NODES, Node, Row, Server},
    truth::Truth,
};

/// Our clock at the beginning of a run, in microseconds since the epoch.
pub const BASE: i64 = 1_800_000_000_000_000;
pub const KEYS: usize = 6;

/// When each node was asked for the topology, and which configuration it told.
pub type Sightings = Vec<(i64, Node, usize)>;

#[derive(Clone, Debug)]
pub enum Event {
    // On a node.
    ToServer(Line, Question),
    Replicate { replica: Node, attachment: u32 },
    FullSync { replica: Node, master: Node },
    Learn { node: Node, version: usize },
    ActiveExpiry(Node),
    ActiveExpiryOnce(Node),
    TurnEnds(Node),
    Errand { pid: Pid, node: Node, number: u64, errand: Errand },
    PollAt { pid: Pid, number: u64, node: Node, asked_at: i64 },
    // In a process of ours.
    ToUs(Line, Frame),
    Cut(Line),
    Connect(Pid, Node),
    Tick(Pid),
    KeeperTick(Pid),
    Alarm(Pid),
    Hints(Pid),
    Looked(Pid, Vec<Sighted>),
    Store(Pid, Call),
    Told(Pid, Told),
    Poll(Pid, i64),
    PollOver { pid: Pid, number: u64, order: Vec<Node> },
    ReadFlags(Pid, Node),
    ErrandDone { pid: Pid, node: Node, number: u64, result: Result },
    ErrandLate { pid: Pid, node: Node, number: u64, step: String },
    // The application, the faults, the one who watches.
    Operate(KeyIndex),
    Fault(Step),
    Watch,
}

enum Whose {
    Server(Node),
    Process(Pid),
    World,
}

impl Event {
    fn whose(&self) -> Whose {
        match self {
            Self::ToServer(line, _) => Whose::Server(line.node),
            Self::Replicate { replica: node, .. }
            | Self::FullSync { replica: node, .. }
            | Self::Learn { node, .. }
            | Self::TurnEnds(node)
            | Self::Errand { node, .. }
            | Self::PollAt { node, .. } => Whose::Server(*node),
            Self::ToUs(line, _) | Self::Cut(line) => Whose::Process(line.pid),
            Self::Connect(pid, _)
            | Self::Tick(pid)
            | Self::KeeperTick(pid)
            | Self::Alarm(pid)
            | Self::Hints(pid)
            | Self::Looked(pid, _)
            | Self::Store(pid, _)
            | Self::Told(pid, _)
            | Self::Poll(pid, _)
            | Self::PollOver { pid, .. }
            | Self::ReadFlags(pid, _)
            | Self::ErrandDone { pid, .. }
            | Self::ErrandLate { pid, .. } => Whose::Process(*pid),
            Self::ActiveExpiry(_) | Self::ActiveExpiryOnce(_) | Self::Operate(_) | Self::Fault(_) | Self::Watch => {
                Whose::World
            }
        }
    }
}

pub struct World {
    /// The true time in microseconds since the run began.
    pub now: i64,
    pub started: Instant,
    queue: BTreeMap<(i64, u64), Event>,
    order: u64,
    pub random: Random,
    pub keys: Vec<Key>,
    pub slot: Slot,
    pub servers: Vec<Server>,
    pub configs: Vec<Config>,
    /// The nodes tell of changes by client tracking alone.
    pub tracking: bool,
    /// The most that replication lags, beyond the network.
    pub lag: i64,
    pub lines: BTreeMap<Line, Flow>,
    pub next_line: u64,
    /// What the nodes say is written down here, and goes nowhere.
    pub heard: Option<Vec<(Line, Frame)>>,
    pub polls: HashMap<(Pid, u64), Sightings>,
    pub processes: Vec<Option<Process>>,
    /// The process that owns the listener, or did last.
    pub current: Pid,
    pub store: MemoryStore,
    pub settled_at: HashMap<EventId, i64>,
    pub inferred: Inferred,
    pub resync_interval: Option<i64>,
    pub truth: Truth,
    /// The application stops at this time, and so do new faults.
    pub until: i64,
    pub operations: u64,
    log: Option<Vec<(i64, Option<KeyIndex>, String)>>,
}

impl World {
    pub fn new(seed: u64, logged: bool) -> Self {
        let mut random = Random::new(seed);
        let keys: Vec<Key> = (0..KEYS).map(|number| Key::from(format!("order:{{s}}:{number}").as_str())).collect();
        let slot = keys[0].slot();
        // A few milliseconds; now and then hundreds.
        let far = random.percent(15);
        let offsets = [0; NODES].map(|_| {
            let most = if far { 300_000 } else { 3_000 };
            random.between(-most, most)
        });
        let row = |node: Node| Row {
            replica_of: (node == B).then_some(A),
            epoch: [1, 1, 2][node],
            owns: node == A,
            failed: false,
        };
        let mut servers: Vec<Server> = offsets.into_iter().map(Server::new).collect();
        servers[B].follows = Some(A);
        let lag = if random.percent(30) { random.between(5_000, 400_000) } else { 0 };
        Self {
            now: 0,
            started: Instant::now(),
            queue: BTreeMap::new(),
            order: 0,
            random,
            keys,
            slot,
            servers,
            configs: vec![(0..NODES).map(row).collect()],
            tracking: false,
            lag,
            lines: BTreeMap::new(),
            next_line: 0,
            heard: None,
            polls: HashMap::new(),
            processes: Vec::new(),
            current: 0,
            store: MemoryStore::new(),
            settled_at: HashMap::new(),
            inferred: Inferred::Deliver,
            resync_interval: None,
            truth: Truth::default(),
            until: 0,
            operations: 0,
            log: logged.then(Vec::new),
        }
    }

    /// The present by our clock, in microseconds.
    pub fn ours(&self) -> i64 {
        BASE + self.now
    }
    pub fn instant(&self) -> Instant {
        self.started + Duration::from_micros(u64::try_from(self.now).expect("time is positive"))
    }

    pub fn at(&mut self, at: i64, event: Event) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), event);
    }
    pub fn after(&mut self, micros: i64, event: Event) {
        self.at(self.now + micros, event);
    }

    /// Lets time pass.
    pub fn run(&mut self, until: i64) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.dispatch(event);
        }
        self.now = until;
    }

    fn dispatch(&mut self, event: Event) {
        match event.whose() {
            Whose::Server(node) if self.servers[node].frozen => self.servers[node].deferred.push(event),
            Whose::Server(_) | Whose::World => self.happen(event),
            Whose::Process(pid) => {
                let Some(process) = self.process(pid) else { return };
                if process.hangs {
                    process.deferred.push(event);
                    return;
                }
                self.happen(event);
                self.pump(pid);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToServer(line, question) => self.asked(line, question),
            Event::Replicate { replica, attachment } => self.replicated(replica, attachment),
            Event::FullSync { replica, master } => self.full_sync(replica, master),
            Event::Learn { node, version } => self.learn(node, version),
            Event::ActiveExpiry(node) => {
                self.expire_something(node);
                let next = self.random.between(5_000, 150_000);
                self.after(next, Event::ActiveExpiry(node));
            }
            Event::ActiveExpiryOnce(node) => self.expire_something(node),
            Event::TurnEnds(node) => self.turn_ends(node),
            Event::Errand { pid, node, number, errand } => self.run_errand(pid, node, number, errand),
            Event::PollAt { pid, number, node, asked_at } => self.poll_at(pid, number, node, asked_at),
            Event::ToUs(line, frame) => self.arrived(line, frame),
            Event::Cut(line) => self.ended(line),
            Event::Connect(pid, node) => self.connect(pid, node),
            Event::Tick(pid) => self.tick(pid),
            Event::KeeperTick(pid) => self.keeper_tick(pid),
            Event::Alarm(pid) => self.alarm(pid),
            Event::Hints(pid) => self.hints(pid),
            Event::Looked(pid, looks) => self.looked(pid, looks),
            Event::Store(pid, call) => self.store(pid, call),
            Event::Told(pid, told) => self.told(pid, told),
            Event::Poll(pid, at) => self.poll_due(pid, at),
            Event::PollOver { pid, number, order } => self.poll_over(pid, number, order),
            Event::ReadFlags(pid, node) => self.read_flags(pid, node),
            Event::ErrandDone { pid, node, number, result } => self.errand_done(pid, node, number, result),
            Event::ErrandLate { pid, node, number, step } => self.errand_late(pid, node, number, &step),
            Event::Operate(key) => self.operate(key),
            Event::Fault(step) => self.fault(step),
            Event::Watch => self.watch(),
        }
    }

    /// Our connections and the nodes are whole again: no gap is open.
    fn watch(&mut self) {
        if self.truth.gap_is_open() && self.healthy() {
            let now = self.now;
            self.truth.gap_ends(now);
            self.note_all(|| "-- all is seen whole again".into());
        }
        self.after(20_000, Event::Watch);
    }

    pub fn healthy(&mut self) -> bool {
        let (slot, current, tracking) = (self.slot, self.current, self.tracking);
        let config = self.configs[self.configs.len() - 1].clone();
        let owner = self.owner();
        if self.servers.iter().any(|server| !server.notifies || server.paused) || !self.servers[owner].serves() {
            return false;
        }
        if (0..NODES).any(|node| config[node].replica_of.is_none() && !self.servers[node].serves()) {
            return false;
        }
        let lines: BTreeSet<Line> = self.lines.keys().copied().collect();
        let Some(process) = self.process(current) else { return false };
        let known = process.topology.node(&id_of(owner));
        process.owner(slot) == Some(owner)
            && known.is_some_and(|known| known.epoch == config[owner].epoch)
            && !process.hangs
            && process.jobs.is_empty()
            && (0..NODES).all(|node| {
                let link = &process.links[node];
                let lives = link.connection.as_ref().is_some_and(|connection| lines.contains(&connection.line));
                let synced = process.synced.get(&node).map(|synced| (synced.continuity, synced.slots.contains(slot)));
                link.open() && lives && (node != owner || synced == Some((link.continuity(), true)))
            })
            && (tracking || process.links[owner].notifications.sufficient)
    }

    /// Equal topologies are one, so that a change is told by the pointer; and none is merged twice, because that takes long.
    pub fn merged(known: &Topology, views: &[View]) -> Arc<Topology> {
        thread_local! {
            static MERGED: RefCell<HashMap<Vec<u64>, Arc<Topology>>> = RefCell::default();
            static KNOWN: RefCell<HashMap<Vec<u64>, Arc<Topology>>> = RefCell::default();
        }
        let mut print = fingerprint(known);
        for view in views {
            print.push(u64::MAX);
            for row in &view.rows {
                let of = row.replica_of.as_ref().map_or(9, node_of);
                print.extend([node_of(&row.id) as u64, of as u64, row.epoch]);
                print.push(u64::from(row.slots.is_empty()) * 2 + u64::from(row.failed));
            }
        }
        MERGED.with_borrow_mut(|merged| {
            let topology = merged.entry(print).or_insert_with(|| {
                let topology = Arc::new(merge(known, views, &[]));
                KNOWN.with_borrow_mut(|known| Arc::clone(known.entry(fingerprint(&topology)).or_insert(topology)))
            });
            Arc::clone(topology)
        })
    }

    pub fn note(&mut self, key: KeyIndex, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push((self.now, Some(key), what()));
        }
    }
    pub fn note_all(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push((self.now, None, what()));
        }
    }
    /// All that was noted about the key, and about everything.
    pub fn history(&self, key: Option<KeyIndex>) -> String {
        let lines = self.log.iter().flatten().filter(|(_, of, _)| of.is_none() || key.is_none() || *of == key);
        let mut history = String::new();
        for (at, of, what) in lines {
            let of = of.map_or(String::new(), |key| format!("key {key}: "));
            // Writing to a String cannot fail.
            let _ = writeln!(history, "{:>10.3} ms  {of}{what}", *at as f64 / 1_000.0);
        }
        history
    }
}

fn fingerprint(topology: &Topology) -> Vec<u64> {
    let mut print = Vec::new();
    for node in topology.nodes() {
        let of = match &node.role {
            Role::Master => 9,
            Role::Replica { of } => node_of(of),
        };
        print.extend([node_of(&node.id) as u64, of as u64, node.epoch]);
        print.push(u64::from(node.slots.is_empty()) * 2 + u64::from(node.failed));
    }
    print
}

pub fn id_of(node: Node) -> NodeId {
    crate::server::name(node).into()
}
pub fn node_of(id: &NodeId) -> Node {
    (0..NODES).find(|node| crate::server::name(*node) == id.as_str()).expect("a node of the run")
}
