//! Asks every server that is known who it is: outside of a cluster none speaks for another.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{PATIENCE, Sighting, none};
use crate::{
    dial::{Connection, Dialler},
    model::{Address, Fault, FaultCategory, NodeId, SlotSet, dialled},
    plan::{Mode, RedisPlan, Secret, SentinelPlan},
    servers::{Answer, Found, Memory, Named, Reach, Sentinels, Server, Settled, Watched, parse_info},
    topology::{Row, Topology, View, connect, explain, merge},
};

/// Reads who one server, or one with replicas, is.
pub struct Servers {
    /// Who say which of them is the master, where there are such.
    sentinels: Option<Sentinels>,
    plan: RedisPlan,
    dialler: Dialler,
    connections: HashMap<Address, Connection>,
    memory: Memory,
}

impl Servers {
    pub fn new(plan: RedisPlan, dialler: Dialler) -> Self {
        let sentinels = match &plan.mode {
            Mode::Sentinel(sentinel) => Some(Sentinels::new(reach(&plan, sentinel, dialler.clone()))),
            Mode::Cluster | Mode::Standalone => None,
        };
        Self { sentinels, plan, dialler, connections: HashMap::new(), memory: Memory::default() }
    }

    /// # Errors
    /// What each server that was asked answered, for people, when none said who it is.
    pub async fn look(&mut self) -> Result<Sighting, Fault> {
        let said = match &mut self.sentinels {
            Some(sentinels) => Some(Box::pin(sentinels.ask()).await?),
            None => None,
        };
        let seeds = said.as_ref().map_or(&self.plan.addresses, |said| &said.servers).clone();
        let named = said.and_then(|said| said.named);
        let mut settled = self.ask(&seeds, named.as_ref()).await?;
        // Whom the answers name may be the master; at the start nobody else is known.
        if settled.master.is_none() {
            settled = self.ask(&seeds, named.as_ref()).await?;
        }
        // The same sentinels may know of several masters, and the same server has other keys in another database.
        let named = match &self.plan.mode {
            Mode::Sentinel(sentinel) => format!("/{}", sentinel.master_name),
            Mode::Cluster | Mode::Standalone => String::new(),
        };
        let addresses = self.plan.addresses.iter().map(|address| format!("{address}{named}"));
        let marks = addresses.chain(settled.lineages.iter().cloned());
        let known_by = marks.map(|mark| format!("{mark}/{}", self.plan.database)).collect();
        let mut merged = merge(&Topology::default(), &[view(&settled)], &self.plan.address_map);
        merged.known_by = known_by;
        merged.error = settled.error.or(merged.error.take());
        Ok(Sighting { topology: Arc::new(merged), confirmed: settled.confirmed })
    }

    async fn ask(&mut self, seeds: &[Address], named: Option<&Named>) -> Result<Settled, Fault> {
        let asking = self.memory.whom(seeds).into_iter().map(|address| {
            let connection = self.connections.get(&address).cloned();
            ask(&self.plan, &self.dialler, address, connection)
        });
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for (address, asked_at, result) in join_all(asking).await {
            let server = match result {
                Ok((connection, server)) => {
                    self.connections.insert(address.clone(), connection);
                    Some(server)
                }
                Err(error) => {
                    self.connections.remove(&address);
                    failures.push(error.at(&address));
                    None
                }
            };
            answers.push(Answer { address, asked_at, server });
        }
        if answers.iter().all(|answer| answer.server.is_none()) {
            return Err(none(&failures));
        }
        let settled = self.memory.settle(Instant::now(), &answers, named);
        let asked = self.memory.whom(seeds);
        self.connections.retain(|address, _| asked.contains(address));
        Ok(settled)
    }
}

fn reach(plan: &RedisPlan, sentinel: &SentinelPlan, dialler: Dialler) -> Reach {
    let SentinelPlan { master_name, username, password, tls } = sentinel.clone();
    Reach {
        addresses: plan.addresses.clone(),
        address_map: plan.address_map.clone(),
        watched: Watched { master_name, username, password: password.as_ref().map(Secret::text), tls },
        dialler,
    }
}

/// As a cluster's node would tell it: the master owns all slots.
fn view(settled: &Settled) -> View {
    // An id that nobody has does no harm: whoever replicates it owns nothing.
    let nobody = NodeId::from("?");
    let master = settled.master.as_ref();
    let row = |server: &Found| {
        let owner = Some(&server.id) == master;
        Row {
            replica_of: (!owner).then(|| master.unwrap_or(&nobody).clone()),
            slots: if owner { SlotSet::all() } else { SlotSet::default() },
            id: server.id.clone(),
            announced: server.addresses.clone(),
            epoch: settled.epoch,
            failed: server.silent && !owner,
            moving: false,
        }
    };
    View { myself: None, rows: settled.servers.iter().map(row).collect() }
}

type Asked = Result<(Connection, Server), Fault>;

async fn ask(
    plan: &RedisPlan,
    dialler: &Dialler,
    address: Address,
    connection: Option<Connection>,
) -> (Address, Instant, Asked) {
    let asked_at = Instant::now();
    let asking = async {
        let mut connection = match connection {
            Some(connection) => connection,
            None => {
                connect(plan, dialler, dialled(&plan.address_map, &address)).await.map_err(|error| explain(&error))?
            }
        };
        let mut info = String::new();
        // One by one: before 7.0, INFO takes one section.
        for section in ["server", "replication"] {
            let asked = redis::cmd("INFO").arg(section).query_async::<String>(&mut connection).await;
            info += &asked.map_err(|error| may_not(explain(&error)))?;
            info.push('\n');
        }
        let server = parse_info(&info).map_err(|what| FaultCategory::Other.fault(what))?;
        Ok((connection, server))
    };
    let late = |_| Err(FaultCategory::Unreachable.fault(format!("no answer within {PATIENCE:?}")));
    let asked = timeout(PATIENCE, asking).await.unwrap_or_else(late);
    (address, asked_at, asked)
}

fn may_not(fault: Fault) -> Fault {
    match fault.category {
        FaultCategory::Permission => fault.category.fault(format!("{fault}; grant the ACL user +info")),
        _ => fault,
    }
}
