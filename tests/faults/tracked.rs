//! Servers that tell of no keyspace events, or not always: client tracking tells that something happened to a key.

use redis_expiry_operator::commands::demo::cluster::Options;

use crate::support::{
    faults::{self, wait},
    now,
    scenario::{Scenario, Setup, Store},
    verdict::Kind,
};

/// No keyspace events, and nobody may look at the settings: so are servers that others run.
fn tracked(store: Store) -> Setup {
    let directives = vec![("rename-command CONFIG".to_owned(), "NOBODY-MAY".to_owned())];
    let cluster = Options { notify_keyspace_events: String::new(), directives, ..Options::default() };
    Setup { cluster, ..Setup::with(store) }
}

pub async fn killed_and_restarted_five_times_once_inside_a_burst() {
    faults::killed_and_restarted_five_times_once_inside_a_burst(tracked(Store::Local)).await;
}

pub async fn a_master_is_killed(store: Store) {
    faults::a_master_is_killed(tracked(store)).await;
}

pub async fn a_replica_takes_over_as_planned() {
    faults::a_replica_takes_over_as_planned(tracked(Store::Local)).await;
}

pub async fn a_master_is_added_and_slots_move_to_it_under_load() {
    faults::a_master_is_added_and_slots_move_to_it_under_load(tracked(Store::Local)).await;
}

pub async fn every_master_is_flushed() {
    faults::every_master_is_flushed(tracked(Store::Local)).await;
}

/// Nobody enables them again for a while: client tracking takes over, on that node alone, and gives way to them again.
pub async fn notifications_are_cleared_on_one_node_and_client_tracking_takes_over() {
    let mut run = Scenario::start("notifications replaced", Setup::default()).await;
    run.faults.tracked = true;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    run.cluster.config_set(&master, "notify-keyspace-events", "").await.unwrap();
    run.listener.wait_says(from, &["by client tracking", &master.address()]).await;
    let ready = run.settled(now()).await;
    run.window(from, ready, &slots, Kind::Gap);
    wait(4_000).await;
    let back = now();
    run.cluster.config_set(&master, "notify-keyspace-events", "KA").await.unwrap();
    run.listener.wait_says(back, &["by keyspace notifications", &master.address()]).await;
    let ready = run.settled(now()).await;
    run.window(back, ready, &slots, Kind::Gap);
    run.counts(from, ready);
    run.judge().await;
}
