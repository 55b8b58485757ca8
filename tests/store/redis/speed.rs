//! How fast it is; for people, by `cargo test --release --test store speed -- --ignored --nocapture`.

use std::time::Instant;

use redis_expiry_operator::{
    commands::demo::cluster::Cluster,
    store::{Store, redis::Settings},
};

use super::setup::{Redis, cluster, settings};
use crate::given::{FIRST, Fresh, apply, delivered, entry, id, record, settle};

/// What a keeper puts into one call.
const TOGETHER: usize = 1_024;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and says nothing of right or wrong"]
async fn speed_of_records_settles_and_outcomes() {
    let cluster = cluster(0).await;
    for partitions in [1, 16] {
        let redis = Redis::with(Settings { partitions, ..settings(&cluster) }).await;
        let store = redis.store();
        let keys: Vec<String> = (0..200_000).map(|number| format!("order:pay:{number:010}")).collect();
        let cpu = async || {
            let mut sum = 0.0;
            for (master, _) in cluster.masters().await.unwrap() {
                sum += master.info("cpu", "used_cpu_user").await.unwrap().parse::<f64>().unwrap();
                sum += master.info("cpu", "used_cpu_sys").await.unwrap().parse::<f64>().unwrap();
            }
            sum
        };
        for what in ["record", "settle", "deliver"] {
            let (start, before) = (Instant::now(), cpu().await);
            let mut replies = std::collections::VecDeque::new();
            for lot in keys.chunks(TOGETHER) {
                let reply = match what {
                    "record" => store.apply(FIRST, lot.iter().map(|key| record(key, 5)).collect()).durable,
                    "settle" => store.apply(FIRST, lot.iter().map(|key| settle(key, entry(5), 5, 9)).collect()).durable,
                    _ => store.delivered(FIRST, lot.iter().map(|key| delivered(id(key, 5), 9)).collect()),
                };
                replies.push_back(reply);
                if replies.len() > 8 {
                    replies.pop_front().unwrap().await.unwrap();
                }
            }
            for reply in replies {
                reply.await.unwrap();
            }
            let (wall, used) = (start.elapsed().as_secs_f64(), cpu().await - before);
            let count = 200_000.0;
            println!(
                "{partitions} partitions: {what} {:.0}/s, {:.0} per second of Redis's CPU",
                count / wall,
                count / used
            );
        }
        let start = Instant::now();
        for number in 0..2_000 {
            let key = format!("one{number}");
            apply(store, vec![record(&key, 5)]).await;
            apply(store, vec![settle(&key, entry(5), 5, 9)]).await;
        }
        println!("{partitions} partitions: one by one {:.0} calls/s", 4_000.0 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        let pending = store.pending(crate::given::EVER, Vec::new(), 1_000).await.unwrap();
        println!("{partitions} partitions: {} pending in {:?}", pending.len(), start.elapsed());
        let before = used(&cluster).await;
        for lot in keys.chunks(TOGETHER) {
            apply(store, lot.iter().map(|key| settle(key, None, 6, 9)).collect()).await;
        }
        println!("{partitions} partitions: {} bytes an event of the outbox", (used(&cluster).await - before) / 200_000);
    }
}

/// The memory of all masters together.
pub async fn used(cluster: &Cluster) -> i64 {
    let mut sum = 0;
    for (master, _) in cluster.masters().await.unwrap() {
        sum += master.info("memory", "used_memory").await.unwrap().parse::<i64>().unwrap();
    }
    sum
}
