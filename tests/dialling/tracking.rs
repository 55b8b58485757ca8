//! Servers that tell of no keyspace events: client tracking, by choice or for want of anything else.

use std::time::Duration;

use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Node},
    dial::Dialler,
    listener::{Snapshot, Source},
    model::{FaultCategory, ListenerId},
    plan::{ChangeSource, Glob, Plan},
};

use crate::setup::{Receiver, cluster, command, eventually, plan, running, until, with_password};

/// Neither keyspace events nor a word on them.
async fn silent() -> (Cluster, Node) {
    let cluster = cluster(&[("notify-keyspace-events", ""), ("rename-command CONFIG", "NOBODY-MAY")], None).await;
    let master = cluster.nodes().remove(0);
    (cluster, master)
}

fn with(cluster: &Cluster, url: &str, source: ChangeSource) -> Plan {
    let mut plan = plan(&cluster.seeds(), url);
    plan.redis.change_source = source;
    plan
}

fn told_by(source: Source) -> impl Fn(&Snapshot) -> bool {
    move |now| now.ready && now.nodes.iter().all(|node| node.subscribed && node.change_source == source)
}

async fn run(master: &Node, words: &[&str]) {
    let () = master.query(&command(words)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_is_told_and_what_is_paid_or_extended_is_not() {
    let (cluster, master) = silent().await;
    let receiver = Receiver::start(Duration::ZERO).await;
    let supervisor = running(Dialler::everything(), with(&cluster, &receiver.url, ChangeSource::Auto)).await;
    let snapshot = until(&supervisor, "tracked", told_by(Source::Tracking)).await;
    assert!(snapshot.nodes[0].notifications && snapshot.nodes[0].notification_fault.is_none());
    for key in ["order:kept", "order:paid", "order:extended", "other:kept"] {
        run(&master, &["SET", key, "x", "PX", "4000"]).await;
    }
    until(&supervisor, "recorded", |now| now.counts.tracked == 3).await;
    run(&master, &["DEL", "order:paid"]).await;
    run(&master, &["PEXPIRE", "order:extended", "6000"]).await;
    let keys = || receiver.told().into_iter().map(|told| told.key).collect::<Vec<_>>();
    eventually("both told", async || keys().len() >= 2).await;
    assert_eq!(keys(), ["order:kept", "order:extended"]);
    let all = until(&supervisor, "nothing left", |now| now.counts.tracked == 0).await;
    // Redis may have come first; it hardly does with both.
    assert!(all.witnessed >= 1 && all.witnessed + all.inferred == 2, "{} and {}", all.witnessed, all.inferred);
    supervisor.stop(Duration::ZERO).await;
    assert_eq!(keys().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_is_a_loss_and_what_it_took_is_told_when_it_was_due() {
    let (cluster, master) = silent().await;
    let receiver = Receiver::start(Duration::ZERO).await;
    let supervisor = running(Dialler::everything(), with(&cluster, &receiver.url, ChangeSource::ClientTracking)).await;
    let gaps = until(&supervisor, "tracked", told_by(Source::Tracking)).await.gaps;
    run(&master, &["SET", "order:1", "x", "PX", "5000"]).await;
    until(&supervisor, "recorded", |now| now.counts.tracked == 1).await;
    run(&master, &["FLUSHALL"]).await;
    until(&supervisor, "a gap", |now| now.gaps > gaps).await;
    eventually("told", async || receiver.told().len() == 1).await;
    assert_eq!(until(&supervisor, "counted", |now| now.inferred == 1).await.witnessed, 0);
    supervisor.stop(Duration::ZERO).await;
}

/// One prefix may not begin with another: a listener that joins with a shorter one takes the place of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_whose_patterns_overlap_are_all_told() {
    let (cluster, master) = silent().await;
    let receiver = Receiver::start(Duration::ZERO).await;
    let listener = |name: &str, pattern: &[u8]| Plan {
        listener: ListenerId::new("shop", name),
        pattern: Glob::new(pattern).unwrap(),
        ..with(&cluster, &receiver.url, ChangeSource::Auto)
    };
    let narrow = listener("narrow", b"order:pay:*");
    let supervisor = running(Dialler::everything(), narrow.clone()).await;
    until(&supervisor, "tracked", told_by(Source::Tracking)).await;
    let all =
        vec![narrow, listener("wide", b"order:*"), listener("one", b"order:pay:[1]"), listener("another", b"cart:*")];
    supervisor.declare(all.clone()).await;
    let snapshots = supervisor.snapshots();
    eventually("all ready", async || {
        let now = snapshots.borrow();
        now.len() == all.len() && now.values().all(|now| told_by(Source::Tracking)(now))
    })
    .await;
    for key in ["order:pay:1", "order:pay:2", "order:3", "cart:4", "cat:5"] {
        run(&master, &["SET", key, "x", "PX", "300"]).await;
    }
    let mut keys = Vec::new();
    eventually("all told", async || {
        keys = receiver.told().into_iter().map(|told| told.key).collect();
        keys.len() >= 7
    })
    .await;
    keys.sort();
    let thrice = "order:pay:1";
    assert_eq!(keys, ["cart:4", "order:3", thrice, thrice, thrice, "order:pay:2", "order:pay:2"]);
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_track_is_told_what_to_grant_or_goes_by_keyspace_events() {
    let cluster = cluster(&[], None).await;
    let master = cluster.nodes().remove(0);
    let rights: &[&str] = &["ACL", "SETUSER", "rel", "reset", "on", ">sesame", "+@all", "~*", "&*", "-client|tracking"];
    run(&master, &[rights, &["-config|get"]].concat()).await;
    let as_user = |source| {
        let mut plan = with_password(with(&cluster, "http://127.0.0.1:9/", source), "sesame");
        plan.redis.username = Some("rel".into());
        plan
    };
    let supervisor = running(Dialler::everything(), as_user(ChangeSource::ClientTracking)).await;
    let refused = |now: &Snapshot| {
        let error = now.nodes.first().and_then(|node| node.last_error.as_ref());
        error.is_some_and(|error| {
            error.category == FaultCategory::Permission && error.message.contains("+client|tracking")
        })
    };
    until(&supervisor, "refused", refused).await;
    // They are there, though nobody may see that.
    supervisor.declare(vec![as_user(ChangeSource::Auto)]).await;
    let blind = |now: &Snapshot| told_by(Source::Notifications)(now) && now.nodes[0].notification_fault.is_some();
    until(&supervisor, "going by keyspace events", blind).await;
    eventually("tracking was tried", async || {
        let log: String = format!("{:?}", master.query::<redis::Value>(&command(&["ACL", "LOG"])).await.unwrap());
        log.contains("client|tracking")
    })
    .await;
    until(&supervisor, "going by them again", blind).await;
    run(&master, &["ACL", "SETUSER", "rel", "+client|tracking"]).await;
    supervisor.declare(vec![as_user(ChangeSource::ClientTracking)]).await;
    until(&supervisor, "tracked", told_by(Source::Tracking)).await;
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_tracked_while_its_keyspace_events_are_off() {
    let cluster = cluster(&[], None).await;
    let master = cluster.nodes().remove(0);
    let supervisor = running(Dialler::everything(), with(&cluster, "http://127.0.0.1:9/", ChangeSource::Auto)).await;
    until(&supervisor, "told by events", told_by(Source::Notifications)).await;
    for (flags, source) in [("", Source::Tracking), ("KA", Source::Notifications)] {
        run(&master, &["CONFIG", "SET", "notify-keyspace-events", flags]).await;
        until(&supervisor, "told otherwise", told_by(source)).await;
    }
    supervisor.stop(Duration::ZERO).await;
}
