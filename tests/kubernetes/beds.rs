//! The bed itself does what it says.

use std::time::Duration;

use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, PostParams},
};

use crate::bed::{
    kubernetes::{Kubernetes, client},
    proxy::{Line, Proxy},
};

#[tokio::test]
async fn a_namespace_is_a_tests_own_and_tokens_are_held_to_rbac() {
    let kubernetes = Kubernetes::own().await;
    let (one, other) = (kubernetes.namespace("one").await, kubernetes.namespace("one").await);
    assert_ne!(one.name, other.name);
    one.secret("key", &[("secret", "sesame")]).await;
    let names = one.kubectl(&["get", "secrets", "-o", "name"]).await.ok();
    assert_eq!(names, "secret/key\n");
    assert_eq!(other.kubectl(&["get", "secrets", "-o", "name"]).await.ok(), "");
    // A ServiceAccount without a role may nothing.
    one.service_account("nobody").await;
    let powerless = client(&one.token_kubeconfig("nobody").await).await;
    let refused = Api::<Lease>::namespaced(powerless, &one.name).list(&ListParams::default()).await.unwrap_err();
    let kube::Error::Api(refused) = refused else { panic!("{refused}") };
    assert_eq!(refused.code, 403, "{refused:?}");
    assert!(refused.message.contains(&format!("system:serviceaccount:{}:nobody", one.name)), "{refused:?}");
    let version = kubernetes.kubectl(&["version"]).await.ok();
    assert!(version.contains("Server Version: v1.3"), "{version}");
}

#[tokio::test]
async fn the_api_server_goes_and_comes_back_with_its_objects() {
    let kubernetes = Kubernetes::own().await;
    let space = kubernetes.namespace("outage").await;
    let maps = space.api::<ConfigMap>();
    let metadata = ObjectMeta { name: Some("kept".into()), ..ObjectMeta::default() };
    maps.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await.unwrap();
    kubernetes.stop_api_server();
    maps.get("kept").await.unwrap_err();
    kubernetes.start_api_server().await;
    maps.get("kept").await.unwrap();
}

#[tokio::test]
async fn one_can_be_cut_from_the_api_server_while_others_are_not() {
    let kubernetes = Kubernetes::own().await;
    let space = kubernetes.namespace("cut").await;
    space.service_account("operator").await;
    space.kubectl(&["create", "role", "reads", "--verb=list", "--resource=configmaps"]).await.ok();
    let account = format!("--serviceaccount={}:operator", space.name);
    space.kubectl(&["create", "rolebinding", "reads", "--role=reads", &account]).await.ok();
    let mut proxy = Proxy::start(kubernetes.address()).await;
    let kubeconfig = kubernetes.token_kubeconfig(&space.name, "operator", proxy.address()).await;
    let behind = Api::<ConfigMap>::namespaced(client(&kubeconfig).await, &space.name);
    let all = ListParams::default();
    behind.list(&all).await.unwrap();
    proxy.set(Line::Hangs).await;
    let waits = tokio::time::timeout(Duration::from_millis(500), behind.list(&all)).await;
    assert!(waits.is_err(), "it hangs: {waits:?}");
    space.api::<ConfigMap>().list(&all).await.unwrap();
    proxy.set(Line::Passes).await;
    behind.list(&all).await.unwrap();
    proxy.set(Line::Refuses).await;
    let refused = tokio::time::timeout(Duration::from_secs(2), behind.list(&all)).await.expect("it is refused at once");
    refused.unwrap_err();
    proxy.set(Line::Passes).await;
    behind.list(&all).await.unwrap();
}
