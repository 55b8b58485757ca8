//! What `nodes::session` and `deployment::main` do, single-threaded: pushes into the evidence, looks out of it, the watch,
//! and the topology.

use std::{collections::VecDeque, sync::Arc};

use redis_expiry_operator::{
    deployment::{Answer, Heard, Look, NoAnswer, Sort},
    model::{Address, Key, Millis},
    nodes::{Answering, Offsets, Standing, Used, Verdict, Watch},
    topology::{self, Topology},
};

use crate::{
    network::{Frame, Line, Pid, Question, Said},
    process::Sighted,
    resync::Errand,
    server::{KeyIndex, NODES, Node},
    truth::LifeId,
    world::{Event, World, id_of, node_of},
};

/// As in `nodes::session`.
const OPENING: i64 = 1_000_000;
const ANSWER_WITHIN: i64 = 500_000;
const BEAT: i64 = 500_000;

/// A node, as a process of ours has it.
#[derive(Default)]
pub struct Link {
    pub connection: Option<Connection>,
    continuity: u64,
    pub trusted: bool,
    pub offset: Option<i64>,
    pub notifications: Notifications,
    failures: u32,
    seen: (u64, bool),
}

#[derive(Default)]
pub struct Notifications {
    pub sufficient: bool,
    known: bool,
    lapses: u64,
}

pub struct Connection {
    pub line: Line,
    began: i64,
    greeted: bool,
    since: Option<Millis>,
    watch: Watch,
    lapses: u64,
    offsets: Offsets,
    expected: VecDeque<Expected>,
    batches: VecDeque<Batch>,
    /// Under client tracking: not asked yet. `None`: given up.
    waiting: VecDeque<Option<Batch>>,
    /// Under client tracking: answered, and what happened before may not have been told yet.
    answered: VecDeque<(Batch, i64)>,
    last_beat: i64,
}

enum Expected {
    Key,
    Barrier,
    Told,
    Begun,
    Flushed,
    Beat(i64),
}

struct Batch {
    keys: Vec<Key>,
    asking: bool,
    asked: i64,
    /// In an earlier turn, by the node's clock.
    begun: i64,
    replies: Vec<(Said, u64, Option<Used>)>,
    master: bool,
    over: bool,
}

impl Link {
    pub fn open(&self) -> bool {
        self.trusted && self.connection.as_ref().is_some_and(|connection| connection.since.is_some())
    }
    pub fn continuity(&self) -> u64 {
        self.continuity + self.notifications.lapses
    }
}

impl World {
    pub fn connect(&mut self, pid: Pid, node: Node) {
        let line = self.open_line(pid, node);
        let (began, instant) = (self.now, self.instant());
        let Some(process) = self.process(pid) else { return };
        process.links[node].connection = Some(Connection {
            line,
            began,
            greeted: false,
            since: None,
            watch: Watch::new(instant),
            lapses: 0,
            offsets: Offsets::default(),
            expected: VecDeque::new(),
            batches: VecDeque::new(),
            waiting: VecDeque::new(),
            answered: VecDeque::new(),
            last_beat: began,
        });
        if self.servers[node].alive {
            self.send(line, Question::Hello);
        } else {
            self.cut(line, true);
        }
    }

    /// A connection has ended: its looks get no answer, and it is opened again a little later.
    pub fn ended(&mut self, line: Line) {
        let Line { pid, node, .. } = line;
        let Some(process) = self.process(pid) else { return };
        let link = &mut process.links[node];
        let Some(connection) = link.connection.take_if(|connection| connection.line == line) else { return };
        link.trusted = false;
        link.failures = if connection.greeted { 1 } else { link.failures + 1 };
        let most = (20i64 << link.failures.min(5)).min(500);
        let waiting = connection.waiting.into_iter().flatten();
        for batch in waiting.chain(connection.answered.into_iter().map(|(batch, _)| batch)).chain(connection.batches) {
            self.give_up(pid, node, batch, &NoAnswer::Disconnected);
        }
        self.cut(line, false);
        let backoff = self.random.between(most / 4, most) * 1_000;
        self.after(backoff, Event::Connect(pid, node));
        self.refresh(pid);
    }

    fn give_up(&mut self, pid: Pid, node: Node, batch: Batch, why: &NoAnswer) {
        if batch.over {
            return;
        }
        let Some(process) = self.process(pid) else { return };
        for (key, (_, _, used)) in batch.keys.iter().zip(batch.replies) {
            if let Some(used) = used {
                process.evidence.put_back(key, used);
            }
        }
        self.no_answer(pid, node, batch.keys, why);
    }

    fn no_answer(&mut self, pid: Pid, node: Node, keys: Vec<Key>, why: &NoAnswer) {
        let now = Millis(self.ours().div_euclid(1_000));
        let look = |key: Key| {
            let answer = Answer::None(why.clone());
            (Look { key, node: id_of(node), answer, now, used: Used::default() }, None)
        };
        let looks: Vec<Sighted> = keys.into_iter().map(look).collect();
        self.tell(pid, looks);
    }

    /// As `Port::ask`.
    pub fn ask(&mut self, pid: Pid, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        let slot = self.slot;
        let Some(process) = self.process(pid) else { return };
        match process.owner(slot) {
            None => {
                self.no_answer(pid, 0, keys, &NoAnswer::NotOwner);
                self.refresh(pid);
            }
            Some(node) => self.ask_node(pid, node, keys, false),
        }
    }

    fn ask_node(&mut self, pid: Pid, node: Node, keys: Vec<Key>, asking: bool) {
        let (now, tracking) = (self.now, self.tracking);
        let Some(process) = self.process(pid) else { return };
        let Some(connection) = process.links[node].connection.as_mut().filter(|connection| connection.greeted) else {
            return self.no_answer(pid, node, keys, &NoAnswer::Disconnected);
        };
        let line = connection.line;
        let batch = Batch { keys, asking, asked: now, begun: i64::MIN, replies: Vec::new(), master: true, over: false };
        if tracking {
            connection.expected.push_back(Expected::Begun);
            connection.waiting.push_back(Some(batch));
            return self.send(line, Question::Time);
        }
        self.look(line, batch);
    }

    fn look(&mut self, line: Line, batch: Batch) {
        let asking = batch.asking;
        let indices: Vec<KeyIndex> = batch.keys.iter().map(|key| self.index_of(key)).collect();
        let process = self.processes[line.pid].as_mut().expect("it asks");
        let connection = process.links[line.node].connection.as_mut().expect("it is open");
        connection.expected.extend(batch.keys.iter().map(|_| Expected::Key));
        connection.expected.push_back(Expected::Barrier);
        connection.batches.push_back(batch);
        for key in indices {
            self.send(line, Question::Key { key, asking });
        }
        self.linger(line);
        self.send(line, Question::Time);
    }

    /// A frame has arrived.
    pub fn arrived(&mut self, line: Line, frame: Frame) {
        let Line { pid, node, .. } = line;
        let (instant, at, topology) = (self.instant(), self.ours(), self.topology_of(pid));
        if !self.is_open(line) {
            return;
        }
        let Some(process) = self.process(pid) else { return };
        let Some(connection) = process.links[node].connection.as_mut().filter(|connection| connection.line == line)
        else {
            return;
        };
        connection.watch.heard(instant);
        match frame {
            Frame::Hello => {
                connection.greeted = true;
                connection.began = at;
                connection.watch = Watch::new(instant);
                self.guided(pid);
                self.beat(pid, node);
                self.send(line, Question::Subscribe);
            }
            Frame::Subscribed => {
                connection.since = Some(Millis(at.div_euclid(1_000)));
                process.links[node].continuity += 1;
                self.refresh(pid);
            }
            Frame::SlotLeft => self.refresh(pid),
            Frame::Push { key, sort, life } => self.pushed(line, key, sort, life, &topology),
            Frame::Flushed => self.flushed(line),
            Frame::Answer(said) => match connection.expected.pop_front() {
                Some(Expected::Told) => self.told_all(line, !matches!(said, Said::Moved), &topology),
                Some(Expected::Key) => self.key_answered(line, said),
                _ => panic!("an answer to nothing"),
            },
            Frame::Time(theirs) => match connection.expected.pop_front() {
                Some(Expected::Beat(sent)) => {
                    let offset = connection.offsets.exchange(sent, at, theirs);
                    process.links[node].offset = Some(offset);
                }
                Some(Expected::Barrier) => self.barrier(line, theirs, &topology),
                Some(Expected::Begun) => {
                    if let Some(Some(batch)) = connection.waiting.pop_front() {
                        self.look(line, Batch { begun: theirs, ..batch });
                    }
                }
                Some(Expected::Flushed) => {
                    connection.since = connection.since.map(|_| Millis(at.div_euclid(1_000)));
                }
                Some(Expected::Told) => self.told_all(line, true, &topology),
                other => panic!("a TIME that nobody asked for, or a key's answer is missing: {}", other.is_some()),
            },
        }
        self.watched(pid, node);
    }

    fn topology_of(&mut self, pid: Pid) -> Arc<Topology> {
        self.process(pid).map(|process| Arc::clone(&process.topology)).unwrap_or_default()
    }

    fn trusted_master(connection: &Connection, node: Node, topology: &Topology) -> bool {
        !connection.watch.suspect() && topology.node(&id_of(node)).is_some_and(topology::Node::is_master)
    }

    fn pushed(&mut self, line: Line, key: KeyIndex, sort: Sort, life: Option<LifeId>, topology: &Topology) {
        let Line { pid, node, .. } = line;
        let (at, slot, now) = (self.ours(), self.slot, self.now);
        let name = self.keys[key].clone();
        let process = self.process(pid).expect("it got a frame");
        let link = &process.links[node];
        let connection = link.connection.as_ref().expect("it got a frame");
        let master = Self::trusted_master(connection, node, topology);
        let suspect = connection.watch.suspect();
        let standing = Standing { master, owner: master && topology.owns(&id_of(node), slot), suspect };
        let heard = Heard {
            sort,
            node: id_of(node),
            at: Millis(at.div_euclid(1_000)),
            server_at: Millis(connection.offsets.latest(at).unwrap_or(at).div_euclid(1_000)),
        };
        process.evidence.hear(&name, heard, standing).expect("a few keys do not fill the evidence");
        if let (Sort::Born | Sort::Changed, true, Some(life)) = (sort, standing.master, life) {
            self.truth.heard(life, now);
        }
        self.note(key, || format!("process {pid} hears {sort:?} from {} ({standing:?})", crate::server::name(node)));
    }

    fn key_answered(&mut self, line: Line, said: Said) {
        let process = self.processes[line.pid].as_mut().expect("it got a frame");
        let connection = process.links[line.node].connection.as_mut().expect("it got a frame");
        let since = connection.since.unwrap_or(Millis(i64::MAX));
        let batch = connection.batches.front_mut().expect("an answer belongs to a batch");
        if batch.over {
            return batch.replies.push((said, 0, None));
        }
        let key = &batch.keys[batch.replies.len()];
        let mark = process.evidence.mark();
        let used = matches!(said, Said::Alive(..))
            .then(|| process.evidence.take(key, Answering { node: &id_of(line.node), since }, mark));
        batch.replies.push((said, mark, used));
    }

    fn barrier(&mut self, line: Line, theirs: i64, topology: &Topology) {
        let tracking = self.tracking;
        let process = self.processes[line.pid].as_mut().expect("it got a frame");
        let connection = process.links[line.node].connection.as_mut().expect("it got a frame");
        let batch = connection.batches.pop_front().expect("a barrier ends a batch");
        if tracking && !batch.over {
            // As `Core::ask_told`.
            let mut answered = batch.keys.iter().zip(&batch.replies);
            let gone = answered.find(|(_, (said, ..))| matches!(said, Said::Gone)).map(|(key, _)| key.clone());
            let asking = batch.asking;
            connection.expected.push_back(Expected::Told);
            connection.answered.push_back((batch, theirs));
            let question = gone.map_or(Question::Time, |key| Question::Key { key: self.index_of(&key), asking });
            return self.send(line, question);
        }
        self.conclude(line, batch, theirs, topology);
    }

    /// Whatever happened before the barrier has been told.
    fn told_all(&mut self, line: Line, master: bool, topology: &Topology) {
        let process = self.processes[line.pid].as_mut().expect("it got a frame");
        let connection = process.links[line.node].connection.as_mut().expect("it got a frame");
        let (mut batch, theirs) = connection.answered.pop_front().expect("it was answered");
        batch.master = master;
        if !master {
            self.refresh(line.pid);
        }
        self.conclude(line, batch, theirs, topology);
    }

    /// As `Core::flushed`.
    fn flushed(&mut self, line: Line) {
        let Line { pid, node, .. } = line;
        let at = Millis(self.ours().div_euclid(1_000));
        let link = &mut self.processes[pid].as_mut().expect("it got a frame").links[node];
        link.continuity += 1;
        let connection = link.connection.as_mut().expect("it got a frame");
        connection.since = connection.since.map(|_| at);
        connection.expected.push_back(Expected::Flushed);
        self.send(line, Question::Time);
        self.give_up_those(pid, node, &NoAnswer::Disconnected, |_| true);
    }

    /// As `Core::give_up_those`.
    fn give_up_those(&mut self, pid: Pid, node: Node, why: &NoAnswer, concerns: impl Fn(i64) -> bool) {
        let Some(process) = self.process(pid) else { return };
        let Some(connection) = &mut process.links[node].connection else { return };
        let waiting = connection.waiting.iter_mut();
        let waited = waiting.filter_map(|one| one.take_if(|batch| concerns(batch.asked)));
        let mut given_up: Vec<Vec<Key>> = waited.map(|batch| batch.keys).collect();
        for batch in connection.answered.iter_mut().map(|(batch, _)| batch).chain(&mut connection.batches) {
            if !batch.over && concerns(batch.asked) {
                batch.over = true;
                for (key, (_, _, used)) in batch.keys.iter().zip(&mut batch.replies) {
                    if let Some(used) = used.take() {
                        process.evidence.put_back(key, used);
                    }
                }
                given_up.push(batch.keys.clone());
            }
        }
        for keys in given_up {
            self.no_answer(pid, node, keys, why);
        }
    }

    fn conclude(&mut self, line: Line, batch: Batch, theirs: i64, topology: &Topology) {
        let Line { pid, node, .. } = line;
        let (now, slot, ours) = (self.now, self.slot, self.ours());
        let process = self.processes[pid].as_mut().expect("it got a frame");
        let connection = process.links[node].connection.as_mut().expect("it got a frame");
        if batch.over {
            return;
        }
        let late = now - batch.asked > ANSWER_WITHIN;
        let trusted = Self::trusted_master(connection, node, topology);
        let since = connection.since.unwrap_or(Millis(i64::MAX));
        let suspect = connection.watch.suspect();
        let (mut looks, mut redirected, mut refresh) = (Vec::new(), Vec::new(), false);
        for (key, (said, mark, used)) in batch.keys.into_iter().zip(batch.replies) {
            let refused = if late {
                Some(NoAnswer::Late)
            } else if suspect {
                Some(NoAnswer::Suspect)
            } else if !trusted || !batch.master || !(batch.asking || topology.owns(&id_of(node), slot)) {
                Some(NoAnswer::NotOwner)
            } else {
                None
            };
            let mut life = None;
            let answer = match (refused, said) {
                (Some(why), _) => Answer::None(why),
                (None, Said::Alive(deadline, seen)) => {
                    life = Some(seen);
                    Answer::Alive(deadline.map(Millis))
                }
                (None, Said::Gone) => Answer::Gone,
                (None, Said::Ask(to)) if !batch.asking => {
                    refresh = true;
                    redirected.push((key, to));
                    continue;
                }
                (None, Said::Moved | Said::Ask(_)) => {
                    refresh = true;
                    Answer::None(NoAnswer::NotOwner)
                }
            };
            let used = match (&answer, used) {
                (Answer::None(_), Some(used)) => {
                    process.evidence.put_back(&key, used);
                    Used::default()
                }
                (Answer::None(_), None) => Used::default(),
                (_, Some(used)) => used,
                (_, None) => {
                    let used = process.evidence.take(&key, Answering { node: &id_of(node), since }, mark);
                    let millis = |micros: i64| Millis(micros.div_euclid(1_000));
                    used.heard_by(millis(ours), millis(theirs), millis(batch.begun))
                }
            };
            let now = Millis(theirs.div_euclid(1_000));
            looks.push((Look { key, node: id_of(node), answer, now, used }, life));
        }
        if refresh {
            self.refresh(pid);
        }
        if !looks.is_empty() {
            self.tell(pid, looks);
        }
        for (key, to) in redirected {
            self.ask_node(pid, to, vec![key], true);
        }
    }

    /// Every 50 ms: what is late, what is silent.
    pub fn tick(&mut self, pid: Pid) {
        let now = self.now;
        for node in 0..NODES {
            let verdict = self.watched(pid, node);
            let Some(process) = self.process(pid) else { return };
            let Some(connection) = &mut process.links[node].connection else { continue };
            let line = connection.line;
            if verdict == Some(Verdict::Dead) || (!connection.greeted && now - connection.began > OPENING) {
                self.ended(line);
                continue;
            }
            let beat = connection.greeted && now - connection.last_beat >= BEAT;
            self.give_up_those(pid, node, &NoAnswer::Late, |asked| now - asked > ANSWER_WITHIN);
            if beat {
                self.beat(pid, node);
            }
        }
        self.after(50_000, Event::Tick(pid));
    }

    fn beat(&mut self, pid: Pid, node: Node) {
        let (now, ours) = (self.now, self.ours());
        let Some(process) = self.process(pid) else { return };
        let Some(connection) = &mut process.links[node].connection else { return };
        connection.last_beat = now;
        connection.expected.push_back(Expected::Beat(ours));
        let line = connection.line;
        self.send(line, Question::Time);
    }

    /// As `Core::watched`.
    fn watched(&mut self, pid: Pid, node: Node) -> Option<Verdict> {
        let instant = self.instant();
        let process = self.process(pid)?;
        let link = &mut process.links[node];
        let connection = link.connection.as_mut().filter(|connection| connection.greeted)?;
        let verdict = connection.watch.verdict(instant);
        let lapsed = connection.watch.lapses() - connection.lapses;
        connection.lapses += lapsed;
        link.continuity += lapsed;
        link.trusted = connection.since.is_some() && verdict == Verdict::Trusted;
        // The settings are read again when a connection is new or its node promoted.
        let master = process.topology.node(&id_of(node)).is_some_and(topology::Node::is_master);
        let now = (process.links[node].continuity, master);
        if std::mem::replace(&mut process.links[node].seen, now) != now {
            self.errand(pid, node, 0, Errand::Flags);
        }
        if lapsed > 0 {
            self.refresh(pid);
        }
        Some(verdict)
    }

    /// As `Core::guided`, on every connection.
    fn guided(&mut self, pid: Pid) {
        let started = self.started;
        let Some(process) = self.process(pid) else { return };
        for node in 0..NODES {
            if let (Some(asked_at), Some(connection)) = (process.confirmed[node], &mut process.links[node].connection) {
                let asked_at =
                    started + std::time::Duration::from_micros(u64::try_from(asked_at).expect("time is positive"));
                connection.watch.confirmed(asked_at);
            }
        }
        for node in 0..NODES {
            self.watched(pid, node);
        }
    }

    pub fn read_flags(&mut self, pid: Pid, node: Node) {
        if self.process(pid).is_some() {
            self.errand(pid, node, 0, Errand::Flags);
            self.after(2_000_000, Event::ReadFlags(pid, node));
        }
    }

    /// As `clerk::note`.
    pub fn flags_read(&mut self, pid: Pid, node: Node, on: bool) {
        let Some(process) = self.process(pid) else { return };
        let notifications = &mut process.links[node].notifications;
        notifications.lapses += u64::from(on && notifications.known && !notifications.sufficient);
        (notifications.sufficient, notifications.known) = (on, true);
    }

    /// Somebody has reason to doubt the topology.
    pub fn refresh(&mut self, pid: Pid) {
        let Some(process) = self.process(pid) else { return };
        process.polling.wanted = true;
        if !process.polling.under_way {
            self.poll_in(pid, 10_000);
        }
    }

    /// Sets when the topology is read next, if that is not to be sooner.
    fn poll_in(&mut self, pid: Pid, micros: i64) {
        let at = self.now + micros;
        let Some(process) = self.process(pid) else { return };
        if process.polling.next.is_none_or(|next| at < next) {
            process.polling.next = Some(at);
            self.at(at, Event::Poll(pid, at));
        }
    }

    pub fn poll_due(&mut self, pid: Pid, at: i64) {
        if self.process(pid).is_some_and(|process| process.polling.next == Some(at)) {
            self.poll(pid);
        }
    }

    /// As `Discovery::look`: two nodes are asked, doubted ones last.
    pub fn poll(&mut self, pid: Pid) {
        let Some(process) = self.process(pid) else { return };
        process.polling.under_way = true;
        (process.polling.next, process.polling.wanted) = (None, false);
        process.polling.number += 1;
        process.polling.turn += 1;
        let (turn, number) = (process.polling.turn, process.polling.number);
        let mut order: Vec<Node> = (0..NODES).map(|node| (node + turn) % NODES).collect();
        let topology = Arc::clone(&process.topology);
        let row = |node: Node| topology.node(&id_of(node));
        order.retain(|node| row(*node).is_none_or(|row| !row.failed));
        order.sort_by_key(|node| (!process.links[*node].open(), !row(*node).is_some_and(topology::Node::is_master)));
        self.ask_wave(pid, number, order, Vec::new());
    }

    fn ask_wave(&mut self, pid: Pid, number: u64, mut order: Vec<Node>, got: Vec<(i64, Node, usize)>) {
        let wave: Vec<Node> = order.drain(..order.len().min(2 - got.len())).collect();
        let asked_at = self.now;
        let mut over = 0;
        for node in &wave {
            let there = self.random.delay();
            self.after(there, Event::PollAt { pid, number, node: *node, asked_at });
            // Half a second at most, or until it has answered for sure.
            over = over.max(if self.servers[*node].serves() { 60_000 } else { 500_000 });
        }
        let Some(process) = self.process(pid) else { return };
        process.polling.number = number;
        self.polls.insert((pid, number), got);
        let over = if self.random.percent(80) { over.min(3_000) } else { over };
        let over = if wave.iter().any(|node| !self.servers[*node].serves()) { 500_000 } else { over };
        self.after(over, Event::PollOver { pid, number, order });
    }

    /// A node is asked for the topology: it says what it knows.
    pub fn poll_at(&mut self, pid: Pid, number: u64, node: Node, asked_at: i64) {
        if self.servers[node].alive
            && let Some(got) = self.polls.get_mut(&(pid, number))
            && self.now - asked_at < 500_000
        {
            got.push((asked_at, node, self.servers[node].seen));
        }
    }

    pub fn poll_over(&mut self, pid: Pid, number: u64, order: Vec<Node>) {
        let Some(got) = self.polls.remove(&(pid, number)) else { return };
        if got.len() < 2 && !order.is_empty() {
            return self.ask_wave(pid, number, order, got);
        }
        let Some(process) = self.process(pid) else { return };
        process.polling.under_way = false;
        if !got.is_empty() {
            self.sighted(pid, &got);
        }
        let Some(process) = self.process(pid) else { return };
        let wrong = (0..NODES).any(|node| {
            let failed = process.topology.node(&id_of(node)).is_some_and(|row| row.failed && row.slots.is_empty());
            !failed && !process.links[node].open()
        });
        let wanted = process.polling.wanted;
        self.poll_in(
            pid,
            if wanted {
                10_000
            } else if wrong {
                100_000
            } else {
                1_000_000
            },
        );
    }

    fn sighted(&mut self, pid: Pid, got: &[(i64, Node, usize)]) {
        let views: Vec<topology::View> = got.iter().map(|(_, node, version)| self.view(*node, *version)).collect();
        let known = self.topology_of(pid);
        let topology = Self::merged(&known, &views);
        let process = self.process(pid).expect("it has asked");
        for ((asked_at, ..), view) in got.iter().zip(&views) {
            for id in topology.confirmed_by(view) {
                let latest = &mut process.confirmed[node_of(&id)];
                *latest = Some(latest.map_or(*asked_at, |latest| latest.max(*asked_at)));
            }
        }
        let first = known.nodes().is_empty();
        let master =
            |topology: &topology::Topology, node| topology.node(&id_of(node)).is_some_and(topology::Node::is_master);
        for node in 0..NODES {
            if master(&process.topology, node) && !master(&topology, node) {
                process.evidence.demoted(&id_of(node));
            }
        }
        process.topology = topology;
        if first {
            for node in 0..NODES {
                self.connect(pid, node);
                self.read_flags(pid, node);
            }
        }
        self.guided(pid);
    }

    fn view(&self, node: Node, version: usize) -> topology::View {
        let row = |(index, row): (Node, &crate::server::Row)| topology::Row {
            id: id_of(index),
            announced: vec![Address::new(crate::server::name(index), 6379)],
            replica_of: row.replica_of.map(id_of),
            slots: if row.owns { self.slots() } else { redis_expiry_operator::model::SlotSet::default() },
            epoch: row.epoch,
            failed: row.failed,
            moving: false,
        };
        let rows = self.configs[version].iter().enumerate().map(row).collect();
        topology::View { myself: Some(id_of(node)), rows }
    }
}
