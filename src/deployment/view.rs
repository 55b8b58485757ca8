//! What a deployment is at one moment, as its listeners see it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{Address, Fault, NodeId, Slot, SlotSet},
    nodes::{Connection, Control, Notifications, Offset, Source},
    topology::Topology,
};

/// A deployment at one moment.
#[derive(Clone, Default)]
pub struct View {
    pub topology: Arc<Topology>,
    pub nodes: BTreeMap<NodeId, NodeView>,
    /// What is wrong with the topology, for people.
    pub error: Option<Fault>,
}

/// One of its nodes.
#[derive(Clone)]
pub struct NodeView {
    pub address: Option<Address>,
    pub master: bool,
    /// A master that must be heard.
    pub drives: bool,
    pub slots: SlotSet,
    pub epoch: u64,
    pub connection: Connection,
    pub notifications: Notifications,
    pub offset: Offset,
    pub(super) control: Arc<Control>,
}

impl NodeView {
    /// The subscription to `pattern` is open, and the node may be believed.
    pub fn open(&self, pattern: &[u8]) -> bool {
        self.connection.since.is_some() && self.connection.trusted && self.connection.patterns.contains(pattern)
    }
    /// It tells of what happens to keys.
    pub fn hears(&self) -> bool {
        self.connection.source == Source::Tracking || self.notifications.sufficient
    }
    /// Grows with every gap.
    pub fn continuity(&self) -> u64 {
        self.connection.continuity + self.notifications.lapses
    }
}

impl View {
    pub fn owner(&self, slot: Slot) -> Option<&NodeId> {
        self.topology.owner(slot).map(|node| &node.id)
    }
    /// Every slot has an owner.
    pub fn covered(&self) -> bool {
        self.topology.covered()
    }
    /// Every slot has an owner, and every master's subscription to `pattern` is open.
    pub fn heard(&self, pattern: &[u8]) -> bool {
        self.covered() && self.nodes.values().filter(|node| node.drives).all(|node| node.open(pattern))
    }
    /// How far the clock of the slot's owner is ahead of ours, in microseconds; 0 while it is unknown.
    pub fn offset_of(&self, slot: Slot) -> i64 {
        self.owner(slot).and_then(|id| self.nodes.get(id)).and_then(|node| node.offset.micros()).unwrap_or(0)
    }
}
