use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    sync::Arc,
};

use super::*;
use crate::{
    listener::{NodeSnapshot, Role, Snapshot},
    model::{Address, ListenerId, NodeId},
    store::Counts,
};

fn scrape() -> Scrape {
    let node = NodeSnapshot {
        id: NodeId::from("ab12"),
        address: Address::new("10.0.3.7", 6379),
        role: Role::Master,
        slots: 5461,
        subscribed: true,
        scanned: true,
        since: None,
        notify_keyspace_events: None,
        notifications: true,
        notification_fault: None,
        clock_offset_ms: Some(-5),
        last_error: None,
    };
    let mut lateness = Histogram::default();
    for milliseconds in [3, 7, 700_000] {
        lateness.record(milliseconds);
    }
    let snapshot = Snapshot {
        nodes: vec![node],
        ready: true,
        lateness,
        witnessed: 3,
        store_category: Some("Denied"),
        counts: Counts { tracked: 9, oldest_pending: Some(Millis(1_000)), ..Counts::default() },
        ..Snapshot::default()
    };
    Scrape {
        snapshots: [(ListenerId::new("shop", "orders"), Arc::new(snapshot))].into(),
        now: Millis(61_000),
        resident: Some(1),
        files: Some(2),
    }
}

/// Samples by name and labels; fails on what Prometheus would refuse.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let mut family = String::new();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} is there twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split(' ').next(), Some(family.as_str()), "HELP and TYPE are together");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(&family), "{sample} is not of {family}");
            assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{sample} is there twice");
        }
    }
    samples
}

#[test]
fn every_metric_is_shown_with_its_labels_and_no_other() {
    let text = render(scrape());
    let samples = parse(&text);
    for Metric { name, labels, kind, .. } in METRICS {
        let shown = if *kind == Kind::Histogram { format!("{name}_count") } else { (*name).to_owned() };
        let sample = samples.keys().find(|sample| sample.split('{').next() == Some(shown.as_str()));
        let sample = sample.unwrap_or_else(|| panic!("{name} is not there:\n{text}"));
        let inside = sample.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
        let found: Vec<&str> =
            inside.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name).collect();
        assert_eq!(found, *labels, "{name}");
        assert!(name.starts_with("redis_expiry_") && (*kind == Kind::Counter) == name.ends_with("_total"), "{name}");
    }
    let one = |sample: &str| samples[sample];
    let of = "namespace=\"shop\",name=\"orders\"";
    assert!((one(&format!("redis_expiry_lateness_seconds_bucket{{le=\"0.005\",{of}}}")) - 1.0).abs() < 1e-9, "{text}");
    assert!((one(&format!("redis_expiry_lateness_seconds_bucket{{le=\"+Inf\",{of}}}")) - 3.0).abs() < 1e-9);
    assert!((one(&format!("redis_expiry_lateness_seconds_sum{{{of}}}")) - 700.01).abs() < 1e-9);
    assert!((one(&format!("redis_expiry_outbox_oldest_age_seconds{{{of}}}")) - 60.0).abs() < 1e-9);
    assert!((one(&format!("redis_expiry_settled_total{{{of},evidence=\"Witnessed\"}}")) - 3.0).abs() < 1e-9);
    assert!((one("redis_expiry_listeners{state=\"ready\"}") - 1.0).abs() < 1e-9);
}

#[test]
fn a_listener_that_left_is_shown_no_more() {
    let text = render(Scrape { snapshots: Snapshots::new(), ..scrape() });
    assert!(!text.contains("orders"), "{text}");
    parse(&text);
}

/// Run with UPDATE=1 to write it anew.
#[test]
fn docs_metrics_md_says_what_there_is() {
    let mut page = String::from(
        "# Metrics\n\nAt `/metrics` of `--admin-address`, in the OpenMetrics format. Labels are bounded: listeners, nodes and \
         words of the program;\nno key, no URL, no secret. Made from `src/telemetry/metrics/names.rs` by \
         `UPDATE=1 cargo test --lib docs_metrics_md`.\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n",
    );
    for Metric { name, kind, labels, help, .. } in METRICS {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{kind:?}").to_lowercase();
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap_or_default(), page, "run UPDATE=1 cargo test --lib docs_metrics_md");
}
