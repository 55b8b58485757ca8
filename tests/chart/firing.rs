//! Prometheus itself judges the alerts: each fires for what it is about, not before its time, and for nothing less.

use std::{env, fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use super::{alerts::rules, helm::root};

/// Where `make test-chart` puts it, else on the PATH.
fn promtool(arguments: &[&str]) -> Result<String, String> {
    let ours = env::var_os("KUBE_TOOLS").map_or_else(|| root().join("target/kube/bin"), PathBuf::from).join("promtool");
    let program = if ours.exists() { ours.into_os_string() } else { "promtool".into() };
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("promtool cannot be run ({error}): run `make test-chart`, or set KUBE_TOOLS to the folder that has it")
    });
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// Series, each with its values from half a minute to the next, as promtool writes them.
type Series<'a> = &'a [(&'a str, &'a str)];

struct Case {
    alert: &'static str,
    /// What is wrong: it fires at `at`, with these labels and `value` as its texts show it, and not yet at `before`.
    wrong: Series<'static>,
    before: Option<&'static str>,
    at: &'static str,
    labels: &'static [(&'static str, &'static str)],
    value: &'static str,
    /// What is nearly so: it never fires.
    fine: Series<'static>,
}

const LISTENER: &[(&str, &str)] = &[("namespace", "shop"), ("name", "orders")];

/// Of a listener, unless the case says more.
const CASES: [Case; 11] = [
    Case {
        alert: "RedisExpiryListenerNotReady",
        // One reason after another.
        wrong: &[
            (
                "redis_expiry_listener_condition{L,condition=\"Ready\",status=\"Unknown\",reason=\"Pending\"}",
                "1x6 stale",
            ),
            (
                "redis_expiry_listener_condition{L,condition=\"Ready\",status=\"False\",reason=\"SecretNotFound\"}",
                "_x6 1x54",
            ),
        ],
        before: Some("9m"),
        at: "10m",
        labels: LISTENER,
        value: "",
        // It comes back in time, or is suspended, or another condition is not True.
        fine: &[
            (
                "redis_expiry_listener_condition{L,condition=\"Ready\",status=\"False\",reason=\"Scanning\"}",
                "1x18 stale",
            ),
            (
                "redis_expiry_listener_condition{L,condition=\"Ready\",status=\"False\",reason=\"Suspended\"}",
                "_x18 1x40",
            ),
            (
                "redis_expiry_listener_condition{L,condition=\"Ready\",status=\"True\",reason=\"Listening\"}",
                "_x18 1x40",
            ),
            ("redis_expiry_listener_condition{L,condition=\"Delivering\",status=\"False\",reason=\"Paused\"}", "1x60"),
        ],
    },
    Case {
        alert: "RedisExpiryDeliveryFailing",
        wrong: &[
            ("redis_expiry_attempts_total{L,outcome=\"2xx\"}", "0+1x60"),
            ("redis_expiry_attempts_total{L,outcome=\"5xx\"}", "0+2x60"),
        ],
        before: Some("4m"),
        at: "10m",
        labels: LISTENER,
        value: "",
        fine: &[
            ("redis_expiry_attempts_total{L,outcome=\"2xx\"}", "0+2x60"),
            ("redis_expiry_attempts_total{L,outcome=\"5xx\"}", "0+1x60"),
        ],
    },
    Case {
        alert: "RedisExpiryOutboxStuck",
        wrong: &[("redis_expiry_outbox_oldest_age_seconds{L}", "301x60")],
        before: Some("4m"),
        at: "5m",
        labels: LISTENER,
        value: "5m 1s",
        fine: &[("redis_expiry_outbox_oldest_age_seconds{L}", "300x60")],
    },
    Case {
        alert: "RedisExpiryStoreRefuses",
        wrong: &[("redis_expiry_store_error{L,category=\"Denied\"}", "1x60")],
        before: Some("1m"),
        at: "2m",
        labels: &[("namespace", "shop"), ("name", "orders"), ("category", "Denied")],
        value: "",
        // It was so for a minute, and is absent while all is well.
        fine: &[("redis_expiry_store_error{L,category=\"Denied\"}", "1 1 stale")],
    },
    Case {
        alert: "RedisExpiryDeliveryPaused",
        wrong: &[("redis_expiry_delivery_paused{L}", "1x60")],
        before: Some("4m"),
        at: "5m",
        labels: LISTENER,
        value: "",
        fine: &[("redis_expiry_delivery_paused{L}", "0x60")],
    },
    Case {
        alert: "RedisExpiryDeadLetters",
        wrong: &[("redis_expiry_dead_lettered_total{L}", "4x9 5x50")],
        before: Some("4m"),
        at: "6m",
        labels: LISTENER,
        value: "",
        fine: &[("redis_expiry_dead_lettered_total{L}", "5x60")],
    },
    Case {
        alert: "RedisExpiryLate",
        wrong: &[
            ("redis_expiry_lateness_seconds_bucket{L,le=\"1\"}", "0+90x60"),
            ("redis_expiry_lateness_seconds_bucket{L,le=\"5\"}", "0+100x60"),
            ("redis_expiry_lateness_seconds_bucket{L,le=\"+Inf\"}", "0+100x60"),
        ],
        before: Some("9m"),
        at: "15m",
        labels: LISTENER,
        value: "4.6s",
        fine: &[
            ("redis_expiry_lateness_seconds_bucket{L,le=\"1\"}", "0+100x60"),
            ("redis_expiry_lateness_seconds_bucket{L,le=\"5\"}", "0+100x60"),
            ("redis_expiry_lateness_seconds_bucket{L,le=\"+Inf\"}", "0+100x60"),
        ],
    },
    Case {
        alert: "RedisExpiryGaps",
        wrong: &[("redis_expiry_gaps_total{L}", "0+1x60")],
        before: Some("0m"),
        at: "30m",
        labels: LISTENER,
        value: "60",
        fine: &[("redis_expiry_gaps_total{L}", "0x19 1x19 3x20")],
    },
    Case {
        alert: "RedisExpiryMissedByNotifications",
        wrong: &[("redis_expiry_resync_found_total{L}", "0x9 1x50")],
        before: Some("4m"),
        at: "6m",
        labels: LISTENER,
        value: "",
        fine: &[("redis_expiry_resync_found_total{L}", "7x60")],
    },
    Case {
        alert: "RedisExpiryListenersUnowned",
        wrong: &[
            ("redis_expiry_listeners_watched{namespace=\"rx\",job=\"rx\",pod=\"a\"}", "3x60"),
            ("redis_expiry_listeners_watched{namespace=\"rx\",job=\"rx\",pod=\"b\"}", "3x60"),
            ("redis_expiry_listeners_owned{namespace=\"rx\",job=\"rx\",pod=\"a\"}", "1x60"),
            ("redis_expiry_listeners_owned{namespace=\"rx\",job=\"rx\",pod=\"b\"}", "1x60"),
        ],
        before: Some("9m"),
        at: "10m",
        labels: &[("namespace", "rx"), ("job", "rx")],
        value: "1",
        fine: &[
            ("redis_expiry_listeners_watched{namespace=\"rx\",job=\"rx\",pod=\"a\"}", "3x60"),
            ("redis_expiry_listeners_watched{namespace=\"rx\",job=\"rx\",pod=\"b\"}", "3x60"),
            ("redis_expiry_listeners_owned{namespace=\"rx\",job=\"rx\",pod=\"a\"}", "1x60"),
            ("redis_expiry_listeners_owned{namespace=\"rx\",job=\"rx\",pod=\"b\"}", "2x60"),
        ],
    },
    Case {
        alert: "RedisExpiryOperatorDown",
        wrong: &[],
        before: Some("4m"),
        at: "5m",
        labels: &[],
        value: "",
        fine: &[("redis_expiry_build_info{version=\"0.1.0\"}", "1x60")],
    },
];

fn series(series: Series<'_>) -> Value {
    let listener = "namespace=\"shop\",name=\"orders\"";
    let one = |(name, values): &(&str, &str)| json!({"series": name.replace("{L", &format!("{{{listener}")), "values": values});
    series.iter().map(one).collect()
}

/// A text of the rule as the alert shows it.
fn shown(case: &Case, text: &Value) -> String {
    let mut text = text.as_str().unwrap().to_owned();
    for (label, value) in case.labels {
        text = text.replace(&format!("{{{{ $labels.{label} }}}}"), value);
    }
    for value in ["$value", "$value | humanize", "$value | humanizeDuration"] {
        text = text.replace(&format!("{{{{ {value} }}}}"), case.value);
    }
    assert!(!text.contains("{{"), "{}: {text}", case.alert);
    text
}

/// Two worlds: in one it fires when it should and not before, in the other never.
fn tests(case: &Case, rule: &Value) -> [Value; 2] {
    let mut labels: serde_json::Map<String, Value> =
        case.labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    labels.insert("severity".to_owned(), rule["labels"]["severity"].clone());
    let mut annotations = serde_json::Map::new();
    for (name, text) in rule["annotations"].as_object().unwrap() {
        annotations.insert(name.clone(), shown(case, text).into());
    }
    let asked = |at: &str, fires: bool| {
        let fired = json!({"exp_labels": labels, "exp_annotations": annotations});
        json!({"eval_time": at, "alertname": case.alert, "exp_alerts": if fires { vec![fired] } else { Vec::new() }})
    };
    let fires: Vec<Value> =
        case.before.map(|before| asked(before, false)).into_iter().chain([asked(case.at, true)]).collect();
    let never: Vec<Value> = ["1m", "5m", "12m", "20m", "29m"].map(|at| asked(at, false)).into();
    [
        json!({"name": format!("{} fires", case.alert), "interval": "30s",
            "input_series": series(case.wrong), "alert_rule_test": fires}),
        json!({"name": format!("{} does not", case.alert), "interval": "30s",
            "input_series": series(case.fine), "alert_rule_test": never}),
    ]
}

#[test]
fn each_alert_fires_for_what_it_is_about_and_for_nothing_less() {
    let rules = rules(&[]);
    let named: Vec<&str> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(named, CASES.map(|case| case.alert), "every alert has a case, in its order");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: Value| {
        // Every JSON is YAML.
        fs::write(folder.path().join(name), content.to_string()).unwrap();
        folder.path().join(name).display().to_string()
    };
    let file = write("rules.yaml", json!({"groups": [{"name": "redis-expiry-operator", "rules": rules}]}));
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", &file]).unwrap_or_else(|said| panic!("{said}"));
    let tests: Vec<Value> = CASES.iter().zip(&rules).flat_map(|(case, rule)| tests(case, rule)).collect();
    let tests = json!({"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": tests});
    promtool(&["test", "rules", &write("tests.yaml", tests)]).unwrap_or_else(|said| panic!("{said}"));
}
