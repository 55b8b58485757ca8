//! The deployment as a whole: seeds, topology, then every node at once.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{finding::Finding, node, not_dialled};
use crate::{
    dial::{self, Connection, Dialler},
    model::{Address, SLOTS, Slot},
    plan::{Mode, Plan, RedisPlan},
    topology::{self, Discovery, Node, Topology},
};

/// A node that does not answer within this is not well.
const PATIENCE: Duration = Duration::from_secs(3);

/// Every finding about the Redis of a plan, and whether it was reached.
pub async fn check(plan: &Plan, dialler: &Dialler) -> (Vec<Finding>, bool) {
    // Sentinels are others, with credentials of their own: what is wrong with them the topology's error says.
    let seeds = match plan.redis.mode {
        Mode::Sentinel(_) => Vec::new(),
        Mode::Cluster | Mode::Standalone => seeds(&plan.redis, dialler).await,
    };
    if !seeds.is_empty() && seeds.iter().all(|finding| finding.level == super::Level::Fail) {
        return (seeds, false);
    }
    (topology(plan, dialler, seeds).await, true)
}

async fn topology(plan: &Plan, dialler: &Dialler, mut findings: Vec<Finding>) -> Vec<Finding> {
    let mut discovery = Discovery::new(plan.redis.clone(), dialler.clone());
    let topology = match Box::pin(discovery.look(&Topology::default(), &[])).await {
        Ok(sighting) => sighting.topology,
        Err(error) => {
            findings.push(Finding::fail(subject(&plan.redis.mode), error.to_string(), ""));
            return findings;
        }
    };
    findings.extend(coverage(&plan.redis.mode, &topology));
    if let Some(error) = &topology.error {
        findings.push(Finding::fail(subject(&plan.redis.mode), error.to_string(), ""));
    }
    findings.extend(nodes(plan, dialler, &topology).await);
    findings
}

/// Fails where nobody can be asked; one seed of several that is down is worth a warning.
async fn seeds(plan: &RedisPlan, dialler: &Dialler) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for address in &plan.addresses {
        if let Err(error) = connect(plan, dialler, address).await {
            wrong.push((address.to_string(), error));
        }
    }
    let all = wrong.len() == plan.addresses.len();
    let fix = "correct spec.redis.addresses, or start it";
    let finding = |(address, error): (String, Refused)| {
        let fix = error.fix.unwrap_or_else(|| fix.to_owned());
        let what = format!("named in spec.redis.addresses: {}", error.what);
        if all { Finding::fail(address, what, fix) } else { Finding::warn(address, what, fix) }
    };
    let mut findings: Vec<Finding> = wrong.into_iter().map(finding).collect();
    if !all {
        let answering = plan.addresses.len() - findings.len();
        findings
            .insert(0, Finding::ok(subject(&plan.mode), format!("{answering}/{} seeds answer", plan.addresses.len())));
    }
    findings
}

/// What a finding about the whole is filed under.
fn subject(mode: &Mode) -> &'static str {
    match mode {
        Mode::Cluster => "cluster",
        Mode::Standalone | Mode::Sentinel(_) => "servers",
    }
}

/// `None` where the topology's error says it.
fn coverage(mode: &Mode, topology: &Topology) -> Option<Finding> {
    let masters = topology.masters().count();
    let replicas = topology.nodes().len() - masters;
    match mode {
        Mode::Cluster => Some(slots(topology, masters, replicas)),
        _ if masters == 0 => None,
        _ => Some(Finding::ok(subject(mode), format!("a master, {replicas} replicas"))),
    }
}

fn slots(topology: &Topology, masters: usize, replicas: usize) -> Finding {
    if topology.covered() {
        return Finding::ok("cluster", format!("{masters} masters, {replicas} replicas, every slot has an owner"));
    }
    let orphans = (0..SLOTS).filter(|slot| topology.owner(Slot(*slot)).is_none()).count();
    Finding::fail(
        "cluster",
        format!("{orphans} slots have no owner: what expires there is not seen"),
        "see `redis-cli --cluster check`",
    )
}

async fn nodes(plan: &Plan, dialler: &Dialler, topology: &Topology) -> Vec<Finding> {
    let plan = Arc::new(plan.clone());
    let mut asking = JoinSet::new();
    for (index, node) in topology.nodes().iter().cloned().enumerate() {
        let (plan, dialler) = (Arc::clone(&plan), dialler.clone());
        asking.spawn(async move { (index, one(&plan, &dialler, &node).await) });
    }
    let mut found = asking.join_all().await;
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().flat_map(|(_, findings)| findings).collect()
}

async fn one(plan: &Plan, dialler: &Dialler, node: &Node) -> Vec<Finding> {
    // A node without an address is named by the topology's error.
    let Some(first) = node.dial.first() else { return Vec::new() };
    let mut refused = None;
    for address in &node.dial {
        match connect(&plan.redis, dialler, address).await {
            Ok(connection) => return node::check(plan, node, address, connection).await,
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let Some(refused) = refused else { return Vec::new() };
    let what = format!("{}: {}", if node.is_master() { "master" } else { "replica" }, refused.what);
    if node.failed && plan.redis.mode == Mode::Cluster {
        let fix = "the cluster holds it for dead too; start it, or CLUSTER FORGET it";
        return vec![Finding::warn(first.to_string(), what, fix)];
    }
    let fix = refused.fix.unwrap_or_else(|| {
        format!("open the way to {first}, or say where to dial instead in spec.redis.addressMap (announced: {first})")
    });
    vec![Finding::fail(first.to_string(), what, fix)]
}

/// Why a node cannot be talked to.
pub(super) struct Refused {
    what: String,
    /// `None`: it cannot be reached at all.
    fix: Option<String>,
}

/// Connects, and sees whether it may.
pub(super) async fn connect(plan: &RedisPlan, dialler: &Dialler, address: &Address) -> Result<Connection, Refused> {
    let connecting = async {
        let mut connection = topology::connect(plan, dialler, address).await?;
        // Without a password the connection stands before anything was asked of the node.
        match redis::cmd("PING").query_async::<redis::Value>(&mut connection).await {
            Err(error) if error.code() == Some("NOAUTH") || error.is_io_error() => Err(error),
            _ => Ok(connection),
        }
    };
    let error = match timeout(PATIENCE, connecting).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => error,
        Err(_) => return Err(Refused { what: format!("no answer within {PATIENCE:?}"), fix: None }),
    };
    if let Some((what, fix)) = not_dialled(&error) {
        return Err(Refused { what, fix: Some(fix) });
    }
    let text = error.to_string();
    let fix = match (error.code(), plan.password.is_some()) {
        (Some("NOAUTH"), _) | (_, false) if text.contains("NOAUTH") => {
            Some("set spec.redis.passwordSecretRef, and usernameSecretRef for an ACL user".to_owned())
        }
        _ if text.contains("WRONGPASS") || text.contains("AuthenticationFailed") => {
            Some("correct the Secrets of spec.redis.usernameSecretRef and passwordSecretRef".to_owned())
        }
        _ => None,
    };
    if fix.is_some() {
        return Err(Refused { what: format!("AUTH is refused: {text}"), fix });
    }
    Err(Refused { what: format!("cannot be reached: {text}"), fix: dial::advice(&error, dial::For::Redis) })
}
