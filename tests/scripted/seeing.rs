//! Who the nodes are, whom to believe, and what is kept of each: the deployment's loop and discovery.

use std::{sync::Arc, time::Duration};

use redis_expiry_operator::{
    deployment::{Deployment, NodeView, Port, View},
    dial::Dialler,
    model::Slot,
    plan::{KeyspaceEvents, RedisPlan},
    topology::{Discovery, Topology},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    fake::{Fake, until},
    looking::plan,
};

/// A deployment, with a listener.
struct Seeing {
    view: watch::Receiver<Arc<View>>,
    _port: Port,
    deployment: Deployment,
}

impl Seeing {
    fn start(plan: RedisPlan) -> Self {
        let deployment = Deployment::start(plan, Dialler::everything());
        let (port, _) = deployment.join(b"k*");
        Self { view: deployment.view(), _port: port, deployment }
    }
    fn node(&self, id: &str) -> Option<NodeView> {
        self.view.borrow().nodes.get(&id.into()).cloned()
    }
    fn open(&self, id: &str) -> bool {
        self.node(id).is_some_and(|node| node.open(b"k*"))
    }
    fn owns_all(&self, id: &str) -> bool {
        self.view.borrow().owner(Slot(9)).is_some_and(|owner| owner.as_str() == id)
    }
}

const ALL: &str = "0-16383";
const NONE: &str = "";

#[tokio::test]
async fn replicas_are_subscribed_to_as_masters_are() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let rows = [a.row("master", "-", 1, ALL), b.row("slave", "a", 1, NONE)];
    a.knows(&rows);
    b.knows(&rows);
    let seeing = Seeing::start(plan(&[&a]));
    until("both subscribed", || a.times_asked("PSUBSCRIBE") == 1 && b.times_asked("PSUBSCRIBE") == 1).await;
    assert!(!seeing.node("b").unwrap().drives);
    seeing.deployment.stop().await;
}

#[tokio::test]
async fn two_nodes_are_asked_and_the_higher_epoch_owns_the_slot() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    a.knows(&[a.row("master", "-", 1, ALL), b.row("slave", "a", 1, NONE)]);
    b.knows(&[a.row("master,fail", "-", 1, NONE), b.row("master", "-", 2, ALL)]);
    for seeds in [[&a, &b], [&b, &a]] {
        let sighting = Box::pin(Discovery::new(plan(&seeds), Dialler::everything()).look(&Topology::default(), &[]))
            .await
            .unwrap();
        assert!(sighting.topology.owns(&"b".into(), Slot(9)));
    }
}

#[tokio::test]
async fn a_failover_that_nobody_tells_of_is_seen_by_polling() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let before = [a.row("master", "-", 1, ALL), b.row("master", "-", 2, NONE)];
    a.knows(&before);
    b.knows(&before);
    let seeing = Seeing::start(plan(&[&a]));
    until("both open", || seeing.open("a") && seeing.open("b")).await;
    // What asked for the topology by itself has been answered.
    let asked = a.times_asked("CLUSTER NODES");
    until("another look", || a.times_asked("CLUSTER NODES") > asked + 5).await;
    let after = [a.row("slave", "b", 3, NONE), b.row("master", "-", 3, ALL)];
    a.knows(&after);
    b.knows(&after);
    until("the new owner", || seeing.owns_all("b")).await;
    seeing.deployment.stop().await;
}

/// `a` owns all, `r` is its replica, `b` another master.
async fn shard_and_other() -> (Fake, Fake, Fake, [String; 3]) {
    let (a, r, b) = (Fake::start("a").await, Fake::start("r").await, Fake::start("b").await);
    let rows = [a.row("master", "-", 5, ALL), r.row("slave", "a", 5, NONE), b.row("master", "-", 2, NONE)];
    for fake in [&a, &r, &b] {
        fake.knows(&rows);
    }
    (a, r, b, rows)
}

#[tokio::test]
async fn neither_a_node_itself_nor_a_replica_confirms_it_but_another_master_does() {
    let (a, r, b, _) = shard_and_other().await;
    b.hang();
    let seeing = Seeing::start(plan(&[&a, &r]));
    until("both asked often", || a.times_asked("CLUSTER NODES") > 3 && r.times_asked("CLUSTER NODES") > 3).await;
    until("subscribed", || seeing.node("a").is_some_and(|node| node.connection.since.is_some())).await;
    let asked = (a.times_asked("CLUSTER NODES"), r.times_asked("CLUSTER NODES"));
    until("both asked again", || {
        a.times_asked("CLUSTER NODES") > asked.0 + 3 && r.times_asked("CLUSTER NODES") > asked.1 + 3
    })
    .await;
    assert!(!seeing.open("a"));
    b.resume();
    until("confirmed", || seeing.open("a")).await;
    seeing.deployment.stop().await;
}

#[tokio::test]
async fn a_master_that_holds_the_node_for_something_else_does_not_confirm_it() {
    let (a, r, b, rows) = shard_and_other().await;
    b.knows(&[a.row("slave", "r", 4, NONE), r.row("master", "-", 4, ALL), b.row("master", "-", 2, NONE)]);
    let seeing = Seeing::start(plan(&[&a, &r, &b]));
    until("subscribed", || seeing.node("a").is_some_and(|node| node.connection.since.is_some())).await;
    let asked = b.times_asked("CLUSTER NODES");
    until("asked often", || b.times_asked("CLUSTER NODES") > asked + 5).await;
    assert!(seeing.owns_all("a") && !seeing.open("a"));
    b.knows(&rows);
    until("confirmed", || seeing.open("a")).await;
    seeing.deployment.stop().await;
}

#[tokio::test]
async fn flags_are_read_again_in_time_and_at_once_after_a_promotion_and_their_absence_is_a_gap() {
    let (a, r, b, _) = shard_and_other().await;
    let seeing = Seeing::start(plan(&[&a]));
    until("open", || seeing.open("a") && seeing.open("r")).await;
    let before = seeing.node("a").unwrap().continuity();
    a.state().flags = "K".into();
    until("missing", || !seeing.node("a").unwrap().notifications.sufficient).await;
    assert_eq!(a.times_asked("CONFIG SET"), 0);
    a.state().flags = "KA".into();
    until("there again", || seeing.node("a").unwrap().continuity() == before + 1).await;
    // Just after a check the next one in time is two seconds off.
    let reads = r.times_asked("CONFIG GET");
    until("a check", || r.times_asked("CONFIG GET") > reads).await;
    let (reads, began) = (r.times_asked("CONFIG GET"), Instant::now());
    let rows = [a.row("slave", "r", 6, NONE), r.row("master", "-", 6, ALL), b.row("master", "-", 2, NONE)];
    for fake in [&a, &r, &b] {
        fake.knows(&rows);
    }
    until("a check", || r.times_asked("CONFIG GET") > reads).await;
    assert!(began.elapsed() < Duration::from_millis(1_500), "only after {:?}", began.elapsed());
    seeing.deployment.stop().await;
}

#[tokio::test]
async fn enable_adds_the_missing_flags_and_keeps_those_there() {
    let a = Fake::start("a").await;
    a.knows(&[a.row("master", "-", 1, ALL)]);
    a.state().flags = "Kl".into();
    let seeing = Seeing::start(RedisPlan { keyspace_events: KeyspaceEvents::Enable, ..plan(&[&a]) });
    until("set", || a.times_asked("CONFIG SET") == 1).await;
    assert_eq!(a.state().flags, "Klgxe$");
    seeing.deployment.stop().await;
}

#[tokio::test]
async fn a_nodes_clock_is_known_by_its_offset() {
    let a = Fake::start("a").await;
    a.knows(&[a.row("master", "-", 1, ALL)]);
    a.state().ahead_micros = 5_000_000;
    let seeing = Seeing::start(plan(&[&a]));
    let near = |micros: i64| (4_900_000..5_100_000).contains(&micros);
    until("the offset", || near(seeing.view.borrow().offset_of(Slot(9)))).await;
    seeing.deployment.stop().await;
}
