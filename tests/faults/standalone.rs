//! One master, with replicas or without, outside of a cluster: who takes over is somebody else's decision, here ours or that of
//! sentinels.

use redis_expiry_operator::{
    commands::demo::cluster::{Data, Node, Options},
    model::{Millis, SlotSet},
};

use crate::support::{
    faults::{self, wait},
    now,
    scenario::{Scenario, Setup, Store, address},
    verdict::Kind,
};

pub fn servers(replicas: usize, store: Store) -> Setup {
    let cluster =
        Options { clustered: false, masters: 1, replicas, notify_keyspace_events: "KA".into(), ..Options::default() };
    Setup { cluster, ..Setup::with(store) }
}

/// A master, a replica and three sentinels. Of two replicas the other goes on with the old master for a while, so that who waits
/// for a replica does not know what a failover leaves.
pub fn sentinels(store: Store) -> Setup {
    let setup = servers(1, store);
    Setup { cluster: Options { sentinels: 3, ..setup.cluster }, ..setup }
}

/// The one server has all keys: whatever befalls it leaves the fate of many open, so more are needed for a run to count.
async fn started(name: &'static str, setup: Setup) -> Scenario {
    let mut run = Scenario::start(name, setup).await;
    run.least = 16_000;
    run
}

/// The end of a fault for which another took the master's place: what that one alone had is gone, the ledger's too if it lies there.
async fn replaced(mut run: Scenario, from: Millis, master: &Node) {
    let until = run.recovered(from, &SlotSet::all(), Kind::Loss).await;
    run.store_held(from, until);
    run.demoted(master, until);
    over(run, from, until).await;
}

/// The end of a fault that took from then until `until`: more that falls due and is paid behind it counts.
async fn over(mut run: Scenario, from: Millis, until: Millis) {
    run.counts(from, until.plus(4_000));
    run.judge().await;
}

async fn master_and_replica(run: &Scenario) -> (Node, Node) {
    let (master, _) = run.masters().await.remove(0);
    let replica = run.cluster.replicas_of(&master).await.unwrap().remove(0);
    (master, replica)
}

pub async fn killed_and_restarted_five_times_once_inside_a_burst(store: Store) {
    faults::killed_and_restarted_five_times_once_inside_a_burst(servers(1, store)).await;
}

pub async fn notifications_are_cleared_and_enabled_again_by_the_listener(store: Store) {
    faults::notifications_are_cleared_on_one_node_and_enabled_again_by_the_listener(servers(1, store)).await;
}

pub async fn the_master_is_killed_and_its_replica_promoted(store: Store) {
    let run = started("server killed", servers(1, store)).await;
    let (master, replica) = master_and_replica(&run).await;
    let from = now();
    run.cluster.kill(&master).unwrap();
    wait(1_000).await;
    run.cluster.promote(&replica).await.unwrap();
    replaced(run, from, &master).await;
}

pub async fn a_replica_is_promoted_and_the_old_master_made_its_replica(store: Store) {
    let mut run = started("server replaced", servers(1, store)).await;
    let (master, replica) = master_and_replica(&run).await;
    let from = now();
    run.cluster.promote(&replica).await.unwrap();
    run.cluster.replicate(&master, &replica).await.unwrap();
    run.faults.promotions.push(address(&replica));
    replaced(run, from, &master).await;
}

pub async fn the_master_hangs_until_it_is_replaced_and_thaws(store: Store) {
    let run = started("server hangs", servers(1, store)).await;
    let (master, replica) = master_and_replica(&run).await;
    let from = now();
    run.cluster.pause(&master).unwrap();
    wait(2_500).await;
    run.cluster.promote(&replica).await.unwrap();
    wait(1_500).await;
    run.cluster.resume(&master).unwrap();
    // As whoever promoted the other tells it as soon as it answers.
    run.cluster.replicate(&master, &replica).await.unwrap();
    replaced(run, from, &master).await;
}

pub async fn a_server_alone_restarts_empty() {
    let mut run = started("server restarted empty", servers(0, Store::Local)).await;
    let (master, _) = run.masters().await.remove(0);
    let from = now();
    run.cluster.restart(&master, Data::Drop).await.unwrap();
    run.wiped(from, now(), &SlotSet::all());
    let until = run.recovered(from, &SlotSet::all(), Kind::Loss).await;
    over(run, from, until).await;
}

pub async fn the_master_is_killed_and_sentinels_promote_another(store: Store) {
    killed_before_sentinels(sentinels(store)).await;
}

pub async fn killed_before_sentinels(setup: Setup) {
    let run = started("sentinels: master killed", setup).await;
    let (master, _) = run.masters().await.remove(0);
    let from = now();
    run.cluster.kill(&master).unwrap();
    replaced(run, from, &master).await;
}

pub async fn the_master_hangs_until_sentinels_replace_it_and_thaws(store: Store) {
    let run = started("sentinels: master hangs", sentinels(store)).await;
    let (master, _) = run.masters().await.remove(0);
    let from = now();
    run.cluster.pause(&master).unwrap();
    another_is_master(&run, &master).await;
    // It believes that it is the master until a sentinel has seen for eight seconds that it says so.
    run.cluster.resume(&master).unwrap();
    replaced(run, from, &master).await;
}

async fn another_is_master(run: &Scenario, old: &Node) {
    let give_up = now().plus(20_000);
    loop {
        let masters = run.cluster.masters().await.unwrap_or_default();
        if masters.iter().any(|(node, _)| node != old) {
            return;
        }
        assert!(now() < give_up, "nobody was promoted");
        wait(50).await;
    }
}
