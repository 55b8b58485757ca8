//! The resource as a real API server takes it: what it refuses and in which words, what it adds, what it shows.

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use redis_expiry_operator::api::RedisExpiryListener;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    bed::{kubernetes::Kubernetes, space::Space},
    paths::put,
};

/// Of tests/invalid.yaml, which tests/crd.rs goes through too, without a server.
#[derive(Deserialize)]
struct Invalid {
    name: String,
    set: Map<String, Value>,
    field: String,
    says: String,
}

#[derive(Deserialize)]
struct Valid {
    set: Map<String, Value>,
}

const URL: &str = "/apis/redisexpiry.io/v1alpha1/namespaces";

/// The listener of the examples with values put into it by path; null takes a field out.
fn with(space: &Space<'_>, set: &Map<String, Value>) -> Value {
    let mut object: Value = serde_norway::from_str(include_str!("../../examples/listener.yaml")).unwrap();
    object["metadata"]["namespace"] = json!(space.name);
    put(&mut object, set.iter().map(|(path, value)| (path.as_str(), value)));
    object
}

/// Creates it as kubectl does: unknown and repeated fields are errors. `Err`: what the server says.
async fn create(space: &Space<'_>, object: &Value, options: &str) -> Result<Value, String> {
    let url = format!("{URL}/{}/redisexpirylisteners?fieldValidation=Strict{options}", space.name);
    let request = axum::http::Request::post(url).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(object).unwrap()).unwrap();
    match space.client.request(request).await {
        Ok(made) => Ok(made),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(e) => panic!("{e}"),
    }
}

#[tokio::test]
async fn what_is_invalid_is_refused_with_a_message_that_names_the_field() {
    let space = Kubernetes::shared().await.namespace("invalid").await;
    let table: Vec<Invalid> = serde_norway::from_str(include_str!("../invalid.yaml")).unwrap();
    assert!(table.len() >= 25, "only {} cases", table.len());
    let mut wrong = Vec::new();
    for case in table {
        match create(&space, &with(&space, &case.set), "&dryRun=All").await {
            Ok(_) => wrong.push(format!("{}: it was taken", case.name)),
            Err(message) if message.contains(&case.field) && message.contains(&case.says) => {}
            Err(message) => {
                wrong.push(format!("{}: neither {} nor {:?}: {message}", case.name, case.field, case.says));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_valid_is_taken() {
    let space = Kubernetes::shared().await.namespace("valid").await;
    let table: Vec<Valid> = serde_norway::from_str(include_str!("../valid.yaml")).unwrap();
    let mut wrong = Vec::new();
    for case in &table {
        if let Err(message) = create(&space, &with(&space, &case.set), "&dryRun=All").await {
            wrong.push(format!("{:?}: {message}", case.set));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_stored_object_has_the_defaults() {
    let space = Kubernetes::shared().await.namespace("defaults").await;
    let stored = create(&space, &with(&space, &Map::new()), "").await.unwrap();
    for (path, value) in [
        ("/spec/suspend", json!(false)),
        ("/spec/inferred", json!("Deliver")),
        ("/spec/redis/mode", json!("Cluster")),
        ("/spec/redis/database", json!(0)),
        ("/spec/redis/keyspaceEvents", json!("Observe")),
        ("/spec/redis/topologyRefresh", json!("1s")),
        ("/spec/resync/interval", json!("10m")),
        ("/spec/webhook/timeouts/connect", json!("2s")),
        ("/spec/webhook/timeouts/request", json!("10s")),
        ("/spec/webhook/payload/type", json!("order.timeout.expired")),
        ("/spec/delivery/retry/initialBackoff", json!("500ms")),
        ("/spec/delivery/deadline", json!("24h")),
        ("/spec/store/type", json!("Redis")),
    ] {
        assert_eq!(stored.pointer(path), Some(&value), "{path} of {stored:#}");
    }
    // Stored again as it is, it is the same: nothing in it is for the server to add.
    let again = serde_norway::to_string(&json!({
        "apiVersion": stored["apiVersion"], "kind": stored["kind"],
        "metadata": {"name": "order-timeouts"}, "spec": stored["spec"],
    }));
    space.apply(&again.unwrap()).await.ok();
    let api: Api<RedisExpiryListener> = space.api();
    let read = api.get("order-timeouts").await.unwrap();
    assert_eq!(read.metadata.generation, Some(1), "applying the defaults changes nothing");
    // Our own type has every field of it and no other.
    assert_eq!(serde_json::to_value(&read.spec).unwrap(), stored["spec"]);
}

#[tokio::test]
async fn status_is_applied_by_its_manager_alone_and_shown_in_columns() {
    let space = Kubernetes::shared().await.namespace("status").await;
    create(&space, &with(&space, &Map::new()), "").await.unwrap();
    let before = space.kubectl(&["get", "rel"]).await.ok();
    let names: Vec<&str> = before.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(names, ["NAME", "READY", "REASON", "MASTERS", "PENDING", "LAST", "DELIVERED", "AGE"], "{before}");

    let api: Api<RedisExpiryListener> = space.api();
    let status = |status: Value| {
        let status = json!({"apiVersion": "redisexpiry.io/v1alpha1", "kind": "RedisExpiryListener", "status": status});
        Patch::Apply(status)
    };
    let ready = json!({
        "observedGeneration": 1,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Listening", "message": "Subscribed to 3 of 3 masters.",
            "observedGeneration": 1, "lastTransitionTime": "2026-11-22T06:13:40Z",
        }],
        "nodes": [{
            "id": "07c37dfeb235213a872192d90877d0cd55635b91", "address": "10.0.3.7:6379", "role": "Master",
            "slots": 5461, "subscribed": true, "since": "2026-11-22T06:13:40.123456Z",
            "changeSource": "KeyspaceEvents", "notifyKeyspaceEvents": "gxeK",
        }],
        "masters": 3, "subscribedMasters": 3, "subscribed": "3/3", "owner": "operator-0",
        "webhook": "http://orders.shop.svc:80/hook", "tracked": 1234,
        "delivery": {"pending": 7, "deadLettered": 0, "lastDeliveredTime": "2026-11-22T06:13:40Z"},
    });
    let ours = PatchParams { field_manager: Some("rel-controller".into()), ..PatchParams::default() };
    let applied = api.patch_status("order-timeouts", &ours, &status(ready.clone())).await.unwrap();
    assert_eq!(applied.metadata.generation, Some(1), "a status is not a change of the spec");
    let version = applied.metadata.resource_version;
    let again = api.patch_status("order-timeouts", &ours, &status(ready)).await.unwrap();
    assert_eq!(again.metadata.resource_version, version, "the same status again writes nothing");

    // Somebody else's word is a conflict, not the last word.
    let theirs = PatchParams { field_manager: Some("somebody".into()), ..PatchParams::default() };
    let conflict = api.patch_status("order-timeouts", &theirs, &status(json!({"owner": "me"}))).await.unwrap_err();
    assert!(matches!(&conflict, kube::Error::Api(status) if status.code == 409), "{conflict}");
    // The spec is not reached by way of the status.
    let spec = json!({
        "apiVersion": "redisexpiry.io/v1alpha1", "kind": "RedisExpiryListener", "spec": {"keyPattern": "other:*"},
    });
    let merged = api.patch_status("order-timeouts", &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
    assert_eq!((merged.spec.key_pattern.as_str(), merged.metadata.generation), ("order:pay:*", Some(1)));

    let wide = space.kubectl(&["get", "rel", "-o", "wide"]).await.ok();
    let mut lines = wide.lines();
    let (head, row) = (lines.next().unwrap(), lines.next().unwrap());
    for column in ["PATTERN", "WEBHOOK", "MODE", "OWNER", "MESSAGE"] {
        assert!(head.contains(column), "{wide}");
    }
    for cell in
        ["order-timeouts", "True", "Listening", "3/3", "7", "order:pay:*", "http://orders.shop.svc:80/hook", "Cluster"]
    {
        assert!(row.contains(cell), "{cell} is not in\n{wide}");
    }
    assert!(row.contains("operator-0") && row.ends_with("Subscribed to 3 of 3 masters."), "{wide}");
    space.kubectl(&["wait", "--for=condition=Ready", "rel/order-timeouts", "--timeout=5s"]).await.ok();
    // The category, the short name and the explanations are there.
    assert!(space.kubectl(&["get", "redis", "-o", "name"]).await.ok().contains("order-timeouts"));
    let explained = space.kubectl(&["explain", "rel.spec.redis.keyspaceEvents"]).await.ok();
    assert!(explained.contains("Observe") && explained.contains("Enable"), "{explained}");
}

#[tokio::test]
async fn a_change_to_what_is_invalid_is_refused_too() {
    let space = Kubernetes::shared().await.namespace("change").await;
    create(&space, &with(&space, &Map::new()), "").await.unwrap();
    let patch =
        async |patch: &str| space.kubectl(&["patch", "rel", "order-timeouts", "--type=merge", "-p", patch]).await;
    let refused = patch(r#"{"spec":{"redis":{"database":1}}}"#).await.refused();
    assert!(refused.contains("spec.redis.database") && refused.contains("a cluster has only database 0"), "{refused}");
    let refused = space.apply("apiVersion: redisexpiry.io/v1alpha1\nkind: RedisExpiryListener\nmetadata: {name: typo}\nspec: {keyPatern: a}").await;
    let refused = refused.refused();
    assert!(refused.contains("keyPatern"), "{refused}");
    patch(r#"{"spec":{"suspend":true}}"#).await.ok();
}
