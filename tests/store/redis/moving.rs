//! A partition whose slot moves under load, and scripts that a server has forgotten.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Node, Options},
    model::slot_of,
    store::{
        Store, StoreError,
        redis::{Mode, RedisStore, Settings},
    },
};

use super::setup::{Redis, cluster, settings};
use crate::given::{FIRST, Fresh, all_due, apply, entry, names, outbox, record, settle};

#[tokio::test(flavor = "multi_thread")]
async fn partitions_whose_slots_move_under_load_lose_nothing() {
    let cluster = cluster(0).await;
    let redis = Redis::with(settings(&cluster)).await;
    let store = redis.store();
    let stop = AtomicBool::new(false);
    let moving = async {
        // There and back, every partition's slot, with as many keys as it has.
        for round in 0..3 {
            for partition in 0..16 {
                let slot = slot_of(redis.keys()[partition * 11].as_bytes()).0;
                let from = cluster.owner(slot).await.unwrap();
                let masters: Vec<_> = cluster.masters().await.unwrap().into_iter().map(|(node, _)| node).collect();
                let to = masters.iter().filter(|node| **node != from).nth(round % 2).unwrap();
                assert_eq!(cluster.move_slots(&from, to, [slot]).await.unwrap(), 11);
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    let writing = async {
        let mut written = 0_i64;
        while !stop.load(Ordering::Relaxed) {
            let key = |number: i64| format!("order:{number}");
            let records = (written..written + 20).map(|number| record(&key(number), 5)).collect();
            assert_eq!(store.apply(FIRST, records).done.await.unwrap(), vec![true; 20]);
            let settled = (written..written + 10).map(|number| settle(&key(number), entry(5), 5, 9)).collect();
            assert_eq!(store.apply(FIRST, settled).done.await.unwrap(), vec![true; 10]);
            written += 20;
        }
        written
    };
    let ((), written) = tokio::join!(moving, writing);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.tracked, counts.pending), (written.unsigned_abs() / 2, written.unsigned_abs() / 2));
    assert_eq!(all_due(&redis.another().await, 1_000).await.len() as u64, counts.tracked);
    assert_eq!(store.reapplied(), 0);
}

/// A slot whose move has begun and does not go on: some keys here, some there.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_half_moved_is_waited_for_and_never_half_written() {
    let cluster = cluster(0).await;
    // All in one partition.
    let redis = Redis::with(Settings { partitions: 1, ..settings(&cluster) }).await;
    let store = redis.store();
    let slot = slot_of(redis.keys()[0].as_bytes()).0;
    let from = cluster.owner(slot).await.unwrap();
    let to = cluster.masters().await.unwrap().into_iter().map(|(node, _)| node).find(|node| *node != from).unwrap();
    let set = async |node: &Node, state: &str, id: &str| {
        let () = node.query(cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(id)).await.unwrap();
    };
    let migrate = async |keys: &[String]| {
        let mut migrate = cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(5_000).arg("KEYS").arg(keys);
        let _: String = from.query(&migrate).await.unwrap();
    };
    let inside = ["a", "b", "c"];
    apply(store, vec![record(inside[0], 5)]).await;
    set(&to, "IMPORTING", from.id()).await;
    set(&from, "MIGRATING", to.id()).await;
    // Nothing is moved yet: the source serves it, keys that hold nothing of ours included.
    let changes = vec![settle(inside[0], entry(5), 5, 9), record(inside[1], 5)];
    assert_eq!(apply(store, changes).await, [true, true]);
    migrate(&redis.keys()[3..6]).await;
    // Now it is TRYAGAIN, until the rest has followed: then ASK.
    let waiting = store.apply(FIRST, vec![settle(inside[1], entry(5), 5, 9), record(inside[2], 5)]).done;
    let moving = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        migrate(&redis.keys()[..11]).await;
    };
    let (done, ()) = tokio::join!(waiting, moving);
    assert_eq!(done.unwrap(), [true, true]);
    // Who may not say ASKING is told that, and not that the slot is sent to and fro.
    let user =
        super::refused::given_user(&cluster, &crate::rights::RIGHTS.map(|right| right.replace("+asking", "-asking")))
            .await;
    let user = Settings { partitions: 1, patience: Duration::from_secs(2), ..user };
    let denied = RedisStore::open(user, &redis.listener).await.err().unwrap();
    assert!(matches!(&denied, StoreError::Denied(why) if why.contains("asking")), "{denied}");
    let held: usize = to.query(cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot)).await.unwrap();
    assert_eq!(held, 11);
    assert_eq!(names(&outbox(store).await), inside[..2]);
    set(&to, "NODE", to.id()).await;
    set(&from, "NODE", to.id()).await;
    assert_eq!(apply(store, vec![settle(inside[2], entry(5), 5, 9)]).await, [true]);
    assert_eq!(store.counts().await.unwrap().pending, 3);
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_scripts_is_told_them_again() {
    let cluster = cluster(0).await;
    let redis = Redis::with(settings(&cluster)).await;
    let store = redis.store();
    for round in 0..5 {
        for (master, _) in cluster.masters().await.unwrap() {
            let () = master.query(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
        }
        let changes = (0..50).map(|number| record(&format!("k{round}:{number}"), 5)).collect();
        assert_eq!(store.apply(FIRST, changes).done.await.unwrap(), vec![true; 50]);
        assert_eq!(all_due(store, 1_000).await.len(), 50 * (round + 1));
    }
}

#[tokio::test]
async fn one_server_is_enough() {
    let options = Options { clustered: false, masters: 1, replicas: 0, ..Options::default() };
    let cluster = Cluster::start(options).await.unwrap();
    let redis = Redis::with(Settings { mode: Mode::Single, ..settings(&cluster) }).await;
    let store = redis.store();
    apply(store, (0..50).map(|number| record(&format!("k{number}"), 5)).collect()).await;
    assert_eq!(apply(store, vec![settle("k7", entry(5), 5, 9)]).await, [true]);
    assert_eq!(all_due(&redis.another().await, 100).await.len(), 49);
    // Nobody is asked for a cluster.
    let asked: String = cluster.nodes()[0].query(cmd("INFO").arg("commandstats")).await.unwrap();
    assert!(!asked.contains("cmdstat_cluster|slots:"), "{asked}");
}
