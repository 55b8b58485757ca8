//! Creates orders at a steady rate on the real cluster, and keeps the truth about each.

use std::{sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use redis_expiry_operator::model::{Address, Millis};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    now,
    routes::Routes,
    script::{Fate, Script},
    truth::History,
};

/// How many orders are created a second. About 290 deadlines a second fall due and 110 orders are paid.
const RATE: f64 = 420.0;
/// The longest time to a deadline.
const LONGEST_MS: i64 = 4_000;
/// Orders under way at most: the bound of everything here.
const MOST: usize = 20_000;

enum Tell {
    Burst { orders: u32, after: Duration, within: Duration },
    Finish,
}

pub struct Generator {
    tell: mpsc::Sender<Tell>,
    running: tokio::task::JoinHandle<Vec<History>>,
}

impl Generator {
    /// `clustered`: else one of the seeds is the master of all.
    pub fn start(clustered: bool, seeds: Vec<Address>, seed: u64) -> Self {
        let routes = Arc::new(Routes::new(clustered, seeds));
        let (tell, told) = mpsc::channel(8);
        let running = tokio::spawn(generate(routes, told, seed));
        Self { tell, running }
    }

    /// Creates so many orders now, whose deadlines all fall due after about a second, within `within`.
    pub async fn burst(&self, orders: u32, within: Duration) {
        self.burst_after(Duration::from_secs(1), orders, within).await;
    }
    /// The same after `after`.
    pub async fn burst_after(&self, after: Duration, orders: u32, within: Duration) {
        self.tell.send(Tell::Burst { orders, after, within }).await.expect("the generator runs");
    }

    /// Creates no more, plays what was begun to its end, and tells what was done to each key.
    pub async fn finish(&mut self) -> Vec<History> {
        self.tell.send(Tell::Finish).await.expect("the generator runs");
        (&mut self.running).await.expect("the generator does not panic")
    }
}

async fn generate(routes: Arc<Routes>, mut told: mpsc::Receiver<Tell>, seed: u64) -> Vec<History> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut orders = JoinSet::new();
    let mut histories = Vec::new();
    let mut number = 0;
    let mut create = |orders: &mut JoinSet<Vec<History>>, random: &mut StdRng, least: i64, most: i64| {
        assert!(orders.len() < MOST, "{MOST} orders are under way: Redis does not keep up");
        number += 1;
        let fate = Fate::any(random);
        let deadline = now().plus(random.random_range(least..most));
        let (order, routes, within) = (number, Arc::clone(&routes), random.random());
        orders.spawn(async move { Script::new(&routes, order, fate).play(fate, deadline, within).await });
    };
    let began = tokio::time::Instant::now();
    let mut created = 0.0;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                while created < began.elapsed().as_secs_f64() * RATE {
                    created += 1.0;
                    create(&mut orders, &mut random, 300, LONGEST_MS);
                }
            }
            Some(done) = orders.join_next() => histories.extend(done.expect("an order does not panic")),
            tell = told.recv() => match tell {
                Some(Tell::Burst { orders: count, after, within }) => {
                    let [after, within] = [after, within].map(|time| i64::try_from(time.as_millis()).expect("it is short"));
                    for _ in 0..count {
                        create(&mut orders, &mut random, after, after + within.max(1));
                    }
                }
                Some(Tell::Finish) | None => break,
            },
        }
    }
    while let Some(done) = orders.join_next().await {
        histories.extend(done.expect("an order does not panic"));
    }
    histories
}

/// The last deadline of all.
pub fn last_deadline(histories: &[History]) -> Millis {
    let deadlines = histories.iter().flat_map(|history| &history.ops).filter_map(|op| op.act.deadline());
    deadlines.max().unwrap_or(Millis(0))
}
