//! values.schema.json refuses what it does not know, and says what is wrong.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    helm::{chart, documents, read, run, template},
    values::leaves,
};

/// Arguments, and what helm must say. Each is one mistake.
const REFUSED: &[(&str, &str)] = &[
    ("replicaCount=0", "/replicaCount': minimum: got 0, want 1"),
    ("replicaCount=\"2\"", "/replicaCount': got string, want integer"),
    ("replicaCont=3", "additional properties 'replicaCont' not allowed"),
    ("image.tagg=\"x\"", "at '/image': additional properties 'tagg' not allowed"),
    ("image.digest=\"sha256:1\"", "/image/digest': 'sha256:1' does not match"),
    ("image.repository=\"\"", "/image/repository'"),
    ("image.pullPolicy=\"Sometimes\"", "/image/pullPolicy': value must be one of"),
    ("watchNamespaces=[\"Shop\"]", "/watchNamespaces/0': 'Shop' does not match"),
    ("watchNamespaces=[\"\"]", "/watchNamespaces/0'"),
    ("leases.renew=\"2 s\"", "/leases/renew': '2 s' does not match"),
    ("drainTimeout=25", "/drainTimeout': got number, want string"),
    ("egress.allow=[\"localhost\"]", "/egress/allow/0'"),
    ("egress.allow=[\"999.1.1.1/8\"]", "/egress/allow/0'"),
    ("egress.allow=[\"10.0.0.0/33\"]", "/egress/allow/0'"),
    ("watchLabelSelector=\"tier:gold\"", "/watchLabelSelector': 'tier:gold' does not match"),
    ("log.format=\"JSON\"", "/log/format': value must be one of"),
    ("admin.port=80", "/admin/port': minimum: got 80, want 1,024"),
    ("commonLabels={\"a\":1}", "/commonLabels/a': got number, want string"),
    ("metrics.podMonitor.renderMode=\"always\"", "/metrics/podMonitor/renderMode': value must be one of"),
    ("store.local.persistence.size=\"1 GB\"", "/store/local/persistence/size'"),
    ("resources.limits.memory=\"lots\"", "/resources/limits/memory'"),
    ("metrics.prometheusRule.runbookBaseUrl=\"https://x\"", "runbookBaseUrl'"),
    // Two values at once: the templates.
    ("terminationGracePeriodSeconds=25", "terminationGracePeriodSeconds (25) must be longer than drainTimeout (25s)"),
    ("drainTimeout=\"1m30s\"", "terminationGracePeriodSeconds (45) must be longer than drainTimeout (1m30s)"),
    ("leases.expiry=\"3999ms\"", "leases.expiry (3999ms) must be at least twice leases.renew (2s)"),
    ("store.local.persistence.enabled=true", "store.local.persistence.enabled needs replicaCount: 1, found 2"),
    ("extraEnv=[{\"name\":\"POD_NAME\",\"value\":\"x\"}]", "extraEnv: POD_NAME is set by the chart"),
    ("extraPodSpec={\"containers\":[]}", "extraPodSpec.containers: the chart sets this field"),
    ("metrics.podMonitor.enabled=true,metrics.serviceMonitor.enabled=true", "every pod would be scraped twice"),
    ("metrics.serviceMonitor.enabled=true,metrics.service.enabled=false", "needs metrics.service.enabled"),
    (
        "metrics.podMonitor={\"enabled\":true,\"renderMode\":\"failIfMissing\"}",
        "metrics.podMonitor.enabled: the cluster does not know monitoring.coreos.com/v1",
    ),
    (
        "metrics.prometheusRule={\"enabled\":true,\"renderMode\":\"alwaysRender\",\"disabledAlerts\":[\"Nope\"]}",
        "there is no alert Nope; there are RedisExpiry",
    ),
];

#[test]
fn mistakes_are_refused_with_a_message_that_names_the_value() {
    for (set, message) in REFUSED {
        let Err(said) = template(&["--set-json", set]) else { panic!("{set} was not refused") };
        assert!(said.contains(message), "{set}: expected {message:?} in\n{said}");
    }
}

#[test]
fn an_older_kubernetes_is_refused() {
    // The last one counts.
    let Err(said) = template(&["--kube-version", "1.32.9"]) else { panic!("Kubernetes 1.32 was not refused") };
    assert!(said.contains("kubeVersion: >=1.33.0-0"), "{said}");
    template(&["--kube-version", "1.33.4-gke.1"]).unwrap();
}

#[test]
fn a_user_of_the_platform_can_leave_out_what_it_assigns() {
    let rendered = template(&[
        "--set-json",
        "podSecurityContext.runAsUser=null",
        "--set-json",
        "podSecurityContext.runAsGroup=null",
        "--set-json",
        "podSecurityContext.fsGroup=null",
    ])
    .unwrap();
    assert!(documents(&rendered).len() > 5);
    assert!(!rendered.contains("65532"), "a user id is left:\n{rendered}");
}

#[test]
fn helm_lint_has_nothing_to_say() {
    let chart = chart();
    let mut runs = vec![vec!["lint".to_owned(), "--strict".to_owned(), chart.display().to_string()]];
    for name in ["everything", "namespaced", "persistent"] {
        let mut with = runs[0].clone();
        with.extend(["--values".to_owned(), chart.join(format!("ci/{name}-values.yaml")).display().to_string()]);
        runs.push(with);
    }
    for arguments in runs {
        run(&arguments).unwrap_or_else(|error| panic!("helm {arguments:?}: {error}"));
    }
}

/// What the schema admits beside values.yaml: it has no default that could be written there.
const NOT_IN_VALUES: [&str; 4] =
    ["global", "resources.claims", "probes.liveness.initialDelaySeconds", "probes.readiness.initialDelaySeconds"];

#[test]
fn schema_and_values_have_the_same_keys_and_no_level_of_ours_is_open() {
    let schema: Value = serde_json::from_str(&read("charts/redis-expiry-operator/values.schema.json")).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let mut known = BTreeSet::new();
    walk(&schema, &schema, "", &mut known);
    let values: BTreeSet<String> = leaves().into_iter().map(|leaf| leaf.path).collect();
    let below = |path: &str, known: &BTreeSet<String>| known.iter().any(|known| path.starts_with(&format!("{known}.")));
    // podSecurityContext and the like are Kubernetes' own: one open map in the schema, several values here.
    let unknown: Vec<_> = values.iter().filter(|path| !known.contains(*path) && !below(path, &known)).collect();
    assert!(unknown.is_empty(), "in values.yaml only: {unknown:?}");
    let above = |path: &String| values.iter().any(|value| value.starts_with(&format!("{path}.")));
    let unset: Vec<_> = known
        .iter()
        .filter(|path| !values.contains(*path) && !above(path) && !NOT_IN_VALUES.contains(&path.as_str()))
        .collect();
    assert!(unset.is_empty(), "in values.schema.json only: {unset:?}");
}

fn walk(root: &Value, at: &Value, path: &str, known: &mut BTreeSet<String>) {
    let at = match at["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => at,
    };
    if let Some(properties) = at["properties"].as_object() {
        assert_eq!(at["additionalProperties"], false, "values.schema.json: {path} lets typos pass");
        for (key, inner) in properties {
            walk(root, inner, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, known);
        }
    } else {
        known.insert(path.to_owned());
    }
}
