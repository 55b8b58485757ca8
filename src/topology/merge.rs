//! What several nodes say of the cluster, made one. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::parse::View;
use crate::model::{Address, Fault, FaultCategory, NodeId, SLOTS, Slot, SlotSet, dialled};

/// Who the nodes are and who owns each slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    nodes: Vec<Node>,
    /// Who owns what, in order.
    owners: Vec<Owned>,
    /// What is wrong with it, naming the node and the fix.
    pub error: Option<Fault>,
    /// What it is told by from another deployment (DESIGN rule 14): while one of these is left, it is the same.
    pub known_by: BTreeSet<String>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    /// Where it says it listens.
    pub announced: Vec<Address>,
    /// Where to dial, the best first; empty only for a node that [`Topology::error`] names.
    pub dial: Vec<Address>,
    pub role: Role,
    pub slots: SlotSet,
    /// Its configuration epoch.
    pub epoch: u64,
    /// The masters hold it for dead.
    pub failed: bool,
}

/// A run of slots that one node owns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    first: u16,
    last: u16,
    /// The owner's index in [`Topology::nodes`].
    node: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Master,
    Replica { of: NodeId },
}

impl Node {
    pub fn is_master(&self) -> bool {
        self.role == Role::Master
    }
    /// A master that must be heard: dead ones that own nothing are listed for ever by some versions.
    pub fn drives(&self) -> bool {
        self.is_master() && (!self.failed || !self.slots.is_empty())
    }
}

impl Topology {
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.binary_search_by(|node| node.id.cmp(id)).ok().map(|index| &self.nodes[index])
    }
    pub fn owner(&self, slot: Slot) -> Option<&Node> {
        let after = self.owners.partition_point(|owned| owned.first <= slot.0);
        let owned = &self.owners[after.checked_sub(1)?];
        (owned.last >= slot.0).then(|| &self.nodes[owned.node])
    }
    pub fn owns(&self, id: &NodeId, slot: Slot) -> bool {
        self.owner(slot).is_some_and(|node| node.id == *id)
    }
    pub fn masters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.drives())
    }
    /// The nodes whose roles the node that was asked confirms: if it is a master, every other node whose role it tells as
    /// we hold it; a lone master itself.
    pub fn confirmed_by(&self, view: &View) -> Vec<NodeId> {
        let asked = view.myself.as_ref().and_then(|id| self.node(id)).filter(|asked| asked.is_master());
        let Some(asked) = asked else { return Vec::new() };
        let alone = self.masters().filter(|master| !master.failed).all(|master| master.id == asked.id);
        let others = view.rows.iter().filter(|row| (row.id != asked.id || alone) && !row.failed);
        let agreed = others.filter(|row| {
            self.node(&row.id).is_some_and(|node| {
                node.is_master() == row.replica_of.is_none() && (node.slots.is_empty() || !row.slots.is_empty())
            })
        });
        agreed.map(|row| row.id.clone()).collect()
    }
    /// Every slot has an owner.
    pub fn covered(&self) -> bool {
        self.owners.iter().map(|owned| usize::from(owned.last - owned.first) + 1).sum::<usize>() == usize::from(SLOTS)
    }
    /// The node that listens there, going by what it announces or what we dial.
    pub fn at(&self, address: &Address) -> Option<&Node> {
        self.nodes.iter().find(|node| node.dial.contains(address) || node.announced.contains(address))
    }
}

/// One topology out of what was known and what nodes say now. Per slot the claim with the highest epoch wins, an old
/// claim among them: two nodes that both lag do not take us back. A node is known while anyone of `views` lists it.
pub fn merge(known: &Topology, views: &[View], address_map: &[(Address, Address)]) -> Topology {
    let mut nodes: BTreeMap<NodeId, Node> = BTreeMap::new();
    for row in views.iter().flat_map(|view| &view.rows) {
        let role = row.replica_of.clone().map_or(Role::Master, |of| Role::Replica { of });
        let node = nodes.entry(row.id.clone()).or_insert_with(|| Node {
            id: row.id.clone(),
            announced: Vec::new(),
            dial: Vec::new(),
            role: role.clone(),
            slots: SlotSet::default(),
            epoch: row.epoch,
            failed: row.failed,
        });
        node.epoch = node.epoch.max(row.epoch);
        // Whoever still calls it a master has not heard yet; one that has been promoted owns slots (see below). Epochs
        // do not order this: a replica is listed with its master's, which may be lower than the one it had before.
        if role != Role::Master {
            node.role = role;
        }
        node.failed &= row.failed;
        for address in &row.announced {
            let dial = dialled(address_map, address);
            if !node.announced.contains(address) {
                node.announced.push(address.clone());
            }
            if !node.dial.contains(dial) {
                node.dial.push(dial.clone());
            }
        }
    }
    let mut nodes: Vec<Node> = nodes.into_values().collect();
    let owners = owners(&claims(known, views, &nodes));
    let mut runs: Vec<Vec<(u16, u16)>> = vec![Vec::new(); nodes.len()];
    for Owned { first, last, node } in &owners {
        runs[*node].push((*first, *last));
    }
    for (node, runs) in nodes.iter_mut().zip(runs) {
        node.slots = runs.into_iter().collect();
        // An owner is a master, whatever an older row called it.
        if !node.slots.is_empty() {
            node.role = Role::Master;
        }
    }
    let error = concealed(&nodes).or_else(|| duplicate(&nodes)).map(|error| FaultCategory::Concealed.fault(error));
    let known_by = nodes.iter().map(|node| node.id.to_string()).collect();
    Topology { nodes, owners, error, known_by }
}

/// That a node owns a run of slots.
struct Claim {
    owned: Owned,
    epoch: u64,
    /// It is what was known before, and counts where somebody still owns the slot.
    old: bool,
}

fn claims(known: &Topology, views: &[View], nodes: &[Node]) -> Vec<Claim> {
    let index = |id: &NodeId| nodes.binary_search_by(|node| node.id.cmp(id)).ok();
    let claim = |id: &NodeId, slots: &SlotSet, epoch, old| -> Vec<Claim> {
        let Some(node) = index(id) else { return Vec::new() };
        slots.ranges().map(|(first, last)| Claim { owned: Owned { first, last, node }, epoch, old }).collect()
    };
    let rows = views.iter().flat_map(|view| &view.rows);
    let new = rows.flat_map(|row| claim(&row.id, &row.slots, row.epoch, false));
    new.chain(known.nodes.iter().flat_map(|node| claim(&node.id, &node.slots, node.epoch, true))).collect()
}

/// Per slot the claim with the highest epoch. Of two with one epoch the first stays: a tie is a view of the same moment.
fn owners(claims: &[Claim]) -> Vec<Owned> {
    // Between two of these, the claims are the same for all slots.
    let bounds: BTreeSet<u16> = claims.iter().flat_map(|claim| [claim.owned.first, claim.owned.last + 1]).collect();
    let mut by_first: Vec<(usize, &Claim)> = claims.iter().enumerate().collect();
    by_first.sort_by_key(|(_, claim)| claim.owned.first);
    let mut coming = by_first.into_iter().peekable();
    let mut here: Vec<(usize, &Claim)> = Vec::new();
    let mut owners: Vec<Owned> = Vec::new();
    for (first, next) in bounds.iter().zip(bounds.iter().skip(1)) {
        here.retain(|(_, claim)| claim.owned.last >= *first);
        while let Some(claim) = coming.next_if(|(_, claim)| claim.owned.first == *first) {
            here.push(claim);
        }
        if here.iter().all(|(_, claim)| claim.old) {
            continue;
        }
        let Some((_, best)) = here.iter().max_by_key(|(order, claim)| (claim.epoch, Reverse(*order))) else { continue };
        let last = next - 1;
        match owners.last_mut() {
            Some(owned) if owned.node == best.owned.node && owned.last + 1 == *first => owned.last = last,
            _ => owners.push(Owned { first: *first, last, node: best.owned.node }),
        }
    }
    owners
}

fn concealed(nodes: &[Node]) -> Option<String> {
    let node = nodes.iter().find(|node| node.dial.is_empty() && !node.failed)?;
    Some(format!(
        "node {} conceals its address; set cluster-announce-ip (or cluster-announce-hostname) on it, or name it in spec.redis.addressMap",
        node.id
    ))
}

fn duplicate(nodes: &[Node]) -> Option<String> {
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| !node.failed) {
        let first = node.dial.first()?;
        if let Some(other) = nodes[index + 1..].iter().find(|other| !other.failed && other.dial.first() == Some(first))
        {
            return Some(format!(
                "nodes {} and {} both announce {first}; give each its own address in spec.redis.addressMap",
                node.id, other.id
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::parse_nodes;

    fn view(rows: &[&str]) -> View {
        parse_nodes(&rows.join("\n"), &Address::new("seed", 7000)).unwrap()
    }
    fn row(id: &str, port: u16, role: &str, of: &str, epoch: u64, slots: &str) -> String {
        format!("{id} 127.0.0.1:{port}@1{port} {role} {of} 0 0 {epoch} connected {slots}")
    }

    #[test]
    fn the_highest_epoch_owns_the_slot_and_two_lagging_nodes_do_not_take_us_back() {
        let old = view(&[&row("a", 1, "master", "-", 1, "0-16383"), &row("b", 2, "slave", "a", 1, "")]);
        let new = view(&[&row("a", 1, "master,fail", "-", 1, ""), &row("b", 2, "master", "-", 2, "0-16383")]);
        let topology = merge(&Topology::default(), &[old.clone(), new], &[]);
        assert!(topology.owns(&"b".into(), Slot(5)) && topology.covered());
        assert_eq!(topology.node(&"b".into()).map(|b| b.role.clone()), Some(Role::Master));
        let again = merge(&topology, &[old.clone(), old], &[]);
        assert!(again.owns(&"b".into(), Slot(5)));
    }

    proptest::proptest! {
        /// Against the rule taken slot by slot.
        #[test]
        fn each_slot_has_the_owner_that_the_rule_says(
            before in rows(), first in rows(), second in rows(),
        ) {
            let known = merge(&Topology::default(), &[before], &[]);
            let views = [first, second];
            let merged = merge(&known, &views, &[]);
            for slot in (0..80).map(Slot) {
                let claims = || views.iter().flat_map(|view| &view.rows).filter(|row| row.slots.contains(slot));
                let held = known.nodes().iter().filter(|node| node.slots.contains(slot) && merged.node(&node.id).is_some());
                let all = claims().map(|row| (&row.id, row.epoch)).chain(held.map(|node| (&node.id, node.epoch)));
                let mut best: Option<(&NodeId, u64)> = None;
                for (id, epoch) in all.filter(|_| claims().next().is_some()) {
                    if best.is_none_or(|(_, held)| epoch > held) {
                        best = Some((id, epoch));
                    }
                }
                proptest::prop_assert_eq!(merged.owner(slot).map(|node| &node.id), best.map(|(id, _)| id));
            }
            let slots: usize = merged.nodes().iter().map(|node| node.slots.len()).sum();
            let owned = (0..SLOTS).filter(|slot| merged.owner(Slot(*slot)).is_some()).count();
            proptest::prop_assert_eq!(slots, owned);
            proptest::prop_assert!(merged.nodes().iter().all(|node| node.slots.iter().all(|slot| merged.owns(&node.id, slot))));
        }
    }

    /// What a node says of four others, with runs of slots that may contradict each other.
    fn rows() -> impl proptest::strategy::Strategy<Value = View> {
        use proptest::strategy::Strategy as _;
        let one = (0u16..5, 0u64..4, proptest::collection::vec((0u16..70, 0u16..12), 0..3));
        proptest::collection::vec(one, 1..5).prop_map(|rows| {
            let mut seen = BTreeMap::new();
            for (id, epoch, runs) in rows {
                let slots: Vec<String> = runs.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
                let name = ["a", "b", "c", "d", "e"][usize::from(id)];
                seen.insert(id, row(name, id + 1, "master", "-", epoch, &slots.join(" ")));
            }
            view(&seen.values().map(String::as_str).collect::<Vec<_>>())
        })
    }

    #[test]
    fn a_master_without_slots_counts_and_a_dead_one_without_slots_does_not() {
        let topology = merge(
            &Topology::default(),
            &[view(&[
                &row("a", 1, "master", "-", 1, "0-16383"),
                &row("b", 2, "master", "-", 2, ""),
                &row("c", 3, "master,fail", "-", 3, ""),
            ])],
            &[],
        );
        assert_eq!(topology.masters().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_node_that_became_a_replica_is_one_though_its_own_epoch_was_higher() {
        let old = view(&[&row("a", 1, "master", "-", 1, "0-16383"), &row("b", 2, "master", "-", 4, "")]);
        let new = view(&[&row("a", 1, "master", "-", 1, "0-16383"), &row("b", 2, "slave", "a", 1, "")]);
        for views in [[old.clone(), new.clone()], [new, old]] {
            let topology = merge(&Topology::default(), &views, &[]);
            assert_eq!(topology.node(&"b".into()).unwrap().role, Role::Replica { of: "a".into() });
        }
    }

    #[test]
    fn a_slot_that_nobody_claims_any_more_has_no_owner() {
        let first = merge(&Topology::default(), &[view(&[&row("a", 1, "master", "-", 1, "0-16383")])], &[]);
        let then = merge(&first, &[view(&[&row("a", 1, "master", "-", 1, "0-99")])], &[]);
        assert!(!then.covered() && then.owner(Slot(100)).is_none() && then.owns(&"a".into(), Slot(99)));
    }

    #[test]
    fn the_address_map_is_dialled_instead_of_what_is_announced() {
        let map = [(Address::new("127.0.0.1", 1), Address::new("outside", 9))];
        let topology = merge(&Topology::default(), &[view(&[&row("a", 1, "master", "-", 1, "0-16383")])], &map);
        assert_eq!(topology.nodes()[0].dial, [Address::new("outside", 9)]);
    }

    #[test]
    fn a_concealed_or_shared_endpoint_is_an_error_that_names_the_node() {
        let concealed = merge(&Topology::default(), &[view(&["a :0@0 master,noaddr - 0 0 1 connected 0-16383"])], &[]);
        let fault = concealed.error.unwrap();
        assert_eq!(fault.category, FaultCategory::Concealed);
        assert!(fault.message.contains("node a conceals"));
        let shared = merge(
            &Topology::default(),
            &[view(&[&row("a", 1, "master", "-", 1, "0-16383"), &row("b", 1, "slave", "a", 1, "")])],
            &[],
        );
        assert!(shared.error.unwrap().message.contains("nodes a and b both announce 127.0.0.1:1"));
    }
}
