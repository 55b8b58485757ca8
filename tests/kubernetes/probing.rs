//! What the probes say while something that is not the operator's fails.

use redis_expiry_operator::commands::demo::cluster::{Cluster, Options};
use tokio::process::Command;

use crate::bed::{
    given::{KEY, account, listener, operator},
    kubernetes::Kubernetes,
    observed::Observed,
    tools::{run, tool},
};

/// Prometheus' own tool has nothing to say of the page.
async fn prometheus_takes(page: &str) {
    let said = run(Command::new(tool("promtool")).args(["check", "metrics"]), page).await;
    assert!(said.ok && said.stdout.is_empty() && said.stderr.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_down_it_is_alive_and_ready_and_the_listener_is_not() {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace("redis-down").await;
    let kubeconfig = space.token_kubeconfig(&account(&space).await).await;
    let cluster = Cluster::start(Options { notify_keyspace_events: "KA".into(), ..Options::default() }).await.unwrap();
    space.secret("webhook-key", &[("secret", KEY)]).await;
    space.apply(&listener(&cluster, "http://127.0.0.1:9/", "")).await.ok();
    let mut operator = operator(&space, kubeconfig, "operator-a", "1").await;
    operator.wait_ready().await;
    let seen = Observed::start(space.client.clone(), &space.name, "order-timeouts");
    seen.wait_ready().await;
    prometheus_takes(&operator.get("/metrics").await.unwrap().1).await;
    drop(cluster);
    let ready = |stood: &crate::bed::observed::Stood| stood.ready;
    seen.wait("not Ready", std::time::Duration::from_secs(30), |stood| !ready(stood)).await;
    for probe in ["/livez", "/readyz"] {
        let (status, text) = operator.get(probe).await.unwrap();
        assert_eq!(status, 200, "{probe}: {text}");
    }
    // One that starts while Redis is away is no less ready.
    operator.terminate().await;
    operator.start_again();
    operator.wait_ready().await;
    assert_eq!(operator.get("/livez").await.unwrap().0, 200);
    operator.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_definition_it_is_alive_and_says_why_it_is_not_ready_until_that_is_there() {
    let kubernetes = Kubernetes::own().await;
    let space = kubernetes.namespace("undefined").await;
    let kubeconfig = space.token_kubeconfig(&account(&space).await).await;
    let mut operator = operator(&space, kubeconfig, "operator-a", "1").await;
    let give_up = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let (status, why) = loop {
        if let Ok(answer) = operator.get("/readyz").await
            && operator.logged().contains("The watch of listeners fails")
        {
            break answer;
        }
        assert!(tokio::time::Instant::now() < give_up, "{}", operator.tail());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(status == 503 && why.contains("is the CRD installed"), "{status} {why}");
    assert_eq!(operator.get("/livez").await.unwrap().0, 200);
    kubernetes.install_crd().await;
    operator.wait_ready().await;
    operator.terminate().await;
}
