//! Where the ledger will lie: what is wrong with it is told, and nothing of it is touched.

use std::{collections::BTreeSet, fs, net::TcpListener};

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    model::{Address, Key, ListenerId, Millis},
    store::{
        Change, Epoch, Store,
        redis::{Mode, RedisStore, Settings},
        sqlite::{Options as FileOptions, SqliteStore},
    },
};

use super::{
    rights::RIGHTS,
    setup::{Checked, Fixture, RULES},
};

fn all() -> Vec<&'static str> {
    [&RULES[..], &RIGHTS].concat()
}

/// A listener whose store is in the watched Redis, which keeps what it is told.
async fn given_kept() -> Fixture {
    let fixture = Fixture::start("Kgxe$").await;
    let node = &fixture.cluster.nodes()[0];
    fixture.cluster.config_set(node, "appendonly", "yes").await.unwrap();
    fixture.grant(&all()).await;
    fixture
}

async fn keys(cluster: &Cluster) -> BTreeSet<String> {
    cluster.nodes()[0].query::<Vec<String>>(cmd("KEYS").arg("*")).await.unwrap().into_iter().collect()
}

fn one(found: &Checked, level: &str, needle: &str) {
    let store = found.store();
    let of: Vec<&(String, String)> = store.iter().filter(|(found, _)| found == level).collect();
    assert!(of.len() == 1 && of[0].1.contains(needle), "wanted one {level} with {needle:?}, found {store:#?}");
    assert_eq!(found.code, i32::from(level == "fail"), "{store:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_redis_is_tried_whole_and_nothing_is_left_there() {
    let fixture = given_kept().await;
    let checked = fixture.check_for("operator", &fixture.document()).await;
    assert_eq!((checked.of("fail"), checked.of("warn")), (vec![], vec![]), "{:#?}", checked.findings);
    let said = checked.of("ok").join("\n");
    assert!(said.contains("can be opened in 1 masters (spec.redis): nothing of this listener is there yet"), "{said}");
    assert!(said.contains("has an AOF, RDB files or a replica"), "{said}");
    assert_eq!(keys(&fixture.cluster).await, BTreeSet::new());
    // `run` would use a file, and so does its preflight.
    let checked = fixture.check(&fixture.document()).await;
    assert!(checked.store()[0].1.contains("shop.orders.db is not there yet and can be made"), "{:#?}", checked.store());
    assert!(!fixture.state_dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_the_listener_goes_on_and_stays_its_owner() {
    let fixture = given_kept().await;
    let settings = Settings::new(Mode::Cluster, vec![Address::parse(&fixture.cluster.nodes()[0].address()).unwrap()]);
    let listener = ListenerId::new("shop", "orders");
    let store = RedisStore::open(settings.clone(), &listener).await.unwrap();
    let epoch = store.take_epoch().await.unwrap();
    let record = |key: &str| Change::Record { key: Key::from(key), saw: None, deadline: Millis(4_000_000_000_000) };
    store.apply(epoch, vec![record("order:pay:1")]).durable.await.unwrap();
    let (before, counts) = (keys(&fixture.cluster).await, store.counts().await.unwrap());
    let head = before.iter().find(|key| key.ends_with("head")).unwrap().clone();
    let ttl = async || fixture.cluster.nodes()[0].query::<i64>(cmd("PEXPIRETIME").arg(&head)).await.unwrap();
    let lives = ttl().await;
    for _ in 0..2 {
        let checked = fixture.check_for("operator", &fixture.document()).await;
        assert_eq!(checked.code, 0, "{:#?}", checked.findings);
        assert!(checked.store()[0].1.contains("16 of its 16 partitions are there"), "{:#?}", checked.store());
    }
    assert_eq!((keys(&fixture.cluster).await, ttl().await), (before, lives));
    assert_eq!(store.apply(epoch, vec![record("order:pay:2")]).done.await.unwrap(), [true]);
    assert_eq!(store.counts().await.unwrap().tracked, counts.tracked + 1);
    let next = RedisStore::open(settings, &listener).await.unwrap();
    assert_eq!(next.take_epoch().await.unwrap(), Epoch(epoch.0 + 1), "nobody took one between");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_another_number_are_told_as_opening_them_would_be() {
    let fixture = given_kept().await;
    let settings = Settings::new(Mode::Cluster, vec![Address::parse(&fixture.cluster.nodes()[0].address()).unwrap()]);
    RedisStore::open(settings.clone(), &ListenerId::new("shop", "orders")).await.unwrap();
    let all = keys(&fixture.cluster).await;
    let head = all.iter().find(|key| key.ends_with("head")).unwrap();
    let mut set = cmd("HSET");
    let () = fixture.cluster.nodes()[0].query(set.arg(head).arg("partitions").arg(8)).await.unwrap();
    one(
        &fixture.check_for("operator", &fixture.document()).await,
        "fail",
        "it has 8 partitions of this listener, and not 16",
    );
    let error = RedisStore::open(settings, &ListenerId::new("shop", "orders")).await.err().unwrap();
    assert!(error.to_string().contains("it has 8 partitions of this listener, and not 16"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_would_not_dial_is_told_and_run_dials_it() {
    let fixture = given_kept().await;
    let elsewhere = "10.0.0.0/8";
    let checked = fixture.check_dialling("operator", elsewhere, &fixture.document()).await;
    let failed = checked.of("fail");
    assert_eq!((checked.code, failed.len()), (1, 2), "{:#?}", checked.findings);
    for of in [&failed[0], &failed[1]] {
        let wanted = "127.0.0.1 is not dialled: it is a loopback address -> use another address; the operator's flag \
                      --allow-egress 127.0.0.1/32 (egress.allow of its chart) would allow it";
        assert!(of.contains(wanted), "{of}");
    }
    assert!(checked.store()[0].1.contains("was not reached"), "{:#?}", checked.store());
    // The store's own Redis.
    let own = format!(
        "{}  store: {{type: Redis, redis: {{addresses: [\"{}\"]}}}}\n",
        fixture.document(),
        fixture.cluster.nodes()[0].address()
    );
    let checked = fixture.check_dialling("operator", elsewhere, &own).await;
    assert!(checked.store()[0].1.contains("(egress.allow of its chart) would allow it"), "{:#?}", checked.store());
    let checked = fixture.check_dialling("run", elsewhere, &fixture.document()).await;
    assert_eq!(checked.of("fail"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_that_the_store_lacks_is_named() {
    let fixture = given_kept().await;
    let missing = [
        ("~rx:*", "fail", "~rx:*"),
        ("+evalsha", "fail", "+evalsha"),
        ("+@set", "fail", "-> ACL SETUSER rx +sadd +scard +sismember +smismember +srem, on every node"),
        ("+persist", "fail", "-> ACL SETUSER rx +persist, on every node"),
        ("+pexpire", "fail", "-> ACL SETUSER rx +pexpire, on every node"),
        ("+asking", "warn", "-> ACL SETUSER rx +asking"),
    ];
    for (rule, level, told) in missing {
        let left: Vec<&str> = all().into_iter().filter(|other| *other != rule).collect();
        fixture.grant(&left).await;
        let checked = fixture.check_for("operator", &fixture.document()).await;
        one(&checked, level, told);
        assert_eq!(keys(&fixture.cluster).await, BTreeSet::new(), "without {rule}");
    }
    // One command of a group that is granted.
    fixture.grant(&[all(), vec!["-zrem", "-hsetnx"]].concat()).await;
    let checked = fixture.check_for("operator", &fixture.document()).await;
    one(&checked, "fail", "-> ACL SETUSER rx +hsetnx +zrem, on every node");
    assert_eq!(keys(&fixture.cluster).await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_or_forgets_is_told_with_what_to_do() {
    let fixture = given_kept().await;
    let node = &fixture.cluster.nodes()[0];
    let set = async |name: &str, value: &str| fixture.cluster.config_set(node, name, value).await.unwrap();
    let look = async || fixture.check_for("operator", &fixture.document()).await;
    set("maxmemory-policy", "allkeys-lru").await;
    one(&look().await, "fail", "maxmemory-policy allkeys-lru -> run CONFIG SET maxmemory-policy noeviction");
    set("maxmemory-policy", "volatile-lru").await;
    let checked = look().await;
    assert_eq!(checked.of("fail"), Vec::<String>::new());
    assert!(checked.store()[0].1.contains("its keys will have none"), "{:#?}", checked.store());
    set("maxmemory-policy", "noeviction").await;
    set("appendonly", "no").await;
    one(&look().await, "fail", "has no AOF, no replica, no RDB file -> run CONFIG SET appendonly yes there");
    set("appendonly", "yes").await;
    set("maxmemory", "1").await;
    one(&look().await, "fail", "-> raise maxmemory or delete keys");
    set("maxmemory", "0").await;
    set("min-replicas-to-write", "1").await;
    one(&look().await, "fail", "NOREPLICAS");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_redis_has_its_own_address_and_password() {
    let fixture = given_kept().await;
    let options = Options {
        masters: 1,
        replicas: 0,
        password: Some("sesame".to_owned()),
        directives: vec![("cluster-announce-ip".to_owned(), "127.0.0.1".to_owned())],
        ..Options::default()
    };
    let other = Cluster::start(options).await.unwrap();
    other.config_set(&other.nodes()[0], "appendonly", "yes").await.unwrap();
    let with = |address: &str, key: &str| {
        let redis = format!("{{addresses: [\"{address}\"], passwordSecretRef: {{name: auth, key: {key}}}}}");
        format!("{}  store: {{type: Redis, redis: {redis}}}\n", fixture.document())
    };
    let address = other.nodes()[0].address();
    let checked = fixture.check(&with(&address, "password")).await;
    assert_eq!(checked.of("fail"), Vec::<String>::new());
    assert!(checked.store()[0].1.contains("(spec.store.redis)"), "{:#?}", checked.store());
    one(&fixture.check(&with(&address, "wrong")).await, "fail", "refuses the user or the password");
    // Nobody listens at a port that was just let go of.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    one(&fixture.check(&with(&closed, "password")).await, "fail", "correct spec.store.redis.addresses");
    assert_eq!((keys(&other).await, keys(&fixture.cluster).await), (BTreeSet::new(), BTreeSet::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_redis_was_not_reached_its_failure_is_told_once() {
    let fixture = given_kept().await;
    let wrong = fixture.document().replace("key: password", "key: wrong");
    let checked = fixture.check_for("operator", &wrong).await;
    checked.fails_with("AUTH is refused");
    assert!(checked.store()[0].1.contains("was not reached"), "{:#?}", checked.store());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_open_elsewhere_and_memory_are_warned_of() {
    let fixture = Fixture::start("Kgxe$").await;
    fixture.grant(&RULES).await;
    fs::create_dir(fixture.state_dir()).unwrap();
    let path = fixture.state_dir().join("shop.orders.db");
    let files = || fs::read_dir(fixture.state_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let store = SqliteStore::open(&path, &FileOptions::default()).unwrap();
    let epoch = store.take_epoch().await.unwrap();
    let before: BTreeSet<_> = files().collect();
    one(&fixture.check(&fixture.document()).await, "warn", "another process has");
    assert_eq!(files().collect::<BTreeSet<_>>(), before);
    store.close().await.unwrap();
    drop(store);
    let checked = fixture.check(&fixture.document()).await;
    assert_eq!((checked.code, checked.of("warn")), (0, vec![]), "{:#?}", checked.findings);
    let store = SqliteStore::open(&path, &FileOptions::default()).unwrap();
    assert_eq!(store.take_epoch().await.unwrap(), Epoch(epoch.0 + 1));

    let memory = format!("{}  store: {{type: Memory}}\n", fixture.document());
    one(&fixture.check(&memory).await, "warn", "a restart loses every event");
    let local = format!("{}  store: {{type: Local}}\n", fixture.document());
    let checked = fixture.check_for("operator", &local).await;
    assert!(checked.store()[0].1.contains("not seen from here"), "{:#?}", checked.store());
}
