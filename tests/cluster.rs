//! The launcher that the demo and the fault suite stand on does what it says to real servers.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

use std::{collections::HashSet, process::Command, time::Duration};

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::{
        cluster::{Cluster, Data, Failover, Options},
        watchdog::Watchdog,
    },
    model::slot_of,
};

fn runs(process: u32) -> bool {
    // A zombie is dead; only its parent has not looked yet.
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !status.is_empty() && !status.rsplit(')').next().unwrap().trim_start().starts_with('Z')
}

async fn process_of(node: &redis_expiry_operator::commands::demo::cluster::Node) -> u32 {
    node.info("server", "process_id").await.unwrap().parse().unwrap()
}

async fn set(cluster: &Cluster, key: &str) {
    let owner = cluster.owner(slot_of(key.as_bytes()).0).await.unwrap();
    let () = owner.query(cmd("SET").arg(key).arg("1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_can_be_formed_broken_and_reshaped() {
    let cluster = Cluster::start(Options { password: Some("sesame".into()), ..Options::default() }).await.unwrap();
    let masters: Vec<_> = cluster.masters().await.unwrap().into_iter().map(|(node, _)| node).collect();
    assert_eq!((masters.len(), cluster.nodes().len()), (3, 6));
    assert_eq!(cluster.seeds().len(), 6);

    // A planned failover: the replica is master, the old one its replica.
    let replica = cluster.replicas_of(&masters[0]).await.unwrap().remove(0);
    cluster.failover(&replica, Failover::Planned).await.unwrap();
    cluster.wait_ok().await.unwrap();
    assert_eq!(cluster.replicas_of(&replica).await.unwrap(), [masters[0].clone()]);

    // A new master takes slots with their keys, and every node knows.
    let keys: Vec<String> = (0..300).map(|number| format!("order:{{a}}:{number}")).collect();
    for key in &keys {
        set(&cluster, key).await;
    }
    let slot = slot_of(b"a").0;
    let (from, to) = (cluster.owner(slot).await.unwrap(), cluster.add_master().await.unwrap());
    assert_eq!(cluster.move_slots(&from, &to, slot..slot + 3).await.unwrap(), 300);
    cluster.wait_ok().await.unwrap();
    assert_eq!(cluster.owner(slot).await.unwrap(), to);
    let held: usize = to.query(&cmd("DBSIZE")).await.unwrap();
    assert_eq!(held, 300);

    // A restart keeps the data or drops it, and keeps the identity.
    cluster.restart(&to, Data::Keep).await.unwrap();
    cluster.wait_ok().await.unwrap();
    let held: usize = to.query(&cmd("DBSIZE")).await.unwrap();
    assert_eq!(held, 300);
    cluster.restart(&to, Data::Drop).await.unwrap();
    cluster.wait_ok().await.unwrap();
    let held: usize = to.query(&cmd("DBSIZE")).await.unwrap();
    assert_eq!((held, cluster.owner(slot).await.unwrap()), (0, to.clone()));

    // What is set at run time is gone after a restart.
    cluster.config_set(&to, "notify-keyspace-events", "KEA").await.unwrap();
    cluster.restart(&to, Data::Drop).await.unwrap();
    let (_, flags): (String, String) = to.query(cmd("CONFIG").arg("GET").arg("notify-keyspace-events")).await.unwrap();
    assert_eq!(flags.chars().collect::<HashSet<_>>(), "Kg$xe".chars().collect());
    cluster.wait_ok().await.unwrap();

    // A killed master is replaced; back, it is a replica.
    let killed = cluster.owner(0).await.unwrap();
    let process = process_of(&killed).await;
    cluster.kill(&killed).unwrap();
    assert!(!runs(process));
    cluster.wait_ok().await.unwrap();
    assert_ne!(cluster.owner(0).await.unwrap(), killed);
    cluster.restart(&killed, Data::Drop).await.unwrap();
    cluster.wait_ok().await.unwrap();
    let owner = cluster.owner(0).await.unwrap();
    assert_eq!(cluster.replicas_of(&owner).await.unwrap(), [killed]);

    // A paused one says nothing, until it is resumed.
    cluster.pause(&owner).unwrap();
    let mut connection = owner.connect(Duration::from_millis(200)).await;
    if let Ok(connection) = &mut connection {
        let answer: redis::RedisResult<String> = cmd("PING").query_async(connection).await;
        assert!(answer.is_err());
    }
    cluster.resume(&owner).unwrap();
    cluster.wait_ok().await.unwrap();

    let mut processes = Vec::new();
    for node in cluster.nodes() {
        processes.push(process_of(&node).await);
    }
    drop(cluster);
    assert!(!processes.into_iter().any(runs));
}

#[test]
fn what_is_enlisted_dies_with_the_watchdog_even_when_it_is_stopped_and_its_directory_goes() {
    let directory = tempfile::tempdir().unwrap();
    let watchdog = Watchdog::start(Some(directory.path())).unwrap();
    let mut child = watchdog.enlist(Command::new("sleep").arg("600")).unwrap().spawn().unwrap();
    Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
    assert!(runs(child.id()));
    drop(watchdog);
    // `sleep` alone would take ten minutes.
    assert!(!child.wait().unwrap().success());
    assert!(!directory.path().exists());
}
