//! A process of ours on virtual time: what `ledger::keeper` does, single-threaded. All that decides is the engine's own:
//! the book, the judge, the evidence, the watch, the merge and the store.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use redis_expiry_operator::{
    deployment::{Answer, Look},
    ledger::{Again, Book, Judgement, Naming, Purpose, judge},
    model::{Deadline, Key, ListenerId, Millis, SlotSet},
    nodes::Evidence,
    store::{Change, Entry, Epoch, Known, NodeState, Seen, Store as _, StoreError},
    topology::{self, Topology},
};

use crate::{
    connection::Link,
    network::{Line, Pid},
    resync::{Job, Synced},
    server::{KeyIndex, NODES, Node},
    truth::LifeId,
    world::{Event, World},
};

/// As in `ledger::keeper`.
const IN_FLIGHT: usize = 12_288;
const AFTER_MICROS: i64 = 1_000 + 150;
const CLOCK_MOVED_MICROS: i64 = 1_000;
const PAGE: usize = 16_384;

/// A look, and the life that it saw.
pub type Sighted = (Look, Option<LifeId>);

pub struct Process {
    pub naming: Option<Naming>,
    pub evidence: Evidence,
    pub book: Book,
    pub links: Vec<Link>,
    pub topology: Arc<Topology>,
    /// When the last master was asked that named the node what we hold it for.
    pub confirmed: [Option<i64>; NODES],
    pub polling: Polling,
    pub synced: BTreeMap<Node, Synced>,
    pub jobs: BTreeMap<Node, Job>,
    pub scanned: BTreeMap<Node, i64>,
    pub fresh: bool,
    pub next_number: u64,
    /// Requests being looked at: how many are left, and whose they are.
    pub pending: BTreeMap<u64, (usize, Node, u64)>,
    offsets: [Option<i64>; NODES],
    viewed: Vec<(bool, u64, bool, bool)>,
    viewed_topology: Arc<Topology>,
    alarm: Option<i64>,
    hinting: bool,
    store_at: i64,
    looks_at: i64,
    /// It hangs: what comes waits.
    pub hangs: bool,
    /// ... for a moment only: nobody takes over.
    pub dozes: bool,
    pub deferred: Vec<Event>,
    /// It was told to stop: asks no more.
    pub stopping: bool,
}

#[derive(Default)]
pub struct Polling {
    pub number: u64,
    pub under_way: bool,
    /// Somebody asked for it meanwhile.
    pub wanted: bool,
    pub next: Option<i64>,
    pub turn: usize,
}

/// Looks that were judged, on their way to the store.
#[derive(Clone, Debug)]
pub struct Works {
    keys: Vec<Work>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Work {
    key: Key,
    changes: std::ops::Range<usize>,
    again: Again,
    entry: Option<Seen>,
    /// It is gone, and its entry is not.
    gone: bool,
    /// The look saw this life, with a deadline.
    life: Option<LifeId>,
    judged: Sighted,
}

/// A call of the store.
#[derive(Clone, Debug)]
pub enum Call {
    Epoch,
    Known(Vec<Sighted>),
    Apply(Works),
    Page(Option<(Deadline, Key)>),
    States(Node, u64),
    Ledger(Node, u64),
    Remember(Node, u64, NodeState),
}

/// Its answer.
#[derive(Clone, Debug)]
pub enum Told {
    Epoch(Epoch, bool),
    Known(Vec<Sighted>, Vec<Known>),
    Applied(Works, Vec<bool>),
    Page(Vec<Entry>),
    States(Node, u64, Vec<NodeState>),
    Ledger(Node, u64, Vec<Entry>),
    Remembered(Node, u64),
    Fenced,
}

impl Process {
    pub fn new() -> Self {
        Self {
            naming: None,
            evidence: Evidence::new(1_000),
            book: Book::unread(),
            links: (0..NODES).map(|_| Link::default()).collect(),
            topology: Arc::default(),
            confirmed: [None; NODES],
            polling: Polling::default(),
            synced: BTreeMap::new(),
            jobs: BTreeMap::new(),
            scanned: BTreeMap::new(),
            fresh: false,
            next_number: 0,
            pending: BTreeMap::new(),
            offsets: [None; NODES],
            viewed: Vec::new(),
            viewed_topology: Arc::default(),
            alarm: None,
            hinting: false,
            store_at: 0,
            looks_at: 0,
            hangs: false,
            dozes: false,
            deferred: Vec::new(),
            stopping: false,
        }
    }
    /// As `Keeper::purpose`.
    fn purpose(&self, look: &Look) -> Purpose {
        let purpose = self.book.purpose(&look.key);
        let asked = || self.book.waiter(&look.key).and_then(|waiter| self.pending.get(&waiter));
        if purpose == Purpose::AfterGap && asked().is_none_or(|(_, node, _)| crate::world::id_of(*node) != look.node) {
            return Purpose::Ordinary;
        }
        purpose
    }
    pub fn epoch(&self) -> Epoch {
        self.naming.as_ref().map_or(Epoch(0), |naming| naming.epoch)
    }
    /// The node that we hold for the owner of the slot.
    pub fn owner(&self, world_slot: redis_expiry_operator::model::Slot) -> Option<Node> {
        self.topology.owner(world_slot).map(|node| crate::world::node_of(&node.id))
    }
}

impl World {
    pub fn start_process(&mut self) {
        let pid = self.processes.len();
        self.processes.push(Some(Process::new()));
        self.current = pid;
        self.truth.starts.push(self.now);
        self.note_all(|| format!("process {pid} starts"));
        self.call(pid, Call::Epoch);
        self.doze(pid);
    }

    pub fn process(&mut self, pid: Pid) -> Option<&mut Process> {
        self.processes.get_mut(pid).and_then(Option::as_mut)
    }

    /// Enqueues a call of the store. A crash loses what it has not got to yet.
    pub fn call(&mut self, pid: Pid, call: Call) {
        // A page of a large ledger takes its time: looks are under way meanwhile.
        let slow = if matches!(call, Call::Page(_)) { (30, 300_000) } else { (8, 30_000) };
        let delay = if self.random.percent(slow.0) {
            self.random.between(3_000, slow.1)
        } else {
            self.random.between(5, 2_000)
        };
        let now = self.now;
        let Some(process) = self.process(pid) else { return };
        process.store_at = (now + delay).max(process.store_at + 1);
        let at = process.store_at;
        self.at(at, Event::Store(pid, call));
    }

    /// The store gets to a call.
    pub fn store(&mut self, pid: Pid, call: Call) {
        let epoch = self.process(pid).map_or(Epoch(0), |process| process.epoch());
        let told = match call {
            Call::Epoch => {
                let epoch = ready(self.store.take_epoch()).expect("an epoch is always to be had");
                self.taken_over(pid);
                let fresh = ready(self.store.counts()).expect("a count").tracked == 0;
                Told::Epoch(epoch, fresh)
            }
            Call::Known(looks) => {
                let keys = looks.iter().map(|(look, _)| look.key.clone()).collect();
                Told::Known(looks, ready(self.store.known(keys)).expect("reads are never refused"))
            }
            Call::Apply(works) => self.store_works(epoch, works),
            Call::Page(from) => Told::Page(ready(self.store.due(from, PAGE)).expect("reads are never refused")),
            Call::States(node, number) => Told::States(node, number, ready(self.store.node_states()).expect("a read")),
            Call::Ledger(node, number) => {
                Told::Ledger(node, number, ready(self.store.due(None, PAGE)).expect("a read"))
            }
            Call::Remember(node, number, state) => match ready(self.store.remember_node(epoch, state)) {
                Ok(()) => Told::Remembered(node, number),
                Err(_) => Told::Fenced,
            },
        };
        let delay = self.random.between(5, 1_000);
        self.after(delay, Event::Told(pid, told));
    }

    /// Whoever has the newest epoch owns the listener: one that hung before it had any fences off its own successor.
    fn taken_over(&mut self, pid: Pid) {
        if self.current != pid {
            self.gap();
            self.truth.starts.push(self.now);
            self.current = pid;
        }
    }

    fn store_works(&mut self, epoch: Epoch, works: Works) -> Told {
        let done = match ready(self.store.apply(epoch, works.changes.clone()).done) {
            Ok(done) => done,
            Err(StoreError::Fenced { .. }) => return Told::Fenced,
            Err(error) => panic!("the memory store refused: {error}"),
        };
        for work in &works.keys {
            let whole = done[work.changes.clone()].iter().all(|done| *done);
            let key = self.index_of(&work.key);
            self.note(key, || format!("stored ({whole}): {}", told_short(&works.changes[work.changes.clone()])));
            if let (true, Some(life)) = (whole, work.life) {
                let now = self.now;
                self.truth.recorded(life, now);
            }
        }
        for (change, done) in works.changes.iter().zip(&done) {
            if let (Change::Settle { event, .. }, true) = (change, done) {
                self.settled_at.entry(event.id.clone()).or_insert(self.now);
            }
        }
        Told::Applied(works, done)
    }

    pub fn told(&mut self, pid: Pid, told: Told) {
        match told {
            Told::Epoch(epoch, fresh) => self.opened(pid, epoch, fresh),
            Told::Fenced => {
                self.note_all(|| format!("process {pid} is fenced off and stops"));
                self.stop_process(pid);
            }
            Told::Known(looks, known) => self.judged(pid, looks.into_iter().zip(known).collect()),
            Told::Applied(works, done) => self.applied(pid, &works, &done),
            Told::Page(page) => {
                let Some(mut process) = self.processes[pid].take() else { return };
                process.book.read(page, |_, deadline| self.fire(&process.topology, &process.links, deadline));
                self.processes[pid] = Some(process);
            }
            Told::States(node, number, states) => self.job_states(pid, node, number, &states),
            Told::Ledger(node, number, entries) => self.job_ledger(pid, node, number, entries),
            Told::Remembered(node, number) => self.job_done(pid, node, number),
        }
    }

    fn opened(&mut self, pid: Pid, epoch: Epoch, fresh: bool) {
        let inferred = self.inferred;
        let Some(process) = self.process(pid) else { return };
        process.naming = Some(Naming { listener: ListenerId::new("shop", "orders"), database: 0, inferred, epoch });
        process.fresh = fresh;
        self.poll(pid);
        self.after(50_000, Event::Tick(pid));
        self.after(250_000, Event::KeeperTick(pid));
        self.read_on(pid);
    }

    /// Ends a process without a word.
    pub fn stop_process(&mut self, pid: Pid) {
        let lines: Vec<Line> = self.lines.keys().copied().filter(|line| line.pid == pid).collect();
        for line in lines {
            self.cut(line, false);
        }
        self.processes[pid] = None;
    }

    fn read_on(&mut self, pid: Pid) {
        let now = Millis(self.ours().div_euclid(1_000));
        let Some(process) = self.process(pid) else { return };
        if let Some(from) = process.book.wants_page(now) {
            let from = (from.0.0 != i64::MIN).then_some(from);
            self.call(pid, Call::Page(from));
        }
    }

    /// When to ask about a key, by our clock.
    fn fire(&self, topology: &Topology, links: &[Link], deadline: Deadline) -> i64 {
        let owner = topology.owner(self.slot).map(|node| crate::world::node_of(&node.id));
        let offset = owner.and_then(|node| links[node].offset).unwrap_or(0);
        deadline.0 * 1_000 + AFTER_MICROS - offset
    }

    /// After each event of a process: hints, deadlines, a changed view.
    pub fn pump(&mut self, pid: Pid) {
        self.view_changed(pid);
        self.read_on(pid);
        let ours = self.ours();
        let wait = self.random.between(5, 300);
        let Some(process) = self.process(pid) else { return };
        if !process.evidence.is_empty() && !process.hinting {
            process.hinting = true;
            self.after(wait, Event::Hints(pid));
        }
        let Some(process) = self.process(pid) else { return };
        if let Some(next) = process.book.next().filter(|_| !process.stopping) {
            let at = next.max(ours);
            if process.alarm.is_none_or(|alarm| at < alarm || alarm <= ours) {
                process.alarm = Some(at);
                let late = self.random.between(1, 200);
                self.after(at - ours + late, Event::Alarm(pid));
            }
        }
    }

    pub fn alarm(&mut self, pid: Pid) {
        let ours = self.ours();
        let Some(process) = self.process(pid) else { return };
        if process.alarm.is_some_and(|alarm| alarm <= ours) {
            process.alarm = None;
        }
        if process.stopping {
            return;
        }
        let keys = process.book.fall_due(ours, IN_FLIGHT);
        self.ask(pid, keys);
    }

    pub fn hints(&mut self, pid: Pid) {
        let Some(process) = self.process(pid) else { return };
        process.hinting = false;
        if process.stopping {
            return;
        }
        let mut keys = process.evidence.hints(IN_FLIGHT);
        keys.retain(|key| process.book.want(key, Purpose::Ordinary, None));
        self.ask(pid, keys);
    }

    /// Looks on their way from a connection to the keeper.
    pub fn tell(&mut self, pid: Pid, looks: Vec<Sighted>) {
        let wait = self.random.between(5, 300);
        let now = self.now;
        let Some(process) = self.process(pid) else { return };
        process.looks_at = (now + wait).max(process.looks_at + 1);
        let at = process.looks_at;
        self.at(at, Event::Looked(pid, looks));
    }

    pub fn looked(&mut self, pid: Pid, looks: Vec<Sighted>) {
        let ours = self.ours();
        let Some(process) = self.process(pid) else { return };
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for (look, life) in looks {
            if let Answer::None(_) = look.answer {
                process.book.no_answer(&look.key, |times| ours + (5_000 << times.saturating_sub(1).min(5)));
                continue;
            }
            match guess(&process.book, &look) {
                Some(guess) => known.push(((look, life), guess)),
                None => unknown.push((look, life)),
            }
        }
        self.judged(pid, known);
        if !unknown.is_empty() {
            self.call(pid, Call::Known(unknown));
        }
    }

    fn judged(&mut self, pid: Pid, looks: Vec<(Sighted, Known)>) {
        let at = Millis(self.ours().div_euclid(1_000));
        if looks.is_empty() || self.process(pid).is_none() {
            return;
        }
        let mut works = Works { keys: Vec::new(), changes: Vec::new() };
        for ((mut look, life), known) in looks {
            if !self.seen_whole(pid, crate::world::node_of(&look.node)) {
                look.used.in_gap();
            }
            let process = self.process(pid).expect("it was there");
            let purpose = process.purpose(&look);
            let naming = process.naming.as_ref().expect("looks come after the epoch");
            let Judgement { changes, again, entry } = judge(naming, known, &look, purpose, at);
            let gone = look.answer == Answer::Gone && entry.is_some_and(|seen| !seen.absent);
            let from = works.changes.len();
            let key = self.index_of(&look.key);
            self.note(key, || {
                let heard: Vec<String> = look.used.heard.iter().map(|one| format!("{:?} of {}", one.sort, one.node)).collect();
                let Look { node, answer, now, used, .. } = &look;
                let (birth, now) = (used.earlier_birth.map_or(0, |at| at.0 % 100_000), now.0 % 100_000);
                format!(
                    "process {pid} judges {answer:?} of {node} at {now} ({purpose:?}), after {heard:?} and a birth at {birth}, knowing {known:?}: {}",
                    told_short(&changes)
                )
            });
            works.changes.extend(changes);
            let recorded = life.filter(|_| matches!(look.answer, Answer::Alive(Some(_))));
            let (key, changes) = (look.key.clone(), from..works.changes.len());
            works.keys.push(Work { key, changes, again, entry, gone, life: recorded, judged: (look, life) });
        }
        if works.changes.is_empty() {
            for life in works.keys.iter().filter_map(|work| work.life) {
                let now = self.now;
                self.truth.recorded(life, now);
            }
            return self.applied(pid, &works, &[]);
        }
        self.call(pid, Call::Apply(works));
    }

    /// As `Keeper::seen_whole`.
    fn seen_whole(&mut self, pid: Pid, node: Node) -> bool {
        let process = self.process(pid).expect("it was there");
        let Some(row) = process.topology.node(&crate::world::id_of(node)) else { return false };
        let (link, epoch, slots) = (&process.links[node], row.epoch, row.slots.clone());
        process.synced.get(&node).is_some_and(|synced| {
            let same = synced.continuity == link.continuity() && synced.epoch == epoch;
            link.open() && same && slots.minus(&synced.slots).is_empty()
        })
    }

    fn applied(&mut self, pid: Pid, works: &Works, done: &[bool]) {
        let ours = self.ours();
        let Some(mut process) = self.processes[pid].take() else { return };
        let mut again = Vec::new();
        let mut refused = Vec::new();
        let mut waiters = Vec::new();
        for work in &works.keys {
            let whole = done.get(work.changes.clone()).is_none_or(|done| done.iter().all(|done| *done));
            if !whole {
                // The book knew less than the store: the same look is judged once more.
                refused.push(work.judged.clone());
                continue;
            }
            let entry = work.entry;
            let fire = match work.again {
                Again::At(deadline) => Some(self.fire(&process.topology, &process.links, deadline).max(ours + 1_000)),
                Again::No | Again::Soon => None,
            };
            let (told, repeat) = process.book.done(&work.key, entry, fire);
            waiters.extend(told.into_iter().map(|waiter| (waiter, work.gone.then(|| work.key.clone()))));
            if repeat {
                again.push(work.key.clone());
            }
        }
        self.processes[pid] = Some(process);
        for (waiter, gone) in waiters {
            self.looked_at(pid, waiter, gone);
        }
        self.ask(pid, again);
        if !refused.is_empty() {
            self.call(pid, Call::Known(refused));
        }
    }

    /// Something about the nodes has changed.
    fn view_changed(&mut self, pid: Pid) {
        let Some(process) = self.process(pid) else { return };
        let now: Vec<_> = process
            .links
            .iter()
            .map(|link| (link.open(), link.continuity(), link.trusted, link.notifications.sufficient))
            .collect();
        let moved = !Arc::ptr_eq(&process.topology, &process.viewed_topology);
        if !moved && now == process.viewed {
            return;
        }
        let opened = now.iter().zip(&process.viewed).any(|(now, before)| now.0 && !before.0);
        (process.viewed, process.viewed_topology) = (now, Arc::clone(&process.topology));
        let (links, topology) = (&process.links, Arc::clone(&process.topology));
        let drives = |node: &Node| {
            links[*node].open() && topology.node(&crate::world::id_of(*node)).is_some_and(topology::Node::drives)
        };
        process.jobs.retain(|node, _| drives(node));
        process.synced.retain(|node, _| topology.node(&crate::world::id_of(*node)).is_some_and(topology::Node::drives));
        if moved {
            self.rearm(pid);
        }
        let ours = self.ours();
        let Some(process) = self.process(pid) else { return };
        if moved || opened {
            process.book.retry_all(ours);
        }
        self.resync(pid);
    }

    fn rearm(&mut self, pid: Pid) {
        let Some(mut process) = self.processes[pid].take() else { return };
        for (node, link) in process.links.iter().enumerate() {
            process.offsets[node] = link.offset;
        }
        process.book.rearm(|_, deadline| self.fire(&process.topology, &process.links, deadline));
        self.processes[pid] = Some(process);
    }

    pub fn keeper_tick(&mut self, pid: Pid) {
        let now = Millis(self.ours().div_euclid(1_000));
        let Some(process) = self.process(pid) else { return };
        let moved = process.links.iter().zip(&process.offsets).any(|(link, before)| match (link.offset, before) {
            (Some(now), Some(before)) => (now - before).abs() > CLOCK_MOVED_MICROS,
            (now, before) => now.is_some() != before.is_some(),
        });
        process.evidence.fade(now);
        if moved {
            self.rearm(pid);
        }
        self.resync(pid);
        self.after(250_000, Event::KeeperTick(pid));
    }

    pub fn index_of(&self, key: &Key) -> KeyIndex {
        self.keys.iter().position(|other| other == key).expect("a key of the run")
    }
    pub fn slots(&self) -> SlotSet {
        [self.slot].into_iter().collect()
    }
}

/// As `Keeper::guess`.
fn guess(book: &Book, look: &Look) -> Option<Known> {
    if let Some(seen) = book.seen(&look.key) {
        return Some(Known { entry: Some(seen), memory: None });
    }
    let removal = look.heard_removal();
    let recorded = matches!(look.answer, Answer::Alive(Some(_)));
    (!removal && (recorded || book.complete())).then(Known::default)
}

fn told_short(changes: &[Change]) -> String {
    let short = |change: &Change| match change {
        Change::Settle { event, .. } => format!("settle {:?} {}", event.evidence, event.deadline.0 % 100_000),
        Change::Record { deadline, .. } => format!("record {}", deadline.0 % 100_000),
        Change::Forget { .. } => "forget".into(),
        Change::MarkAbsent { .. } => "mark absent".into(),
    };
    format!("[{}]", changes.iter().map(short).collect::<Vec<_>>().join(", "))
}

/// The memory store answers at once.
pub fn ready<T>(reply: impl Future<Output = T>) -> T {
    reply.now_or_never().expect("the memory store answers at once")
}
