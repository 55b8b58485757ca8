//! Where the operator may not dial, no node is dialled, whoever names it.

use std::time::Duration;

use redis_expiry_operator::{
    dial::{Dialler, Egress},
    listener::{Hold, Snapshot},
    model::{Address, Failure, FaultCategory},
    plan::{RedisPlan, StorePlan},
};
use tokio::net::TcpListener;

use crate::setup::{Receiver, cluster, command, guarded, plan, running, until};

const LOOPBACK: &str = "127.0.0.1/32";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_announces_a_link_local_address_is_named_in_the_error() {
    let cluster = cluster(&[("cluster-announce-ip", "169.254.7.7")], None).await;
    let supervisor = running(guarded(&[LOOPBACK]), plan(&cluster.seeds(), "http://127.0.0.1:9/")).await;
    let refused = |now: &Snapshot| now.nodes.iter().any(|node| node.last_error.is_some());
    let snapshot = until(&supervisor, "refused", refused).await;
    let node = &snapshot.nodes[0];
    assert_eq!(node.id.as_str(), cluster.nodes()[0].id());
    let fault = node.last_error.clone().unwrap();
    assert_eq!(fault.category, FaultCategory::EgressRefused);
    let port = cluster.nodes()[0].port();
    assert!(fault.message.starts_with(&format!("169.254.7.7:{port}: 169.254.7.7 is not dialled")), "{fault}");
    assert!(fault.message.contains("--allow-egress 169.254.7.7/32"), "{fault}");
    assert!(!snapshot.ready && !node.subscribed);
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_address_that_is_refused_is_not_dialled_and_one_of_the_address_map_is_judged_like_it() {
    let cluster = cluster(&[("cluster-announce-ip", "127.0.0.2")], None).await;
    let receiver = Receiver::start(Duration::ZERO).await;
    let port = cluster.nodes()[0].port();
    // Whoever dials what the node announces is heard here.
    let announced = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let mapped = TcpListener::bind(("127.0.0.3", port)).await.unwrap();
    let mut plan = plan(&cluster.seeds(), &receiver.url);
    let supervisor = running(guarded(&[LOOPBACK]), plan.clone()).await;
    let refused = |address: &'static str| {
        move |now: &Snapshot| {
            now.nodes
                .iter()
                .filter_map(|node| node.last_error.as_ref())
                .any(|fault| fault.category == FaultCategory::EgressRefused && fault.message.contains(address))
        }
    };
    until(&supervisor, "refused as announced", refused("127.0.0.2 is not dialled")).await;
    plan.redis.address_map = vec![(Address::new("127.0.0.2", port), Address::new("127.0.0.3", port))];
    supervisor.declare(vec![plan.clone()]).await;
    until(&supervisor, "refused as mapped", refused("127.0.0.3 is not dialled")).await;
    plan.redis.address_map = vec![(Address::new("127.0.0.2", port), Address::new("127.0.0.1", port))];
    supervisor.declare(vec![plan]).await;
    // Scans and settings too: their connections are opened only now that the node may be dialled.
    until(&supervisor, "ready", |now| now.ready && now.subscribed_masters == 1).await;
    for forbidden in [announced, mapped] {
        let dialled = tokio::time::timeout(Duration::from_millis(10), forbidden.accept()).await;
        assert!(dialled.is_err(), "it was dialled: {dialled:?}");
    }
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_is_refused_is_not_dialled_though_its_name_is_harmless() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = nobody.local_addr().unwrap().port();
    let resolver = Dialler::with_resolver(Egress::guarded(Vec::new()), |_| {
        Box::pin(async { Ok(vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]) })
    });
    let seeds = [format!("redis.shop.svc:{port}")];
    let supervisor = running(resolver, plan(&seeds, "http://127.0.0.1:9/")).await;
    let snapshot = until(&supervisor, "refused", |now| now.topology_error.is_some()).await;
    let fault = snapshot.topology_error.clone().unwrap();
    assert_eq!(fault.category, FaultCategory::EgressRefused);
    assert!(fault.message.contains(&format!("redis.shop.svc:{port}: 127.0.0.1 is not dialled")), "{fault}");
    let dialled = tokio::time::timeout(Duration::from_millis(10), nobody.accept()).await;
    assert!(dialled.is_err(), "it was dialled: {dialled:?}");
    supervisor.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_refused_holds_the_listener_and_a_webhook_only_its_delivery() {
    let cluster = cluster(&[], None).await;
    let receiver = Receiver::start(Duration::ZERO).await;
    let mut plan = plan(&cluster.seeds(), &receiver.url.replace("127.0.0.1", "127.0.0.2"));
    let port = cluster.nodes()[0].port();
    plan.store = StorePlan::Redis {
        redis: RedisPlan { addresses: vec![Address::new("127.0.0.2", port)], ..plan.redis.clone() },
    };
    let supervisor = running(guarded(&[LOOPBACK]), plan.clone()).await;
    let held = |now: &Snapshot| matches!(&now.hold, Some(Hold::Store { category: "EgressRefused", .. }));
    until(&supervisor, "held", held).await;
    plan.store = StorePlan::Memory;
    supervisor.declare(vec![plan.clone()]).await;
    until(&supervisor, "ready", |now| now.ready).await;
    let () = cluster.nodes()[0].query(&command(&["SET", "order:1", "1", "PX", "50"])).await.unwrap();
    let refused = |now: &Snapshot| now.delivery.last_failure == Some(Failure::EgressRefused);
    let snapshot = until(&supervisor, "refused", refused).await;
    assert!(snapshot.ready, "what is delivered has no say in what is detected");
    plan.webhook.url = receiver.url.clone();
    supervisor.declare(vec![plan]).await;
    until(&supervisor, "delivered", |now| now.delivery.delivered == 1 && now.delivery.last_failure.is_none()).await;
    assert_eq!(receiver.told().len(), 1);
    supervisor.stop(Duration::ZERO).await;
}
