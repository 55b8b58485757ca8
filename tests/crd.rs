//! The CustomResourceDefinition: that it is the one committed, and what its schema and rules take and refuse. The rules are
//! run by kube's own evaluator; tests/invalid.yaml holds for an API server too.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails, fails its test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use kube::core::cel::{
    ScopeContext, ValidationError, Validator, WarningKind, analyze_rule, apply_defaults, compile_schema,
};
use redis_expiry_operator::{
    api::{
        self, KeyRef, NoValue, Platform, RedisExpiryListener, RedisExpiryListenerSpec, RefKind, Secrets, Surroundings,
        document, references, resolve::resolve,
    },
    plan::{Plan, StorePlan},
};
use serde::Deserialize;
use serde_json::{Value, json};

#[path = "support/paths.rs"]
mod paths;

const MINIMAL: &str = include_str!("../examples/listener.yaml");

fn schema() -> Value {
    let crd = serde_json::to_value(api::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn minimal() -> Value {
    serde_norway::from_str(MINIMAL).unwrap()
}

/// The minimal object with values put into it by path; null takes a field out.
fn with(set: &[(&str, Value)]) -> Value {
    let mut object = minimal();
    paths::put(&mut object, set.iter().map(|(path, value)| (*path, value)));
    object
}

/// What the rules say to it, as the API server runs them: with the defaults set.
fn refusals(object: &Value) -> Vec<ValidationError> {
    let schema = schema();
    match Validator::new().validate(&schema, &apply_defaults(&schema, object), None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.to_vec(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalid {
    name: String,
    set: serde_json::Map<String, Value>,
    field: String,
    says: String,
    by: By,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum By {
    Rule,
    Schema,
}

impl Invalid {
    fn object(&self) -> Value {
        with(&pairs(&self.set))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Valid {
    set: serde_json::Map<String, Value>,
}

fn pairs(set: &serde_json::Map<String, Value>) -> Vec<(&str, Value)> {
    set.iter().map(|(path, value)| (path.as_str(), value.clone())).collect()
}

fn table() -> Vec<Invalid> {
    serde_norway::from_str(include_str!("invalid.yaml")).unwrap()
}

/// Calls `see` with each part of the schema that describes a value, and its path.
fn walk(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Value)) {
    see(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, see);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], see);
    }
}

fn rules(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten()
}

#[test]
fn the_committed_one_is_what_is_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crd.yaml");
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_redis-expiry-operator")).arg("crd").output().unwrap();
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed, api::crd_yaml().unwrap());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &printed).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(committed == printed, "manifests/crd.yaml is not what `crd` prints: run UPDATE=1 cargo test --test crd");
}

#[test]
fn every_part_of_the_schema_is_bounded_and_described() {
    let mut wrong = Vec::new();
    walk("", &schema(), &mut |path, part| {
        let mut must = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{path}: {what}"));
            }
        };
        let has = |name: &str| part.get(name).is_some();
        for forbidden in ["x-kubernetes-preserve-unknown-fields", "nullable", "additionalProperties", "anyOf", "oneOf"]
        {
            must(!has(forbidden), forbidden);
        }
        match part["type"].as_str().unwrap_or_default() {
            "string" => must(
                has("maxLength") || has("enum") || part["format"] == "date-time" || path == ".metadata.name",
                "has no bound",
            ),
            "array" => {
                must(has("maxItems"), "has no bound");
                must(has("x-kubernetes-list-type"), "has no list type");
            }
            "integer" => {
                must(has("minimum"), "has no least");
                must(has("maximum") || path.starts_with(".status"), "has no most");
                must(["int32", "int64"].iter().any(|format| part["format"] == *format), "has a format nobody knows");
            }
            "object" => must(has("properties"), "is a map"),
            "boolean" => {}
            other => must(false, &format!("is of type {other:?}")),
        }
        let scalar_item = path.ends_with("[]") && part["type"] != "object";
        let described = part["description"].as_str().is_some_and(|text| text.ends_with('.'));
        must(described || scalar_item || path.starts_with(".metadata"), "is not described");
        for rule in rules(part) {
            for given in ["message", "reason"] {
                must(rule.get(given).is_some(), &format!("has a rule without a {given}: {}", rule["rule"]));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_rule_may_cost_too_much() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    walk("", &schema(), &mut |path, part| {
        let compiled = compile_schema(part);
        for rule in rules(part) {
            seen += 1;
            let rule = rule["rule"].as_str().unwrap();
            // It takes the variables of `all` and `exists` for names of another scope.
            let warnings = analyze_rule(rule, &compiled, ScopeContext::CrdValidation);
            let warnings = warnings.into_iter().filter(|warning| warning.kind != WarningKind::WrongScope);
            wrong.extend(warnings.map(|warning| format!("{path}: {rule}: {}", warning.message)));
        }
    });
    assert!(seen > 25, "only {seen} rules were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_right_is_taken_by_every_rule() {
    let valid: Vec<Valid> = serde_norway::from_str(include_str!("valid.yaml")).unwrap();
    assert!(valid.len() >= 25);
    for Valid { set } in &valid {
        let refused = refusals(&with(&pairs(set)));
        assert!(refused.is_empty(), "{set:?}: {refused:#?}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_field_and_every_rule_refuses_something() {
    let mut unused: BTreeSet<(String, String)> = BTreeSet::new();
    walk("", &schema(), &mut |_, part| {
        unused.extend(rules(part).map(|rule| {
            let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
            (text("rule"), text("message"))
        }));
    });
    let mut wrong = Vec::new();
    for invalid in table().iter().filter(|invalid| invalid.by == By::Rule) {
        let refused = refusals(&invalid.object());
        let [refusal] = refused.as_slice() else {
            wrong.push(format!("{}: {refused:#?}", invalid.name));
            continue;
        };
        // Of the object as a whole, the evaluator's paths begin with a dot.
        if refusal.field_path.trim_start_matches('.') != invalid.field || !refusal.message.contains(&invalid.says) {
            wrong.push(format!("{}: {refusal}", invalid.name));
        }
        unused.remove(&(refusal.rule.clone(), refusal.message.clone()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unused.is_empty(), "nothing in tests/invalid.yaml is refused by {unused:#?}");
}

#[test]
fn what_the_shape_refuses_is_left_to_it() {
    let table = table();
    assert!(table.len() >= 25);
    for invalid in table.iter().filter(|invalid| invalid.by == By::Schema) {
        // A rule that fails on a wrong shape is never run; one that says that it is wrong has the case of another.
        let refused = refusals(&invalid.object());
        let refused: Vec<_> = refused.iter().filter(|refusal| refusal.field_path == invalid.field).collect();
        let said = refused.iter().filter(|refusal| refusal.message.contains(&invalid.says)).count();
        assert_eq!(said, 0, "{}: {refused:#?}", invalid.name);
    }
}

/// Secrets that have every key, with a value that serves for each.
struct Any;

impl Secrets for Any {
    fn read(&self, _: RefKind, _: &str, _: &KeyRef) -> Result<Vec<u8>, NoValue> {
        Ok(b"https://orders.example/0123456789".to_vec())
    }
}

fn resolved(listener: &RedisExpiryListener) -> Result<Plan, String> {
    let around = Surroundings { secrets: &Any, platform: Platform::Kubernetes, state_dir: &PathBuf::from("state") };
    resolve(listener, around).map_err(|problems| {
        assert!(!problems.is_empty());
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    })
}

/// As an object of the API: with the schema's defaults set, and what it does not know taken for granted.
fn object(value: &Value) -> RedisExpiryListener {
    serde_json::from_value(apply_defaults(&schema(), value)).unwrap()
}

fn document(value: &Value) -> Result<RedisExpiryListener, String> {
    let (mut listeners, mut errors) = document::parse(&serde_norway::to_string(value).unwrap());
    errors.pop().map_or_else(|| Ok(listeners.remove(0).1), |error| Err(error.message))
}

#[test]
fn what_the_api_server_refuses_no_document_may_have_either() {
    for invalid in table() {
        // Without Kubernetes a name has no need to fit into others.
        if invalid.field == "metadata.name" {
            continue;
        }
        let read = document(&invalid.object()).and_then(|listener| resolved(&listener));
        assert!(read.is_err(), "{} came to {read:#?}", invalid.name);
    }
}

#[test]
fn defaults_are_the_same_for_objects_and_documents() {
    for set in [
        vec![],
        vec![("spec.delivery", json!({}))],
        vec![("spec.delivery", json!({"retry": {}}))],
        vec![("spec.delivery", json!({"retry": {"maxBackoff": "5m"}}))],
        vec![("spec.resync", json!({}))],
        vec![("spec.webhook.timeouts", json!({}))],
        vec![("spec.webhook.timeouts", json!({"request": "20s"}))],
        vec![("spec.webhook.payload", json!({}))],
        vec![("spec.webhook.signing", json!({"secretKeyRefs": [{"name": "a", "key": "b"}]}))],
        vec![("spec.webhook.url", Value::Null), ("spec.webhook.serviceRef", json!({"name": "orders"}))],
        vec![("spec.store", json!({"type": "Redis", "redis": {"addresses": ["a:1"]}}))],
    ] {
        let value = with(&set);
        let (object, document) = (object(&value), document(&value).unwrap());
        // The one that differs by design: a document without a store is given one by where it runs.
        let expected = if value["spec"].get("store").is_some() {
            document.spec.clone()
        } else {
            assert_eq!(document.spec.store, None);
            RedisExpiryListenerSpec { store: object.spec.store.clone(), ..document.spec.clone() }
        };
        assert_eq!(object.spec, expected, "{set:?}");
        // Nor does the schema say less than what a program would write.
        let written = serde_json::to_value(&expected).unwrap();
        let defaulted = apply_defaults(&schema(), &value)["spec"].clone();
        assert_eq!(written, defaulted, "{set:?}");
        assert_eq!(resolved(&object), resolved(&document), "{set:?}");
    }
}

#[test]
fn an_object_of_a_newer_operator_is_read() {
    let mut value = minimal();
    value["spec"]["sharding"] = json!({"shards": 3});
    value["spec"]["webhook"]["retries"] = json!(7);
    assert_eq!(object(&value).spec, object(&minimal()).spec);
    assert!(document(&value).unwrap_err().starts_with("spec."));
    // What this one knows of and does not enforce yet is refused, not passed over.
    value["spec"]["delivery"] = json!({"rateLimit": {"requestsPerSecond": 5}});
    let refused = resolved(&object(&value)).unwrap_err();
    assert!(refused.starts_with("spec.delivery.rateLimit is not enforced by this version yet"), "{refused}");
}

#[test]
fn a_service_is_a_url_in_the_listener_s_namespace() {
    for (service, url) in [
        (json!({"name": "orders"}), "http://orders.shop.svc:80/"),
        (json!({"name": "orders", "scheme": "HTTPS"}), "https://orders.shop.svc:443/"),
        (json!({"name": "orders", "port": 8080, "path": "/a?b=c"}), "http://orders.shop.svc:8080/a?b=c"),
    ] {
        let plan = resolved(&object(&with(&[("spec.webhook.url", Value::Null), ("spec.webhook.serviceRef", service)])));
        assert_eq!(plan.unwrap().webhook.url, url);
    }
}

#[test]
fn in_kubernetes_the_ledger_lies_in_the_watched_redis() {
    let plan = resolved(&object(&minimal())).unwrap();
    assert_eq!(plan.store, StorePlan::Redis { redis: plan.redis.clone() });
}

#[test]
fn every_reference_is_named_once() {
    let key = |name: &str| json!({"name": name, "key": "k"});
    let listener = object(&with(&[
        ("spec.redis.usernameSecretRef", key("redis")),
        ("spec.redis.passwordSecretRef", key("redis")),
        ("spec.redis.mode", json!("Sentinel")),
        (
            "spec.redis.tls",
            json!({"caRef": {"kind": "Secret", "name": "redis-ca"}, "clientCertSecretRef": {"name": "redis-tls"}}),
        ),
        (
            "spec.webhook.tls",
            json!({"caRef": {"kind": "ConfigMap", "name": "ca"}, "clientCertSecretRef": {"name": "tls"}}),
        ),
        (
            "spec.redis.sentinel",
            json!({
                "masterName": "m", "usernameSecretRef": key("sentinel"), "passwordSecretRef": key("sentinel-too"),
                "tls": {"caRef": {"kind": "ConfigMap", "name": "sentinel-ca"}, "clientCertSecretRef": {"name": "sentinel-tls"}},
            }),
        ),
        ("spec.webhook.url", Value::Null),
        ("spec.webhook.urlSecretRef", key("url")),
        (
            "spec.webhook.headers",
            json!([
                {"name": "A", "valueFrom": {"secretKeyRef": key("header")}},
                {"name": "B", "valueFrom": {"configMapKeyRef": key("header")}},
                {"name": "C", "value": "x"},
            ]),
        ),
        ("spec.webhook.auth", json!({"bearer": {"secretKeyRef": key("auth")}})),
        ("spec.webhook.signing", json!({"secretKeyRefs": [key("new"), key("old"), key("redis")]})),
        (
            "spec.store",
            json!({"type": "Redis", "redis": {
                "mode": "Sentinel", "addresses": ["a:1"], "usernameSecretRef": key("who"), "passwordSecretRef": key("store"),
                "tls": {"caRef": {"kind": "Secret", "name": "store-ca"}, "clientCertSecretRef": {"name": "store-tls"}},
                "sentinel": {
                    "masterName": "m", "usernameSecretRef": key("guard"), "passwordSecretRef": key("guard-too"),
                    "tls": {"caRef": {"kind": "Secret", "name": "guard-ca"}, "clientCertSecretRef": {"name": "guard-tls"}},
                },
            }}),
        ),
    ]));
    let mut expected: Vec<_> = ["ca", "header", "sentinel-ca"].map(|name| (RefKind::ConfigMap, name.to_owned())).into();
    expected.extend(
        [
            "auth",
            "guard",
            "guard-ca",
            "guard-tls",
            "guard-too",
            "header",
            "new",
            "old",
            "redis",
            "redis-ca",
            "redis-tls",
            "sentinel",
            "sentinel-tls",
            "sentinel-too",
            "store",
            "store-ca",
            "store-tls",
            "tls",
            "url",
            "who",
        ]
        .map(|name| (RefKind::Secret, name.to_owned())),
    );
    assert_eq!(references(&listener.spec), expected);
    assert_eq!(references(&object(&minimal()).spec), []);
    // Each place where the schema has a reference is one of those above.
    let mut places = 0;
    walk("", &schema()["properties"]["spec"], &mut |path, _| {
        let last = path.rsplit('.').next().unwrap_or_default();
        places += usize::from(last.ends_with("Ref") || last.ends_with("Refs"));
    });
    assert_eq!(places, 24, "serviceRef, and twenty-three that every_reference_is_named_once has to name");
}

/// The fields of a spec that a person sets: what is neither an object of fields nor inside a reference or a list.
fn fields(path: &str, part: &Value, found: &mut Vec<(String, Option<Value>)>) {
    let whole =
        ["SecretRef", "secretKeyRef", "caRef", "sentinel.tls", "store.redis"].iter().any(|end| path.ends_with(end));
    match part["properties"].as_object() {
        Some(properties) if !whole => {
            for (name, property) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                fields(&path, property, found);
            }
        }
        _ => found.push((path.to_owned(), part.get("default").cloned())),
    }
}

#[test]
fn the_reference_has_every_field_with_its_default_and_no_other() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/resource.md")).unwrap();
    let (_, table) = text.split_once("## spec\n").expect("the heading");
    let rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    let mut told: Vec<(String, String)> = rows
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let field = cells.next().unwrap().trim_matches('`').to_owned();
            (field, cells.next().unwrap().to_owned())
        })
        .collect();
    let mut found = Vec::new();
    fields("", &schema()["properties"]["spec"], &mut found);
    told.sort();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let names = |fields: &[(String, String)]| fields.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>();
    assert_eq!(names(&told), found.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>());
    for ((field, told), (_, default)) in told.iter().zip(&found) {
        let default = match default {
            None => continue,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        assert_eq!(*told, format!("`{default}`"), "{field}");
    }
}
