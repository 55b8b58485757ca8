//! A process that is killed between any two steps leaves what its calls up to one of them had made: all of those that
//! were said to be durable, in order, none by half.

use std::{
    collections::VecDeque,
    env,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use redis_expiry_operator::{
    model::{Key, Millis, Slot},
    store::{
        Delivery, Epoch, NodeState, Reply, Selection, Store, StoreError,
        memory::MemoryStore,
        meta,
        sqlite::{Options, SqliteStore},
    },
};
use tempfile::TempDir;

use crate::given::{
    absent, dead_letter, delivered, entry, forget, holding, in_bulk, mark_absent, record, record_over, retry, settle,
};

const FILE: &str = "STORE_TEST_CRASH_FILE";
pub const FROM: &str = "STORE_TEST_CRASH_FROM";
/// Calls whose answers a writer has not yet seen.
const IN_FLIGHT: usize = 24;
const STEPS: u64 = 6;
/// So many rounds of keys are looked at: enough to reach from the last look to the newest round.
const LOOK_BACK: u64 = 120;

fn key(round: u64, number: u8) -> String {
    format!("order:{round}:{number}")
}

/// The call at `index` of a fixed endless sequence that touches everything a store holds.
fn call(store: &impl Store, epoch: Epoch, index: u64) -> Reply<()> {
    let round = index / STEPS;
    let deadline = i64::try_from(round).unwrap();
    let at = deadline;
    let name = |number| key(round, number);
    let whole = entry(deadline);
    match index % STEPS {
        0 => store.apply(epoch, (0..8).map(|number| record(&name(number), deadline)).collect()).durable,
        1 => {
            let over = record_over(&name(2), whole, deadline + 1);
            store.apply(epoch, vec![mark_absent(&name(0), whole), mark_absent(&name(1), whole), over]).durable
        }
        2 => {
            let settled = [3, 4, 5].map(|number| settle(&name(number), whole, deadline, at));
            let others = [settle(&name(0), absent(deadline), deadline, at), forget(&name(6), whole, at)];
            store.apply(epoch, settled.into_iter().chain(others).collect()).durable
        }
        3 => {
            let outcomes: Vec<Delivery> = vec![
                delivered(&name(3), deadline, at),
                retry(&name(4), deadline, 1, at),
                dead_letter(&name(5), deadline, at),
            ];
            store.delivered(epoch, outcomes)
        }
        4 if round.is_multiple_of(3) => counted(store.replay(epoch, Selection::All)),
        4 if round % 3 == 1 => counted(store.purge(epoch, Selection::All)),
        4 => {
            let slots = [Slot(7)].into_iter().collect();
            let state = NodeState { node: "n".into(), run_id: String::new(), config_epoch: 1, flushes: round, slots };
            store.remember_node(epoch, state)
        }
        _ => store.set_meta(epoch, meta::PATTERN, round.to_string()),
    }
}

fn counted(reply: Reply<u64>) -> Reply<()> {
    Box::pin(async move { reply.await.map(drop) })
}

/// Makes calls from `from` on in a file.
async fn write(path: &Path, from: u64, until: u64, say: impl Write) -> Result<(), StoreError> {
    // Half of them put down what comes and file it between two calls.
    let options = if from.is_multiple_of(2) { Options::default() } else { in_bulk(Duration::ZERO) };
    call_all(&SqliteStore::open(path, &options)?, from, until, say).await
}

/// Makes calls from `from` on, and says which are durable; ends when nobody listens or after `until`.
pub async fn call_all(store: &impl Store, from: u64, until: u64, mut say: impl Write) -> Result<(), StoreError> {
    let epoch = store.take_epoch().await?;
    writeln!(say, "ready").unwrap();
    let mut replies = VecDeque::new();
    for index in from..until {
        replies.push_back((index, call(store, epoch, index)));
        if replies.len() >= IN_FLIGHT
            && let Some((index, reply)) = replies.pop_front()
        {
            reply.await?;
            writeln!(say, "durable {index}").unwrap();
        }
    }
    for (index, reply) in replies {
        reply.await?;
        writeln!(say, "durable {index}").unwrap();
    }
    store.close().await
}

/// What the file must hold after a prefix of the calls; it keeps up with the writers.
pub struct Expected {
    store: MemoryStore,
    pub epoch: Epoch,
    pub calls: u64,
}

impl Expected {
    pub fn nothing() -> Self {
        Self { store: MemoryStore::new(), epoch: Epoch(0), calls: 0 }
    }
    /// As the next writer does.
    pub async fn take_epoch(&mut self) {
        self.epoch = self.store.take_epoch().await.unwrap();
    }
    async fn advance(&mut self) {
        call(&self.store, self.epoch, self.calls).await.unwrap();
        self.calls += 1;
    }
    fn keys(&self) -> Vec<Key> {
        let newest = self.calls / STEPS + IN_FLIGHT as u64;
        let rounds = newest.saturating_sub(LOOK_BACK)..newest;
        rounds.flat_map(|round| (0..8).map(move |number| Key::from(key(round, number).as_str()))).collect()
    }

    async fn meet_file(&mut self, path: &Path, durable: u64) {
        self.meet(&SqliteStore::open(path, &Options::default()).unwrap(), durable).await;
    }

    /// Advances to the call up to which the store has everything; fails if there is none.
    pub async fn meet(&mut self, store: &impl Store, durable: u64) {
        while self.calls < durable {
            self.advance().await;
        }
        let keys = self.keys();
        let found = holding(store, &keys, Millis(0)).await;
        // Calls that were made and not yet said to be durable may be there, too. The pipe holds some more lines.
        let most = durable + 2_000;
        let first = holding(&self.store, &keys, Millis(0)).await;
        let mut expected = holding(&self.store, &keys, Millis(0)).await;
        while expected != found {
            assert!(self.calls < most, "no prefix of the calls fits; {durable} are durable\n{found:?}\n{first:?}");
            self.advance().await;
            expected = holding(&self.store, &keys, Millis(0)).await;
        }
    }
}

pub struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(path: &Path, from: u64) -> Self {
        Self::of("crash::a_writer_left_alone_makes_all_its_calls", FILE, path.as_os_str(), from)
    }
    /// The test of that name, as a process of its own that finds its store in the variable.
    pub fn of(test: &str, variable: &str, place: &OsStr, from: u64) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(variable, place)
            .env(FROM, from.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }
    pub fn line(&mut self, starts: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        // The test harness has lines of its own, and one of ours may stand behind one of them.
        lines.find_map(|line| line.split_once(starts).map(|(_, rest)| rest.to_owned())).unwrap()
    }
    /// Kills it; how many calls were said to be durable by then, when `said` of them were known to be.
    pub fn kill(&mut self, said: u64) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let rest = self.lines.by_ref().map(Result::unwrap).filter_map(|line| {
            let (_, index) = line.split_once("durable ")?;
            index.parse::<u64>().ok()
        });
        rest.last().map_or(said, |index| index + 1)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Left alone, or as the process that the next tests kill.
#[tokio::test]
async fn a_writer_left_alone_makes_all_its_calls() {
    if let Some(path) = env::var_os(FILE) {
        let from = env::var(FROM).unwrap().parse().unwrap();
        write(&PathBuf::from(path), from, u64::MAX, std::io::stdout()).await.unwrap();
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    write(&path, 0, 100, std::io::sink()).await.unwrap();
    let mut expected = Expected::nothing();
    expected.take_epoch().await;
    expected.meet_file(&path, 100).await;
    assert_eq!(expected.calls, 100);
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_whole_calls_and_all_that_were_durable() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let mut expected = Expected::nothing();
    for run in 0..30_u64 {
        let mut writer = Writer::start(&path, expected.calls);
        writer.line("ready");
        expected.take_epoch().await;
        let mut durable = expected.calls;
        for _ in 0..run % 10 {
            durable = writer.line("durable ").parse::<u64>().unwrap() + 1;
        }
        // Somewhere in the work on the next calls: the point is what is under way then, not how long it takes.
        std::thread::sleep(Duration::from_micros(run * 97 % 1_500));
        durable = writer.kill(durable);
        expected.meet_file(&path, durable).await;
    }
    assert!(expected.calls > 200, "only {} calls", expected.calls);
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_is_killed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let mut writer = Writer::start(&path, 0);
    writer.line("ready");
    let error = SqliteStore::open(&path, &Options::default()).err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
    writer.kill(0);
    let store = SqliteStore::open(&path, &Options::default()).unwrap();
    assert_eq!(store.take_epoch().await.unwrap(), Epoch(2));
}
