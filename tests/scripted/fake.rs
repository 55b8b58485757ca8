//! A node that answers what a test wants, when it wants: pushes around an answer, silence, a run id that changes.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis_expiry_operator::{clock, model::Address};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

pub struct Fake {
    pub id: &'static str,
    pub address: Address,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Nothing is written while it is shut.
    gate: watch::Sender<bool>,
    /// Every connection is to end.
    cut: watch::Sender<u32>,
    /// Whoever connects is turned away.
    away: AtomicBool,
}

/// What it is. Deadlines are by its clock, in milliseconds.
#[derive(Default)]
pub struct State {
    /// Its answer to CLUSTER NODES.
    pub rows: String,
    pub keys: BTreeMap<String, Option<i64>>,
    /// How the next questions about a key are answered.
    pub script: HashMap<String, VecDeque<Vec<Frame>>>,
    pub run_id: u32,
    pub flushes: u32,
    pub flags: String,
    pub ahead_micros: i64,
    /// It is flushed when the next SCAN comes.
    pub flush_at_scan: bool,
    /// After so many more INFO it hangs.
    pub hangs_after_infos: Option<usize>,
    pub scans: Scans,
    /// It has shard channels: thousands, which cost time.
    pub sharded: bool,
    /// What it was asked.
    pub asked: Vec<String>,
    subscribers: Vec<Subscriber>,
}

/// What becomes of a SCAN.
#[derive(Default, PartialEq)]
pub enum Scans {
    #[default]
    End,
    /// No page is the last.
    GoOn,
    /// None is answered.
    Hang,
}

struct Subscriber {
    connection: usize,
    pattern: String,
    out: mpsc::UnboundedSender<Vec<u8>>,
}

/// A part of a scripted answer.
#[derive(Clone, Debug)]
pub enum Frame {
    Push(String, &'static str),
    /// As it goes over the wire, without the end of its line.
    Reply(String),
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}
fn list(items: &[&str]) -> String {
    format!("*{}\r\n{}", items.len(), items.iter().map(|item| bulk(item)).collect::<String>())
}
fn pushed(pattern: &str, key: &str, event: &str) -> String {
    let items = ["pmessage", pattern, &format!("__keyspace@0__:{key}"), event];
    format!(">4\r\n{}", items.iter().map(|item| bulk(item)).collect::<String>())
}

impl Fake {
    pub async fn start(id: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
        let state = State { flags: "Kgxe$".into(), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            gate: watch::Sender::new(true),
            cut: watch::Sender::new(0),
            away: AtomicBool::new(false),
        });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, id, Arc::clone(&shared)));
        Self { id, address, shared, _serving: serving }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
    /// A line of CLUSTER NODES about it.
    pub fn row(&self, flags: &str, master: &str, epoch: u64, slots: &str) -> String {
        let Address { host, port } = &self.address;
        format!("{} {host}:{port}@1{port} {flags} {master} 0 0 {epoch} connected {slots}\n", self.id)
    }
    /// What it answers to CLUSTER NODES from now on.
    pub fn knows(&self, rows: &[String]) {
        self.state().rows = rows.concat();
    }
    /// Publishes an event to whoever has subscribed.
    pub fn push(&self, key: &str, event: &str) {
        for subscriber in &self.state().subscribers {
            let _ = subscriber.out.send(pushed(&subscriber.pattern, key, event).into_bytes());
        }
    }
    /// Sends a frame as it is to whoever has subscribed.
    pub fn send(&self, frame: &str) {
        for subscriber in &self.state().subscribers {
            let _ = subscriber.out.send(frame.into());
        }
    }
    /// How the next question about `key` that has no script yet is answered.
    pub fn script(&self, key: &str, frames: &[Frame]) {
        self.state().script.entry(key.into()).or_default().push_back(frames.to_vec());
    }
    /// Somebody is subscribed to the pattern.
    pub fn subscribed(&self, pattern: &str) -> bool {
        self.state().subscribers.iter().any(|subscriber| subscriber.pattern == pattern)
    }
    pub fn times_asked(&self, command: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.starts_with(command)).count()
    }
    /// It hangs: reads, and writes nothing until it is resumed.
    pub fn hang(&self) {
        self.shared.gate.send_replace(false);
    }
    pub fn resume(&self) {
        self.shared.gate.send_replace(true);
    }
    /// Ends every connection and takes no other until it is back.
    pub fn leave(&self) {
        self.shared.away.store(true, Ordering::SeqCst);
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }
    pub fn come_back(&self) {
        self.shared.away.store(false, Ordering::SeqCst);
    }
    pub fn clock_millis(&self) -> i64 {
        (clock::micros() + self.state().ahead_micros).div_euclid(1_000)
    }
}

async fn accept(listener: TcpListener, id: &'static str, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        if shared.away.load(Ordering::SeqCst) {
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let mut cut = shared.cut.subscribe();
            cut.mark_unchanged();
            tokio::select! {
                _ = serve(stream, id, number, &shared) => {}
                _ = cut.changed() => {}
            }
            shared.state.lock().unwrap().subscribers.retain(|subscriber| subscriber.connection != number);
        });
    }
}

async fn serve(stream: TcpStream, id: &str, connection: usize, shared: &Shared) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let (out, mut written) = mpsc::unbounded_channel::<Vec<u8>>();
    let mut gate = shared.gate.subscribe();
    let writing = async {
        while let Some(bytes) = written.recv().await {
            let _ = gate.wait_for(|open| *open).await;
            writer.write_all(&bytes).await?;
        }
        Ok(())
    };
    let reading = async {
        let mut inbox = Vec::new();
        loop {
            let mut done = 0;
            while let Some((words, used)) = command(&inbox[done..]) {
                done += used;
                // Answered under the lock, so that pushes keep their place among the answers.
                let mut state = shared.state.lock().unwrap();
                let answer = state.answer(id, connection, &words, &out);
                if state.hangs_after_infos == Some(0) {
                    state.hangs_after_infos = None;
                    shared.gate.send_replace(false);
                }
                let _ = out.send(answer.into_bytes());
            }
            inbox.drain(..done);
            if reader.read_buf(&mut inbox).await? == 0 {
                return Ok(());
            }
        }
    };
    tokio::select! { ended = writing => ended, ended = reading => ended }
}

/// The first whole command of `bytes`, and its length.
fn command(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut at = 0;
    let line = |at: &mut usize| {
        let end = bytes[*at..].windows(2).position(|pair| pair == b"\r\n")?;
        let text = String::from_utf8_lossy(&bytes[*at..*at + end]).into_owned();
        *at += end + 2;
        Some(text)
    };
    let count: usize = line(&mut at)?.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length: usize = line(&mut at)?.strip_prefix('$')?.parse().ok()?;
        words.push(String::from_utf8_lossy(bytes.get(at..at + length)?).into_owned());
        bytes.get(at + length + 1)?;
        at += length + 2;
    }
    Some((words, at))
}

impl State {
    fn answer(
        &mut self,
        id: &str,
        connection: usize,
        words: &[String],
        out: &mpsc::UnboundedSender<Vec<u8>>,
    ) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.asked.push(words.join(" "));
        if let (["INFO", ..], Some(left)) = (words.as_slice(), &mut self.hangs_after_infos) {
            *left -= 1;
        }
        match words.as_slice() {
            ["HELLO", ..] => format!("%1\r\n{}{}", bulk("version"), bulk("7.0.15")),
            ["CLUSTER", "MYID"] => bulk(id),
            ["CLUSTER", "NODES"] => {
                let mine = format!("{id} ");
                let myself = |row: &str| {
                    if row.starts_with(&mine) {
                        row.replacen(" master", " myself,master", 1).replacen(" slave", " myself,slave", 1)
                    } else {
                        row.to_owned()
                    }
                };
                bulk(&self.rows.lines().map(|row| myself(row) + "\n").collect::<String>())
            }
            ["PSUBSCRIBE", pattern] => {
                self.subscribers.push(Subscriber { connection, pattern: (*pattern).into(), out: out.clone() });
                format!(">3\r\n{}{}:1\r\n", bulk("psubscribe"), bulk(pattern))
            }
            ["PUNSUBSCRIBE", pattern] => {
                let left =
                    |subscriber: &Subscriber| subscriber.connection == connection && subscriber.pattern == *pattern;
                self.subscribers.retain(|subscriber| !left(subscriber));
                format!(">3\r\n{}{}:0\r\n", bulk("punsubscribe"), bulk(pattern))
            }
            ["SSUBSCRIBE", _] if !self.sharded => "-ERR unknown command\r\n".into(),
            ["SSUBSCRIBE", channel] => format!(">3\r\n{}{}:1\r\n", bulk("ssubscribe"), bulk(channel)),
            ["TIME"] => {
                let now = clock::micros() + self.ahead_micros;
                list(&[&(now / 1_000_000).to_string(), &(now % 1_000_000).to_string()])
            }
            ["PEXPIRETIME", key] => self.looked(key, connection),
            ["SCAN", ..] if self.scans == Scans::Hang => String::new(),
            ["SCAN", ..] => {
                if std::mem::take(&mut self.flush_at_scan) {
                    self.flushes += 1;
                    self.keys.clear();
                }
                let keys: Vec<&str> = self.keys.keys().map(String::as_str).collect();
                let cursor = if self.scans == Scans::GoOn { "1" } else { "0" };
                format!("*2\r\n{}{}", bulk(cursor), list(&keys))
            }
            ["INFO", "server"] => bulk(&format!("run_id:{}\r\n", self.run_id)),
            ["INFO", "commandstats"] => bulk(&format!("cmdstat_flushall:calls={},usec=1\r\n", self.flushes)),
            ["CONFIG", "GET", name] => list(&[name, &self.flags]),
            ["CONFIG", "SET", _, flags] => {
                self.flags = (*flags).into();
                "+OK\r\n".into()
            }
            _ => "+OK\r\n".into(),
        }
    }

    fn looked(&mut self, key: &str, connection: usize) -> String {
        let now = (clock::micros() + self.ahead_micros).div_euclid(1_000);
        let frames = self.script.get_mut(key).and_then(VecDeque::pop_front).unwrap_or_else(|| {
            match self.keys.get(key).copied() {
                None => vec![Frame::Reply(":-2".into())],
                Some(None) => vec![Frame::Reply(":-1".into())],
                Some(Some(deadline)) if deadline >= now => vec![Frame::Reply(format!(":{deadline}"))],
                Some(Some(_)) => {
                    self.keys.remove(key);
                    vec![Frame::Reply(":-2".into()), Frame::Push(key.into(), "expired")]
                }
            }
        });
        let pattern = |subscriber: &&Subscriber| subscriber.connection == connection;
        let pattern = self.subscribers.iter().find(pattern).map_or("", |subscriber| &subscriber.pattern);
        let frames = frames.iter().map(|frame| match frame {
            Frame::Push(key, event) => pushed(pattern, key, event),
            Frame::Reply(text) => format!("{text}\r\n"),
        });
        frames.collect()
    }
}

/// Waits for something that must come.
pub async fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let over = tokio::time::Instant::now() + Duration::from_secs(10);
    while !wanted() {
        assert!(tokio::time::Instant::now() < over, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
