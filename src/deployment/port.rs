//! A listener's end of a deployment.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Look, NoAnswer, NodeData, View};
use crate::{
    model::{Key, Millis, NodeId},
    nodes::{Ask, Guidance, Tap},
    topology::Refresh,
};

/// At most this many keys may be in flight of one listener.
pub const IN_FLIGHT: usize = 16_384;
/// Keys a batch: the barrier's share of the work is small by then, and the answers flow...
const BATCH: usize = 128;
/// ... where there are many, it is the work of our own for each batch that is to be small.
const LARGE_BATCH: usize = 512;

/// A listener's end: signals come out of it, questions go into it. Dropping it leaves the deployment.
pub struct Port {
    tap: Arc<Tap>,
    guidance: Arc<watch::Sender<Arc<Guidance>>>,
    view: watch::Receiver<Arc<View>>,
    refresh: Refresh,
}

impl Port {
    pub(super) fn new(
        pattern: &[u8],
        guidance: Arc<watch::Sender<Arc<Guidance>>>,
        view: watch::Receiver<Arc<View>>,
        refresh: Refresh,
    ) -> (Self, Looks) {
        let (tell, looks) = mpsc::channel(IN_FLIGHT);
        let tap = Arc::new(Tap::new(pattern.to_vec(), tell));
        guidance.send_modify(|guidance| {
            let taps = guidance.taps.iter().chain([&tap]).cloned().collect();
            *guidance = Arc::new(guidance.with_taps(taps));
        });
        (Self { tap, guidance, view, refresh }, Looks(looks))
    }

    pub fn pattern(&self) -> &[u8] {
        &self.tap.pattern
    }
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }
    pub fn refresh(&self) {
        self.refresh.request();
    }
    /// Waits for news. Cancel-safe.
    pub async fn news(&self) {
        self.tap.news().await;
    }
    /// Keys with news, at most `limit`.
    pub fn hints(&self, limit: usize) -> Vec<Key> {
        self.tap.hints(limit)
    }
    pub fn fade(&self, now: Millis) {
        self.tap.fade(now);
    }

    /// Looks at keys: each is answered once, by [`Looks`]. The caller keeps at most [`IN_FLIGHT`] in flight, and
    /// never one key twice.
    pub fn ask(&self, keys: Vec<Key>) {
        let guidance = Arc::clone(&self.guidance.borrow());
        // Owners are few: the one of the key before is found first.
        let mut by_owner: Vec<(Option<&NodeId>, Vec<Key>)> = Vec::new();
        for key in keys {
            let owner = guidance.topology.owner(key.slot()).map(|node| &node.id);
            match by_owner.iter_mut().find(|(found, _)| *found == owner) {
                Some((_, keys)) => keys.push(key),
                None => by_owner.push((owner, vec![key])),
            }
        }
        for (owner, mut keys) in by_owner {
            let Some(owner) = owner else {
                self.tap.no_answer(&NodeId::from(""), keys, &NoAnswer::NotOwner);
                self.refresh.request();
                continue;
            };
            let asks = guidance.asks.get(owner);
            let size = if keys.len() > LARGE_BATCH { LARGE_BATCH } else { BATCH };
            while !keys.is_empty() {
                let rest = keys.split_off(keys.len().min(size));
                let ask = Ask { tap: Arc::clone(&self.tap), keys: std::mem::replace(&mut keys, rest), asking: false };
                let unsent = match asks {
                    Some(asks) => asks.try_send(ask).err().map(mpsc::error::TrySendError::into_inner),
                    None => Some(ask),
                };
                if let Some(ask) = unsent {
                    self.tap.no_answer(owner, ask.keys, &NoAnswer::Disconnected);
                }
            }
        }
    }

    /// What scans and describes nodes, to be used beside the port.
    pub fn scanner(&self) -> Scanner {
        Scanner { pattern: self.tap.pattern.clone(), view: self.view.clone() }
    }
}

/// Where the answers to [`Port::ask`] arrive.
pub struct Looks(mpsc::Receiver<Vec<Look>>);

impl Looks {
    /// The next looks that are done; `None` when the deployment has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<Look>> {
        self.0.recv().await
    }
    /// Looks that are done already.
    pub fn ready(&mut self) -> Option<Vec<Look>> {
        self.0.try_recv().ok()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.guidance.send_modify(|guidance| {
            let others = guidance.taps.iter().filter(|tap| !Arc::ptr_eq(tap, &self.tap));
            *guidance = Arc::new(guidance.with_taps(others.cloned().collect()));
        });
    }
}

/// The other half of `ask`: scan this node.
#[derive(Clone)]
pub struct Scanner {
    pattern: Vec<u8>,
    view: watch::Receiver<Arc<View>>,
}

impl Scanner {
    /// A page of a node's keys that match, and the next cursor; "0" begins and ends.
    pub async fn scan(&self, node: &NodeId, cursor: &str) -> Result<(String, Vec<Key>), String> {
        let view = Arc::clone(&self.view.borrow());
        let node = view.nodes.get(node).ok_or("the node has left")?;
        node.control.scan(cursor, &self.pattern).await.map_err(|fault| fault.to_string())
    }
    /// What tells one state of the node's data from another.
    pub async fn data(&self, node: &NodeId) -> Result<NodeData, String> {
        let view = Arc::clone(&self.view.borrow());
        let node = view.nodes.get(node).ok_or("the node has left")?;
        node.control.data().await.map_err(|fault| fault.to_string())
    }
}
