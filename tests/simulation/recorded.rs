//! The model held against real servers: what a master and its replica said and pushed is recorded, while keys were set, moved,
//! renamed, deleted, flushed, looked at and left to expire, and the model has to say the same of the same, in the same order.
//!
//! Time is the servers' own. They expire nothing of their own accord (the model does so at random); what slots that move and
//! failovers do is not recorded.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use redis::{Parser, PushKind, Value as Reply, aio::MultiplexedConnection, cmd};
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Node, Options},
    nodes::Sort,
};

use crate::{
    network::{Frame, Line, Question, Said},
    random::Random,
    server::{A, B, KeyIndex, Value},
    world::{BASE, KEYS, World},
};

const STEPS: usize = 160;
/// From step to step: time in which keys fall due.
const APART: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing is done so shortly before a deadline, in milliseconds, that it may come behind it.
const CLOSE: i64 = 25;

/// What was done to the master. Deadlines are milliseconds of its clock.
#[derive(Clone, Copy, Debug)]
enum Act {
    Set(KeyIndex, Option<i64>),
    Move(KeyIndex, i64),
    Rename(KeyIndex, KeyIndex),
    Delete(KeyIndex),
    Flush,
    /// On the connection that is pushed to.
    Look(KeyIndex),
}

/// What came on a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Born(KeyIndex),
    Deleted(KeyIndex),
    Expired(KeyIndex),
    Changed(KeyIndex),
    Flushed,
    Alive(Option<i64>),
    Gone,
}

#[derive(Debug)]
struct Step {
    /// By the master's clock, in milliseconds.
    at: i64,
    act: Act,
    /// By the master, and by its replica.
    said: [Vec<Word>; 2],
}

fn name(key: KeyIndex) -> String {
    format!("k:{key}")
}

fn key_of(name: &Reply) -> KeyIndex {
    let Reply::BulkString(bytes) = name else { panic!("no name of a key: {name:?}") };
    let text = String::from_utf8_lossy(bytes);
    text.rsplit_once("k:").and_then(|(_, number)| number.parse().ok()).expect("a key of ours")
}

/// A connection that is pushed to.
struct Ear {
    socket: TcpStream,
    heard: Receiver<Reply>,
}

impl Ear {
    fn open(node: &Node, tracking: bool) -> Self {
        let socket = TcpStream::connect(node.address()).expect("the server listens");
        let mut reading = socket.try_clone().expect("a socket can be cloned");
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            let mut parser = Parser::new();
            while let Ok(value) = parser.parse_value(&mut reading) {
                if tell.send(value).is_err() {
                    break;
                }
            }
        });
        let mut ear = Self { socket, heard };
        ear.send(&["HELLO", "3"]);
        if tracking {
            ear.send(&["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "k:"]);
        } else {
            ear.send(&["PSUBSCRIBE", "__keyspace@0__:k:*"]);
        }
        for _ in 0..2 {
            ear.heard.recv_timeout(PATIENCE).expect("it answers");
        }
        ear
    }

    fn send(&mut self, words: &[&str]) {
        let mut command = redis::Cmd::new();
        command.arg(words);
        self.socket.write_all(&command.get_packed_command()).expect("the server reads");
    }

    /// All that the server says of what it did until now. It tells of changes at the end of a turn of its loop, behind what it
    /// answers in it: the second answer is of a later one.
    fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        for _ in 0..2 {
            self.send(&["PING"]);
            loop {
                match self.heard.recv_timeout(PATIENCE).expect("it answers") {
                    Reply::SimpleString(pong) if pong == "PONG" => break,
                    reply => words.extend(told(&reply)),
                }
            }
        }
        words.dedup_by(|next, word| next == word && matches!(word, Word::Born(_)));
        words
    }
}

fn told(reply: &Reply) -> Vec<Word> {
    match reply {
        Reply::Int(-2) => vec![Word::Gone],
        Reply::Int(-1) => vec![Word::Alive(None)],
        Reply::Int(deadline) => vec![Word::Alive(Some(*deadline))],
        Reply::Push { kind: PushKind::Invalidate, data } => match data.as_slice() {
            [Reply::Array(keys)] => keys.iter().map(|key| Word::Changed(key_of(key))).collect(),
            [Reply::Nil] => vec![Word::Flushed],
            other => panic!("{other:?} was invalidated"),
        },
        Reply::Push { kind: PushKind::PMessage, data } => {
            let [_, channel, Reply::BulkString(event)] = data.as_slice() else { panic!("{data:?} was published") };
            let key = key_of(channel);
            match event.as_slice() {
                b"set" | b"expire" | b"persist" | b"rename_to" => vec![Word::Born(key)],
                b"del" | b"rename_from" => vec![Word::Deleted(key)],
                b"expired" => vec![Word::Expired(key)],
                // A key that was made anew: keyspace events of class `n`.
                b"new" => vec![],
                other => panic!("an event {}", String::from_utf8_lossy(other)),
            }
        }
        other => panic!("nobody expects {other:?}"),
    }
}

/// The deadlines that a trace knows of, so that nothing is done close to one of them.
#[derive(Default)]
struct Deadlines([Option<i64>; KEYS]);

impl Deadlines {
    fn follow(&mut self, act: Act) {
        match act {
            Act::Set(key, deadline) => self.0[key] = deadline,
            Act::Move(key, deadline) => self.0[key] = self.0[key].map(|_| deadline),
            Act::Rename(from, to) => self.0[to] = self.0[from].take(),
            Act::Delete(key) => self.0[key] = None,
            Act::Flush => self.0 = [None; KEYS],
            Act::Look(_) => {}
        }
    }
    fn any_within(&self, from: i64, to: i64) -> bool {
        self.0.iter().flatten().any(|deadline| (from..=to).contains(deadline))
    }
}

fn any(random: &mut Random, now: i64) -> Act {
    let key = random.below(KEYS);
    let deadline = now + if random.percent(60) { random.between(80, 400) } else { random.between(400, 3_000) };
    match random.below(100) {
        0..30 => Act::Set(key, Some(deadline)),
        30..36 => Act::Set(key, None),
        36..46 => Act::Move(key, deadline),
        46..54 => Act::Rename(key, (key + 1 + random.below(KEYS - 1)) % KEYS),
        54..62 => Act::Delete(key),
        62..65 => Act::Flush,
        _ => Act::Look(key),
    }
}

async fn clock(server: &mut MultiplexedConnection) -> i64 {
    let (seconds, micros): (i64, i64) = cmd("TIME").query_async(server).await.expect("it tells the time");
    seconds * 1_000 + micros / 1_000
}

/// `None`: the machine was so slow that something fell due in the midst of a step.
async fn record(seed: u64, tracking: bool) -> Option<Vec<Step>> {
    let options = Options {
        clustered: false,
        masters: 1,
        replicas: 1,
        notify_keyspace_events: if tracking { String::new() } else { "KA".into() },
        directives: vec![("enable-debug-command".into(), "yes".into())],
        ..Options::default()
    };
    let cluster = Cluster::start(options).await.expect("the servers start");
    let nodes = cluster.nodes();
    for node in &nodes {
        let () = node.query(cmd("DEBUG").arg("SET-ACTIVE-EXPIRE").arg(0)).await.expect("it is debugged");
    }
    let mut master = nodes[0].connect(PATIENCE).await.expect("it takes clients");
    let mut ears = [0, 1].map(|node: usize| Ear::open(&nodes[node], tracking));
    let (mut random, mut deadlines, mut steps) = (Random::new(seed), Deadlines::default(), Vec::new());
    while steps.len() < STEPS {
        let at = clock(&mut master).await;
        if deadlines.any_within(at - 2, at + CLOSE) {
            tokio::time::sleep(Duration::from_millis(3)).await;
            continue;
        }
        let act = any(&mut random, at);
        let mut command = redis::Cmd::new();
        match act {
            Act::Set(key, None) => command.arg("SET").arg(name(key)).arg("x"),
            Act::Set(key, Some(deadline)) => command.arg("SET").arg(name(key)).arg("x").arg("PXAT").arg(deadline),
            Act::Move(key, deadline) => command.arg("PEXPIREAT").arg(name(key)).arg(deadline),
            Act::Rename(from, to) => command.arg("RENAME").arg(name(from)).arg(name(to)),
            Act::Delete(key) => command.arg("DEL").arg(name(key)),
            Act::Flush => command.arg("FLUSHALL"),
            Act::Look(key) => {
                ears[0].send(&["PEXPIRETIME", &name(key)]);
                &mut command
            }
        };
        if !matches!(act, Act::Look(_)) {
            // What is renamed may be gone: that is an error, and an answer.
            let _ = command.query_async::<Reply>(&mut master).await;
        }
        let done = clock(&mut master).await;
        let by_master = ears[0].words();
        // Its replica has done all that comes before, too.
        let () = cmd("SET").arg("barrier").arg("x").query_async(&mut master).await.expect("it is set");
        let replicas: usize = cmd("WAIT").arg(1).arg(5_000).query_async(&mut master).await.expect("it waits");
        assert_eq!(replicas, 1, "the replica does not follow");
        let said = [by_master, ears[1].words()];
        if deadlines.any_within(at, done + 1) {
            // Nobody can say which came first.
            return None;
        }
        deadlines.follow(act);
        steps.push(Step { at, act, said });
        tokio::time::sleep(APART).await;
    }
    Some(steps)
}

/// What the model says of the same steps.
fn replayed(steps: &[Step], tracking: bool) -> Vec<[Vec<Word>; 2]> {
    let first = steps.first().map_or(0, |step| step.at);
    // A second for what is before the first.
    let ours = |millis: i64| millis - first + 1_000 + BASE / 1_000;
    let theirs = |millis: i64| millis - BASE / 1_000 - 1_000 + first;
    let mut world = World::new(1, false);
    (world.lag, world.tracking, world.heard) = (0, tracking, Some(Vec::new()));
    let lines = [A, B].map(|node| {
        world.servers[node].offset = 0;
        let line = world.open_line(0, node);
        world.servers[node].subscribers.push(line);
        line
    });
    let mut all = Vec::new();
    for step in steps {
        world.run((ours(step.at) - BASE / 1_000) * 1_000);
        act(&mut world, lines[A], step.act, ours);
        let settled = world.now + 60_000;
        world.run(settled);
        let heard = std::mem::take(world.heard.as_mut().expect("it is written down"));
        all.push(lines.map(|line| {
            let own = heard.iter().filter(|(of, _)| *of == line);
            let mut words: Vec<Word> = own.map(|(_, frame)| word(frame, theirs)).collect();
            words.dedup_by(|next, word| next == word && matches!(word, Word::Born(_)));
            words
        }));
    }
    all
}

fn act(world: &mut World, line: Line, act: Act, ours: impl Fn(i64) -> i64) {
    let armed = |world: &mut World, key: KeyIndex, deadline: Option<i64>| {
        let now = world.now;
        let life = world.truth.born(key, now);
        if let Some(deadline) = deadline {
            world.truth.armed(life, now, deadline);
        }
        world.put(A, key, &Value { deadline, life });
    };
    match act {
        Act::Set(key, deadline) => {
            world.expire_if_due(A, key);
            armed(world, key, deadline.map(ours));
        }
        Act::Move(key, deadline) => {
            world.expire_if_due(A, key);
            if world.servers[A].data.contains_key(&key) {
                armed(world, key, Some(ours(deadline)));
            }
        }
        Act::Rename(from, to) => {
            world.expire_if_due(A, from);
            if let Some(value) = world.servers[A].data.get(&from).cloned() {
                world.expire_if_due(A, to);
                world.delete(A, from, Sort::Deleted);
                armed(world, to, value.deadline);
            }
        }
        Act::Delete(key) => {
            world.expire_if_due(A, key);
            world.delete(A, key, Sort::Deleted);
        }
        Act::Flush => world.flush(A),
        Act::Look(key) => world.asked(line, Question::Key { key, asking: false }),
    }
}

fn word(frame: &Frame, theirs: impl Fn(i64) -> i64) -> Word {
    match frame {
        Frame::Push { key, sort: Sort::Born, .. } => Word::Born(*key),
        Frame::Push { key, sort: Sort::Deleted, .. } => Word::Deleted(*key),
        Frame::Push { key, sort: Sort::Expired, .. } => Word::Expired(*key),
        Frame::Push { key, sort: Sort::Changed, .. } => Word::Changed(*key),
        Frame::Flushed => Word::Flushed,
        Frame::Answer(Said::Alive(deadline, _)) => Word::Alive(deadline.map(theirs)),
        Frame::Answer(Said::Gone) => Word::Gone,
        other => panic!("a model of one shard says {other:?}"),
    }
}

async fn agrees(tracking: bool) {
    let seed = std::env::var("SIMULATION_BASE").map_or(7, |base| base.parse().expect("a number"));
    let give_up = std::time::Instant::now() + Duration::from_secs(120);
    let steps = loop {
        if let Some(steps) = record(seed, tracking).await {
            break steps;
        }
        assert!(std::time::Instant::now() < give_up, "the machine is too slow to record anything");
    };
    let expired = steps.iter().flat_map(|step| &step.said[0]).filter(|word| **word == Word::Gone).count();
    assert!(expired >= 10, "it proves little: only {expired} keys were looked at and gone");
    for (number, (step, model)) in steps.iter().zip(replayed(&steps, tracking)).enumerate() {
        let [said, model] = [step.said.clone(), model].map(|[master, mut replica]| {
            if tracking {
                // How many of its master's commands it does in one turn is chance.
                replica.sort_unstable();
                replica.dedup();
            }
            [master, replica]
        });
        let around = &steps[number.saturating_sub(12)..steps.len().min(number + 3)];
        assert_eq!(said, model, "step {number}: left the servers, right the model, in the midst of\n{around:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_says_what_real_servers_say_by_keyspace_events() {
    agrees(false).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_says_what_real_servers_say_by_client_tracking() {
    agrees(true).await;
}
