//! The documents and the alerts name the metrics that there are.

use std::{collections::BTreeSet, fs, path::PathBuf};

use redis_expiry_operator::{
    meters::{Attempt, Label as _},
    telemetry::metrics::{document, names},
};
use serde::Deserialize;

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics of docs/metrics.md that `run` has too.
pub fn shown_by_run() -> BTreeSet<String> {
    let text = read("docs/metrics.md");
    let rows = text.lines().take_while(|line| *line != "## Values of labels").filter(|line| line.starts_with("| `"));
    let wanted = rows.filter(|row| !row.contains("`controller` only"));
    let wanted = wanted.filter(|row| cfg!(target_os = "linux") || !row.contains("(on Linux)"));
    wanted.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn docs_metrics_is_made_of_the_names() {
    let made = document();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file("docs/metrics.md"), &made).unwrap();
    }
    let there = fs::read_to_string(file("docs/metrics.md")).unwrap_or_default();
    assert!(there == made, "docs/metrics.md is not what the names make: UPDATE=1 cargo test --test metrics");
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    summary: String,
    description: String,
}

fn alerts() -> Vec<Rule> {
    serde_norway::from_str(&read("charts/redis-expiry-operator/files/alerts.yaml")).unwrap()
}

/// Identifiers of an expression or a template.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

#[test]
fn alerts_ask_for_metrics_and_labels_that_there_are() {
    for Rule { alert, expr, summary, description, .. } in alerts() {
        let mut labels: BTreeSet<&str> = BTreeSet::new();
        let mut named = 0;
        for word in words(&expr).filter(|word| word.starts_with("redis_expiry_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            let family = names::all().find(|family| family.shown_name() == base);
            let family = family.unwrap_or_else(|| panic!("{alert}: there is no metric {word}"));
            assert_eq!(base != word, family.kind == names::Kind::Histogram, "{alert}: {word}");
            labels.extend(family.labels);
            named += 1;
        }
        assert!(named > 0, "{alert} asks for nothing of ours");
        for text in [&summary, &description] {
            for label in text.split("$labels.").skip(1).filter_map(|rest| words(rest).next()) {
                assert!(labels.contains(label), "{alert}: its metrics have no label {label}");
            }
        }
    }
}

/// That each alert has a runbook, and each runbook an alert: `tests/chart`.
#[test]
fn runbooks_name_metrics_and_outcomes_that_there_are() {
    let text = read("docs/alerts.md");
    for word in words(&text).filter(|word| word.starts_with("redis_expiry_")) {
        assert!(names::all().any(|family| family.shown_name() == word), "docs/alerts.md: there is no metric {word}");
    }
    let section = text.split("\n## ").find(|section| section.starts_with("RedisExpiryDeliveryFailing\n")).unwrap();
    let listed = section.lines().filter_map(|line| line.strip_prefix("- "));
    let named: BTreeSet<&str> = listed.flat_map(|line| line.split('`').skip(1).step_by(2)).collect();
    let outcomes: BTreeSet<&str> = Attempt::ALL.iter().map(|attempt| attempt.as_str()).collect();
    let others = ["delivery.maxInFlight", "networkPolicy"].into();
    assert!(named.len() > 5 && named.difference(&others).all(|word| outcomes.contains(word)), "{named:?}");
}
