//! One connection for pushes and looks, from HELLO to its end.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use redis::{Value, ValueCodec};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    task::unconstrained,
    time::{Instant, MissedTickBehavior, interval_at, timeout_at},
};
use tokio_util::{codec::Decoder as _, sync::CancellationToken};

use super::{
    Answer, Answering, Ask, Connection, Guidance, Heard, Look, NoAnswer, Notifications, Offset, Sort, Standing, Tap,
    Used,
    driver::{Setting, Source},
    frames::{Frame, Frames},
    offset::Offsets,
    watch::{BEAT, Verdict, Watch},
    wire::{self, Push, Reply},
};
use crate::{
    clock,
    dial::{self, HungUp, Stream},
    model::{Address, Fault, FaultCategory, Key, Millis, NodeId, Slot, SlotSet},
    plan::{Mode, RedisPlan, STORE_PREFIX, glob},
};

/// To connect and say HELLO.
const OPENING: Duration = Duration::from_secs(1);
/// An answer counts within this.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How often what is late is looked for.
const TICK: Duration = Duration::from_millis(100);
/// No more is asked while this much waits to be written.
const OUTBOX: usize = 1 << 20;
/// Slots whose shard channels are subscribed to at one tick.
const SLOTS_A_TICK: usize = 2_048;

/// What the next reply is to.
enum Expected {
    /// A subscription to a pattern.
    Pattern(Vec<u8>),
    /// Client tracking of the keys of a pattern, or what comes behind it where they are tracked already.
    Tracked(Vec<u8>),
    /// A subscription to a slot's shard channel.
    SlotChannel,
    Asking,
    /// Outside of a cluster: what the node is, before and behind the keys of the oldest batch.
    Role,
    /// A key of the oldest batch.
    Key,
    /// The TIME of the oldest batch, and whether that batch is still to be answered is its own affair.
    Barrier,
    /// Under client tracking: the keys of the oldest that waits can be asked about.
    Begun,
    /// Under client tracking: whatever happened before the barrier has been told, by one that is the master still.
    Told,
    /// Under client tracking: what was changed before a flush has been told.
    Flushed,
    /// A sign of life, asked for at this time of ours in microseconds.
    Beat(i64),
}

struct Batch {
    tap: Arc<Tap>,
    keys: Vec<Key>,
    asking: bool,
    asked: Instant,
    /// Since when the listener hears this node.
    since: Millis,
    /// A reply, and the mark of the evidence when it was read; for a living key what it may use.
    replies: Vec<(Reply, u64, Option<Used>)>,
    /// What TIME said.
    time: Option<i64>,
    /// Under client tracking: what the node's clock showed in an earlier turn than that of any answer.
    begun: Millis,
    /// The node has not said that it is no master, nor kept it to itself.
    master: bool,
    /// It was answered already: too late.
    over: bool,
}

pub struct Session<'a> {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    /// Something was written that may not have been sent: under TLS a record may be left.
    unsent: bool,
    received: Frames,
    core: Core<'a>,
    guidance: watch::Receiver<Arc<Guidance>>,
    notifications: watch::Receiver<Notifications>,
}

/// How a session ended.
pub struct Ended {
    pub why: Fault,
    /// The node refuses client tracking.
    pub refused: bool,
}

/// Client tracking.
struct Tracking {
    /// It was refused, in this session or in one before.
    refused: bool,
    /// The prefixes that are tracked.
    prefixes: Vec<Vec<u8>>,
    /// Not asked yet, and since when. `None`: given up.
    waiting: VecDeque<Option<(Ask, Instant)>>,
    /// Answered, and what happened before may not have been told yet.
    answered: VecDeque<Batch>,
    /// When a flush was last told, by our clock.
    flushed: Millis,
}

/// Something that was pushed could not be kept.
struct Overflow {
    told: Instant,
    /// And again since that was told.
    again: bool,
}

/// All that a frame changes.
struct Core<'a> {
    setting: &'a Setting,
    publish: &'a watch::Sender<Connection>,
    offset: &'a Offset,
    offsets: Offsets,
    watch: Watch,
    now: Arc<Guidance>,
    outbox: Vec<u8>,
    expected: VecDeque<Expected>,
    batches: VecDeque<Batch>,
    source: Source,
    tracking: Tracking,
    /// Channels of the keyspace begin with this.
    prefix: Vec<u8>,
    /// `PTTL` in place of `PEXPIRETIME`: before 7.0.
    relative: bool,
    /// A node of a cluster says by itself whose a key is. Any other server answers whatever it is, so it is asked what.
    clustered: bool,
    /// When the first subscription was opened, by our clock.
    since: Option<Millis>,
    /// What is subscribed to, and since when, by our clock.
    patterns: Vec<(Vec<u8>, Millis)>,
    wanted: Vec<Vec<u8>>,
    slot_channels: SlotSet,
    /// Shard channels are to be had.
    sharded: bool,
    told: Vec<Arc<Tap>>,
    lapses: u64,
    /// What the node was held for last.
    role: Option<crate::topology::Role>,
    overflow: Option<Overflow>,
    failed: Option<Fault>,
    /// A look was denied by the ACL: what of it.
    denied: Option<Denied>,
}

/// What a look needs to be allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Denied {
    Key,
    Role,
}

impl<'a> Session<'a> {
    /// Connects and says HELLO; the subscriptions follow in [`Session::run`]. `refused`: client tracking was.
    pub async fn open(
        setting: &'a Setting,
        refused: bool,
        address: Address,
        publish: &'a watch::Sender<Connection>,
        offset: &'a Offset,
    ) -> Result<Self, Fault> {
        let late = |_| Err(FaultCategory::Unreachable.fault(format!("no answer within {OPENING:?}")));
        let opening = async {
            let end = Instant::now() + OPENING;
            let tls = setting.plan.tls.as_ref();
            let stream = setting.dialler.open(&address, tls, OPENING).await.map_err(|error| io(&error))?;
            stream.set_nodelay().map_err(|error| io(&error))?;
            timeout_at(end, hello(stream, &setting.plan, &setting.id)).await.unwrap_or_else(late)
        };
        let (stream, relative) = opening.await.map_err(|fault| fault.at(&address))?;
        let (reader, writer) = tokio::io::split(stream);
        let source = setting.source(refused);
        publish.send_modify(|connection| {
            connection.source = source;
            connection.address = Some(address);
            connection.patterns = Arc::default();
        });
        let guidance = setting.guidance.clone();
        let core = Core {
            setting,
            publish,
            offset,
            offsets: Offsets::default(),
            watch: Watch::new(Instant::now()),
            now: guidance.borrow().clone(),
            outbox: Vec::new(),
            expected: VecDeque::new(),
            batches: VecDeque::new(),
            source,
            tracking: Tracking {
                refused,
                prefixes: Vec::new(),
                waiting: VecDeque::new(),
                answered: VecDeque::new(),
                flushed: Millis(i64::MIN),
            },
            prefix: format!("__keyspace@{}__:", setting.plan.database).into_bytes(),
            relative,
            clustered: setting.plan.mode == Mode::Cluster,
            since: None,
            patterns: Vec::new(),
            wanted: Vec::new(),
            slot_channels: SlotSet::default(),
            sharded: setting.plan.mode == Mode::Cluster,
            told: Vec::new(),
            lapses: 0,
            role: None,
            overflow: None,
            failed: None,
            denied: None,
        };
        let received = Frames::with_capacity(1 << 16);
        let notifications = setting.notifications.clone();
        Ok(Self { reader, writer, unsent: false, received, core, guidance, notifications })
    }

    /// Serves until the connection ends, and says why it did, or until `stop`. Every look that it has taken is answered.
    pub async fn run(mut self, asked: &mut mpsc::Receiver<Ask>, stop: &CancellationToken) -> Option<Ended> {
        let ended = stop.run_until_cancelled(self.serve(asked)).await;
        self.core.give_up();
        Some(Ended { why: ended?, refused: self.core.tracking.refused })
    }

    async fn serve(&mut self, asked: &mut mpsc::Receiver<Ask>) -> Fault {
        self.core.beat();
        self.core.subscribe();
        // At the same moments in all sessions, so that they wake the process together.
        let mut tick = interval_at(clock::next(TICK), TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut beat = clock::next(BEAT);
        loop {
            if let Some(failed) = self.core.failed.take() {
                return failed;
            }
            tokio::select! {
                read = self.reader.read_buf(&mut self.received.inbox) => match read {
                    Ok(0) => return closed(),
                    Ok(_) => if let Err(error) = self.frames() { return error },
                    Err(error) => return io(&error),
                },
                sent = send(&mut self.writer, &self.core.outbox), if self.unsent || !self.core.outbox.is_empty() => match sent {
                    Ok(0) if self.core.outbox.is_empty() => self.unsent = false,
                    Ok(0) => return closed(),
                    Ok(count) => {
                        self.core.outbox.drain(..count);
                        self.unsent = self.core.setting.plan.tls.is_some();
                    }
                    Err(error) => return io(&error),
                },
                Some(ask) = asked.recv(), if self.core.outbox.len() < OUTBOX => {
                    self.core.ask(ask);
                    while self.core.outbox.len() < OUTBOX && let Ok(ask) = asked.try_recv() {
                        self.core.ask(ask);
                    }
                }
                changed = self.guidance.changed() => {
                    if changed.is_err() { return FaultCategory::Other.fault("the deployment has stopped") }
                    self.core.now = self.guidance.borrow_and_update().clone();
                    self.core.guided();
                }
                Ok(()) = self.notifications.changed() => {
                    if self.core.setting.source(self.core.tracking.refused) != self.core.source {
                        return anew("how it tells of changes is another now");
                    }
                }
                _ = tick.tick() => {
                    // What has arrived is read before anything is called late: the delay may have been ours.
                    if let Err(error) = self.read_what_is_there() { return error }
                    if let Verdict::Dead = self.core.watched() {
                        return FaultCategory::Unreachable.fault(format!("silent for {:?}", super::DEAD_AFTER));
                    }
                    self.core.late();
                    if self.core.overflow.as_ref().is_some_and(|overflow| overflow.again) {
                        self.core.overflow();
                    }
                    self.core.subscribe_slots();
                    if Instant::now() >= beat {
                        beat = clock::next(BEAT);
                        self.core.beat();
                    }
                }
            }
        }
    }

    fn read_what_is_there(&mut self) -> Result<(), Fault> {
        loop {
            // Whatever this task has done in its turn already.
            match unconstrained(self.reader.read_buf(&mut self.received.inbox)).now_or_never() {
                Some(Ok(0)) => return Err(closed()),
                Some(Ok(_)) => self.frames()?,
                None => return Ok(()),
                Some(Err(error)) => return Err(io(&error)),
            }
        }
    }

    /// Applies every whole frame, in order, then wakes the listeners once.
    fn frames(&mut self) -> Result<(), Fault> {
        if self.guidance.has_changed().unwrap_or(false) {
            self.core.now = self.guidance.borrow_and_update().clone();
            self.core.guided();
        }
        self.core.watch.heard(Instant::now());
        let at = clock::micros();
        while let Some(frame) = self.received.next(&self.core.prefix).map_err(|error| unreadable(&error))? {
            match frame {
                Frame::Push(push) => self.core.pushed(push, at),
                Frame::Reply(reply) => self.core.replied(&reply)?,
            }
        }
        for tap in self.core.told.drain(..) {
            tap.news.notify_one();
        }
        Ok(())
    }
}

impl Core<'_> {
    fn id(&self) -> &NodeId {
        &self.setting.id
    }

    fn trusted_master(&self) -> bool {
        !self.watch.suspect() && self.now.topology.node(self.id()).is_some_and(crate::topology::Node::is_master)
    }

    fn owns(&self, slot: Slot) -> bool {
        self.now.topology.owns(self.id(), slot)
    }

    fn pushed(&mut self, push: Push, at: i64) {
        match push {
            Push::Keyspace { pattern, key, sort } => self.heard(&pattern, &key, sort, at),
            Push::Changed(keys) => {
                for key in keys {
                    self.changed(&key, at);
                }
            }
            Push::Flushed => self.flushed(),
            Push::Subscribed => match self.expected.pop_front() {
                Some(Expected::Pattern(pattern)) => self.subscribed(pattern),
                Some(Expected::SlotChannel) | None => {}
                Some(other) => self.expected.push_front(other),
            },
            Push::SlotLeft => self.setting.refresh.request(),
            Push::Other => {}
        }
    }

    fn heard(&mut self, pattern: &[u8], key: &Key, sort: Sort, at: i64) {
        self.hear(|tap| tap.pattern == pattern, key, sort, at);
    }

    fn changed(&mut self, key: &Key, at: i64) {
        self.hear(|tap| glob::matches(&tap.pattern, key.as_bytes()), key, Sort::Changed, at);
    }

    /// By client tracking: all may be gone, and nothing was told of any key.
    fn flushed(&mut self) {
        self.give_up();
        self.tracking.flushed = clock::now();
        // What was changed in the same turn, before it, is told behind it.
        self.ask_time(Expected::Flushed);
        self.publish.send_modify(|connection| connection.continuity += 1);
    }

    /// Answers all looks that there is no answer.
    fn give_up(&mut self) {
        self.give_up_those(&NoAnswer::Disconnected, |_| true);
    }

    /// ... those that were asked for then.
    fn give_up_those(&mut self, why: &NoAnswer, concerns: impl Fn(Instant) -> bool) {
        for batch in self.tracking.answered.iter_mut().chain(&mut self.batches).filter(|batch| concerns(batch.asked)) {
            batch.give_up(&self.setting.id, why);
        }
        for waiting in &mut self.tracking.waiting {
            if let Some((ask, _)) = waiting.take_if(|(_, asked)| concerns(*asked)) {
                ask.tap.no_answer(&self.setting.id, ask.keys, why);
            }
        }
    }

    fn hear(&mut self, concerns: impl Fn(&Tap) -> bool, key: &Key, sort: Sort, at: i64) {
        if key.as_bytes().starts_with(STORE_PREFIX) {
            return;
        }
        let master = self.trusted_master();
        let standing = Standing { master, owner: master && self.owns(key.slot()), suspect: self.watch.suspect() };
        let heard = Heard {
            sort,
            node: self.id().clone(),
            at: Millis(at.div_euclid(1_000)),
            server_at: Millis(self.offsets.latest(at).unwrap_or(at).div_euclid(1_000)),
        };
        let now = Arc::clone(&self.now);
        for tap in now.taps.iter().filter(|tap| concerns(tap)) {
            if tap.evidence().hear(key, heard.clone(), standing).is_err() {
                self.overflow();
            }
            if !self.told.iter().any(|told| Arc::ptr_eq(told, tap)) {
                self.told.push(Arc::clone(tap));
            }
        }
    }

    /// Something that was pushed is not in the evidence: a gap, once a second at most.
    fn overflow(&mut self) {
        match &mut self.overflow {
            // A resync that has begun may have looked at its key before.
            Some(overflow) if overflow.told.elapsed() < Duration::from_secs(1) => overflow.again = true,
            _ => {
                self.overflow = Some(Overflow { told: Instant::now(), again: false });
                tracing::warn!(node = %self.id(), "More was pushed than a listener could look at; the node is scanned again.");
                self.publish.send_modify(|connection| connection.continuity += 1);
            }
        }
    }

    fn subscribed(&mut self, pattern: Vec<u8>) {
        let now = clock::now();
        self.patterns.push((pattern, now));
        let patterns = self.subscribed_patterns();
        let first = self.since.is_none();
        let since = *self.since.get_or_insert(now);
        let trusted = !self.watch.suspect();
        self.publish.send_modify(|connection| {
            connection.patterns = patterns;
            connection.since = Some(since);
            connection.trusted = trusted;
            connection.error = None;
            // Whatever was pushed before is missed.
            connection.continuity += u64::from(first);
        });
        // Suspect until another master confirms it.
        self.setting.refresh.request();
    }

    fn subscribed_patterns(&self) -> Arc<BTreeSet<Vec<u8>>> {
        Arc::new(self.patterns.iter().map(|(pattern, _)| pattern.clone()).collect())
    }

    /// What a listener of that pattern heard from this node began then; never, if it hears nothing yet.
    fn since(&self, pattern: &[u8]) -> Millis {
        self.patterns.iter().find(|(found, _)| found == pattern).map_or(Millis(i64::MAX), |(_, since)| *since)
    }

    fn replied(&mut self, value: &Value) -> Result<(), Fault> {
        match self.expected.pop_front() {
            None => return Err(FaultCategory::Other.fault(format!("an answer to nothing: {value:?}"))),
            Some(Expected::Pattern(pattern)) => {
                let channel = format!("{}{}", self.prefix.escape_ascii(), pattern.escape_ascii());
                self.failed = Some(match value {
                    Value::ServerError(error) if error.code() == "NOPERM" => FaultCategory::Permission.fault(format!(
                        "{error}: grant the ACL user +psubscribe and the channel pattern &{channel}, letter by letter"
                    )),
                    Value::ServerError(error) => {
                        FaultCategory::of_code(error.code()).fault(format!("PSUBSCRIBE {channel}: {value:?}"))
                    }
                    other => FaultCategory::Other.fault(format!("PSUBSCRIBE {channel}: {other:?}")),
                });
            }
            Some(Expected::Tracked(pattern)) => match value {
                Value::ServerError(error) => {
                    // Whatever else it may be, it passes.
                    if matches!(error.code(), "NOPERM" | "ERR") {
                        self.tracking.refused = true;
                    }
                    let fix = match error.code() {
                        "NOPERM" => ": grant the ACL user +client|tracking",
                        _ => "",
                    };
                    let fault = FaultCategory::of_code(error.code());
                    self.failed = Some(fault.fault(format!("CLIENT TRACKING: {error}{fix}")));
                }
                _ => self.subscribed(pattern),
            },
            Some(Expected::SlotChannel) => match value {
                Value::ServerError(error) if matches!(error.code(), "MOVED" | "CLUSTERDOWN") => {
                    self.setting.refresh.request();
                }
                // Not there before 7.0, or not permitted: polling alone must do.
                _ => self.sharded = false,
            },
            Some(Expected::Asking) => {}
            Some(Expected::Role) => self.role_answered(value),
            Some(Expected::Key) => self.key_answered(value),
            Some(Expected::Barrier) => self.barrier(wire::time(value)),
            Some(Expected::Begun) => {
                if let Some(Some((ask, asked))) = self.tracking.waiting.pop_front() {
                    match wire::time(value) {
                        Some(time) => self.look(ask, asked, Millis(time.div_euclid(1_000))),
                        None => ask.tap.no_answer(&self.setting.id, ask.keys, &NoAnswer::Late),
                    }
                }
            }
            Some(Expected::Told) => {
                if let Some(mut batch) = self.tracking.answered.pop_front() {
                    match self.still_master(value) {
                        Some(true) => {}
                        Some(false) => {
                            batch.master = false;
                            self.setting.refresh.request();
                        }
                        // Without an answer nobody knows that all was told.
                        None => batch.time = None,
                    }
                    self.conclude(batch);
                }
            }
            Some(Expected::Flushed) => self.tracking.flushed = clock::now(),
            Some(Expected::Beat(sent)) => {
                if let Some(theirs) = wire::time(value) {
                    self.offset.set(self.offsets.exchange(sent, clock::micros(), theirs));
                }
            }
        }
        Ok(())
    }

    /// One that became a replica meanwhile, or was one until now, answers for nobody.
    fn role_answered(&mut self, value: &Value) {
        let role = wire::role(value);
        if matches!(value, Value::ServerError(error) if error.code() == "NOPERM") {
            self.denied = Some(Denied::Role);
        } else if role == Some(false) {
            self.setting.refresh.request();
        }
        if let Some(batch) = self.batches.front_mut() {
            batch.master &= role == Some(true);
        }
    }

    fn key_answered(&mut self, value: &Value) {
        let Some(batch) = self.batches.front_mut() else { return };
        let reply = wire::reply(value, self.relative);
        if batch.over {
            batch.replies.push((reply, 0, None));
            return;
        }
        let key = &batch.keys[batch.replies.len().min(batch.keys.len() - 1)];
        let mut evidence = batch.tap.evidence();
        let mark = evidence.mark();
        // An alive answer uses what came before the answer; a gone one what came before TIME, taken there.
        let used = match reply {
            Reply::Alive(_) | Reply::AliveFor(_) => {
                let answering = Answering { node: &self.setting.id, since: batch.since.max(self.tracking.flushed) };
                Some(evidence.take(key, answering, mark))
            }
            _ => None,
        };
        drop(evidence);
        batch.replies.push((reply, mark, used));
    }

    /// Everything that the looks of the oldest batch caused has arrived, but for what client tracking tells.
    fn barrier(&mut self, time: Option<i64>) {
        let Some(mut batch) = self.batches.pop_front() else { return };
        batch.time = time;
        if self.source == Source::Tracking && !batch.over {
            // Redis tells of what happened at the end of its turn, behind the answers of that turn. This is asked in a later one.
            self.ask_told(&batch);
            self.tracking.answered.push_back(batch);
            return;
        }
        self.conclude(batch);
    }

    /// One that was replaced meanwhile tells what its new master does: that is not what the looks have caused. So what is gone is
    /// asked about once more, which it answers with MOVED; outside of a cluster, it is asked what it is.
    fn ask_told(&mut self, batch: &Batch) {
        let mut answered = batch.keys.iter().zip(&batch.replies);
        if !self.clustered {
            wire::command(&mut self.outbox, &[b"ROLE"]);
        } else if let Some((key, _)) = answered.find(|(_, (reply, ..))| *reply == Reply::Gone) {
            self.ask_key(key, batch.asking);
        } else {
            return self.ask_time(Expected::Told);
        }
        self.expected.push_back(Expected::Told);
    }

    /// Reads the answer to that; `None`: it has none.
    fn still_master(&self, value: &Value) -> Option<bool> {
        if !self.clustered {
            return wire::role(value);
        }
        match wire::reply(value, self.relative) {
            Reply::Moved => Some(false),
            Reply::None(_) => wire::time(value).map(|_| true),
            Reply::Alive(_) | Reply::AliveFor(_) | Reply::Gone | Reply::Ask(..) => Some(true),
        }
    }

    /// Everything that the looks of a batch caused has arrived.
    fn conclude(&mut self, batch: Batch) {
        if batch.over {
            return;
        }
        let time = batch.time;
        let late = batch.asked.elapsed() > ANSWER_WITHIN;
        let trusted = self.trusted_master();
        let now = Millis(time.unwrap_or_default().div_euclid(1_000));
        let answering = Answering { node: &self.setting.id, since: batch.since.max(self.tracking.flushed) };
        let mut looks = Vec::with_capacity(batch.keys.len());
        let mut redirected = Vec::new();
        let mut evidence = batch.tap.evidence();
        for (key, (reply, mark, used)) in batch.keys.into_iter().zip(batch.replies) {
            let refused = if late || time.is_none() {
                Some(NoAnswer::Late)
            } else if self.watch.suspect() {
                Some(NoAnswer::Suspect)
            } else if !trusted
                || !batch.master
                || !(batch.asking || self.now.topology.owns(&self.setting.id, key.slot()))
            {
                Some(NoAnswer::NotOwner)
            } else {
                None
            };
            let answer = match (refused, reply) {
                (Some(why), _) => Answer::None(why),
                (None, Reply::Alive(deadline)) => Answer::Alive(deadline),
                (None, Reply::AliveFor(left)) => Answer::Alive(Some(now.plus(left))),
                (None, Reply::Gone) => Answer::Gone,
                (None, Reply::Moved) => {
                    self.setting.refresh.request();
                    Answer::None(NoAnswer::NotOwner)
                }
                (None, Reply::Ask(host, port)) if !batch.asking => {
                    self.setting.refresh.request();
                    let host = host.or_else(|| Some(self.publish.borrow().address.as_ref()?.host.to_string()));
                    redirected.push((key, Address::new(&host.unwrap_or_default(), port)));
                    continue;
                }
                (None, Reply::Ask(..)) => Answer::None(NoAnswer::NotOwner),
                (None, Reply::None(code)) => {
                    match code.as_str() {
                        "CLUSTERDOWN" | "READONLY" => self.setting.refresh.request(),
                        "NOPERM" => self.denied = Some(Denied::Key),
                        _ => {}
                    }
                    Answer::None(NoAnswer::Error(code))
                }
            };
            let used = match (&answer, used) {
                (Answer::None(_), Some(used)) => {
                    evidence.put_back(&key, used);
                    Used::default()
                }
                (Answer::None(_), None) => Used::default(),
                (_, Some(used)) => used,
                (_, None) => evidence.take(&key, answering, mark).heard_by(clock::now(), now, batch.begun),
            };
            looks.push(Look { key, node: self.setting.id.clone(), answer, now, used });
        }
        drop(evidence);
        if let Some(denied) = self.denied.take() {
            self.tell_denied(denied, &batch.tap.pattern);
        }
        if !looks.is_empty() {
            batch.tap.tell(looks);
        }
        for (key, to) in redirected {
            self.redirect(&batch.tap, key, &to);
        }
    }

    fn tell_denied(&self, denied: Denied, pattern: &[u8]) {
        let question = if self.relative { "pttl" } else { "pexpiretime" };
        let error = FaultCategory::Permission.fault(match denied {
            Denied::Key => format!(
                "keys cannot be looked at (NOPERM): grant the ACL user +{question} +time and %R~{}",
                pattern.escape_ascii()
            ),
            Denied::Role => "it may not say whether it is the master (NOPERM): grant the ACL user +role".to_owned(),
        });
        self.publish.send_if_modified(|connection| {
            let changed = connection.error.as_ref() != Some(&error);
            connection.error = Some(error);
            changed
        });
    }

    /// Follows an ASK: the importing node is asked, with ASKING.
    fn redirect(&self, tap: &Arc<Tap>, key: Key, to: &Address) {
        let target = self.now.topology.at(to).and_then(|node| self.now.asks.get(&node.id));
        let ask = Ask { tap: Arc::clone(tap), keys: vec![key], asking: true };
        let unsent = match target {
            Some(target) => target.try_send(ask).err().map(mpsc::error::TrySendError::into_inner),
            None => Some(ask),
        };
        if let Some(ask) = unsent {
            ask.tap.no_answer(&self.setting.id, ask.keys, &NoAnswer::NotOwner);
        }
    }

    fn ask(&mut self, ask: Ask) {
        if ask.keys.is_empty() {
            return;
        }
        let asked = Instant::now();
        if self.source == Source::Tracking {
            // What is asked now is answered in a later turn than this.
            self.ask_time(Expected::Begun);
            self.tracking.waiting.push_back(Some((ask, asked)));
            return;
        }
        self.look(ask, asked, Millis(i64::MIN));
    }

    /// Asks about the keys. `begun`: what the node's clock showed in an earlier turn.
    fn look(&mut self, ask: Ask, asked: Instant, begun: Millis) {
        self.ask_role();
        for key in &ask.keys {
            self.ask_key(key, ask.asking);
            self.expected.push_back(Expected::Key);
        }
        self.ask_role();
        self.ask_time(Expected::Barrier);
        let replies = Vec::with_capacity(ask.keys.len());
        let since = self.since(&ask.tap.pattern);
        self.batches.push_back(Batch {
            since,
            tap: ask.tap,
            keys: ask.keys,
            asking: ask.asking,
            asked,
            begun,
            replies,
            time: None,
            master: true,
            over: false,
        });
    }

    fn ask_key(&mut self, key: &Key, asking: bool) {
        let question: &[u8] = if self.relative { b"PTTL" } else { b"PEXPIRETIME" };
        if asking {
            wire::command(&mut self.outbox, &[b"ASKING"]);
            self.expected.push_back(Expected::Asking);
        }
        wire::command(&mut self.outbox, &[question, key.as_bytes()]);
    }

    fn ask_time(&mut self, expected: Expected) {
        wire::command(&mut self.outbox, &[b"TIME"]);
        self.expected.push_back(expected);
    }

    fn ask_role(&mut self) {
        if !self.clustered {
            wire::command(&mut self.outbox, &[b"ROLE"]);
            self.expected.push_back(Expected::Role);
        }
    }

    /// Says of batches that they are too late; their replies are passed over when they come.
    fn late(&mut self) {
        self.give_up_those(&NoAnswer::Late, |asked| asked.elapsed() > ANSWER_WITHIN);
    }

    /// A sign of life that also tells the node's clock.
    fn beat(&mut self) {
        self.ask_time(Expected::Beat(clock::micros()));
    }

    fn subscribe(&mut self) {
        let now = Arc::clone(&self.now);
        let left = |pattern: &Vec<u8>| !now.taps.iter().any(|tap| tap.pattern == *pattern);
        if self.patterns.iter().any(|(pattern, _)| left(pattern)) {
            for (pattern, _) in self.patterns.extract_if(.., |(pattern, _)| left(pattern)) {
                // What is tracked stays so until the connection is made anew.
                if self.source == Source::Notifications {
                    let channel = [self.prefix.as_slice(), &pattern].concat();
                    wire::command(&mut self.outbox, &[b"PUNSUBSCRIBE", &channel]);
                }
                self.wanted.retain(|wanted| *wanted != pattern);
            }
            let patterns = self.subscribed_patterns();
            self.publish.send_modify(|connection| connection.patterns = patterns);
        }
        let mut new: Vec<&Vec<u8>> = Vec::new();
        for tap in &now.taps {
            if !self.wanted.contains(&tap.pattern) {
                self.wanted.push(tap.pattern.clone());
                new.push(&tap.pattern);
            }
        }
        if self.source == Source::Tracking {
            return self.track(new);
        }
        for pattern in new {
            let channel = [self.prefix.as_slice(), pattern].concat();
            wire::command(&mut self.outbox, &[b"PSUBSCRIBE", &channel]);
            self.expected.push_back(Expected::Pattern(pattern.clone()));
        }
    }

    /// Client tracking knows prefixes, none of which may begin with another.
    fn track(&mut self, patterns: Vec<&Vec<u8>>) {
        let mut wanted: Vec<_> = patterns.into_iter().map(|pattern| (glob::literal_prefix(pattern), pattern)).collect();
        // The shortest first: it may have others in it.
        wanted.sort();
        for (prefix, pattern) in wanted {
            if self.tracking.prefixes.iter().any(|tracked| prefix.starts_with(tracked)) {
                self.ask_time(Expected::Tracked(pattern.clone()));
            } else if self.tracking.prefixes.iter().any(|tracked| tracked.starts_with(&prefix)) {
                self.failed = Some(anew("more of its keys are tracked"));
                return;
            } else {
                wire::track(&mut self.outbox, &prefix);
                self.tracking.prefixes.push(prefix);
                self.expected.push_back(Expected::Tracked(pattern.clone()));
            }
        }
    }

    /// Some slots' shard channels at a time, so that no look waits for them.
    fn subscribe_slots(&mut self) {
        if !self.sharded || self.since.is_none() {
            return;
        }
        let Some(node) = self.now.topology.node(&self.setting.id) else { return };
        if node.slots == self.slot_channels {
            return;
        }
        let missing: Vec<Slot> = node.slots.minus(&self.slot_channels).iter().take(SLOTS_A_TICK).collect();
        let kept = self.slot_channels.iter().filter(|slot| node.slots.contains(*slot));
        self.slot_channels = kept.chain(missing.iter().copied()).collect();
        for slot in missing {
            wire::command(&mut self.outbox, &[b"SSUBSCRIBE", wire::slot_channel(slot).as_bytes()]);
            self.expected.push_back(Expected::SlotChannel);
        }
    }

    fn guided(&mut self) {
        use crate::topology::Role;
        let role = self.now.topology.node(self.id()).map(|node| node.role.clone());
        let before = std::mem::replace(&mut self.role, role);
        if before == Some(Role::Master) && self.role != before {
            for tap in &self.now.taps {
                tap.evidence().demoted(&self.setting.id);
            }
        }
        if let Some(asked_at) = self.now.confirmed.get(&self.setting.id) {
            self.watch.confirmed(*asked_at);
        }
        self.subscribe();
        self.watched();
    }

    /// Looks at the watch and tells what has changed.
    fn watched(&mut self) -> Verdict {
        let verdict = self.watch.verdict(Instant::now());
        let trusted = verdict == Verdict::Trusted;
        let lapsed = self.watch.lapses() - self.lapses;
        self.lapses += lapsed;
        let open = self.since.is_some();
        self.publish.send_if_modified(|connection| {
            let changed = lapsed > 0 || (open && connection.trusted != trusted);
            connection.continuity += lapsed;
            connection.trusted = open && trusted;
            changed
        });
        if lapsed > 0 {
            self.setting.refresh.request();
        }
        verdict
    }
}

impl Batch {
    /// Answers it with `why`, if it was not answered yet.
    fn give_up(&mut self, node: &NodeId, why: &NoAnswer) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let mut evidence = self.tap.evidence();
        for (key, (_, _, used)) in self.keys.iter().zip(&mut self.replies) {
            if let Some(used) = used.take() {
                evidence.put_back(key, used);
            }
        }
        drop(evidence);
        self.tap.no_answer(node, std::mem::take(&mut self.keys), why);
    }
}

/// The connection is to be made anew though nothing is wrong with it.
fn anew(why: &str) -> Fault {
    FaultCategory::Other.fault(format!("it is connected to anew: {why}"))
}

fn closed() -> Fault {
    FaultCategory::Unreachable.fault("the node closed the connection")
}

fn io(error: &std::io::Error) -> Fault {
    dial::category(error).fault(dial::advised(error, dial::For::Redis))
}

fn unreadable(error: &redis::RedisError) -> Fault {
    FaultCategory::Other.fault(error.to_string())
}

/// Writes of `bytes` what can be written now, or where there are none sends what was written. Says how many it has written.
async fn send(writer: &mut WriteHalf<Stream>, bytes: &[u8]) -> std::io::Result<usize> {
    if bytes.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    writer.write(bytes).await
}

/// HELLO 3, our name, and the node's: an address may lead elsewhere. Says whether `PTTL` must do.
async fn hello(mut stream: Stream, plan: &RedisPlan, id: &NodeId) -> Result<(Stream, bool), Fault> {
    let mut out = Vec::new();
    let username = plan.username.as_deref().unwrap_or("default");
    let mut words: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if let Some(password) = &plan.password {
        words.extend([b"AUTH".as_slice(), username.as_bytes(), &password.0]);
    }
    wire::command(&mut out, &words);
    wire::command(&mut out, &[b"CLIENT", b"SETNAME", b"redis-expiry-operator"]);
    let clustered = plan.mode == Mode::Cluster;
    let who: [&[u8]; 2] = if clustered { [b"CLUSTER", b"MYID"] } else { [b"INFO", b"server"] };
    wire::command(&mut out, &who);
    // Where there is but one, none need be selected, nor be allowed to.
    let database = plan.database.to_string();
    let wanted = if plan.database == 0 { 3 } else { 4 };
    if wanted == 4 {
        wire::command(&mut out, &[b"SELECT", database.as_bytes()]);
    }
    stream.write_all(&out).await.map_err(|error| io(&error))?;
    stream.flush().await.map_err(|error| io(&error))?;
    let mut inbox = BytesMut::new();
    let mut codec = ValueCodec::default();
    let mut replies = Vec::new();
    while replies.len() < wanted {
        if let Some(value) = codec.decode(&mut inbox).map_err(|error| unreadable(&error))? {
            replies.push(value);
            continue;
        }
        let ended = match stream.read_buf(&mut inbox).await {
            Ok(0) => closed(),
            Ok(_) => continue,
            Err(error) => io(&error),
        };
        // Nothing was said.
        let first = replies.is_empty() && inbox.is_empty() && ended.category != FaultCategory::Tls;
        let hung_up = || HungUp { why: ended.to_string(), secured: plan.tls.is_some() };
        return Err(if first { io(&std::io::Error::other(hung_up())) } else { ended });
    }
    if let Value::ServerError(error) = &replies[0] {
        let message = match error.code() {
            "NOAUTH" => format!("{error}: set spec.redis.passwordSecretRef (and usernameSecretRef for an ACL user)"),
            "WRONGPASS" => {
                format!("{error}: check the Secrets of spec.redis.usernameSecretRef and spec.redis.passwordSecretRef")
            }
            "NOPERM" => format!("{error}: grant the ACL user +hello +auth"),
            _ => format!("HELLO 3: {error}"),
        };
        return Err(FaultCategory::of_code(error.code()).fault(message));
    }
    if let Some(found) = wire::identity(&replies[2], clustered)
        && found != id.as_str().as_bytes()
    {
        let found = found.escape_ascii();
        let message = format!("another node answers there: {found} instead of {id}; see spec.redis.addressMap");
        return Err(FaultCategory::Other.fault(message));
    }
    if let Some(Value::ServerError(error)) = replies.get(3) {
        let fix = match error.code() {
            "NOPERM" => ": grant the ACL user +select",
            _ => ": correct spec.redis.database",
        };
        return Err(FaultCategory::of_code(error.code()).fault(format!("SELECT {database}: {error}{fix}")));
    }
    Ok((stream, version(&replies[0]).is_some_and(|major| major < 7)))
}

/// The major version that HELLO tells.
fn version(hello: &Value) -> Option<u32> {
    let Value::Map(fields) = hello else { return None };
    let (_, version) = fields.iter().find(|(name, _)| {
        matches!(name, Value::BulkString(text) if text == b"version")
            || matches!(name, Value::SimpleString(text) if text == "version")
    })?;
    match version {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.split('.').next()?.parse().ok(),
        Value::SimpleString(text) => text.split('.').next()?.parse().ok(),
        _ => None,
    }
}
