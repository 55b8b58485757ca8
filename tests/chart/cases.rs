//! What each value of values.yaml does: no value without a case, no case that holds without its value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    helm::{Objects, read},
    values::leaves,
};

const NAME: &str = "demo-redis-expiry-operator";
const CONTAINER: &str = "/spec/template/spec/containers/0";
const POD: &str = "/spec/template/spec";

/// A value, and what must then be seen in what is rendered.
struct Case {
    path: &'static str,
    value: Value,
    /// What else must be set for it to have a meaning.
    given: Vec<(&'static str, Value)>,
    object: String,
    pointer: String,
    want: Want,
}

enum Want {
    /// This, at the pointer.
    Is(Value),
    /// A list that has this.
    Has(Value),
    /// The object, with nothing at the pointer.
    Nothing,
    /// No such object.
    NoObject,
}

fn case(path: &'static str, value: Value) -> Case {
    let (object, pointer) = (String::new(), String::new());
    Case { path, value, given: Vec::new(), object, pointer, want: Want::NoObject }
}

impl Case {
    fn given(mut self, path: &'static str, value: Value) -> Self {
        self.given.push((path, value));
        self
    }

    fn wants(mut self, object: &str, pointer: &str, want: Want) -> Self {
        (self.object, self.pointer, self.want) = (object.to_owned(), pointer.to_owned(), want);
        self
    }

    fn is(self, object: &str, pointer: &str, value: Value) -> Self {
        self.wants(object, pointer, Want::Is(value))
    }

    fn has(self, object: &str, pointer: &str, value: Value) -> Self {
        self.wants(object, pointer, Want::Has(value))
    }

    fn nothing(self, object: &str, pointer: &str) -> Self {
        self.wants(object, pointer, Want::Nothing)
    }

    fn no(self, object: &str) -> Self {
        self.wants(object, "", Want::NoObject)
    }

    fn pod(self, pointer: &str, value: Value) -> Self {
        self.is("Deployment", &format!("{POD}{pointer}"), value)
    }

    fn container(self, pointer: &str, value: Value) -> Self {
        self.is("Deployment", &format!("{CONTAINER}{pointer}"), value)
    }

    fn argument(self, argument: &str) -> Self {
        self.has("Deployment", &format!("{CONTAINER}/args"), json!(argument))
    }

    fn holds(&self, objects: &Objects) -> bool {
        let object = objects.find(&self.object);
        let at = object.and_then(|object| object.pointer(&self.pointer));
        match &self.want {
            Want::Is(value) => at == Some(value),
            Want::Has(value) => at.and_then(Value::as_array).is_some_and(|items| items.contains(value)),
            Want::Nothing => object.is_some() && at.is_none(),
            Want::NoObject => object.is_none(),
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = program();
    cases.extend(pod());
    cases.extend(storage());
    cases.extend(cluster());
    cases.extend(network());
    cases.extend(monitoring());
    cases.extend(rest());
    cases
}

/// What the program is told, and where it comes from.
fn program() -> Vec<Case> {
    let digest = format!("sha256:{}", "0a".repeat(32));
    vec![
        case("replicaCount", json!(3)).is("Deployment", "/spec/replicas", json!(3)),
        case("replicaCount", json!(3)).argument("--replicas=3"),
        // A budget for one replica would block the draining of its node.
        case("replicaCount", json!(1)).no("PodDisruptionBudget"),
        case("revisionHistoryLimit", json!(7)).is("Deployment", "/spec/revisionHistoryLimit", json!(7)),
        case("image.registry", json!("r.example/x/"))
            .container("/image", json!("r.example/x/redis-expiry-operator:0.1.0")),
        case("image.repository", json!("team/rxo")).container("/image", json!("team/rxo:0.1.0")),
        case("image.tag", json!("1.2.3")).container("/image", json!("redis-expiry-operator:1.2.3")),
        case("image.digest", json!(digest))
            .given("image.tag", json!("1.2.3"))
            .container("/image", json!(format!("redis-expiry-operator@{digest}"))),
        case("image.pullPolicy", json!("Always")).container("/imagePullPolicy", json!("Always")),
        case("imagePullSecrets", json!([{"name": "pull"}])).pod("/imagePullSecrets", json!([{"name": "pull"}])),
        case("watchNamespaces", json!(["shop", "payments"])).argument("--watch-namespace=payments"),
        case("watchNamespaces", json!(["shop"])).is(&format!("Role/{NAME}"), "/metadata/namespace", json!("shop")),
        case("watchNamespaces", json!(["shop"])).no(&format!("ClusterRole/{NAME}")),
        case("watchLabelSelector", json!("tier in (a,b)")).argument("--watch-label-selector=tier in (a,b)"),
        case("leases.renew", json!("1s")).argument("--lease-renew=1s"),
        case("leases.expiry", json!("9s")).argument("--lease-expiry=9s"),
        case("drainTimeout", json!("10s")).argument("--drain-timeout=10s"),
        case("terminationGracePeriodSeconds", json!(90)).pod("/terminationGracePeriodSeconds", json!(90)),
        case("egress.allow", json!(["127.0.0.0/8", "::1/128"])).argument("--allow-egress=::1/128"),
        case("log.filter", json!("warn,x=debug")).argument("--log=warn,x=debug"),
        case("log.format", json!("text")).argument("--log-format=text"),
        case("admin.host", json!("[::]")).argument("--admin-address=[::]:8080"),
        case("admin.port", json!(9090)).argument("--admin-address=0.0.0.0:9090"),
        case("admin.port", json!(9090)).container("/ports/0/containerPort", json!(9090)),
        case("extraArgs", json!(["--log=debug"])).argument("--log=debug"),
        case("extraEnv", json!([{"name": "A", "value": "1"}])).container("/env/3", json!({"name": "A", "value": "1"})),
    ]
}

/// The pod, and where it runs.
fn pod() -> Vec<Case> {
    let volume = json!({"name": "ca", "configMap": {"name": "ca"}});
    let mount = json!({"name": "ca", "mountPath": "/ca"});
    let toleration = json!([{"key": "dedicated", "operator": "Exists"}]);
    let affinity = json!({"podAntiAffinity": {}});
    vec![
        case("resources.requests.cpu", json!("1")).container("/resources/requests/cpu", json!("1")),
        case("resources.requests.memory", json!("1Gi")).container("/resources/requests/memory", json!("1Gi")),
        case("resources.limits.memory", json!("1Gi")).container("/resources/limits/memory", json!("1Gi")),
        case("probes.liveness.periodSeconds", json!(11)).container("/livenessProbe/periodSeconds", json!(11)),
        case("probes.liveness.timeoutSeconds", json!(11)).container("/livenessProbe/timeoutSeconds", json!(11)),
        case("probes.liveness.failureThreshold", json!(11)).container("/livenessProbe/failureThreshold", json!(11)),
        case("probes.readiness.periodSeconds", json!(11)).container("/readinessProbe/periodSeconds", json!(11)),
        case("probes.readiness.timeoutSeconds", json!(11)).container("/readinessProbe/timeoutSeconds", json!(11)),
        case("probes.readiness.failureThreshold", json!(11)).container("/readinessProbe/failureThreshold", json!(11)),
        case("podSecurityContext.runAsNonRoot", json!(false)).pod("/securityContext/runAsNonRoot", json!(false)),
        case("podSecurityContext.runAsUser", json!(7)).pod("/securityContext/runAsUser", json!(7)),
        case("podSecurityContext.runAsGroup", json!(7)).pod("/securityContext/runAsGroup", json!(7)),
        case("podSecurityContext.fsGroup", json!(7)).pod("/securityContext/fsGroup", json!(7)),
        case("podSecurityContext.seccompProfile.type", json!("Localhost"))
            .pod("/securityContext/seccompProfile/type", json!("Localhost")),
        case("securityContext.allowPrivilegeEscalation", json!(true))
            .container("/securityContext/allowPrivilegeEscalation", json!(true)),
        case("securityContext.readOnlyRootFilesystem", json!(false))
            .container("/securityContext/readOnlyRootFilesystem", json!(false)),
        case("securityContext.capabilities.drop", json!(["NET_RAW"]))
            .container("/securityContext/capabilities/drop", json!(["NET_RAW"])),
        case("hostUsers", json!(false)).pod("/hostUsers", json!(false)),
        case("podLabels", json!({"team": "a"})).is("Deployment", "/spec/template/metadata/labels/team", json!("a")),
        case("podAnnotations", json!({"a": "b"})).is("Deployment", "/spec/template/metadata/annotations/a", json!("b")),
        case("deploymentAnnotations", json!({"a": "b"})).is("Deployment", "/metadata/annotations/a", json!("b")),
        case("extraVolumes", json!([volume])).pod("/volumes/1", volume.clone()),
        case("extraVolumeMounts", json!([mount])).container("/volumeMounts/1", mount.clone()),
        case("extraPodSpec", json!({"dnsPolicy": "Default"})).pod("/dnsPolicy", json!("Default")),
        case("podDisruptionBudget.enabled", json!(false)).no("PodDisruptionBudget"),
        case("podDisruptionBudget.maxUnavailable", json!("50%")).is(
            "PodDisruptionBudget",
            "/spec/maxUnavailable",
            json!("50%"),
        ),
        case("topologySpreadConstraints", json!([])).nothing("Deployment", &format!("{POD}/topologySpreadConstraints")),
        case("topologySpreadConstraints", json!([{"topologyKey": "rack"}]))
            .pod("/topologySpreadConstraints/0/labelSelector/matchLabels/app.kubernetes.io~1instance", json!("demo"))
            // By default it is there as well.
            .given("topologySpreadConstraints", json!([{"topologyKey": "rack", "labelSelector": {}}])),
        case("priorityClassName", json!("high")).pod("/priorityClassName", json!("high")),
        case("nodeSelector", json!({"disk": "ssd"})).pod("/nodeSelector", json!({"disk": "ssd"})),
        case("tolerations", toleration.clone()).pod("/tolerations", toleration),
        case("affinity", affinity.clone()).pod("/affinity", affinity),
    ]
}

fn storage() -> Vec<Case> {
    let persistent = |path, value| {
        case(path, value).given("replicaCount", json!(1)).given("store.local.persistence.enabled", json!(true)).wants(
            "",
            "",
            Want::NoObject,
        )
    };
    let claim = "PersistentVolumeClaim";
    let keep = "/metadata/annotations/helm.sh~1resource-policy";
    vec![
        case("store.local.emptyDir.sizeLimit", json!("1Gi")).pod("/volumes/0/emptyDir/sizeLimit", json!("1Gi")),
        case("store.local.persistence.enabled", json!(true))
            .given("replicaCount", json!(1))
            .pod("/volumes/0/persistentVolumeClaim/claimName", json!(format!("{NAME}-state"))),
        case("store.local.persistence.enabled", json!(true)).given("replicaCount", json!(1)).is(
            "Deployment",
            "/spec/strategy",
            json!({"type": "Recreate"}),
        ),
        persistent("store.local.persistence.existingClaim", json!("mine")).no(claim),
        persistent("store.local.persistence.existingClaim", json!("mine"))
            .pod("/volumes/0/persistentVolumeClaim/claimName", json!("mine")),
        persistent("store.local.persistence.storageClassName", json!("fast")).is(
            claim,
            "/spec/storageClassName",
            json!("fast"),
        ),
        persistent("store.local.persistence.accessModes", json!(["ReadWriteOncePod"])).is(
            claim,
            "/spec/accessModes",
            json!(["ReadWriteOncePod"]),
        ),
        persistent("store.local.persistence.size", json!("9Gi")).is(
            claim,
            "/spec/resources/requests/storage",
            json!("9Gi"),
        ),
        persistent("store.local.persistence.annotations", json!({"a": "b"})).is(
            claim,
            "/metadata/annotations/a",
            json!("b"),
        ),
        persistent("store.local.persistence.keep", json!(false)).nothing(claim, keep),
        persistent("store.local.persistence.keep", json!(false))
            .given("store.local.persistence.annotations", json!({"a": "b"}))
            .nothing(claim, keep),
    ]
}

/// The resource's definition, rights, accounts.
fn cluster() -> Vec<Case> {
    let aggregated = |to| format!("/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-{to}");
    let (view, edit) = (format!("ClusterRole/{NAME}-view"), format!("ClusterRole/{NAME}-edit"));
    vec![
        case("crds.install", json!(false)).no("CustomResourceDefinition"),
        case("crds.keep", json!(false))
            .nothing("CustomResourceDefinition", "/metadata/annotations/helm.sh~1resource-policy"),
        case("crds.annotations", json!({"a": "b"})).is(
            "CustomResourceDefinition",
            "/metadata/annotations/a",
            json!("b"),
        ),
        case("rbac.create", json!(false)).no(&format!("ClusterRole/{NAME}")),
        case("rbac.create", json!(false)).no("ClusterRoleBinding"),
        case("rbac.create", json!(false)).no("Role"),
        case("rbac.create", json!(false)).no("RoleBinding"),
        case("rbac.aggregatedRoles.create", json!(false)).no(&view),
        case("rbac.aggregatedRoles.create", json!(false)).no(&edit),
        case("rbac.aggregatedRoles.view", json!(false)).nothing(&view, &aggregated("view")),
        case("rbac.aggregatedRoles.edit", json!(false)).nothing(&edit, &aggregated("edit")),
        case("rbac.aggregatedRoles.edit", json!(false)).nothing(&view, &aggregated("edit")),
        case("rbac.aggregatedRoles.admin", json!(false)).nothing(&edit, &aggregated("admin")),
        case("rbac.aggregatedRoles.admin", json!(false)).nothing(&view, &aggregated("admin")),
        case("serviceAccount.create", json!(false)).no("ServiceAccount"),
        case("serviceAccount.name", json!("sa")).is("ServiceAccount", "/metadata/name", json!("sa")),
        case("serviceAccount.name", json!("sa"))
            .given("serviceAccount.create", json!(false))
            .pod("/serviceAccountName", json!("sa")),
        case("serviceAccount.name", json!("sa")).is("ClusterRoleBinding", "/subjects/0/name", json!("sa")),
        case("serviceAccount.name", json!("sa")).is("RoleBinding", "/subjects/0/name", json!("sa")),
        case("serviceAccount.annotations", json!({"a": "b"})).is(
            "ServiceAccount",
            "/metadata/annotations/a",
            json!("b"),
        ),
        case("serviceAccount.automount", json!(true)).is(
            "ServiceAccount",
            "/automountServiceAccountToken",
            json!(true),
        ),
    ]
}

fn network() -> Vec<Case> {
    let policy = |path, value| case(path, value).given("networkPolicy.enabled", json!(true));
    let peer = json!([{"namespaceSelector": {}}]);
    let ports = |port: u16| json!({"ports": [{"protocol": "TCP", "port": port}]});
    let rule = json!({"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]});
    vec![
        case("networkPolicy.enabled", json!(true)).is(
            "NetworkPolicy",
            "/spec/policyTypes",
            json!(["Ingress", "Egress"]),
        ),
        policy("networkPolicy.ingressFrom", peer.clone()).is("NetworkPolicy", "/spec/ingress/0/from", peer.clone()),
        policy("networkPolicy.dnsTo", peer.clone()).is("NetworkPolicy", "/spec/egress/0/to", peer),
        policy("networkPolicy.apiServerPorts", json!([7443])).has("NetworkPolicy", "/spec/egress", ports(7443)),
        policy("networkPolicy.redisPorts", json!([7000])).has("NetworkPolicy", "/spec/egress", ports(7000)),
        policy("networkPolicy.webhookPorts", json!([7080])).has("NetworkPolicy", "/spec/egress", ports(7080)),
        policy("networkPolicy.extraEgress", json!([rule])).has("NetworkPolicy", "/spec/egress", rule),
    ]
}

fn monitoring() -> Vec<Case> {
    let mut cases = vec![
        case("metrics.service.enabled", json!(false)).no("Service"),
        case("metrics.service.port", json!(81)).is("Service", "/spec/ports/0/port", json!(81)),
        case("metrics.service.labels", json!({"a": "b"})).is("Service", "/metadata/labels/a", json!("b")),
        case("metrics.service.annotations", json!({"a": "b"})).is("Service", "/metadata/annotations/a", json!("b")),
    ];
    let relabelings = json!([{"action": "drop", "regex": "x"}]);
    macro_rules! monitor {
        ($value:literal, $kind:literal, $endpoint:literal) => {
            let enabled = |path, value| {
                case(path, value)
                    .given(concat!("metrics.", $value, ".enabled"), json!(true))
                    .given(concat!("metrics.", $value, ".renderMode"), json!("alwaysRender"))
            };
            cases.extend([
                case(concat!("metrics.", $value, ".enabled"), json!(true))
                    .given(concat!("metrics.", $value, ".renderMode"), json!("alwaysRender"))
                    .is($kind, "/metadata/name", json!(NAME)),
                // helm template knows no monitors: by default they are left out.
                case(concat!("metrics.", $value, ".renderMode"), json!("alwaysRender"))
                    .given(concat!("metrics.", $value, ".enabled"), json!(true))
                    .is($kind, "/metadata/name", json!(NAME)),
                enabled(concat!("metrics.", $value, ".labels"), json!({"a": "b"})).is($kind, "/metadata/labels/a", json!("b")),
                enabled(concat!("metrics.", $value, ".interval"), json!("15s"))
                    .is($kind, concat!($endpoint, "/interval"), json!("15s")),
                enabled(concat!("metrics.", $value, ".scrapeTimeout"), json!("5s"))
                    .is($kind, concat!($endpoint, "/scrapeTimeout"), json!("5s")),
                enabled(concat!("metrics.", $value, ".metricRelabelings"), relabelings.clone())
                    .is($kind, concat!($endpoint, "/metricRelabelings"), relabelings.clone()),
            ]);
        };
    }
    monitor!("podMonitor", "PodMonitor", "/spec/podMetricsEndpoints/0");
    monitor!("serviceMonitor", "ServiceMonitor", "/spec/endpoints/0");
    let rules = |path, value| {
        case(path, value)
            .given("metrics.prometheusRule.enabled", json!(true))
            .given("metrics.prometheusRule.renderMode", json!("alwaysRender"))
    };
    let alerts: Vec<Value> = serde_norway::from_str(&read("charts/redis-expiry-operator/files/alerts.yaml")).unwrap();
    let (kind, all) = ("PrometheusRule", "/spec/groups/0/rules");
    let first = "/spec/groups/0/rules/0";
    let extra = json!({"record": "x", "expr": "vector(1)"});
    cases.extend([
        case("metrics.prometheusRule.enabled", json!(true))
            .given("metrics.prometheusRule.renderMode", json!("alwaysRender"))
            .is(kind, "/metadata/name", json!(NAME)),
        case("metrics.prometheusRule.renderMode", json!("alwaysRender"))
            .given("metrics.prometheusRule.enabled", json!(true))
            .is(kind, "/metadata/name", json!(NAME)),
        rules("metrics.prometheusRule.labels", json!({"a": "b"})).is(kind, "/metadata/labels/a", json!("b")),
        rules("metrics.prometheusRule.alertLabels", json!({"a": "b"})).is(
            kind,
            &format!("{first}/labels/a"),
            json!("b"),
        ),
        rules("metrics.prometheusRule.disabledAlerts", json!([alerts[0]["alert"]])).is(
            kind,
            &format!("{first}/alert"),
            alerts[1]["alert"].clone(),
        ),
        rules("metrics.prometheusRule.runbookBaseUrl", json!("https://x/")).is(
            kind,
            &format!("{first}/annotations/runbook_url"),
            json!(format!("https://x/docs/alerts.md#{}", alerts[0]["alert"].as_str().unwrap().to_lowercase())),
        ),
        rules("metrics.prometheusRule.extraRules", json!([extra])).has(kind, all, extra),
    ]);
    cases
}

fn rest() -> Vec<Case> {
    let test = format!("Pod/{NAME}-test");
    let listener = |path, value| case(path, value).given("test.listener", json!("kind: RedisExpiryListener\n"));
    let source = "/spec/volumes/1/projected/sources";
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{{ .Release.Name }}-x"}});
    let written = "apiVersion: v1\nkind: Secret\nmetadata: {name: '{{ .Release.Name }}-x'}\n";
    vec![
        case("test.enabled", json!(false)).no(&test),
        case("test.listener", json!("kind: RedisExpiryListener\n")).is(
            &test,
            "/spec/containers/0/args/0",
            json!("check"),
        ),
        case("test.listener", json!("kind: RedisExpiryListener\n")).is(
            &format!("ConfigMap/{NAME}-test"),
            "/data/listener.yaml",
            json!("kind: RedisExpiryListener\n"),
        ),
        listener("egress.allow", json!(["127.0.0.0/8", "::1/128"])).has(
            &test,
            "/spec/containers/0/args",
            json!("--allow-egress=::1/128"),
        ),
        listener("test.secrets", json!(["auth"])).is(&test, source, json!([{"secret": {"name": "auth"}}])),
        listener("test.configMaps", json!(["ca"])).is(&test, source, json!([{"configMap": {"name": "ca"}}])),
        case("nameOverride", json!("rxo")).is("Deployment", "/metadata/labels/app.kubernetes.io~1name", json!("rxo")),
        case("fullnameOverride", json!("rxo")).is("Deployment", "/metadata/name", json!("rxo")),
        case("fullnameOverride", json!("rxo")).is("ClusterRole/rxo", "/metadata/name", json!("rxo")),
        case("commonLabels", json!({"a": "b"})).is("ServiceAccount", "/metadata/labels/a", json!("b")),
        case("commonLabels", json!({"a": "b"})).is("Deployment", "/spec/template/metadata/labels/a", json!("b")),
        case("extraObjects", json!([object])).is("Secret", "/metadata/name", json!("demo-x")),
        case("extraObjects", json!([written])).is("Secret", "/metadata/name", json!("demo-x")),
    ]
}

fn render(set: &[(&str, &Value)]) -> Objects {
    let set: Vec<String> = set.iter().map(|(path, value)| format!("{path}={value}")).collect();
    Objects::render(&set.iter().flat_map(|set| ["--set-json", set.as_str()]).collect::<Vec<_>>())
}

#[test]
fn no_value_is_without_a_case() {
    let tried: BTreeSet<&str> = cases().iter().map(|case| case.path).collect();
    let leaves: BTreeSet<String> = leaves().into_iter().map(|leaf| leaf.path).collect();
    let untried: Vec<_> = leaves.iter().filter(|path| !tried.contains(path.as_str())).collect();
    assert!(untried.is_empty(), "values.yaml has values that no case tries: {untried:?}");
    let unknown: Vec<_> = tried.iter().filter(|path| !leaves.contains(**path)).collect();
    assert!(unknown.is_empty(), "cases try values that values.yaml does not have: {unknown:?}");
}

#[test]
fn each_value_does_what_its_case_says_and_nothing_else_does_it() {
    let mut without: BTreeMap<String, Objects> = BTreeMap::new();
    for case in cases() {
        let mut set: Vec<(&str, &Value)> = case.given.iter().map(|(path, value)| (*path, value)).collect();
        let key = format!("{set:?}");
        let before = without.entry(key).or_insert_with(|| render(&set));
        let what = format!("{}={} ({} {})", case.path, case.value, case.object, case.pointer);
        assert!(!case.holds(before), "{what} holds without the value");
        set.push((case.path, &case.value));
        let after = render(&set);
        let found = after.find(&case.object).map(|object| object.pointer(&case.pointer));
        assert!(case.holds(&after), "{what} does not hold; found {found:?}");
    }
}
