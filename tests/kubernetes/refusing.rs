//! What cannot be carried out for what it refers to: each reason with its field and its fix, and gone when that is mended.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::bed::{
    given::{KEY, account, operator},
    kubernetes::Kubernetes,
    observed::{Observed, Stood},
    space::Space,
};

/// One listener, and the object that it refers to, which has its name.
struct Row {
    name: &'static str,
    /// `spec.webhook`; `REF` stands for the reference.
    webhook: &'static str,
    kind: &'static str,
    /// What is there at first, a key and its value. `None`: no object.
    first: Option<(&'static str, &'static str)>,
    reason: &'static str,
    /// What the message begins with, and the fix.
    says: [&'static str; 2],
    /// The value that mends it.
    good: &'static str,
}

const BEARER: &str = "{url: 'http://127.0.0.1:9/', auth: {bearer: {secretKeyRef: REF}}}";
const URL: &str = "{urlSecretRef: REF}";
const SIGNING: &str = "{url: 'http://127.0.0.1:9/', signing: {secretKeyRefs: [REF]}}";
const SECRET_HEADER: &str = "{url: 'http://127.0.0.1:9/', headers: [{name: X-Shop, valueFrom: {secretKeyRef: REF}}]}";
const MAP_HEADER: &str = "{url: 'http://127.0.0.1:9/', headers: [{name: X-Shop, valueFrom: {configMapKeyRef: REF}}]}";

const ROWS: [Row; 10] = [
    Row {
        name: "bearer-broken",
        webhook: BEARER,
        kind: "Secret",
        first: Some(("value", "canary\nx")),
        reason: "SecretInvalid",
        says: [
            "spec.webhook.auth.bearer.secretKeyRef has a value with a control character or a line break",
            "remove it",
        ],
        good: "sesame",
    },
    Row {
        name: "bearer-empty",
        webhook: BEARER,
        kind: "Secret",
        first: Some(("value", "")),
        reason: "SecretInvalid",
        says: [
            "spec.webhook.auth.bearer.secretKeyRef refers to key value of Secret bearer-empty, which is empty",
            "put a value there",
        ],
        good: "sesame",
    },
    Row {
        name: "url-none",
        webhook: URL,
        kind: "Secret",
        first: Some(("value", "canary")),
        reason: "SecretInvalid",
        says: ["spec.webhook.urlSecretRef refers to a value which is not a URL", "write https://host/path"],
        good: "http://127.0.0.1:9/",
    },
    Row {
        name: "url-scheme",
        webhook: URL,
        kind: "Secret",
        first: Some(("value", "ftp://canary/")),
        reason: "SecretInvalid",
        says: ["spec.webhook.urlSecretRef refers to a value whose scheme is ftp", "use http or https"],
        good: "http://127.0.0.1:9/",
    },
    Row {
        name: "signing-short",
        webhook: SIGNING,
        kind: "Secret",
        first: Some(("value", "canary")),
        reason: "SecretInvalid",
        says: [
            "spec.webhook.signing.secretKeyRefs[0] refers to a key of 6 bytes; 24 to 64 are needed",
            "make one with: printf",
        ],
        good: KEY,
    },
    Row {
        name: "header-broken",
        webhook: SECRET_HEADER,
        kind: "Secret",
        first: Some(("value", "canary\nx")),
        reason: "SecretInvalid",
        says: ["spec.webhook.headers[0].valueFrom.secretKeyRef has a value with a control character", "remove it"],
        good: "a",
    },
    Row {
        name: "map-missing",
        webhook: MAP_HEADER,
        kind: "ConfigMap",
        first: None,
        reason: "ConfigMapNotFound",
        says: [
            "spec.webhook.headers[0].valueFrom.configMapKeyRef refers to key value of ConfigMap map-missing, which is not in namespace",
            "create it there",
        ],
        good: "a",
    },
    Row {
        name: "map-other",
        webhook: MAP_HEADER,
        kind: "ConfigMap",
        first: Some(("other", "a")),
        reason: "ConfigMapKeyMissing",
        says: [
            "spec.webhook.headers[0].valueFrom.configMapKeyRef refers to key value of ConfigMap map-other, which has only other",
            "add the key, or name one that is there",
        ],
        good: "a",
    },
    Row {
        name: "map-broken",
        webhook: MAP_HEADER,
        kind: "ConfigMap",
        first: Some(("value", "canary\nx")),
        reason: "ConfigMapInvalid",
        says: ["spec.webhook.headers[0].valueFrom.configMapKeyRef has a value with a control character", "remove it"],
        good: "a",
    },
    Row {
        name: "map-empty",
        webhook: MAP_HEADER,
        kind: "ConfigMap",
        first: Some(("value", "")),
        reason: "ConfigMapInvalid",
        says: [
            "spec.webhook.headers[0].valueFrom.configMapKeyRef refers to key value of ConfigMap map-empty, which is empty",
            "put a value there",
        ],
        good: "a",
    },
];

/// A listener on a Redis that is not there.
fn written(name: &str, webhook: &str, store: &str) -> String {
    let webhook = webhook.replace("REF", &format!("{{name: {name}, key: value}}"));
    format!(
        r#"apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {{name: {name}}}
spec:
  redis: {{addresses: ["127.0.0.1:1"]}}
  keyPattern: "order:pay:*"
  webhook: {webhook}
  store: {{type: {store}}}
"#
    )
}

/// Makes the object one that holds this and nothing else.
async fn hold(space: &Space<'_>, kind: &str, name: &str, key: &str, value: &str) {
    let value = if kind == "Secret" { STANDARD.encode(value) } else { value.to_owned() };
    let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": {key: value}});
    space.apply(&object.to_string()).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reason_names_the_field_and_the_fix_and_goes_when_what_is_referred_to_is_mended() {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace("refusing").await;
    let kubeconfig = space.token_kubeconfig(&account(&space).await).await;
    for row in &ROWS {
        if let Some((key, value)) = row.first {
            hold(&space, row.kind, row.name, key, value).await;
        }
        space.apply(&written(row.name, row.webhook, "Redis")).await.ok();
    }
    // Two are meant to run, and one does.
    let mut operator = operator(&space, kubeconfig, "operator-a", "2").await;
    operator.wait_ready().await;
    let observed = |name: &str| Observed::start(space.client.clone(), &space.name, name);
    for row in &ROWS {
        let seen = observed(row.name);
        let message = seen.says("Accepted", "False", row.reason).await;
        let [found, fix] = row.says;
        assert!(message.starts_with(found) && message.contains(fix), "{}: {message}", row.name);
        assert!(!message.contains("canary"), "a value is shown: {message}");
        assert_eq!(seen.condition("Ready").unwrap().1, row.reason, "{}", row.name);
        hold(&space, row.kind, row.name, "value", row.good).await;
        seen.says("Accepted", "True", "Valid").await;
        assert_eq!(seen.last().unwrap().status["observedGeneration"], 1, "nobody has touched {}", row.name);
    }
    // What is taken away is missed.
    space.kubectl(&["delete", "configmap", "map-missing"]).await.ok();
    observed("map-missing").says("Accepted", "False", "ConfigMapNotFound").await;

    // What one process alone can keep.
    let plain = |store: &str| written("not-shared", "{url: 'http://127.0.0.1:9/'}", store);
    let seen = observed("not-shared");
    for store in ["Local", "Memory"] {
        space.apply(&plain(store)).await.ok();
        let says = format!("spec.store.type is {store}, which the 2 replicas of the operator cannot share; use Redis");
        let refused = |stood: &Stood| stood.status.to_string().contains(&says);
        seen.wait(&says, Duration::from_secs(20), refused).await;
        seen.says("Accepted", "False", "StoreNotShared").await;
    }
    space.apply(&plain("Redis")).await.ok();
    seen.says("Accepted", "True", "Valid").await;
    assert!(!operator.logged().contains("canary"), "{}", operator.tail());
    operator.terminate().await;
}
