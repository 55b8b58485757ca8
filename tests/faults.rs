//! The fault suite: the built binary against real redis-servers and a real HTTP receiver. In each scenario orders are
//! created, expire and are paid all the while; nothing may be lost, nothing invented (DESIGN section 9).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what the tests are made of may fail as tests do; clippy only knows of functions marked as tests"
)]

#[macro_use]
#[path = "faults/put_through.rs"]
mod put_through;
mod support;

#[path = "faults/in_redis.rs"]
mod in_redis;
#[path = "faults/modes.rs"]
mod modes;
#[allow(dead_code, reason = "tests/every_mode.rs has the rest")]
#[path = "faults/standalone.rs"]
mod standalone;
#[allow(dead_code, reason = "tests/every_mode.rs has the rest")]
#[path = "faults/tls.rs"]
mod tls;
#[allow(dead_code, reason = "tests/every_mode.rs has the rest")]
#[path = "faults/tracked.rs"]
mod tracked;

use std::time::Duration;

use redis_expiry_operator::{
    commands::demo::cluster::{Data, Failover},
    model::SlotSet,
};
use support::{
    faults::{self, flags, wait},
    now,
    receiver::Mode,
    scenario::{Scenario, Setup, address},
    verdict::Kind,
    wire::ask,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_five_times_once_inside_a_burst() {
    faults::killed_and_restarted_five_times_once_inside_a_burst(Setup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_and_restarted() {
    faults::terminated_and_restarted(Setup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_connection_is_killed_five_times() {
    let mut run = Scenario::start("all connections killed", Setup::default()).await;
    for _ in 0..5 {
        let from = now();
        let mut killed = 0;
        for node in run.cluster.nodes() {
            let reply = ask(&address(&node), &["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
            killed += reply.integer().unwrap_or(0);
        }
        assert!(killed >= 3, "only {killed} subscriber connections were there to kill");
        run.recovered(from, &SlotSet::all(), Kind::Gap).await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_is_cut() {
    let mut run = Scenario::start("one connection cut", Setup::default()).await;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    let killed = ask(&address(&master), &["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    assert_eq!(killed.integer(), Some(1), "one subscription to each node");
    run.recovered(from, &slots, Kind::Gap).await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_killed() {
    faults::a_master_is_killed(Setup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_as_planned() {
    faults::a_replica_takes_over_as_planned(Setup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_without_asking() {
    let mut run = Scenario::start("takeover", Setup::default()).await;
    let (master, slots) = run.masters().await.remove(0);
    let replica = run.cluster.replicas_of(&master).await.unwrap().remove(0);
    let from = now();
    run.cluster.failover(&replica, Failover::Takeover).await.unwrap();
    let until = run.recovered(from, &slots, Kind::Loss).await;
    run.demoted(&master, until);
    run.judge().await;
}

/// Redis promotes by itself a replica that is up to `cluster-replica-validity-factor` times `cluster-node-timeout` behind, 160 s as
/// it comes: it still has keys that expired, and were told of, so long ago; and expires them once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_over_a_minute_behind_takes_over() {
    let mut run = Scenario::start("left behind", Setup::default()).await;
    let (master, slots) = run.masters().await.remove(0);
    let replica = run.cluster.replicas_of(&master).await.unwrap().remove(0);
    run.cluster.pause(&replica).unwrap();
    // What it has not read yet it is not to read when it thaws.
    master.query::<i64>(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica")).await.unwrap();
    wait(70_000).await;
    let from = now();
    run.cluster.kill(&master).unwrap();
    run.cluster.resume(&replica).unwrap();
    run.cluster.failover(&replica, Failover::Takeover).await.unwrap();
    let until = run.recovered(from, &slots, Kind::Loss).await;
    // What was written last goes with the master, and is due within so long.
    run.window(from, until.plus(5_000), &slots, Kind::Loss);
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_hangs_for_less_than_the_failover_time_and_thaws() {
    let mut run = Scenario::start("short hang", Setup::default()).await;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    run.cluster.pause(&master).unwrap();
    wait(1_600).await;
    run.cluster.resume(&master).unwrap();
    run.recovered(from, &slots, Kind::Gap).await;
    let owners = run.masters().await;
    assert!(owners.iter().any(|(node, _)| *node == master), "it was failed over after all");
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_hangs_until_it_is_replaced_and_thaws() {
    let mut run = Scenario::start("long hang", Setup::default()).await;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    run.cluster.pause(&master).unwrap();
    run.cluster.wait_ok().await.unwrap();
    wait(500).await;
    run.cluster.resume(&master).unwrap();
    let until = run.recovered(from, &slots, Kind::Loss).await;
    run.demoted(&master, until);
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_added_and_slots_move_to_it_under_load() {
    faults::a_master_is_added_and_slots_move_to_it_under_load(Setup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_restarts_empty() {
    let mut setup = Setup::default();
    // Nobody fails it over while it is away.
    setup.cluster.node_timeout = Duration::from_secs(15);
    let mut run = Scenario::start("restarted empty", setup).await;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    run.cluster.restart(&master, Data::Drop).await.unwrap();
    run.wiped(from, now(), &slots);
    run.recovered(from, &slots, Kind::Loss).await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_cleared_on_one_node_and_enabled_again_by_the_listener() {
    faults::notifications_are_cleared_on_one_node_and_enabled_again_by_the_listener(Setup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_cleared_on_one_node_and_the_listener_says_so_and_goes_on_asking() {
    let setup = Setup { change_source: "KeyspaceEvents", ..Setup::default() };
    let mut run = Scenario::start("notifications missing", setup).await;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    run.cluster.config_set(&master, "notify-keyspace-events", "").await.unwrap();
    run.listener.wait_says(from, &["notify-keyspace-events", &master.address()]).await;
    wait(2_000).await;
    assert!(flags(&master).await.is_empty(), "Observe must not set flags");
    run.cluster.config_set(&master, "notify-keyspace-events", "KA").await.unwrap();
    let ready = run.listener.wait_ready(now()).await;
    run.window(from, ready, &slots, Kind::Gap);
    run.counts(from, ready);
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_master_is_flushed() {
    faults::every_master_is_flushed(Setup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_answers_500_for_a_while() {
    let mut run = Scenario::start("receiver answers 500", Setup::default()).await;
    let from = now();
    run.receiver.behave(Mode::Answers(500));
    wait(4_000).await;
    run.receiver.behave(Mode::Answers(200));
    run.counts(from, now());
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_hangs_for_a_while() {
    let mut run = Scenario::start("receiver hangs", Setup::default()).await;
    let from = now();
    run.receiver.behave(Mode::Hangs);
    wait(4_000).await;
    run.receiver.behave(Mode::Answers(200));
    run.counts(from, now());
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_is_down_for_20_seconds() {
    faults::the_receiver_is_down_for_20_seconds(Setup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_is_down_and_the_process_is_killed_meanwhile() {
    let mut run = Scenario::start("receiver down, process killed", Setup::default()).await;
    let from = now();
    run.receiver.down();
    wait(1_500).await;
    let killed = now();
    run.listener.kill().await;
    wait(300).await;
    run.listener.start_again();
    let ready = run.listener.wait_ready(killed).await;
    run.window(killed, ready, &SlotSet::all(), Kind::Gap);
    wait(1_000).await;
    run.receiver.up().await;
    run.counts(from, now());
    run.judge().await;
}
