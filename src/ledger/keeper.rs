//! Keeps one listener's ledger: the task that owns the book.
//!
//! Everything that waits (for the store, for a page) is a future in one set, so that nothing here ever blocks a look.
//! A key is in flight from the question until the store has what it came to; so the book is never older than the store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    losses::{Compare, Restoring},
    troubles::{Call, Troubles},
    undurable::{Ticket, Undurable},
    works::{Work, Works},
};
use super::{
    Again, Book, Foreign, Identity, IdentityError, Judgement, Naming, Purpose, judge,
    resync::{self, Request, Resynced},
};
use crate::{
    clock,
    deployment::{Answer, Look, Looks, NoAnswer, Port, View},
    meters::{Ended, Label as _, Looked, Shared},
    model::{Deadline, Event, Evidence, Key, KeyMap, KeySet, NodeId, SlotSet},
    plan::Glob,
    store::{Applying, Change, Entry, Epoch, Known, Reply, Store, StoreError, meta},
};

mod losses;
mod troubles;
mod undurable;
mod works;

/// Keys in flight, those that the store refuses among them. Hints and deadlines beyond it wait where they are.
const IN_FLIGHT: usize = 12_288;
/// A call of the store has about this many keys, where so many are there.
const TOGETHER: usize = 1_024;
/// We ask this much after the deadline: Redis expires a key when its clock is *past* it (facts/redis.md 1.1). The rest
/// is for the error of the clock offset, so that the first look is rarely early.
const AFTER_MICROS: i64 = 1_000 + 150;
/// A clock that moved this much moves every deadline.
const CLOCK_MOVED_MICROS: i64 = 1_000;
/// How often a node is scanned whose notifications are off.
const DEAF_INTERVAL: Duration = Duration::from_secs(10);
/// Slots move one by one, thousands of them: the node that gets them is scanned once for all that came within this time.
const MOVES_TOGETHER: Duration = Duration::from_secs(1);
/// How often it is seen to what nobody says: [`clock::AT_REST`] where nothing goes on, and nothing soon falls due.
const TICK: Duration = Duration::from_millis(250);
const SOON_MICROS: i64 = 2_000_000;
/// While the store refuses.
const REFUSED_WAIT: Duration = Duration::from_millis(250);

/// What a keeper is given.
#[derive(Clone, Debug)]
pub struct Settings {
    pub naming: Naming,
    pub pattern: Glob,
    /// `None`: no periodic scan.
    pub resync_interval: Option<Duration>,
    pub foreign: Foreign,
}

/// How the ledger fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The masters whose data was seen whole since their last gap.
    pub synced: Vec<NodeId>,
    /// Every master is subscribed and scanned, and every slot has an owner.
    pub ready: bool,
    pub gaps: u64,
    /// How often the store had lost what it had acknowledged, and could not make it good by itself.
    pub store_losses: u64,
    pub resync_found: u64,
    pub witnessed: u64,
    pub inferred: u64,
    pub dropped_by_pattern: u64,
    pub in_flight: usize,
    /// Why the store takes nothing.
    pub store_error: Option<StoreError>,
}

/// Why a keeper ended though nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error(transparent)]
    Foreign(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the deployment has stopped")]
    Deployment,
}

/// What goes out to delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// These lie in the outbox, or will as soon as the store takes them.
    Events(Vec<Event>),
    /// The outbox may hold some that were not handed out: the store has said late, or not at all, what it did.
    Unsure,
}

/// Never waits.
pub type Outlet = Box<dyn Fn(Settled) + Send>;

type Waiting = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a future has brought.
enum Done {
    Known(Vec<Look>, Result<Vec<Known>, StoreError>),
    Applied(Works, Result<Vec<bool>, StoreError>, Reply<()>),
    Durable(Works, Call, Ticket, Result<(), StoreError>),
    /// What the store has of keys whose changes it refused.
    Refused(Works, Result<Vec<Known>, StoreError>),
    JudgeAgain(Works),
    /// What the store has of entries that it should have.
    Compared(Compare, Result<Vec<Known>, StoreError>),
    Compare(Compare),
    /// What a store that has lost it was told of us.
    WrittenAnew(bool, Result<(), StoreError>),
    WriteAnew(bool),
    /// The store did not say what it knows of these: ask again.
    Ask(Vec<Look>),
    Page(Result<Vec<Entry>, StoreError>),
    Unreadable,
    /// It is time to try the refused again.
    Again,
}

/// What must not be asked before it is known what became of all that was done.
enum Behind {
    Looks(Vec<Look>),
    Works(Works),
}

/// What a node was when it was last seen whole.
#[derive(Clone, PartialEq, Eq)]
struct Synced {
    continuity: u64,
    epoch: u64,
    slots: SlotSet,
}

/// A resync under way.
struct Running {
    kind: resync::Kind,
    /// What the node was when it began.
    basis: Synced,
    stop: CancellationToken,
}

/// A resync request that is being looked at.
struct Pending {
    node: NodeId,
    kind: resync::Kind,
    left: usize,
    gone: Vec<Key>,
    done: oneshot::Sender<Vec<Key>>,
}

/// The ledger's task.
pub struct Keeper {
    settings: Settings,
    port: Port,
    store: Arc<dyn Store>,
    outlet: Outlet,
    publish: watch::Sender<Stats>,
    meters: Shared,
    stats: Stats,
    book: Book,
    waiting: FuturesUnordered<Waiting>,
    /// Keys in flight whose entry was not what we thought: the store is asked before the next guess.
    doubted: KeySet,
    /// Judged, and refused by the store, by partition: done again in order, and none before that before it is durable. What is behind
    /// rests on what is ahead.
    refused: BTreeMap<usize, VecDeque<Works>>,
    /// The partitions in which that is under way.
    redoing: BTreeSet<usize>,
    /// How often a key is in what was refused. What the store has of it meanwhile is not what it is to have.
    owed: KeyMap<u32>,
    undurable: Undurable<Behind>,
    retrying: bool,
    troubles: Troubles,
    view: Arc<View>,
    offsets: HashMap<NodeId, i64>,
    synced: BTreeMap<NodeId, Synced>,
    resyncing: BTreeMap<NodeId, Running>,
    /// Resyncs were given up; others begin when these have ended.
    aborted: bool,
    /// The ledger was empty when we began: a node's first scan, if it is not broken off, finds all there is.
    fresh: bool,
    begun: BTreeSet<NodeId>,
    /// The nodes that the store knows the deployment by.
    identity: Identity,
    scanned: BTreeMap<NodeId, tokio::time::Instant>,
    /// `None`: it was broken off.
    tasks: JoinSet<(NodeId, Option<Result<Resynced, String>>)>,
    requests: mpsc::Sender<Request>,
    pending: HashMap<u64, Pending>,
    next_waiter: u64,
    restoring: Restoring,
}

impl Keeper {
    /// Keeps the ledger until `stop`, or until it must not: then says why.
    pub async fn run(
        settings: Settings,
        (port, looks): (Port, Looks),
        store: Arc<dyn Store>,
        outlet: Outlet,
        publish: watch::Sender<Stats>,
        meters: Shared,
        stop: CancellationToken,
    ) -> Result<(), Stopped> {
        let (requests, requested) = mpsc::channel(8);
        let view = Arc::clone(&port.view().borrow());
        let restoring = Restoring::after(store.losses());
        let mut keeper = Self {
            settings,
            port,
            store,
            outlet,
            publish,
            meters,
            stats: Stats::default(),
            book: Book::unread(),
            waiting: FuturesUnordered::new(),
            doubted: KeySet::default(),
            refused: BTreeMap::new(),
            redoing: BTreeSet::new(),
            owed: KeyMap::default(),
            undurable: Undurable::default(),
            retrying: false,
            troubles: Troubles::default(),
            view,
            offsets: HashMap::new(),
            synced: BTreeMap::new(),
            resyncing: BTreeMap::new(),
            aborted: false,
            fresh: false,
            begun: BTreeSet::new(),
            identity: Identity::default(),
            scanned: BTreeMap::new(),
            tasks: JoinSet::new(),
            requests,
            pending: HashMap::new(),
            next_waiter: 0,
            restoring,
        };
        let Some(opened) = stop.run_until_cancelled(keeper.open()).await else { return Ok(()) };
        opened?;
        let ended = keeper.serve(looks, requested, stop).await;
        keeper.tasks.shutdown().await;
        keeper.finish().await;
        ended
    }

    /// Sees to it that the ledger is this deployment's and this pattern's.
    async fn open(&mut self) -> Result<(), Stopped> {
        let mut views = self.port.view();
        let view = views.wait_for(|view| !view.nodes.is_empty()).await.map_err(|_| Stopped::Deployment)?.clone();
        let ours = Identity::of(&view.topology.known_by);
        let epoch = self.epoch();
        if let Some(theirs) = self.store.meta(meta::DEPLOYMENT).await?.as_deref().and_then(Identity::read)
            && let Err(foreign) = theirs.check(&ours)
        {
            match self.settings.foreign.keeps(&foreign) {
                None => return Err(foreign.into()),
                Some(true) => {}
                Some(false) => drop(self.store.discard_ledger(epoch).await?),
            }
        }
        self.store.set_meta(epoch, meta::DEPLOYMENT, ours.write()).await?;
        self.identity = ours;
        self.cover().await?;
        self.fresh = self.store.counts().await?.tracked == 0;
        self.view = view;
        Ok(())
    }

    /// A changed pattern drops the entries that it no longer covers.
    async fn cover(&mut self) -> Result<(), StoreError> {
        let pattern = self.settings.pattern.encoded();
        let before = self.store.meta(meta::PATTERN).await?;
        if before.as_ref().is_some_and(|before| *before != pattern) {
            let mut cursor = None;
            loop {
                let page = self.store.due(cursor.take(), 4_096).await?;
                cursor = page.last().map(|entry| (entry.seen.deadline, entry.key.clone()));
                let at = clock::now();
                let forgotten: Vec<Change> = page
                    .into_iter()
                    .filter(|entry| !self.settings.pattern.matches(entry.key.as_bytes()))
                    .map(|Entry { key, seen }| Change::Forget { key, saw: seen, at })
                    .collect();
                self.stats.dropped_by_pattern += forgotten.len() as u64;
                self.meters.ledger.dropped_by_pattern.add(forgotten.len() as u64);
                if !forgotten.is_empty() {
                    self.store.apply(self.epoch(), forgotten).done.await?;
                }
                if cursor.is_none() {
                    break;
                }
            }
        }
        self.store.set_meta(self.epoch(), meta::PATTERN, pattern).await
    }

    async fn serve(
        &mut self,
        mut looks: Looks,
        mut requested: mpsc::Receiver<Request>,
        stop: CancellationToken,
    ) -> Result<(), Stopped> {
        let mut views = self.port.view();
        views.mark_changed();
        let mut tick = Instant::now();
        loop {
            self.read_on();
            let next = self.book.next().filter(|_| self.room() > 0);
            let alarm = clock::instant_of(next.unwrap_or(0));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                done = looks.next() => {
                    let mut done = done.ok_or(Stopped::Deployment)?;
                    while done.len() < TOGETHER && let Some(more) = looks.ready() {
                        done.extend(more);
                    }
                    self.looked(done);
                }
                () = sleep_until(alarm), if next.is_some() => {
                    let keys = self.book.fall_due(clock::micros(), self.room());
                    self.port.ask(keys);
                }
                () = self.port.news(), if self.room() > 0 => self.hinted(),
                Some(done) = self.waiting.next(), if !self.waiting.is_empty() => self.done(done)?,
                changed = views.changed() => {
                    changed.map_err(|_| Stopped::Deployment)?;
                    let view = views.borrow_and_update().clone();
                    let before = std::mem::replace(&mut self.view, view);
                    self.viewed(&before);
                }
                Some(request) = requested.recv(), if self.book.in_flight() < IN_FLIGHT / 2 => self.requested(request),
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.resynced(ended),
                () = sleep_until(tick) => {
                    self.tick();
                    tick = if self.rests() { clock::next(clock::AT_REST) } else { Instant::now() + TICK };
                    continue;
                }
            }
            // Whatever happened may have left something to it.
            tick = tick.min(Instant::now() + TICK);
        }
    }

    /// All is seen, nothing is under way, and nothing soon falls due.
    fn rests(&self) -> bool {
        let soon = clock::micros() + SOON_MICROS;
        let nothing = self.book.in_flight() == 0 && self.waiting.is_empty() && self.tasks.is_empty();
        self.stats.ready && nothing && self.restoring.is_done() && self.book.next().is_none_or(|next| next > soon)
    }

    fn epoch(&self) -> Epoch {
        self.settings.naming.epoch
    }

    fn room(&self) -> usize {
        IN_FLIGHT.saturating_sub(self.book.in_flight())
    }

    /// When to ask about a key, by our clock.
    fn fire(&self, key: &Key, deadline: Deadline) -> i64 {
        fire(&self.view, key, deadline)
    }

    fn read_on(&mut self) {
        let ahead = self.offsets.values().copied().max().unwrap_or(0).max(0) / 1_000;
        if let Some(from) = self.book.wants_page(clock::now().plus(ahead)) {
            let from = (from.0.0 != i64::MIN).then_some(from);
            let page = self.store.due(from, super::book::PAGE);
            self.waiting.push(Box::pin(async move { Done::Page(page.await) }));
        } else if !self.book.is_reading() {
            // One that failed is not wanted any more.
            self.well(Call::Page);
        }
    }

    fn hinted(&mut self) {
        let mut keys = self.port.hints(self.room());
        keys.retain(|key| self.book.want(key, Purpose::Ordinary, None));
        self.port.ask(keys);
    }

    fn looked(&mut self, looks: Vec<Look>) {
        let now = clock::micros();
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        self.count(&looks);
        for look in looks {
            if let Answer::None(why) = &look.answer {
                tracing::trace!(key = %look.key, node = %look.node, ?why, "No answer.");
                self.book.no_answer(&look.key, |times| now + backoff(times));
                continue;
            }
            match self.guess(&look) {
                Some(guess) => known.push((look, guess)),
                None => unknown.push(look),
            }
        }
        self.judged(known);
        self.ask_store(unknown);
    }

    /// One addition for each sort of answer among them, however many there are.
    fn count(&self, looks: &[Look]) {
        let mut counts = [0; Looked::ALL.len()];
        for look in looks {
            counts[looked(&look.answer).place()] += 1;
        }
        for (sort, count) in Looked::ALL.iter().zip(counts).filter(|(_, count)| *count > 0) {
            self.meters.ledger.looks.add(*sort, count);
        }
    }

    /// What the store has under a key, where the book can tell, or where being wrong is found out and mended: a record that
    /// saw nothing is refused if there is something.
    fn guess(&mut self, look: &Look) -> Option<Known> {
        if self.doubted.remove(&look.key) {
            return None;
        }
        if let Some(seen) = self.book.seen(&look.key) {
            return Some(Known { entry: Some(seen), memory: None });
        }
        let removal = look.heard_removal();
        let recorded = matches!(look.answer, Answer::Alive(Some(_)));
        (!removal && (recorded || self.book.complete())).then(Known::default)
    }

    /// Each partition apart: one that is away is not to hold up the keys of the others.
    fn ask_store(&mut self, mut looks: Vec<Look>) {
        let held: Vec<Look> = looks.extract_if(.., |look| self.owed.contains_key(&look.key)).collect();
        self.hold(held);
        let mut parts: BTreeMap<usize, Vec<Look>> = BTreeMap::new();
        for look in looks {
            parts.entry(self.store.partition_of(&look.key)).or_default().push(look);
        }
        for (partition, looks) in parts {
            // A removal that was heard is used up by what is decided now.
            let looks = if looks.iter().any(Look::heard_removal) {
                self.undurable.wait(partition, Behind::Looks(looks))
            } else {
                Some(Behind::Looks(looks))
            };
            if let Some(looks) = looks {
                self.resume(looks);
            }
        }
    }

    /// They are of keys whose changes the store has refused: what it has of them is not what it is to have.
    fn hold(&self, looks: Vec<Look>) {
        if !looks.is_empty() {
            self.later(Done::Ask(looks));
        }
    }

    /// Asks the store, of whose partition nothing is open that was when this began to wait.
    fn resume(&mut self, behind: Behind) {
        match behind {
            Behind::Looks(looks) => {
                let known = self.store.known(looks.iter().map(|look| look.key.clone()).collect());
                self.waiting.push(Box::pin(async move { Done::Known(looks, known.await) }));
            }
            Behind::Works(works) => self.judge_again_now(works),
        }
    }

    fn judged(&mut self, mut looks: Vec<(Look, Known)>) {
        let held: Vec<Look> =
            looks.extract_if(.., |(look, _)| self.owed.contains_key(&look.key)).map(|(look, _)| look).collect();
        self.hold(held);
        let at = clock::now();
        let count = looks.len();
        let (keys, changes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut works = Works { keys, changes, ..Works::default() };
        let periodic = self.pending.values().any(|pending| pending.kind == resync::Kind::Periodic);
        for (mut look, known) in looks {
            if look.used.told_since() && !self.seen_whole(&look.node) {
                look.used.in_gap();
            }
            let purpose = self.purpose(&look);
            let Judgement { changes, again, entry } = judge(&self.settings.naming, known, &look, purpose, at);
            if periodic && look.used.heard.is_empty() && !changes.is_empty() {
                self.count_found(&look.key, &changes);
            }
            self.restoring.marked |= changes.iter().any(|change| matches!(change, Change::MarkAbsent { .. }));
            let gone = look.answer == Answer::Gone && entry.is_some_and(|seen| !seen.absent);
            let key = look.key.clone();
            works.add(Work { key, changes: 0..0, again, entry, gone, judged: Some((look, known)) }, changes);
        }
        self.apply_each(works);
    }

    /// Why the key was looked at. That the data of one node is the same says nothing of what another answers.
    fn purpose(&self, look: &Look) -> Purpose {
        let purpose = self.book.purpose(&look.key);
        let asked = || self.book.waiter(&look.key).and_then(|waiter| self.pending.get(&waiter));
        if purpose == Purpose::AfterGap && asked().is_none_or(|pending| pending.node != look.node) {
            return Purpose::Ordinary;
        }
        purpose
    }

    fn apply_each(&mut self, works: Works) {
        let store = Arc::clone(&self.store);
        for works in works.split(|key| store.partition_of(key)) {
            self.apply(works);
        }
    }

    /// Of one partition.
    fn apply(&mut self, mut works: Works) {
        if works.changes.is_empty() {
            return self.applied(&mut works, &[]);
        }
        let Applying { done, durable } = self.store.apply(self.epoch(), works.changes.clone());
        self.waiting.push(Box::pin(async move {
            let done = done.await;
            Done::Applied(works, done, durable)
        }));
    }

    fn done(&mut self, done: Done) -> Result<(), Stopped> {
        match done {
            Done::Known(looks, Ok(known)) => {
                self.well(self.read_of(looks.first().map(|look| &look.key)));
                self.judged(looks.into_iter().zip(known).collect());
            }
            Done::Known(looks, Err(error)) => {
                self.troubled(self.read_of(looks.first().map(|look| &look.key)), error)?;
                // Their evidence is used up: they wait for the store, in flight.
                self.later(Done::Ask(looks));
            }
            Done::Ask(looks) => self.ask_store(looks),
            Done::Applied(mut works, Ok(done), durable) => {
                self.applied(&mut works, &done);
                let written = self.write_of(&works);
                // What was done is kept until a crash can no longer undo it: if that fails, it is done again.
                let mut done = done.into_iter();
                works.changes.retain(|_| done.next().unwrap_or(false));
                let ticket = self.undurable.open(written.partition());
                self.waiting.push(Box::pin(async move {
                    let durable = durable.await;
                    Done::Durable(works, written, ticket, durable)
                }));
            }
            Done::Applied(mut works, Err(error), _) => {
                self.troubled(self.write_of(&works), error)?;
                self.offer_from_memory(&mut works);
                self.refuse(works);
            }
            Done::Durable(works, written, ticket, durable) => {
                let over = self.undurable.close(ticket);
                self.durable(works, written, durable)?;
                for behind in over {
                    self.resume(behind);
                }
            }
            Done::Refused(works, Ok(known)) => {
                self.well(self.read_of(works.keys.first().map(|work| &work.key)));
                if works.keys.iter().any(|work| self.owed.contains_key(&work.key)) {
                    self.judge_again(works);
                } else {
                    self.known_again(works, known);
                }
            }
            Done::Refused(works, Err(error)) => {
                self.troubled(self.read_of(works.keys.first().map(|work| &work.key)), error)?;
                self.later(Done::JudgeAgain(works));
            }
            Done::JudgeAgain(works) => self.judge_again(works),
            Done::Compared(compare, Ok(known)) => {
                self.well(Call::Read(compare.partition));
                self.compared(compare, known);
            }
            Done::Compared(compare, Err(error)) => {
                self.troubled(Call::Read(compare.partition), error)?;
                self.later(Done::Compare(compare));
            }
            Done::Compare(compare) => self.compare(compare),
            Done::WrittenAnew(_, Ok(())) => {
                self.well(Call::Anew);
                self.written_anew();
            }
            Done::WrittenAnew(distrust, Err(error)) => {
                self.troubled(Call::Anew, error)?;
                self.later(Done::WriteAnew(distrust));
            }
            Done::WriteAnew(distrust) => self.write_anew(distrust),
            Done::Page(Ok(page)) => {
                self.well(Call::Page);
                self.restoring.marked |= page.iter().any(|entry| entry.seen.absent);
                let view = Arc::clone(&self.view);
                self.book.read(page, |key, deadline| fire(&view, key, deadline));
            }
            Done::Page(Err(error)) => {
                self.troubled(Call::Page, error)?;
                self.later(Done::Unreadable);
            }
            Done::Unreadable => self.book.unreadable(),
            Done::Again => {
                self.retrying = false;
                let partitions: Vec<usize> = self.refused.keys().copied().collect();
                for partition in partitions {
                    self.redo(partition);
                }
            }
        }
        Ok(())
    }

    /// It is durable, or was undone.
    fn durable(&mut self, mut works: Works, written: Call, durable: Result<(), StoreError>) -> Result<(), Stopped> {
        match durable {
            Ok(()) => {
                self.written(written, works.refused);
                self.hand_out(works.changes.iter().filter(|change| !derived(change)).filter_map(settled).collect());
                self.redone(works.owed);
            }
            // None of it was done, and so nothing is undone.
            Err(error) if works.changes.is_empty() && error.retryable() => {
                self.written(written, works.refused);
                self.redone(works.owed);
            }
            Err(error) => {
                self.troubled(written, error)?;
                // The keys are in flight again until the store has it: no look may be judged in between.
                for key in works.changes.iter().map(Change::key) {
                    self.book.distrust(key);
                    self.doubted.insert(key.clone());
                    if self.book.want(key, Purpose::Ordinary, None) {
                        works.keys.push(Work::unseen(key.clone()));
                    }
                }
                works.relook = true;
                self.offer_from_memory(&mut works);
                self.refuse(works);
            }
        }
        Ok(())
    }

    /// The store has done what could be done of it.
    fn applied(&mut self, works: &mut Works, done: &[bool]) {
        let mut again = Vec::new();
        let mut refused = Works::default();
        for work in std::mem::take(&mut works.keys) {
            let whole = done.get(work.changes.clone()).is_none_or(|done| done.iter().all(|done| *done));
            if !whole && work.judged.is_some() {
                let changes = works.changes[work.changes.clone()].to_vec();
                refused.add(work, changes);
                continue;
            }
            if !whole {
                // Another entry was there: look once more, with what is there.
                self.book.distrust(&work.key);
                self.book.want(&work.key, Purpose::Ordinary, None);
                self.doubted.insert(work.key.clone());
            }
            if works.relook {
                self.book.want(&work.key, Purpose::Ordinary, None);
            }
            let entry = work.entry.filter(|_| whole);
            let fire = match work.again {
                Again::At(deadline) => Some(self.fire(&work.key, deadline).max(clock::micros() + 1_000)),
                Again::No | Again::Soon => None,
            };
            let (waiters, repeat) = self.book.done(&work.key, entry, fire);
            for waiter in waiters {
                self.told(waiter, work.gone.then_some(&work.key));
            }
            if repeat {
                again.push(work.key.clone());
            }
        }
        self.port.ask(again);
        if !refused.keys.is_empty() {
            self.judge_again(refused);
        }
        if works.refused > 0 {
            (self.outlet)(Settled::Unsure);
        }
        let now = clock::micros();
        for (change, done) in works.changes.iter().zip(done) {
            if let (Change::Settle { event, .. }, true) = (change, *done) {
                let owners = now.saturating_add(self.view.offset_of(event.key.slot()));
                let late = owners.saturating_sub(event.deadline.0.saturating_mul(1_000));
                self.meters.ledger.lateness.observe_micros(late);
                self.meters.ledger.settled.add(event.evidence, 1);
                match event.evidence {
                    Evidence::Witnessed => self.stats.witnessed += 1,
                    Evidence::Inferred => self.stats.inferred += 1,
                }
            }
        }
        if works.refused == 0 {
            let events = works.changes.iter().zip(done).filter(|(change, done)| **done && derived(change));
            self.hand_out(events.filter_map(|(change, _)| settled(change)).collect());
        }
    }

    /// The store refuses: deliver from memory, once. It will be settled under the same id when the store is back.
    fn offer_from_memory(&mut self, works: &mut Works) {
        if works.refused == 0 {
            works.refused = 1;
            self.hand_out(works.changes.iter().filter(|change| derived(change)).filter_map(settled).collect());
            self.troubles.owed(self.write_of(works));
        }
    }

    fn hand_out(&self, events: Vec<Event>) {
        if !events.is_empty() {
            (self.outlet)(Settled::Events(events));
        }
    }

    fn refuse(&mut self, mut works: Works) {
        let partition = self.partition_of(works.changes.iter().map(Change::key));
        let queue = self.refused.entry(partition).or_default();
        if works.owed.is_empty() {
            works.owed = works.changes.iter().map(|change| change.key().clone()).collect();
            for key in &works.owed {
                *self.owed.entry(key.clone()).or_default() += 1;
            }
            queue.push_back(works);
        } else {
            // It was the first, and is.
            queue.push_front(works);
            self.redoing.remove(&partition);
        }
        if !self.retrying {
            self.retrying = true;
            self.later(Done::Again);
        }
    }

    /// Makes the first of what was refused again, together with some behind it.
    fn redo(&mut self, partition: usize) {
        let Some(queue) = self.refused.get_mut(&partition).filter(|_| !self.redoing.contains(&partition)) else {
            return;
        };
        let Some(mut works) = queue.pop_front() else {
            self.refused.remove(&partition);
            return;
        };
        while let Some(next) = queue.front()
            && works.changes.len() + next.changes.len() <= TOGETHER
        {
            works.absorb(queue.pop_front().unwrap_or_default());
        }
        self.redoing.insert(partition);
        self.apply(works);
    }

    /// What had been refused is durable, or was not to be done.
    fn redone(&mut self, owed: Vec<Key>) {
        if owed.is_empty() {
            return;
        }
        let partition = self.partition_of(owed.iter());
        for key in owed {
            if let Some(count) = self.owed.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.owed.remove(&key);
                }
            }
        }
        self.redoing.remove(&partition);
        self.redo(partition);
    }

    /// All of the keys lie in one partition.
    fn partition_of<'a>(&self, mut keys: impl Iterator<Item = &'a Key>) -> usize {
        keys.next().map_or(0, |key| self.store.partition_of(key))
    }

    fn read_of(&self, key: Option<&Key>) -> Call {
        Call::Read(self.partition_of(key.into_iter()))
    }

    fn write_of(&self, works: &Works) -> Call {
        Call::Write(self.partition_of(works.changes.iter().map(Change::key)))
    }

    fn troubled(&mut self, call: Call, error: StoreError) -> Result<(), Stopped> {
        if !error.retryable() {
            return Err(error.into());
        }
        let told = error.to_string();
        if self.troubles.failed(call, error) {
            tracing::error!(listener = %self.settings.naming.listener, error = told, "The store refuses; settled events are held.");
        }
        self.stats.store_error = self.troubles.worst().cloned();
        Ok(())
    }

    /// So many of the works had been refused before.
    fn written(&mut self, call: Call, refused: usize) {
        if self.troubles.paid(call, refused) {
            self.well(call);
        }
    }

    /// What has failed is made again until it comes here.
    fn well(&mut self, call: Call) {
        if self.troubles.done(call) {
            self.stats.store_error = self.troubles.worst().cloned();
        }
    }

    /// Comes back to it when the store may be well again.
    fn later(&self, done: Done) {
        self.waiting.push(Box::pin(async move {
            tokio::time::sleep(REFUSED_WAIT).await;
            done
        }));
    }

    fn requested(&mut self, request: Request) {
        let Request { node, mut keys, purpose, kind, done } = request;
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        self.pending.insert(waiter, Pending { node, kind, left: keys.len() + 1, gone: Vec::new(), done });
        keys.retain(|key| self.book.want(key, purpose, Some(waiter)));
        self.port.ask(keys);
        self.told(waiter, None);
    }

    /// One of a request's keys was looked at.
    fn told(&mut self, waiter: u64, gone: Option<&Key>) {
        let Some(pending) = self.pending.get_mut(&waiter) else { return };
        pending.left -= 1;
        pending.gone.extend(gone.cloned());
        if pending.left == 0
            && let Some(pending) = self.pending.remove(&waiter)
        {
            // The resync may have been given up meanwhile.
            let _ = pending.done.send(pending.gone);
        }
    }

    /// A periodic scan has found what no push had told.
    fn count_found(&mut self, key: &Key, changes: &[Change]) {
        let found = changes.iter().any(|change| matches!(change, Change::Record { .. }));
        let pending = self.book.waiter(key).and_then(|waiter| self.pending.get(&waiter));
        if found && pending.is_some_and(|pending| pending.kind == resync::Kind::Periodic) {
            self.stats.resync_found += 1;
            self.meters.ledger.resync_found.add(1);
            tracing::warn!(%key, "A periodic scan found a key that no push had told of.");
        }
    }

    fn viewed(&mut self, before: &View) {
        let (pattern, view) = (self.settings.pattern.as_bytes(), Arc::clone(&self.view));
        for (id, running) in &self.resyncing {
            if !view.nodes.get(id).is_some_and(|node| node.drives && node.open(pattern)) {
                running.stop.cancel();
            }
        }
        // One that was no master for a while, and is one again, was not heard meanwhile.
        self.synced.retain(|id, _| view.nodes.get(id).is_some_and(|node| node.drives));
        let moved = before.topology != view.topology;
        let opened = view
            .nodes
            .iter()
            .any(|(id, node)| node.open(pattern) && !before.nodes.get(id).is_some_and(|before| before.open(pattern)));
        if moved {
            self.rearm();
        }
        if moved || opened {
            // Somebody may answer now who did not.
            self.book.retry_all(clock::micros());
        }
        self.resync();
        self.report();
    }

    /// Deadlines are the owners': where an owner or its clock has changed, they lie elsewhere in our time.
    fn rearm(&mut self) {
        self.offsets =
            self.view.nodes.iter().filter_map(|(id, node)| Some((id.clone(), node.offset.micros()?))).collect();
        let view = Arc::clone(&self.view);
        self.book.rearm(|key, deadline| fire(&view, key, deadline));
    }

    fn clocks_moved(&self) -> bool {
        self.view.nodes.iter().any(|(id, node)| match (node.offset.micros(), self.offsets.get(id)) {
            (Some(now), Some(before)) => (now - before).abs() > CLOCK_MOVED_MICROS,
            (now, before) => now.is_some() != before.is_some(),
        })
    }

    /// Starts what resync is due: level-triggered, so that nothing is forgotten and nothing is done twice.
    fn resync(&mut self) {
        self.aborted &= !self.tasks.is_empty();
        if self.aborted || self.restoring.untold > 0 {
            return;
        }
        let (pattern, view) = (self.settings.pattern.as_bytes().to_vec(), Arc::clone(&self.view));
        for (id, node) in view.nodes.iter().filter(|(_, node)| node.drives && node.open(&pattern)) {
            let now = Synced { continuity: node.continuity(), epoch: node.epoch, slots: node.slots.clone() };
            let before = self.synced.get(id);
            // Slots that move are no gap: the node that gets them is subscribed to. Their keys are looked at all the same.
            let gap = before.is_some_and(|before| before.continuity != now.continuity || before.epoch != now.epoch);
            if let Some(running) = self.resyncing.get(id) {
                // What was missed does not wait for a scan that takes its time and does not look at the ledger's keys: the
                // end of that one begins the next. One that does is not begun anew at every gap; it might never end.
                if gap && running.kind == resync::Kind::Periodic {
                    running.stop.cancel();
                    // What it still asks about counts no more as found by it.
                    for pending in self.pending.values_mut().filter(|pending| pending.node == *id) {
                        pending.kind = resync::Kind::Whole;
                    }
                }
                continue;
            }
            let (kind, scope) = match before {
                Some(before) if !gap => {
                    let gained = now.slots.minus(&before.slots);
                    if !gained.is_empty() {
                        if self.scanned.get(id).is_some_and(|last| last.elapsed() < MOVES_TOGETHER) {
                            continue;
                        }
                        (resync::Kind::Whole, gained)
                    } else if self.periodic_is_due(id, node.hears()) {
                        (resync::Kind::Periodic, now.slots.clone())
                    } else {
                        self.synced.insert(id.clone(), now);
                        continue;
                    }
                }
                _ => (resync::Kind::Whole, now.slots.clone()),
            };
            self.stats.gaps += u64::from(gap);
            self.meters.ledger.gaps.add(u64::from(gap));
            let fresh = self.fresh && before.is_none() && self.begun.insert(id.clone());
            self.begin(id, now, kind, scope, fresh);
        }
    }

    fn begin(&mut self, id: &NodeId, basis: Synced, kind: resync::Kind, scope: SlotSet, fresh: bool) {
        let stop = CancellationToken::new();
        let job = resync::Job {
            node: id.clone(),
            kind,
            scope,
            slots: basis.slots.clone(),
            config_epoch: basis.epoch,
            fresh,
            fencing: self.epoch(),
            scanner: self.port.scanner(),
            store: Arc::clone(&self.store),
            requests: self.requests.clone(),
        };
        self.resyncing.insert(id.clone(), Running { kind, basis, stop: stop.clone() });
        let id = id.clone();
        self.tasks.spawn(async move { (id, stop.run_until_cancelled(job.run()).await) });
    }

    fn periodic_is_due(&self, id: &NodeId, hears: bool) -> bool {
        // Nobody tells of births on a deaf node: only scanning finds them.
        let deaf = (!hears).then_some(DEAF_INTERVAL);
        let every = [self.settings.resync_interval, deaf].into_iter().flatten().min();
        every.is_some_and(|every| self.scanned.get(id).is_some_and(|last| last.elapsed() >= every))
    }

    fn resynced(&mut self, ended: Result<(NodeId, Option<Result<Resynced, String>>), tokio::task::JoinError>) {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                if !error.is_cancelled() {
                    // Which of them is not known: all begin again, when all have ended.
                    tracing::error!(%error, "A resync failed.");
                    self.tasks.abort_all();
                    self.resyncing.clear();
                    self.aborted = true;
                }
                return;
            }
        };
        let running = self.resyncing.remove(&id);
        self.count_resync(running.as_ref(), result.as_ref());
        match (result, running) {
            (Some(Ok(Resynced { keys, .. })), Some(running)) if !running.stop.is_cancelled() => {
                tracing::debug!(node = %id, keys, "A node was seen whole.");
                self.scanned.insert(id.clone(), tokio::time::Instant::now());
                self.synced.insert(id, running.basis);
                self.resync();
            }
            // One that had ended when it was told to counts as little.
            (None | Some(Ok(_)), Some(_)) | (None, None) => {
                tracing::info!(node = %id, "A resync was broken off: the node is not open, or has another gap.");
                self.resync();
            }
            // The tick tries again.
            (Some(Err(error)), _) => tracing::info!(node = %id, error, "A resync failed."),
            (Some(Ok(_)), None) => {}
        }
        self.report();
    }

    fn count_resync(&self, running: Option<&Running>, result: Option<&Result<Resynced, String>>) {
        let ledger = &self.meters.ledger;
        let ended = match result {
            Some(Ok(resynced)) => {
                ledger.resync_keys.add(resynced.keys as u64);
                ledger.losses.add(u64::from(resynced.loss));
                Ended::Done
            }
            Some(Err(_)) => Ended::Failed,
            None => Ended::BrokenOff,
        };
        match running.map(|running| running.kind) {
            Some(resync::Kind::Whole) => ledger.resyncs.add(ended, 1),
            Some(resync::Kind::Periodic) => ledger.periodic.add(ended, 1),
            None => {}
        }
    }

    fn tick(&mut self) {
        if self.clocks_moved() {
            self.rearm();
        }
        self.port.fade(clock::now());
        self.look_for_losses();
        self.compare_some();
        self.remember_deployment();
        self.resync();
        self.report();
    }

    /// Nodes come and go one at a time; the ledger must know the last of them.
    fn remember_deployment(&mut self) {
        let ours = Identity::of(&self.view.topology.known_by);
        if ours != self.identity && !self.view.nodes.is_empty() {
            // Dropping the answer does not take the call back; if it fails, the next change writes it.
            drop(self.store.set_meta(self.epoch(), meta::DEPLOYMENT, ours.write()));
            self.identity = ours;
        }
    }

    /// All its keys, and all that the ledger has of it, were looked at since its last gap.
    fn seen_whole(&self, id: &NodeId) -> bool {
        let (Some(node), Some(synced)) = (self.view.nodes.get(id), self.synced.get(id)) else { return false };
        // Slots that came and were not scanned yet count as a master that was not: nobody knows yet what came with them.
        // While many move one after another it stays so, because what comes during a scan waits for the next: one turn
        // for them all. Moves that are further apart than a scan are told one by one. Saying "ready" through them, or
        // "not yet" beyond them, would make of the word something else than it says.
        node.open(self.settings.pattern.as_bytes())
            && synced.continuity == node.continuity()
            && synced.epoch == node.epoch
            && node.slots.minus(&synced.slots).is_empty()
    }

    fn report(&mut self) {
        self.stats.synced = self.synced.keys().filter(|id| self.seen_whole(id)).cloned().collect();
        let masters = || self.view.nodes.iter().filter(|(_, node)| node.drives);
        self.stats.ready = self.view.covered()
            && masters().count() > 0
            && masters().all(|(id, node)| self.seen_whole(id) && node.hears())
            && self.stats.store_error.is_none();
        self.fresh &= !self.stats.ready;
        self.stats.in_flight = self.book.in_flight();
        self.meters.ledger.in_flight.set(self.stats.in_flight);
        self.meters.ledger.held.set(self.refused.values().flatten().map(|works| works.keys.len()).sum());
        let stats = &self.stats;
        self.publish.send_if_modified(|published| {
            let changed = published != stats;
            published.clone_from(stats);
            changed
        });
    }

    /// What was decided is on its way to the store; it is waited for a little, so that it need not be decided again.
    async fn finish(&mut self) {
        let over = tokio::time::Instant::now() + Duration::from_secs(2);
        while let Ok(Some(done)) = tokio::time::timeout_at(over, self.waiting.next()).await {
            if let Done::Applied(works, Ok(done), _) = done {
                let events = works.changes.iter().zip(done).filter(|(change, done)| *done && derived(change));
                self.hand_out(events.filter_map(|(change, _)| settled(change)).collect());
            }
        }
    }
}

fn looked(answer: &Answer) -> Looked {
    match answer {
        Answer::Alive(Some(_)) => Looked::Alive,
        Answer::Alive(None) => Looked::Kept,
        Answer::Gone => Looked::Gone,
        Answer::None(NoAnswer::Disconnected) => Looked::Disconnected,
        Answer::None(NoAnswer::Late) => Looked::Late,
        Answer::None(NoAnswer::NotOwner) => Looked::NotOwner,
        Answer::None(NoAnswer::Suspect) => Looked::Suspect,
        Answer::None(NoAnswer::Error(_)) => Looked::Error,
    }
}

/// When to ask about a key, by our clock: just past its deadline by its owner's.
fn fire(view: &View, key: &Key, deadline: Deadline) -> i64 {
    deadline.0.saturating_mul(1_000).saturating_add(AFTER_MICROS).saturating_sub(view.offset_of(key.slot()))
}

/// How long until a key without answer is asked again, in microseconds: 5 ms, doubled up to 160 ms.
fn backoff(times: u32) -> i64 {
    5_000 << times.saturating_sub(1).min(5)
}

fn settled(change: &Change) -> Option<Event> {
    match change {
        Change::Settle { event, .. } => Some(event.clone()),
        _ => None,
    }
}

/// Whether a crash before the settle is durable would lead to the same id: the deadline is the entry's. Any other is told
/// when it is durable.
fn derived(change: &Change) -> bool {
    matches!(change, Change::Settle { saw: Some(saw), event, .. } if saw.deadline == event.deadline)
}
