//! What holds for everything that is rendered: rights, restrictions, schemas.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use super::helm::{NAMESPACE, Objects, documents, read, root, template};

/// `kubeVersion` of Chart.yaml.
const OLDEST: u32 = 33;
const VALUES: [&str; 3] = ["everything", "namespaced", "persistent"];

pub fn renders() -> Vec<(String, Objects)> {
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
        "create events.events.k8s.io",
        "patch events.events.k8s.io",
    ])
}

fn of_the_leases() -> BTreeSet<String> {
    ["list", "watch", "create", "patch", "delete"].map(|verb| format!("{verb} leases.coordination.k8s.io")).into()
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
            {"name": "POD_UID", "valueFrom": field("metadata.uid")},
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

/// It gets as far as looking for an API server, which it is not given: 2 is what arguments that are not understood end with.
#[test]
fn the_program_takes_the_arguments_that_its_pods_give_it() {
    for (name, objects) in renders() {
        let container = &objects.find("Deployment").unwrap()["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_redis-expiry-operator"))
            .args(arguments)
            .env_clear()
            .env("POD_NAME", "operator-0")
            .env("POD_UID", "0a1b")
            .env("POD_NAMESPACE", NAMESPACE)
            .env("KUBECONFIG", "/nonexistent")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("finding the API server"), "{name}: {said}");
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
    for version in supported() {
        let output = Command::new(&tool).args(["--strict", "-k", &version]).args(&files).output().unwrap();
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

/// The versions of Kubernetes whose schemas are here, from the oldest that the chart takes to the newest.
fn supported() -> Vec<String> {
    let library = fs::read_dir(root().join("target/chart-tools/lib")).unwrap().next().unwrap().unwrap().path();
    let folders = fs::read_dir(library.join("site-packages/kubernetes_validate/kubernetes-json-schema")).unwrap();
    let mut minors: Vec<u32> = folders
        .filter_map(|folder| {
            let name = folder.unwrap().file_name().into_string().unwrap();
            name.strip_prefix("v1.")?.strip_suffix(".0-local-strict")?.parse().ok()
        })
        .filter(|minor| *minor >= OLDEST)
        .collect();
    minors.sort_unstable();
    assert!(minors.starts_with(&[33, 34, 35, 36, 37]), "schemas are missing: {minors:?}");
    minors.iter().map(|minor| format!("1.{minor}")).collect()
}
