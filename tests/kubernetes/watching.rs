//! Watches that fail, and watches that are dead: what is declared is seen all the same.

use std::time::{Duration, Instant};

use crate::{
    bed::{
        given::{account, operator},
        kubernetes::Kubernetes,
        observed::listeners,
        proxy::{Line, Proxy},
        space::Space,
    },
    support::now,
};

/// A listener that has nothing to do with Redis: it refers to a Secret that is not there.
fn named(name: &str) -> String {
    include_str!("../../examples/listener.yaml").replace("  namespace: shop\n", "").replace("order-timeouts", name)
}

/// How long it takes until an operator says something of a listener that is made now.
async fn noticed(space: &Space<'_>, name: &str, patience: Duration) -> Duration {
    space.apply(&named(name)).await.ok();
    let (made, api) = (Instant::now(), listeners(space.client.clone(), &space.name));
    loop {
        let object = api.get(name).await.unwrap();
        if object.data["status"]["owner"].is_string() {
            return made.elapsed();
        }
        assert!(made.elapsed() < patience, "nothing is said of {name} within {patience:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_secrets_may_not_be_watched_listeners_are_seen_at_once() {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace("denied").await;
    let account = account(&space).await;
    let roles = space.kubectl(&["get", "roles", "-o", "name"]).await.ok();
    for role in roles.lines() {
        let read = space.kubectl(&["get", role, "-o", "json"]).await.ok();
        let read: serde_json::Value = serde_json::from_str(&read).unwrap();
        let kept: Vec<_> = read["rules"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| !rule["resources"].as_array().unwrap().iter().any(|resource| resource == "secrets"))
            .collect();
        let patch = serde_json::json!({ "rules": kept }).to_string();
        space.kubectl(&["patch", role, "--type=merge", "-p", &patch]).await.ok();
    }
    let mut operator = operator(&space, space.token_kubeconfig(&account).await, "operator-a", "1").await;
    operator.wait_ready().await;
    // Where they wait for each other it is seconds each time, and half a minute at last. Between two, the watch of Secrets is tried
    // again and fails.
    let mut took = Vec::new();
    for number in 0..12 {
        took.push(noticed(&space, &format!("listener-{number}"), Duration::from_secs(5)).await);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    println!("noticed after {took:?}");
    assert!(took.iter().sum::<Duration>() < Duration::from_secs(6), "they wait for each other: {took:?}");
    assert!(operator.logged().contains("The watch of Secrets fails"), "{}", operator.tail());
    operator.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_dead_and_not_closed_is_noticed_within_half_a_minute() {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace("dead").await;
    let account = account(&space).await;
    let mut proxy = Proxy::start(kubernetes.address()).await;
    let kubeconfig = kubernetes.token_kubeconfig(&space.name, &account, proxy.address()).await;
    let mut operator = operator(&space, kubeconfig, "operator-a", "1").await;
    operator.wait_ready().await;
    noticed(&space, "before", Duration::from_secs(5)).await;
    // What is open now stays open and silent for ever; what is opened from now on passes.
    proxy.set(Line::Forgets).await;
    let from = now();
    let took = noticed(&space, "after", Duration::from_secs(40)).await;
    println!("noticed after {took:?}, {} ms after the connections had died", now().since(from));
    operator.terminate().await;
}
