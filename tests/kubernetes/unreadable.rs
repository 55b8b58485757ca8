//! An object that this version cannot read, as one that was written for a newer release: it says so, and disturbs no other.

use std::time::Duration;

use redis_expiry_operator::commands::demo::cluster::{Cluster, Options};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    bed::{
        given::{KEY, account, listener, operator},
        kubernetes::Kubernetes,
        observed::{Observed, Stood, condition},
        space::Space,
    },
    support::receiver::Receiver,
    telling::delivers,
};

const PATIENCE: Duration = Duration::from_secs(20);
const CRD: &str = "redisexpirylisteners.redisexpiry.io";

/// Makes the definition that of a newer release: `spec.inferred` has one value more.
async fn upgrade(kubernetes: &Kubernetes) {
    let values = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/inferred/enum";
    let patch = json!([{"op": "add", "path": format!("{values}/-"), "value": "Ask"}]).to_string();
    kubernetes.kubectl(&["patch", "crd", CRD, "--type=json", "-p", &patch]).await.ok();
}

/// Applies it. The server serves the new schema a moment after it has taken it.
async fn taken(space: &Space<'_>, yaml: &str) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let said = space.apply(yaml).await;
        if said.ok {
            return;
        }
        assert!(Instant::now() < give_up, "it is never taken: {said}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until it says that it cannot be read.
async fn is_unreadable(seen: &Observed) {
    let message = seen.says("Accepted", "False", "InvalidSpec").await;
    assert!(message.contains("spec cannot be read by this version of the operator"), "{message}");
    // What is wrong with it, and what to do.
    assert!(message.contains("Ask") && message.contains("correct it, or update the operator"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_says_so_and_disturbs_no_other() {
    let kubernetes = Kubernetes::own().await;
    kubernetes.install_crd().await;
    upgrade(&kubernetes).await;
    let space = kubernetes.namespace("newer").await;
    let kubeconfig = space.token_kubeconfig(&account(&space).await).await;
    let options = Options { replicas: 0, notify_keyspace_events: "KA".into(), ..Options::default() };
    let cluster = Cluster::start(options).await.unwrap();
    let receiver = Receiver::start(KEY, &format!("{}/order-timeouts", space.name)).await;
    space.secret("webhook-key", &[("secret", KEY)]).await;
    let good = |url: &str| format!("{}  store: {{type: Local}}\n", listener(&cluster, url, ""));
    let readable = good("http://127.0.0.1:9/").replace("order-timeouts", "newer");
    let unreadable = format!("{readable}  inferred: Ask\n");

    // It is among those that are listed.
    taken(&space, &unreadable).await;
    let mut operator = operator(&space, kubeconfig, "operator-a", "1").await;
    operator.wait_ready().await;
    let newer = Observed::start(space.client.clone(), &space.name, "newer");
    is_unreadable(&newer).await;
    // Another that comes is seen, and does its job.
    space.apply(&good(&receiver.url())).await.ok();
    let seen = Observed::start(space.client.clone(), &space.name, "order-timeouts");
    seen.wait_ready().await;
    delivers(&cluster, &receiver, "order:pay:1").await;

    space.apply(&readable).await.ok();
    newer.says("Accepted", "True", "Valid").await;
    newer.wait_ready().await;
    // Written for a newer release while it runs, it goes on as it was.
    taken(&space, &unreadable).await;
    is_unreadable(&newer).await;
    assert_eq!(newer.condition("Connected").unwrap().0, "True", "{}", newer.story());
    delivers(&cluster, &receiver, "order:pay:2").await;
    seen.wait_ready().await;
    space.apply(&readable).await.ok();
    newer.wait_ready().await;

    let accepted = |stood: &Stood| condition(&stood.status, "Accepted").is_none_or(|(is, _, _)| is == "True");
    assert!(seen.seen().iter().all(accepted), "{:#?}", seen.seen());
    assert!(receiver.wrong().is_empty(), "{:?}", receiver.wrong());
    operator.terminate().await;
}
