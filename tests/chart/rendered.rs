//! What holds for everything that is rendered: rights, restrictions, schemas.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use super::helm::{NAMESPACE, Objects, documents, read, root, template};

const VALUES: [&str; 3] = ["everything", "namespaced", "persistent"];

fn renders() -> Vec<(String, Objects)> {
    let mut renders = vec![("default".to_owned(), Objects::render(&[]))];
    renders.extend(VALUES.map(|name| (name.to_owned(), Objects::with_values(name))));
    renders
}

/// Group/resource and verb, each a right.
fn rights(role: &Value) -> BTreeSet<String> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                rights.extend(list(&rule["verbs"]).iter().map(|verb| format!("{verb} {resource}.{group}")));
            }
        }
    }
    rights
}

fn words(rights: &[&str]) -> BTreeSet<String> {
    rights.iter().map(|right| (*right).to_owned()).collect()
}

fn of_the_operator() -> BTreeSet<String> {
    words(&[
        "get redisexpirylisteners.redisexpiry.io",
        "list redisexpirylisteners.redisexpiry.io",
        "watch redisexpirylisteners.redisexpiry.io",
        "patch redisexpirylisteners/status.redisexpiry.io",
        "get secrets.",
        "list secrets.",
        "watch secrets.",
        "get configmaps.",
        "list configmaps.",
        "watch configmaps.",
        "get services.",
        "create events.events.k8s.io",
        "patch events.events.k8s.io",
    ])
}

fn of_the_leases() -> BTreeSet<String> {
    ["get", "list", "watch", "create", "update", "patch", "delete"]
        .map(|verb| format!("{verb} leases.coordination.k8s.io"))
        .into()
}

#[test]
fn nobody_is_given_a_star() {
    for (name, objects) in renders() {
        for kind in ["Role", "ClusterRole"] {
            for role in objects.of_kind(kind) {
                assert!(!role["rules"].to_string().contains('*'), "{name}: {role:#}");
            }
        }
    }
}

#[test]
fn the_whole_cluster_takes_one_cluster_role_with_exactly_these_rights() {
    let objects = Objects::render(&[]);
    let account = json!([{"kind": "ServiceAccount", "name": "demo-redis-expiry-operator", "namespace": NAMESPACE}]);
    assert_eq!(rights(objects.find("ClusterRole/demo-redis-expiry-operator").unwrap()), of_the_operator());
    let [binding] = objects.of_kind("ClusterRoleBinding")[..] else { panic!("more than one ClusterRoleBinding") };
    assert_eq!(binding["roleRef"]["name"], "demo-redis-expiry-operator");
    assert_eq!(binding["subjects"], account);
    let [role] = objects.of_kind("Role")[..] else { panic!("more than one Role") };
    assert_eq!(rights(role), of_the_leases());
    assert_eq!(role["metadata"]["namespace"], NAMESPACE);
    let [binding] = objects.of_kind("RoleBinding")[..] else { panic!("more than one RoleBinding") };
    assert_eq!((&binding["roleRef"]["name"], &binding["subjects"]), (&role["metadata"]["name"], &account));
}

#[test]
fn named_namespaces_take_a_role_in_each_and_no_right_elsewhere() {
    let objects = Objects::render(&["--set-json", r#"watchNamespaces=["shop","payments"]"#]);
    assert!(objects.of_kind("ClusterRoleBinding").is_empty());
    for role in objects.of_kind("ClusterRole") {
        let name = role["metadata"]["name"].as_str().unwrap();
        assert!(name.ends_with("-view") || name.ends_with("-edit"), "{name}");
        assert!(!role.to_string().contains("secrets"), "{role:#}");
    }
    for namespace in ["shop", "payments"] {
        let there = |kind| -> Vec<&Value> {
            let all = objects.of_kind(kind).into_iter();
            all.filter(|object| object["metadata"]["namespace"] == namespace).collect()
        };
        let ([role], [binding]) = (&there("Role")[..], &there("RoleBinding")[..]) else { panic!("{namespace}") };
        assert_eq!(rights(role), of_the_operator());
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        assert_eq!(binding["subjects"][0]["namespace"], NAMESPACE);
    }
    assert_eq!(objects.of_kind("Role").len(), 3, "one in each namespace, one for leases");
}

#[test]
fn people_get_no_more_than_listeners() {
    let objects = Objects::render(&[]);
    let view = objects.find("ClusterRole/demo-redis-expiry-operator-view").unwrap();
    let edit = objects.find("ClusterRole/demo-redis-expiry-operator-edit").unwrap();
    let mut seen = BTreeSet::new();
    for verb in ["get", "list", "watch"] {
        seen.insert(format!("{verb} redisexpirylisteners.redisexpiry.io"));
        seen.insert(format!("{verb} redisexpirylisteners/status.redisexpiry.io"));
    }
    assert_eq!(rights(view), seen);
    let changes = ["create", "update", "patch", "delete", "deletecollection"];
    assert_eq!(rights(edit), changes.map(|verb| format!("{verb} redisexpirylisteners.redisexpiry.io")).into());
    let to = |role: &Value, who| {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{who}")] == "true"
    };
    assert!(to(view, "view") && to(view, "edit") && to(view, "admin"));
    assert!(!to(edit, "view") && to(edit, "edit") && to(edit, "admin"));
}

/// What Kubernetes' profile "restricted" asks for, and what we ask of ourselves beside it.
#[test]
fn every_pod_is_restricted() {
    let mut renders = renders();
    for file in ["manifests/examples/sidecar.yaml", "manifests/install.yaml"] {
        renders.push((file.to_owned(), Objects(documents(&read(file)))));
    }
    for (name, objects) in renders {
        let pods = objects.pods();
        assert!(!pods.is_empty(), "{name}");
        for pod in pods {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}: {pod:#}");
            assert_eq!(pod["securityContext"]["runAsUser"], 65532, "{name}: {pod:#}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}: {pod:#}");
            assert_eq!(pod["enableServiceLinks"], false, "{name}: {pod:#}");
            for host in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod.get(host).is_none(), "{name}: {host}");
            }
            let mut containers = pod["containers"].as_array().unwrap().clone();
            containers.extend(pod["initContainers"].as_array().cloned().unwrap_or_default());
            for container in containers {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{name}: {container:#}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{name}: {container:#}");
                assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{name}: {container:#}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{name}: {container:#}");
                // Throttling makes webhooks late.
                assert!(container["resources"]["limits"].get("cpu").is_none(), "{name}: {container:#}");
            }
            for volume in pod["volumes"].as_array().into_iter().flatten() {
                assert!(volume.get("hostPath").is_none(), "{name}: {volume:#}");
            }
        }
    }
}

#[test]
fn only_the_operator_has_a_token() {
    let objects = Objects::with_values("everything");
    assert_eq!(objects.find("ServiceAccount").unwrap()["automountServiceAccountToken"], false);
    assert_eq!(objects.find("Pod").unwrap()["spec"]["automountServiceAccountToken"], false);
    assert_eq!(objects.find("Deployment").unwrap()["spec"]["template"]["spec"]["automountServiceAccountToken"], true);
}

#[test]
fn a_rollout_starts_a_replica_before_it_stops_one() {
    let objects = Objects::render(&[]);
    let deployment = objects.find("Deployment").unwrap();
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    assert_eq!(deployment["spec"]["strategy"], rolling);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["livenessProbe"]["httpGet"], json!({"path": "/livez", "port": "admin"}));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({"path": "/readyz", "port": "admin"}));
    let field = |path| json!({"fieldRef": {"fieldPath": path}});
    assert_eq!(
        container["env"],
        json!([
            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
        ])
    );
    let budget = objects.find("PodDisruptionBudget").unwrap();
    assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"];
    for (index, key) in ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].iter().enumerate() {
        assert_eq!(spread[index]["topologyKey"], *key);
        assert_eq!(spread[index]["whenUnsatisfiable"], "ScheduleAnyway");
        assert_eq!(spread[index]["matchLabelKeys"], json!(["pod-template-hash"]));
    }
}

/// Whoever selects the operator's pods selects all of them, and not the pod of `helm test`.
#[test]
fn selectors_fit_the_pods_of_the_operator_alone() {
    let objects = Objects::with_values("everything");
    let deployment = objects.find("Deployment").unwrap();
    let (operator, test) =
        (&deployment["spec"]["template"]["metadata"]["labels"], &objects.find("Pod").unwrap()["metadata"]["labels"]);
    let fits = |selector: &Value, labels: &Value| {
        selector.as_object().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let monitor = &objects.find("PodMonitor").unwrap()["spec"]["selector"]["matchLabels"];
    for (what, selector) in [
        ("Deployment", &deployment["spec"]["selector"]["matchLabels"]),
        ("PodDisruptionBudget", &objects.find("PodDisruptionBudget").unwrap()["spec"]["selector"]["matchLabels"]),
        ("NetworkPolicy", &objects.find("NetworkPolicy").unwrap()["spec"]["podSelector"]["matchLabels"]),
        ("Service", &objects.find("Service").unwrap()["spec"]["selector"]),
        ("PodMonitor", monitor),
    ] {
        assert!(fits(selector, operator), "{what}: {selector} does not fit {operator}");
        assert!(!fits(selector, test), "{what}: {selector} fits the test's pod");
    }
    let objects = Objects::with_values("namespaced");
    let selector = &objects.find("ServiceMonitor").unwrap()["spec"]["selector"]["matchLabels"];
    assert!(fits(selector, &objects.find("Service").unwrap()["metadata"]["labels"]), "{selector}");
    // The listener's namespace, not the pod's.
    assert_eq!(objects.find("ServiceMonitor").unwrap()["spec"]["endpoints"][0]["honorLabels"], true);
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

#[test]
fn monitors_are_rendered_where_the_cluster_knows_them() {
    for mode in ["skipIfMissing", "failIfMissing"] {
        let set = format!("metrics.podMonitor={{\"enabled\":true,\"renderMode\":\"{mode}\"}}");
        let known = Objects::render(&["--api-versions", "monitoring.coreos.com/v1", "--set-json", &set]);
        assert!(known.find("PodMonitor").is_some(), "{mode}");
    }
    let set = "metrics.podMonitor.enabled=true";
    assert!(Objects::render(&["--set-json", set]).find("PodMonitor").is_none());
}

#[test]
fn the_definition_is_installed_as_the_program_prints_it() {
    let mut installed = Objects::render(&[]).find("CustomResourceDefinition").unwrap().clone();
    let [mut printed] = <[Value; 1]>::try_from(documents(&read("manifests/crd.yaml"))).unwrap();
    assert_eq!(installed["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert_eq!(installed["metadata"]["name"], printed["metadata"]["name"]);
    for definition in [&mut installed, &mut printed] {
        definition.as_object_mut().unwrap().remove("metadata");
        definition.as_object_mut().unwrap().remove("status");
    }
    assert_eq!(installed, printed);
}

#[test]
fn without_a_listener_the_test_prints_the_definition() {
    let objects = Objects::render(&[]);
    assert_eq!(objects.find("Pod").unwrap()["spec"]["containers"][0]["args"], json!(["crd"]));
    assert!(objects.find("ConfigMap").is_none());
}

#[test]
fn the_command_knows_the_flags_that_it_is_given() {
    // The command is on another branch.
    if !["src/commands/controller.rs", "src/commands/controller/mod.rs"].iter().any(|file| root().join(file).exists()) {
        return;
    }
    let help =
        Command::new(env!("CARGO_BIN_EXE_redis-expiry-operator")).args(["controller", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for (name, objects) in renders() {
        let container = &objects.find("Deployment").unwrap()["spec"]["template"]["spec"]["containers"][0];
        for argument in container["args"].as_array().unwrap().iter().skip(1) {
            let flag = argument.as_str().unwrap().split('=').next().unwrap();
            let known = help.split([' ', '\n', ',', '=']).any(|word| word == flag);
            assert!(known, "{name}: the command does not know {flag}:\n{help}");
        }
    }
}

/// Every object, held strictly against Kubernetes' own schemas.
#[test]
fn everything_is_valid_for_each_supported_kubernetes() {
    let tool = root().join("target/chart-tools/bin/kubernetes-validate");
    assert!(tool.exists(), "{} is missing: run `make chart-tools`", tool.display());
    let folder = tempfile::tempdir().unwrap();
    let mut files: Vec<PathBuf> =
        ["manifests/install.yaml", "manifests/examples/sidecar.yaml", "manifests/examples/acl.yaml"]
            .map(|file| root().join(file))
            .into();
    let chart = super::helm::chart();
    for name in VALUES.iter().copied().chain(["default"]) {
        let values = chart.join(format!("ci/{name}-values.yaml")).display().to_string();
        let arguments: &[&str] = if name == "default" { &[] } else { &["--values", &values] };
        let file = folder.path().join(format!("{name}.yaml"));
        fs::write(&file, template(arguments).unwrap()).unwrap();
        files.push(file);
    }
    for version in ["1.33", "1.34", "1.35", "1.36", "1.37"] {
        let output = Command::new(&tool).args(["--strict", "-k", version]).args(&files).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "Kubernetes {version}:\n{said}");
        let unknown: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("find schema") && !line.contains("monitoring.coreos.com/v1"))
            .collect();
        assert!(unknown.is_empty(), "Kubernetes {version} does not know {unknown:#?}");
        let passed = said.lines().filter(|line| line.contains("passed for resource")).count();
        assert!(passed > 40, "Kubernetes {version}: only {passed} objects were looked at:\n{said}");
    }
}
