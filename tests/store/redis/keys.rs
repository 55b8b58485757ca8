//! Which keys there are, how long they live, and what they weigh.

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    plan::STORE_PREFIX,
    store::{
        Store, StoreError,
        redis::{PREFIX, RedisStore},
    },
};

use super::setup::{Redis, cluster, listener, settings, shared};
use crate::given::{FIRST, Fresh, all_due, apply, entry, entry_of, given_events, record, settle};

const DAYS_14_MS: i64 = 14 * 24 * 60 * 60 * 1_000;

/// The TTL of each of the keys in milliseconds, -1 for none, -2 for no key.
async fn lifetimes(cluster: &Cluster, keys: &[String]) -> Vec<i64> {
    let mut found = Vec::new();
    for key in keys {
        let owner = cluster.owner(redis_expiry_operator::model::slot_of(key.as_bytes()).0).await.unwrap();
        found.push(owner.query(cmd("PTTL").arg(key)).await.unwrap());
    }
    found
}

async fn set_policy(cluster: &Cluster, policy: &str) {
    for node in cluster.nodes() {
        cluster.config_set(&node, "maxmemory-policy", policy).await.unwrap();
    }
}

#[tokio::test]
async fn every_key_has_the_prefix_that_is_never_looked_at_and_nothing_else_is_written() {
    assert_eq!(PREFIX.as_bytes(), STORE_PREFIX);
    let cluster = cluster(0).await;
    let redis = Redis::with(settings(&cluster)).await;
    let store = redis.store();
    apply(store, (0..500).map(|number| record(&format!("order:{number}"), number)).collect()).await;
    given_events(store, &[("a", 5)]).await;
    let mut found = Vec::new();
    for (master, _) in cluster.masters().await.unwrap() {
        found.extend(master.query::<Vec<String>>(cmd("KEYS").arg("*")).await.unwrap());
    }
    let mut ours = redis.keys();
    ours.sort();
    found.sort();
    assert_eq!(found, ours);
    assert!(ours.iter().all(|key| key.as_bytes().starts_with(STORE_PREFIX)));
}

#[tokio::test]
async fn where_nothing_is_evicted_keys_live_for_14_days_after_us() {
    let redis = Redis::fresh().await;
    for left in lifetimes(shared().await, &redis.keys()).await {
        assert!((DAYS_14_MS - 60_000..=DAYS_14_MS).contains(&left), "{left}");
    }
    // What is written does not end that, nor does a discarded ledger.
    let store = redis.store();
    apply(store, vec![record("a", 5), settle("b", None, 5, 9)]).await;
    store.discard_ledger(FIRST).await.unwrap();
    assert!(lifetimes(shared().await, &redis.keys()).await.iter().all(|left| *left > 0));
}

#[tokio::test]
async fn where_what_has_a_ttl_is_evicted_keys_have_none_and_follow_the_policy() {
    let cluster = cluster(0).await;
    set_policy(&cluster, "volatile-lru").await;
    let mut quick = settings(&cluster);
    quick.policy_check = std::time::Duration::from_millis(50);
    let redis = Redis::with(quick).await;
    assert!(lifetimes(&cluster, &redis.keys()).await.iter().all(|left| *left == -1));
    set_policy(&cluster, "noeviction").await;
    super::setup::wait("a TTL", async || lifetimes(&cluster, &redis.keys()).await.iter().all(|left| *left > 0)).await;
    set_policy(&cluster, "volatile-ttl").await;
    let endless = async || lifetimes(&cluster, &redis.keys()).await.iter().all(|left| *left == -1);
    super::setup::wait("no TTL", endless).await;
    // What may be evicted by now, which `durability` tells, is at least not to end by itself as well.
    set_policy(&cluster, "noeviction").await;
    super::setup::wait("a TTL", async || lifetimes(&cluster, &redis.keys()).await.iter().all(|left| *left > 0)).await;
    set_policy(&cluster, "allkeys-lru").await;
    super::setup::wait("no TTL", endless).await;
}

#[tokio::test]
async fn where_anything_is_evicted_the_store_is_refused_and_nothing_is_written() {
    let options = Options { replicas: 0, notify_keyspace_events: String::new(), ..Options::default() };
    let cluster = Cluster::start(options).await.unwrap();
    // One of the masters is enough.
    cluster.config_set(&cluster.nodes()[1], "maxmemory-policy", "allkeys-lru").await.unwrap();
    let error = RedisStore::open(settings(&cluster), &listener()).await.err().unwrap();
    assert!(matches!(&error, StoreError::Evicts { policy, .. } if policy == "allkeys-lru"), "{error}");
    assert!(error.retryable() && error.to_string().contains("maxmemory-policy noeviction"), "{error}");
    assert!(error.to_string().contains(&cluster.nodes()[1].address()), "{error}");
    let held: usize = cluster.nodes()[1].query(&cmd("DBSIZE")).await.unwrap();
    assert_eq!(held, 0);
    set_policy(&cluster, "noeviction").await;
    RedisStore::open(settings(&cluster), &listener()).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_was() {
    let redis = Redis::fresh().await;
    apply(redis.store(), vec![record("a", 5)]).await;
    redis.store().close().await.unwrap();
    let master = redis.master(shared().await, 3).await;
    let head = &redis.keys()[3 * 11];
    let _: i64 = master.query(cmd("HSET").arg(head).arg("schema").arg(7)).await.unwrap();
    let error = RedisStore::open(redis.settings.clone(), &redis.listener).await.err().unwrap();
    assert!(matches!(error, StoreError::Newer { found: 7, known: 1, .. }), "{error}");
    let _: i64 = master.query(cmd("HSET").arg(head).arg("schema").arg(1)).await.unwrap();
    assert_eq!(entry_of(&redis.another().await, "a").await, Some(entry(5)));
}

#[tokio::test]
async fn an_entry_weighs_what_the_design_allows() {
    let cluster = cluster(0).await;
    let redis = Redis::with(settings(&cluster)).await;
    let before = used(&cluster).await;
    let entries = 100_000_i64;
    for from in (0..entries).step_by(10_000) {
        let key = |number| format!("order:pay:{number:010}");
        apply(
            redis.store(),
            (from..from + 10_000).map(|number| record(&key(number), 1_795_328_020_119 + number)).collect(),
        )
        .await;
    }
    let each = (used(&cluster).await - before) / entries;
    println!("{each} bytes an entry with a key of 20 bytes");
    assert!((60..=145).contains(&each), "{each} bytes an entry");
    assert_eq!(redis.store().counts().await.unwrap().tracked, entries.unsigned_abs());
}

#[tokio::test]
async fn a_page_of_thousands_is_full_and_in_order_wherever_the_entries_lie() {
    let redis = Redis::fresh().await;
    let store = redis.store();
    // Many at one deadline, and keys that differ in length and in their last byte alone.
    let mut expected: Vec<(i64, String)> = (0..6_000).map(|number| (number / 1_500, format!("k{number}"))).collect();
    apply(store, expected.iter().map(|(deadline, key)| record(key, *deadline)).collect()).await;
    expected.sort();
    let all = all_due(store, 4_096).await;
    let found: Vec<(i64, String)> = all.iter().map(|entry| (entry.seen.deadline.0, entry.key.to_string())).collect();
    assert!(found == expected);
    // Who reads takes a short page for the last one.
    assert_eq!(store.due(None, 4_096).await.unwrap().len(), 4_096);
    assert_eq!(store.discard_ledger(FIRST).await.unwrap(), 6_000);
    assert!(all_due(store, 4_096).await.is_empty());
}

/// The memory of all masters together.
async fn used(cluster: &Cluster) -> i64 {
    let mut sum = 0;
    for (master, _) in cluster.masters().await.unwrap() {
        sum += master.info("memory", "used_memory").await.unwrap().parse::<i64>().unwrap();
    }
    sum
}

#[tokio::test]
async fn what_was_counted_is_not_what_is_there_once_something_is_on_its_way() {
    let redis = Redis::few().await;
    let store = redis.store();
    let epoch = store.take_epoch().await.unwrap();
    // The second is what is kept of the first.
    assert_eq!((store.counts().await.unwrap().tracked, store.counts().await.unwrap().tracked), (0, 0));
    let applying = store.apply(epoch, vec![record("a", 5)]);
    let counted = store.counts();
    assert_eq!(applying.done.await.unwrap(), [true]);
    assert_eq!(counted.await.unwrap().tracked, 1);
    assert_eq!(store.counts().await.unwrap().tracked, 1);
}
