use std::sync::{Arc, LazyLock};

use super::*;
use crate::{
    api::reason,
    listener::{Counts, Durability, Source},
    model::{Address, Failure, FaultCategory},
};

static LISTENER: LazyLock<ListenerId> = LazyLock::new(|| ListenerId::new("shop", "orders"));

fn node(id: &str, role: Role) -> NodeSnapshot {
    NodeSnapshot {
        id: NodeId::from(id),
        address: Address::new("10.0.3.7", 6379),
        role,
        slots: 5461,
        subscribed: true,
        scanned: true,
        since: Some(Millis(1_795_000_000_999)),
        change_source: Source::Notifications,
        notify_keyspace_events: Some("Kgxe$".into()),
        notifications: true,
        notification_fault: None,
        tracked_because: None,
        clock_offset_ms: Some(0),
        last_error: None,
    }
}

fn healthy() -> Snapshot {
    Snapshot {
        nodes: vec![node("b", Role::Master), node("a", Role::Replica)],
        masters: 1,
        subscribed_masters: 1,
        ready: true,
        counts: Counts { tracked: 7, pending: 2, ..Counts::default() },
        ..Snapshot::default()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_328_020 + second).unwrap()
}

fn facts(snapshot: Option<&Snapshot>, now: i64) -> Facts<'_> {
    let now = at(now);
    Facts {
        listener: &LISTENER,
        generation: Some(3),
        refused: &[],
        suspend: false,
        webhook: Some("http://orders.shop.svc:80/hook".into()),
        snapshot,
        start: Start::Over,
        sample: false,
        reword: true,
        owner: "operator-a",
        now,
    }
}

fn step(before: &Status, facts: &Facts<'_>) -> Status {
    next(before, facts, &mut Shown::default())
}

fn says(status: &Status, kind: &str) -> String {
    let found = find(status, kind).unwrap();
    format!("{} {}", found.status, found.reason)
}

#[test]
fn on_the_first_visit_every_condition_is_there() {
    let status = step(&Status::default(), &facts(None, 0));
    let kinds: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(kinds, condition::ALL);
    assert_eq!(says(&status, condition::READY), "Unknown Pending");
    assert_eq!(says(&status, condition::ACCEPTED), "True Valid");
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    assert_eq!((status.observed_generation, status.owner.as_deref()), (Some(3), Some("operator-a")));
}

#[test]
fn a_healthy_listener_is_ready_and_says_nothing_new_later() {
    let snapshot = healthy();
    let mut shown = Shown::default();
    let first = next(&Status::default(), &facts(Some(&snapshot), 0), &mut shown);
    for kind in condition::ALL {
        assert_eq!(find(&first, kind).unwrap().status, "True", "{kind}");
    }
    assert_eq!(says(&first, condition::READY), "True Listening");
    assert_eq!((first.subscribed.as_deref(), first.masters, first.tracked), (Some("1/1"), Some(1), Some(7)));
    let ids: Vec<&str> = first.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    // As it comes back from the API server.
    let first: Status = serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
    let busy = Snapshot { counts: Counts { tracked: 9, pending: 4, ..Counts::default() }, ..healthy() };
    assert_eq!(next(&first, &facts(Some(&busy), 10), &mut shown), first, "counts alone are no reason");
    let sampled = next(&first, &Facts { sample: true, ..facts(Some(&busy), 30) }, &mut shown);
    assert_eq!((sampled.tracked, sampled.delivery.unwrap().pending), (Some(9), Some(4)));
    assert_eq!(sampled.conditions, first.conditions);
}

#[test]
fn a_restarted_operator_changes_only_the_owner_of_what_is_well() {
    let snapshot = healthy();
    let before = step(&Status::default(), &facts(Some(&snapshot), 0));
    let starting = Facts { start: Start::Fresh, owner: "operator-b", ..facts(None, 100) };
    let after = step(&before, &starting);
    assert_eq!(after, Status { owner: Some("operator-b".into()), ..before.clone() });
    let connecting = Snapshot { nodes: Vec::new(), masters: 0, ready: false, ..healthy() };
    assert_eq!(step(&after, &Facts { snapshot: Some(&connecting), ..starting }), after);
    // Its own connections are of another time.
    let mut anew = healthy();
    for node in &mut anew.nodes {
        node.since = Some(Millis(1_795_328_999_000));
    }
    let done = Facts { start: Start::Fresh, owner: "operator-b", ..facts(Some(&anew), 101) };
    assert_eq!(step(&after, &done), after);
    // That it does not come up is said when it has had its time.
    let down = Snapshot {
        topology_error: Some(FaultCategory::Unreachable.fault("no node tells the topology")),
        ..connecting.clone()
    };
    let late = Facts { start: Start::Late, owner: "operator-b", ..facts(Some(&down), 120) };
    assert_eq!(says(&step(&after, &late), condition::READY), "False ConnectionFailed");
    // Nor what is wrong with a replica, or that the settings cannot be read, which keep it from nothing.
    let blind = NotificationFault::CannotInspect { message: "grant +config|get".into() };
    for start in [Start::Fresh, Start::Late] {
        let mut anew = Snapshot { ready: false, subscribed_masters: 0, ..healthy() };
        anew.nodes[0].scanned = false;
        anew.nodes[1].last_error = Some(FaultCategory::Permission.fault("it may not subscribe"));
        anew.nodes[0].last_error = Some(blind.fault());
        anew.nodes[0].notification_fault = Some(blind.clone());
        assert_eq!(step(&after, &Facts { start, owner: "operator-b", ..facts(Some(&anew), 120) }), after, "{start:?}");
    }
    // That it is not up yet, though nothing is wrong, later: it may be one of hundreds.
    let slow = Facts { start: Start::Late, snapshot: Some(&connecting), ..late };
    assert_eq!(step(&after, &slow), after);
    let over = Facts { start: Start::Over, ..slow };
    assert_eq!(says(&step(&after, &over), condition::READY), "Unknown Pending");
    // Another spec is another matter.
    let changed = Facts { generation: Some(4), start: Start::Fresh, owner: "operator-b", ..facts(None, 100) };
    assert_eq!(says(&step(&before, &changed), condition::READY), "Unknown Pending");
}

#[test]
fn how_a_start_gets_on_is_told_when_it_has_had_its_time_and_what_is_wrong_at_once() {
    fn starting(snapshot: Option<&Snapshot>, now: i64) -> Facts<'_> {
        Facts { start: Start::Fresh, ..facts(snapshot, now) }
    }
    let pending = step(&Status::default(), &starting(None, 0));
    let mut scanning = Snapshot { ready: false, subscribed_masters: 0, ..healthy() };
    scanning.nodes[0].scanned = false;
    assert_eq!(step(&pending, &starting(Some(&scanning), 1)), pending);
    let late = Facts { start: Start::Late, ..facts(Some(&scanning), 16) };
    assert_eq!(says(&step(&pending, &late), condition::READY), "False Scanning");
    let mut denied = scanning.clone();
    denied.nodes[0].last_error = Some(FaultCategory::Permission.fault("it may not subscribe"));
    denied.nodes[0].subscribed = false;
    assert_eq!(says(&step(&pending, &starting(Some(&denied), 1)), condition::READY), "False PermissionDenied");
    let lost = Snapshot {
        topology_error: Some(FaultCategory::Unreachable.fault("no node tells the topology")),
        nodes: Vec::new(),
        ..scanning.clone()
    };
    assert_eq!(says(&step(&pending, &starting(Some(&lost), 1)), condition::READY), "False ConnectionFailed");
    let full = Snapshot { store_error: Some("no".into()), store_category: Some("OutOfMemory"), ..scanning };
    assert_eq!(says(&step(&pending, &starting(Some(&full), 1)), condition::DURABLE), "False StoreOutOfMemory");
    assert_eq!(says(&step(&pending, &starting(Some(&healthy()), 1)), condition::READY), "True Listening");
}

#[test]
fn what_was_well_does_not_stand_for_ever_nor_where_somebody_has_to_do_something() {
    let well = step(&Status::default(), &facts(Some(&healthy()), 0));
    let waits = Facts { start: Start::Fresh, ..facts(None, 20) };
    assert_eq!(says(&step(&well, &waits), condition::READY), "True Listening");
    let overdue = facts(None, 61);
    assert_eq!(says(&step(&well, &overdue), condition::READY), "Unknown Pending");
    let mut away = Snapshot { ready: false, ..healthy() };
    away.nodes[0].last_error = Some(FaultCategory::Unreachable.fault("it is down"));
    away.nodes[0].subscribed = false;
    let starts = Facts { start: Start::Fresh, ..facts(Some(&away), 1) };
    assert_eq!(says(&step(&well, &starts), condition::READY), "True Listening");
    let mut denied = away.clone();
    denied.nodes[0].last_error = Some(FaultCategory::Authentication.fault("wrong password"));
    let starts = Facts { start: Start::Fresh, ..facts(Some(&denied), 1) };
    assert_eq!(says(&step(&well, &starts), condition::READY), "False AuthenticationFailed");
    // A store that does not answer is tried again by itself; of one that refuses, that is said at once.
    let held = |category| {
        let hold = Some(Hold::Store { category, message: "no".into() });
        Snapshot { ready: false, hold, ..Snapshot::default() }
    };
    let says_of = |category, start| {
        let held = held(category);
        says(&step(&well, &Facts { start, ..facts(Some(&held), 1) }), condition::DURABLE)
    };
    assert_eq!(says_of("Unavailable", Start::Fresh), "True Stored");
    assert_eq!(says_of("Unavailable", Start::Late), "False StoreUnavailable");
    assert_eq!(says_of("Evicts", Start::Fresh), "False StoreEvicts");
}

#[test]
fn since_is_another_after_a_reconnection() {
    let mut shown = Shown::default();
    let first = next(&Status::default(), &facts(Some(&healthy()), 0), &mut shown);
    let mut again = healthy();
    again.nodes[0].since = Some(Millis(1_795_000_060_000));
    let second = next(&first, &facts(Some(&again), 60), &mut shown);
    assert_eq!(second.nodes[0].since, first.nodes[0].since, "the replica's");
    assert_eq!(second.nodes[1].since, Some(Time(Timestamp::from_second(1_795_000_060).unwrap())));
}

#[test]
fn since_stays_what_an_earlier_process_wrote_for_as_long_as_the_connection_stands() {
    let before = step(&Status::default(), &facts(Some(&healthy()), 0));
    let mut anew = healthy();
    for node in &mut anew.nodes {
        node.since = Some(Millis(1_795_328_999_000));
    }
    let mut shown = Shown::default();
    let first = next(&before, &facts(Some(&anew), 100), &mut shown);
    let second = next(&first, &facts(Some(&anew), 200), &mut shown);
    assert_eq!((&first.nodes, &second.nodes), (&before.nodes, &before.nodes));
}

#[test]
fn a_replica_that_is_not_heard_is_listed_and_keeps_nobody_from_being_ready() {
    let mut snapshot = healthy();
    snapshot.nodes[1].subscribed = false;
    let status = step(&Status::default(), &facts(Some(&snapshot), 0));
    assert_eq!(says(&status, condition::READY), "True Listening");
    assert_eq!(find(&status, condition::CONNECTED).unwrap().message, "1/1 masters are subscribed and scanned.");
    assert_eq!(status.nodes[0].subscribed, Some(false));
}

#[test]
fn each_trouble_has_its_reason_and_its_fix() {
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = healthy();
        change(&mut snapshot);
        step(&Status::default(), &facts(Some(&snapshot), 0))
    };
    let ready = |change: &dyn Fn(&mut Snapshot)| says(&with(change), condition::READY);
    let gone = |snapshot: &mut Snapshot| {
        snapshot.nodes.clear();
        (snapshot.ready, snapshot.masters) = (false, 0);
    };
    let topology = |category: FaultCategory| {
        move |snapshot: &mut Snapshot| {
            gone(snapshot);
            snapshot.topology_error = Some(category.fault("a:1: no"));
        }
    };
    assert_eq!(ready(&topology(FaultCategory::Authentication)), "False AuthenticationFailed");
    assert_eq!(ready(&topology(FaultCategory::Permission)), "False PermissionDenied");
    assert_eq!(ready(&topology(FaultCategory::Unreachable)), "False ConnectionFailed");
    assert_eq!(ready(&topology(FaultCategory::EgressRefused)), "False EgressRefused");
    assert_eq!(ready(&topology(FaultCategory::NotACluster)), "False TopologyUnknown");
    assert_eq!(ready(&|snapshot| snapshot.nodes[0].subscribed = false), "False PartiallyConnected");
    assert_eq!(
        ready(&|snapshot| {
            snapshot.nodes[0].scanned = false;
            (snapshot.ready, snapshot.subscribed_masters) = (false, 0);
        }),
        "False Scanning"
    );
    let off = with(&|snapshot| {
        let node = &mut snapshot.nodes[0];
        (node.notifications, node.notify_keyspace_events) = (false, Some(String::new()));
        node.notification_fault = Some(NotificationFault::Disabled {
            command: "CONFIG SET notify-keyspace-events Kgxe$".into(),
            message: Arc::from("run CONFIG SET notify-keyspace-events Kgxe$ on 10.0.3.7:6379"),
        });
        (snapshot.subscribed_masters, snapshot.ready) = (0, false);
    });
    assert_eq!(says(&off, condition::READY), "False NotificationsDisabled");
    assert_eq!(says(&off, condition::CONNECTED), "True AllNodesSubscribed");
    assert!(find(&off, condition::READY).unwrap().message.contains("CONFIG SET notify-keyspace-events Kgxe$"));
    let blind = with(&|snapshot| {
        for node in &mut snapshot.nodes {
            node.notification_fault = Some(NotificationFault::CannotInspect { message: Arc::from("no") });
        }
    });
    assert_eq!(says(&blind, condition::NOTIFICATIONS_ENABLED), "Unknown CannotInspect");
    assert_eq!(says(&blind, condition::READY), "True Listening");
    let tracked = |why: Option<&'static str>| {
        let status = with(&move |snapshot| {
            let node = &mut snapshot.nodes[0];
            (node.change_source, node.tracked_because) = (Source::Tracking, why.map(Arc::from));
        });
        assert_eq!(says(&status, condition::NOTIFICATIONS_ENABLED), "True ClientTracking");
        find(&status, condition::NOTIFICATIONS_ENABLED).unwrap().message.clone()
    };
    assert!(tracked(None).ends_with("by client tracking."), "by choice");
    assert!(tracked(Some("run CONFIG SET it")).ends_with("for keyspace events: 10.0.3.7:6379: run CONFIG SET it"));
    let evicts = Hold::Store { category: "Evicts", message: "allkeys-lru".into() };
    let held = with(&move |snapshot| (snapshot.hold, snapshot.ready) = (Some(evicts.clone()), false));
    assert_eq!(says(&held, condition::READY), "False StoreEvicts");
    let login = Hold::Store { category: "Authentication", message: "WRONGPASS".into() };
    let held = with(&move |snapshot| (snapshot.hold, snapshot.ready) = (Some(login.clone()), false));
    assert_eq!(says(&held, condition::READY), "False AuthenticationFailed");
    // A user may be called by any word, and that is not what is wrong with what it may.
    let denied = Hold::Store { category: "Denied", message: "user NOAUTH has no permissions".into() };
    let held = with(&move |snapshot| (snapshot.hold, snapshot.ready) = (Some(denied.clone()), false));
    assert_eq!(says(&held, condition::READY), "False StoreDenied");
    let moved = Hold::DeploymentChanged { message: "another".into(), change: "0a1b".into() };
    assert_eq!(ready(&move |snapshot| snapshot.hold = Some(moved.clone())), "False DeploymentChanged");
    let denied = with(&|snapshot| {
        (snapshot.store_error, snapshot.store_category) = (Some("no".into()), Some("Denied"));
        snapshot.ready = false;
    });
    assert_eq!(says(&denied, condition::DURABLE), "False StoreDenied");
    assert_eq!(says(&denied, condition::READY), "False StoreDenied");
    let login = with(&|snapshot| {
        (snapshot.store_error, snapshot.store_category) = (Some("no".into()), Some("Authentication"));
        snapshot.ready = false;
    });
    assert_eq!(says(&login, condition::DURABLE), "False AuthenticationFailed");
    let volatile = Durability::Volatile { reason: "it has no replica".into(), fix: "add one".into() };
    let volatile = with(&move |snapshot| snapshot.durability = Some(volatile.clone()));
    assert_eq!(says(&volatile, condition::READY), "False StoreVolatile");
}

#[test]
fn the_sinks_mood_is_not_folded_into_ready() {
    let mut snapshot = healthy();
    snapshot.delivery.consecutive_failures = 3;
    snapshot.delivery.last_error = Some("answered 503".into());
    snapshot.delivery.last_failure = Some(Failure::Rejected(503));
    let status = step(&Status::default(), &facts(Some(&snapshot), 0));
    assert_eq!(says(&status, condition::DELIVERING), "False SinkRejected");
    assert_eq!(says(&status, condition::READY), "True Listening");
    let suspended = step(&Status::default(), &Facts { suspend: true, ..facts(Some(&healthy()), 0) });
    assert_eq!(says(&suspended, condition::READY), "False Suspended");
}

#[test]
fn what_is_refused_is_said_while_the_listener_goes_on_as_it_was() {
    let problem = Problem {
        field: "spec.redis.passwordSecretRef".into(),
        found: "refers to Secret redis-auth, which is not there".into(),
        fix: "create it".into(),
        reason: reason::SECRET_NOT_FOUND,
    };
    let problems = [problem];
    let status = step(&Status::default(), &Facts { refused: &problems, ..facts(Some(&healthy()), 0) });
    assert_eq!(says(&status, condition::READY), "False SecretNotFound");
    assert_eq!(says(&status, condition::CONNECTED), "True AllNodesSubscribed");
    let stopped = step(&Status::default(), &Facts { refused: &problems, ..facts(None, 0) });
    assert_eq!(says(&stopped, condition::CONNECTED), "Unknown Pending");
    assert!(find(&stopped, condition::READY).unwrap().message.contains("redis-auth"));
}

#[test]
fn a_condition_keeps_its_time_until_its_status_flips() {
    let good = step(&Status::default(), &facts(Some(&healthy()), 0));
    let still = step(&good, &Facts { owner: "operator-b", ..facts(Some(&healthy()), 50) });
    assert_eq!(find(&still, condition::READY), find(&good, condition::READY));
    let bad = Snapshot {
        topology_error: Some(FaultCategory::Uncovered.fault("some slots have no owner")),
        ready: false,
        ..healthy()
    };
    let flipped = step(&good, &facts(Some(&bad), 60));
    assert_eq!(find(&flipped, condition::CONNECTED).unwrap().last_transition_time, Time(at(60)));
    assert_eq!(find(&flipped, condition::ACCEPTED).unwrap().last_transition_time, Time(at(0)));
}

#[test]
fn messages_have_the_length_that_the_schema_allows() {
    let long = "ü".repeat(40_000);
    let bad = Snapshot {
        topology_error: Some(FaultCategory::Other.fault(long)),
        ready: false,
        nodes: Vec::new(),
        ..healthy()
    };
    let status = step(&Status::default(), &facts(Some(&bad), 0));
    assert_eq!(find(&status, condition::CONNECTED).unwrap().message.chars().count(), LONGEST_MESSAGE);
}

#[test]
fn what_has_not_changed_is_said_in_other_words_only_when_it_may_be() {
    let failing = |attempts, node_error: &str| {
        let mut snapshot = healthy();
        snapshot.delivery.consecutive_failures = attempts;
        snapshot.delivery.last_error = Some("answered 503".into());
        snapshot.delivery.last_failure = Some(Failure::Rejected(503));
        let error = Some(FaultCategory::Unreachable.fault(node_error));
        (snapshot.nodes[1].subscribed, snapshot.nodes[1].last_error) = (false, error);
        snapshot
    };
    let (first, second) = (failing(3, "refused"), failing(4, "silent"));
    let message = |status: &Status| find(status, condition::DELIVERING).unwrap().message.clone();
    let said = step(&Status::default(), &facts(Some(&first), 0));
    assert!(message(&said).contains("3 attempts"), "{}", message(&said));
    let damped = |snapshot| Facts { reword: false, ..facts(snapshot, 1) };
    let still = step(&said, &damped(Some(&second)));
    assert_eq!(still, said);
    assert!(!says_otherwise(&said, &still));
    let later = step(&said, &facts(Some(&second), 31));
    assert!(message(&later).contains("4 attempts"), "{}", message(&later));
    assert_eq!(later.nodes[0].last_error.as_deref(), Some("silent"));
    assert!(says_otherwise(&said, &later));
    // Another reason, another generation, and an error where there was none are told at once.
    let mut refused = failing(4, "silent");
    refused.delivery.last_failure = Some(Failure::Unreachable);
    let unreachable = step(&said, &damped(Some(&refused)));
    assert_eq!(says(&unreachable, condition::DELIVERING), "False SinkUnreachable");
    assert!(message(&unreachable).contains("4 attempts"));
    let generation = step(&said, &Facts { generation: Some(4), ..damped(Some(&second)) });
    assert!(message(&generation).contains("4 attempts"));
    let well = step(&Status::default(), &facts(Some(&healthy()), 0));
    assert_eq!(step(&well, &damped(Some(&first))).nodes[0].last_error.as_deref(), Some("refused"));
}

#[test]
fn a_node_is_named_once_in_a_message() {
    let mut snapshot = healthy();
    snapshot.nodes[0].subscribed = false;
    let error = FaultCategory::Unreachable.fault("Connection refused").at(&snapshot.nodes[0].address);
    snapshot.nodes[0].last_error = Some(error);
    let status = step(&Status::default(), &facts(Some(&snapshot), 0));
    let message = &find(&status, condition::CONNECTED).unwrap().message;
    assert_eq!(message, "0/1 masters are subscribed; 10.0.3.7:6379: Connection refused");
}

#[test]
fn who_holds_for_another_deployment_is_told_how_to_answer() {
    let mut snapshot = healthy();
    snapshot.hold = Some(Hold::DeploymentChanged { message: "it is another's".into(), change: "0a1b2c3d".into() });
    let status = step(&Status::default(), &facts(Some(&snapshot), 0));
    let message = &find(&status, condition::CONNECTED).unwrap().message;
    for answer in ["Discard", "Keep"] {
        let command = format!(
            "kubectl annotate --overwrite -n shop rel/orders redisexpiry.io/deployment-changed={answer}:0a1b2c3d"
        );
        assert!(message.contains(&command), "{message}");
    }
}

#[test]
fn whom_it_tells_is_shown_whatever_it_is_named_by_and_a_secrets_value_never() {
    let webhook = |yaml: &str| serde_norway::from_str::<crate::api::WebhookSpec>(yaml).unwrap().shown("shop");
    let told = [
        ("{url: 'https://orders.example/hook'}", Some("https://orders.example/hook")),
        ("{urlSecretRef: {name: orders-url, key: url}}", Some("secret orders-url/url")),
        ("{serviceRef: {name: orders}}", Some("http://orders.shop.svc:80/")),
        ("{serviceRef: {name: orders, scheme: HTTPS, path: /hook}}", Some("https://orders.shop.svc:443/hook")),
        ("{serviceRef: {name: orders, port: 8443, path: /hook}}", Some("http://orders.shop.svc:8443/hook")),
        ("{}", None),
    ];
    for (yaml, shown) in told {
        assert_eq!(webhook(yaml).as_deref(), shown, "{yaml}");
        let healthy = healthy();
        let facts = Facts { webhook: webhook(yaml), ..facts(Some(&healthy), 0) };
        assert_eq!(step(&Status::default(), &facts).webhook.as_deref(), shown);
    }
    let long = Facts { webhook: Some("ü".repeat(4_000)), ..facts(None, 0) };
    assert_eq!(step(&Status::default(), &long).webhook.unwrap().chars().count(), LONGEST_WEBHOOK);
}
