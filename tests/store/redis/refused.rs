//! What a server refuses: nothing is done by half, and the error says what to do.

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    dial::{Dialler, Egress},
    store::{
        Store, StoreError,
        redis::{RedisStore, Settings},
    },
};

use super::setup::{Redis, cluster, listener, settings, shared};
use crate::given::{FIRST, Fresh, apply, delivered, entry, given_events, names, outbox, record, settle};
use crate::rights::RIGHTS;

pub async fn given_user(cluster: &Cluster, rights: &[impl AsRef<str>]) -> Settings {
    let rights: Vec<&str> = rights.iter().map(AsRef::as_ref).collect();
    for node in cluster.nodes() {
        let mut command = cmd("ACL");
        command.arg("SETUSER").arg("rx").arg("reset").arg("on").arg(">sesame").arg(&rights);
        let () = node.query(&command).await.unwrap();
    }
    Settings { username: Some("rx".into()), password: Some("sesame".into()), ..settings(cluster) }
}

#[tokio::test]
async fn the_rights_that_errors_name_are_enough_and_each_of_them_is_needed_at_once() {
    let cluster = cluster(0).await;
    let user = given_user(&cluster, &RIGHTS).await;
    let redis = Redis::with(user.clone()).await;
    let store = redis.store();
    let epoch = store.take_epoch().await.unwrap();
    store.apply(epoch, vec![record("a", 5), settle("b", None, 5, 9)]).durable.await.unwrap();
    store.delivered(epoch, vec![delivered("b", 5, 9)]).await.unwrap();
    store.discard_ledger(epoch).await.unwrap();
    for missing in ["~rx:*", "+evalsha", "+@hash", "+@sortedset", "+@set", "+pexpire", "+eval", "+cluster|slots"] {
        let rest: Vec<&str> = RIGHTS.into_iter().filter(|right| *right != missing).collect();
        let user = given_user(&cluster, &rest).await;
        let error = RedisStore::open(user, &listener()).await.err().unwrap_or_else(|| panic!("without {missing}"));
        assert!(matches!(error, StoreError::Denied(_)) && error.retryable(), "without {missing}: {error}");
        for right in RIGHTS {
            assert!(error.to_string().contains(right), "{error} does not name {right}");
        }
    }
    // One who may not write is told before anything is written by half.
    let rest: Vec<&str> = RIGHTS.into_iter().chain(["-zrem"]).collect();
    let error = RedisStore::open(given_user(&cluster, &rest).await, &listener()).await.err().unwrap();
    assert!(matches!(error, StoreError::Denied(_)), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told_from_a_right_that_is_missing() {
    let cluster = cluster(0).await;
    let user = given_user(&cluster, &RIGHTS).await;
    let wrong = Settings { password: Some("open".into()), ..user };
    let error = RedisStore::open(wrong, &listener()).await.err().unwrap();
    assert!(matches!(error, StoreError::Authentication(_)) && error.retryable(), "{error}");
    let none = Settings { username: None, password: None, ..settings(&cluster) };
    for node in cluster.nodes() {
        let () = node.query(cmd("ACL").arg("SETUSER").arg("default").arg(">sesame")).await.unwrap();
    }
    let error = RedisStore::open(none, &listener()).await.err().unwrap();
    assert!(matches!(error, StoreError::Authentication(_)) && error.retryable(), "{error}");
}

#[tokio::test]
async fn without_memory_nothing_is_recorded_by_half_and_what_is_delivered_goes() {
    let cluster = cluster(0).await;
    let redis = Redis::with(settings(&cluster)).await;
    let store = redis.store();
    given_events(store, &[("a", 5), ("b", 6), ("c", 7)]).await;
    apply(store, (0..64).map(|number| record(&format!("k{number}"), 5)).collect()).await;
    let limit = async |limit: &str| {
        for node in cluster.nodes() {
            cluster.config_set(&node, "maxmemory", limit).await.unwrap();
        }
    };
    limit("1").await;
    let more = (0..64).map(|number| record(&format!("more{number}"), 5)).collect();
    let error = store.apply(FIRST, more).done.await.unwrap_err();
    assert!(matches!(error, StoreError::OutOfMemory(_)) && error.retryable(), "{error}");
    assert!(error.to_string().contains("maxmemory"), "{error}");
    assert_eq!(store.counts().await.unwrap().tracked, 64);
    // Together with what is refused: what frees memory is done.
    let refused = store.apply(FIRST, (0..64).map(|number| record(&format!("more{number}"), 5)).collect());
    let going = store.delivered(FIRST, vec![delivered("a", 5, 9), delivered("c", 7, 9)]);
    assert!(refused.done.await.is_err());
    going.await.unwrap();
    assert_eq!(names(&outbox(store).await), ["b"]);
    let settled = store.apply(FIRST, (0..64).map(|number| settle(&format!("k{number}"), entry(5), 5, 9)).collect());
    assert_eq!(settled.done.await.unwrap(), vec![true; 64]);
    limit("0").await;
    assert_eq!(apply(store, vec![record("more1", 5)]).await, [true]);
    assert_eq!(store.counts().await.unwrap().tracked, 1);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_says_so() {
    let cluster = cluster(0).await;
    let redis = Redis::with(settings(&cluster)).await;
    for node in cluster.nodes() {
        cluster.config_set(&node, "min-replicas-to-write", "1").await.unwrap();
    }
    let error = redis.store().apply(FIRST, vec![record("a", 5)]).done.await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(why) if why.contains("NOREPLICAS")), "{error}");
    for node in cluster.nodes() {
        cluster.config_set(&node, "min-replicas-to-write", "0").await.unwrap();
    }
    assert_eq!(apply(redis.store(), vec![record("a", 5)]).await, [true]);
}

#[tokio::test]
async fn a_node_that_must_not_be_dialled_is_not_and_the_error_says_what_would_allow_it() {
    let guarded = |cluster: &Cluster, allowed: &[&str]| {
        let allowed = allowed.iter().map(|cidr| cidr.parse().unwrap()).collect();
        Settings { dialler: Dialler::new(Egress::guarded(allowed)), ..settings(cluster) }
    };
    let cluster = shared().await;
    let error = RedisStore::open(guarded(cluster, &[]), &listener()).await.err().unwrap();
    assert!(matches!(error, StoreError::EgressRefused(_)) && error.retryable(), "{error}");
    assert!(error.to_string().contains("--allow-egress 127.0.0.1/32"), "{error}");
    RedisStore::open(guarded(cluster, &["127.0.0.0/8"]), &listener()).await.unwrap();
    // What a node announces is judged as the seeds are.
    let directives = vec![("cluster-announce-ip".to_owned(), "169.254.7.7".to_owned())];
    let cluster = Cluster::start(Options { masters: 1, replicas: 0, directives, ..Options::default() }).await.unwrap();
    let error = RedisStore::open(guarded(&cluster, &["127.0.0.0/8"]), &listener()).await.err().unwrap();
    assert!(matches!(&error, StoreError::EgressRefused(why) if why.contains("169.254.7.7")), "{error}");
}
