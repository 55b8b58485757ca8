//! The core of the suite with the ledger in Redis, where a fault of the watched cluster is one of the ledger as well.

use std::time::Duration;

use redis_expiry_operator::{commands::demo::cluster::Data, model::SlotSet};

use crate::support::{
    faults::{self, wait},
    now,
    scenario::{Scenario, Setup, Store},
    sleep_until,
    verdict::Kind,
};

/// Runs each of the shared faults with the ledger in the watched cluster.
macro_rules! watched {
    ($setup:expr => $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            faults::$name($setup).await;
        })*
    };
}

watched! { Setup::with(Store::Watched) =>
    killed_and_restarted_five_times_once_inside_a_burst
    a_master_is_killed
    notifications_are_cleared_on_one_node_and_enabled_again_by_the_listener
    the_receiver_is_down_for_20_seconds
}

// Nothing is refused to the user `rx` of manifests/examples/acl.yaml: at a start, by a replica that becomes a master, by a server
// that is added, nor while slots move.
watched! { Setup { least_rights: true, ..Setup::with(Store::Watched) } =>
    terminated_and_restarted
    a_replica_takes_over_as_planned
    a_master_is_added_and_slots_move_to_it_under_load
}

/// The one fault that rule 11 does not cover: what was written last is lost, and so is who could write it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_killed_and_the_process_with_it() {
    let mut run = Scenario::start("master and process killed", Setup::with(Store::Watched)).await;
    let (master, _) = run.masters().await.remove(0);
    let from = now();
    run.cluster.kill(&master).unwrap();
    run.listener.kill().await;
    wait(300).await;
    run.listener.start_again();
    // Its store can be opened when the replica has taken over; what is lost of the ledger is of any slot.
    run.listener.wait_ready(from).await;
    let until = run.recovered(from, &SlotSet::all(), Kind::Loss).await;
    run.demoted(&master, until);
    // So much lies inside one gap that more is needed for the run to count.
    wait(3_000).await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_another_redis_that_has_the_ledger_is_killed() {
    let mut run = Scenario::start("master of the store killed", Setup::with(Store::Another)).await;
    // Many in a batch, while the replica has not taken over yet.
    run.generator.burst(1_200, Duration::from_millis(600)).await;
    wait(800).await;
    let other = run.other.as_ref().unwrap();
    let (master, _) = other.masters().await.unwrap().remove(0);
    let from = now();
    other.kill(&master).unwrap();
    other.wait_ok().await.unwrap();
    // The watched cluster is well all the while: no push is missed, and nothing is excused.
    let well = run.settled(now()).await;
    run.store_held(from, well);
    run.counts(from, well);
    let late = run.judge().await.lateness_inside;
    // Two of three partitions are as well as ever: their keys do not wait for the others', which are up to half of all that is
    // due meanwhile.
    let soon = late[late.len() / 3];
    assert!(soon < 1_000, "a third of them came within {soon} ms");
}

/// What was written longer ago than the process keeps it to write it again (30 s) is gone with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_another_redis_comes_back_with_what_it_held_36_seconds_ago() {
    let mut run = Scenario::start("store gone back", Setup::with(Store::Alone)).await;
    let other = run.other.as_ref().unwrap();
    let (master, _) = other.masters().await.unwrap().remove(0);
    let from = now();
    let () = master.query(&redis::cmd("SAVE")).await.unwrap();
    // Recorded behind that, more than 30 s before the end, and due around it: the process alone knows of them, or, of those that
    // are due later than what it looks ahead, the watched cluster.
    run.generator.burst_after(Duration::from_secs(34), 900, Duration::from_secs(10)).await;
    sleep_until(from.plus(36_000)).await;
    let killed = now();
    let other = run.other.as_ref().unwrap();
    other.kill(&master).unwrap();
    other.restart(&master, Data::Keep).await.unwrap();
    other.wait_ok().await.unwrap();
    run.listener.wait_says(killed, &["has lost what it had acknowledged"]).await;
    let well = run.settled(now()).await;
    run.window(from, well, &SlotSet::all(), Kind::Rewound);
    run.store_held(killed, well);
    run.counts(killed, well.max(killed.plus(8_000)));
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_redis_that_has_the_ledger_is_gone_for_a_while() {
    let mut run = Scenario::start("store hangs", Setup::with(Store::Another)).await;
    let other = run.other.as_ref().unwrap();
    let from = now();
    for node in other.nodes() {
        other.pause(&node).unwrap();
    }
    run.listener.wait_says(from, &["the store"]).await;
    wait(4_000).await;
    let other = run.other.as_ref().unwrap();
    for node in other.nodes() {
        other.resume(&node).unwrap();
    }
    other.wait_ok().await.unwrap();
    let well = run.settled(now()).await;
    run.store_held(from, well);
    run.counts(from, well);
    run.judge().await;
}
