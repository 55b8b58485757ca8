use std::sync::Arc;

use super::*;
use crate::{
    commands::output::Output,
    delivery,
    listener::{NodeSnapshot, Role, Source},
    model::{Address, FaultCategory, Millis},
    store::Counts,
};

fn node(id: &str, role: Role) -> NodeSnapshot {
    NodeSnapshot {
        id: id.into(),
        address: Address::new("10.0.0.1", 6379),
        role,
        slots: 0,
        subscribed: true,
        scanned: true,
        since: None,
        change_source: Source::Notifications,
        notify_keyspace_events: Some("AK".to_owned()),
        notifications: true,
        clock_offset_ms: Some(3),
        notification_fault: None,
        tracked_because: None,
        last_error: None,
    }
}

fn well() -> Snapshot {
    Snapshot {
        nodes: vec![node("a", Role::Master)],
        masters: 1,
        subscribed_masters: 1,
        ready: true,
        counts: Counts { tracked: 7, ..Counts::default() },
        ..Snapshot::default()
    }
}

fn set(snapshot: Snapshot) -> Snapshots {
    [(ListenerId::new("shop", "orders"), Arc::new(snapshot))].into()
}

/// `event: message` of each line.
fn said(before: Snapshot, now: Snapshot) -> Vec<String> {
    let lines = lines(&set(before), &set(now));
    lines.iter().map(|line| format!("{}: {}", line.happening.as_str(), line.message)).collect()
}

/// What is said when a healthy listener changes so, and when it changes back.
fn there_and_back(change: impl FnOnce(&mut Snapshot)) -> [Vec<String>; 2] {
    let mut changed = well();
    change(&mut changed);
    [said(well(), changed.clone()), said(changed, well())]
}

#[test]
fn nothing_is_said_where_nothing_changed_but_counters() {
    let mut busy = well();
    busy.counts.tracked = 99;
    busy.counts.pending = 5;
    busy.witnessed = 44;
    busy.delivery.delivered = 44;
    busy.delivery.last_delivered = Some(Millis(1));
    busy.delivery.in_flight = 5;
    busy.nodes[0].clock_offset_ms = Some(-20);
    assert_eq!(said(well(), busy), [""; 0]);
}

#[test]
fn a_listener_starts_becomes_ready_and_stops() {
    assert_eq!(
        lines(&Snapshots::new(), &set(Snapshot::default())).iter().map(|line| line.happening).collect::<Vec<_>>(),
        [Listening]
    );
    let not_yet = Snapshot { ready: false, subscribed_masters: 0, ..well() };
    assert_eq!(said(not_yet, well()), ["ready: ready: 1/1 masters subscribed and scanned"]);
    let gone = lines(&set(well()), &Snapshots::new());
    assert_eq!((gone.len(), gone[0].happening), (1, Stopped));
}

#[test]
fn not_ready_says_why() {
    let [lost, back] = there_and_back(|now| {
        now.ready = false;
        now.subscribed_masters = 0;
        now.nodes[0].subscribed = false;
        now.nodes[0].last_error = Some(FaultCategory::Unreachable.fault("connection refused").at("10.0.0.1:6379"));
    });
    assert_eq!(
        lost,
        [
            "node: master 10.0.0.1:6379: not subscribed: connection refused",
            "notReady: not ready: 0/1 masters subscribed and scanned"
        ]
    );
    assert_eq!(back[0], "node: master 10.0.0.1:6379: subscribed");
    assert!(back[1].starts_with("ready: "));
    let [lost, _] = there_and_back(|now| {
        now.ready = false;
        now.topology_error = Some(FaultCategory::Uncovered.fault("slots 0-99 have no owner"));
    });
    assert_eq!(lost, ["notReady: not ready: slots 0-99 have no owner"]);
    let starting = Snapshot::default();
    let failing =
        Snapshot { topology_error: Some(FaultCategory::Unreachable.fault("no seed answers")), ..Snapshot::default() };
    assert_eq!(said(starting, failing.clone()), ["notReady: not ready: no seed answers"]);
    assert_eq!(said(failing.clone(), failing), [""; 0], "it is said once");
}

#[test]
fn roles_and_comings_and_goings_of_nodes_are_told() {
    let [there, back] = there_and_back(|now| {
        now.nodes[0].role = Role::Replica;
        now.nodes.push(NodeSnapshot { subscribed: false, ..node("b", Role::Master) });
    });
    assert_eq!(
        there,
        ["node: replica 10.0.0.1:6379: is a replica now", "node: master 10.0.0.1:6379: found, connecting"]
    );
    assert_eq!(
        back,
        ["node: master 10.0.0.1:6379: left the deployment", "node: master 10.0.0.1:6379: is a master now"]
    );
}

#[test]
fn missing_notifications_come_with_the_command_that_sets_them() {
    let [missing, back] = there_and_back(|now| {
        now.nodes[0].notify_keyspace_events = Some(String::new());
        now.nodes[0].notifications = false;
    });
    assert_eq!(missing.len(), 1);
    assert!(missing[0].contains("run CONFIG SET notify-keyspace-events Kgxe$ on 10.0.0.1:6379"), "{}", missing[0]);
    assert_eq!(back, ["node: master 10.0.0.1:6379: keyspace notifications are on"]);
    let [unreadable, _] = there_and_back(|now| now.nodes[0].notify_keyspace_events = None);
    assert_eq!(unreadable, [""; 0]);
}

#[test]
fn a_skewed_clock_is_told_in_both_directions() {
    let [ahead, back] = there_and_back(|now| now.nodes[0].clock_offset_ms = Some(501));
    assert!(ahead[0].contains("501 ms ahead of ours"), "{ahead:?}");
    assert!(back[0].contains("agrees"), "{back:?}");
    let [behind, _] = there_and_back(|now| now.nodes[0].clock_offset_ms = Some(-900));
    assert!(behind[0].contains("900 ms behind ours"), "{behind:?}");
}

#[test]
fn a_failing_webhook_is_told_once_and_its_recovery_once() {
    let failing = |failures: u64| {
        let mut now = well();
        now.delivery.consecutive_failures = failures;
        now.delivery.last_error = Some("answered 503".to_owned());
        now.counts.pending = 2;
        now
    };
    assert_eq!(said(well(), failing(1)), [""; 0], "it is retried at once");
    assert_eq!(
        said(failing(1), failing(3)),
        [
            "delivery: the webhook fails: answered 503; 2 events in the outbox: each is tried again until spec.delivery.deadline is over"
        ]
    );
    assert_eq!(said(failing(3), failing(400)), [""; 0]);
    assert_eq!(said(failing(400), well()), ["delivery: the webhook works again; 0 events pending"]);
    let [paused, resumed] =
        there_and_back(|now| now.delivery = delivery::Snapshot { paused: Some("410".into()), ..now.delivery.clone() });
    assert_eq!(paused, ["delivery: nothing is sent: 410"]);
    assert_eq!(resumed, ["delivery: goes on sending"]);
}

#[test]
fn holds_gaps_stores_and_dead_letters_are_told() {
    let [held, on] = there_and_back(|now| {
        now.ready = false;
        let message = "the ledger belongs to another".to_owned();
        now.hold = Some(listener::Hold::DeploymentChanged { message, change: "0a1b".to_owned() });
    });
    let [first, second] = held.as_slice() else { unreachable!("{held:?}") };
    assert!(
        first.starts_with("hold: holds: the ledger belongs to another: point spec.redis.addresses back"),
        "{first}"
    );
    assert!(first.contains("--on-deployment-change discard"), "{first}");
    assert!(second.starts_with("notReady: not ready: the ledger belongs to another: point"), "{second}");
    assert_eq!(on[0], "hold: goes on");
    let [failed, works] = there_and_back(|now| now.store_error = Some("the disk is full".to_owned()));
    assert_eq!(failed, ["store: the store fails: the disk is full"]);
    assert_eq!(works, ["store: the store works again"]);
    let [gap, _] = there_and_back(|now| now.gaps = 2);
    assert!(gap[0].starts_with("gap: 2 gaps in what was heard"), "{gap:?}");
    let [lost, _] = there_and_back(|now| now.store_losses = 1);
    assert!(lost[0].contains("has lost what it had acknowledged"), "{lost:?}");
    let [found, _] = there_and_back(|now| now.resync_found = 1);
    assert!(found[0].starts_with("resync: a periodic scan found 1 key that"), "{found:?}");
    let [parked, none] = there_and_back(|now| now.counts.dead_letters = 1);
    assert!(parked[0].contains("dead-letters list --listener shop/orders"), "{parked:?}");
    assert_eq!(none, ["deadLetters: no dead letter is left"]);
}

#[test]
fn a_line_is_text_for_people_and_an_object_for_programs() {
    let line = Line::new(Happening::Node, Some(&ListenerId::new("shop", "orders")), "is \"here\"").with("slots", 3);
    let at = Millis(1_795_328_020_123);
    assert_eq!(line.render(Output::Text, at), "2026-11-22T06:13:40.123Z  node         shop/orders: is \"here\"");
    let object: serde_json::Value = serde_json::from_str(&line.render(Output::Json, at)).unwrap();
    assert_eq!(
        object,
        json!({"time": "2026-11-22T06:13:40.123Z", "event": "node", "listener": "shop/orders",
               "message": "is \"here\"", "slots": 3})
    );
}
