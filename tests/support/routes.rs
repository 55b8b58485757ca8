//! Takes commands to the master of their slot and keeps going through failovers and moves: follows MOVED and ASK, tries
//! again what was refused, and says when the outcome of an attempt is not known.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use redis_expiry_operator::model::{Address, Key, Millis, SLOTS, Slot};

use super::{
    now,
    wire::{Command, Connection, Reply, command},
};

/// One attempt, as the client saw it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub node: Address,
    pub start: Millis,
    pub end: Millis,
    /// `None`: sent, and no answer came.
    pub answer: Option<Answer>,
}

#[derive(Clone, Debug)]
pub struct Answer {
    /// One a command, without those of MULTI, EXEC and WAIT.
    pub replies: Vec<Reply>,
    /// A replica has confirmed it (`WAIT 1 50`): a failover cannot lose it.
    pub replicated: bool,
}

enum Tried {
    Answered(Answer),
    Unknown,
    /// Certainly not done; where to go instead, if the node said.
    Refused(Option<Redirect>),
}

enum Redirect {
    Moved(Address),
    Ask(Address),
}

/// Longer than the shorter hang of a master: what it then answers is certain.
const PATIENCE: Duration = Duration::from_millis(2_500);

pub struct Routes {
    /// Else one of the seeds is the master of all.
    clustered: bool,
    seeds: Vec<Address>,
    state: Mutex<State>,
}

struct State {
    owners: Vec<Option<Address>>,
    idle: HashMap<Address, Vec<Connection>>,
    refreshed: Millis,
    turn: usize,
}

impl Routes {
    pub fn new(clustered: bool, seeds: Vec<Address>) -> Self {
        let owners = vec![None; usize::from(SLOTS)];
        Self {
            clustered,
            seeds,
            state: Mutex::new(State { owners, idle: HashMap::new(), refreshed: Millis(0), turn: 0 }),
        }
    }

    /// Who owns the slot, as last heard.
    pub fn owner(&self, slot: Slot) -> Option<Address> {
        self.state.lock().unwrap().owners[usize::from(slot.0)].clone()
    }

    /// Does the commands (more than one: in a transaction) at the master of `key`. Tries again until it is answered or
    /// `until` has passed; a refused attempt is not in what it returns.
    pub async fn run(&self, key: &Key, commands: &[Command], until: Millis) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        let mut asking = None;
        while now() < until {
            let ask = asking.is_some();
            let Some(node) = asking.take().or_else(|| self.owner(key.slot())) else {
                self.refresh().await;
                continue;
            };
            let start = now();
            let tried = self.attempt(&node, ask, commands).await;
            let end = now();
            match tried {
                Tried::Answered(answer) => {
                    attempts.push(Attempt { node, start, end, answer: Some(answer) });
                    break;
                }
                Tried::Unknown => {
                    attempts.push(Attempt { node, start, end, answer: None });
                    self.refresh().await;
                }
                Tried::Refused(Some(Redirect::Moved(to))) => {
                    self.state.lock().unwrap().owners[usize::from(key.slot().0)] = Some(to);
                }
                Tried::Refused(Some(Redirect::Ask(to))) => asking = Some(to),
                Tried::Refused(None) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    self.refresh().await;
                }
            }
        }
        attempts
    }

    async fn attempt(&self, node: &Address, ask: bool, commands: &[Command]) -> Tried {
        let idle = self.state.lock().unwrap().idle.get_mut(node).and_then(|idle| {
            idle.retain(|connection| !connection.is_closed());
            idle.pop()
        });
        let mut connection = match idle {
            Some(connection) => connection,
            None => match Connection::open(node).await {
                Ok(connection) => connection,
                Err(_) => return Tried::Refused(None),
            },
        };
        let transaction = commands.len() > 1;
        let mut sent: Vec<Command> = Vec::new();
        sent.extend(ask.then(|| command(["ASKING"])));
        sent.extend(transaction.then(|| command(["MULTI"])));
        sent.extend_from_slice(commands);
        sent.extend(transaction.then(|| command(["EXEC"])));
        sent.push(command(["WAIT", "1", "50"]));
        let Ok(replies) = connection.exchange(&sent, PATIENCE).await else {
            return Tried::Unknown;
        };
        self.state.lock().unwrap().idle.entry(node.clone()).or_default().push(connection);
        understand(&replies, transaction)
    }

    /// Reads the owners again from a node that answers, ten times a second at most.
    pub async fn refresh(&self) {
        let seed = {
            let mut state = self.state.lock().unwrap();
            if now().since(state.refreshed) < 100 {
                None
            } else {
                state.refreshed = now();
                state.turn += 1;
                Some(self.seeds[state.turn % self.seeds.len()].clone())
            }
        };
        let Some(seed) = seed else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        };
        if !self.clustered {
            self.look_for_the_master().await;
            return;
        }
        let Ok(mut connection) = Connection::open(&seed).await else { return };
        let asked = connection.exchange(&[command(["CLUSTER", "SLOTS"])], Duration::from_millis(300)).await;
        let Ok(replies) = asked else { return };
        let mut state = self.state.lock().unwrap();
        for range in replies[0].array() {
            let [Reply::Integer(first), Reply::Integer(last), master, ..] = range.array() else { continue };
            let [host, Reply::Integer(port), ..] = master.array() else { continue };
            let Ok(port) = u16::try_from(*port) else { continue };
            let owner = Address::new(&host.text(), port);
            for slot in *first..=*last {
                if let Some(place) = usize::try_from(slot).ok().and_then(|slot| state.owners.get_mut(slot)) {
                    *place = Some(owner.clone());
                }
            }
        }
    }
}

impl Routes {
    /// The last of the servers that says so.
    async fn look_for_the_master(&self) {
        for seed in &self.seeds {
            let Ok(mut connection) = Connection::open(seed).await else { continue };
            let asked = connection.exchange(&[command(["ROLE"])], Duration::from_millis(300)).await;
            let Ok(replies) = asked else { continue };
            if replies[0].array().first().is_some_and(|role| role.text() == "master") {
                self.state.lock().unwrap().owners.fill(Some(seed.clone()));
            }
        }
    }
}

fn understand(replies: &[Reply], transaction: bool) -> Tried {
    let (wait, done) = replies.split_last().expect("as many replies as commands");
    let replicated = wait.integer().is_some_and(|replicas| replicas >= 1);
    let refused = done.iter().chain(transaction.then(|| done.last()).flatten()).find_map(Reply::error);
    if let Some(error) = refused {
        return Tried::Refused(redirect(error));
    }
    let replies = match done.last() {
        Some(Reply::Array(replies)) if transaction => replies.clone(),
        Some(reply) => vec![reply.clone()],
        None => return Tried::Refused(None),
    };
    Tried::Answered(Answer { replies, replicated })
}

fn redirect(error: &str) -> Option<Redirect> {
    let mut words = error.split(' ');
    let (kind, _slot, address) = (words.next()?, words.next()?, words.next()?);
    match kind {
        "MOVED" => Address::parse(address).map(Redirect::Moved),
        "ASK" => Address::parse(address).map(Redirect::Ask),
        "CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "READONLY" | "MASTERDOWN" | "BUSY" | "EXECABORT" => None,
        _ => panic!("the generator sent something wrong: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_a_moved_slot_aborted_was_not_done() {
        let replies = [
            Reply::Status("OK".into()),
            Reply::Error("MOVED 7 127.0.0.1:7001".into()),
            Reply::Error("EXECABORT Transaction discarded because of previous errors.".into()),
            Reply::Integer(1),
        ];
        assert!(matches!(understand(&replies, true), Tried::Refused(Some(Redirect::Moved(to))) if to.port == 7001));
    }

    #[test]
    fn a_write_is_replicated_when_a_replica_said_so() {
        let said = |replicas| understand(&[Reply::Status("OK".into()), Reply::Integer(replicas)], false);
        assert!(matches!(said(1), Tried::Answered(Answer { replicated: true, .. })));
        assert!(matches!(said(0), Tried::Answered(Answer { replicated: false, .. })));
    }
}
