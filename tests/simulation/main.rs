//! The look, the ledger and the store against a small model of one shard: pushes delayed, cut and reordered across
//! connections, restarts, failovers, moving slots, and crashes of ours between any two steps of the store, all from a seed.
//!
//! What decides is the engine's own code: `Evidence`, `Watch`, `merge`, `judge`, `Book`, `MemoryStore`. What carries it from
//! one to the other is said again here, single-threaded and on virtual time. A failing run prints its seed and the history
//! of the key; `SIMULATION_SEED=<class>:<seed> cargo test --test simulation replay -- --nocapture` prints all of it.
//! `SIMULATION_BASE=<number>` runs other seeds.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "what the tests are made of may fail as tests do; clippy only knows of functions marked as tests"
)]
#![expect(
    clippy::similar_names,
    clippy::struct_excessive_bools,
    clippy::cast_precision_loss,
    reason = "a line and a link, a life and what lives are the model's nouns; what is on or off is a bool; a run lasts seconds"
)]

mod connection;
mod faults;
mod network;
mod process;
mod random;
mod recorded;
mod resync;
mod server;
mod truth;
mod verdict;
mod workload;
mod world;

use faults::{ALL, Fault, STUCK, Step};
use redis_expiry_operator::plan::Inferred;
use verdict::Violation;
use world::{Event, KEYS, World};

/// What may go wrong in a run: one class, any two, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Calm,
    One(Fault),
    Two,
    /// Under client tracking: nothing, one thing or two.
    Tracked,
    /// Under client tracking our process crashes again and again: at a start the least is told and the most is asked.
    TrackedStarts,
}

/// How long the application and the faults go on, and how long it may take to settle, in microseconds.
const BUSY: i64 = 6_000_000;
const SETTLE: i64 = 8_000_000;

fn simulate(class: Class, seed: u64, logged: bool) -> (World, Vec<Violation>) {
    let mut world = World::new(seed, logged);
    if world.random.percent(20) {
        world.inferred = Inferred::Drop;
    }
    if world.random.percent(40) {
        world.resync_interval = Some(world.random.between(300_000, 2_000_000));
    }
    world.until = BUSY;
    world.truth.gap_begins(0);
    world.start_process();
    for node in 0..server::NODES {
        world.at(0, Event::ActiveExpiry(node));
    }
    world.at(0, Event::Watch);
    for key in 0..KEYS {
        let first = world.random.between(0, 400_000);
        world.at(first, Event::Operate(key));
    }
    let mut faults = match class {
        Class::Calm => Vec::new(),
        Class::One(fault) => vec![fault; 1 + world.random.below(2)],
        Class::Tracked => {
            world.tracking = true;
            let count = world.random.below(3);
            // There are no notifications to lose.
            let faults: Vec<Fault> = ALL.into_iter().filter(|fault| *fault != Fault::NotificationsOff).collect();
            (0..count).map(|_| faults[world.random.below(faults.len())]).collect()
        }
        Class::TrackedStarts => {
            world.tracking = true;
            vec![Fault::OurCrash; 4]
        }
        Class::Two => vec![ALL[world.random.below(ALL.len())], ALL[world.random.below(ALL.len())]],
    };
    if matches!(class, Class::One(Fault::OurCrash | Fault::Cut | Fault::FlushAndEvict)) {
        faults.extend([faults[0]; 3]);
    }
    // Two at once are close together.
    let first = world.random.between(700_000, BUSY - 1_500_000);
    for fault in faults {
        let near = matches!(class, Class::Two | Class::Tracked) || world.random.percent(40);
        let at =
            if near { first + world.random.between(0, 700_000) } else { world.random.between(700_000, BUSY - 800_000) };
        world.at(at, Event::Fault(Step::Begin(fault)));
    }
    let stuck = if class == Class::One(Fault::StuckMigration) { STUCK } else { 0 };
    world.run(BUSY + SETTLE + stuck);
    // A periodic scan may be under way.
    for _ in 0..20 {
        if !world.healthy() {
            let later = world.now + 50_000;
            world.run(later);
        }
    }
    let now = world.now;
    world.truth.gap_ends(now);
    let violations = world.violations();
    (world, violations)
}

/// Runs a class from consecutive seeds; the first that fails is run again, with its history.
fn check(class: Class, runs: u64) {
    let base = std::env::var("SIMULATION_BASE").map_or(0x5EED_0000, |base| base.parse().expect("a number"));
    let mut operations = 0;
    let mut failed = Vec::new();
    let mut events = 0;
    for seed in base..base + runs {
        let (world, violations) = simulate(class, seed, false);
        operations += world.operations;
        events += world.settled_at.len();
        if let Some(first) = violations.into_iter().next() {
            failed.push((seed, first));
        }
    }
    println!("{class:?}: {runs} runs, {operations} operations, {events} events, {} failed", failed.len());
    let Some((seed, violation)) = failed.first() else { return };
    let (world, _) = simulate(class, *seed, true);
    let history = world.history(violation.key);
    let others: Vec<String> =
        failed.iter().skip(1).take(20).map(|(seed, violation)| format!("{seed}: {}", violation.what)).collect();
    panic!(
        "{} of {runs} runs failed; the first: SIMULATION_SEED={class:?}:{seed}\n{history}{violation:?}\nothers:\n{}",
        failed.len(),
        others.join("\n")
    );
}

#[test]
fn nothing_goes_wrong() {
    check(Class::Calm, 100);
}

#[test]
fn our_process_crashes_and_comes_back() {
    check(Class::One(Fault::OurCrash), 150);
}
#[test]
fn our_process_is_told_to_stop_and_comes_back() {
    check(Class::One(Fault::Terminated), 100);
}
#[test]
fn our_process_hangs_while_another_takes_over() {
    check(Class::One(Fault::Zombie), 150);
}
#[test]
fn connections_are_cut() {
    check(Class::One(Fault::Cut), 150);
}
#[test]
fn a_replica_takes_over_as_planned() {
    check(Class::One(Fault::PlannedFailover), 150);
}
#[test]
fn a_master_dies_with_what_it_had_not_replicated() {
    check(Class::One(Fault::CrashFailover), 150);
}
#[test]
fn a_master_hangs_and_goes_on() {
    check(Class::One(Fault::ShortFreeze), 100);
}
#[test]
fn a_master_hangs_until_it_is_replaced_and_goes_on() {
    check(Class::One(Fault::LongFreeze), 150);
}
#[test]
fn the_slot_moves() {
    check(Class::One(Fault::Migration), 150);
}
#[test]
fn the_slot_moves_for_longer_than_memories_are_kept() {
    check(Class::One(Fault::StuckMigration), 100);
}
#[test]
fn a_master_restarts_empty() {
    check(Class::One(Fault::RestartEmpty), 100);
}
#[test]
fn data_is_flushed_or_evicted() {
    check(Class::One(Fault::FlushAndEvict), 100);
}
#[test]
fn notifications_are_off_for_a_while() {
    check(Class::One(Fault::NotificationsOff), 100);
}
#[test]
fn two_things_go_wrong_at_once() {
    check(Class::Two, 400);
}

#[test]
fn changes_are_told_by_client_tracking() {
    check(Class::Tracked, 400);
}

#[test]
fn our_process_crashes_again_and_again_under_client_tracking() {
    check(Class::TrackedStarts, 300);
}

/// Prints the whole history of one run: `SIMULATION_SEED=Two:1592590336`.
#[test]
fn replay() {
    let Ok(wanted) = std::env::var("SIMULATION_SEED") else { return };
    let (class, seed) = wanted.rsplit_once(':').expect("SIMULATION_SEED is <class>:<seed>");
    let classes = [Class::Calm, Class::Two, Class::Tracked, Class::TrackedStarts, Class::One(Fault::StuckMigration)]
        .into_iter()
        .chain(ALL.map(Class::One));
    let class = classes.into_iter().find(|known| format!("{known:?}") == class).expect("a class as printed");
    let (world, violations) = simulate(class, seed.parse().expect("a seed"), true);
    println!("{}{violations:#?}", world.history(None));
}
