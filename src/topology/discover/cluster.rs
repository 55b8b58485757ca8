//! Asks the nodes of a cluster who they are: two at a time, the highest epoch wins.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use redis::Value;
use tokio::time::{Instant, timeout};

use super::{PATIENCE, Sighting, none};
use crate::{
    dial::{Connection, Dialler},
    model::{Address, Fault, FaultCategory, NodeId, info_field},
    plan::RedisPlan,
    topology::{Node, Topology, View, connect, explain, merge, parse_nodes, parse_shards, parse_slots},
};

/// Reads the topology of one cluster.
pub struct Cluster {
    plan: RedisPlan,
    dialler: Dialler,
    connections: HashMap<Address, Connection>,
    turn: usize,
}

impl Cluster {
    pub fn new(plan: RedisPlan, dialler: Dialler) -> Self {
        Self { plan, dialler, connections: HashMap::new(), turn: 0 }
    }

    /// Asks two nodes, masters first and others each time, `doubted` ones last; more when those do not answer, the seeds
    /// at last. Where every master is doubted, doubt counts in every other look alone: nobody but a master dispels it.
    ///
    /// # Errors
    /// What each node that was asked answered, for people, when none gave a topology.
    pub async fn look(&mut self, known: &Topology, doubted: &[NodeId]) -> Result<Sighting, Fault> {
        self.turn = self.turn.wrapping_add(1);
        let mut candidates = candidates(self.turn, known, doubted, &self.plan.addresses);
        let mut answers = Vec::new();
        let mut failures = Vec::new();
        while answers.len() < 2 && !candidates.is_empty() {
            let wave: Vec<Address> = candidates.drain(..candidates.len().min(2 - answers.len())).collect();
            let asked_at = Instant::now();
            let mut asking = Vec::new();
            for address in wave {
                let connection = self.connections.get(&address).cloned();
                asking.push(ask(&self.plan, &self.dialler, address, connection));
            }
            // Two at most, so no set of futures is needed.
            let results = match asking.len() {
                2 => {
                    let second = asking.pop();
                    let first = asking.pop();
                    let (first, second) = tokio::join!(maybe(first), maybe(second));
                    vec![first, second]
                }
                _ => vec![maybe(asking.pop()).await],
            };
            for (address, result) in results.into_iter().flatten() {
                match result {
                    Ok((_, view)) if strange(known, &view) => {
                        self.connections.remove(&address);
                        let fix = "correct spec.redis.addresses, or restart if all nodes were replaced at once";
                        let why = format!("belongs to another cluster than the other nodes; {fix}");
                        failures.push(FaultCategory::Other.fault(why).at(&address));
                    }
                    Ok((connection, view)) => {
                        self.connections.insert(address, connection);
                        answers.push((asked_at, view));
                    }
                    Err(error) => {
                        self.connections.remove(&address);
                        failures.push(error.at(&address));
                    }
                }
            }
        }
        if answers.is_empty() {
            return Err(none(&failures));
        }
        let views: Vec<View> = answers.iter().map(|(_, view)| view.clone()).collect();
        let topology = merge(known, &views, &self.plan.address_map);
        self.connections.retain(|address, _| topology.at(address).is_some() || self.plan.addresses.contains(address));
        let confirmed = answers.iter().flat_map(|(asked_at, view)| {
            topology.confirmed_by(view).into_iter().map(|id| (id, *asked_at)).collect::<Vec<_>>()
        });
        Ok(Sighting { confirmed: confirmed.collect(), topology: Arc::new(topology) })
    }
}

/// The node that was asked tells of none that we know: nodes come and go one at a time, so it is one of another cluster, which has been
/// given an address that was a node's. A ledger is held when it is found to be another's (DESIGN rule 14), not taken along.
fn strange(known: &Topology, view: &View) -> bool {
    !known.nodes().is_empty() && !view.rows.iter().any(|row| known.node(&row.id).is_some())
}

/// Whom to ask, the first first.
fn candidates(turn: usize, known: &Topology, doubted: &[NodeId], seeds: &[Address]) -> Vec<Address> {
    let mut nodes: Vec<_> = known.nodes().iter().filter(|node| !node.failed && !node.dial.is_empty()).collect();
    if !nodes.is_empty() {
        let turn = turn % nodes.len();
        nodes.rotate_left(turn);
    }
    let doubtful = |node: &Node| doubted.contains(&node.id);
    let heeded = turn.is_multiple_of(2) || nodes.iter().any(|node| node.is_master() && !doubtful(node));
    nodes.sort_by_key(|node| (heeded && doubtful(node), !node.is_master()));
    let mut candidates: Vec<Address> = nodes.into_iter().filter_map(|node| node.dial.first().cloned()).collect();
    for seed in seeds {
        if !candidates.contains(seed) {
            candidates.push(seed.clone());
        }
    }
    candidates
}

async fn maybe<F: Future>(future: Option<F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}

type Answer = Result<(Connection, View), Fault>;

async fn ask(
    plan: &RedisPlan,
    dialler: &Dialler,
    address: Address,
    connection: Option<Connection>,
) -> (Address, Answer) {
    let asking = async {
        let mut connection = match connection {
            Some(connection) => connection,
            None => connect(plan, dialler, &address).await.map_err(|error| explain(&error))?,
        };
        let view = read(plan, &mut connection, &address).await?;
        Ok((connection, view))
    };
    let answer = timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| Err(FaultCategory::Unreachable.fault(format!("no answer within {PATIENCE:?}"))));
    (address, answer)
}

/// CLUSTER NODES, else SHARDS, else SLOTS.
async fn read(plan: &RedisPlan, connection: &mut Connection, asked: &Address) -> Result<View, Fault> {
    let unreadable = |error: String| FaultCategory::Other.fault(error);
    let denied = match redis::cmd("CLUSTER").arg("NODES").query_async::<String>(connection).await {
        Ok(text) => return parse_nodes(&text, asked).map(|view| named_first(view, plan)).map_err(unreadable),
        Err(error) if error.code() == Some("NOPERM") => error,
        Err(error) => return Err(explain(&error)),
    };
    let epoch = current_epoch(connection).await;
    let shards = redis::cmd("CLUSTER").arg("SHARDS").query_async::<Value>(connection).await;
    let mut view = if let Ok(value) = shards {
        parse_shards(&value, asked, epoch, plan.tls.is_some()).map_err(unreadable)?
    } else if let Ok(value) = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Value>(connection).await {
        parse_slots(&value, asked, epoch).map_err(unreadable)?
    } else {
        let message = format!("{denied}; grant +cluster|nodes, +cluster|shards or +cluster|slots");
        return Err(FaultCategory::Permission.fault(message));
    };
    if let Ok(myself) = redis::cmd("CLUSTER").arg("MYID").query_async::<String>(connection).await {
        view.myself = Some(NodeId::from(myself.as_str()));
    }
    Ok(named_first(view, plan))
}

/// A certificate names hosts rather than addresses: where each server is to be named by the host that is dialled, that one is its
/// name, if it has told one.
fn named_first(mut view: View, plan: &RedisPlan) -> View {
    if plan.tls.as_ref().is_some_and(|tls| !tls.names_all()) {
        for row in &mut view.rows {
            row.announced.sort_by_key(|address| address.host.parse::<IpAddr>().is_ok());
        }
    }
    view
}

async fn current_epoch(connection: &mut Connection) -> u64 {
    let info = redis::cmd("CLUSTER").arg("INFO").query_async::<String>(connection).await.unwrap_or_default();
    info_field(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_without_any_node_that_is_known_is_another_clusters() {
        let view = |ids: &[&str]| {
            let row = |id: &&str| format!("{id} 127.0.0.1:1@11 master - 0 0 1 connected 0-16383");
            parse_nodes(&ids.iter().map(row).collect::<Vec<_>>().join("\n"), &Address::new("seed", 1)).unwrap()
        };
        let known = merge(&Topology::default(), &[view(&["a", "b"])], &[]);
        assert!(strange(&known, &view(&["c"])));
        assert!(!strange(&known, &view(&["b", "c"])) && !strange(&Topology::default(), &view(&["c"])));
    }

    #[test]
    fn a_master_is_asked_soon_though_every_master_is_doubted_and_replicas_are_not() {
        let rows =
            ["a", "b", "c"].iter().zip(["0-5000", "5001-10000", "10001-16383"]).zip(1..).map(|((id, slots), n)| {
                let replica = format!("r{id} 127.0.0.1:{n}0@1{n}0 slave {id} 0 0 {n} connected");
                format!("{id} 127.0.0.1:{n}@1{n} master - 0 0 {n} connected {slots}\n{replica}")
            });
        let view = parse_nodes(&rows.collect::<Vec<_>>().join("\n"), &Address::new("seed", 1)).unwrap();
        let known = merge(&Topology::default(), &[view], &[]);
        let doubted: Vec<NodeId> = ["a", "b", "c"].map(NodeId::from).into();
        let asks_masters = |turn: usize, doubted: &[NodeId]| {
            let asked = candidates(turn, &known, doubted, &[]);
            asked[..2].iter().all(|address| known.at(address).is_some_and(Node::is_master))
        };
        assert_eq!((0..6).filter(|turn| asks_masters(*turn, &doubted)).count(), 3);
        // One of them suffices, and need not wait for the others.
        assert!((0..6).all(|turn| !asks_masters(turn, &doubted[1..])));
        assert!((0..6).all(|turn| asks_masters(turn, &doubted[2..])));
    }
}
