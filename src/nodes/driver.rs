//! Keeps one node's connection for pushes and looks.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Ask, Dial, Guidance, NoAnswer, Notifications, Offset, session::Session};
use crate::{
    dial::Dialler,
    model::{Address, Fault, FaultCategory, Millis, NodeId},
    plan::{ChangeSource, RedisPlan},
    topology::Refresh,
};

/// How many batches may wait for a node.
const ASKS: usize = 1_024;

/// How many drivers there were: each counts its gaps from a number of its own.
static PLACES: AtomicU64 = AtomicU64::new(0);

/// How a node tells of what happens to its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Keyspace notifications.
    #[default]
    Notifications,
    /// Client tracking.
    Tracking,
}

impl Source {
    /// As it is called in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notifications => "KeyspaceEvents",
            Self::Tracking => "ClientTracking",
        }
    }
}

/// The connection for pushes and looks, as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Where it leads.
    pub address: Option<Address>,
    pub source: Source,
    /// When the subscriptions were opened; `None` while they are not.
    pub since: Option<Millis>,
    /// The patterns that are subscribed to.
    pub patterns: Arc<BTreeSet<Vec<u8>>>,
    /// Grows with every gap: a new connection, a silence, an overflow.
    pub continuity: u64,
    /// Not suspect.
    pub trusted: bool,
    pub error: Option<Fault>,
}

/// A running node.
pub struct Driver {
    pub asks: mpsc::Sender<Ask>,
    pub connection: watch::Receiver<Connection>,
    pub offset: Offset,
}

/// What a driver is given.
pub struct Setting {
    pub id: NodeId,
    pub plan: RedisPlan,
    pub dialler: Dialler,
    pub dial: watch::Receiver<Dial>,
    pub guidance: watch::Receiver<Arc<Guidance>>,
    pub refresh: Refresh,
    /// What the node is set to.
    pub notifications: watch::Receiver<Notifications>,
}

impl Setting {
    /// What changes are to be learnt of by. `refused`: client tracking was, when it was last tried.
    pub(super) fn source(&self, refused: bool) -> Source {
        match self.plan.change_source {
            ChangeSource::KeyspaceEvents => Source::Notifications,
            ChangeSource::ClientTracking => Source::Tracking,
            ChangeSource::Auto => {
                let wanting = self.notifications.borrow().fault.is_some();
                if wanting && !refused { Source::Tracking } else { Source::Notifications }
            }
        }
    }
}

impl Driver {
    /// The driver, and the task that must be run until `stop`.
    pub fn new(setting: Setting, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (asks, asked) = mpsc::channel(ASKS);
        // A driver that takes another's place must not look as if nothing had been missed between the two.
        let continuity = PLACES.fetch_add(1, Ordering::Relaxed) << 32;
        let (publish, connection) = watch::channel(Connection { continuity, ..Connection::default() });
        let offset = Offset::unknown();
        let task = drive(setting, asked, publish, offset.clone(), stop);
        (Self { asks, connection, offset }, task)
    }
}

async fn drive(
    mut setting: Setting,
    mut asked: mpsc::Receiver<Ask>,
    publish: watch::Sender<Connection>,
    offset: Offset,
    stop: CancellationToken,
) {
    let mut failures = 0u32;
    let mut turn = 0;
    let mut refused = false;
    while !stop.is_cancelled() {
        let dial = setting.dial.borrow().clone();
        let address = dial.get(turn % dial.len().max(1)).cloned();
        turn += 1;
        let ended = match address {
            None => FaultCategory::Concealed.fault("its address is concealed"),
            Some(address) => {
                let opened = {
                    let opening = std::pin::pin!(Session::open(&setting, refused, address, &publish, &offset));
                    refusing(opening, &setting.id, &mut asked, &stop).await
                };
                match opened {
                    None => break,
                    Some(Err(error)) => error,
                    Some(Ok(session)) => {
                        let Some(ended) = session.run(&mut asked, &stop).await else { break };
                        refused = ended.refused;
                        if publish.borrow().since.is_some() {
                            failures = 0;
                            turn -= 1; // It was the right address.
                            // It may be granted by now.
                            refused = false;
                        }
                        ended.why
                    }
                }
            }
        };
        publish.send_modify(|connection| {
            connection.since = None;
            connection.trusted = false;
            connection.error = Some(ended.clone());
        });
        setting.refresh.request();
        failures = failures.saturating_add(1);
        wait(&mut setting, &mut asked, failures, &stop).await;
    }
    // Whoever asks from now on hears that the channel is closed.
    asked.close();
    while let Some(ask) = asked.recv().await {
        ask.tap.no_answer(&setting.id, ask.keys, &NoAnswer::Disconnected);
    }
}

/// Waits for `opening`; whoever asks meanwhile hears at once that nobody answers: a node that takes its time to open must
/// not hold what another could answer. `None`: stopped.
async fn refusing<T>(
    mut opening: impl Future<Output = T> + Unpin,
    id: &NodeId,
    asked: &mut mpsc::Receiver<Ask>,
    stop: &CancellationToken,
) -> Option<T> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return None,
            opened = &mut opening => return Some(opened),
            Some(ask) = asked.recv() => ask.tap.no_answer(id, ask.keys, &NoAnswer::Disconnected),
        }
    }
}

/// 20 ms, doubled each time, up to 500 ms, with full jitter: a node that comes back expires what fell due at once.
async fn wait(setting: &mut Setting, asked: &mut mpsc::Receiver<Ask>, failures: u32, stop: &CancellationToken) {
    let most = (20u64 << failures.min(5)).min(500);
    let delay = Duration::from_millis(rand::rng().random_range(most / 4..=most));
    let over = tokio::time::sleep(delay);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return,
            () = stop.cancelled() => return,
            changed = setting.dial.changed() => if changed.is_ok() { return } else { stop.cancelled().await },
            Some(ask) = asked.recv() => ask.tap.no_answer(&setting.id, ask.keys, &NoAnswer::Disconnected),
        }
    }
}
