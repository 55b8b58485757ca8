//! Alerts are about metrics that exist, and each has a runbook.

use std::collections::BTreeSet;

use serde_json::Value;

use super::helm::{Objects, read, root};

pub fn rules(more: &[&str]) -> Vec<Value> {
    let mut arguments = vec![
        "--set-json",
        "metrics.prometheusRule.enabled=true",
        "--set-json",
        "metrics.prometheusRule.renderMode=\"alwaysRender\"",
    ];
    arguments.extend(more);
    let objects = Objects::render(&arguments);
    let rules = objects.find("PrometheusRule").unwrap()["spec"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() >= 5, "alerts are missing: {rules:#?}");
    rules
}

/// The metrics that an expression or a text names, a histogram's by its own name.
fn metrics(expression: &str) -> BTreeSet<String> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.contains("expiry_"))
        .map(|word| {
            ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn alerts_name_only_metrics_that_are_documented() {
    let documented = root().join("docs/metrics.md").exists().then(|| read("docs/metrics.md"));
    for rule in rules(&[]) {
        let named = metrics(rule["expr"].as_str().unwrap());
        assert!(!named.is_empty(), "{rule:#} is about no metric of ours");
        for metric in named {
            assert!(metric.starts_with("redis_expiry_"), "{metric} is not a metric of ours");
            if let Some(documented) = &documented {
                assert!(
                    metrics(documented).contains(&metric),
                    "{} names {metric}, which docs/metrics.md does not",
                    rule["alert"]
                );
            }
        }
    }
}

#[test]
fn every_alert_has_a_severity_a_sentence_and_a_runbook() {
    let runbooks = read("docs/alerts.md");
    let base = "https://git.example/redis-expiry-operator/blob/main/";
    let set = format!("metrics.prometheusRule.runbookBaseUrl=\"{base}\"");
    let mut names = BTreeSet::new();
    for rule in rules(&["--set-json", &set]) {
        let name = rule["alert"].as_str().unwrap();
        assert!(name.starts_with("RedisExpiry"), "{name}");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].as_str().unwrap().ends_with('.'), "{name}: {text}");
        }
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert_eq!(url, format!("{base}docs/alerts.md#{}", name.to_lowercase()));
        assert!(runbooks.contains(&format!("\n## {name}\n")), "docs/alerts.md has no section {name}");
        names.insert(name.to_owned());
    }
    for section in runbooks.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(names.contains(section), "docs/alerts.md is about {section}, which is no alert");
    }
}
