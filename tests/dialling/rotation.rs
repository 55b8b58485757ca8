//! Credentials that change while a listener runs: what expired meanwhile is told, once, and nothing else is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis_expiry_operator::{
    clock,
    commands::demo::cluster::{Cluster, Node},
    dial::Dialler,
    listener::Supervisor,
    model::FaultCategory,
    plan::{Plan, Secret},
};
use tokio::{task::JoinHandle, time::Instant};

use crate::setup::{Receiver, cluster, command, eventually, plan, running, until, with_password};

/// When each order that expires was about to be written, and when it is due at the earliest.
type Lives = BTreeMap<String, Range<Instant>>;

/// Orders that expire all the while, some soon and some late, and some that live on.
struct Orders {
    stop: Arc<AtomicBool>,
    writing: JoinHandle<Lives>,
}

impl Orders {
    fn start(cluster: &Cluster, user: &'static str) -> Self {
        let node = cluster.nodes().remove(0);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writing = tokio::spawn(async move { write(&node, user, &stopped).await });
        Self { stop, writing }
    }

    /// Every order that is to be told.
    async fn end(self) -> Lives {
        self.stop.store(true, Ordering::SeqCst);
        self.writing.await.unwrap()
    }
}

async fn write(node: &Node, user: &str, stop: &AtomicBool) -> Lives {
    // On one connection, which a change of the default user's password does not concern.
    let client = redis::Client::open(format!("redis://{user}:orders@{}", node.address())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut expiring = Lives::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("order:{number}");
        let ttl = 100 + number * 37 % 1_500;
        let born = Instant::now();
        let () = command(&["SET", &key, "1", "PX", &ttl.to_string()]).query_async(&mut connection).await.unwrap();
        if number % 7 == 0 {
            // Paid.
            let () = command(&["PERSIST", &key]).query_async(&mut connection).await.unwrap();
        } else {
            expiring.insert(key, born..born + Duration::from_millis(ttl));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    expiring
}

/// Lost 0, invented 0, each under one id. Nobody can know of an order that was written and expired while nobody was
/// connected; for those it may be told or not.
async fn judge(receiver: &Receiver, lives: &Lives, blind: Range<Instant>) {
    let unseen = |life: &Range<Instant>| life.start >= blind.start && life.end <= blind.end;
    let expected: Vec<_> = lives.iter().filter(|(_, life)| !unseen(life)).collect();
    let ids = || {
        let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for told in receiver.told() {
            ids.entry(told.key).or_default().insert(told.id);
        }
        ids
    };
    let lost = || {
        let ids = ids();
        expected.iter().filter(|(key, _)| !ids.contains_key(*key)).count()
    };
    eventually("all told", async || lost() == 0).await;
    let ids = ids();
    assert!(ids.keys().all(|key| lives.contains_key(key)), "one was told that was paid");
    assert!(ids.values().all(|ids| ids.len() == 1), "one expiry has two ids");
}

async fn user_of_the_orders(cluster: &Cluster) -> &'static str {
    let words = ["ACL", "SETUSER", "shop", "on", ">orders", "+@all", "~*", "&*"];
    let () = cluster.nodes()[0].query(&command(&words)).await.unwrap();
    "shop"
}

/// What the listener is to do as the user `rel`, whose password is `first`.
fn first_plan(cluster: &Cluster, receiver: &Receiver) -> Plan {
    let mut first = with_password(plan(&cluster.seeds(), &receiver.url), "first");
    first.redis.username = Some("rel".into());
    first
}

/// A listener that tells of the orders that are made meanwhile.
async fn at_work(cluster: &Cluster, user: &'static str, plan: &Plan) -> (Supervisor, Orders) {
    let supervisor = running(Dialler::everything(), plan.clone()).await;
    until(&supervisor, "ready", |now| now.ready).await;
    let orders = Orders::start(cluster, user);
    until(&supervisor, "at work", |now| now.delivery.delivered > 20).await;
    (supervisor, orders)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_changes_at_the_server_and_then_in_the_plan_loses_nothing() {
    let cluster = cluster(&[], None).await;
    let user = user_of_the_orders(&cluster).await;
    let master = cluster.nodes().remove(0);
    let acl = async |password: &str| {
        let words = ["ACL", "SETUSER", "rel", "resetpass", "on", password, "+@all", "~*", "&*"];
        let () = master.query(&command(&words)).await.unwrap();
    };
    acl(">first").await;
    let receiver = Receiver::start(Duration::ZERO).await;
    let first = first_plan(&cluster, &receiver);
    let (supervisor, orders) = at_work(&cluster, user, &first).await;

    // Redis lets connections live on that a password opened which is none any more; somebody ends them.
    let from = Instant::now();
    acl(">second").await;
    let () = master.query(&command(&["CLIENT", "KILL", "USER", "rel"])).await.unwrap();
    let wrong = Some(FaultCategory::Authentication);
    let snapshot = until(&supervisor, "a wrong password", |now| {
        let nodes = now.nodes.iter().all(|node| node.last_error.as_ref().map(|fault| fault.category) == wrong);
        !now.ready && nodes && now.topology_error.as_ref().map(|fault| fault.category) == wrong
    })
    .await;
    assert!(snapshot.nodes[0].last_error.as_ref().unwrap().message.contains("spec.redis.passwordSecretRef"));
    // Long enough for orders to come and go unseen.
    tokio::time::sleep(Duration::from_secs(2)).await;

    supervisor.declare(vec![with_password(first, "second")]).await;
    let snapshot = until(&supervisor, "ready again", |now| now.ready && now.topology_error.is_none()).await;
    let to = Instant::now();
    assert!(snapshot.nodes[0].last_error.is_none());
    let before = snapshot.delivery.delivered;
    until(&supervisor, "at work again", |now| now.delivery.delivered > before + 50).await;
    let lives = orders.end().await;
    judge(&receiver, &lives, from..to).await;
    supervisor.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_of_two_that_hold_changes_without_a_gap_and_delivery_goes_on_meanwhile() {
    let cluster = cluster(&[], None).await;
    let user = user_of_the_orders(&cluster).await;
    let words = ["ACL", "SETUSER", "rel", "on", ">first", ">second", "+@all", "~*", "&*"];
    let () = cluster.nodes()[0].query(&command(&words)).await.unwrap();
    // Attempts take longer than a listener that ends would wait for them.
    let receiver = Receiver::start(Duration::from_secs(3)).await;
    let mut first = first_plan(&cluster, &receiver);
    first.delivery.max_in_flight = 1_024;
    let (supervisor, orders) = at_work(&cluster, user, &first).await;
    let since = Some(clock::now());
    let asked = Instant::now();
    let mut second = with_password(first, "second");
    second.webhook.bearer = Some(Secret(b"second".to_vec()));
    supervisor.declare(vec![second]).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "it waited for what is under way to the webhook");
    until(&supervisor, "over", |now| now.ready && now.nodes.iter().all(|node| node.since > since)).await;
    eventually("the new token", async || receiver.told().iter().any(|told| told.authorization == "Bearer second"))
        .await;
    let lives = orders.end().await;
    // Nobody was deaf for as long as the shortest order lives.
    judge(&receiver, &lives, asked..asked).await;
    let told = receiver.told();
    let ids: BTreeSet<&String> = told.iter().map(|told| &told.id).collect();
    assert_eq!(ids.len(), told.len(), "an attempt that was under way was made again");
    supervisor.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_in_the_plan_is_seen_after_a_while_in_which_the_old_one_serves() {
    let cluster = cluster(&[], None).await;
    let user = user_of_the_orders(&cluster).await;
    let words = ["ACL", "SETUSER", "rel", "on", ">first", "+@all", "~*", "&*"];
    let () = cluster.nodes()[0].query(&command(&words)).await.unwrap();
    let receiver = Receiver::start(Duration::ZERO).await;
    let first = first_plan(&cluster, &receiver);
    let (supervisor, orders) = at_work(&cluster, user, &first).await;
    let asked = Instant::now();
    supervisor.declare(vec![with_password(first.clone(), "frist")]).await;
    until(&supervisor, "a wrong password", |now| {
        now.topology_error.as_ref().is_some_and(|fault| fault.category == FaultCategory::Authentication)
    })
    .await;
    assert!(asked.elapsed() >= Duration::from_secs(4), "the one that worked was given up at once");
    supervisor.declare(vec![first]).await;
    until(&supervisor, "ready again", |now| now.ready && now.topology_error.is_none()).await;
    let ready = Instant::now();
    let lives = orders.end().await;
    judge(&receiver, &lives, asked + Duration::from_secs(4)..ready).await;
    supervisor.stop(Duration::from_secs(5)).await;
}
