//! A listener that is pointed at another Redis, and told what to do by the command that its status says.

use std::time::Duration;

use redis_expiry_operator::commands::demo::cluster::{Cluster, Options};

use crate::{
    bed::{
        given::{KEY, account, listener, operator, order},
        kubernetes::Kubernetes,
        observed::{Observed, condition},
        space::Space,
    },
    support::receiver::Receiver,
};

const PATIENCE: Duration = Duration::from_secs(40);
const HOUR: Duration = Duration::from_secs(3_600);

async fn cluster() -> Cluster {
    let options = Options { replicas: 0, notify_keyspace_events: "KA".into(), ..Options::default() };
    Cluster::start(options).await.unwrap()
}

async fn holds(seen: &Observed) -> String {
    let holds = |stood: &crate::bed::observed::Stood| {
        condition(&stood.status, "Connected").is_some_and(|(_, reason, _)| reason == "DeploymentChanged")
    };
    let stood = seen.wait("DeploymentChanged", PATIENCE, holds).await;
    condition(&stood.status, "Connected").unwrap().2
}

/// Runs the command that the message says for this answer.
async fn answer(space: &Space<'_>, message: &str, answer: &str) {
    let words: Vec<&str> = message.split(' ').collect();
    let end = words.iter().position(|word| word.contains(&format!("={answer}:"))).unwrap();
    let start = words[..end].iter().rposition(|word| *word == "kubectl").unwrap();
    let words: Vec<&str> = words[start + 1..=end].iter().map(|word| word.trim_end_matches([';', ','])).collect();
    space.kubernetes.kubectl(&words).await.ok();
}

async fn tracks(seen: &Observed, tracked: i64) {
    let what = format!("Ready with {tracked} keys");
    seen.wait(&what, PATIENCE * 2, |stood| stood.ready && stood.status["tracked"] == tracked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_and_goes_on_as_it_is_told() {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace("moved").await;
    let kubeconfig = space.token_kubeconfig(&account(&space).await).await;
    let (old, new) = tokio::join!(cluster(), cluster());
    order(&old, "order:pay:old", HOUR).await;
    order(&new, "order:pay:new", HOUR).await;
    let receiver = Receiver::start(KEY, &format!("{}/order-timeouts", space.name)).await;
    space.secret("webhook-key", &[("secret", KEY)]).await;
    // Its ledger stays where it is while it is pointed elsewhere.
    let on = |cluster: &Cluster| format!("{}  store: {{type: Local}}\n", listener(cluster, &receiver.url(), ""));
    space.apply(&on(&old)).await.ok();
    let mut operator = operator(&space, kubeconfig, "operator-a", "1").await;
    operator.wait_ready().await;
    let seen = Observed::start(space.client.clone(), &space.name, "order-timeouts");
    tracks(&seen, 1).await;

    space.apply(&on(&new)).await.ok();
    let there = holds(&seen).await;
    assert!(there.contains("point spec.redis.addresses back"), "{there}");
    answer(&space, &there, "Discard").await;
    tracks(&seen, 1).await;
    // Back is another change: the answer that is still there is none.
    space.apply(&on(&old)).await.ok();
    let back = holds(&seen).await;
    assert_ne!(there, back);
    answer(&space, &back, "Keep").await;
    tracks(&seen, 2).await;
    assert!(receiver.received().is_empty(), "no key has expired");
    operator.terminate().await;
}
