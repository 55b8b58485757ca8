//! What one object says of another: selectors, ports, namespaces, hooks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    helm::{NAMESPACE, Objects},
    rendered::renders,
};

fn fits(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap();
    assert!(!selector.is_empty(), "an empty selector fits everything");
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whoever selects the operator's pods selects all of them, and neither the pod of `helm test` nor another release's.
#[test]
fn selectors_fit_the_pods_of_the_operator_alone() {
    let objects = Objects::with_values("everything");
    let deployment = objects.find("Deployment").unwrap();
    let (operator, test) =
        (&deployment["spec"]["template"]["metadata"]["labels"], &objects.find("Pod").unwrap()["metadata"]["labels"]);
    let mut other = operator.clone();
    other["app.kubernetes.io/instance"] = json!("other");
    let mut selectors = vec![
        ("Deployment", deployment["spec"]["selector"]["matchLabels"].clone()),
        (
            "PodDisruptionBudget",
            objects.find("PodDisruptionBudget").unwrap()["spec"]["selector"]["matchLabels"].clone(),
        ),
        ("NetworkPolicy", objects.find("NetworkPolicy").unwrap()["spec"]["podSelector"]["matchLabels"].clone()),
        ("Service", objects.find("Service").unwrap()["spec"]["selector"].clone()),
        ("PodMonitor", objects.find("PodMonitor").unwrap()["spec"]["selector"]["matchLabels"].clone()),
    ];
    for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"].as_array().unwrap() {
        selectors.push(("topologySpreadConstraints", spread["labelSelector"]["matchLabels"].clone()));
    }
    for (what, selector) in selectors {
        assert!(fits(&selector, operator), "{what}: {selector} does not fit {operator}");
        assert!(!fits(&selector, test), "{what}: {selector} fits the test's pod");
        assert!(!fits(&selector, &other), "{what}: {selector} fits another release's pods");
    }
}

#[test]
fn the_service_monitor_finds_the_service_and_keeps_what_a_metric_is_about() {
    let objects = Objects::with_values("namespaced");
    let monitor = &objects.find("ServiceMonitor").unwrap()["spec"];
    let service = objects.find("Service").unwrap();
    assert!(fits(&monitor["selector"]["matchLabels"], &service["metadata"]["labels"]), "{monitor:#}");
    assert!(
        service["spec"]["ports"].as_array().unwrap().iter().any(|port| port["name"] == monitor["endpoints"][0]["port"])
    );
    // The listener's namespace, not the pod's.
    assert_eq!(monitor["endpoints"][0]["honorLabels"], true);
    assert_eq!(
        Objects::with_values("everything").find("PodMonitor").unwrap()["spec"]["podMetricsEndpoints"][0]["honorLabels"],
        true
    );
}

#[test]
fn every_port_that_is_named_is_the_one_the_operator_listens_at() {
    for set in ["admin.port=8080", "admin.port=9090"] {
        let more = ["--set-json", set, "--set-json", "networkPolicy.enabled=true", "--set-json", MONITORED];
        let objects = Objects::render(&more);
        let number: u16 = set.split_once('=').unwrap().1.parse().unwrap();
        let container = &objects.find("Deployment").unwrap()["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["ports"], json!([{"name": "admin", "containerPort": number, "protocol": "TCP"}]));
        let address = json!(format!("--admin-address=0.0.0.0:{number}"));
        assert!(container["args"].as_array().unwrap().contains(&address), "{container:#}");
        for (object, pointer) in [
            ("Deployment", "/spec/template/spec/containers/0/livenessProbe/httpGet/port"),
            ("Deployment", "/spec/template/spec/containers/0/readinessProbe/httpGet/port"),
            ("Service", "/spec/ports/0/targetPort"),
            ("NetworkPolicy", "/spec/ingress/0/ports/0/port"),
            ("PodMonitor", "/spec/podMetricsEndpoints/0/port"),
        ] {
            let port = objects.find(object).unwrap().pointer(pointer);
            assert_eq!(port, Some(&json!("admin")), "{object} {pointer}");
        }
    }
}
const MONITORED: &str = r#"metrics.podMonitor={"enabled":true,"renderMode":"alwaysRender"}"#;

/// docs/install.md has the same ports in a table.
#[test]
fn the_network_policy_lets_out_to_these_ports_and_in_to_one() {
    let objects = Objects::render(&["--set-json", "networkPolicy.enabled=true"]);
    let policy = &objects.find("NetworkPolicy").unwrap()["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["ingress"], json!([{"ports": [{"protocol": "TCP", "port": "admin"}]}]));
    let mut out = BTreeSet::new();
    for rule in policy["egress"].as_array().unwrap() {
        for port in rule["ports"].as_array().unwrap() {
            out.insert(format!("{} {}", port["protocol"].as_str().unwrap(), port["port"]));
        }
    }
    let wanted = [
        "UDP 53",
        "TCP 53",
        "TCP 443",
        "TCP 6443",
        "TCP 6379",
        "TCP 6380",
        "TCP 26379",
        "TCP 80",
        "TCP 8080",
        "TCP 8443",
    ];
    assert_eq!(out, wanted.map(str::to_owned).into());
}

/// `helm template | kubectl apply` knows no other namespace than the one that is written down.
#[test]
fn every_object_of_ours_is_labelled_and_lies_where_it_should() {
    let whole = ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass"];
    for (name, objects) in renders() {
        for object in &objects.0 {
            let kind = object["kind"].as_str().unwrap();
            let metadata = &object["metadata"];
            let what = format!("{name}: {kind}/{}", metadata["name"].as_str().unwrap());
            // Those of extraObjects are the user's.
            if kind == "PriorityClass" || metadata["name"] == "demo-extra" {
                continue;
            }
            let labels = &metadata["labels"];
            assert_eq!(labels["app.kubernetes.io/name"], "redis-expiry-operator", "{what}");
            assert_eq!(labels["app.kubernetes.io/instance"], "demo", "{what}");
            assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm", "{what}");
            let namespace = metadata["namespace"].as_str();
            let scoped = ["Role", "RoleBinding"].contains(&kind);
            assert!(
                namespace == if whole.contains(&kind) { None } else { Some(NAMESPACE) }
                    || scoped && namespace.is_some_and(|namespace| ["shop", "payments"].contains(&namespace)),
                "{what} lies in {namespace:?}"
            );
        }
    }
}

#[test]
fn what_is_for_the_test_alone_is_not_installed() {
    let objects = Objects::with_values("everything");
    for what in ["Pod", "ConfigMap/demo-redis-expiry-operator-test"] {
        let annotations = &objects.find(what).unwrap()["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "test", "{what}");
        assert_eq!(annotations["helm.sh/hook-delete-policy"], "before-hook-creation", "{what}");
    }
    for object in objects.0.iter().filter(|object| object["kind"] != "Pod" && object["kind"] != "ConfigMap") {
        assert!(object["metadata"]["annotations"].get("helm.sh/hook").is_none(), "{object:#}");
    }
}

#[test]
fn labels_of_a_user_never_replace_ours() {
    let set = r#"{"app.kubernetes.io/name":"x","app.kubernetes.io/instance":"x","app.kubernetes.io/component":"x"}"#;
    let (common, pod) = (format!("commonLabels={set}"), format!("podLabels={set}"));
    let objects = Objects::render(&["--set-json", &common, "--set-json", &pod]);
    let deployment = objects.find("Deployment").unwrap();
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for (key, value) in deployment["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels.get(key), Some(value));
    }
    assert_eq!(deployment["metadata"]["labels"]["app.kubernetes.io/instance"], "demo");
}
