//! A node's connections: one for pushes and looks, one for scans and settings.
//!
//! # Guarantees
//! - Pushes and looks of a node share one RESP3 connection and one reader, so the barrier holds: when the answer to a
//!   look's TIME is read, every push before it is in the [`Evidence`].
//! - A look is answered once: with what the slot's owner said, or with [`Answer::None`].
//! - What a listener may have missed bumps [`Connection::continuity`]; nothing is missed in silence.
//! - The reader never waits for a listener (DESIGN rule 12).

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{
    model::{Address, Deadline, Key, Millis, NodeId},
    topology::Topology,
};

mod clerk;
mod driver;
mod evidence;
pub(crate) mod frames;
mod offset;
mod session;
mod watch;
pub(crate) mod wire;

pub use clerk::{Clerk, Control, NodeData, Notifications, complete_flags, missing as missing_flags};
pub use driver::{Connection, Driver, Setting, Source};
pub use evidence::{Answering, Evidence, Full, Heard, Sort, Standing, Used};
pub use offset::Offsets;
pub use watch::{BEAT, DEAD_AFTER, SUSPECT_AFTER, Verdict, Watch};

/// What became of one look at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub key: Key,
    /// Who answered.
    pub node: NodeId,
    pub answer: Answer,
    /// The clock of the node that answered, behind the answer. Ours for [`Answer::None`].
    pub now: Millis,
    /// The evidence that this look has used up.
    pub used: Used,
}

impl Look {
    /// Something that it has used may have removed the key.
    pub fn heard_removal(&self) -> bool {
        self.used.heard.iter().any(|heard| match heard.sort {
            Sort::Expired | Sort::Deleted | Sort::Evicted => true,
            Sort::Changed | Sort::ChangedSince => !matches!(self.answer, Answer::Alive(_)),
            Sort::Born => false,
        })
    }
}

/// What the slot's owner says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Alive(Option<Deadline>),
    Gone,
    /// Nobody who may say so said anything: ask again, settle nothing.
    None(NoAnswer),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The connection is down, or went down meanwhile.
    Disconnected,
    /// It took longer than 500 ms.
    Late,
    /// The node did not own the slot when it answered, or nobody owned it when we asked.
    NotOwner,
    /// The node is suspect.
    Suspect,
    /// Redis's word: `CLUSTERDOWN`, `LOADING`, `NOPERM`, ...
    Error(String),
}

/// A batch of looks for one node.
pub struct Ask {
    pub tap: Arc<Tap>,
    pub keys: Vec<Key>,
    /// The slot is on its way to this node: ASKING goes before each key.
    pub asking: bool,
}

/// What every node of a deployment must know of the others, and who listens.
#[derive(Clone, Default)]
pub struct Guidance {
    pub topology: Arc<Topology>,
    /// When the last master was asked that named the node what we hold it for.
    pub confirmed: HashMap<NodeId, Instant>,
    pub taps: Vec<Arc<Tap>>,
    /// How many different patterns the taps have.
    pub patterns: usize,
    pub asks: HashMap<NodeId, mpsc::Sender<Ask>>,
}

impl Guidance {
    /// With other taps.
    #[must_use]
    pub fn with_taps(&self, taps: Vec<Arc<Tap>>) -> Self {
        let patterns = taps.iter().map(|tap| tap.pattern.as_slice()).collect::<HashSet<_>>().len();
        Self { taps, patterns, ..self.clone() }
    }
}

/// One listener's end: its evidence, and where its looks go.
pub struct Tap {
    /// The key pattern, a Redis glob.
    pub pattern: Vec<u8>,
    evidence: Mutex<Evidence>,
    news: Notify,
    looks: mpsc::Sender<Vec<Look>>,
}

/// News is kept of this many keys. A look uses it up within milliseconds; only a node that does not answer, or a listener
/// that cannot keep up, makes it many.
const EVIDENCE_LIMIT: usize = 200_000;

impl Tap {
    /// `looks` must have room for as many batches as there are keys in flight, so that the reader never waits.
    pub fn new(pattern: Vec<u8>, looks: mpsc::Sender<Vec<Look>>) -> Self {
        Self { pattern, evidence: Mutex::new(Evidence::new(EVIDENCE_LIMIT)), news: Notify::new(), looks }
    }
    /// Waits until [`Tap::hints`] may have something.
    pub async fn news(&self) {
        self.news.notified().await;
    }
    /// Keys that something was pushed about, at most `limit`.
    pub fn hints(&self, limit: usize) -> Vec<Key> {
        let mut evidence = self.evidence();
        let keys = evidence.hints(limit);
        if evidence.has_hints() {
            self.news.notify_one();
        }
        keys
    }
    /// Forgets what nobody could use. To be called every second or so.
    pub fn fade(&self, now: Millis) {
        self.evidence().fade(now);
    }
    fn evidence(&self) -> std::sync::MutexGuard<'_, Evidence> {
        // Evidence is whole between any two of its calls, so a panic elsewhere does not spoil it.
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn tell(&self, looks: Vec<Look>) {
        if let Err(error) = self.looks.try_send(looks) {
            // Closed: the listener has stopped. Full cannot be: see `new`.
            tracing::debug!(%error, "A listener takes no more looks.");
        }
    }
    /// Answers that there is no answer.
    pub fn no_answer(&self, node: &NodeId, keys: Vec<Key>, why: &NoAnswer) {
        let now = crate::clock::now();
        let look =
            |key| Look { key, node: node.clone(), answer: Answer::None(why.clone()), now, used: Used::default() };
        self.tell(keys.into_iter().map(look).collect());
    }
}

/// A node's clock less ours, in microseconds.
#[derive(Clone, Default)]
pub struct Offset(Arc<AtomicI64>);

const UNKNOWN: i64 = i64::MIN;

impl Offset {
    pub fn unknown() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
    pub fn micros(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|micros| *micros != UNKNOWN)
    }
    fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::Relaxed);
    }
}

/// Where a node is dialled.
pub type Dial = Vec<Address>;
