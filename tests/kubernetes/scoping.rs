//! What the operator is told to watch, and what it passes over though it may see it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::bed::{
    given::install,
    kubernetes::Kubernetes,
    observed::{Observed, Stood, listeners},
    operator::{Operator, Settings},
    space::Space,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A listener with these labels, as lines of its metadata.
async fn apply(space: &Space<'_>, name: &str, labels: &str) {
    let text = include_str!("../../examples/listener.yaml").replace("order-timeouts", name);
    space.apply(&text.replace("  namespace: shop\n", labels)).await.ok();
}

/// Waits until something is said of it.
async fn is_looked_at(space: &Space<'_>, name: &str) {
    let seen = Observed::start(space.client.clone(), &space.name, name);
    seen.wait("looked at", PATIENCE, |stood: &Stood| stood.owner.as_deref() == Some("operator-a")).await;
}

async fn status(space: &Space<'_>, name: &str) -> Value {
    let object = listeners(space.client.clone(), &space.name).get(name).await.unwrap();
    object.data["status"].clone()
}

/// Waits until it says that it watches so many.
async fn watches(operator: &Operator, count: f64) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let watched = operator.metric("redis_expiry_listeners_watched", "").await;
        if watched == Some(count) {
            return;
        }
        assert!(Instant::now() < give_up, "it watches {watched:?}, not {count}\n{}", operator.tail());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_with_these_labels_in_these_namespaces_are_looked_at_and_no_others() {
    let kubernetes = Kubernetes::shared().await;
    let (one, two) = (kubernetes.namespace("scope").await, kubernetes.namespace("scope").await);
    let third = kubernetes.namespace("scope").await;
    // With rights on everything: what holds it back is what it is told.
    install(&one, &[]).await;
    let kubeconfig = one.token_kubeconfig(&one.name).await;
    let shop = "  labels: {team: shop}\n";
    apply(&one, "unlabelled", "").await;
    apply(&one, "of-another", "  labels: {team: pay}\n").await;
    apply(&third, "elsewhere", shop).await;
    apply(&one, "first", shop).await;
    apply(&two, "second", shop).await;
    let arguments =
        ["--watch-namespace", &one.name, "--watch-namespace", &two.name, "--watch-label-selector", "team=shop"];
    let settings = Settings { kubeconfig, pod_name: "operator-a", pod_namespace: &one.name, arguments: &arguments };
    let mut operator = Operator::start(settings).await;
    operator.wait_ready().await;
    is_looked_at(&one, "first").await;
    is_looked_at(&two, "second").await;
    watches(&operator, 2.0).await;
    for (space, name) in [(&one, "unlabelled"), (&one, "of-another"), (&third, "elsewhere")] {
        assert_eq!(status(space, name).await, Value::Null, "{name}");
    }

    // It is the label that decides.
    one.kubectl(&["label", "rel", "unlabelled", "team=shop"]).await.ok();
    is_looked_at(&one, "unlabelled").await;
    watches(&operator, 3.0).await;
    one.kubectl(&["label", "rel", "unlabelled", "team-"]).await.ok();
    watches(&operator, 2.0).await;
    for (space, name) in [(&one, "of-another"), (&third, "elsewhere")] {
        assert_eq!(status(space, name).await, Value::Null, "{name}");
    }
    operator.terminate().await;
}
