//! The vocabulary: what every stage speaks of. No I/O, no clock, nothing of Kubernetes or Redis clients.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use foldhash::quality::RandomState;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod fault;
mod info;
mod slot;

pub use fault::{Failure, Fault, FaultCategory, NotificationFault, of_node};
pub use info::info_field;
pub use slot::{SLOTS, Slot, SlotSet, slot_of};

/// A Redis key: any bytes, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<[u8]>);

impl Key {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// The key as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
    /// The slot that the key lies in (CRC16 of the key or of its hash tag).
    pub fn slot(&self) -> Slot {
        slot_of(&self.0)
    }
}

/// A map by key.
pub type KeyMap<V> = HashMap<Key, V, RandomState>;
/// A set of keys.
pub type KeySet = HashSet<Key, RandomState>;

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}
impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}
impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A moment in milliseconds since the Unix epoch. Whose clock is said where it is used: a deadline is by the
/// clock of the node that owns the key, everything else by ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    pub const fn plus(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
    /// `self - earlier` in milliseconds; negative when `earlier` is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// When a key expires, by the clock of the node that owns it.
pub type Deadline = Millis;

/// Two readings of one deadline may differ by this much: MIGRATE and PTTL round (DESIGN rule 7).
pub const SAME_DEADLINE_MS: i64 = 5;

/// Whether two readings name one deadline.
pub fn same_deadline(a: Deadline, b: Deadline) -> bool {
    a.since(b).abs() <= SAME_DEADLINE_MS
}

/// How a key's end became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Evidence {
    /// Redis pushed `expired` for it.
    Witnessed,
    /// It was known to be due, it is gone, and nobody was heard deleting it.
    Inferred,
}

impl Evidence {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Witnessed => "Witnessed",
            Self::Inferred => "Inferred",
        }
    }
}

/// A listener's name: `namespace/name`. Without Kubernetes the namespace is `default` unless the document says other.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListenerId(Arc<str>);

impl ListenerId {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }
}
impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node of a deployment: in a cluster its 40 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

impl NodeId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl From<&str> for NodeId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where to dial what is known by `announced`.
pub fn dialled<'a>(address_map: &'a [(Address, Address)], announced: &'a Address) -> &'a Address {
    address_map.iter().find(|(from, _)| from == announced).map_or(announced, |(_, to)| to)
}

/// Where a node listens: a host name or an IP address without brackets, and a port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    pub host: Arc<str>,
    pub port: u16,
}

impl Address {
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }
    /// Reads `host:port` or `[v6]:port`; `None` unless both are there.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| Self::new(host, port))
    }
}
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An event's id: `evt_` and 32 characters of base32. A function of what happened and of nothing else, so that
/// the same expiry seen twice (a crash, a restart, a scan, a failover that forgot) is the same id (DESIGN rule 10).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Arc<str>);

impl EventId {
    pub fn of(listener: &ListenerId, database: u32, key: &Key, deadline: Deadline) -> Self {
        let mut hash = Sha256::new();
        let name = listener.as_str().as_bytes();
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update(database.to_be_bytes());
        hash.update((key.as_bytes().len() as u64).to_be_bytes());
        hash.update(key.as_bytes());
        hash.update(deadline.0.to_be_bytes());
        let text = data_encoding::BASE32_NOPAD.encode(&hash.finalize()[..20]).to_ascii_lowercase();
        Self(format!("evt_{text}").into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl From<&str> for EventId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One expiry, as it lies in the outbox and is told to the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub key: Key,
    /// The deadline that the event reports: the entry's, or the time of the push where that came sooner.
    pub deadline: Deadline,
    pub evidence: Evidence,
    /// When it was settled, by our clock.
    pub settled_at: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_expiry_has_the_same_id_and_any_other_another() {
        let shop = ListenerId::new("shop", "orders");
        let id = EventId::of(&shop, 0, &"k".into(), Millis(7));
        assert_eq!(id, EventId::of(&shop, 0, &"k".into(), Millis(7)));
        assert_eq!(id.as_str().len(), 36);
        for other in [
            EventId::of(&ListenerId::new("shop", "order"), 0, &"k".into(), Millis(7)),
            EventId::of(&shop, 1, &"k".into(), Millis(7)),
            EventId::of(&shop, 0, &"K".into(), Millis(7)),
            EventId::of(&shop, 0, &"k".into(), Millis(8)),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn an_address_needs_a_host_and_a_port() {
        assert_eq!(Address::parse("redis-0.shop:6379"), Some(Address::new("redis-0.shop", 6379)));
        assert_eq!(Address::parse("[::1]:6379"), Some(Address::new("::1", 6379)));
        assert_eq!(Address::parse("[::1]:6379").map(|a| a.to_string()).as_deref(), Some("[::1]:6379"));
        for wrong in ["", "redis", "redis:", ":6379", "redis:0", "redis:70000", "::1:6379", "[::1:6379"] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }
}
