//! Who the servers are and which of them is the master, outside of a cluster: one server, or one with replicas. Pure.
//!
//! Nobody votes there, so what a server has decides: a promotion gives it another name (`master_replid`) and keeps the old one
//! beside it. A master is followed by one that was promoted from it, and by no other; two of which neither comes from the other
//! are an error and no guess.
//!
//! A node is a *process*, and its id is its run id: addresses are given to other servers, and a restart is another process.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Row, Topology, View,
    info::{Replicates, Server},
    merge,
};
use crate::model::{Address, FaultCategory, NodeId, SlotSet};

/// A server that neither answers nor is named by the master is forgotten after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// A master whose replicas are all silent is believed alone after this.
const ALONE_AFTER: Duration = Duration::from_secs(3);

/// What one address answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub address: Address,
    /// Before it was asked.
    pub asked_at: Instant,
    /// `None`: nobody answered, or something else than a server.
    pub server: Option<Server>,
}

/// What is known from look to look.
#[derive(Debug, Default)]
pub struct Memory {
    processes: BTreeMap<NodeId, Process>,
    /// Addresses at which nobody has answered yet, and when they were last named.
    unanswered: BTreeMap<Address, Instant>,
    master: Option<NodeId>,
    /// The names of what the master has had since it is the master.
    names: BTreeSet<String>,
    /// Where it has answered since then.
    home: BTreeSet<Address>,
    /// When a replica last answered, or the first look.
    replica_heard: Option<Instant>,
}

#[derive(Debug)]
struct Process {
    /// Where it answered, the last first.
    addresses: Vec<Address>,
    server: Server,
    /// When it last answered or was named.
    seen: Instant,
    /// When it was asked, if it answered the last look.
    asked_at: Option<Instant>,
}

impl Process {
    fn answers(&self) -> bool {
        self.asked_at.is_some()
    }
    /// It says that it is a master.
    fn claims(&self) -> bool {
        self.answers() && self.server.is_master()
    }
}

/// What a look came to.
#[derive(Clone, Debug)]
pub struct Settled {
    pub topology: Topology,
    /// Nodes whose roles are as the topology says, and the moment before the first question that this rests on.
    pub confirmed: Vec<(NodeId, Instant)>,
}

impl Memory {
    /// Whom to ask next: all that are known, and `seeds`.
    pub fn whom(&self, seeds: &[Address]) -> Vec<Address> {
        let known = self.processes.values().filter_map(|process| process.addresses.first());
        let all: BTreeSet<&Address> = known.chain(self.unanswered.keys()).chain(seeds).collect();
        all.into_iter().cloned().collect()
    }

    /// Takes down what all that were asked have answered.
    pub fn settle(&mut self, now: Instant, answers: &[Answer], address_map: &[(Address, Address)]) -> Settled {
        self.take(now, answers);
        let problem = self.choose();
        self.forget(now);
        let view = self.view();
        let mut topology = merge(&Topology::default(), &[view], address_map);
        if let Some(problem) = problem {
            topology.error = Some(FaultCategory::Other.fault(problem));
        }
        Settled { topology, confirmed: self.confirmed(now) }
    }

    fn take(&mut self, now: Instant, answers: &[Answer]) {
        self.processes.values_mut().for_each(|process| process.asked_at = None);
        for Answer { address, asked_at, server } in answers {
            let Some(server) = server else {
                if !self.processes.values().any(|process| process.addresses.contains(address)) {
                    self.unanswered.entry(address.clone()).or_insert(now);
                }
                continue;
            };
            self.unanswered.remove(address);
            // Whoever was there is there no more.
            for (id, process) in &mut self.processes {
                process.addresses.retain(|other| other != address || *id == server.process);
            }
            let process = self.processes.entry(server.process.clone()).or_insert_with(|| Process {
                addresses: Vec::new(),
                server: server.clone(),
                seen: now,
                asked_at: None,
            });
            if !process.addresses.contains(address) {
                process.addresses.insert(0, address.clone());
            }
            (process.server, process.seen) = (server.clone(), now);
            process.asked_at = Some(process.asked_at.map_or(*asked_at, |first| first.min(*asked_at)));
        }
        for named in answers.iter().filter_map(|answer| answer.server.as_ref()).flat_map(named) {
            match self.processes.values_mut().find(|process| process.addresses.contains(&named)) {
                Some(process) => process.seen = now,
                None => drop(self.unanswered.insert(named, now)),
            }
        }
        // One whose addresses are all another's by now.
        for process in self.processes.values_mut().filter(|process| process.addresses.is_empty()) {
            process.asked_at = None;
        }
        let replicas = self.answering().any(|(_, process)| !process.server.is_master());
        self.replica_heard = self.replica_heard.filter(|_| !replicas).or(Some(now));
    }

    fn answering(&self) -> impl Iterator<Item = (&NodeId, &Process)> {
        self.processes.iter().filter(|(_, process)| process.answers())
    }

    /// The master, and what is known of it.
    fn held(&self) -> Option<(&NodeId, &Process)> {
        self.processes.get_key_value(self.master.as_ref()?)
    }

    /// Chooses the master; says what is wrong where that cannot be told.
    fn choose(&mut self) -> Option<String> {
        let claimants: Vec<&NodeId> =
            self.processes.iter().filter(|(_, process)| process.claims()).map(|(id, _)| id).collect();
        let follows = |id: &NodeId, names: &BTreeSet<String>| {
            self.processes[id].server.before.as_ref().is_some_and(|before| names.contains(before))
        };
        let held = self.held();
        // What the replicas that follow it say counts as well: its name may have changed since it last answered.
        let mut names = self.names.clone();
        for (_, process) in self.answering() {
            if let (Replicates::Master { linked: true, .. }, Some(held)) = (&process.server.role, held)
                && self.leads_to(&process.server.role, held.0)
            {
                names.insert(process.server.lineage.clone());
            }
        }
        let of = |id: &NodeId| self.processes[id].server.lineage.clone();
        let those = |are: &dyn Fn(&NodeId) -> bool| -> Vec<&NodeId> {
            claimants.iter().copied().filter(|id| are(id)).collect()
        };
        let promoted = those(&|id| follows(id, &names));
        let candidates = match held {
            None => claimants.clone(),
            Some(_) if !promoted.is_empty() => promoted,
            // It goes on, for nobody was promoted from it.
            Some((id, process)) if process.claims() => vec![id],
            // Else what it says that it replicates, or what answers in its place: a restart.
            Some((_, process)) => {
                let followed = those(&|id| process.answers() && self.leads_to(&process.server.role, id));
                if followed.is_empty() {
                    those(&|id| self.processes[id].addresses.iter().any(|address| self.home.contains(address)))
                } else {
                    followed
                }
            }
        };
        let last =
            |id: &&NodeId| candidates.iter().all(|other| other == id || follows(id, &BTreeSet::from([of(other)])));
        let chosen = match candidates.as_slice() {
            [] => None,
            [one] => Some((*one).clone()),
            several => several.iter().copied().find(last).cloned(),
        };
        let stray =
            claimants.iter().find(|id| Some(**id) != chosen.as_ref() && !self.comes_before(id, chosen.as_ref()));
        let problem = stray.map(|stray| self.two_masters(stray, chosen.as_ref().or(self.master.as_ref()), &claimants));
        if let Some(chosen) = chosen {
            let (name, addresses) = (of(&chosen), self.processes[&chosen].addresses.clone());
            let goes_on = self.master.as_ref() == Some(&chosen);
            self.names = if goes_on { names } else { BTreeSet::new() };
            self.names.insert(name);
            if !goes_on {
                self.home.clear();
            }
            self.home.extend(addresses);
            self.master = Some(chosen);
        }
        problem
    }

    /// An old master, from which the new one was promoted: it will learn of that.
    fn comes_before(&self, id: &NodeId, chosen: Option<&NodeId>) -> bool {
        let before = chosen.and_then(|chosen| self.processes[chosen].server.before.as_ref());
        let server = &self.processes[id].server;
        before.is_some_and(|before| *before == server.lineage)
    }

    fn two_masters(&self, stray: &NodeId, other: Option<&NodeId>, claimants: &[&NodeId]) -> String {
        let other = other.filter(|other| *other != stray).or_else(|| claimants.iter().copied().find(|id| *id != stray));
        let at = |id: &NodeId| {
            self.processes.get(id).and_then(|it| it.addresses.first()).map_or(id.to_string(), Address::to_string)
        };
        let other = other.map_or("another".to_owned(), at);
        format!(
            "{} and {other} both say that they are masters, and neither was promoted from the other; make one a replica, or take it out of spec.redis.addresses",
            at(stray)
        )
    }

    /// Whether that is where `id` answers.
    fn leads_to(&self, role: &Replicates, id: &NodeId) -> bool {
        let Replicates::Master { of, .. } = role else { return false };
        self.processes.get(id).is_some_and(|process| process.addresses.contains(of))
    }

    fn forget(&mut self, now: Instant) {
        let master = self.master.clone();
        let recent = |seen: Instant| now.saturating_duration_since(seen) < FORGOTTEN_AFTER;
        self.processes.retain(|id, process| {
            Some(id) == master.as_ref() || (!process.addresses.is_empty() && recent(process.seen))
        });
        self.unanswered.retain(|_, named| recent(*named));
    }

    /// As a cluster's node would tell it: the master owns all slots.
    fn view(&self) -> View {
        // One that says it is a replica owns nothing, though no other is known.
        let master = self.held().filter(|(_, process)| !process.answers() || process.claims());
        let epoch = master.map_or(0, |(_, process)| epoch(&process.server.lineage));
        let master = master.map(|(id, _)| id);
        // Ids that nobody has do no harm: whoever replicates it owns nothing.
        let nobody = NodeId::from("?");
        let row = |id: NodeId, announced: Vec<Address>, failed: bool| {
            let owner = Some(&id) == master;
            Row {
                replica_of: (!owner).then(|| master.unwrap_or(&nobody).clone()),
                slots: if owner { SlotSet::all() } else { SlotSet::default() },
                id,
                announced,
                epoch,
                failed: failed && !owner,
                moving: false,
            }
        };
        let there = self.processes.iter().filter(|(_, process)| !process.addresses.is_empty());
        let mut rows: Vec<Row> =
            there.map(|(id, process)| row(id.clone(), process.addresses.clone(), !process.answers())).collect();
        // Somebody is there, or nobody is: in any case not one node fewer.
        for address in self.unanswered.keys() {
            rows.push(row(NodeId::from(address.to_string().as_str()), vec![address.clone()], false));
        }
        View { myself: None, rows }
    }

    fn confirmed(&self, now: Instant) -> Vec<(NodeId, Instant)> {
        let replicas = self.processes.iter().filter(|(_, process)| !process.server.is_master());
        let mut confirmed: Vec<(NodeId, Instant)> =
            replicas.filter_map(|(id, process)| Some((id.clone(), process.asked_at?))).collect();
        let Some((id, master)) = self.held().filter(|(_, process)| process.claims()) else { return confirmed };
        let Some(asked_at) = master.asked_at else { return confirmed };
        let witness = |(_, process): (&NodeId, &Process)| {
            let Replicates::Master { linked, .. } = &process.server.role else { return None };
            let same = *linked && process.server.lineage == master.server.lineage;
            process.asked_at.filter(|_| same || self.leads_to(&process.server.role, id))
        };
        let alone = self.processes.len() == 1 && self.unanswered.is_empty();
        let silent = || self.replica_heard.is_none_or(|heard| now.saturating_duration_since(heard) >= ALONE_AFTER);
        if let Some(witnessed) = self.answering().filter_map(witness).max() {
            confirmed.push((id.clone(), witnessed.min(asked_at)));
        } else if alone || silent() {
            confirmed.push((id.clone(), asked_at));
        }
        confirmed
    }
}

/// The addresses that a server names.
fn named(server: &Server) -> Vec<Address> {
    match &server.role {
        Replicates::Nobody => server.replicas.clone(),
        Replicates::Master { of, .. } => vec![of.clone()],
    }
}

/// What takes the place of a configuration epoch: another one after each promotion and each restart. Not in any order.
fn epoch(lineage: &str) -> u64 {
    let digits: String = lineage.chars().take(15).collect();
    u64::from_str_radix(&digits, 16)
        .unwrap_or_else(|_| digits.bytes().fold(0, |sum, byte| sum * 31 % (1 << 55) + u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(port: u16) -> Address {
        Address::new("10.0.0.1", port)
    }

    fn master(process: &str, lineage: &str, before: Option<&str>) -> Server {
        Server {
            process: process.into(),
            role: Replicates::Nobody,
            lineage: lineage.to_owned(),
            before: before.map(str::to_owned),
            replicas: Vec::new(),
        }
    }
    fn replica(process: &str, of: u16, lineage: &str) -> Server {
        let role = Replicates::Master { of: address(of), linked: true };
        Server { role, ..master(process, lineage, None) }
    }
    fn unlinked(process: &str, of: u16, lineage: &str) -> Server {
        let role = Replicates::Master { of: address(of), linked: false };
        Server { role, ..master(process, lineage, None) }
    }

    /// A memory, and the time.
    struct Looks {
        memory: Memory,
        now: Instant,
    }

    impl Looks {
        fn new() -> Self {
            Self { memory: Memory::default(), now: Instant::now() }
        }
        /// A look, a second after the last, at servers by their ports.
        fn look(&mut self, servers: &[(u16, Option<Server>)]) -> Settled {
            self.now += Duration::from_secs(1);
            let asked_at = self.now;
            let answer = |(port, server): &(u16, Option<Server>)| Answer {
                address: address(*port),
                asked_at,
                server: server.clone(),
            };
            self.memory.settle(self.now, &servers.iter().map(answer).collect::<Vec<_>>(), &[])
        }
    }

    fn owner(settled: &Settled) -> Option<&str> {
        let masters: Vec<&NodeId> = settled.topology.masters().map(|node| &node.id).collect();
        assert!(masters.len() <= 1 && settled.topology.covered() != masters.is_empty(), "{masters:?}");
        masters.first().map(|id| id.as_str())
    }
    fn confirms(settled: &Settled, id: &str) -> bool {
        settled.confirmed.iter().any(|(confirmed, _)| confirmed.as_str() == id)
    }

    #[test]
    fn a_server_alone_is_its_own_master() {
        let mut looks = Looks::new();
        let settled = looks.look(&[(1, Some(master("a", "a1", None)))]);
        assert_eq!((owner(&settled), confirms(&settled, "a")), (Some("a"), true));
        assert_eq!(settled.topology.error, None);
        let away = looks.look(&[(1, None)]);
        assert_eq!((owner(&away), confirms(&away, "a")), (Some("a"), false), "it is away, and nobody else is there");
    }

    #[test]
    fn a_restart_is_another_node_with_another_epoch() {
        let mut looks = Looks::new();
        let before = looks.look(&[(1, Some(master("a", "a1", None)))]);
        let after = looks.look(&[(1, Some(master("b", "b1", None)))]);
        assert_eq!((owner(&after), after.topology.nodes().len()), (Some("b"), 1));
        assert_ne!(before.topology.nodes()[0].epoch, after.topology.nodes()[0].epoch);
    }

    #[test]
    fn a_master_with_replicas_is_confirmed_by_one_that_follows_it() {
        let mut looks = Looks::new();
        let settled = looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        assert!(confirms(&settled, "a") && confirms(&settled, "b"));
        // It is told by a name that nobody else knows it by, and has what it has.
        let named = looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 99, "a1")))]);
        assert!(confirms(&named, "a"));
        let copying = looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(unlinked("b", 1, "?")))]);
        assert!(confirms(&copying, "a"), "a full copy takes its time");
        let another = looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 3, "c1")))]);
        assert!(!confirms(&another, "a"), "its replica follows another");
    }

    #[test]
    fn where_no_replica_answers_a_master_is_believed_after_a_while() {
        let mut looks = Looks::new();
        let alone = |looks: &mut Looks| looks.look(&[(1, Some(master("a", "a1", None))), (2, None)]);
        looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        assert!(!confirms(&alone(&mut looks), "a"));
        assert!(!confirms(&alone(&mut looks), "a"));
        assert!(confirms(&alone(&mut looks), "a"));
        // From the start: the one that is away might be the master by now.
        let mut looks = Looks::new();
        assert!(!confirms(&alone(&mut looks), "a"));
    }

    #[test]
    fn one_that_was_promoted_takes_over_though_the_old_one_still_says_it_is_the_master() {
        let mut looks = Looks::new();
        looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        let both = [(1, Some(master("a", "a1", None))), (2, Some(master("b", "b1", Some("a1"))))];
        let settled = looks.look(&both);
        assert_eq!((owner(&settled), settled.topology.error.as_ref()), (Some("b"), None));
        // And it stays, whatever the old one says; the other way round would need a promotion.
        assert_eq!(owner(&looks.look(&both)), Some("b"));
        assert_eq!(owner(&looks.look(&[(1, Some(master("a", "a1", None))), (2, None)])), Some("b"));
        // After our restart as well.
        assert_eq!(owner(&Looks::new().look(&both)), Some("b"));
        // Then it is promoted back.
        let back = [(1, Some(master("a", "a2", Some("b1")))), (2, Some(replica("b", 1, "a2")))];
        assert_eq!(owner(&looks.look(&back)), Some("a"));
    }

    #[test]
    fn a_promotion_is_told_though_the_masters_name_changed_meanwhile() {
        let mut looks = Looks::new();
        looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        // A backlog made anew gives another name; only the replica answers.
        looks.look(&[(1, None), (2, Some(replica("b", 1, "a2")))]);
        looks.look(&[(1, Some(master("a", "a2", None))), (2, Some(replica("b", 1, "a2")))]);
        assert_eq!(owner(&looks.look(&[(1, None), (2, Some(master("b", "b1", Some("a2"))))])), Some("b"));
    }

    #[test]
    fn two_masters_of_which_none_comes_from_the_other_are_an_error() {
        let both = [(1, Some(master("a", "a1", None))), (2, Some(master("b", "b1", None)))];
        let settled = Looks::new().look(&both);
        assert_eq!(owner(&settled), None);
        let error = settled.topology.error.unwrap().message;
        assert!(
            error.contains("10.0.0.1:1 and 10.0.0.1:2 both say") && error.contains("spec.redis.addresses"),
            "{error}"
        );
        // The one that is the master stays it.
        let mut looks = Looks::new();
        looks.look(&both[..1]);
        let settled = looks.look(&both);
        assert_eq!((owner(&settled), settled.topology.error.is_some()), (Some("a"), true));
        // And where it is away, the stranger is none.
        assert_eq!(owner(&looks.look(&[(1, None), (2, both[1].1.clone())])), Some("a"));
    }

    #[test]
    fn of_one_that_was_promoted_and_one_that_came_back_the_promoted_one_counts() {
        let mut looks = Looks::new();
        looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        let settled = looks.look(&[(1, Some(master("c", "c1", None))), (2, Some(master("b", "b1", Some("a1"))))]);
        assert_eq!(owner(&settled), Some("b"));
    }

    #[test]
    fn a_master_that_says_it_is_a_replica_owns_nothing_and_names_its_master() {
        let mut looks = Looks::new();
        looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        // FAILOVER demotes first.
        let between = looks.look(&[(1, Some(unlinked("a", 2, "a1"))), (2, Some(replica("b", 1, "a1")))]);
        assert_eq!(owner(&between), None);
        // It was promoted by a name that we have not heard of; the old one says whom it follows.
        let after = looks.look(&[(1, Some(replica("a", 2, "b1"))), (2, Some(master("b", "b1", Some("x"))))]);
        assert_eq!((owner(&after), confirms(&after, "b")), (Some("b"), true));
    }

    #[test]
    fn what_a_server_names_is_asked_and_is_a_node_until_it_answers() {
        let mut looks = Looks::new();
        let replicas = vec![address(2)];
        let settled = looks.look(&[(1, Some(Server { replicas, ..master("a", "a1", None) }))]);
        assert_eq!(settled.topology.nodes().len(), 2);
        assert_eq!(looks.memory.whom(&[address(1), address(7)]), [address(1), address(2), address(7)]);
        let answered = looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        assert_eq!(answered.topology.nodes().iter().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_server_with_two_addresses_is_one_node() {
        let mut looks = Looks::new();
        let settled = looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(master("a", "a1", None)))]);
        assert_eq!((settled.topology.nodes().len(), owner(&settled)), (1, Some("a")));
        assert_eq!(settled.topology.nodes()[0].dial.len(), 2);
    }

    #[test]
    fn a_replica_that_is_gone_is_forgotten_after_a_while_and_a_hung_one_is_not() {
        let mut looks = Looks::new();
        looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        let hung = Server { replicas: vec![address(2)], ..master("a", "a1", None) };
        (0..90).for_each(|_| drop(looks.look(&[(1, Some(hung.clone())), (2, None)])));
        assert_eq!(looks.look(&[(1, Some(hung.clone())), (2, None)]).topology.nodes().len(), 2);
        (0..90).for_each(|_| drop(looks.look(&[(1, Some(master("a", "a1", None)))])));
        assert_eq!(looks.look(&[(1, Some(master("a", "a1", None)))]).topology.nodes().len(), 1);
    }

    fn any_server() -> impl Strategy<Value = Server> {
        let role = prop_oneof![
            2 => Just(Replicates::Nobody),
            2 => (1..4_u16, any::<bool>()).prop_map(|(of, linked)| Replicates::Master { of: address(of), linked }),
        ];
        let names = 0..5_usize;
        (0..4_usize, role, names.clone(), prop::option::of(names), prop::collection::vec(1..5_u16, 0..2)).prop_map(
            |(process, role, lineage, before, replicas)| Server {
                process: ["a", "b", "c", "d"][process].into(),
                role,
                lineage: format!("{lineage}f"),
                before: before.map(|before| format!("{before}f")),
                replicas: replicas.into_iter().map(address).collect(),
            },
        )
    }

    proptest! {
        /// Whatever the servers say: one master at most, and nobody is confirmed who did not say in this look what he is.
        #[test]
        fn nobody_is_confirmed_who_did_not_say_so(
            looks in prop::collection::vec(prop::collection::vec((1..5_u16, prop::option::weighted(0.8, any_server())), 1..5), 1..12),
        ) {
            let mut memory = Looks::new();
            for servers in &looks {
                let held = memory.memory.master.clone();
                let names = memory.memory.names.clone();
                let settled = memory.look(servers);
                let owner = owner(&settled).map(NodeId::from);
                for (id, at) in &settled.confirmed {
                    prop_assert!(*at <= memory.now);
                    let said = servers.iter().rev().filter_map(|(_, server)| server.as_ref()).find(|server| server.process == *id);
                    prop_assert!(said.is_some_and(|said| said.is_master() == (owner.as_ref() == Some(id))));
                }
                // A master that goes on saying so gives way only to one that was promoted from it.
                let claims = |id: &NodeId| memory.memory.processes.get(id).is_some_and(Process::claims);
                if let (Some(held), Some(owner)) = (held, owner)
                    && held != owner
                    && claims(&held)
                {
                    let before = memory.memory.processes[&owner].server.before.clone();
                    let followed = before.is_some_and(|before| {
                        names.contains(&before) || memory.memory.processes.values().any(|it| !it.server.is_master() && it.server.lineage == before)
                    });
                    prop_assert!(followed);
                }
            }
        }
    }
}
