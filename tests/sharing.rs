//! Many listeners on one Redis, their ledgers in it too: what they cost it.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

use std::{collections::BTreeMap, time::Duration};

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    listener::{Fencing, OnDeploymentChange, Removal, Supervisor},
    model::{Address, ListenerId},
    plan::{Plan, StorePlan},
};
use tokio::time::{Instant, sleep};

#[path = "support/plan.rs"]
mod plan;

const LISTENERS: usize = 60;
/// All but what comes once a minute falls into it.
const WATCHED: Duration = Duration::from_secs(21);
/// What was written when they started is watched for so long.
const CALM: Duration = Duration::from_secs(33);

fn plan(cluster: &Cluster, number: usize) -> Plan {
    let mut addresses: Vec<Address> = cluster.seeds().iter().map(|seed| Address::parse(seed).unwrap()).collect();
    // Whatever order they are in.
    let first = number % addresses.len();
    addresses.rotate_left(first);
    let redis = plan::redis(addresses);
    Plan {
        listener: ListenerId::new("shop", &format!("l{number}")),
        store: StorePlan::Redis { redis: redis.clone() },
        ..plan::plan(redis, b"order:pay:*", "http://127.0.0.1:9/")
    }
}

/// Calls of each command, of all masters together.
async fn calls(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for (master, _) in cluster.masters().await.unwrap() {
        let info: String = master.query(cmd("INFO").arg("commandstats")).await.unwrap();
        for line in info.lines() {
            let Some((name, rest)) = line.trim().strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls="))
            else {
                continue;
            };
            *calls.entry(name.to_owned()).or_default() += rest.split(',').next().unwrap().parse::<u64>().unwrap();
        }
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_share_their_connections_and_cost_next_to_nothing_while_they_have_nothing_to_do() {
    let options = Options { replicas: 0, notify_keyspace_events: "KA".into(), ..Options::default() };
    let cluster = Cluster::start(options).await.unwrap();
    let supervisor = Supervisor::new(OnDeploymentChange::Hold, Fencing::Permit);
    let began = Instant::now();
    supervisor.declare((0..LISTENERS).map(|number| plan(&cluster, number)).collect()).await;
    let snapshots = supervisor.snapshots();
    let ready = || snapshots.borrow().values().filter(|shown| shown.ready).count();
    while ready() < LISTENERS {
        let why = || snapshots.borrow().values().find(|shown| !shown.ready).map(|shown| format!("{shown:?}"));
        assert!(began.elapsed() < Duration::from_secs(60), "{} are ready; {:?}", ready(), why());
        sleep(Duration::from_millis(20)).await;
    }
    println!("{LISTENERS} listeners ready after {:.1?}", began.elapsed());
    for (master, _) in cluster.masters().await.unwrap() {
        let clients: usize = master.info("clients", "connected_clients").await.unwrap().parse().unwrap();
        // Pushes and looks; scans and settings; the topology; the store; ours; one more while one of them is changed.
        assert!(clients <= 6, "{clients} connections to a node, for {LISTENERS} listeners");
    }
    // What follows their start is over.
    sleep(CALM).await;
    let before = calls(&cluster).await;
    sleep(WATCHED).await;
    let after = calls(&cluster).await;
    let per_second = |name: &str| {
        let count = after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
        f64::from(u32::try_from(count).unwrap()) / WATCHED.as_secs_f64()
    };
    let shown: Vec<String> = after
        .keys()
        .map(|name| (name, per_second(name)))
        .filter(|(_, rate)| *rate > 0.0)
        .map(|(name, rate)| format!("{name} {rate:.1}"))
        .collect();
    println!("of all masters, a second: {}", shown.join(", "));
    let listeners = f64::from(u32::try_from(LISTENERS).unwrap());
    let scripts = per_second("evalsha") / listeners;
    println!("{scripts:.2} scripts a second and listener");
    assert!(scripts < 0.3, "{scripts:.2} scripts a second and listener");
    assert!(per_second("info") < 5.0, "{} INFO a second: once for all is enough", per_second("info"));

    let (gone, kept) = (ListenerId::new("shop", "l0"), ListenerId::new("shop", "l1"));
    supervisor.remove(&gone, Removal::Deleted).await;
    for (master, _) in cluster.masters().await.unwrap() {
        let keys: Vec<String> = master.query(cmd("KEYS").arg("rx:*")).await.unwrap();
        let of = |listener: &ListenerId| {
            let prefix = format!("rx:{{{listener}#");
            keys.iter().filter(|key| key.starts_with(&prefix) && !key.ends_with("}head")).count()
        };
        assert_eq!((of(&gone), of(&kept) > 0), (0, true), "{keys:?}");
    }
    assert!(snapshots.borrow()[&kept].ready);
    supervisor.stop(Duration::ZERO).await;
}
