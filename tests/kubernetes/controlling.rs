//! The controller against a real API server and real Redis, with the chart's own rights.

use std::time::Duration;

use redis_expiry_operator::commands::demo::cluster::{Cluster, Options};

use crate::{
    bed::{
        given::{KEY, account, listener, operator, order},
        kubernetes::Kubernetes,
        observed::Observed,
        operator::Operator,
        space::Space,
    },
    support::receiver::{Mode, Receiver},
};

/// What is deleted is emptied within.
const PATIENCE: Duration = Duration::from_secs(30);

async fn on_all(cluster: &Cluster, name: &str, value: &str) {
    for node in cluster.nodes() {
        cluster.config_set(&node, name, value).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trouble_has_its_reason_and_its_fix_and_goes_without_a_restart() {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace("troubles").await;
    let kubeconfig = space.token_kubeconfig(&account(&space).await).await;
    let options = Options { replicas: 0, password: Some("sesame-canary".into()), ..Options::default() };
    let cluster = Cluster::start(options).await.unwrap();
    let mut receiver = Receiver::start(KEY, &format!("{}/order-timeouts", space.name)).await;
    space.secret("webhook-key", &[("secret", KEY)]).await;
    let auth = "    passwordSecretRef: {name: redis-auth, key: password}";
    space.apply(&listener(&cluster, &receiver.url(), auth)).await.ok();
    let mut operator = operator(&space, kubeconfig, "operator-a", "1").await;
    operator.wait_ready().await;
    let seen = Observed::start(space.client.clone(), &space.name, "order-timeouts");

    let message = seen.says("Accepted", "False", "SecretNotFound").await;
    assert!(message.contains("redis-auth") && message.contains("spec.redis.passwordSecretRef"), "{message}");
    space.secret("redis-auth", &[("pasword", "x")]).await;
    let message = seen.says("Accepted", "False", "SecretKeyMissing").await;
    assert!(message.contains("which has only pasword"), "{message}");
    let set = async |value: &str| {
        let patch = format!(r#"{{"stringData":{{"password":{value:?}}}}}"#);
        space.kubectl(&["patch", "secret", "redis-auth", "--type=merge", "-p", &patch]).await.ok();
    };
    set("wrong").await;
    let message = seen.says("Ready", "False", "AuthenticationFailed").await;
    assert!(message.contains("passwordSecretRef"), "{message}");
    set("sesame-canary").await;
    // These servers have neither replicas nor a disk.
    let message = seen.says("Ready", "False", "StoreVolatile").await;
    assert!(message.contains("CONFIG SET appendonly yes"), "{message}");
    on_all(&cluster, "appendonly", "yes").await;
    // The servers' settings are looked at once a minute.
    seen.wait("Ready", Duration::from_secs(90), |stood| stood.ready).await;

    on_all(&cluster, "notify-keyspace-events", "").await;
    let message = seen.says("NotificationsEnabled", "True", "ClientTracking").await;
    assert!(message.starts_with("3/3 nodes") && message.contains("run CONFIG SET notify-keyspace-events"), "{message}");
    seen.wait_ready().await;
    let by_events = r#"{"spec":{"redis":{"changeSource":"KeyspaceEvents"}}}"#;
    space.kubectl(&["patch", "rel", "order-timeouts", "--type=merge", "-p", by_events]).await.ok();
    let message = seen.says("Ready", "False", "NotificationsDisabled").await;
    assert!(message.contains("CONFIG SET notify-keyspace-events"), "{message}");
    on_all(&cluster, "notify-keyspace-events", "Kgxe$").await;
    seen.wait_ready().await;

    the_store_refuses(&cluster, &mut operator, &seen).await;

    receiver.down();
    let mut connection = cluster.nodes()[0].connect(Duration::from_secs(2)).await.unwrap();
    for number in 0..20 {
        // Only a third of them is this node's.
        let key = format!("order:pay:{number}");
        let _: Result<(), _> =
            redis::cmd("SET").arg(key).arg("x").arg("PX").arg(300).query_async(&mut connection).await;
    }
    let message = seen.says("Delivering", "False", "SinkUnreachable").await;
    assert!(message.contains("correct spec.webhook"), "{message}");
    assert_eq!(seen.condition("Ready").unwrap().0, "True", "the receiver's mood is not ours");
    receiver.up().await;
    receiver.behave(Mode::Answers(200));
    seen.says("Delivering", "True", "Delivered").await;

    let patch = |suspend: bool| format!(r#"{{"spec":{{"suspend":{suspend}}}}}"#);
    space.kubectl(&["patch", "rel", "order-timeouts", "--type=merge", "-p", &patch(true)]).await.ok();
    seen.says("Ready", "False", "Suspended").await;
    space.kubectl(&["patch", "rel", "order-timeouts", "--type=merge", "-p", &patch(false)]).await.ok();
    seen.wait_ready().await;

    not_dialled(&space, &cluster, auth).await;
    others(&space, &cluster, auth, &seen).await;

    let events = space.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).await.ok();
    for reason in
        ["Subscribed", "SecretNotFound", "AuthenticationFailed", "NotificationsDisabled", "Suspended", "DeliveryFailed"]
    {
        assert!(events.contains(reason), "{reason} is not among {events}");
    }
    let wide = space.kubectl(&["get", "rel", "-o", "wide"]).await.ok();
    assert!(wide.contains("READY") && wide.contains("3/3") && wide.contains("operator-a"), "{wide}");
    // All of them whole, while they are there; and what their statuses said meanwhile.
    let objects = space.kubectl(&["get", "events,rel", "-o", "json"]).await.ok();
    let statuses: String = seen.seen().iter().map(|stood| stood.status.to_string()).collect();
    deleted(&space, &cluster, &operator).await;
    let all = [operator.logged(), objects, statuses, wide].concat();
    assert!(!all.contains("canary") && !all.contains(KEY), "a secret is shown: {all}");
    operator.terminate().await;
}

/// It may evict what it should keep, or denies us what we need.
async fn the_store_refuses(cluster: &Cluster, operator: &mut Operator, seen: &Observed) {
    on_all(cluster, "maxmemory-policy", "allkeys-lru").await;
    // What runs looks at the policy once a minute; what starts looks at once.
    operator.kill();
    operator.start_again();
    let message = seen.says("Ready", "False", "StoreEvicts").await;
    assert!(message.contains("maxmemory-policy noeviction"), "{message}");
    on_all(cluster, "maxmemory-policy", "noeviction").await;
    seen.wait_ready().await;

    // The listener's user may do everything but what the store needs.
    for node in cluster.nodes() {
        node.query::<()>(redis::cmd("ACL").arg("SETUSER").arg("default").arg("-evalsha")).await.unwrap();
    }
    let message = seen.says("Ready", "False", "StoreDenied").await;
    assert!(message.contains("evalsha"), "{message}");
    for node in cluster.nodes() {
        node.query::<()>(redis::cmd("ACL").arg("SETUSER").arg("default").arg("+@all")).await.unwrap();
    }
    seen.wait_ready().await;
}

/// A webhook at an address that the operator does not dial.
async fn not_dialled(space: &Space<'_>, cluster: &Cluster, auth: &str) {
    let inward = listener(cluster, "http://169.254.169.254/", auth).replace("order-timeouts", "inward");
    space.apply(&format!("{inward}  store: {{type: Local}}\n")).await.ok();
    let seen = Observed::start(space.client.clone(), &space.name, "inward");
    seen.wait_ready().await;
    order(cluster, "order:pay:inward", Duration::from_millis(300)).await;
    let message = seen.says("Delivering", "False", "EgressRefused").await;
    assert!(message.contains("169.254.169.254 is not dialled"), "{message}");
    assert!(message.contains("--allow-egress 169.254.169.254/32") && message.contains("egress.allow"), "{message}");
    assert_eq!(seen.condition("Ready").unwrap().0, "True", "what expires is heard and kept");
}

/// Other listeners with other troubles.
async fn others(space: &Space<'_>, cluster: &Cluster, auth: &str, seen: &Observed) {
    // A second that cannot be carried out disturbs nobody; it says why, and is accepted when that is mended.
    space.secret("empty-key", &[("secret", "")]).await;
    let other = listener(cluster, "http://127.0.0.1:9/", auth).replace("order-timeouts", "other");
    let other = other.replace("webhook-key", "empty-key");
    space.apply(&format!("{other}  store: {{type: Local}}\n")).await.ok();
    let refused = Observed::start(space.client.clone(), &space.name, "other");
    let message = refused.says("Accepted", "False", "SecretInvalid").await;
    let found = "spec.webhook.signing.secretKeyRefs[0] refers to key secret of Secret empty-key, which is empty";
    assert!(message.contains(found) && message.contains("put a value there"), "{message}");
    assert_eq!(seen.condition("Ready").unwrap().0, "True", "it is nobody else's trouble");
    let patch = format!(r#"{{"stringData":{{"secret":{KEY:?}}}}}"#);
    space.kubectl(&["patch", "secret", "empty-key", "--type=merge", "-p", &patch]).await.ok();
    space.kubectl(&["wait", "--for=condition=Accepted", "rel/other", "--timeout=20s"]).await.ok();

    // Seeds that nobody answers at, mended.
    let nowhere = listener(cluster, "http://127.0.0.1:9/", auth).replace("order-timeouts", "nowhere");
    let seeds = cluster.seeds().iter().fold(nowhere.clone(), |text, seed| text.replace(seed.as_str(), "127.0.0.1:1"));
    space.apply(&seeds.replace(r#""127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1""#, r#""127.0.0.1:1""#)).await.ok();
    let lost = Observed::start(space.client.clone(), &space.name, "nowhere");
    let message = lost.says("Ready", "False", "StoreUnavailable").await;
    assert!(message.contains("127.0.0.1:1") && message.contains("correct the addresses"), "{message}");
    space.apply(&nowhere).await.ok();
    lost.wait_ready().await;
}

async fn deleted(space: &Space<'_>, cluster: &Cluster, operator: &Operator) {
    // Deletion stops it and leaves nothing in Redis that stays.
    space.kubectl(&["delete", "rel", "--all"]).await.ok();
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut left = Vec::new();
        for node in cluster.nodes() {
            for key in node.query::<Vec<String>>(redis::cmd("KEYS").arg("rx:*")).await.unwrap() {
                // The epoch is remembered for a while, so that somebody late is still refused.
                let expires: i64 = node.query(redis::cmd("PTTL").arg(&key)).await.unwrap();
                if !(key.ends_with("}head") && expires > 0) {
                    left.push(key);
                }
            }
        }
        if left.is_empty() {
            break;
        }
        assert!(tokio::time::Instant::now() < give_up, "{left:?} are left\n{}", operator.tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
