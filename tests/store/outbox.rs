//! The outbox: order, exclusion, what became of attempts.

use redis_expiry_operator::{
    model::Millis,
    store::{Counts, Store},
};

use crate::given::{
    EVER, FIRST, Fresh, apply, dead_letter, delivered, entry, forget, given_events, id, known, mark_absent, names,
    outbox, record, retry, settle,
};

pub async fn events_come_by_when_they_were_settled_then_by_when_they_may_be_tried(mut fresh: impl Fresh) {
    let store = fresh.store();
    given_events(store, &[("third", 30), ("first", 10), ("tried-late", 1), ("tried-soon", 2), ("second", 20)]).await;
    // Settled in the same millisecond: in the order of settling.
    apply(store, vec![settle("zz", None, 7, 20), settle("aa", None, 7, 20)]).await;
    store.delivered(FIRST, vec![retry("tried-late", 1, 1, 50), retry("tried-soon", 2, 4, 40)]).await.unwrap();
    let expected = ["first", "second", "zz", "aa", "third", "tried-soon", "tried-late"];
    assert_eq!(names(&outbox(store).await), expected);
    assert_eq!(names(&store.pending(EVER, Vec::new(), 3).await.unwrap()), expected[..3]);
    fresh.reopen().await;
    assert_eq!(names(&outbox(fresh.store()).await), expected);
}

pub async fn events_in_flight_and_those_too_early_are_left_out(fresh: impl Fresh) {
    let store = fresh.store();
    given_events(store, &[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]).await;
    // The last was put off without an attempt.
    let outcomes = vec![retry("c", 3, 1, 100), retry("d", 4, 1, 101), retry("e", 5, 0, 100)];
    store.delivered(FIRST, outcomes).await.unwrap();
    let pending = |ready, but| store.pending(Millis(ready), but, 10);
    assert_eq!(names(&pending(99, vec![]).await.unwrap()), ["a", "b"]);
    assert_eq!(names(&pending(100, vec![]).await.unwrap()), ["a", "b", "e", "c"]);
    assert_eq!(names(&pending(101, vec![id("a", 1), id("c", 3)]).await.unwrap()), ["b", "e", "d"]);
    assert_eq!(names(&store.pending(EVER, vec![id("a", 1)], 2).await.unwrap()), ["b", "e"]);
    assert!(store.pending(EVER, vec![], 0).await.unwrap().is_empty());
}

pub async fn the_next_attempt_is_the_soonest_of_those_not_in_flight(fresh: impl Fresh) {
    let store = fresh.store();
    assert_eq!(store.next_pending(vec![]).await.unwrap(), None);
    given_events(store, &[("new", 1), ("put-off", 2), ("tried", 3), ("tried-later", 4)]).await;
    let outcomes = vec![retry("put-off", 2, 0, 60), retry("tried", 3, 1, 50), retry("tried-later", 4, 1, 70)];
    store.delivered(FIRST, outcomes).await.unwrap();
    let mut but = Vec::new();
    for (key, deadline, soonest) in [("new", 1, 0), ("tried", 3, 50), ("put-off", 2, 60), ("tried-later", 4, 70)] {
        assert_eq!(store.next_pending(but.clone()).await.unwrap(), Some(Millis(soonest)), "{key}");
        but.push(id(key, deadline));
    }
    assert_eq!(store.next_pending(but).await.unwrap(), None);
}

pub async fn an_id_is_not_in_the_outbox_twice(fresh: impl Fresh) {
    let store = fresh.store();
    given_events(store, &[("a", 5)]).await;
    store.delivered(FIRST, vec![retry("a", 5, 2, 50)]).await.unwrap();
    apply(store, vec![record("a", 6)]).await;
    // All but the appending is done: the entry goes, the time is remembered.
    assert_eq!(apply(store, vec![settle("a", entry(6), 5, 99)]).await, [true]);
    let pending = outbox(store).await;
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].event.settled_at, pending[0].attempts), (Millis(5), 2));
    let known = known(store, "a").await;
    assert_eq!((known.entry, known.memory.map(|memory| memory.at)), (None, Some(Millis(99))));
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.tracked, counts.pending), (0, 1));
}

pub async fn a_delivered_event_is_gone_and_may_come_again(mut fresh: impl Fresh) {
    given_events(fresh.store(), &[("a", 5), ("b", 6)]).await;
    fresh.store().delivered(FIRST, vec![delivered("a", 5, 70)]).await.unwrap();
    fresh.reopen().await;
    let store = fresh.store();
    assert_eq!(names(&outbox(store).await), ["b"]);
    assert_eq!(store.counts().await.unwrap().last_delivered, Some(Millis(70)));
    given_events(store, &[("a", 5)]).await;
    assert_eq!(names(&outbox(store).await), ["a", "b"]);
}

pub async fn a_retry_keeps_what_its_delivery_came_to(mut fresh: impl Fresh) {
    given_events(fresh.store(), &[("a", 5)]).await;
    fresh.store().delivered(FIRST, vec![retry("a", 5, 3, 80)]).await.unwrap();
    fresh.reopen().await;
    let pending = outbox(fresh.store()).await.remove(0);
    assert_eq!((pending.attempts, pending.first_attempt, pending.not_before), (3, Some(Millis(70)), Millis(80)));
}

pub async fn outcomes_of_unknown_events_are_passed_over(fresh: impl Fresh) {
    let store = fresh.store();
    given_events(store, &[("a", 5)]).await;
    let outcomes =
        vec![delivered("nobody", 5, 9), retry("nobody", 5, 1, 9), dead_letter("nobody", 5, 9), delivered("a", 5, 8)];
    store.delivered(FIRST, outcomes).await.unwrap();
    let expected = Counts { last_delivered: Some(Millis(8)), ..Counts::default() };
    assert_eq!(store.counts().await.unwrap(), expected);
}

pub async fn outcomes_take_effect_in_order(fresh: impl Fresh) {
    let store = fresh.store();
    given_events(store, &[("a", 5), ("b", 6)]).await;
    let outcomes = vec![retry("a", 5, 1, 50), retry("a", 5, 2, 60), dead_letter("b", 6, 9), delivered("b", 6, 10)];
    store.delivered(FIRST, outcomes).await.unwrap();
    assert_eq!(outbox(store).await[0].attempts, 2);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.pending, counts.dead_letters, counts.last_delivered), (1, 1, None));
}

pub async fn counts_follow_every_step(mut fresh: impl Fresh) {
    let store = fresh.store();
    assert_eq!(store.counts().await.unwrap(), Counts::default());
    apply(store, ["a", "b", "c", "d"].map(|key| record(key, 5)).into()).await;
    apply(store, vec![mark_absent("a", entry(5)), forget("b", entry(5), 9)]).await;
    apply(store, vec![settle("c", entry(5), 5, 30), settle("d", entry(5), 5, 20), settle("x", None, 5, 40)]).await;
    let expected =
        Counts { tracked: 1, pending: 3, dead_letters: 0, oldest_pending: Some(Millis(20)), last_delivered: None };
    assert_eq!(store.counts().await.unwrap(), expected);
    // The oldest stays the oldest while it is tried again.
    store.delivered(FIRST, vec![retry("d", 5, 1, 90), dead_letter("x", 5, 50)]).await.unwrap();
    let expected = Counts { pending: 2, dead_letters: 1, ..expected };
    assert_eq!(store.counts().await.unwrap(), expected);
    store.delivered(FIRST, vec![delivered("d", 5, 91)]).await.unwrap();
    let expected =
        Counts { pending: 1, oldest_pending: Some(Millis(30)), last_delivered: Some(Millis(91)), ..expected };
    assert_eq!(store.counts().await.unwrap(), expected);
    fresh.reopen().await;
    assert_eq!(fresh.store().counts().await.unwrap(), expected);
}
