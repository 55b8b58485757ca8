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

use crate::model::{Address, Fault, FaultCategory, NodeId};

mod info;
pub(crate) mod sentinels;

pub use info::{Replicates, Server, parse_info};
pub use sentinels::{Reach, Said, Sentinels, Watched};

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

/// Whom the sentinels name, as far as they may be asked. They take their time to say it: who was promoted from the master is
/// followed before. But where what the servers say leaves it open, or speaks for nobody, it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub master: Address,
    /// The failover that they know of; a later one has a greater number.
    pub epoch: u64,
    /// Before they were asked.
    pub asked_at: Instant,
}

/// What is known from look to look.
#[derive(Debug, Default)]
pub struct Memory {
    processes: BTreeMap<NodeId, Process>,
    /// Addresses at which nobody has answered yet, since when, and when they were last named.
    unanswered: BTreeMap<Address, (Instant, Instant)>,
    master: Option<NodeId>,
    /// The newest failover that sentinels have told of.
    epoch: Option<u64>,
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

/// A server that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its process; of one that has not answered yet, its address.
    pub id: NodeId,
    /// Where it is, the best first.
    pub addresses: Vec<Address>,
    /// It does not answer, or has not for a while.
    pub silent: bool,
}

/// What a look came to.
#[derive(Clone, Debug)]
pub struct Settled {
    pub servers: Vec<Found>,
    /// The master, whether it answers or not; `None` where none is known, or it says that it is none.
    pub master: Option<NodeId>,
    /// What takes the place of a configuration epoch: another one after each promotion and each restart. Not in any order.
    pub epoch: u64,
    /// Why there is no master, or who else says that it is one, and the fix.
    pub error: Option<Fault>,
    /// Servers that are what this says, and the moment before the first question that this rests on.
    pub confirmed: Vec<(NodeId, Instant)>,
    /// The names of what the master has, and of what it had before it was promoted.
    pub lineages: BTreeSet<String>,
}

impl Memory {
    /// Whom to ask next: all that are known, and `seeds`.
    pub fn whom(&self, seeds: &[Address]) -> Vec<Address> {
        let known = self.processes.values().filter_map(|process| process.addresses.first());
        let all: BTreeSet<&Address> = known.chain(self.unanswered.keys()).chain(seeds).collect();
        all.into_iter().cloned().collect()
    }

    /// Takes down what all that were asked have answered. `named`: whom the sentinels name, where there are any.
    pub fn settle(&mut self, now: Instant, answers: &[Answer], named: Option<&Named>) -> Settled {
        self.take(now, answers);
        let problem = self.choose(named);
        self.forget(now);
        // One that says it is a replica is none, though no other is known, nor one in whose place another answers.
        let there = |process: &Process| !process.addresses.is_empty() && (!process.answers() || process.claims());
        let master = self.held().filter(|(_, process)| there(process));
        let epoch = master.map_or(0, |(_, process)| epoch(&process.server.lineage));
        let master = master.map(|(id, _)| id.clone());
        let nobody = || master.is_none().then(|| FaultCategory::Uncovered.fault(self.no_master(named)));
        let error = problem.map(|problem| FaultCategory::Other.fault(problem)).or_else(nobody);
        let before = self.held().and_then(|(_, process)| process.server.before.clone());
        let lineages = self.names.iter().cloned().chain(before).collect();
        Settled { servers: self.servers(now), confirmed: self.confirmed(now, named), master, epoch, error, lineages }
    }

    fn take(&mut self, now: Instant, answers: &[Answer]) {
        self.processes.values_mut().for_each(|process| process.asked_at = None);
        for Answer { address, asked_at, server } in answers {
            let Some(server) = server else {
                if !self.processes.values().any(|process| process.addresses.contains(address)) {
                    self.unanswered.entry(address.clone()).or_insert((now, now)).1 = now;
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
            process.addresses.retain(|other| other != address);
            process.addresses.insert(0, address.clone());
            (process.server, process.seen) = (server.clone(), now);
            process.asked_at = Some(process.asked_at.map_or(*asked_at, |first| first.min(*asked_at)));
        }
        for named in answers.iter().filter_map(|answer| answer.server.as_ref()).flat_map(named) {
            match self.processes.values_mut().find(|process| process.addresses.contains(&named)) {
                Some(process) => process.seen = now,
                None => self.unanswered.entry(named).or_insert((now, now)).1 = now,
            }
        }
        // One whose addresses are all another's by now.
        for process in self.processes.values_mut().filter(|process| process.addresses.is_empty()) {
            process.asked_at = None;
        }
        let held = self.held();
        let replicas = self.answering().any(|(_, process)| {
            !process.server.is_master() && held.is_none_or(|held| self.replicates(&process.server, held))
        });
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
    fn choose(&mut self, named: Option<&Named>) -> Option<String> {
        let claimants: Vec<&NodeId> =
            self.processes.iter().filter(|(_, process)| process.claims()).map(|(id, _)| id).collect();
        let follows = |id: &NodeId, lineages: &BTreeSet<String>| {
            self.processes[id].server.before.as_ref().is_some_and(|before| lineages.contains(before))
        };
        let held = self.held();
        // What the replicas that follow it say counts as well: its name may have changed since it last answered.
        let mut lineages = self.names.clone();
        for (_, process) in self.answering() {
            if let (Replicates::Master { linked: true, .. }, Some(held)) = (&process.server.role, held)
                && self.leads_to(&process.server.role, held.0)
            {
                lineages.insert(process.server.lineage.clone());
            }
        }
        let of = |id: &NodeId| self.processes[id].server.lineage.clone();
        let those = |are: &dyn Fn(&NodeId) -> bool| -> Vec<&NodeId> {
            claimants.iter().copied().filter(|id| are(id)).collect()
        };
        let promoted = those(&|id| follows(id, &lineages));
        // Whom the sentinels name, and who was promoted from it: they are late to say so.
        let there = |id: &NodeId| named.is_some_and(|named| self.processes[id].addresses.contains(&named.master));
        let lineages_there = claimants.iter().filter(|id| there(id)).map(|id| of(id)).collect();
        let by_name = those(&|id| there(id) || follows(id, &lineages_there));
        // A failover that is news; what they said of an older one is known to be over.
        let news = named.is_some_and(|named| self.epoch.is_none_or(|epoch| named.epoch > epoch)) && !by_name.is_empty();
        let candidates = match held {
            None if named.is_some() => by_name,
            None => claimants.clone(),
            Some(_) if news => by_name,
            Some(_) if !promoted.is_empty() => promoted,
            // It goes on, for nobody was promoted from it.
            Some((id, process)) if process.claims() => vec![id],
            // Else whom what answers in its place replicates, or what answers there itself: a restart.
            Some(_) => {
                let home = |process: &Process| process.addresses.iter().any(|address| self.home.contains(address));
                let followed = those(&|id| {
                    self.answering().any(|(_, process)| home(process) && self.leads_to(&process.server.role, id))
                });
                if followed.is_empty() { those(&|id| home(&self.processes[id])) } else { followed }
            }
        };
        let last =
            |id: &&NodeId| candidates.iter().all(|other| other == id || follows(id, &BTreeSet::from([of(other)])));
        let chosen = match candidates.as_slice() {
            [] => None,
            [one] => Some((*one).clone()),
            several => several.iter().copied().find(last).cloned(),
        };
        // Sentinels make one that comes back as a master a replica before long.
        let decided = named.is_some() && chosen.is_some();
        let stray = claimants
            .iter()
            .filter(|_| !decided)
            .find(|id| Some(**id) != chosen.as_ref() && !self.comes_before(id, chosen.as_ref()));
        let problem = stray.map(|stray| self.two_masters(stray, chosen.as_ref().or(self.master.as_ref()), &claimants));
        if let Some(chosen) = chosen {
            let (name, addresses) = (of(&chosen), self.processes[&chosen].addresses.clone());
            let goes_on = self.master.as_ref() == Some(&chosen);
            self.names = if goes_on { lineages } else { BTreeSet::new() };
            self.names.insert(name);
            if !goes_on {
                self.home.clear();
            }
            self.home.extend(addresses);
            self.master = Some(chosen);
            // Known to be over: whoever still tells of it is late.
            self.epoch = self.epoch.max(named.map(|named| named.epoch));
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
        let other = other.map_or("another".to_owned(), |other| self.at(other));
        format!(
            "{} says that it is a master, and so is {other}, and neither was promoted from the other; make one a replica, or take it out of spec.redis.addresses",
            self.at(stray)
        )
    }

    fn no_master(&self, named: Option<&Named>) -> String {
        if let Some(Named { master, .. }) = named {
            let there = self.answering().any(|(_, process)| process.addresses.contains(master));
            let why = if there { "is no master (yet)" } else { "does not answer" };
            return format!(
                "the sentinels name {master}, which {why}: open the way to it, or say where to dial in addressMap"
            );
        }
        let replicas: Vec<String> = self.answering().map(|(id, _)| self.at(id)).take(4).collect();
        format!(
            "no server answers as the master (replicas: {}); promote one, or name the master in addresses",
            if replicas.is_empty() { "none".to_owned() } else { replicas.join(", ") }
        )
    }

    /// Whether it has what that master has, or was told to replicate it.
    fn replicates(&self, server: &Server, (id, master): (&NodeId, &Process)) -> bool {
        let linked = matches!(server.role, Replicates::Master { linked: true, .. });
        (linked && server.lineage == master.server.lineage) || self.leads_to(&server.role, id)
    }

    /// For people: where it was last, else what it is.
    fn at(&self, id: &NodeId) -> String {
        let address = self.processes.get(id).and_then(|process| process.addresses.first());
        address.map_or_else(|| id.to_string(), Address::to_string)
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
        self.unanswered.retain(|_, (_, named)| recent(*named));
    }

    fn servers(&self, now: Instant) -> Vec<Found> {
        let there = self.processes.iter().filter(|(_, process)| !process.addresses.is_empty());
        let known = there.map(|(id, process)| Found {
            id: id.clone(),
            addresses: process.addresses.clone(),
            silent: !process.answers(),
        });
        // Somebody is there, or nobody is: in any case not one fewer.
        let named = self.unanswered.iter().map(|(address, (since, _))| Found {
            id: NodeId::from(address.to_string().as_str()),
            addresses: vec![address.clone()],
            silent: now.saturating_duration_since(*since) >= ALONE_AFTER,
        });
        known.chain(named).collect()
    }

    fn confirmed(&self, now: Instant, named: Option<&Named>) -> Vec<(NodeId, Instant)> {
        let replicas = self.processes.iter().filter(|(_, process)| !process.server.is_master());
        let mut confirmed: Vec<(NodeId, Instant)> =
            replicas.filter_map(|(id, process)| Some((id.clone(), process.asked_at?))).collect();
        let Some((id, master)) = self.held().filter(|(_, process)| process.claims()) else { return confirmed };
        let Some(asked_at) = master.asked_at else { return confirmed };
        let witness = |(_, process): (&NodeId, &Process)| {
            process.asked_at.filter(|_| self.replicates(&process.server, (id, master)))
        };
        // Who is named in its place may be the one from which it was promoted: they are late. Else it may be a master no more.
        let contradicted = named.filter(|named| !master.addresses.contains(&named.master)).is_some_and(|named| {
            let there = self.processes.iter().filter(|(_, process)| process.addresses.contains(&named.master));
            !there.map(|(other, _)| other).any(|other| self.comes_before(other, Some(id)))
        });
        if contradicted {
            return confirmed;
        }
        let alone = self.processes.len() == 1 && self.unanswered.is_empty();
        let silent = || self.replica_heard.is_none_or(|heard| now.saturating_duration_since(heard) >= ALONE_AFTER);
        if let Some(witnessed) = self.answering().filter_map(witness).max() {
            confirmed.push((id.clone(), witnessed.min(asked_at)));
        } else if let Some(named) = named.filter(|named| master.addresses.contains(&named.master)) {
            confirmed.push((id.clone(), named.asked_at.min(asked_at)));
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
        /// Whom the sentinels name.
        named: Option<(u16, u64)>,
        memory: Memory,
        now: Instant,
    }

    impl Looks {
        fn new() -> Self {
            Self { named: None, memory: Memory::default(), now: Instant::now() }
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
            let named = self.named.map(|(port, epoch)| Named { master: address(port), epoch, asked_at });
            self.memory.settle(self.now, &servers.iter().map(answer).collect::<Vec<_>>(), named.as_ref())
        }
    }

    fn owner(settled: &Settled) -> Option<&str> {
        settled.master.as_ref().map(NodeId::as_str)
    }
    fn confirms(settled: &Settled, id: &str) -> bool {
        settled.confirmed.iter().any(|(confirmed, _)| confirmed.as_str() == id)
    }

    #[test]
    fn a_server_alone_is_its_own_master() {
        let mut looks = Looks::new();
        let settled = looks.look(&[(1, Some(master("a", "a1", None)))]);
        assert_eq!((owner(&settled), confirms(&settled, "a")), (Some("a"), true));
        assert_eq!(settled.error, None);
        let away = looks.look(&[(1, None)]);
        assert_eq!((owner(&away), confirms(&away, "a")), (Some("a"), false), "it is away, and nobody else is there");
    }

    #[test]
    fn a_restart_is_another_node_with_another_epoch() {
        let mut looks = Looks::new();
        let before = looks.look(&[(1, Some(master("a", "a1", None)))]);
        let after = looks.look(&[(1, Some(master("b", "b1", None)))]);
        assert_eq!((owner(&after), after.servers.len()), (Some("b"), 1));
        assert_ne!(before.epoch, after.epoch);
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
        assert_eq!((owner(&settled), settled.error.as_ref()), (Some("b"), None));
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
        let error = settled.error.unwrap().message;
        assert!(
            error.contains("10.0.0.1:1 says that it is a master, and so is 10.0.0.1:2")
                && error.contains("spec.redis.addresses"),
            "{error}"
        );
        // The one that is the master stays it.
        let mut looks = Looks::new();
        looks.look(&both[..1]);
        let settled = looks.look(&both);
        assert_eq!((owner(&settled), settled.error.is_some()), (Some("a"), true));
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
        assert_eq!(settled.servers.len(), 2);
        assert_eq!(looks.memory.whom(&[address(1), address(7)]), [address(1), address(2), address(7)]);
        let answered = looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        assert_eq!(answered.servers.iter().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_server_with_two_addresses_is_one_node() {
        let mut looks = Looks::new();
        let settled = looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(master("a", "a1", None)))]);
        assert_eq!((settled.servers.len(), owner(&settled)), (1, Some("a")));
        assert_eq!(settled.servers[0].addresses.len(), 2);
    }

    #[test]
    fn a_replica_that_is_gone_is_forgotten_after_a_while_and_a_hung_one_is_not() {
        let mut looks = Looks::new();
        looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        let hung = Server { replicas: vec![address(2)], ..master("a", "a1", None) };
        (0..90).for_each(|_| drop(looks.look(&[(1, Some(hung.clone())), (2, None)])));
        assert_eq!(looks.look(&[(1, Some(hung.clone())), (2, None)]).servers.len(), 2);
        (0..90).for_each(|_| drop(looks.look(&[(1, Some(master("a", "a1", None)))])));
        assert_eq!(looks.look(&[(1, Some(master("a", "a1", None)))]).servers.len(), 1);
    }

    #[test]
    fn the_one_that_sentinels_name_is_the_master_where_the_servers_leave_it_open() {
        let both = [(1, Some(master("a", "a1", None))), (2, Some(master("b", "b1", None)))];
        let mut looks = Looks { named: Some((2, 7)), ..Looks::new() };
        let settled = looks.look(&both);
        assert_eq!((owner(&settled), confirms(&settled, "b"), settled.error.as_ref()), (Some("b"), true, None));
        // They name another, which has nothing of it: a later failover counts, and what is late does not.
        looks.named = Some((1, 7));
        assert_eq!(owner(&looks.look(&both)), Some("b"));
        looks.named = Some((1, 8));
        assert_eq!(owner(&looks.look(&both)), Some("a"));
        // From the start, when nobody that is named answers as a master, nobody is taken for one.
        let mut looks = Looks { named: Some((2, 7)), ..Looks::new() };
        assert_eq!(owner(&looks.look(&[(1, Some(master("a", "a1", None))), (2, None)])), None);
        assert_eq!(owner(&looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))])), None);
    }

    #[test]
    fn one_that_was_promoted_is_followed_before_sentinels_name_it() {
        let mut looks = Looks { named: Some((1, 7)), ..Looks::new() };
        let first = [(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))];
        assert_eq!(owner(&looks.look(&first)), Some("a"));
        let promoted = [(1, Some(master("a", "a1", None))), (2, Some(master("b", "b1", Some("a1"))))];
        let settled = looks.look(&promoted);
        assert_eq!((owner(&settled), settled.error.is_none()), (Some("b"), true));
        assert_eq!(owner(&looks.look(&promoted)), Some("b"), "and is not left again, though they are late");
        // Nor for one that restarts in the old one's place meanwhile.
        let restarted = [(1, Some(master("c", "c1", None))), (2, Some(master("b", "b1", Some("a1"))))];
        assert_eq!(owner(&looks.look(&restarted)), Some("b"));
        // After our restart as well.
        assert_eq!(owner(&Looks { named: Some((1, 7)), ..Looks::new() }.look(&promoted)), Some("b"));
        looks.named = Some((2, 8));
        let settled = looks.look(&promoted);
        assert_eq!((owner(&settled), settled.error.is_none()), (Some("b"), true));
    }

    #[test]
    fn a_master_without_replicas_is_confirmed_by_sentinels_and_by_nobody_while_they_name_another() {
        let mut looks = Looks { named: Some((1, 7)), ..Looks::new() };
        let alone = [(1, Some(master("a", "a1", None))), (2, None)];
        assert!(confirms(&looks.look(&alone), "a"));
        // It thaws, and the one that was promoted cannot be reached from here.
        looks.named = Some((2, 8));
        assert!((0..9).all(|_| !confirms(&looks.look(&alone), "a")));
    }

    #[test]
    fn a_replica_of_something_else_keeps_nobody_from_being_confirmed() {
        let mut looks = Looks::new();
        let servers = [(1, Some(master("a", "a1", None))), (2, Some(replica("x", 9, "z1")))];
        (0..4).for_each(|_| drop(looks.look(&servers)));
        assert!(confirms(&looks.look(&servers), "a"));
    }

    #[test]
    fn what_was_promoted_from_what_was_promoted_between_two_looks_is_found_by_who_follows_it() {
        let mut looks = Looks::new();
        looks.look(&[(1, Some(master("a", "a1", None))), (2, Some(replica("b", 1, "a1")))]);
        // Another process answers where the master was, and replicates what was promoted twice since.
        let after = [(1, Some(replica("d", 3, "c1"))), (3, Some(master("c", "c1", Some("b1"))))];
        let settled = looks.look(&after);
        assert_eq!((owner(&settled), settled.error.is_none()), (Some("c"), true));
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
