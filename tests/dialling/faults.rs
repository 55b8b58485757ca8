//! What is wrong has a category, and goes when it is mended, without a restart.

use std::time::Duration;

use redis_expiry_operator::{
    dial::Dialler,
    listener::Snapshot,
    model::{FaultCategory, NotificationFault},
};

use crate::setup::{cluster, command, plan, running, until, with_password};

const NOWHERE: &str = "http://127.0.0.1:9/";

fn topology(category: FaultCategory) -> impl Fn(&Snapshot) -> bool {
    move |now| now.topology_error.as_ref().is_some_and(|fault| fault.category == category)
}

fn node(category: FaultCategory) -> impl Fn(&Snapshot) -> bool {
    move |now| now.nodes.iter().any(|node| node.last_error.as_ref().is_some_and(|fault| fault.category == category))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_that_nobody_answers_at_and_passwords_that_are_wrong_or_missing_are_told_apart() {
    let cluster = cluster(&[], Some("sesame")).await;
    let good = with_password(plan(&cluster.seeds(), NOWHERE), "sesame");
    let mut away = good.clone();
    away.redis.addresses = vec![redis_expiry_operator::model::Address::new("127.0.0.1", 9)];
    let supervisor = running(Dialler::everything(), away).await;
    until(&supervisor, "unreachable", topology(FaultCategory::Unreachable)).await;
    let mut unknown = good.clone();
    unknown.redis.addresses = vec![redis_expiry_operator::model::Address::new("no-such-host.invalid", 6379)];
    supervisor.declare(vec![unknown]).await;
    until(&supervisor, "unresolved", |now| {
        topology(FaultCategory::Unreachable)(now) && now.topology_error.as_ref().unwrap().message.contains("invalid")
    })
    .await;
    supervisor.declare(vec![with_password(good.clone(), "open")]).await;
    let snapshot = until(&supervisor, "a wrong password", topology(FaultCategory::Authentication)).await;
    let message = snapshot.topology_error.clone().unwrap().message;
    assert!(message.contains("spec.redis.passwordSecretRef"), "{message}");
    supervisor.declare(vec![plan(&cluster.seeds(), NOWHERE)]).await;
    until(&supervisor, "no password", |now| {
        topology(FaultCategory::Authentication)(now) && now.topology_error.as_ref().unwrap().message.contains("NOAUTH")
    })
    .await;
    supervisor.declare(vec![good]).await;
    let snapshot = until(&supervisor, "ready", |now| now.ready).await;
    assert_eq!((&snapshot.topology_error, &snapshot.nodes[0].last_error), (&None, &None));
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_without_an_owner_and_a_user_without_rights_are_told_apart() {
    let cluster = cluster(&[], None).await;
    let master = cluster.nodes().remove(0);
    let mut plan = with_password(plan(&cluster.seeds(), NOWHERE), "sesame");
    plan.redis.username = Some("rel".into());
    let acl = async |rights: &[&str]| {
        let words: Vec<&str> = [&["ACL", "SETUSER", "rel", "reset", "on", ">sesame"], rights].concat();
        let () = master.query(&command(&words)).await.unwrap();
    };
    acl(&["+@connection"]).await;
    let supervisor = running(Dialler::everything(), plan).await;
    until(&supervisor, "no topology", topology(FaultCategory::Permission)).await;
    acl(&["+@all", "-psubscribe", "~*", "&*"]).await;
    let snapshot = until(&supervisor, "no subscription", node(FaultCategory::Permission)).await;
    assert!(snapshot.nodes[0].last_error.as_ref().unwrap().message.contains("+psubscribe"));
    acl(&["+@all", "-config|get", "~*", "&*"]).await;
    let blind = |now: &Snapshot| matches!(now.nodes[..], [ref node] if node.notification_fault.is_some());
    let snapshot = until(&supervisor, "flags that cannot be read", blind).await;
    let Some(NotificationFault::CannotInspect { message }) = &snapshot.nodes[0].notification_fault else {
        panic!("{:?}", snapshot.nodes[0])
    };
    assert!(message.contains("grant +config|get"), "{message}");
    acl(&["+@all", "~*", "&*"]).await;
    let whole = |now: &Snapshot| now.ready && now.nodes.iter().all(|node| node.last_error.is_none());
    let meters = until(&supervisor, "ready", whole).await.meters.clone().unwrap();
    let before = meters.topology_errors.get();
    let () = master.query(&command(&["CLUSTER", "DELSLOTS", "5"])).await.unwrap();
    until(&supervisor, "an orphan", topology(FaultCategory::Uncovered)).await;
    let () = master.query(&command(&["CLUSTER", "ADDSLOTS", "5"])).await.unwrap();
    until(&supervisor, "ready again", |now| now.ready && now.topology_error.is_none()).await;
    assert_eq!(meters.topology_errors.get(), before + 1, "it is counted when it begins, however often it is shown");
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_flags_come_with_the_command_that_adds_them() {
    let cluster = cluster(&[], None).await;
    let master = cluster.nodes().remove(0);
    let set = async |flags: &str| {
        let () = master.query(&command(&["CONFIG", "SET", "notify-keyspace-events", flags])).await.unwrap();
    };
    set("g").await;
    let supervisor = running(Dialler::everything(), plan(&cluster.seeds(), NOWHERE)).await;
    let missing = |now: &Snapshot| now.nodes.iter().any(|node| node.notification_fault.is_some());
    let snapshot = until(&supervisor, "missing", missing).await;
    let Some(NotificationFault::Disabled { command: fix, message }) = &snapshot.nodes[0].notification_fault else {
        panic!("{:?}", snapshot.nodes[0])
    };
    assert_eq!(fix, "CONFIG SET notify-keyspace-events gKxe$");
    assert!(message.contains(&format!("{fix} on 127.0.0.1:{}", master.port())), "{message}");
    let () = master.query(&command(&fix.split(' ').collect::<Vec<_>>())).await.unwrap();
    let mended = |now: &Snapshot| now.ready && now.nodes.iter().all(|node| node.notification_fault.is_none());
    until(&supervisor, "mended", mended).await;
    supervisor.stop(Duration::ZERO).await;
}
