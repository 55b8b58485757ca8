//! Asks nodes who they are: two at a time, the highest epoch wins.

use std::{collections::HashMap, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, Value,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Node, Topology, View, merge, parse_nodes, parse_shards, parse_slots};
use crate::{
    dial::{self, Dialler},
    model::{Address, Fault, FaultCategory, NodeId, info_field},
    plan::RedisPlan,
};

/// The longest that one node may take to answer, connecting included.
const PATIENCE: Duration = Duration::from_millis(500);

/// Asks for a new look at the topology, at once. The only thing that goes back to this stage.
#[derive(Clone, Default)]
pub struct Refresh(Arc<Notify>);

impl Refresh {
    pub fn request(&self) {
        self.0.notify_one();
    }
    pub async fn requested(&self) {
        self.0.notified().await;
    }
}

/// A topology, and who said so when.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub topology: Arc<Topology>,
    /// The views that were read, each with the moment before it was asked for.
    pub answers: Vec<(Instant, View)>,
}

/// Reads the topology of one cluster.
pub struct Discovery {
    plan: RedisPlan,
    dialler: Dialler,
    connections: HashMap<Address, MultiplexedConnection>,
    turn: usize,
}

impl Discovery {
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
        Ok(Sighting { topology: Arc::new(topology), answers })
    }
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

/// Of several faults the category is the first one's that is not of a node that is merely away: that one is to be mended.
fn none(failures: &[Fault]) -> Fault {
    let mut categories = failures.iter().map(|fault| fault.category);
    let category = categories.find(|category| *category != FaultCategory::Unreachable);
    let messages: Vec<&str> = failures.iter().map(|fault| &*fault.message).take(4).collect();
    let message = format!("no node tells the topology: {}", messages.join("; "));
    match category {
        Some(category) => category.fault(message),
        None => FaultCategory::Unreachable.fault(format!(
            "{message}; correct spec.redis.addresses, or see that these nodes run and can be reached from here"
        )),
    }
}

type Answer = Result<(MultiplexedConnection, View), Fault>;

async fn ask(
    plan: &RedisPlan,
    dialler: &Dialler,
    address: Address,
    connection: Option<MultiplexedConnection>,
) -> (Address, Answer) {
    let asking = async {
        let mut connection = match connection {
            Some(connection) => connection,
            None => connect(plan, dialler, &address).await.map_err(|error| explain(&error))?,
        };
        let view = read(&mut connection, &address).await?;
        Ok((connection, view))
    };
    let answer = timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| Err(FaultCategory::Unreachable.fault(format!("no answer within {PATIENCE:?}"))));
    (address, answer)
}

/// A connection for what needs no barrier. Every call on it ends within the time limits given here.
pub async fn connect(
    plan: &RedisPlan,
    dialler: &Dialler,
    address: &Address,
) -> redis::RedisResult<MultiplexedConnection> {
    let mut settings = RedisConnectionInfo::default();
    if let Some(username) = &plan.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &plan.password {
        settings = settings.set_password(String::from_utf8_lossy(&password.0));
    }
    let info = ConnectionAddr::Tcp(address.host.to_string(), address.port)
        .into_connection_info()?
        .set_redis_settings(settings);
    let limits = AsyncConnectionConfig::new()
        .set_dns_resolver(dialler.clone())
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(Duration::from_secs(5)));
    Client::open(info)?.get_multiplexed_async_connection_with_config(&limits).await
}

/// CLUSTER NODES, else SHARDS, else SLOTS.
async fn read(connection: &mut MultiplexedConnection, asked: &Address) -> Result<View, Fault> {
    let unreadable = |error: String| FaultCategory::Other.fault(error);
    let denied = match redis::cmd("CLUSTER").arg("NODES").query_async::<String>(connection).await {
        Ok(text) => return parse_nodes(&text, asked).map_err(unreadable),
        Err(error) if error.code() == Some("NOPERM") => error,
        Err(error) => return Err(explain(&error)),
    };
    let epoch = current_epoch(connection).await;
    let shards = redis::cmd("CLUSTER").arg("SHARDS").query_async::<Value>(connection).await;
    let mut view = if let Ok(value) = shards {
        parse_shards(&value, asked, epoch).map_err(unreadable)?
    } else if let Ok(value) = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Value>(connection).await {
        parse_slots(&value, asked, epoch).map_err(unreadable)?
    } else {
        let message = format!("{denied}; grant +cluster|nodes, +cluster|shards or +cluster|slots");
        return Err(FaultCategory::Permission.fault(message));
    };
    if let Ok(myself) = redis::cmd("CLUSTER").arg("MYID").query_async::<String>(connection).await {
        view.myself = Some(NodeId::from(myself.as_str()));
    }
    Ok(view)
}

async fn current_epoch(connection: &mut MultiplexedConnection) -> u64 {
    let info = redis::cmd("CLUSTER").arg("INFO").query_async::<String>(connection).await.unwrap_or_default();
    info_field(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0)
}

/// Redis's error with the fix, where it is plain.
pub fn explain(error: &redis::RedisError) -> Fault {
    let text = error.to_string();
    if text.contains("cluster support disabled") {
        return FaultCategory::NotACluster
            .fault("this server is not part of a Redis Cluster (cluster-enabled no); mode Cluster needs one");
    }
    let category = match error.code() {
        Some(code) => FaultCategory::of_code(code),
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => FaultCategory::Authentication,
        None if error.is_io_error() => dial::category(error),
        None => FaultCategory::Other,
    };
    let fix = match category {
        FaultCategory::Authentication if text.contains("NOAUTH") => {
            ": set spec.redis.passwordSecretRef (and usernameSecretRef for an ACL user)"
        }
        FaultCategory::Authentication => {
            ": check the Secrets of spec.redis.usernameSecretRef and spec.redis.passwordSecretRef"
        }
        _ => "",
    };
    category.fault(text + fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Fault {
        let Value::ServerError(error) = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() else {
            unreachable!("an error is an error")
        };
        explain(&error.into())
    }

    #[test]
    fn what_a_server_says_has_a_category() {
        for (line, category) in [
            ("NOAUTH Authentication required.", FaultCategory::Authentication),
            ("WRONGPASS invalid username-password pair or user is disabled.", FaultCategory::Authentication),
            ("NOPERM User rel has no permissions to run the 'cluster|nodes' command", FaultCategory::Permission),
            ("ERR This instance has cluster support disabled", FaultCategory::NotACluster),
            ("LOADING Redis is loading the dataset in memory", FaultCategory::Other),
        ] {
            assert_eq!(of(line).category, category, "{line}");
        }
        assert!(of("NOAUTH Authentication required.").message.contains("set spec.redis.passwordSecretRef"));
        assert!(of("WRONGPASS invalid").message.contains("check the Secrets"));
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

    #[test]
    fn of_several_nodes_the_one_that_is_not_merely_away_says_what_sort_it_is() {
        let away = || FaultCategory::Unreachable.fault("a: connection refused");
        let wrong = || FaultCategory::Authentication.fault("b: WRONGPASS");
        assert_eq!(none(&[away(), away()]).category, FaultCategory::Unreachable);
        for faults in [[away(), wrong()], [wrong(), away()]] {
            assert_eq!(none(&faults).category, FaultCategory::Authentication);
        }
        assert_eq!(
            &*none(&[away(), wrong()]).message,
            "no node tells the topology: a: connection refused; b: WRONGPASS"
        );
    }
}
