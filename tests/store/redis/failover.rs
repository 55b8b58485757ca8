//! DESIGN rule 11: what a failover takes back is written again.

use std::time::{Duration, Instant};

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Data, Failover, Node},
    model::{Key, Millis},
    store::{
        Epoch, Losses, Store, StoreError,
        redis::{RedisStore, Settings},
    },
};

use super::setup::{Redis, cluster, settings, shared, wait};
use crate::given::{
    FIRST, Fresh, Memory, absent, dead_letter, delivered, entry, forget, holding, mark_absent, record, record_over,
    retry, settle,
};

/// Writes of everything that can be written, the same to both.
async fn write(store: &RedisStore, maps: &Memory, round: i64) {
    for changes in [
        (0..8).map(|number| record(&key(round, number), round)).collect::<Vec<_>>(),
        vec![
            mark_absent(&key(round, 0), entry(round)),
            record_over(&key(round, 1), entry(round), round + 1),
            forget(&key(round, 2), entry(round), round),
            settle(&key(round, 3), entry(round), round, round),
            settle(&key(round, 4), entry(round), round, round),
            settle(&key(round, 5), entry(round), round, round),
        ],
        vec![settle(&key(round, 0), absent(round), round, round)],
    ] {
        let expected = maps.store().apply(EPOCH, changes.clone()).done.await;
        assert_eq!(store.apply(EPOCH, changes).done.await, expected);
    }
    let outcomes = vec![
        delivered(&key(round, 3), round, round),
        retry(&key(round, 4), round, 2, round + 50),
        dead_letter(&key(round, 5), round, round),
    ];
    maps.store().delivered(EPOCH, outcomes.clone()).await.unwrap();
    store.delivered(EPOCH, outcomes).await.unwrap();
}

const EPOCH: Epoch = Epoch(1);

fn key(round: i64, number: u8) -> String {
    format!("order:{round}:{number}")
}
fn keys(rounds: i64) -> Vec<Key> {
    (0..rounds).flat_map(|round| (0..8).map(move |number| Key::from(key(round, number).as_str()))).collect()
}

async fn given() -> (Cluster, Redis, Memory) {
    let cluster = cluster(1).await;
    let redis = Redis::with(settings(&cluster)).await;
    let maps = Memory::fresh();
    assert_eq!(redis.store().take_epoch().await.unwrap(), maps.store().take_epoch().await.unwrap());
    (cluster, redis, maps)
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_a_dead_master_had_not_replicated_come_back() {
    let (cluster, redis, maps) = given().await;
    let store = redis.store();
    for round in 0..20 {
        write(store, &maps, round).await;
    }
    let master = redis.master(&cluster, 0).await;
    let replica = cluster.replicas_of(&master).await.unwrap().remove(0);
    // The replica is held and its link cut: it gets nothing more, and is set free when its master is dead.
    cluster.pause(&replica).unwrap();
    let _: i64 = master.query(cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica")).await.unwrap();
    for round in 20..40 {
        write(store, &maps, round).await;
    }
    cluster.kill(&master).unwrap();
    cluster.resume(&replica).unwrap();
    cluster.failover(&replica, Failover::Takeover).await.unwrap();
    cluster.wait_ok().await.unwrap();
    // Nothing more is written: the loss is found all the same, within a second or so.
    wait("the writes to come back", async || store.reapplied() > 0).await;
    let expected = holding(maps.store(), &keys(40), Millis(40)).await;
    assert_eq!(holding(store, &keys(40), Millis(40)).await, expected);
    // It goes on as if nothing had been.
    for round in 40..45 {
        write(store, &maps, round).await;
    }
    let expected = holding(maps.store(), &keys(45), Millis(45)).await;
    assert_eq!(holding(store, &keys(45), Millis(45)).await, expected);
    // Whoever comes next finds it in Redis, and not only in our memory.
    assert_eq!(holding(&redis.another().await, &keys(45), Millis(45)).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_comes_back_empty_is_filled_again_with_its_epoch_and_its_lifetime() {
    let (cluster, redis, maps) = given().await;
    let store = redis.store();
    for round in 0..20 {
        write(store, &maps, round).await;
    }
    let master = redis.master(&cluster, 0).await;
    let () = master.query(&cmd("FLUSHALL")).await.unwrap();
    let expected = holding(maps.store(), &keys(20), Millis(20)).await;
    // The first call after it already sees what was there.
    assert_eq!(holding(store, &keys(20), Millis(20)).await, expected);
    assert!(store.reapplied() > 0);
    let old = redis.another().await;
    let refused = old.apply(Epoch(0), vec![record("z", 1)]).done.await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    let head = redis.keys()[0].clone();
    wait("a lifetime", async || master.query::<i64>(cmd("PTTL").arg(&head)).await.unwrap() > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_loses_nothing_and_delays_little() {
    let (cluster, redis, maps) = given().await;
    let store = redis.store();
    let master = redis.master(&cluster, 0).await;
    let replica = cluster.replicas_of(&master).await.unwrap().remove(0);
    let failing = cluster.failover(&replica, Failover::Planned);
    let writing = async {
        for round in 0..60 {
            write(store, &maps, round).await;
        }
    };
    let (failed, ()) = tokio::join!(failing, writing);
    failed.unwrap();
    let expected = holding(maps.store(), &keys(60), Millis(60)).await;
    assert_eq!(holding(store, &keys(60), Millis(60)).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_node_holds_up_its_own_partitions_alone_and_no_call_for_long() {
    let cluster = cluster(0).await;
    let mut quick = settings(&cluster);
    (quick.attempt, quick.patience) = (Duration::from_millis(300), Duration::from_millis(1_500));
    let redis = Redis::with(quick).await;
    let store = redis.store();
    let hung = redis.master(&cluster, 0).await;
    cluster.pause(&hung).unwrap();
    let (mut well, mut ill) = (0, 0);
    let start = Instant::now();
    let calls: Vec<_> = (0..60)
        .map(|number| (number, Instant::now(), store.apply(FIRST, vec![record(&key(0, number), 5)]).done))
        .collect();
    for (number, since, done) in calls {
        match done.await {
            Ok(_) => {
                well += 1;
                assert!(number > 0 || since.elapsed() < Duration::from_secs(1));
            }
            Err(StoreError::Unavailable(why)) => {
                ill += 1;
                assert!(why.contains(&hung.address()) || why.contains("in time"), "{why}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(well > 20 && ill > 5, "{well} and {ill}");
    // What asks everybody ends, too.
    assert!(matches!(store.counts().await, Err(StoreError::Unavailable(_))));
    cluster.resume(&hung).unwrap();
    // The ghosts of the calls that were given up do no harm: each key is there once or not at all.
    wait("the node", async || store.counts().await.is_ok()).await;
    for number in 0..60 {
        store.apply(FIRST, vec![record(&key(0, number), 5)]).done.await.unwrap();
    }
    assert_eq!(store.counts().await.unwrap().tracked, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_master_without_replica_is_an_error_and_its_return_is_noticed() {
    let cluster = cluster(0).await;
    let mut quick = settings(&cluster);
    quick.patience = Duration::from_millis(800);
    let redis = Redis::with(quick).await;
    let store = redis.store();
    let changes = || (0..50).map(|number| record(&key(1, number), 5)).collect();
    store.apply(FIRST, changes()).durable.await.unwrap();
    let dead = redis.master(&cluster, 0).await;
    cluster.kill(&dead).unwrap();
    let error = store.counts().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)) && error.retryable(), "{error}");
    cluster.restart(&dead, Data::Drop).await.unwrap();
    wait("the node", async || store.counts().await.is_ok()).await;
    assert_eq!(store.counts().await.unwrap().tracked, 50);
}

/// All that lies in the partition's keys.
async fn dump(master: &Node, keys: &[String]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for key in keys {
        found.push(master.query(cmd("DUMP").arg(key)).await.unwrap());
    }
    found
}

/// Takes the partition back to that.
async fn restore(master: &Node, keys: &[String], states: &[Vec<u8>]) {
    let mut pipe = redis::pipe();
    pipe.atomic();
    for (key, state) in keys.iter().zip(states) {
        pipe.cmd("RESTORE").arg(key).arg(0).arg(state.as_slice()).arg("REPLACE").ignore();
    }
    let mut connection = master.connect(Duration::from_secs(5)).await.unwrap();
    let () = pipe.query_async(&mut connection).await.unwrap();
}

/// Failovers take a partition back to what it was after some earlier write, any of them, the epoch's included.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_taken_back_to_any_earlier_state_is_brought_forward_again() {
    let cluster = shared().await;
    let redis = Redis::with(Settings { partitions: 1, ..settings(cluster) }).await;
    let (store, maps) = (redis.store(), Memory::fresh());
    let master = redis.master(cluster, 0).await;
    let mut states = vec![dump(&master, &redis.keys()).await];
    assert_eq!(store.take_epoch().await.unwrap(), maps.store().take_epoch().await.unwrap());
    for round in 0..24 {
        write(store, &maps, round).await;
        states.push(dump(&master, &redis.keys()).await);
        let back = usize::try_from(round * 7).unwrap() % states.len();
        restore(&master, &redis.keys(), &states[back]).await;
        // By a write or by a read: whatever comes first finds it.
        if round % 2 == 0 {
            let more = vec![record(&format!("more{round}"), 7)];
            let expected = maps.store().apply(EPOCH, more.clone()).done.await;
            assert_eq!(store.apply(EPOCH, more).done.await, expected);
        }
        let expected = holding(maps.store(), &keys(round + 1), Millis(round)).await;
        assert_eq!(holding(store, &keys(round + 1), Millis(round)).await, expected, "back to {back} after {round}");
    }
    assert!(store.reapplied() > 24);
}

/// One that was frozen, is no master any more, and does not know it yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_thawed_master_had_accepted_is_not_lost_with_it() {
    let (cluster, redis, maps) = given().await;
    let store = redis.store();
    for round in 0..10 {
        write(store, &maps, round).await;
    }
    let master = redis.master(&cluster, 0).await;
    cluster.pause(&master).unwrap();
    // Sent to the frozen one, given up there, and done by its successor: once.
    let writing = async {
        let start = Instant::now();
        for round in 10..14 {
            for number in 0..8 {
                let change = vec![record(&key(round, number), round)];
                let _ = maps.store().apply(EPOCH, change.clone()).done.await;
                let end = start + Duration::from_secs(30);
                loop {
                    match store.apply(EPOCH, change.clone()).done.await {
                        Ok(_) => break,
                        Err(error) => assert!(error.retryable() && Instant::now() < end, "{error}"),
                    }
                }
            }
        }
    };
    writing.await;
    cluster.resume(&master).unwrap();
    cluster.wait_ok().await.unwrap();
    let expected = holding(maps.store(), &keys(14), Millis(14)).await;
    assert_eq!(holding(store, &keys(14), Millis(14)).await, expected);
}

/// A master that comes back with what it held a while ago, and nobody has what it wrote since but the last bit.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_on_what_is_lost_for_good_is_made_again_all_the_same_and_the_loss_is_told() {
    let cluster = shared().await;
    let keep_writes = Duration::from_millis(400);
    let redis = Redis::with(Settings { partitions: 1, keep_writes, ..settings(cluster) }).await;
    let store = redis.store();
    let (master, epoch) = (redis.master(cluster, 0).await, store.take_epoch().await.unwrap());
    let names = ["settled", "extended", "older", "shortened", "unseen", "deleted", "evicted"];
    let held = |names: &[&str], deadline| names.iter().map(|name| record(name, deadline)).collect::<Vec<_>>();
    store.apply(epoch, held(&names[2..3], 500)).durable.await.unwrap();
    store.apply(epoch, held(&names[3..4], 990)).durable.await.unwrap();
    store.apply(epoch, held(&names[4..], 500)).durable.await.unwrap();
    let before = dump(&master, &redis.keys()).await;
    let mut hole = held(&names[..2], 700);
    hole.extend(["older", "deleted", "evicted"].map(|name| record_over(name, entry(500), 700)));
    hole.push(record_over("shortened", entry(990), 700));
    hole.push(forget("unseen", entry(500), 600));
    let made = store.apply(epoch, hole).done.await.unwrap();
    assert!(made.iter().all(|made| *made), "{made:?}");
    // Now what is written is younger than what is kept, and what was written is older.
    tokio::time::sleep(2 * keep_writes).await;
    let now = vec![
        settle("settled", entry(700), 900, 900),
        record_over("extended", entry(700), 950),
        settle("older", entry(700), 900, 900),
        settle("shortened", entry(700), 900, 900),
        settle("unseen", None, 800, 900),
        forget("deleted", entry(700), 900),
        mark_absent("evicted", entry(700)),
    ];
    assert_eq!(store.apply(epoch, now).done.await.unwrap(), [true; 7]);
    restore(&master, &redis.keys(), &before).await;
    let known = store.known(names.iter().map(|name| (*name).into()).collect()).await.unwrap();
    let entries: Vec<_> = known.iter().map(|known| known.entry).collect();
    assert_eq!(entries, [None, Some(entry(950)), None, None, None, None, Some(absent(700))]);
    assert_eq!(store.losses(), Losses { count: 1, before_us: 0 });
    let pending = store.pending(Millis(i64::MAX), Vec::new(), 9).await.unwrap();
    let mut told: Vec<_> = pending.iter().map(|pending| pending.event.key.to_string()).collect();
    told.sort();
    assert_eq!(told, ["older", "settled", "shortened", "unseen"]);
    // What comes after it is compared again.
    assert_eq!(store.apply(epoch, vec![settle("extended", entry(700), 990, 990)]).done.await.unwrap(), [false]);
    assert_eq!(store.losses().count, 1);
}

/// Nobody knows what a partition that is away will come back with: what was written last waits for it however long that takes.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_last_is_kept_for_as_long_as_its_master_is_away() {
    let cluster = cluster(1).await;
    let quick = (Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(1));
    let mut settings = settings(&cluster);
    (settings.attempt, settings.patience, settings.keep_writes) = quick;
    let redis = Redis::with(settings).await;
    let (store, epoch) = (redis.store(), redis.store().take_epoch().await.unwrap());
    let master = redis.master(&cluster, 0).await;
    let replica = cluster.replicas_of(&master).await.unwrap().remove(0);
    // The replica gets nothing more, and cannot take over before it is told to.
    cluster.pause(&replica).unwrap();
    let _: i64 = master.query(cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica")).await.unwrap();
    let changes = (0..60).map(|number| record(&key(1, number), 5)).collect();
    store.apply(epoch, changes).durable.await.unwrap();
    cluster.kill(&master).unwrap();
    let away = Instant::now();
    wait("longer than writes are kept", async || {
        let _ = store.counts().await;
        away.elapsed() > 3 * quick.2
    })
    .await;
    cluster.resume(&replica).unwrap();
    cluster.failover(&replica, Failover::Takeover).await.unwrap();
    cluster.wait_ok().await.unwrap();
    wait("the partitions", async || store.counts().await.is_ok()).await;
    assert_eq!(store.counts().await.unwrap().tracked, 60);
    assert_eq!(store.losses(), Losses::default());
}

/// A failover takes back a new owner's epoch, and the old owner writes before the new one is there again: its numbers are no
/// sign that what the new one wrote under them is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_owner_writes_where_a_new_one_is_forgotten_hides_nothing_of_the_new_one() {
    let cluster = shared().await;
    let redis = Redis::with(Settings { partitions: 1, ..settings(cluster) }).await;
    let (old, first) = (redis.store(), redis.store().take_epoch().await.unwrap());
    let master = redis.master(cluster, 0).await;
    old.apply(first, vec![record("before", 5)]).durable.await.unwrap();
    let before = dump(&master, &redis.keys()).await;
    let new = redis.another().await;
    let second = new.take_epoch().await.unwrap();
    let names: Vec<String> = (0..20).map(|number| format!("new{number}")).collect();
    for name in &names {
        new.apply(second, vec![record(name, 7)]).durable.await.unwrap();
    }
    restore(&master, &redis.keys(), &before).await;
    for number in 0..5 {
        old.apply(first, vec![record(&format!("old{number}"), 9)]).durable.await.unwrap();
    }
    let known = new.known(names.iter().map(|name| name.as_str().into()).collect()).await.unwrap();
    assert!(known.iter().all(|known| known.entry == Some(entry(7))), "{known:?}");
    assert_eq!(new.losses(), Losses { count: 1, before_us: 1 });
    let refused = old.apply(first, vec![record("late", 9)]).done.await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}
