use std::collections::{BTreeMap, BTreeSet};

use super::{names::Shown, *};
use crate::{
    listener::{Hold, NodeSnapshot, Role, Snapshot, Source},
    meters::{Looked, Meters},
    model::{Address, Evidence, Fault, FaultCategory, ListenerId, NodeId},
    store::Counts,
};

const NOW: Millis = Millis(1_795_328_020_000);

fn canary() -> Fault {
    Fault { category: FaultCategory::Other, message: "canary".into() }
}

fn node() -> NodeSnapshot {
    NodeSnapshot {
        id: NodeId::from("a\"b\\"),
        address: Address::new("10.0.0.1", 6379),
        role: Role::Master,
        slots: 1,
        subscribed: true,
        scanned: true,
        since: None,
        change_source: Source::Notifications,
        notify_keyspace_events: None,
        notifications: false,
        notification_fault: None,
        tracked_because: None,
        clock_offset_ms: Some(-1_500),
        last_error: Some(canary()),
    }
}

fn input() -> Input {
    let meters = Meters::default();
    meters.ledger.looks.add(Looked::Gone, 7);
    meters.ledger.settled.add(Evidence::Inferred, 2);
    meters.ledger.lateness.observe_micros(1_500);
    meters.ledger.lateness.observe_micros(i64::MAX / 4);
    let orders = Snapshot {
        ready: true,
        nodes: vec![node()],
        counts: Counts { pending: 3, oldest_pending: Some(NOW.plus(-61_500)), ..Counts::default() },
        topology_error: Some(canary()),
        meters: Some(meters.into()),
        ..Snapshot::default()
    };
    let hold = Hold::Store { category: "Locked", message: "canary".into() };
    let new = Snapshot { hold: Some(hold), ..Snapshot::default() };
    let listeners = [(ListenerId::new("shop", "orders"), orders), (ListenerId::new("shop", "new"), new)];
    Input {
        snapshots: listeners.map(|(id, snapshot)| (id, Arc::new(snapshot))).into(),
        operator: Some(Arc::default()),
        process: Some(Process { cpu_seconds: 1.5, resident_bytes: 4, open_files: 5, most_files: 6, started: 7.0 }),
        now: NOW,
    }
}

/// Samples by their names with labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.into(), value.parse().unwrap())).unwrap())
        .collect()
}

#[test]
fn what_was_counted_is_shown_under_its_listener() {
    let page = render(input(), Format::Text);
    let samples = samples(&page);
    for (name, expected) in [
        (r#"redis_expiry_listener_ready{namespace="shop",name="orders"}"#, 1.0),
        (r#"redis_expiry_listener_ready{namespace="shop",name="new"}"#, 0.0),
        (r#"redis_expiry_listener_held{namespace="shop",name="new"}"#, 1.0),
        (r#"redis_expiry_store_error{namespace="shop",name="new",category="Locked"}"#, 1.0),
        (r#"redis_expiry_looks_total{namespace="shop",name="orders",result="gone"}"#, 7.0),
        (r#"redis_expiry_looks_total{namespace="shop",name="new",result="gone"}"#, 0.0),
        (r#"redis_expiry_events_settled_total{namespace="shop",name="orders",evidence="Inferred"}"#, 2.0),
        (r#"redis_expiry_outbox_oldest_age_seconds{namespace="shop",name="orders"}"#, 61.5),
        (r#"redis_expiry_topology_failing{namespace="shop",name="orders"}"#, 1.0),
        (r#"redis_expiry_lateness_seconds_bucket{le="0.001",namespace="shop",name="orders"}"#, 0.0),
        (r#"redis_expiry_lateness_seconds_bucket{le="0.002",namespace="shop",name="orders"}"#, 1.0),
        (r#"redis_expiry_lateness_seconds_bucket{le="3600.0",namespace="shop",name="orders"}"#, 1.0),
        (r#"redis_expiry_lateness_seconds_bucket{le="+Inf",namespace="shop",name="orders"}"#, 2.0),
        (
            r#"redis_expiry_node_clock_offset_seconds{namespace="shop",name="orders",node="a\"b\\",address="10.0.0.1:6379"}"#,
            -1.5,
        ),
        (r#"redis_expiry_listeners{ready="true"}"#, 1.0),
        ("redis_expiry_listeners_owned", 2.0),
        ("process_cpu_seconds_total", 1.5),
    ] {
        assert_eq!(samples.get(name), Some(&expected), "{name} in\n{page}");
    }
    let failing = samples.keys().filter(|name| name.starts_with("redis_expiry_store_error{"));
    assert_eq!(failing.count(), 1, "a store that does not fail has none");
    assert!(!page.contains("canary"), "a message is shown:\n{page}");
}

#[test]
fn every_family_is_shown_once_in_both_formats_and_under_its_name() {
    for (format, name) in [
        (Format::Text, (|family| family.shown_name()) as fn(&names::Family) -> String),
        (Format::OpenMetrics, |family| family.name.to_owned()),
    ] {
        let page = render(input(), format);
        let typed: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let found: Vec<&str> = typed.iter().filter_map(|line| line.split(' ').next()).collect();
        let unique: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!((unique.len(), unique), (found.len(), names::all().map(name).collect()));
        assert_eq!(page.ends_with("# EOF\n"), format == Format::OpenMetrics);
    }
    let run = render(Input { operator: None, process: None, ..input() }, Format::Text);
    for family in names::all() {
        assert_eq!(
            run.contains(&format!("# TYPE {} ", family.shown_name())),
            family.shown == Shown::Always,
            "{family:?}"
        );
    }
}

#[test]
fn names_are_as_prometheus_wants_them() {
    for family in names::all() {
        let name = family.name;
        assert!(name.starts_with("redis_expiry_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(!name.ends_with("_total") && !family.help.ends_with('.'), "{name}");
        assert!(!family.labels.contains(&"le"), "{name}");
    }
}
