//! Asks sentinels whom they name.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use redis::Value;
use tokio::time::{Instant, timeout};

use super::Named;
use crate::{
    dial::{self, Connection, Dialler, Login},
    model::{Address, Fault, FaultCategory, dialled},
    tls::Tls,
};

/// The longest that one may take to answer, connecting included.
const PATIENCE: Duration = Duration::from_millis(500);
/// More than this of them, whoever tells of them, are not asked.
const MOST: usize = 64;

/// What sentinels are asked about, and who we are to them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Watched {
    /// What they call the master.
    pub master_name: String,
    pub username: Option<String>,
    pub password: Option<String>,
    /// `None`: without TLS.
    pub tls: Option<Tls>,
}

/// How sentinels are reached, and what of them is wanted.
#[derive(Clone)]
pub struct Reach {
    /// Any of them.
    pub addresses: Vec<Address>,
    /// Where to dial instead of what is told.
    pub address_map: Vec<(Address, Address)>,
    pub watched: Watched,
    pub dialler: Dialler,
}

/// What they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `None`: nobody has said it in this look.
    pub named: Option<Named>,
    /// The master and its replicas, as they know them.
    pub servers: Vec<Address>,
}

/// What one of them says.
#[derive(Debug, PartialEq, Eq)]
pub struct View {
    pub master: Address,
    /// The newest failover that it knows of.
    pub epoch: u64,
    pub replicas: Vec<Address>,
    pub sentinels: Vec<Address>,
}

pub struct Sentinels {
    reach: Reach,
    /// That others have told of.
    others: BTreeSet<Address>,
    connections: HashMap<Address, Connection>,
    said: Option<Said>,
}

impl Sentinels {
    pub fn new(reach: Reach) -> Self {
        Self { reach, others: BTreeSet::new(), connections: HashMap::new(), said: None }
    }

    /// Asks all that are known; whoever knows of the newest failover is believed. While none answers, nobody is named, and the
    /// servers are those that they knew last.
    ///
    /// # Errors
    /// What each of them answered, for people, when none has said anything yet.
    pub async fn ask(&mut self) -> Result<Said, Fault> {
        let whom: BTreeSet<Address> = self.reach.addresses.iter().chain(&self.others).cloned().collect();
        let asked_at = Instant::now();
        let asking = whom.iter().map(|address| {
            let connection = self.connections.get(address).cloned();
            ask(&self.reach, address, connection)
        });
        let (mut views, mut failures) = (Vec::new(), Vec::new());
        for (address, answer) in whom.iter().zip(join_all(asking).await) {
            match answer {
                Ok((connection, view)) => {
                    self.connections.insert(address.clone(), connection);
                    views.push(view);
                }
                Err(fault) => {
                    self.connections.remove(address);
                    failures.push(fault.at(address));
                }
            }
        }
        if !views.is_empty() {
            let told = views.iter().flat_map(|view| &view.sentinels).cloned();
            self.others = told.filter(|other| !self.reach.addresses.contains(other)).take(MOST).collect();
        }
        self.connections.retain(|address, _| self.reach.addresses.contains(address) || self.others.contains(address));
        if let Some(newest) = views.iter().max_by_key(|view| view.epoch) {
            let servers: BTreeSet<Address> =
                views.iter().flat_map(|view| &view.replicas).chain([&newest.master]).cloned().collect();
            let named = Named { master: newest.master.clone(), epoch: newest.epoch, asked_at };
            self.said = Some(Said { named: Some(named), servers: servers.into_iter().collect() });
        } else if let Some(said) = &mut self.said {
            said.named = None;
        }
        self.said.clone().ok_or_else(|| none(&failures))
    }
}

fn none(failures: &[Fault]) -> Fault {
    let fix = "correct spec.redis.addresses, which are the sentinels' (port 26379), or see that these run and can be reached from here";
    Fault::of_all(failures, "no sentinel names the master", fix)
}

async fn ask(reach: &Reach, address: &Address, connection: Option<Connection>) -> Result<(Connection, View), Fault> {
    let asking = async {
        let connection = match connection {
            Some(connection) => connection,
            None => connect(reach, address).await.map_err(|error| explain(&error, reach))?,
        };
        // MASTER has the epoch, and the old address until a failover is over. All at once: a sentinel may be far away.
        let asked = ["MASTER", "GET-MASTER-ADDR-BY-NAME", "REPLICAS", "SENTINELS"].map(|what| {
            let (mut command, mut connection) = (redis::cmd("SENTINEL"), connection.clone());
            command.arg(what).arg(&reach.watched.master_name);
            async move { command.query_async::<Value>(&mut connection).await }
        });
        let answers = try_join_all(asked).await.map_err(|error| explain(&error, reach))?;
        let name = &reach.watched.master_name;
        let nobody =
            || FaultCategory::Other.fault(format!("it names no address for {name:?}; see SENTINEL MASTER {name}"));
        Ok((connection, view(&answers).ok_or_else(nobody)?))
    };
    let late = |_| Err(FaultCategory::Unreachable.fault(format!("no answer within {PATIENCE:?}")));
    timeout(PATIENCE, asking).await.unwrap_or_else(late)
}

async fn connect(reach: &Reach, address: &Address) -> redis::RedisResult<Connection> {
    let Watched { username, password, tls, .. } = reach.watched.clone();
    let login = Login { username, password, database: 0, tls };
    reach.dialler.redis(dialled(&reach.address_map, address), login, PATIENCE * 9 / 10, Some(PATIENCE)).await
}

/// A sentinel's error with the fix.
fn explain(error: &redis::RedisError, reach: &Reach) -> Fault {
    let text = dial::advised(error, dial::For::Sentinels);
    if text.contains("No such master") {
        let name = &reach.watched.master_name;
        return FaultCategory::Other
            .fault(format!("it knows no master {name:?}; correct spec.redis.sentinel.masterName"));
    }
    if text.contains("unknown command") {
        return FaultCategory::Other.fault(
            "this server is no sentinel; with mode Sentinel spec.redis.addresses are the sentinels' (port 26379)",
        );
    }
    let category = dial::redis_category(error);
    let fix = match category {
        FaultCategory::Authentication => {
            ": correct spec.redis.sentinel.passwordSecretRef (and usernameSecretRef for an ACL user of the sentinels)"
        }
        FaultCategory::Permission => {
            ": grant the ACL user of the sentinels +sentinel|master +sentinel|get-master-addr-by-name +sentinel|replicas +sentinel|sentinels"
        }
        _ => "",
    };
    category.fault(text + fix)
}

/// Reads the answers to `SENTINEL MASTER`, `GET-MASTER-ADDR-BY-NAME`, `REPLICAS` and `SENTINELS`.
pub fn view(answers: &[Value]) -> Option<View> {
    let [master, named, replicas, sentinels] = answers else { return None };
    let master = fields(master);
    let Value::Array(named) = named else { return None };
    let [host, port] = named.as_slice() else { return None };
    let port = text(port).parse().ok().filter(|port| *port != 0)?;
    let all = |many: &Value| -> Vec<Address> {
        let Value::Array(many) = many else { return Vec::new() };
        many.iter().filter_map(|one| address(&fields(one))).collect()
    };
    Some(View {
        epoch: master.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        master: Some(text(host)).filter(|host| !host.is_empty()).map(|host| Address::new(&host, port))?,
        replicas: all(replicas),
        sentinels: all(sentinels),
    })
}

fn address(fields: &HashMap<String, String>) -> Option<Address> {
    let port = fields.get("port")?.parse().ok().filter(|port| *port != 0)?;
    fields.get("ip").filter(|ip| !ip.is_empty()).map(|ip| Address::new(ip, port))
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

/// Names and values one after the other, or a map.
fn fields(value: &Value) -> HashMap<String, String> {
    match value {
        Value::Array(all) => all.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        Value::Map(all) => all.iter().map(|(name, value)| (text(name), text(value))).collect(),
        _ => HashMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }
    fn server(port: &str, epoch: &str) -> Value {
        let words = ["name", "mymaster", "ip", "10.0.0.1", "port", port, "flags", "master", "config-epoch", epoch];
        Value::Array(words.map(bulk).into())
    }

    #[test]
    fn a_sentinel_tells_the_master_its_replicas_and_the_other_sentinels() {
        let named = Value::Array(["10.0.0.1", "6380"].map(bulk).into());
        let answers = [
            server("6379", "7"),
            named,
            Value::Array(vec![server("6380", "0")]),
            Value::Array(vec![server("26379", "0")]),
        ];
        let at = |port| Address::new("10.0.0.1", port);
        let view = view(&answers).unwrap();
        assert_eq!((view.master, view.epoch), (at(6380), 7), "the old one is told until the failover is over");
        assert_eq!((view.replicas, view.sentinels), (vec![at(6380)], vec![at(26379)]));
        let map = Value::Map(vec![(bulk("ip"), bulk("a")), (bulk("port"), bulk("1"))]);
        assert_eq!(address(&fields(&map)), Some(Address::new("a", 1)));
    }

    #[test]
    fn what_is_no_master_is_none() {
        let named = |port: &str| Value::Array(["10.0.0.1", port].map(bulk).into());
        for odd in [Value::Nil, Value::Array(vec![]), named("no"), named("0")] {
            assert_eq!(view(&[server("6379", "1"), odd, Value::Nil, Value::Nil]), None);
        }
    }
}
