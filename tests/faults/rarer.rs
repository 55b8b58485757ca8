//! Faults that are rarer than those of tests/faults.rs, or two at once.

use std::{fmt::Write as _, io::Write as _, process::Command, time::Duration};

use redis_expiry_operator::{
    commands::demo::cluster::{Data, Failover, Node},
    model::{Millis, SlotSet, slot_of},
};

use crate::{
    standalone,
    support::{
        faults::wait,
        now,
        receiver::Mode,
        scenario::{Scenario, Setup, Store, address},
        verdict::{Ahead, Kind},
        wire::ask,
    },
};

/// It keeps its connections and answers nobody, longer than we wait for an answer.
pub async fn a_master_pauses_all_its_clients() {
    let mut run = Scenario::start("clients paused", Setup::default()).await;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    ask(&address(&master), &["CLIENT", "PAUSE", "4000", "ALL"]).await.unwrap();
    wait(4_000).await;
    run.recovered(from, &slots, Kind::Gap).await;
    run.judge().await;
}

/// Nothing is deleted and nothing expires: what is due is hidden. Nobody pushes anything until it is over.
pub async fn every_master_pauses_writes() {
    let mut run = Scenario::start("writes paused", Setup::default()).await;
    let from = now();
    for (master, _) in run.masters().await {
        ask(&address(&master), &["CLIENT", "PAUSE", "2500", "WRITE"]).await.unwrap();
    }
    wait(2_500).await;
    run.recovered(from, &SlotSet::all(), Kind::Gap).await;
    run.judge().await;
}

/// It is the only server: nobody takes its place.
pub async fn a_script_blocks_the_server_for_six_seconds() {
    let mut run = Scenario::start("script", standalone::servers(0, Store::Local)).await;
    run.least = 24_000;
    let (master, _) = run.masters().await.remove(0);
    let from = now();
    let script = "local t = tonumber(redis.call('TIME')[1]) while tonumber(redis.call('TIME')[1]) < t + 7 do end";
    let blocked = tokio::spawn(async move { blocking(&master, script).await });
    blocked.await.unwrap();
    let until = run.recovered(from, &SlotSet::all(), Kind::Gap).await;
    run.counts(from, until.plus(4_000));
    run.judge().await;
}

async fn blocking(master: &Node, script: &str) {
    let mut connection = master.connect(Duration::from_secs(20)).await.unwrap();
    redis::cmd("EVAL").arg(script).arg(0).query_async::<()>(&mut connection).await.unwrap();
}

/// The whole of its data goes to another database, and no event tells of it.
pub async fn the_databases_are_swapped() {
    let mut run = Scenario::start("databases swapped", standalone::servers(1, Store::Local)).await;
    run.least = 16_000;
    let (master, _) = run.masters().await.remove(0);
    let from = now();
    ask(&address(&master), &["SWAPDB", "0", "1"]).await.unwrap();
    run.wiped(from, now(), &SlotSet::all());
    let until = run.recovered(from, &SlotSet::all(), Kind::Loss).await;
    run.window(from, until.plus(5_000), &SlotSet::all(), Kind::Loss);
    run.counts(from, until.plus(4_000));
    run.judge().await;
}

/// More is pushed at one moment than a server keeps for us.
pub async fn the_servers_output_buffer_overflows() {
    let mut run = Scenario::start("output buffer", Setup::default()).await;
    for (master, slots) in run.masters().await {
        run.cluster.config_set(&master, "client-output-buffer-limit", "pubsub 64kb 0 0").await.unwrap();
        let from = now();
        let before = subscriber(&master).await.expect("we are subscribed");
        let key = noise(&slots);
        let mut script = String::from("for i = 1, 5000 do ");
        write!(script, "redis.call('SET', '{key}', 'x') redis.call('DEL', '{key}') end").unwrap();
        blocking(&master, &script).await;
        let give_up = now().plus(10_000);
        while subscriber(&master).await.is_none_or(|other| other == before) {
            assert!(now() < give_up, "nobody was cut off");
            wait(20).await;
        }
        run.recovered(from, &slots, Kind::Gap).await;
        run.cluster.config_set(&master, "client-output-buffer-limit", "pubsub 32mb 8mb 60").await.unwrap();
    }
    run.judge().await;
}

/// The number of the connection that is subscribed to the node's events.
async fn subscriber(node: &Node) -> Option<String> {
    let clients = ask(&address(node), &["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap().text();
    clients.split_once("id=").and_then(|(_, rest)| Some(rest.split_once(' ')?.0.to_owned()))
}

/// A key that the pattern covers and that nobody else uses, in one of the slots.
fn noise(slots: &SlotSet) -> String {
    let key = |number: u32| format!("order:pay:noise:{number}");
    (0..).map(key).find(|key| slots.contains(slot_of(key.as_bytes()))).unwrap()
}

/// Redis takes keys away for want of room. What was taken is told of when it was due.
pub async fn keys_are_evicted() {
    let mut run = Scenario::start("evicted", Setup::default()).await;
    let (master, slots) = run.masters().await.remove(0);
    run.cluster.config_set(&master, "maxmemory-policy", "volatile-random").await.unwrap();
    let from = now();
    let evicted = async || master.info("stats", "evicted_keys").await.unwrap().parse::<u64>().unwrap();
    let give_up = now().plus(10_000);
    while evicted().await < 100 {
        let used: u64 = master.info("memory", "used_memory").await.unwrap().parse().unwrap();
        run.cluster.config_set(&master, "maxmemory", &(used - 20_000).to_string()).await.unwrap();
        wait(50).await;
        run.cluster.config_set(&master, "maxmemory", "0").await.unwrap();
        assert!(now() < give_up, "only {} were evicted", evicted().await);
    }
    let until = run.recovered(from, &slots, Kind::Loss).await;
    // What was taken may fall due that much later.
    run.window(from, until.plus(5_000), &slots, Kind::Loss);
    run.judge().await;
}

pub async fn a_master_is_killed_while_the_receiver_is_down() {
    let mut run = Scenario::start("receiver down, master killed", Setup::default()).await;
    let (master, slots) = run.masters().await.remove(0);
    run.receiver.down();
    wait(1_500).await;
    let from = now();
    run.cluster.kill(&master).unwrap();
    let until = run.recovered(from, &slots, Kind::Loss).await;
    run.demoted(&master, until);
    wait(1_500).await;
    run.receiver.up().await;
    run.counts(from, now());
    run.judge().await;
}

pub async fn the_process_is_killed_while_slots_move() {
    let mut run = Scenario::start("slots moved, process killed", Setup::default()).await;
    // It is long until all is seen whole again.
    run.least = 22_000;
    let (master, slots) = run.masters().await.remove(0);
    let from = now();
    let added = run.cluster.add_master().await.unwrap();
    let moved: SlotSet = slots.iter().take(600).collect();
    let (cluster, listener) = (&run.cluster, &mut run.listener);
    let killing = async {
        for _ in 0..3 {
            wait(200).await;
            listener.kill().await;
            listener.start_again();
        }
    };
    let (keys, ()) = tokio::join!(cluster.move_slots(&master, &added, moved.iter().map(|slot| slot.0)), killing);
    assert!(keys.unwrap() > 10, "too few keys were there to move");
    run.recovered(from, &SlotSet::all(), Kind::Gap).await;
    run.judge().await;
}

/// A scan has just begun, and its node is no master any more.
pub async fn a_replica_takes_over_during_a_resync() {
    let mut run = Scenario::start("failover in a resync", Setup::default()).await;
    let (master, _) = run.masters().await.remove(0);
    let replica = run.cluster.replicas_of(&master).await.unwrap().remove(0);
    let from = now();
    run.listener.kill().await;
    run.listener.start_again();
    wait(60).await;
    run.cluster.failover(&replica, Failover::Takeover).await.unwrap();
    let until = run.recovered(from, &SlotSet::all(), Kind::Loss).await;
    run.demoted(&master, until);
    run.judge().await;
}

/// It says when it will take more. Nothing comes before.
pub async fn the_receiver_wants_to_be_left_alone_for_a_while() {
    let mut run = Scenario::start("receiver answers 429", Setup::default()).await;
    let from = now();
    run.receiver.behave(Mode::Later(3));
    let give_up = from.plus(5_000);
    while !run.receiver.received().iter().any(|one| one.answered == 429) {
        assert!(now() < give_up, "nothing came");
        wait(10).await;
    }
    // What was under way has come.
    wait(500).await;
    let (at, count) = (now(), run.receiver.received().len());
    wait(2_000).await;
    assert_eq!(run.receiver.received().len(), count, "since {}", at.0);
    run.receiver.behave(Mode::Answers(200));
    wait(1_500).await;
    run.counts(from, now());
    run.judge().await;
}

/// The only server comes back with what it had on its disk a moment ago.
pub async fn a_server_restarts_from_its_disk() {
    let mut setup = standalone::servers(0, Store::Local);
    setup.cluster.directives.push(("appendonly".to_owned(), "yes".to_owned()));
    setup.cluster.directives.push(("appendfsync".to_owned(), "always".to_owned()));
    comes_back("restarted from its disk", setup).await;
}

/// The same from a snapshot, which it wrote just before it died.
pub async fn a_server_restarts_from_its_snapshot() {
    comes_back("restarted from its snapshot", standalone::servers(0, Store::Local)).await;
}

async fn comes_back(name: &'static str, setup: Setup) {
    let mut run = Scenario::start(name, setup).await;
    run.least = 40_000;
    let (master, _) = run.masters().await.remove(0);
    let from = now();
    run.cluster.restart(&master, Data::Keep).await.unwrap();
    let until = run.recovered(from, &SlotSet::all(), Kind::Loss).await;
    run.demoted(&master, until);
    run.counts(from, until.plus(4_000));
    run.judge().await;
}

/// All that it has goes to the others, and it is switched off.
pub async fn a_master_is_drained_and_removed() {
    let mut run = Scenario::start("drained and removed", Setup::default()).await;
    run.least = 16_000;
    let (master, slots) = run.masters().await.remove(0);
    let moved: SlotSet = slots.iter().take(600).collect();
    let from = now();
    let added = run.cluster.add_master().await.unwrap();
    run.cluster.move_slots(&master, &added, moved.iter().map(|slot| slot.0)).await.unwrap();
    run.recovered(from, &moved, Kind::Gap).await;
    wait(1_000).await;
    let from = now();
    let keys = run.cluster.move_slots(&added, &master, moved.iter().map(|slot| slot.0)).await.unwrap();
    assert!(keys > 10, "only {keys} keys were there to move");
    run.cluster.remove(&added).await.unwrap();
    run.recovered(from, &moved, Kind::Handover).await;
    run.judge().await;
}

/// Each takes nearly as long as we wait.
pub async fn the_receiver_is_slow() {
    let mut run = Scenario::start("receiver slow", Setup::default()).await;
    let from = now();
    run.receiver.behave(Mode::Slow(1_500));
    wait(6_000).await;
    run.receiver.behave(Mode::Answers(200));
    run.counts(from, now());
    run.judge().await;
}

/// Nothing can be recorded and nothing settled until there is room again.
pub async fn the_disk_of_the_store_is_full() {
    let mut run = Scenario::start("disk full", Setup { disk: Some(32), ..Setup::default() }).await;
    let filler = run.listener.state().join("filler");
    let from = now();
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    run.generator.burst(2_000, Duration::from_secs(1)).await;
    run.listener.wait_says(from, &["the store", "full"]).await;
    wait(2_000).await;
    std::fs::remove_file(&filler).unwrap();
    let well = run.settled(now()).await;
    run.window(from, well.plus(2_500), &SlotSet::all(), Kind::Held);
    run.counts(from, well);
    run.judge().await;
}

/// Its keys expire by its own clock, five seconds too soon: so it is with Redis, and we say so.
pub async fn a_replica_whose_clock_is_five_seconds_ahead_takes_over() {
    const AHEAD_MS: i64 = 5_000;
    let mut setup = Setup::default();
    let built = tempfile::Builder::new().prefix("ahead-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let library = built.path().join("ahead.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/ahead.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.unwrap().success(), "{source} is not compiled");
    let variables = vec![("LD_PRELOAD".to_owned(), library.display().to_string())];
    // The first replica, of the first master.
    setup.cluster.environment = Some((3, variables));
    let mut run = Scenario::start("clock ahead", setup).await;
    run.least = 20_000;
    let replica = run.cluster.nodes()[3].clone();
    let masters = run.masters().await;
    let (master, slots) = masters.into_iter().find(|(node, _)| *node == run.cluster.nodes()[0]).unwrap();
    let seconds = ask(&address(&replica), &["TIME"]).await.unwrap().array()[0].text().parse::<i64>().unwrap();
    assert!((seconds * 1000 - now().0 - AHEAD_MS).abs() < 1_500, "its clock is not ahead");
    let from = now();
    run.faults.ahead = Some(Ahead { from, slots: slots.clone(), milliseconds: AHEAD_MS });
    run.cluster.failover(&replica, Failover::Takeover).await.unwrap();
    let until = run.recovered(from, &slots, Kind::Loss).await;
    run.demoted(&master, until);
    run.listener.wait_says(Millis(0), &["clockSkewed", "ahead of ours"]).await;
    run.judge().await;
}

/// The one that takes its place was a master until just before: what it was told of as a replica must not come up.
pub async fn a_master_is_killed_soon_after_it_took_over() {
    let mut run = Scenario::start("killed after a failover", Setup::default()).await;
    run.least = 24_000;
    let (master, slots) = run.masters().await.remove(0);
    for _ in 0..3 {
        // It is the master again by then.
        let new = run.cluster.replicas_of(&master).await.unwrap().remove(0);
        let from = now();
        run.cluster.failover(&new, Failover::Planned).await.unwrap();
        run.faults.promotions.push(address(&new));
        run.recovered(from, &slots, Kind::Handover).await;
        wait(900).await;
        let from = now();
        run.cluster.kill(&new).unwrap();
        let until = run.recovered(from, &slots, Kind::Loss).await;
        run.demoted(&new, until);
        let again = now();
        run.cluster.restart(&new, Data::Drop).await.unwrap();
        run.recovered(again, &slots, Kind::Handover).await;
    }
    run.judge().await;
}
