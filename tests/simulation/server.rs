//! The model of Redis (facts/redis.md sections 1, 2 and 7): three nodes, one slot under test, asynchronous replication.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use redis_expiry_operator::nodes::Sort;

use crate::{
    network::{Frame, Line, Question, Said},
    truth::{End, LifeId},
    world::{Event, World},
};

/// An index into [`World::servers`].
pub type Node = usize;
/// An index into the keys of the run.
pub type KeyIndex = usize;

pub const NODES: usize = 3;
/// The shard under test is `A` and its replica `B`; `C` is another shard's master.
pub const A: Node = 0;
pub const B: Node = 1;
pub const C: Node = 2;

#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Milliseconds of the node's clock.
    pub deadline: Option<i64>,
    pub life: LifeId,
}

#[derive(Clone, Debug)]
pub enum Command {
    Put(KeyIndex, Value),
    Delete(KeyIndex),
    Flush,
}

/// What a node holds the cluster for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub replica_of: Option<Node>,
    pub epoch: u64,
    pub owns: bool,
    pub failed: bool,
}

pub type Config = Vec<Row>;

pub fn owner_in(config: &Config) -> Option<Node> {
    (0..NODES).find(|node| config[*node].owns)
}

pub struct Server {
    /// Its clock less the true time, in microseconds.
    pub offset: i64,
    pub alive: bool,
    pub frozen: bool,
    /// CLIENT PAUSE WRITE, as within a planned failover: what is due is hidden and not expired.
    pub paused: bool,
    pub notifies: bool,
    /// It expires nothing of its own accord: so it is beside a million other keys.
    pub sluggish: bool,
    pub run: u32,
    pub flushes: u64,
    /// Which configuration it knows.
    pub seen: usize,
    pub data: BTreeMap<KeyIndex, Value>,
    /// Where its slot is on its way to.
    pub migrating: Option<Node>,
    pub importing: bool,
    pub subscribers: Vec<Line>,
    /// Under client tracking: a turn of its loop is under way.
    turns: bool,
    /// What was changed in it, and what was answered: both leave at its end, the answers first.
    dirty: BTreeSet<KeyIndex>,
    said: Vec<(Line, Frame)>,
    /// What arrived while it was frozen.
    pub deferred: Vec<Event>,
    /// What its master has sent and it has not applied.
    pub stream: VecDeque<Command>,
    /// Whom it gets `stream` from.
    pub follows: Option<Node>,
    pub stream_at: i64,
    /// Tells one connection to a master from the next.
    pub attachment: u32,
}

impl Server {
    pub fn new(offset: i64) -> Self {
        Self {
            offset,
            alive: true,
            frozen: false,
            paused: false,
            notifies: true,
            sluggish: false,
            run: 0,
            flushes: 0,
            seen: 0,
            data: BTreeMap::new(),
            migrating: None,
            importing: false,
            subscribers: Vec::new(),
            turns: false,
            dirty: BTreeSet::new(),
            said: Vec::new(),
            deferred: Vec::new(),
            stream: VecDeque::new(),
            follows: None,
            stream_at: 0,
            attachment: 0,
        }
    }
    pub fn serves(&self) -> bool {
        self.alive && !self.frozen
    }
}

impl World {
    pub fn known_to(&self, node: Node) -> &Row {
        &self.configs[self.servers[node].seen][node]
    }
    /// Whether the node holds itself for a master.
    pub fn masters(&self, node: Node) -> bool {
        self.known_to(node).replica_of.is_none()
    }
    pub fn server_micros(&self, node: Node) -> i64 {
        self.ours() + self.servers[node].offset
    }
    pub fn server_millis(&self, node: Node) -> i64 {
        self.server_micros(node).div_euclid(1_000)
    }
    /// The owner of the slot in truth.
    pub fn owner(&self) -> Node {
        owner_in(&self.configs[self.configs.len() - 1]).expect("one node owns the slot")
    }
    /// Who holds the key in truth.
    pub fn authority(&self, key: KeyIndex) -> Node {
        let owner = self.owner();
        match self.servers[owner].migrating {
            Some(target) if !self.present(owner, key) => target,
            _ => owner,
        }
    }
    fn legitimate(&self, node: Node) -> bool {
        let owner = self.owner();
        node == owner || self.servers[owner].migrating == Some(node)
    }

    fn due(&self, node: Node, key: KeyIndex) -> bool {
        let deadline = self.servers[node].data.get(&key).and_then(|value| value.deadline);
        deadline.is_some_and(|deadline| self.server_millis(node) > deadline)
    }
    /// There, and not due.
    pub fn present(&self, node: Node, key: KeyIndex) -> bool {
        self.servers[node].data.contains_key(&key) && !self.due(node, key)
    }

    /// Lazy expiry: on a master that may write.
    pub fn expire_if_due(&mut self, node: Node, key: KeyIndex) {
        if self.due(node, key) && self.masters(node) && !self.servers[node].paused {
            self.expire(node, key);
        }
    }

    /// Active expiry of something that is due.
    pub fn expire_something(&mut self, node: Node) {
        let server = &self.servers[node];
        if !server.serves() || !self.masters(node) || server.paused || server.sluggish {
            return;
        }
        let now = self.server_millis(node);
        let due = self.servers[node].data.iter().filter(|(_, value)| value.deadline.is_some_and(|at| now >= at));
        let due: Vec<KeyIndex> = due.map(|(key, _)| *key).collect();
        if !due.is_empty() {
            let key = due[self.random.below(due.len())];
            self.expire(node, key);
        }
    }

    fn expire(&mut self, node: Node, key: KeyIndex) {
        let Some(value) = self.servers[node].data.remove(&key) else { return };
        let legitimate = self.legitimate(node);
        self.note(key, || format!("{} expires it ({value:?}, in truth: {legitimate})", name(node)));
        if legitimate {
            let deadline = value.deadline.expect("only what has a deadline expires");
            let due = deadline * 1_000 - self.servers[node].offset - crate::world::BASE;
            self.truth.expired(value.life, self.now, due, self.ours_of_server(node));
        }
        self.push(node, key, Sort::Expired, value.life);
        self.replicate(node, &Command::Delete(key));
    }

    /// The time of a push by the clock of its node.
    fn ours_of_server(&self, node: Node) -> i64 {
        self.server_millis(node)
    }

    pub fn put(&mut self, node: Node, key: KeyIndex, value: &Value) {
        self.servers[node].data.insert(key, value.clone());
        self.push(node, key, Sort::Born, value.life);
        self.replicate(node, &Command::Put(key, value.clone()));
    }

    /// `del`, `rename_from` or `evicted`, as `sort` says.
    pub fn delete(&mut self, node: Node, key: KeyIndex, sort: Sort) {
        if let Some(value) = self.servers[node].data.remove(&key) {
            self.push(node, key, sort, value.life);
            self.replicate(node, &Command::Delete(key));
        }
    }

    pub fn flush(&mut self, node: Node) {
        let now = self.now;
        for (_, value) in std::mem::take(&mut self.servers[node].data) {
            self.truth.ended(value.life, now, End::DataGone);
        }
        self.servers[node].flushes += 1;
        self.tell_flushed(node);
        self.replicate(node, &Command::Flush);
    }

    /// Client tracking tells of it at once.
    fn tell_flushed(&mut self, node: Node) {
        if self.tracking {
            for line in self.servers[node].subscribers.clone() {
                self.say(line, Frame::Flushed);
            }
        }
    }

    pub fn push(&mut self, node: Node, key: KeyIndex, sort: Sort, life: LifeId) {
        if self.tracking {
            self.servers[node].dirty.insert(key);
            return self.turn(node);
        }
        if self.servers[node].notifies {
            for line in self.servers[node].subscribers.clone() {
                self.deliver(line, Frame::Push { key, sort, life: Some(life) });
            }
        }
    }

    /// Answers: at once, or under client tracking at the end of the turn.
    fn say(&mut self, line: Line, frame: Frame) {
        if self.tracking {
            self.servers[line.node].said.push((line, frame));
            self.turn(line.node);
        } else {
            self.deliver(line, frame);
        }
    }

    fn turn(&mut self, node: Node) {
        if !std::mem::replace(&mut self.servers[node].turns, true) {
            let long = self.random.percent(10);
            let micros = if long { self.random.between(200, 3_000) } else { self.random.between(0, 200) };
            self.after(micros, Event::TurnEnds(node));
        }
    }

    pub fn turn_ends(&mut self, node: Node) {
        let server = &mut self.servers[node];
        server.turns = false;
        let (said, dirty) = (std::mem::take(&mut server.said), std::mem::take(&mut server.dirty));
        if !server.alive {
            return;
        }
        for (line, frame) in said {
            self.deliver(line, frame);
        }
        for key in dirty {
            let life = self.servers[node].data.get(&key).map(|value| value.life);
            for line in self.servers[node].subscribers.clone() {
                self.deliver(line, Frame::Push { key, sort: Sort::Changed, life });
            }
        }
    }

    fn replicate(&mut self, node: Node, command: &Command) {
        for replica in 0..NODES {
            if self.servers[replica].follows == Some(node) {
                let lag = if self.lag > 0 { self.random.between(0, self.lag) } else { 0 };
                let at = (self.now + self.random.delay() + lag).max(self.servers[replica].stream_at + 1);
                self.servers[replica].stream_at = at;
                self.servers[replica].stream.push_back(command.clone());
                let attachment = self.servers[replica].attachment;
                self.at(at, Event::Replicate { replica, attachment });
            }
        }
    }

    /// The replica applies one command of its master's.
    pub fn replicated(&mut self, replica: Node, attachment: u32) {
        let server = &self.servers[replica];
        if attachment != server.attachment || !server.alive {
            return;
        }
        if self.known_to(replica).replica_of != server.follows {
            // It does not know yet that it was demoted.
            self.after(500, Event::Replicate { replica, attachment });
            return;
        }
        match self.servers[replica].stream.pop_front() {
            Some(Command::Put(key, value)) => {
                let life = value.life;
                self.servers[replica].data.insert(key, value);
                self.push(replica, key, Sort::Born, life);
            }
            Some(Command::Delete(key)) => {
                if let Some(value) = self.servers[replica].data.remove(&key) {
                    self.push(replica, key, Sort::Deleted, value.life);
                }
            }
            Some(Command::Flush) => {
                self.servers[replica].data.clear();
                self.tell_flushed(replica);
            }
            None => {}
        }
    }

    /// Attaches a replica: from here on it gets what `master` does.
    pub fn attach(&mut self, replica: Node, master: Option<Node>) {
        let server = &mut self.servers[replica];
        server.attachment += 1;
        server.stream.clear();
        server.follows = master;
        server.stream_at = self.now;
    }

    /// A new configuration, which `first` know at once and the others hear of.
    pub fn reconfigure(&mut self, first: &[Node], change: impl FnOnce(&mut Config)) {
        let mut config = self.configs[self.configs.len() - 1].clone();
        change(&mut config);
        self.configs.push(config);
        let version = self.configs.len() - 1;
        for node in 0..NODES {
            if first.contains(&node) {
                self.learn(node, version);
            } else {
                // Who is promoted tells every master at once.
                let slow = node != C && self.random.percent(15);
                let delay = if slow { self.random.between(50_000, 600_000) } else { self.random.between(500, 60_000) };
                self.after(delay, Event::Learn { node, version });
            }
        }
    }

    pub fn learn(&mut self, node: Node, version: usize) {
        let before = self.known_to(node).clone();
        if version <= self.servers[node].seen || !self.servers[node].alive {
            return;
        }
        self.servers[node].seen = version;
        let now = self.known_to(node).clone();
        if before.owns && !now.owns {
            self.servers[node].migrating = None;
            for line in self.servers[node].subscribers.clone() {
                self.deliver(line, Frame::SlotLeft);
            }
        }
        if now.owns {
            self.servers[node].importing = false;
        }
        if now.replica_of != before.replica_of {
            self.servers[node].paused = false;
            match now.replica_of {
                None => self.attach(node, None),
                // A partial synchronisation has been under way since the promotion (see `promote`).
                Some(master) if self.servers[node].follows == Some(master) => {}
                Some(master) => {
                    let delay = self.random.between(5_000, 150_000);
                    self.after(delay, Event::FullSync { replica: node, master });
                }
            }
        }
    }

    pub fn full_sync(&mut self, replica: Node, master: Node) {
        if !self.servers[replica].serves() || self.known_to(replica).replica_of != Some(master) {
            return;
        }
        if !self.servers[master].serves() {
            self.after(50_000, Event::FullSync { replica, master });
            return;
        }
        self.servers[replica].data = self.servers[master].data.clone();
        self.attach(replica, Some(master));
    }

    /// What the node says to a question about a key.
    pub fn answer(&mut self, node: Node, key: KeyIndex, asking: bool) -> Said {
        let owns = self.known_to(node).owns;
        if owns && let Some(target) = self.servers[node].migrating {
            // The lookup that decides on ASK does not expire.
            if !self.present(node, key) {
                return Said::Ask(target);
            }
        } else if !(owns || (asking && self.servers[node].importing)) {
            return Said::Moved;
        }
        self.expire_if_due(node, key);
        match self.servers[node].data.get(&key) {
            Some(value) if self.present(node, key) => Said::Alive(value.deadline, value.life),
            _ => Said::Gone,
        }
    }

    /// A page of SCAN, which expires what is due.
    pub fn scan(&mut self, node: Node, page: usize) -> Vec<KeyIndex> {
        let keys: Vec<KeyIndex> = self.servers[node].data.keys().copied().filter(|key| key % 2 == page).collect();
        for key in &keys {
            self.expire_if_due(node, *key);
        }
        keys.into_iter().filter(|key| self.present(node, *key)).collect()
    }

    /// A question has arrived.
    pub fn asked(&mut self, line: Line, question: Question) {
        let node = line.node;
        if !self.is_open(line) || !self.servers[node].alive {
            return;
        }
        match question {
            Question::Hello => self.say(line, Frame::Hello),
            Question::Subscribe => {
                self.servers[node].subscribers.push(line);
                self.say(line, Frame::Subscribed);
            }
            Question::Key { key, asking } => {
                let said = self.answer(node, key, asking);
                self.note(key, || format!("{} says {said:?}", name(node)));
                self.say(line, Frame::Answer(said));
            }
            Question::Time => {
                let time = self.server_micros(node);
                self.say(line, Frame::Time(time));
            }
        }
    }
}

pub fn name(node: Node) -> &'static str {
    ["a", "b", "c"][node]
}
