//! Two processes on one ledger: the epoch lies in every partition.

use redis_expiry_operator::store::{Store, StoreError};

use super::setup::Redis;
use crate::given::{Fresh, all_due, names, outbox, record, settle};

#[tokio::test]
async fn a_new_owner_takes_over_and_the_old_one_is_refused_in_every_partition() {
    let redis = Redis::fresh().await;
    let old = redis.store();
    let older = old.take_epoch().await.unwrap();
    let records = |name: &str| (0..100).map(|number| record(&format!("{name}{number}"), 5)).collect::<Vec<_>>();
    old.apply(older, records("old")).durable.await.unwrap();
    old.apply(older, vec![settle("x", None, 5, 9)]).durable.await.unwrap();

    let new = redis.another().await;
    let newer = new.take_epoch().await.unwrap();
    assert!(newer > older);
    // Each key alone, so that each partition must refuse by itself.
    for number in 0..100 {
        let refused = old.apply(older, vec![record(&format!("late{number}"), 5)]).durable.await.unwrap_err();
        assert_eq!(refused, StoreError::Fenced { mine: older, newest: newer });
    }
    new.apply(newer, records("new")).durable.await.unwrap();
    assert_eq!(all_due(&new, 1_000).await.len(), 200);
    // What the old one had in its hands is simply there.
    assert_eq!(names(&outbox(&new).await), ["x"]);
    assert_eq!(all_due(old, 1_000).await.len(), 200);
}

#[tokio::test]
async fn of_many_that_take_the_epoch_at_once_each_has_its_own() {
    let redis = Redis::fresh().await;
    let mut stores = Vec::new();
    for _ in 0..6 {
        stores.push(redis.another().await);
    }
    let mut taken = Vec::new();
    for taking in stores.iter().map(Store::take_epoch).collect::<Vec<_>>() {
        taken.push(taking.await.unwrap());
    }
    let newest = taken.iter().copied().max().unwrap();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 6);
    for store in &stores {
        let mut accepted = Vec::new();
        for epoch in &taken {
            accepted.extend(store.apply(*epoch, vec![record("k", 5)]).done.await.ok().map(|_| *epoch));
        }
        assert_eq!(accepted, [newest]);
    }
}

#[tokio::test]
async fn a_destroyed_listener_is_not_brought_back_by_an_owner_that_hung_meanwhile() {
    let mut redis = Redis::fresh().await;
    let older = redis.store().take_epoch().await.unwrap();
    let records = |name: &str| (0..100).map(|number| record(&format!("{name}{number}"), 5)).collect::<Vec<_>>();
    redis.store().apply(older, records("old")).durable.await.unwrap();
    let new = redis.another().await;
    let newer = new.take_epoch().await.unwrap();
    new.destroy(newer).await.unwrap();
    assert_eq!(redis.left().await, Vec::<String>::new());
    let late = redis.store().apply(older, records("late")).durable.await.unwrap_err();
    assert_eq!(late, StoreError::Fenced { mine: older, newest: newer });
    assert!(all_due(redis.store(), 1_000).await.is_empty());
    assert_eq!(redis.left().await, Vec::<String>::new());
    // A listener of that name that is made later begins with nothing, and is the owner.
    redis.again().await;
    let newest = redis.store().take_epoch().await.unwrap();
    assert!(newest > newer);
    redis.store().apply(newest, records("again")).durable.await.unwrap();
    assert_eq!(all_due(redis.store(), 1_000).await.len(), 100);
}

#[tokio::test]
async fn an_epoch_that_is_taken_has_its_place_among_the_calls() {
    let redis = Redis::fresh().await;
    let store = redis.store();
    let first = store.take_epoch().await.unwrap();
    let before = store.apply(first, (0..50).map(|number| record(&format!("a{number}"), 5)).collect());
    let taking = store.take_epoch();
    let after = store.apply(first, vec![record("b", 5)]);
    assert!(matches!(after.done.await, Err(StoreError::Fenced { .. })));
    assert!(before.done.await.unwrap().into_iter().all(|done| done));
    assert!(taking.await.unwrap() > first);
}
