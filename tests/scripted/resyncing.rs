//! What is missed in a gap, and what may have been lost, is found again (DESIGN rule 8).

use std::time::Duration;

use redis_expiry_operator::{
    model::{Evidence, Millis, Slot, slot_of},
    store::Known,
};

use crate::{
    fake::{Fake, Scans, until},
    keeping::{Keeping, With},
    looking::plan,
};

const AHEAD: i64 = 99_999_999_999_999;

fn tracked(known: Known) -> bool {
    known.entry.is_some_and(|seen| !seen.absent)
}
fn absent(known: Known) -> bool {
    known.entry.is_some_and(|seen| seen.absent)
}

/// A node that has `k`, due `milliseconds` from now, and a ledger that knows.
async fn given(milliseconds: i64) -> (Fake, Keeping, i64) {
    let a = Fake::start("a").await;
    let deadline = a.clock_millis() + milliseconds;
    a.state().keys.insert("k".into(), Some(deadline));
    let keeping = Keeping::alone(&a, With::default()).await;
    keeping.until_known("recorded", tracked).await;
    (a, keeping, deadline)
}

/// Its connections are cut, and something happens to it meanwhile.
async fn gap(a: &Fake, keeping: &Keeping, change: impl FnOnce(&Fake)) {
    a.leave();
    until("not ready", || !keeping.stats.borrow().ready).await;
    change(a);
    a.come_back();
}

/// It is told at its deadline, as what nobody pushed.
async fn told_as_inferred(keeping: &Keeping, deadline: i64) {
    until("told", || !keeping.told().is_empty()).await;
    assert_eq!(keeping.told(), [("k".into(), Millis(deadline), Evidence::Inferred)]);
}

#[tokio::test]
async fn a_key_born_in_a_gap_is_found_by_the_scan() {
    let a = Fake::start("a").await;
    let keeping = Keeping::alone(&a, With::default()).await;
    gap(&a, &keeping, |a| a.state().keys.extend([("k".into(), Some(AHEAD))])).await;
    keeping.until_known("recorded", tracked).await;
    keeping.ready().await;
    let stats = keeping.stats.borrow().clone();
    assert!(stats.gaps > 0 && stats.resync_found == 0, "{stats:?}");
    let ledger = &keeping.meters.ledger;
    assert_eq!((ledger.gaps.get(), ledger.losses.get(), ledger.resync_found.get()), (stats.gaps, 0, 0));
    assert!(ledger.resync_keys.get() > 0, "{ledger:?}");
}

#[tokio::test]
async fn a_key_deleted_in_a_gap_is_forgotten_when_the_ledgers_keys_are_looked_at() {
    let (a, keeping, _) = given(3_600_000).await;
    gap(&a, &keeping, |a| a.state().keys.clear()).await;
    keeping.until_known("forgotten", |known| known.entry.is_none() && known.memory.is_some()).await;
    keeping.ready().await;
    assert_eq!(keeping.told(), []);
}

#[tokio::test]
async fn a_silence_is_a_gap_though_the_connection_lives_on() {
    let a = Fake::start("a").await;
    let keeping = Keeping::alone(&a, With::default()).await;
    a.hang();
    until("suspect", || !keeping.stats.borrow().ready).await;
    a.state().keys.insert("k".into(), Some(AHEAD));
    a.resume();
    keeping.until_known("recorded", tracked).await;
    assert_eq!(a.times_asked("PSUBSCRIBE"), 1);
}

#[tokio::test]
async fn a_gap_does_not_wait_for_the_periodic_scan_of_its_node() {
    let a = Fake::start("a").await;
    let with = With { resync_interval: Some(Duration::from_millis(100)), ..With::default() };
    let keeping = Keeping::alone(&a, with).await;
    let gaps = keeping.stats.borrow().gaps;
    a.state().scans = Scans::GoOn;
    until("a scan that goes on", || a.times_asked("SCAN 1 ") > 0).await;
    // No connection ends.
    a.knows(&[a.row("master", "-", 2, "0-16383")]);
    until("a resync", || keeping.stats.borrow().gaps == gaps + 1).await;
    a.state().scans = Scans::End;
    keeping.ready().await;
    assert_eq!(a.times_asked("PSUBSCRIBE"), 1);
}

#[tokio::test]
async fn after_a_restart_what_is_gone_is_absent_and_told_at_its_deadline() {
    let (a, keeping, deadline) = given(6_000).await;
    gap(&a, &keeping, |a| {
        a.state().keys.clear();
        a.state().run_id += 1;
    })
    .await;
    keeping.until_known("absent", absent).await;
    told_as_inferred(&keeping, deadline).await;
    assert_eq!(keeping.meters.ledger.losses.get(), 1);
}

#[tokio::test]
async fn after_a_flush_in_a_gap_what_is_gone_is_absent_and_told_at_its_deadline() {
    let (a, keeping, deadline) = given(6_000).await;
    gap(&a, &keeping, |a| {
        a.state().keys.clear();
        a.state().flushes += 1;
    })
    .await;
    keeping.until_known("absent", absent).await;
    told_as_inferred(&keeping, deadline).await;
}

#[tokio::test]
async fn under_another_config_epoch_what_is_gone_is_absent() {
    let (a, keeping, _) = given(3_600_000).await;
    gap(&a, &keeping, |a| {
        a.state().keys.clear();
        a.knows(&[a.row("master", "-", 2, "0-16383")]);
    })
    .await;
    keeping.until_known("absent", absent).await;
}

#[tokio::test]
async fn a_flush_while_a_gap_is_looked_at_makes_a_loss_of_it() {
    let (a, keeping, deadline) = given(6_000).await;
    gap(&a, &keeping, |a| a.state().flush_at_scan = true).await;
    keeping.until_known("absent", absent).await;
    told_as_inferred(&keeping, deadline).await;
}

#[tokio::test]
async fn a_process_that_dies_within_a_resync_leaves_the_state_of_the_node_as_it_was() {
    let (a, keeping, _) = given(3_600_000).await;
    gap(&a, &keeping, |a| {
        a.state().keys.clear();
        a.state().run_id += 1;
        // The first of them waits for its answer when we die.
        a.state().scans = Scans::Hang;
    })
    .await;
    let scans = a.times_asked("SCAN");
    until("scanned", || a.times_asked("SCAN") > scans).await;
    let store = keeping.kill().await;
    a.state().scans = Scans::End;
    let keeping = Keeping::alone(&a, With { store, ..With::default() }).await;
    keeping.until_known("absent", absent).await;
}

#[tokio::test]
async fn slots_that_come_to_a_node_are_scanned_and_what_is_not_there_is_absent() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let slot = slot_of(b"k").0;
    assert!(slot < 16_383 && slot_of(b"k2") != Slot(slot));
    let (rest, all) = (format!("{}-16383", slot + 1), format!("{slot}-16383"));
    // Its epoch is the highest already: taking a slot does not change it.
    let before = [a.row("master", "-", 3, &rest), b.row("master", "-", 2, &format!("0-{slot}"))];
    for fake in [&a, &b] {
        fake.knows(&before);
    }
    b.state().keys.insert("k".into(), Some(AHEAD));
    let keeping = Keeping::start(plan(&[&a, &b]), With::default()).await;
    keeping.ready().await;
    keeping.until_known("recorded", tracked).await;
    // Another key of the same slot is there, of which nobody was heard.
    a.state().keys.insert("k{k}".into(), Some(AHEAD));
    let after = [a.row("master", "-", 3, &all), b.row("master", "-", 2, &format!("0-{}", slot - 1))];
    for fake in [&a, &b] {
        fake.knows(&after);
    }
    b.state().keys.clear();
    keeping.until_known("absent", absent).await;
    let other = keeping.known("k{k}").await;
    assert!(tracked(other), "{other:?}");
}

#[tokio::test]
async fn it_is_not_ready_before_slots_that_came_were_scanned() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let before = [a.row("master", "-", 3, "0-99"), b.row("master", "-", 2, "100-16383")];
    for fake in [&a, &b] {
        fake.knows(&before);
    }
    let keeping = Keeping::start(plan(&[&a, &b]), With::default()).await;
    keeping.ready().await;
    let scans = a.times_asked("SCAN");
    a.state().scans = Scans::Hang;
    let after = [a.row("master", "-", 3, "0-100"), b.row("master", "-", 2, "101-16383")];
    for fake in [&a, &b] {
        fake.knows(&after);
    }
    until("not ready", || !keeping.stats.borrow().ready).await;
    until("scanned", || a.times_asked("SCAN") > scans).await;
    let stats = keeping.stats.borrow().clone();
    assert!(!stats.ready && stats.gaps == 0, "{stats:?}");
    a.state().scans = Scans::End;
    keeping.ready().await;
}

#[tokio::test]
async fn that_the_data_of_one_node_is_the_same_says_nothing_of_what_another_answers() {
    let (a, b) = (Fake::start("a").await, Fake::start("b").await);
    let before = [a.row("master", "-", 2, "0-16383"), b.row("master", "-", 1, "")];
    for fake in [&a, &b] {
        fake.knows(&before);
    }
    a.state().keys.insert("k".into(), Some(AHEAD));
    let keeping = Keeping::start(plan(&[&a, &b]), With::default()).await;
    keeping.ready().await;
    keeping.until_known("recorded", tracked).await;
    gap(&a, &keeping, |a| {
        a.state().keys.clear();
        // Once before the looks, and again behind them, two each time: then the owner changes.
        a.state().hangs_after_infos = Some(3);
        b.state().scans = Scans::Hang;
    })
    .await;
    until("looked at, and asked for its state again", || a.state().hangs_after_infos.is_none()).await;
    let after = [a.row("master", "-", 2, ""), b.row("master", "-", 3, "0-16383")];
    for fake in [&a, &b] {
        fake.knows(&after);
    }
    until("b owns it", || keeping.owner("k") == Some("b".into())).await;
    let asked = b.times_asked("PEXPIRETIME k");
    a.resume();
    until("b is asked for a", || b.times_asked("PEXPIRETIME k") > asked).await;
    b.state().scans = Scans::End;
    keeping.until_known("absent", absent).await;
}

#[tokio::test]
async fn what_was_lost_is_told_at_its_deadline_though_the_first_question_got_no_answer_and_a_gap_follows() {
    let (a, keeping, deadline) = given(6_000).await;
    gap(&a, &keeping, |a| {
        a.state().keys.clear();
        a.state().run_id += 1;
        a.script("k", &[crate::fake::Frame::Reply("-LOADING for a while".into())]);
    })
    .await;
    keeping.ready().await;
    gap(&a, &keeping, |_| {}).await;
    told_as_inferred(&keeping, deadline).await;
}

#[tokio::test]
async fn what_was_deleted_in_a_gap_is_forgotten_though_the_second_question_got_no_answer() {
    let (a, keeping, _) = given(60_000).await;
    gap(&a, &keeping, |a| {
        a.state().keys.clear();
        a.script("k", &[crate::fake::Frame::Reply(":-2".into())]);
        a.script("k", &[crate::fake::Frame::Reply("-BUSY for a while".into())]);
    })
    .await;
    keeping.ready().await;
    keeping.until_known("forgotten", |known| known.entry.is_none()).await;
}
