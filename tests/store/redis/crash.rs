//! A process that is killed between any two steps: see [`crate::crash`]. A script is atomic and a partition has its calls in
//! order, so in one partition what is left is whole calls. Over several, it is so for each key.

use std::{env, ffi::OsStr, time::Duration};

use redis_expiry_operator::{
    model::{Address, ListenerId},
    store::{
        Store,
        redis::{Mode, RedisStore, Settings},
    },
};

use super::setup::{cluster, settings};
use crate::{
    crash::{Expected, FROM, Writer, call_all},
    given::{all_due, letters, outbox},
};

/// Where the writer finds its store: partitions, then addresses.
const PLACE: &str = "STORE_TEST_CRASH_REDIS";
const WRITER: &str = "redis::crash::a_writer_left_alone_makes_all_its_calls_in_redis";

fn listener() -> ListenerId {
    ListenerId::new("test", "crash")
}

/// Left alone, or as the process that the next tests kill.
#[tokio::test]
async fn a_writer_left_alone_makes_all_its_calls_in_redis() {
    if let Ok(place) = env::var(PLACE) {
        let (partitions, addresses) = place.split_once(' ').unwrap();
        let addresses = addresses.split(' ').map(|address| Address::parse(address).unwrap()).collect();
        let settings = Settings { partitions: partitions.parse().unwrap(), ..Settings::new(Mode::Cluster, addresses) };
        let store = RedisStore::open(settings, &listener()).await.unwrap();
        call_all(&store, env::var(FROM).unwrap().parse().unwrap(), u64::MAX, std::io::stdout()).await.unwrap();
        return;
    }
    let cluster = cluster(0).await;
    let settings = Settings { partitions: 3, ..settings(&cluster) };
    let store = RedisStore::open(settings.clone(), &listener()).await.unwrap();
    call_all(&store, 0, 100, std::io::sink()).await.unwrap();
    let mut expected = Expected::nothing();
    expected.take_epoch().await;
    expected.meet(&RedisStore::open(settings, &listener()).await.unwrap(), 100).await;
    assert_eq!(expected.calls, 100);
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_whole_calls_in_a_partition() {
    let cluster = cluster(0).await;
    let place = format!("1 {}", cluster.seeds().join(" "));
    let settings = Settings { partitions: 1, ..settings(&cluster) };
    let mut expected = Expected::nothing();
    for run in 0..20_u64 {
        let mut writer = Writer::of(WRITER, PLACE, OsStr::new(&place), expected.calls);
        writer.line("ready");
        expected.take_epoch().await;
        let mut durable = expected.calls;
        for _ in 0..run % 10 {
            durable = writer.line("durable ").parse::<u64>().unwrap() + 1;
        }
        std::thread::sleep(Duration::from_micros(run * 97 % 1_500));
        durable = writer.kill(durable);
        let store = RedisStore::open(settings.clone(), &listener()).await.unwrap();
        expected.meet(&store, durable).await;
    }
    assert!(expected.calls > 100, "only {} calls", expected.calls);
}

#[tokio::test]
async fn a_kill_leaves_each_key_in_the_ledger_or_its_event_outside_of_it() {
    let cluster = cluster(0).await;
    let place = format!("16 {}", cluster.seeds().join(" "));
    let (mut from, mut rounds) = (0, Vec::new());
    for run in 0..10_u64 {
        let begin = from / 6;
        let mut writer = Writer::of(WRITER, PLACE, OsStr::new(&place), from);
        writer.line("ready");
        for _ in 0..20 + run {
            from = writer.line("durable ").parse::<u64>().unwrap() + 1;
        }
        from = writer.kill(from);
        let store = RedisStore::open(settings(&cluster), &listener()).await.unwrap();
        let pending = outbox(&store).await;
        let counts = store.counts().await.unwrap();
        // The indexes agree with what they lead to.
        assert_eq!(counts.pending, pending.len() as u64);
        assert_eq!(counts.dead_letters, letters(&store).await.len() as u64);
        let due = all_due(&store, 500).await;
        assert_eq!(counts.tracked, due.len() as u64);
        // Keys 1, 2 and 7 of each round stay for ever; nothing that was durable is missing.
        rounds.extend(begin..from / 6);
        for round in &rounds {
            for number in [1, 2, 7] {
                let key = format!("order:{round}:{number}");
                assert!(due.iter().any(|entry| entry.key.as_str() == Some(&key)), "{key} is lost");
            }
        }
        for pending in &pending {
            assert!(!due.iter().any(|entry| entry.key == pending.event.key), "{pending:?} was settled by half");
        }
        // The next begins behind what was made and not yet said to be durable. The pipe holds some more lines.
        from = (from + 3_000).next_multiple_of(6);
    }
}
