//! A listener at work, as its metrics tell it.

use std::collections::BTreeSet;

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    model::slot_of,
};

use super::{
    documents,
    page::Page,
    process::Process,
    receiver::{Receiver, SILENT},
};

/// Nothing that is shown may hold these: a part of each key, of the URL, of a header, of the Redis password.
const CANARY: &str = "canary";
const KEYS: u32 = 24;

fn yaml(redis: &str, port: u16, names: &[&str]) -> String {
    let document = |name: &&str| {
        format!(
            "apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {{name: {name}, namespace: shop}}
spec:
  redis: {{addresses: [\"{redis}\"], keyspaceEvents: Enable}}
  keyPattern: \"{name}:*\"
  webhook:
    url: \"http://127.0.0.1:{port}/{CANARY}\"
    headers: [{{name: X-Token, valueFrom: {{secretKeyRef: {{name: api, key: token}}}}}}]
  delivery: {{retry: {{initialBackoff: 100ms, maxBackoff: 200ms}}}}
  store: {{type: Local}}
"
        )
    };
    names.iter().map(document).collect::<Vec<_>>().join("---\n")
}

async fn expire(cluster: &Cluster, number: u32) {
    let key = format!("orders:{CANARY}-{number}");
    let owner = cluster.owner(slot_of(key.as_bytes()).0).await.unwrap();
    let () = owner.query(cmd("SET").arg(key).arg("x").arg("PX").arg("200")).await.unwrap();
}

const ORDERS: (&str, &str) = ("name", "orders");

/// Of the listener `orders`.
fn of(page: &Page, name: &str, labels: &[(&str, &str)]) -> f64 {
    page.sum(name, &[&[ORDERS], labels].concat()).unwrap_or_else(|| panic!("there is no {name} {labels:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_a_listener_does_and_nothing_that_is_secret() {
    let cluster = Cluster::start(Options { replicas: 1, ..Options::default() }).await.unwrap();
    let receiver = Receiver::start();
    let redis = cluster.nodes()[0].address().clone();
    let both = yaml(&redis, receiver.port, &["orders", "others"]);
    let mut process = Process::start(&both, &[("REDIS_EXPIRY_SECRET_API_TOKEN", CANARY)]);

    let before =
        process.page("both are ready", |page| page.sum("redis_expiry_listeners", &[("ready", "true")]) == Some(2.0));
    assert_eq!(process.get("/readyz").0, 200);
    assert_eq!(process.get("/livez").0, 200);
    assert_eq!(before.families.keys().cloned().collect::<BTreeSet<_>>(), documents::shown_by_run(), "docs/metrics.md");
    assert_eq!(before.sum("redis_expiry_node_subscribed", &[ORDERS, ("role", "master")]), Some(3.0));
    assert_eq!(before.values("role"), ["master", "replica"].into());
    assert_eq!(of(&before, "redis_expiry_resyncs_total", &[("kind", "whole"), ("result", "done")]), 3.0);
    assert_eq!(of(&before, "redis_expiry_gaps_total", &[]), 0.0);

    for number in 0..KEYS {
        expire(&cluster, number).await;
    }
    let all = f64::from(KEYS);
    let after = process.page("each is delivered, and nothing is left", |page| {
        of(page, "redis_expiry_attempts_total", &[("outcome", "2xx")]) == all
            && of(page, "redis_expiry_outbox_events", &[]) == 0.0
            && of(page, "redis_expiry_tracked_keys", &[]) == 0.0
            && page.sum("redis_expiry_last_delivered_timestamp_seconds", &[ORDERS]).is_some()
    });
    assert_eq!(receiver.received(), KEYS as usize);
    for (name, labels) in [
        ("redis_expiry_events_settled_total", vec![]),
        ("redis_expiry_lateness_seconds_count", vec![]),
        ("redis_expiry_lateness_seconds_bucket", vec![("le", "5.0")]),
        ("redis_expiry_delivery_seconds_count", vec![]),
        ("redis_expiry_webhook_seconds_count", vec![]),
    ] {
        assert_eq!(of(&after, name, &labels), all, "{name}");
    }
    // Each was seen alive by the push of its birth, and gone at its deadline.
    assert!(of(&after, "redis_expiry_looks_total", &[("result", "alive")]) >= all);
    assert!(of(&after, "redis_expiry_looks_total", &[("result", "gone")]) >= all);
    assert!(of(&after, "redis_expiry_store_call_seconds_count", &[("call", "write")]) > 0.0);
    assert_eq!(after.sum("redis_expiry_attempts_total", &[("name", "others")]), Some(0.0));
    for ((name, labels), value) in &before.samples {
        let counts = before.families.get(name).is_some_and(|kind| kind == "counter") || name.ends_with("_bucket");
        let now = after.samples.get(&(name.clone(), labels.clone()));
        assert!(!counts || now.is_some_and(|now| now >= value), "{name}{labels:?}: {value} before, {now:?} now");
    }

    receiver.answer(503);
    expire(&cluster, KEYS).await;
    process.page("the failures are seen", |page| {
        of(page, "redis_expiry_attempts_total", &[("outcome", "5xx")]) >= 2.0
            && of(page, "redis_expiry_consecutive_failures", &[]) >= 2.0
            && of(page, "redis_expiry_outbox_events", &[]) == 1.0
            && of(page, "redis_expiry_outbox_oldest_age_seconds", &[]) > 0.0
    });
    for path in ["/metrics", "/", "/readyz", "/livez"] {
        let (status, shown) = process.get(path);
        assert_eq!(status, 200, "{path}");
        assert!(!shown.contains(CANARY), "{path} shows a key, a URL or a secret:\n{shown}");
    }
    assert!(process.get("/").1.contains("<b>Webhook:</b> answered 503"), "the page for people says what is wrong");

    process.declare(&yaml(&redis, receiver.port, &["orders"]));
    process.page("the series of what left are gone", |page| page.values("name") == ["orders"].into());

    receiver.answer(SILENT);
    expire(&cluster, KEYS + 1).await;
    process.page("an attempt is under way", |page| of(page, "redis_expiry_attempts_in_flight", &[]) > 0.0);
    process.signal("TERM");
    process.says("stopping");
    let (status, said) = process.get("/readyz");
    assert_eq!((status, said.contains("[-] it was not told to stop: SIGTERM")), (503, true), "{said}");
    assert_eq!(process.get("/livez").0, 200, "it drains, which is no illness");
    process.says("stopped");
    assert_eq!(process.ended(), Some(0));
}
