//! Faults at random for as long as is wished, under load all the while: `make soak`.
//!
//! Settings are in the environment: SOAK_MINUTES (30), SOAK_STORE (Local, or Redis: in the watched cluster), SOAK_SEED (the last
//! run's, to have its faults again), SOAK_FIGURES (a file for the figures of the process, as comma-separated values).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what the tests are made of may fail as tests do; clippy only knows of functions marked as tests"
)]
#![allow(dead_code, reason = "tests/faults.rs has the rest")]

mod support;

#[path = "soak/faults.rs"]
mod faults;
#[path = "soak/figures.rs"]
mod figures;

use std::{str::FromStr, time::Duration};

use faults::Fault;
use figures::Figures;
use rand::{SeedableRng, rngs::StdRng};
use support::{
    faults::wait,
    now,
    scenario::{Scenario, Setup, Store},
};

fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: that is not a value for it")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_invented_and_nothing_grows() {
    let minutes: u64 = setting("SOAK_MINUTES", 30);
    let store = match setting("SOAK_STORE", "Local".to_owned()).as_str() {
        "Local" => Store::Local,
        "Redis" => Store::Watched,
        other => panic!("SOAK_STORE={other}: it is Local or Redis"),
    };
    let seed: u64 = setting("SOAK_SEED", rand::random());
    println!("soak: SOAK_SEED={seed}, {minutes} minutes, the ledger in {store:?}");
    let mut random = StdRng::seed_from_u64(seed);
    let admin = format!("127.0.0.1:{}", rand::random_range(5_000..6_900));
    let setup = Setup { keyspace_events: "Enable", admin: Some(admin.clone()), ..Setup::with(store) };
    let mut run = Scenario::start("soak", setup).await;

    let began = now();
    let at = |part: u64| began.plus(i64::try_from(minutes * 60_000 * part / 10).unwrap());
    // The process is killed in the first tenth alone, so that one of them goes on long enough to show what grows.
    while now() < at(1) {
        Fault::any_with_the_process(&mut random).inject(&mut run, &mut random).await;
    }
    let figures = Figures::start(admin);
    while now() < at(10) {
        Fault::any(&mut random).inject(&mut run, &mut random).await;
        wait(1_000).await;
    }
    let figures = figures.finish().await;
    if let Some(file) = std::env::var_os("SOAK_FIGURES") {
        std::fs::write(file, figures.table()).unwrap();
    }
    println!("{}", figures.summary());
    run.judge_within(Duration::from_secs(60)).await;
    figures.are_flat();
}
