//! Which node a slot is at, as far as we were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rand::seq::SliceRandom as _;
use redis::Value;
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::model::{Address, SLOTS, Slot, dialled};

/// Nodes are asked for their view this often at most.
const APART: Duration = Duration::from_millis(50);
/// So many are asked, one after the other, until one answers.
const ASKED: usize = 3;

pub(super) struct Routes {
    seeds: Vec<Address>,
    map: Vec<(Address, Address)>,
    told: Mutex<Told>,
    /// The ids of the nodes that were ever told of.
    ids: Mutex<BTreeSet<Vec<u8>>>,
}

#[derive(Default)]
struct Told {
    /// By the first slot of a range: the last one and the owner.
    ranges: BTreeMap<u16, (u16, Address)>,
    /// What single slots' redirections said since.
    moved: BTreeMap<u16, Address>,
    /// Slots whose owner did not answer as one, until the nodes were asked again.
    doubted: Vec<(u16, Address)>,
    /// When a node was asked last.
    at: Option<Instant>,
}

impl Routes {
    pub fn new(seeds: Vec<Address>, map: Vec<(Address, Address)>) -> Self {
        Self { seeds, map, told: Mutex::default(), ids: Mutex::default() }
    }

    /// `None`: ask.
    pub fn owner(&self, slot: Slot) -> Option<Address> {
        let told = self.told();
        if told.doubted.iter().any(|(doubted, _)| *doubted == slot.0) {
            return None;
        }
        told.owner(slot)
    }

    /// A node said that another has the slot.
    pub fn moved(&self, slot: Slot, to: &str, by: &Address) {
        if let Some(to) = self.read(to, by) {
            let mut told = self.told();
            told.doubted.retain(|(doubted, _)| *doubted != slot.0);
            told.moved.insert(slot.0, to);
        }
    }

    /// The node that we took for the owner does not answer as one.
    pub fn doubt(&self, slot: Slot, owner: &Address) {
        let mut told = self.told();
        told.moved.remove(&slot.0);
        if !told.doubted.iter().any(|(doubted, _)| *doubted == slot.0) {
            told.doubted.push((slot.0, owner.clone()));
        }
    }

    /// The owner, if somebody has asked for it just now: then it is not doubted any more.
    pub fn recent(&self, slot: Slot) -> Option<Address> {
        let mut told = self.told();
        let owner = told.owner(slot).filter(|_| told.at.is_some_and(|at| at.elapsed() < APART))?;
        told.doubted.retain(|(doubted, _)| *doubted != slot.0);
        Some(owner)
    }

    /// Whether the node that answers `CLUSTER SLOTS` so is one of this cluster: nodes come and go one at a time, so it tells of one that
    /// we know. An address that was a node's may be given to one of another cluster, which would take what is this one's.
    pub fn admits(&self, answer: &Value) -> bool {
        let told = ids(answer);
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let strange = !told.is_empty() && !ids.is_empty() && ids.is_disjoint(&told);
        if !strange {
            ids.extend(told);
        }
        !strange
    }

    /// A node's answer to `CLUSTER SLOTS`; gives the slot's owner.
    pub fn learn(&self, answer: &Value, by: &Address, slot: Slot) -> Result<Address, Refusal> {
        if !self.admits(answer) {
            return Err(strange(by));
        }
        let ranges = self.parse(answer, by);
        let mut told = self.told();
        *told = Told { ranges, at: Some(Instant::now()), ..Told::default() };
        told.owner(slot).ok_or_else(|| Refusal::Busy(format!("{by}: nobody owns slot {}; see CLUSTER NODES", slot.0)))
    }

    /// It all lies on one server.
    pub fn all_at(&self, owner: &Address) {
        let ranges = BTreeMap::from([(0, (SLOTS - 1, self.mapped(owner)))]);
        *self.told() = Told { ranges, at: Some(Instant::now()), ..Told::default() };
    }

    /// Where to dial what is known by this address.
    pub fn mapped(&self, announced: &Address) -> Address {
        dialled(&self.map, announced).clone()
    }

    /// Known nodes and seeds, in any order, but the doubted last.
    pub fn candidates(&self, slot: Slot) -> Vec<Address> {
        let told = self.told();
        let mut nodes: Vec<Address> =
            told.ranges.values().map(|(_, owner)| owner).chain(&self.seeds).cloned().collect();
        nodes.shuffle(&mut rand::rng());
        let doubted = |node: &Address| told.doubted.iter().any(|(of, owner)| *of == slot.0 && owner == node);
        nodes.sort_by_key(doubted);
        let mut seen = Vec::new();
        nodes.retain(|node| {
            !seen.contains(node) && {
                seen.push(node.clone());
                true
            }
        });
        nodes.truncate(ASKED);
        nodes
    }

    /// An address as `by` has told it.
    pub fn read(&self, text: &str, by: &Address) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        self.dialled(host, port.parse().ok()?, by)
    }

    fn dialled(&self, host: &str, port: u16, by: &Address) -> Option<Address> {
        // A node that does not know its own address: the one under which we have asked it.
        let host = if host.is_empty() || host == "?" { &by.host } else { host.trim_matches(['[', ']']) };
        let announced = Address::new(host, port);
        (port != 0).then(|| self.mapped(&announced))
    }

    /// Reads `CLUSTER SLOTS`: first and last slot, then nodes, the master first, each a host and a port.
    fn parse(&self, value: &Value, by: &Address) -> BTreeMap<u16, (u16, Address)> {
        let Value::Array(ranges) = value else { return BTreeMap::new() };
        let range = |range: &Value| {
            let Value::Array(fields) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = fields.as_slice() else {
                return None;
            };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            let host = match host {
                Value::BulkString(host) => std::str::from_utf8(host).ok()?,
                Value::SimpleString(host) => host,
                _ => "",
            };
            let owner = self.dialled(host, u16::try_from(*port).ok()?, by)?;
            Some((u16::try_from(*first).ok()?, (u16::try_from(*last).ok()?, owner)))
        };
        ranges.iter().filter_map(range).collect()
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a node is not asked that [`Routes::admits`] not.
pub(super) fn strange(node: &Address) -> Refusal {
    Refusal::Away(format!(
        "{node} belongs to another cluster than the other nodes: correct the addresses, or restart if all nodes were replaced at once"
    ))
}

/// The ids of all nodes in an answer to `CLUSTER SLOTS`.
fn ids(value: &Value) -> BTreeSet<Vec<u8>> {
    let Value::Array(ranges) = value else { return BTreeSet::new() };
    let id = |node: &Value| match node {
        Value::Array(fields) => match fields.get(2)? {
            Value::BulkString(id) => Some(id.clone()),
            Value::SimpleString(id) => Some(id.clone().into_bytes()),
            _ => None,
        },
        _ => None,
    };
    let nodes = ranges.iter().filter_map(|range| match range {
        Value::Array(fields) => fields.get(2..),
        _ => None,
    });
    nodes.flatten().filter_map(id).collect()
}

impl Told {
    fn owner(&self, slot: Slot) -> Option<Address> {
        let ranged = || self.ranges.range(..=slot.0).next_back().filter(|(_, (last, _))| *last >= slot.0);
        self.moved.get(&slot.0).or_else(|| ranged().map(|(_, (_, owner))| owner)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let node = |host: &str, port| Address::new(host, port);
        Routes::new(vec![node("seed", 1)], vec![(node("10.0.3.7", 6379), node("redis-0.example", 6380))])
    }

    fn slots() -> Value {
        let node = |host: &str, port| Value::Array(vec![Value::BulkString(host.into()), Value::Int(port)]);
        let range = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        Value::Array(vec![
            range(0, 5, node("10.0.3.7", 6379)),
            range(6, 9, node("", 7)),
            range(11, 16_383, node("fe80::1", 8)),
        ])
    }

    #[test]
    fn a_slot_is_where_a_node_says_and_where_it_was_moved() {
        let routes = routes();
        assert_eq!(routes.owner(Slot(3)), None);
        let told = routes.learn(&slots(), &Address::new("seed", 1), Slot(3));
        assert_eq!(told, Ok(Address::new("redis-0.example", 6380)));
        assert_eq!(routes.owner(Slot(8)), Some(Address::new("seed", 7)));
        assert_eq!(routes.owner(Slot(11)), Some(Address::new("fe80::1", 8)));
        assert_eq!(routes.owner(Slot(10)), None);
        routes.moved(Slot(3), "10.0.3.7:6379", &Address::new("seed", 7));
        routes.moved(Slot(4), ":9", &Address::new("other", 7));
        assert_eq!(routes.owner(Slot(3)), Some(Address::new("redis-0.example", 6380)));
        assert_eq!(routes.owner(Slot(4)), Some(Address::new("other", 9)));
    }

    #[test]
    fn a_node_of_another_cluster_is_not_admitted_and_one_that_came_later_is() {
        let told = |ids: &[&str]| {
            let node = |id: &&str| {
                Value::Array(vec![Value::BulkString("h".into()), Value::Int(1), Value::BulkString((*id).into())])
            };
            let range = [Value::Int(0), Value::Int(16_383)].into_iter().chain(ids.iter().map(node));
            Value::Array(vec![Value::Array(range.collect())])
        };
        let routes = routes();
        assert!(routes.admits(&told(&["a", "b"])) && routes.admits(&slots()) && routes.admits(&told(&[])));
        assert!(!routes.admits(&told(&["x", "y"])));
        assert!(routes.admits(&told(&["b", "c"])) && routes.admits(&told(&["d", "c"])) && routes.admits(&told(&["d"])));
        let by = Address::new("seed", 1);
        let refused = routes.learn(&told(&["x"]), &by, Slot(3));
        assert!(matches!(refused, Err(Refusal::Away(why)) if why.contains("another cluster")));
        assert_eq!(routes.owner(Slot(3)), None);
        assert!(routes.learn(&told(&["a"]), &by, Slot(3)).is_ok());
    }

    #[test]
    fn a_doubted_owner_is_asked_about_elsewhere_first() {
        let routes = routes();
        routes.learn(&slots(), &Address::new("seed", 1), Slot(3)).unwrap();
        let owner = routes.owner(Slot(8)).unwrap();
        routes.doubt(Slot(8), &owner);
        assert_eq!(routes.owner(Slot(8)), None);
        assert!(routes.owner(Slot(3)).is_some());
        for _ in 0..20 {
            let asked = routes.candidates(Slot(8));
            assert!(asked.len() == ASKED && asked[..2].iter().all(|node| *node != owner), "{asked:?}");
        }
    }
}
