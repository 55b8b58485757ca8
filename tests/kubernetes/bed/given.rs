//! What tests begin with: the chart installed, an operator with its rights, a listener.

use std::{path::PathBuf, time::Duration};

use redis_expiry_operator::commands::demo::cluster::Cluster;

use super::{
    operator::{Operator, Settings},
    space::Space,
};

pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/redis-expiry-operator");
/// What the tests' webhooks are signed with.
pub const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Installs the chart without its CRD, whose owner could be one release only. Its ServiceAccount has the namespace's name.
pub async fn install(space: &Space<'_>, more: &[&str]) {
    // What lies in no namespace has the name too, so that two tests do not meet.
    let named = format!("fullnameOverride={}", space.name);
    let words = ["install", &space.name, CHART, "--set", "crds.install=false", "--set", &named];
    let words: Vec<&str> = words.into_iter().chain(more.iter().copied()).collect();
    space.helm(&words).await.ok();
}

/// Installs the chart, for its ServiceAccount and its rights; its pods run nowhere here. The kubeconfig has that account's token.
pub async fn account(space: &Space<'_>) -> String {
    install(space, &["--set", &format!("watchNamespaces={{{}}}", space.name)]).await;
    space.name.clone()
}

pub async fn operator(space: &Space<'_>, kubeconfig: PathBuf, pod_name: &str, replicas: &str) -> Operator {
    let arguments = ["--watch-namespace", &space.name, "--replicas", replicas];
    Operator::start(Settings { kubeconfig, pod_name, pod_namespace: &space.name, arguments: &arguments }).await
}

/// A listener on the cluster; `more` is put under `spec.redis`.
pub fn listener(cluster: &Cluster, url: &str, more: &str) -> String {
    listener_at(&cluster.seeds(), url, more)
}

/// The same at these addresses.
pub fn listener_at(addresses: &[String], url: &str, more: &str) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("{address:?}")).collect();
    format!(
        r#"apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {{name: order-timeouts}}
spec:
  redis:
    addresses: [{}]
{more}
  keyPattern: "order:pay:*"
  webhook:
    url: {url}
    timeouts: {{connect: 1s, request: 2s}}
    payload: {{type: order.timeout.expired}}
    signing: {{secretKeyRefs: [{{name: webhook-key, key: secret}}]}}
  delivery:
    retry: {{initialBackoff: 200ms, maxBackoff: 1s}}
"#,
        addresses.join(", ")
    )
}

/// A key that expires after `lifetime`, on the master that has its slot.
pub async fn order(cluster: &Cluster, key: &str, lifetime: Duration) {
    let lifetime = lifetime.as_millis().to_string();
    let mut set = 0;
    for (master, _) in cluster.masters().await.unwrap() {
        let done: Result<String, _> = master.query(redis::cmd("SET").arg(key).arg("x").arg("PX").arg(&lifetime)).await;
        set += usize::from(done.is_ok());
    }
    assert_eq!(set, 1, "{key} is on one of them");
}
