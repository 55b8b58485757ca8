//! What is done to the listener and to what it depends on, one at a time, each written down for the judge.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use redis_expiry_operator::{
    commands::demo::cluster::{Data, Failover, Node},
    model::{Millis, SlotSet},
};

use crate::support::{
    faults::{clear_flags_until_set_again, wait},
    now,
    receiver::Mode,
    scenario::{Scenario, address},
    verdict::Kind,
    wire::ask,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ProcessKilled,
    ProcessTerminated,
    MasterKilled,
    PlannedFailover,
    Takeover,
    MasterHangs,
    ClientsPaused,
    ConnectionsCut,
    SlotsMove,
    NotificationsCleared,
    ReceiverDown,
    ReceiverRefuses,
    ReceiverSlow,
}

const OF_THE_PROCESS: [Fault; 2] = [Fault::ProcessKilled, Fault::ProcessTerminated];
const OTHERS: [Fault; 11] = [
    Fault::MasterKilled,
    Fault::PlannedFailover,
    Fault::Takeover,
    Fault::MasterHangs,
    Fault::ClientsPaused,
    Fault::ConnectionsCut,
    Fault::SlotsMove,
    Fault::NotificationsCleared,
    Fault::ReceiverDown,
    Fault::ReceiverRefuses,
    Fault::ReceiverSlow,
];

impl Fault {
    pub fn any(random: &mut StdRng) -> Self {
        *OTHERS.choose(random).unwrap()
    }
    /// Half of them to the process itself.
    pub fn any_with_the_process(random: &mut StdRng) -> Self {
        if random.random() { *OF_THE_PROCESS.choose(random).unwrap() } else { Self::any(random) }
    }

    /// Does it, and returns when all is well again.
    pub async fn inject(self, run: &mut Scenario, random: &mut StdRng) {
        let from = now();
        let mut masters = run.masters().await;
        let (master, slots) = masters.swap_remove(random.random_range(0..masters.len()));
        match self {
            Self::ProcessKilled => {
                run.listener.kill().await;
                wait(random.random_range(10..1_500)).await;
                process_back(run, from).await;
            }
            Self::ProcessTerminated => {
                run.listener.terminate().await;
                wait(random.random_range(10..1_500)).await;
                process_back(run, from).await;
            }
            Self::MasterKilled => {
                run.cluster.kill(&master).unwrap();
                replaced(run, from, &master, &slots).await;
                let again = now();
                run.cluster.restart(&master, Data::Drop).await.unwrap();
                run.recovered(again, &slots, Kind::Handover).await;
            }
            Self::PlannedFailover => {
                let replica = replica_of(run, &master).await;
                run.cluster.failover(&replica, Failover::Planned).await.unwrap();
                run.faults.promotions.push(address(&replica));
                run.recovered(from, &slots, Kind::Handover).await;
            }
            Self::Takeover => {
                let replica = replica_of(run, &master).await;
                run.cluster.failover(&replica, Failover::Takeover).await.unwrap();
                replaced(run, from, &master, &slots).await;
            }
            Self::MasterHangs => {
                run.cluster.pause(&master).unwrap();
                wait(random.random_range(300..1_500)).await;
                run.cluster.resume(&master).unwrap();
                let until = run.recovered(from, &slots, Kind::Gap).await;
                run.store_held(from, until);
            }
            Self::ClientsPaused => {
                ask(&address(&master), &["CLIENT", "PAUSE", "2500", "ALL"]).await.unwrap();
                wait(2_500).await;
                let until = run.recovered(from, &slots, Kind::Gap).await;
                run.store_held(from, until);
            }
            Self::ConnectionsCut => {
                for node in run.cluster.nodes().iter().filter(|node| node.up()) {
                    ask(&address(node), &["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
                }
                run.recovered(from, &SlotSet::all(), Kind::Gap).await;
            }
            Self::SlotsMove => {
                let (other, _) = masters.swap_remove(random.random_range(0..masters.len()));
                let skipped = random.random_range(0..slots.len().saturating_sub(100).max(1));
                let moved: SlotSet = slots.iter().skip(skipped).take(100).collect();
                run.cluster.move_slots(&master, &other, moved.iter().map(|slot| slot.0)).await.unwrap();
                run.recovered(from, &moved, Kind::Handover).await;
            }
            Self::NotificationsCleared => {
                clear_flags_until_set_again(run, &master).await;
                run.recovered(from, &slots, Kind::Gap).await;
            }
            Self::ReceiverDown => {
                run.receiver.down();
                wait(random.random_range(1_000..10_000)).await;
                run.receiver.up().await;
                run.counts(from, now());
            }
            Self::ReceiverRefuses => misbehaves(run, Mode::Answers(500), from, random).await,
            Self::ReceiverSlow => misbehaves(run, Mode::Slow(1_000), from, random).await,
        }
        println!("{:>6.1} s  {self:?}, {:.1} s", seconds(run.began_at(), from), seconds(from, now()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "less than a day")]
fn seconds(from: Millis, to: Millis) -> f64 {
    to.since(from) as f64 / 1e3
}

/// The process starts again, which has been away since then.
async fn process_back(run: &mut Scenario, from: Millis) {
    // The last one may have said that it is ready in the moment in which it was killed.
    let again = now();
    run.listener.start_again();
    let ready = run.listener.wait_ready(again).await;
    run.window(from, ready, &SlotSet::all(), Kind::Gap);
    run.counts(from, ready);
}

async fn replica_of(run: &Scenario, master: &Node) -> Node {
    run.cluster.replicas_of(master).await.unwrap().remove(0)
}

/// Another has taken the place of that master, without everything that it had.
async fn replaced(run: &mut Scenario, from: Millis, master: &Node, slots: &SlotSet) {
    let until = run.recovered(from, slots, Kind::Loss).await;
    run.store_held(from, until);
    run.demoted(master, until);
}

async fn misbehaves(run: &mut Scenario, mode: Mode, from: Millis, random: &mut StdRng) {
    run.receiver.behave(mode);
    wait(random.random_range(1_000..6_000)).await;
    run.receiver.behave(Mode::Answers(200));
    run.counts(from, now());
}
