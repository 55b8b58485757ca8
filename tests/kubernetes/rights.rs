//! What the chart's own ServiceAccount may do, asked with its token; and that its pods are as restricted as pods can be.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use crate::{
    bed::{
        given::{CHART, install},
        kubernetes::{Kubernetes, client},
        space::Space,
    },
    lifecycle::{documents, written},
};

/// A client that is the installed chart's ServiceAccount.
async fn installed(space: &Space<'_>, more: &[&str]) -> Client {
    install(space, more).await;
    client(&space.token_kubeconfig(&space.name).await).await
}

/// Whether it may `verb` the resource, as `group/resource` or `group/resource/subresource`, in the namespace.
async fn may(client: &Client, verb: &str, what: &str, namespace: &str) -> bool {
    let mut parts = what.split('/').map(ToOwned::to_owned);
    let attributes = ResourceAttributes {
        verb: Some(verb.into()),
        group: parts.next(),
        resource: parts.next(),
        subresource: parts.next(),
        namespace: Some(namespace.into()),
        ..ResourceAttributes::default()
    };
    allowed(client, SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() }).await
}

async fn allowed(client: &Client, spec: SelfSubjectAccessReviewSpec) -> bool {
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviewed = Api::all(client.clone()).create(&PostParams::default(), &review).await;
    reviewed.unwrap().status.expect("it is answered with its status").allowed
}

/// Everything that it may do in the namespace, as "verb group/resource", but what every ServiceAccount may.
async fn all(account: &Client, namespace: &Space<'_>) -> BTreeSet<String> {
    namespace.service_account("nobody").await;
    let nobody = client(&namespace.token_kubeconfig("nobody").await).await;
    let everybody = ruled(&nobody, &namespace.name).await;
    ruled(account, &namespace.name).await.difference(&everybody).cloned().collect()
}

async fn ruled(client: &Client, namespace: &str) -> BTreeSet<String> {
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.into()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let reviewed = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
    let status = reviewed.status.expect("it is answered with its status");
    assert!(!status.incomplete, "{status:?}");
    let mut rights = BTreeSet::new();
    for rule in status.resource_rules {
        assert!(rule.resource_names.is_none(), "{rule:?}");
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    rights.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    rights
        .retain(|right| !right.contains("authorization.k8s.io/selfsubject") && !right.contains("/selfsubjectreviews"));
    rights
}

fn rights(of: &[(&str, &str)]) -> BTreeSet<String> {
    let each = |(what, verbs): &(&str, &str)| -> Vec<String> {
        verbs.split(' ').map(|verb| format!("{verb} {what}")).collect()
    };
    of.iter().flat_map(each).collect()
}

const LISTENERS: [(&str, &str); 5] = [
    ("redisexpiry.io/redisexpirylisteners", "get list watch"),
    ("redisexpiry.io/redisexpirylisteners/status", "patch"),
    ("/secrets", "get list watch"),
    ("/configmaps", "get list watch"),
    ("events.k8s.io/events", "create patch"),
];
const LEASES: [(&str, &str); 1] = [("coordination.k8s.io/leases", "list watch create patch delete")];

/// What must stay forbidden, whatever else is said here.
const NEVER: [(&str, &str); 9] = [
    ("create", "/pods"),
    ("create", "/secrets"),
    ("patch", "/secrets"),
    ("delete", "redisexpiry.io/redisexpirylisteners"),
    ("patch", "redisexpiry.io/redisexpirylisteners"),
    ("create", "rbac.authorization.k8s.io/rolebindings"),
    ("create", "/serviceaccounts/token"),
    ("patch", "apiextensions.k8s.io/customresourcedefinitions"),
    ("impersonate", "/serviceaccounts"),
];

#[tokio::test]
async fn cluster_wide_it_may_read_what_listeners_name_and_write_nothing_but_status_events_and_its_leases() {
    let kubernetes = Kubernetes::shared().await;
    let (space, other) = (kubernetes.namespace("rights").await, kubernetes.namespace("elsewhere").await);
    let account = installed(&space, &[]).await;
    let everywhere = rights(&LISTENERS);
    assert_eq!(all(&account, &other).await, everywhere);
    assert_eq!(all(&account, &space).await, everywhere.union(&rights(&LEASES)).cloned().collect());
    // In all namespaces at once, as it watches; and never these.
    for what in ["redisexpiry.io/redisexpirylisteners", "/secrets", "/configmaps"] {
        assert!(may(&account, "watch", what, "").await, "{what}");
    }
    assert!(!may(&account, "list", "coordination.k8s.io/leases", "").await);
    for (verb, what) in NEVER {
        assert!(!may(&account, verb, what, &space.name).await, "it may {verb} {what}");
    }
    let path = NonResourceAttributes { path: Some("/metrics".into()), verb: Some("get".into()) };
    let spec = SelfSubjectAccessReviewSpec { non_resource_attributes: Some(path), ..Default::default() };
    assert!(!allowed(&account, spec).await);
}

#[tokio::test]
async fn with_watch_namespaces_it_may_nothing_elsewhere() {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace("team").await;
    let (watched, other) = (kubernetes.namespace("watched").await, kubernetes.namespace("elsewhere").await);
    let account = installed(&space, &["--set", &format!("watchNamespaces={{{}}}", watched.name)]).await;
    assert_eq!(all(&account, &watched).await, rights(&LISTENERS));
    assert_eq!(all(&account, &space).await, rights(&LEASES));
    assert_eq!(all(&account, &other).await, BTreeSet::new());
    for (verb, what) in LISTENERS.iter().flat_map(|(what, verbs)| verbs.split(' ').map(move |verb| (verb, *what))) {
        assert!(!may(&account, verb, what, "").await, "it may {verb} {what} everywhere");
    }
    // And so it goes in earnest.
    watched.secret("redis-auth", &[("password", "sesame")]).await;
    other.secret("redis-auth", &[("password", "sesame")]).await;
    let kubeconfig = space.token_kubeconfig(&space.name).await;
    let kubeconfig = kubeconfig.to_string_lossy();
    let get = async |space: &Space<'_>| {
        space.kubectl(&["--kubeconfig", &kubeconfig, "get", "secret", "redis-auth", "-o", "name"]).await
    };
    assert_eq!(get(&watched).await.ok(), "secret/redis-auth\n");
    assert!(get(&other).await.refused().contains("is forbidden"));
}

#[tokio::test]
async fn its_pods_are_taken_where_pod_security_is_restricted() {
    let space = Kubernetes::shared().await.namespace("restricted").await;
    for label in ["enforce=restricted", "enforce-version=latest"] {
        let label = format!("pod-security.kubernetes.io/{label}");
        space.kubernetes.kubectl(&["label", "namespace", &space.name, &label]).await.ok();
    }
    let created = async |file: &str, more: &[&str]| {
        let pods = pods(&space, file, more).await;
        space.kubectl_with(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &pods).await
    };
    for values in ["", "everything-values.yaml", "namespaced-values.yaml", "persistent-values.yaml"] {
        let made = created(values, &[]).await.ok();
        // The operator's and that of `helm test`.
        assert_eq!(made.lines().filter(|line| line.contains("pod/")).count(), 2, "{values}: {made}");
    }
    // The server does look.
    let refused = created("", &["--set", "securityContext.allowPrivilegeEscalation=true"]).await.refused();
    assert!(refused.contains("violates PodSecurity") && refused.contains("restricted"), "{refused}");
}

/// The pods that the chart makes, rendered with one of its ci values and more.
async fn pods(space: &Space<'_>, values: &str, more: &[&str]) -> String {
    let mut words: Vec<String> = ["template", "demo", CHART].map(ToOwned::to_owned).into();
    if !values.is_empty() {
        let file: PathBuf = Path::new(CHART).join("ci").join(values);
        words.extend(["--values".to_owned(), file.to_string_lossy().into_owned()]);
    }
    words.extend(more.iter().map(|word| (*word).to_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let rendered = space.helm(&words).await.ok();
    let mut pods = Vec::new();
    for document in documents(&rendered) {
        match document["kind"].as_str() {
            Some("Pod") => pods.push(document),
            Some("Deployment") => {
                let mut pod = document["spec"]["template"].clone();
                pod["apiVersion"] = "v1".into();
                pod["kind"] = "Pod".into();
                pod["metadata"]["name"] = "operator".into();
                pods.push(pod);
            }
            _ => {}
        }
    }
    for pod in &mut pods {
        pod["metadata"]["namespace"] = space.name.as_str().into();
    }
    written(pods)
}
