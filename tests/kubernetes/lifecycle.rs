//! The chart installed, upgraded, rolled back and uninstalled by helm, and the manifests applied: all that needs no pod.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde::Deserialize as _;
use serde_json::Value;

use crate::bed::{given::CHART, kubernetes::Kubernetes, space::Space};

/// The documents of a YAML file; empty ones are passed over.
pub fn documents(text: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// JSON, which is YAML: in YAML of our own making kubectl would take a `yes` for a boolean.
pub fn written(documents: impl IntoIterator<Item = Value>) -> String {
    documents.into_iter().fold(String::new(), |text, document| text + "---\n" + &document.to_string() + "\n")
}

/// The chart as it may have been once: its resource has one column less, and no field `spec.inferred`.
fn older() -> tempfile::TempDir {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copied = std::process::Command::new("cp").args(["-R", &format!("{CHART}/.")]).arg(directory.path()).status();
    assert!(copied.unwrap().success());
    let file = directory.path().join("files/crd.yaml");
    let mut crd: Value = serde_norway::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let version = &mut crd["spec"]["versions"][0];
    version["additionalPrinterColumns"].as_array_mut().unwrap().retain(|column| column["name"] != "Pattern");
    let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"].as_object_mut().unwrap().remove("inferred").expect("there is such a field");
    fs::write(&file, serde_norway::to_string(&crd).unwrap()).unwrap();
    directory
}

const CRD: &str = "crd/redisexpirylisteners.redisexpiry.io";

async fn columns(space: &Space<'_>) -> String {
    space.kubectl(&["get", CRD, "-o", "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"]).await.ok()
}

fn listener() -> String {
    let text = include_str!("../../examples/listener.yaml");
    text.replace("  namespace: shop\n", "")
}

#[tokio::test]
async fn installed_upgraded_rolled_back_and_uninstalled() {
    let kubernetes = Kubernetes::own().await;
    let space = kubernetes.namespace("release").await;
    let old = older();
    let old = old.path().to_string_lossy().into_owned();
    space.helm(&["install", "rel", &old]).await.ok();
    kubernetes.established().await;
    assert!(!columns(&space).await.contains("Pattern"));
    space.apply(&listener()).await.ok();
    let set = r#"{"spec":{"inferred":"Drop"}}"#;
    let patch = ["patch", "rel", "order-timeouts", "--type=merge", "-p", set];
    space.kubectl(&patch).await;
    let inferred = ["get", "rel", "order-timeouts", "-o", "jsonpath={.spec.inferred}"];
    assert_eq!(space.kubectl(&inferred).await.ok(), "", "the old resource has no such field");

    // An upgrade brings the new resource; the object that is there is one of it.
    space.helm(&["upgrade", "rel", CHART, "--set", "replicaCount=3"]).await.ok();
    assert!(columns(&space).await.contains("Pattern"));
    let replicas = ["get", "deployment", "-o", "jsonpath={.items[*].spec.replicas}"];
    assert_eq!(space.kubectl(&replicas).await.ok(), "3");
    // The server serves the new schema a moment after it has taken it.
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        space.kubectl(&patch).await.ok();
        if space.kubectl(&inferred).await.ok() == "Drop" {
            break;
        }
        assert!(Instant::now() < give_up, "the new field is never kept");
    }

    // A rollback goes back with the resource, and keeps the object.
    space.helm(&["rollback", "rel", "1"]).await.ok();
    assert!(!columns(&space).await.contains("Pattern"));
    assert_eq!(space.kubectl(&replicas).await.ok(), "2");
    space.kubectl(&["get", "rel", "order-timeouts"]).await.ok();
    space.helm(&["upgrade", "rel", CHART]).await.ok();
    let history = space.helm(&["history", "rel", "-o", "json"]).await.ok();
    let history: Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history.as_array().unwrap().len(), 4, "{history:#}");

    // Uninstalled, nothing is left but the resource and its objects.
    space.helm(&["uninstall", "rel"]).await.ok();
    let kinds = "deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies,secrets";
    assert_eq!(space.kubectl(&["get", kinds, "-o", "name"]).await.ok(), "");
    let left = kubernetes.kubectl(&["get", "clusterroles,clusterrolebindings", "-o", "name"]).await.ok();
    assert!(!left.contains("redis-expiry"), "{left}");
    space.kubectl(&["get", "rel", "order-timeouts"]).await.ok();

    // Installed again it takes the resource over; told not to keep it, it takes it away with every listener.
    space.helm(&["install", "rel", CHART, "--set", "crds.keep=false"]).await.ok();
    space.helm(&["uninstall", "rel"]).await.ok();
    kubernetes.kubectl(&["wait", "--for=delete", CRD, "--timeout=20s"]).await.ok();
}

#[tokio::test]
async fn all_that_the_chart_and_the_manifests_can_make_is_taken_by_a_server() {
    let kubernetes = Kubernetes::own().await;
    kubernetes.install_crd().await;
    for name in ["shop", "payments"] {
        kubernetes.kubectl(&["create", "namespace", name]).await.ok();
    }
    let space = kubernetes.namespace("taken").await;
    for values in ["everything-values.yaml", "namespaced-values.yaml", "persistent-values.yaml"] {
        let file = Path::new(CHART).join("ci").join(values);
        let rendered = space.helm(&["template", "demo", CHART, "--values", &file.to_string_lossy()]).await.ok();
        // The Prometheus operator is not here to say what its kinds are.
        let known = |document: &Value| !document["apiVersion"].as_str().is_some_and(|of| of.starts_with("monitoring."));
        let taken = documents(&rendered).into_iter().filter(known);
        let taken = written(taken);
        let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-"];
        let said = kubernetes.run("kubectl", &apply, &taken).await.ok();
        assert!(said.contains("deployment.apps/"), "{values}: {said}");
    }
    // In earnest, as the README says it.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let install = root.join("manifests/install.yaml");
    let apply = ["apply", "--server-side", "--validate=strict", "--force-conflicts", "-f"];
    let applied = kubernetes.kubectl(&[&apply[..], &[&install.to_string_lossy()]].concat()).await.ok();
    assert!(applied.contains("deployment.apps/redis-expiry-operator serverside-applied"), "{applied}");
    for entry in fs::read_dir(root.join("manifests/examples")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "yaml") {
            kubernetes.kubectl(&[&apply[..], &[&file.to_string_lossy(), "--dry-run=server"]].concat()).await.ok();
        }
    }
}
