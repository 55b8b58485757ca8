//! Documents: what they come to, and what is said about mistakes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails, fails its test")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use redis_expiry_operator::{
    api::{KeyRef, NoValue, Platform, RefKind, Secrets, Surroundings, document, resolve::resolve},
    commands::load::{Files, LoadError},
    model::{Address, ListenerId},
    plan::{IdTemplate, Inferred, KeyspaceEvents, Mode, Plan, Secret, StorePlan},
};
use tempfile::TempDir;

use certificates::{Authority, Certificate};

#[path = "support/certificates.rs"]
mod certificates;

/// DESIGN section 6, as it stands there.
const DESIGN_EXAMPLE: &str = r#"
apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {name: order-timeouts, namespace: shop}
spec:
  suspend: false                          # holds delivery; detection and the outbox go on
  redis:
    mode: Cluster                         # Cluster | Sentinel | Standalone
    addresses: ["redis-cluster.shop.svc:6379"]
    addressMap: []                        # [{announced: "10.0.3.7:6379", dial: "redis-0.example:6379"}]
    database: 0                           # only 0 in Cluster
    usernameSecretRef: {name: redis-auth, key: username}
    passwordSecretRef: {name: redis-auth, key: password}
    tls: {caRef: {kind: Secret, name: redis-ca, key: ca.crt}, clientCertSecretRef: {name: redis-client}}
    changeSource: Auto                    # Auto | KeyspaceEvents | ClientTracking
    keyspaceEvents: Observe               # Observe | Enable
    topologyRefresh: 1s
  keyPattern: "order:pay:*"               # Redis glob, filtered on the server
  idTemplate: "order:pay:{orderId}"       # optional; default: what the first * matched
  inferred: Deliver                       # Deliver | Drop
  resync: {interval: 10m}                 # 0s turns the periodic scan off
  webhook:                                # exactly one of url, urlSecretRef, serviceRef
    url: https://orders.shop.svc/internal/order-timeouts
    timeouts: {connect: 2s, request: 10s}
    payload: {format: StandardWebhooks, type: order.timeout.expired}
    headers: [{name: X-Api-Key, valueFrom: {secretKeyRef: {name: orders-api, key: token}}}]
    auth: {bearer: {secretKeyRef: {name: orders-api, key: token}}}
    signing: {scheme: HMACSHA256, secretKeyRefs: [{name: webhook-key-2, key: secret}, {name: webhook-key-1, key: secret}]}
    tls: {caRef: {kind: ConfigMap, name: shop-ca, key: ca.crt}, clientCertSecretRef: {name: listener-tls}}
  delivery:
    maxInFlight: 64
    batch: {maxEvents: 1, maxWait: 0s}
    rateLimit: {requestsPerSecond: 500, burst: 500}   # default: none
    retry: {initialBackoff: 500ms, maxBackoff: 1m, retryAfterMax: 5m}
    deadline: 24h
    responseRules: [{codes: ["409"], action: Acknowledge}]
    circuitBreaker: {consecutiveFailures: 10, openFor: 5s, maxOpenFor: 1m}
    onGone: Pause
  store: {type: Redis}                    # redis: another deployment, same fields as spec.redis's connection
"#;

const MINIMAL: &str = include_str!("../examples/listener.yaml");

const SECRETS: [(&str, &str); 8] = [
    ("redis-auth/username", "rx\n"),
    ("redis-auth/password", "correct horse\n"),
    ("orders-api/token", "t0ken\n"),
    ("orders-api/broken", "two\nlines"),
    ("webhook-key-1/secret", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n"),
    ("webhook-key-2/secret", "abcdefghijklmnopqrstuvwxyz"),
    ("webhook-key-1/short", "whsec_MDEyMzQ1Njc4OQ=="),
    ("webhook-key-1/empty", "\n"),
];

/// A folder with a file `listener.yaml` and the secrets above.
struct Folder(TempDir);

impl Folder {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in SECRETS {
            let path = folder.path().join("secrets").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        fs::write(folder.path().join("listener.yaml"), text).unwrap();
        let folder = Self(folder);
        let authority = Authority::new();
        let Certificate { certificate, key } = authority.vouch_for("redis.shop.svc");
        for name in ["redis-client", "listener-tls"] {
            folder.write(&format!("secrets/{name}/tls.crt"), &certificate);
            folder.write(&format!("secrets/{name}/tls.key"), &key);
        }
        folder.write("secrets/others/tls.crt", &certificate);
        folder.write("secrets/others/tls.key", &authority.vouch_for("others").key);
        for name in ["redis-ca", "shop-ca"] {
            folder.write(&format!("secrets/{name}/ca.crt"), &authority.pem);
        }
        folder
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }
    fn load(&self, names: &[&str]) -> Result<Vec<Plan>, LoadError> {
        let files = Files {
            filenames: names.iter().map(|name| self.path(name)).collect(),
            secrets_dir: Some(self.path("secrets")),
            state_dir: PathBuf::from("state"),
        };
        Ok(files.load(Platform::Process)?.into_iter().map(|declared| declared.plan).collect())
    }
}

fn plan(text: &str) -> Plan {
    let plans = Folder::with(text).load(&["listener.yaml"]).unwrap();
    assert_eq!(plans.len(), 1);
    plans.into_iter().next().unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let folder = Folder::with(text);
    let error = folder.load(&["listener.yaml"]).expect_err("it should have been refused");
    let prefix = format!("{}: ", folder.path("listener.yaml").display());
    error.problems.iter().map(|problem| problem.strip_prefix(&prefix).expect("the file's name").to_owned()).collect()
}

/// The minimal document with `field: value` put into `spec`, at a path such as `redis.mode`.
fn with(path: &str, value: &str) -> String {
    let mut document: serde_norway::Value = serde_norway::from_str(MINIMAL).unwrap();
    let value: serde_norway::Value = serde_norway::from_str(value).unwrap();
    let mut at = &mut document;
    for name in path.split('.') {
        at = at
            .as_mapping_mut()
            .unwrap()
            .entry(name.into())
            .or_insert_with(|| serde_norway::Value::Mapping(serde_norway::Mapping::new()));
    }
    *at = value;
    serde_norway::to_string(&document).unwrap()
}

#[test]
fn the_least_document_has_every_default() {
    let plan = plan(MINIMAL);
    assert_eq!(plan.listener, ListenerId::new("shop", "order-timeouts"));
    assert!(!plan.suspend);
    assert_eq!(plan.redis.addresses, [Address::new("127.0.0.1", 7000)]);
    assert_eq!(plan.redis.address_map, []);
    assert_eq!(plan.redis.database, 0);
    assert_eq!((plan.redis.username, plan.redis.password), (None, None));
    assert_eq!(plan.redis.keyspace_events, KeyspaceEvents::Observe);
    assert_eq!(plan.redis.topology_refresh, Duration::from_secs(1));
    assert_eq!(plan.pattern.as_bytes(), b"order:pay:*");
    assert_eq!(plan.inferred, Inferred::Deliver);
    assert_eq!(plan.resync_interval, Some(Duration::from_secs(600)));
    assert_eq!(plan.webhook.url, "http://127.0.0.1:8080/internal/order-timeouts");
    assert_eq!(plan.webhook.connect_timeout, Duration::from_secs(2));
    assert_eq!(plan.webhook.request_timeout, Duration::from_secs(10));
    assert_eq!(plan.webhook.headers, []);
    assert_eq!(plan.webhook.bearer, None);
    assert_eq!(plan.webhook.signing_keys, []);
    assert_eq!(plan.delivery.max_in_flight, 64);
    assert_eq!(plan.delivery.initial_backoff, Duration::from_millis(500));
    assert_eq!(plan.delivery.max_backoff, Duration::from_secs(60));
    assert_eq!(plan.delivery.retry_after_max, Duration::from_secs(300));
    assert_eq!(plan.delivery.deadline, Duration::from_secs(24 * 3600));
    assert_eq!(plan.store, StorePlan::Local { path: "state/shop.order-timeouts.db".into() });
}

#[test]
fn without_a_template_and_a_type_there_are_defaults_too() {
    let mut text = MINIMAL.replace("  idTemplate: \"order:pay:{orderId}\"\n", "");
    text = text.replace("    payload: {type: order.timeout.expired}\n", "").replace("  namespace: shop\n", "");
    let plan = plan(&text);
    assert_eq!(plan.listener, ListenerId::new("default", "order-timeouts"));
    assert_eq!(plan.id_template, IdTemplate::FirstStar);
    assert_eq!(plan.webhook.event_type, "redis.key.expired");
}

#[test]
fn what_is_set_arrives_in_the_plan() {
    let plan = plan(
        r#"
apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {name: a.b-1, labels: {app: shop}, annotations: {x: y}, uid: 7f, generation: 3}
spec:
  suspend: true
  redis:
    mode: Cluster
    addresses: ["redis-0:6379", "[::1]:6380"]
    addressMap: [{announced: "10.0.3.7:6379", dial: "redis-0.example:6379"}]
    database: 0
    usernameSecretRef: {name: redis-auth, key: username}
    passwordSecretRef: {name: redis-auth, key: password}
    changeSource: KeyspaceEvents
    keyspaceEvents: Enable
    topologyRefresh: 250ms
  keyPattern: "order:[ps]*:*"
  idTemplate: "order:{kind}:{orderId}"
  inferred: Drop
  resync: {interval: 0s}
  webhook:
    urlSecretRef: {name: orders-api, key: url}
    timeouts: {connect: 500ms, request: 1s}
    headers:
      - {name: X-Api-Key, valueFrom: {secretKeyRef: {name: orders-api, key: token}}}
      - {name: X-Shop, value: north}
      - {name: X-Zone, valueFrom: {configMapKeyRef: {name: zone, key: name}}}
    auth: {bearer: {secretKeyRef: {name: orders-api, key: token}}}
    signing: {secretKeyRefs: [{name: webhook-key-2, key: secret}, {name: webhook-key-1, key: secret}]}
  delivery:
    maxInFlight: 1024
    retry: {initialBackoff: 50ms, maxBackoff: 1h, retryAfterMax: 0s}
    deadline: 168h
    onGone: Pause
  store: {type: Memory}
status: {conditions: []}
"#
        .replace("urlSecretRef: {name: orders-api, key: url}", "url: https://orders.example/a?b=c")
        .replace("valueFrom: {configMapKeyRef: {name: zone, key: name}}", "value: z1")
        .as_str(),
    );
    assert_eq!(plan.listener, ListenerId::new("default", "a.b-1"));
    assert!(plan.suspend);
    assert_eq!(plan.redis.addresses, [Address::new("redis-0", 6379), Address::new("::1", 6380)]);
    assert_eq!(plan.redis.address_map, [(Address::new("10.0.3.7", 6379), Address::new("redis-0.example", 6379))]);
    assert_eq!(plan.redis.username.as_deref(), Some("rx"));
    assert_eq!(plan.redis.password, Some(Secret(b"correct horse".to_vec())));
    assert_eq!(plan.redis.keyspace_events, KeyspaceEvents::Enable);
    assert_eq!(plan.redis.topology_refresh, Duration::from_millis(250));
    assert_eq!(plan.id_template, IdTemplate::parse("order:{kind}:{orderId}").unwrap());
    assert_eq!(plan.inferred, Inferred::Drop);
    assert_eq!(plan.resync_interval, None);
    assert_eq!(plan.webhook.url, "https://orders.example/a?b=c");
    let secret = |text: &str| Secret(text.as_bytes().to_vec());
    assert_eq!(
        plan.webhook.headers,
        [
            ("X-Api-Key".to_owned(), secret("t0ken")),
            ("X-Shop".to_owned(), secret("north")),
            ("X-Zone".to_owned(), secret("z1"))
        ]
    );
    assert_eq!(plan.webhook.bearer, Some(secret("t0ken")));
    assert_eq!(
        plan.webhook.signing_keys,
        [secret("abcdefghijklmnopqrstuvwxyz"), secret("012345678901234567890123")],
        "in the order of the document"
    );
    assert_eq!(plan.delivery.retry_after_max, Duration::ZERO);
    assert_eq!(plan.store, StorePlan::Memory);
}

#[test]
fn urls_and_headers_come_from_secrets_and_config_maps() {
    let text = MINIMAL.replace(
        "    url: http://127.0.0.1:8080/internal/order-timeouts\n",
        "    urlSecretRef: {name: orders-api, key: url}\n    headers: [{name: Z, valueFrom: {configMapKeyRef: {name: zone, key: name}}}]\n",
    );
    let folder = Folder::with(&text);
    folder.write("secrets/orders-api/url", "https://orders.example/?token=t0ken\n");
    folder.write("secrets/shop/zone/name", "z1\n");
    let plans = folder.load(&["listener.yaml"]).unwrap();
    assert_eq!(plans[0].webhook.url, "https://orders.example/?token=t0ken");
    assert_eq!(plans[0].webhook.headers, [("Z".to_owned(), Secret(b"z1".to_vec()))]);
    folder.write("secrets/orders-api/url", "ftp://orders.example/?token=t0ken\n");
    let error = folder.load(&["listener.yaml"]).unwrap_err().to_string();
    assert!(error.contains("spec.webhook.urlSecretRef refers to a value whose scheme is ftp"), "{error}");
    assert!(!error.contains("t0ken"), "{error}");
}

#[test]
fn the_example_of_the_design_is_read_and_what_is_not_enforced_yet_is_refused_all_at_once() {
    let problems = problems(DESIGN_EXAMPLE);
    let refused = [
        "spec.delivery.batch is not enforced by this version yet; ",
        "spec.delivery.rateLimit is not enforced by this version yet; ",
        "spec.delivery.responseRules is not enforced by this version yet; ",
        "spec.delivery.circuitBreaker is not enforced by this version yet; ",
    ];
    for (problem, refused) in problems.iter().zip(refused) {
        assert!(problem.starts_with(&format!("document 1: {refused}")), "{problem}\n{refused}");
    }
    assert_eq!(problems.len(), refused.len(), "{problems:#?}");
}

#[test]
fn tls_is_whom_we_believe_who_we_are_and_a_name() {
    let own = "clientCertSecretRef: {name: redis-client}";
    let ca = "caRef: {kind: Secret, name: redis-ca}";
    let plans = |tls: &str| plan(&with("spec.redis.tls", tls)).redis.tls;
    assert_eq!(plans("null"), None);
    assert!(plans("{}").is_some(), "present, even if empty, means TLS");
    let whole = plans(&format!("{{{ca}, {own}, serverName: redis.shop.svc}}")).unwrap();
    assert_eq!(whole.server_name("10.0.0.1").unwrap().to_str(), "redis.shop.svc");
    assert_eq!(
        format!("{whole:?}"),
        "Tls { authorities: true, identity: true, server_name: Some(\"redis.shop.svc\") }"
    );
    let text = with("spec.webhook.tls", "{caRef: {kind: ConfigMap, name: shop-ca}}").replace("http://", "https://");
    assert!(plan(&text).webhook.tls.is_some());
    // The sentinels' is not the servers', nor the store's the watched Redis's.
    let sentinels = "{mode: Sentinel, addresses: [\"a:1\"], sentinel: {masterName: m, tls: {}}}";
    let folder = Folder::with(&with("spec.store", &format!("{{type: Redis, redis: {sentinels}}}")));
    let plan = folder.load(&["listener.yaml"]).unwrap().remove(0);
    let StorePlan::Redis { redis } = plan.store else { panic!("it is not in Redis") };
    let Mode::Sentinel(sentinels) = redis.mode else { panic!("no sentinels") };
    assert!(sentinels.tls.is_some() && redis.tls.is_none() && plan.redis.tls.is_none());
}

#[test]
fn a_store_in_redis_lies_in_the_watched_one_or_in_another() {
    let folder = Folder::with(&with("spec.store", "{type: Redis}"));
    let plan = folder.load(&["listener.yaml"]).unwrap().remove(0);
    assert_eq!(plan.store, StorePlan::Redis { redis: plan.redis.clone() });
    let auth =
        "usernameSecretRef: {name: redis-auth, key: username}, passwordSecretRef: {name: redis-auth, key: password}";
    let map = "addressMap: [{announced: \"a:1\", dial: \"b:2\"}]";
    let store = format!("{{type: Redis, redis: {{addresses: [\"ledger:6379\"], {auth}, {map}}}}}");
    let folder = Folder::with(&with("spec.store", &store));
    let plan = folder.load(&["listener.yaml"]).unwrap().remove(0);
    let StorePlan::Redis { redis } = plan.store else { panic!("it is not in Redis") };
    assert_eq!(redis.addresses, [Address::new("ledger", 6379)]);
    assert_eq!(redis.address_map, [(Address::new("a", 1), Address::new("b", 2))]);
    assert_eq!((redis.username.as_deref(), redis.password), (Some("rx"), Some(Secret(b"correct horse".to_vec()))));
    assert_eq!((plan.redis.username, plan.redis.password), (None, None), "the other's credentials are its own");
}

#[test]
fn where_nothing_is_said_the_store_is_in_redis_in_kubernetes_and_a_file_elsewhere() {
    let (mut listeners, errors) = document::parse(MINIMAL);
    assert!(errors.is_empty());
    let mut listener = listeners.remove(0).1;
    listener.spec.store = None;
    let secrets = Nothing;
    let store = |platform| {
        let around = Surroundings { secrets: &secrets, platform, state_dir: Path::new("state") };
        resolve(&listener, around).unwrap()
    };
    let plan = store(Platform::Kubernetes);
    assert_eq!(plan.store, StorePlan::Redis { redis: plan.redis.clone() });
    assert!(matches!(store(Platform::Process).store, StorePlan::Local { .. }));
}

struct Nothing;

impl Secrets for Nothing {
    fn read(&self, _: RefKind, _: &str, _: &KeyRef) -> Result<Vec<u8>, NoValue> {
        unreachable!("the example names none")
    }
}

/// Field, value, and what the message must have.
const INVALID: [(&str, &str, &str); 100] = [
    ("apiVersion", "redisexpiry.io/v1", "apiVersion is \"redisexpiry.io/v1\": only redisexpiry.io/v1alpha1"),
    ("kind", "Secret", "kind is \"Secret\": only RedisExpiryListener"),
    ("metadata.name", "Order_Timeouts", "metadata.name is \"Order_Timeouts\"; use at most 253 lower-case"),
    ("metadata.name", "../../etc", "metadata.name is \"../../etc\""),
    ("metadata.namespace", "a.b", "metadata.namespace is \"a.b\"; use at most 63"),
    ("metadata.namespce", "shop", "metadata.namespce: unknown field, expected one of `name`, `namespace`"),
    ("spec.webhook.payloads", "{}", "spec.webhook.payloads: unknown field, expected one of `url`, `urlSecretRef`"),
    ("spec.pattern", "x", "spec.pattern: unknown field, expected one of `suspend`, `redis`, `keyPattern`"),
    ("spec.delivery.retry.jitter", "Full", "spec.delivery.retry.jitter: unknown field"),
    ("spec.webhook.headers", "[{name: A, valu: b}]", "spec.webhook.headers[0].valu: unknown field"),
    ("spec.suspend", "\"yes\"", "spec.suspend: invalid type: string \"yes\", expected a boolean"),
    ("spec.redis.mode", "cluster", "spec.redis.mode: unknown variant `cluster`, expected one of `Cluster`, `Sentinel`"),
    ("spec.redis.mode", "Sentinel", "spec.redis.sentinel is missing; mode Sentinel needs sentinel.masterName"),
    ("spec.redis.sentinel", "{masterName: m}", "spec.redis.sentinel is for mode Sentinel only; remove it, or use mode"),
    ("spec.redis.sentinel", "{}", "spec.redis.sentinel: missing field `masterName`"),
    ("spec.redis.addresses", "[]", "spec.redis.addresses has 0 addresses; give 1 to 64"),
    ("spec.redis.addresses", "[redis]", "spec.redis.addresses[0] is \"redis\"; write host:port"),
    ("spec.redis.addresses", "[\"redis://a:1\"]", "spec.redis.addresses[0] is \"redis://a:1\"; write host:port"),
    ("spec.redis.addresses", "[\"a:1\", \"a:1\"]", "spec.redis.addresses[1] is a:1, which is there already"),
    ("spec.redis.addresses", "a:1", "spec.redis.addresses: invalid type: string \"a:1\", expected a sequence"),
    ("spec.redis.addressMap", "[{announced: a, dial: \"b:1\"}]", "spec.redis.addressMap[0].announced is \"a\""),
    ("spec.redis.addressMap", "[{announced: \"a:1\", dial: \"b:0\"}]", "spec.redis.addressMap[0].dial is \"b:0\""),
    ("spec.redis.addressMap", "[{announced: \"a:1\"}]", "spec.redis.addressMap[0]: missing field `dial`"),
    (
        "spec.redis.addressMap",
        "[{announced: \"a:1\", dial: \"b:1\"}, {announced: \"a:1\", dial: \"c:1\"}]",
        "spec.redis.addressMap[1].announced is a:1, which is there already",
    ),
    ("spec.redis.database", "1", "spec.redis.database is 1; use 0: a cluster has only 0"),
    ("spec.redis.database", "-1", "spec.redis.database: invalid type: integer `-1`, expected u32"),
    ("spec.redis.usernameSecretRef", "{name: redis-auth, key: username}", "usernameSecretRef is without a password"),
    (
        "spec.redis.passwordSecretRef",
        "{name: redis-auth, key: nope}",
        "key nope of Secret redis-auth, which is neither",
    ),
    ("spec.redis.passwordSecretRef", "{name: ../x, key: y}", "spec.redis.passwordSecretRef.name is \"../x\""),
    ("spec.redis.passwordSecretRef", "{name: x, key: ../y}", "spec.redis.passwordSecretRef.key is \"../y\""),
    ("spec.redis.passwordSecretRef", "{name: webhook-key-1, key: empty}", "webhook-key-1, which is empty"),
    ("spec.redis.passwordSecretRef", "{name: x}", "spec.redis.passwordSecretRef: missing field `key`"),
    ("spec.redis.tls", "{caRef: {kind: Secret, name: nope}}", "key ca.crt of Secret nope, which is neither"),
    (
        "spec.redis.tls",
        "{caRef: {kind: Secret, name: redis-client, key: tls.key}}",
        "spec.redis.tls.caRef refers to key tls.key of Secret redis-client, which is no certificate in PEM; put the authority's",
    ),
    ("spec.redis.tls", "{caRef: {kind: Pod, name: a}}", "spec.redis.tls.caRef.kind: unknown variant `Pod`"),
    ("spec.redis.tls", "{clientCertSecretRef: {name: redis-ca}}", "key tls.crt of Secret redis-ca, which is neither"),
    (
        "spec.redis.tls",
        "{clientCertSecretRef: {name: others}}",
        "spec.redis.tls.clientCertSecretRef refers to key tls.key of Secret others, which is not the key of tls.crt; put the",
    ),
    (
        "spec.redis.tls",
        "{serverName: \"a b\"}",
        "spec.redis.tls.serverName is no name that a certificate can have; write",
    ),
    ("spec.redis.tls", "{insecure: true}", "spec.redis.tls.insecure: unknown field"),
    ("spec.redis.changeSource", "Polling", "spec.redis.changeSource: unknown variant `Polling`"),
    ("spec.redis.keyspaceEvents", "Set", "spec.redis.keyspaceEvents: unknown variant `Set`"),
    ("spec.redis.topologyRefresh", "10ms", "spec.redis.topologyRefresh is 10ms; choose 100ms to 1m"),
    ("spec.redis.topologyRefresh", "2", "spec.redis.topologyRefresh: \"2\" is not a duration"),
    ("spec.redis.topologyRefresh", "1d", "spec.redis.topologyRefresh: \"1d\" is not a duration"),
    ("spec.keyPattern", "\"\"", "spec.keyPattern is empty"),
    ("spec.idTemplate", "\"order:pay:\"", "spec.idTemplate "),
    ("spec.idTemplate", "\"order:{\"", "spec.idTemplate "),
    ("spec.inferred", "Ignore", "spec.inferred: unknown variant `Ignore`, expected `Deliver` or `Drop`"),
    ("spec.resync.interval", "500ms", "spec.resync.interval is 500ms; choose 1s to 168h"),
    ("spec.webhook", "{}", "spec.webhook does not say whom to tell; set url or urlSecretRef"),
    ("spec.webhook.urlSecretRef", "{name: orders-api, key: token}", "spec.webhook has more than one of url, "),
    ("spec.webhook", "{serviceRef: {name: orders}}", "spec.webhook.serviceRef is for listeners that the operator runs"),
    (
        "spec.webhook",
        "{urlSecretRef: {name: orders-api, key: token}}",
        "urlSecretRef refers to a value which is not a URL",
    ),
    ("spec.webhook.url", "orders.example/x", "which is not a URL (relative URL without a base)"),
    ("spec.webhook.url", "\"http://\"", "which is not a URL (empty host)"),
    ("spec.webhook.url", "ftp://orders/x", "whose scheme is ftp; use http or https"),
    ("spec.webhook.url", "https://me:pw@orders/x", "with a user or a password in it"),
    ("spec.webhook.url", "https://orders/x#y", "with a fragment, which is never sent"),
    ("spec.webhook.timeouts.connect", "50ms", "spec.webhook.timeouts.connect is 50ms; choose 100ms to 10s"),
    ("spec.webhook.timeouts.request", "31s", "spec.webhook.timeouts.request is 31s; choose 100ms to 30s"),
    ("spec.webhook.timeouts.request", "1s", "timeouts.connect is 2s, longer than request, 1s"),
    ("spec.webhook.payload.format", "CloudEventsBinary", "payload.format CloudEventsBinary is not enforced by this"),
    ("spec.webhook.payload.type", "order..expired", "spec.webhook.payload.type is \"order..expired\"; use at most 128"),
    ("spec.webhook.payload.type", "order-expired", "spec.webhook.payload.type is \"order-expired\""),
    ("spec.webhook.headers", "[{name: X}]", "headers[0] does not have exactly one of value and valueFrom"),
    ("spec.webhook.headers", "[{name: X, value: a, valueFrom: {}}]", "headers[0] does not have exactly one of value"),
    ("spec.webhook.headers", "[{name: X, valueFrom: {}}]", "headers[0].valueFrom does not have exactly one source"),
    ("spec.webhook.headers", "[{name: \"a b\", value: x}]", "headers[0].name is \"a b\", which HTTP does not allow"),
    ("spec.webhook.headers", "[{name: Webhook-Id, value: x}]", "headers[0].name is \"Webhook-Id\", which is set by us"),
    ("spec.webhook.headers", "[{name: Content-Type, value: x}]", "headers[0].name is \"Content-Type\", which is set"),
    ("spec.webhook.headers", "[{name: Proxy-Auth, value: x}]", "headers[0].name is \"Proxy-Auth\", which is set by"),
    ("spec.webhook.headers", "[{name: CE-Id, value: x}]", "headers[0].name is \"CE-Id\", which is set by us"),
    ("spec.webhook.headers", "[{name: X, value: a}, {name: x, value: b}]", "headers[1].name is \"x\", which is there"),
    (
        "spec.webhook.headers",
        "[{name: X, valueFrom: {secretKeyRef: {name: orders-api, key: broken}}}]",
        "headers[0].valueFrom.secretKeyRef has a value with a control character or a line break",
    ),
    ("spec.webhook.auth", "{basic: {}}", "spec.webhook.auth.basic: unknown field, expected `bearer`"),
    ("spec.webhook.auth", "{}", "spec.webhook.auth: missing field `bearer`"),
    ("spec.webhook.signing", "{secretKeyRefs: []}", "signing.secretKeyRefs has 0 keys; give 1 to 3"),
    (
        "spec.webhook.signing",
        "{secretKeyRefs: [{name: webhook-key-1, key: short}]}",
        "signing.secretKeyRefs[0] refers to a key of 10 bytes behind whsec_; 24 to 64 are needed; make one with: printf",
    ),
    (
        "spec.webhook.signing",
        "{scheme: Ed25519, secretKeyRefs: [{name: webhook-key-1, key: secret}]}",
        "spec.webhook.signing.scheme Ed25519 is not enforced by this version yet; use HMACSHA256",
    ),
    ("spec.webhook.tls", "{}", "spec.webhook.tls is set, and the URL is one of http; remove it, or use https"),
    ("spec.webhook.tls", "{serverName: a}", "spec.webhook.tls.serverName: unknown field"),
    ("spec.delivery.maxInFlight", "0", "spec.delivery.maxInFlight is 0; choose 1 to 1024"),
    ("spec.delivery.batch", "{maxEvents: 2}", "spec.delivery.batch is not enforced by this version yet"),
    ("spec.delivery.batch", "{maxEvents: 1, maxWait: 0s}", "spec.delivery.batch is not enforced by this version yet"),
    (
        "spec.delivery.rateLimit",
        "{requestsPerSecond: 5}",
        "spec.delivery.rateLimit is not enforced by this version yet",
    ),
    ("spec.delivery.retry.initialBackoff", "10ms", "spec.delivery.retry.initialBackoff is 10ms; choose 50ms to 1m"),
    ("spec.delivery.retry.maxBackoff", "100ms", "retry.maxBackoff is 100ms, shorter than initialBackoff, 500ms"),
    ("spec.delivery.retry.retryAfterMax", "2h", "spec.delivery.retry.retryAfterMax is 2h; choose 0s to 1h"),
    ("spec.delivery.deadline", "0s", "spec.delivery.deadline is 0s; choose 1s to 168h"),
    (
        "spec.delivery.circuitBreaker",
        "{mode: Disabled}",
        "spec.delivery.circuitBreaker is not enforced by this version",
    ),
    (
        "spec.delivery.circuitBreaker",
        "{mode: Enabled, consecutiveFailures: 10, openFor: 5s, maxOpenFor: 1m}",
        "spec.delivery.circuitBreaker is not enforced by this version",
    ),
    ("spec.delivery.responseRules", "[]", "spec.delivery.responseRules is not enforced by this version yet"),
    ("spec.delivery.onGone", "Retry", "spec.delivery.onGone Retry is not enforced by this version yet; use Pause"),
    ("spec.store", "{}", "spec.store: missing field `type`"),
    (
        "spec.store",
        "{type: Local, redis: {addresses: [\"a:1\"]}}",
        "spec.store.redis is set, and spec.store.type is Local; remove it, or use type Redis",
    ),
    ("spec.store", "{type: Redis, redis: {addresses: [a]}}", "spec.store.redis.addresses[0] is \"a\"; write host:port"),
    (
        "spec.store",
        "{type: Redis, redis: {addresses: [\"a:1\"], usernameSecretRef: {name: redis-auth, key: username}}}",
        "spec.store.redis.usernameSecretRef is without a password",
    ),
    (
        "spec.store",
        "{type: Redis, redis: {addresses: [\"a:1\"], mode: Sentinel}}",
        "spec.store.redis.sentinel is missing; mode Sentinel needs sentinel.masterName",
    ),
    (
        "spec.store",
        "{type: Redis, redis: {addresses: [\"a:1\"], tls: {clientCertSecretRef: {name: others}}}}",
        "spec.store.redis.tls.clientCertSecretRef refers to key tls.key of Secret others, which is not the key of",
    ),
    (
        "spec.store",
        "{type: Redis, redis: {addresses: [\"a:1\"], keyspaceEvents: Enable}}",
        "spec.store.redis.keyspaceEvents: unknown field",
    ),
];

#[test]
fn each_mistake_is_told_with_its_field_and_nothing_else_is() {
    let mut wrong = Vec::new();
    for (field, value, message) in INVALID {
        let problems = problems(&with(field, value));
        if problems.len() != 1 || !problems[0].contains(message) {
            wrong.push(format!("{field}: {value}\n  wanted {message}\n  found {problems:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_header_may_be_authorization_only_where_auth_is_not_set() {
    let header = "    headers: [{name: authorization, value: Basic eDp5}]\n";
    let text = format!("{MINIMAL}{header}");
    assert_eq!(plan(&text).webhook.headers.len(), 1);
    let text = format!("{text}    auth: {{bearer: {{secretKeyRef: {{name: orders-api, key: token}}}}}}\n");
    assert_eq!(
        problems(&text),
        [
            "document 1: spec.webhook.headers[0].name is \"authorization\", which spec.webhook.auth sets; remove one of the \
          two"
        ]
    );
}

#[test]
fn several_documents_files_and_folders_are_one_set() {
    let second = MINIMAL.replace("name: order-timeouts", "name: second");
    let folder = Folder::with(&format!("---\n# nothing here\n---\n{MINIMAL}---\n{second}---\n"));
    folder.write("more/b.yml", &MINIMAL.replace("name: order-timeouts", "name: third"));
    folder.write("more/.hidden.yaml", "not: read");
    folder.write("more/notes.txt", "not: read");
    let plans = folder.load(&["listener.yaml", "more"]).unwrap();
    let names: Vec<&str> = plans.iter().map(|plan| plan.listener.name()).collect();
    assert_eq!(names, ["order-timeouts", "second", "third"]);
}

#[test]
fn one_name_twice_is_a_mistake_that_says_where_both_are() {
    let folder = Folder::with(MINIMAL);
    folder.write("other.yaml", &format!("{MINIMAL}---\n{MINIMAL}"));
    let error = folder.load(&["listener.yaml", "other.yaml"]).unwrap_err();
    assert_eq!(error.problems.len(), 2);
    assert!(
        error.problems[1].contains("other.yaml: document 2: metadata.name shop/order-timeouts is declared already")
    );
    assert!(error.problems[1].ends_with("listener.yaml: document 1"), "{error}");
}

#[test]
fn each_document_has_its_mistakes_told_under_its_number_and_line() {
    let broken = MINIMAL.replace("  webhook:\n", "  webhook:\n    payloads: {}\n");
    let folder = Folder::with(&format!("{MINIMAL}---\n{broken}"));
    let error = folder.load(&["listener.yaml"]).unwrap_err().to_string();
    let line = MINIMAL.lines().count() + 1 + MINIMAL.lines().position(|line| line == "  webhook:").unwrap() + 2;
    assert!(
        error.contains("listener.yaml: document 2: spec.webhook.payloads: unknown field, expected one of"),
        "{error}"
    );
    assert!(error.ends_with(&format!("(line {line})")), "{error}, line {line}");
}

#[test]
fn what_is_no_document_at_all_is_refused() {
    for (text, message) in [
        ("", "has no document"),
        ("# nothing\n", "has no document"),
        ("a: [", "document 1: is not YAML: "),
        ("a: *b", "document 1: is not YAML: unknown anchor"),
        ("a: 1\n---\n\tb: 2\n---\nc: 3\n", "apiVersion is missing"),
        ("- a\n- b\n", "document 1: "),
        ("just text", "document 1: "),
        ("a: 1\n", "apiVersion is missing: write `apiVersion: redisexpiry.io/v1alpha1`"),
        ("apiVersion: 1\nkind: RedisExpiryListener\n", "apiVersion is not text"),
        ("apiVersion: redisexpiry.io/v1alpha1\nkind: RedisExpiryListener\n", "missing field `metadata`"),
    ] {
        let problems = problems(text);
        assert!(problems.len() <= 2 && problems[0].contains(message), "{text:?}: {problems:#?}");
    }
    let folder = Folder::with(MINIMAL);
    folder.write("empty/notes.txt", "");
    let error = folder.load(&["nowhere.yaml", "empty"]).unwrap_err();
    assert!(error.problems[0].contains("empty: has no *.yaml"), "{error}");
    assert!(error.problems[1].contains("nowhere.yaml: No such file"), "{error}");
}
