//! Parked events: listed, replayed, purged.

use redis_expiry_operator::{
    model::Millis,
    store::{Selection, Store},
};

use crate::given::{
    FIRST, Fresh, apply, dead_letter, entry, event, given_events, id, letters, names, outbox, record, settle,
};

/// Parks `key`, settled with deadline 5, at each of the times.
async fn given_letters(store: &impl Store, parked: &[(&str, i64)]) {
    given_events(store, &parked.iter().map(|(key, _)| (*key, 5)).collect::<Vec<_>>()).await;
    store.delivered(FIRST, parked.iter().map(|(key, at)| dead_letter(key, 5, *at)).collect()).await.unwrap();
}

pub async fn a_dead_letter_is_out_of_the_outbox_and_keeps_its_reason(mut fresh: impl Fresh) {
    given_letters(fresh.store(), &[("a", 70)]).await;
    fresh.reopen().await;
    let store = fresh.store();
    assert!(outbox(store).await.is_empty());
    assert_eq!(store.next_pending(vec![]).await.unwrap(), None);
    let letter = letters(store).await.remove(0);
    assert_eq!(letter.event, event("a", 5, 5));
    assert_eq!((letter.attempts, letter.reason.as_str(), letter.at), (3, "answered 422 until 70", Millis(70)));
    assert_eq!(store.counts().await.unwrap().dead_letters, 1);
}

pub async fn an_event_among_the_dead_letters_is_not_appended_again(mut fresh: impl Fresh) {
    given_letters(fresh.store(), &[("a", 70)]).await;
    fresh.reopen().await;
    let store = fresh.store();
    apply(store, vec![record("a", 5)]).await;
    assert_eq!(apply(store, vec![settle("a", entry(5), 5, 99)]).await, [true]);
    assert!(outbox(store).await.is_empty());
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.tracked, counts.pending, counts.dead_letters), (0, 0, 1));
}

pub async fn dead_letters_are_paged_by_when_they_were_parked(fresh: impl Fresh) {
    let store = fresh.store();
    let parked = [("a", 30), ("b", 10), ("c", 20), ("d", 20), ("e", 20), ("f", 10)];
    given_letters(store, &parked).await;
    let mut expected: Vec<_> = parked.iter().map(|(key, at)| (Millis(*at), id(key, 5))).collect();
    expected.sort();
    for limit in [1, 2, 5, 100] {
        let mut found = Vec::new();
        loop {
            let page = store.dead_letters(found.last().cloned(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|letter| (letter.at, letter.event.id)));
        }
        assert_eq!(found, expected, "in pages of {limit}");
    }
    assert!(store.dead_letters(None, 0).await.unwrap().is_empty());
}

pub async fn replayed_letters_are_as_if_never_tried(mut fresh: impl Fresh) {
    let store = fresh.store();
    given_letters(store, &[("a", 30), ("b", 10), ("c", 20)]).await;
    let some = Selection::Ids(vec![id("a", 5), id("nobody", 5), id("a", 5)]);
    assert_eq!(store.replay(FIRST, some).await.unwrap(), 1);
    let pending = outbox(store).await.remove(0);
    assert_eq!(pending.event, event("a", 5, 5));
    assert_eq!((pending.attempts, pending.first_attempt, pending.not_before), (0, None, Millis(0)));
    assert_eq!(store.replay(FIRST, Selection::All).await.unwrap(), 2);
    assert_eq!(store.replay(FIRST, Selection::All).await.unwrap(), 0);
    fresh.reopen().await;
    let store = fresh.store();
    // Settled at once, they come by when they came back.
    assert_eq!(names(&outbox(store).await), ["a", "b", "c"]);
    assert!(letters(store).await.is_empty());
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.pending, counts.dead_letters), (3, 0));
}

pub async fn purged_letters_are_gone_for_good(mut fresh: impl Fresh) {
    let store = fresh.store();
    given_letters(store, &[("a", 30), ("b", 10), ("c", 20)]).await;
    let some = Selection::Ids(vec![id("c", 5), id("nobody", 5), id("c", 5)]);
    assert_eq!(store.purge(FIRST, some).await.unwrap(), 1);
    assert_eq!(store.counts().await.unwrap().dead_letters, 2);
    assert_eq!(store.purge(FIRST, Selection::Ids(Vec::new())).await.unwrap(), 0);
    assert_eq!(store.purge(FIRST, Selection::All).await.unwrap(), 2);
    fresh.reopen().await;
    let store = fresh.store();
    assert!(letters(store).await.is_empty());
    assert!(outbox(store).await.is_empty());
    assert_eq!(store.counts().await.unwrap().dead_letters, 0);
    // What was purged may come again.
    given_events(store, &[("a", 5)]).await;
}
