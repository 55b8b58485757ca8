//! The core of the fault suite: what every store must be able to stand.

use std::time::Duration;

use redis_expiry_operator::{
    commands::demo::cluster::{Failover, Node},
    model::SlotSet,
};

use super::{
    now,
    scenario::{Scenario, Setup, address},
    verdict::Kind,
    wire::{Reply, ask},
};

pub async fn wait(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

pub async fn killed_and_restarted_five_times_once_inside_a_burst(setup: Setup) {
    let mut run = Scenario::start("killed five times", setup).await;
    for round in 0..5 {
        let begun = now();
        if round == 2 {
            // Long enough before that all of them are set and recorded, on a slow machine too: what is not is promised nothing, and
            // nobody could tell which those are.
            run.generator.burst_after(Duration::from_secs(2), 800, Duration::from_millis(300)).await;
            wait(2_150).await;
        }
        let from = now();
        run.listener.kill().await;
        wait(300).await;
        run.listener.start_again();
        let ready = run.listener.wait_ready(from).await;
        // In the middle of 800 expiries it is some time behind with what is set, on a slow machine 0.4 s.
        let recorded = if round == 2 { from.plus(-750) } else { from };
        if round == 2 && run.faults.tracked {
            // What is set and expires while it is behind nobody tells as an expiry, and no look has seen it.
            run.window(begun, recorded, &SlotSet::all(), Kind::Gap);
        }
        run.window(recorded, ready, &SlotSet::all(), Kind::Gap);
        run.counts(from, ready);
        wait(900).await;
    }
    run.judge().await;
}

pub async fn terminated_and_restarted(setup: Setup) {
    let mut run = Scenario::start("terminated", setup).await;
    let from = now();
    run.listener.terminate().await;
    wait(300).await;
    run.listener.start_again();
    let ready = run.listener.wait_ready(from).await;
    run.window(from, ready, &SlotSet::all(), Kind::Gap);
    run.counts(from, ready);
    run.judge().await;
}

pub async fn a_master_is_killed(setup: Setup) {
    let mut run = Scenario::start("master killed", setup).await;
    if run.faults.tracked {
        run.least = 18_000;
    }
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    run.cluster.kill(&master).unwrap();
    let until = run.recovered(from, &slots, Kind::Loss).await;
    run.store_held(from, until);
    if run.faults.tracked {
        // Once the others have found out, after the node timeout, none of them answers anybody (CLUSTERDOWN): no key is looked at, and
        // nobody says what became of it.
        run.window(from.plus(2_000), until, &SlotSet::all(), Kind::Gap);
    }
    run.demoted(&master, until);
    run.judge().await;
}

pub async fn a_replica_takes_over_as_planned(setup: Setup) {
    let mut run = Scenario::start("planned failover", setup).await;
    let (master, slots) = run.masters().await.remove(0);
    let replica = run.cluster.replicas_of(&master).await.unwrap().remove(0);
    let from = now();
    run.cluster.failover(&replica, Failover::Planned).await.unwrap();
    run.faults.promotions.push(address(&replica));
    run.recovered(from, &slots, Kind::Handover).await;
    run.judge().await;
}

pub async fn a_master_is_added_and_slots_move_to_it_under_load(setup: Setup) {
    let mut run = Scenario::start("slots moved", setup).await;
    let masters = run.masters().await;
    let from = now();
    let added = run.cluster.add_master().await.unwrap();
    let mut keys = 0;
    // At once, when the listener has hardly heard of the new master; then again, when it is subscribed to it.
    for ((master, slots), kind) in masters.iter().zip([Kind::Gap, Kind::Handover]) {
        let from = if kind == Kind::Gap { from } else { now() };
        let moved: SlotSet = slots.iter().take(300).collect();
        keys += run.cluster.move_slots(master, &added, moved.iter().map(|slot| slot.0)).await.unwrap();
        run.recovered(from, &moved, kind).await;
    }
    assert!(keys > 10, "only {keys} keys were there to move");
    run.judge().await;
}

pub async fn notifications_are_cleared_on_one_node_and_enabled_again_by_the_listener(setup: Setup) {
    let setup = Setup { keyspace_events: "Enable", ..setup };
    let mut run = Scenario::start("notifications restored", setup).await;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    clear_flags_until_set_again(&run, &master).await;
    run.recovered(from, &slots, Kind::Gap).await;
    let set = flags(&master).await;
    assert!(set.contains('K') && ["g$xe", "A"].iter().any(|all| all.chars().all(|flag| set.contains(flag))), "{set}");
    run.judge().await;
}

pub async fn every_master_is_flushed(setup: Setup) {
    let mut run = Scenario::start("flushed", setup).await;
    let from = now();
    for (master, slots) in run.masters().await {
        let began = now();
        ask(&address(&master), &["FLUSHALL"]).await.unwrap();
        run.wiped(began, now(), &slots);
    }
    run.recovered(from, &SlotSet::all(), Kind::Loss).await;
    run.judge().await;
}

pub async fn the_receiver_is_down_for_20_seconds(setup: Setup) {
    let mut run = Scenario::start("receiver down", setup).await;
    let from = now();
    run.receiver.down();
    wait(20_000).await;
    run.receiver.up().await;
    run.counts(from, now());
    run.judge().await;
}

/// Clears the node's flags, and returns when the listener has set them again.
pub async fn clear_flags_until_set_again(run: &Scenario, node: &Node) {
    run.cluster.config_set(node, "notify-keyspace-events", "").await.unwrap();
    let give_up = now().plus(10_000);
    while flags(node).await.is_empty() {
        assert!(now() < give_up, "the listener did not set the flags again\n{}", run.listener.tail());
        wait(20).await;
    }
}

pub async fn flags(node: &Node) -> String {
    let reply = ask(&address(node), &["CONFIG", "GET", "notify-keyspace-events"]).await.unwrap();
    reply.array().get(1).map(Reply::text).unwrap_or_default()
}
