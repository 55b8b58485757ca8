//! A store that has lost what it had acknowledged: what this process knows is written anew, and nobody's order is lost with it.

use std::time::Duration;

use redis_expiry_operator::{
    model::{Evidence, Key, Millis},
    store::{Change, Epoch, Losses, Seen, Store, meta},
};

use crate::{
    fake::{Fake, Scans, until},
    keeping::{Keeping, With},
    looking::plan,
};

const FAR: i64 = 99_999_999_999_999;
/// One more than before: the keeper has heard of none.
const FOUND: Losses = Losses { count: 1, before_us: 0 };

fn keys(names: &[&str]) -> Vec<Key> {
    names.iter().map(|name| (*name).into()).collect()
}

/// `k` is born, and its deadline recorded.
async fn recorded(a: &Fake, keeping: &Keeping, deadline: i64) {
    a.state().keys.insert("k".into(), Some(deadline));
    a.push("k", "set");
    keeping.until_known("recorded", |known| known.entry.is_some()).await;
}

/// A ledger that has dealt with a loss: of the next one, which is not counted, the looks themselves find out.
async fn known_to_lose(a: &Fake) -> Keeping {
    let keeping = Keeping::alone(a, With::default()).await;
    keeping.store.lose(&[], FOUND);
    until("found", || keeping.meters.ledger.store_losses.get() == 1).await;
    keeping.ready().await;
    keeping
}

/// An entry that the book does not have: the store has gone back to when it was there.
async fn gone_back_to(keeping: &Keeping, key: &str) {
    let record = Change::Record { key: key.into(), saw: None, deadline: Millis(FAR) };
    keeping.store.apply(Epoch(9), vec![record]).done.await.unwrap();
}

#[tokio::test]
async fn an_expiry_whose_entry_the_store_has_lost_is_told_with_the_deadline_that_was_known() {
    let a = Fake::start("a").await;
    let keeping = known_to_lose(&a).await;
    let deadline = a.clock_millis() + 1_000;
    recorded(&a, &keeping, deadline).await;
    keeping.store.lose(&keys(&["k"]), FOUND);
    until("told", || !keeping.told().is_empty()).await;
    assert_eq!(keeping.told(), [("k".into(), Millis(deadline), Evidence::Witnessed)]);
    // Once, and its memory is there again.
    keeping.until_known("remembered", |known| known.entry.is_none() && known.memory.is_some()).await;
    let pending = keeping.store.pending(Millis(i64::MAX), Vec::new(), 9).await.unwrap();
    assert_eq!(pending.len(), 1);
}

#[tokio::test]
async fn an_expiry_that_nobody_pushed_is_told_though_the_store_has_lost_its_entry() {
    let a = Fake::start("a").await;
    let keeping = known_to_lose(&a).await;
    let deadline = a.clock_millis() + 1_000;
    recorded(&a, &keeping, deadline).await;
    keeping.store.lose(&keys(&["k"]), FOUND);
    // Its data is lost as well, and nothing told of that.
    a.state().keys.remove("k");
    until("told", || !keeping.told().is_empty()).await;
    assert_eq!(keeping.told(), [("k".into(), Millis(deadline), Evidence::Inferred)]);
}

#[tokio::test]
async fn what_is_known_is_written_into_a_store_that_has_lost_it_before_it_is_due() {
    let a = Fake::start("a").await;
    let keeping = Keeping::alone(&a, With::default()).await;
    recorded(&a, &keeping, FAR).await;
    let deployment = keeping.store.meta(meta::DEPLOYMENT).await.unwrap();
    keeping.store.set_meta(Epoch(9), meta::DEPLOYMENT, "[]".into()).await.unwrap();
    keeping.store.lose(&keys(&["k"]), FOUND);
    keeping.until_known("recorded again", |known| known.entry.is_some()).await;
    assert_eq!(keeping.store.meta(meta::DEPLOYMENT).await.unwrap(), deployment);
    assert_eq!(keeping.meters.ledger.store_losses.get(), 1);
    keeping.ready().await;
}

#[tokio::test]
async fn a_key_that_only_the_lost_part_of_the_store_knew_is_found_by_a_scan() {
    let a = Fake::start("a").await;
    let keeping = Keeping::alone(&a, With::default()).await;
    a.state().keys.insert("k".into(), Some(FAR));
    keeping.store.lose(&[], FOUND);
    keeping.until_known("recorded", |known| known.entry.is_some()).await;
}

#[tokio::test]
async fn a_deleted_key_whose_entry_comes_back_is_forgotten_again() {
    let a = Fake::start("a").await;
    let keeping = Keeping::alone(&a, With::default()).await;
    gone_back_to(&keeping, "k").await;
    keeping.store.lose(&[], FOUND);
    keeping.until_known("forgotten", |known| known.entry.is_none()).await;
    assert_eq!(keeping.told(), []);
}

#[tokio::test]
async fn where_a_lost_mark_may_tell_an_evicted_key_from_a_deleted_one_nothing_is_forgotten() {
    for (evicted, found) in [(true, FOUND), (false, Losses { count: 1, before_us: 1 })] {
        let a = Fake::start("a").await;
        let keeping = Keeping::alone(&a, With::default()).await;
        if evicted {
            recorded(&a, &keeping, FAR).await;
            a.state().keys.remove("k");
            a.push("k", "evicted");
            keeping.until_known("marked", |known| known.entry.is_some_and(|seen| seen.absent)).await;
        }
        gone_back_to(&keeping, "k2").await;
        keeping.store.lose(&[], found);
        let absent = Some(Seen { deadline: Millis(FAR), absent: true });
        keeping.until_known_of("k2", "absent", |known| known.entry == absent).await;
    }
}

#[tokio::test]
async fn a_scan_that_was_under_way_when_the_loss_was_found_does_not_count() {
    let a = Fake::start("a").await;
    a.knows(&[a.row("master", "-", 1, "0-16383")]);
    a.state().scans = Scans::GoOn;
    let keeping = Keeping::start(plan(&[&a]), With::default()).await;
    until("scanned", || a.times_asked("SCAN 0") == 1).await;
    keeping.store.lose(&[], FOUND);
    until("scanned from the start again", || a.times_asked("SCAN 0") > 1).await;
    assert!(!keeping.stats.borrow().ready);
    a.state().scans = Scans::End;
    keeping.ready().await;
}

#[tokio::test]
async fn keys_in_flight_are_compared_when_their_looks_are_done() {
    let a = Fake::start("a").await;
    let keeping = Keeping::alone(&a, With::default()).await;
    recorded(&a, &keeping, FAR).await;
    // A look that gets no answer for a while.
    for _ in 0..6 {
        a.script("k", &[crate::fake::Frame::Reply("-LOADING for a while".into())]);
    }
    let asked = a.times_asked("PEXPIRETIME k");
    a.push("k", "expire");
    until("asked", || a.times_asked("PEXPIRETIME k") > asked).await;
    keeping.store.lose(&keys(&["k"]), FOUND);
    keeping.until_known("recorded again", |known| known.entry.is_some()).await;
    tokio::time::timeout(Duration::from_secs(10), keeping.ready()).await.unwrap();
}
