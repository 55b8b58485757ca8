//! The ledger: compare-and-set, order, settling, memories, paging.

use redis_expiry_operator::{
    model::{Key, Millis},
    store::{Change, Entry, Epoch, Known, MEMORY_MS, Memory, Store},
};

use crate::given::{
    FIRST, Fresh, absent, all_due, apply, entry, entry_of, event, forget, known, mark_absent, names, outbox, record,
    record_over, settle,
};

pub async fn a_record_is_there_at_once_and_after_reopening(mut fresh: impl Fresh) {
    assert_eq!(apply(fresh.store(), vec![record("a", 5)]).await, [true]);
    assert_eq!(known(fresh.store(), "a").await, Known { entry: Some(entry(5)), memory: None });
    fresh.reopen().await;
    assert_eq!(known(fresh.store(), "a").await, Known { entry: Some(entry(5)), memory: None });
    assert_eq!(fresh.store().counts().await.unwrap().tracked, 1);
}

pub async fn a_change_does_nothing_where_it_saw_another_entry(fresh: impl Fresh) {
    let store = fresh.store();
    apply(store, vec![record("a", 5), record("gone", 5), mark_absent("gone", entry(5))]).await;
    let wrong = vec![
        record("a", 6),
        record_over("a", entry(4), 6),
        record_over("a", absent(5), 6),
        record_over("nobody", entry(5), 6),
        record_over("gone", entry(5), 6),
        forget("a", entry(4), 9),
        forget("a", absent(5), 9),
        forget("nobody", entry(5), 9),
        forget("gone", entry(5), 9),
        mark_absent("a", entry(4)),
        mark_absent("a", absent(5)),
        mark_absent("nobody", entry(5)),
        settle("a", None, 5, 9),
        settle("a", entry(4), 5, 9),
        settle("a", absent(5), 5, 9),
        settle("nobody", entry(5), 5, 9),
        settle("gone", entry(5), 5, 9),
    ];
    let all = wrong.len();
    assert_eq!(apply(store, wrong).await, vec![false; all]);
    assert_eq!(known(store, "a").await, Known { entry: Some(entry(5)), memory: None });
    assert_eq!(known(store, "gone").await, Known { entry: Some(absent(5)), memory: None });
    assert_eq!(known(store, "nobody").await, Known::default());
    assert!(outbox(store).await.is_empty());
}

pub async fn a_change_does_what_it_says_where_it_saw_the_entry(mut fresh: impl Fresh) {
    let store = fresh.store();
    apply(store, ["recorded", "forgotten", "absent", "back", "settled"].map(|key| record(key, 5)).into()).await;
    let right = vec![
        record_over("recorded", entry(5), 7),
        forget("forgotten", entry(5), 9),
        mark_absent("absent", entry(5)),
        mark_absent("back", entry(5)),
        record_over("back", absent(5), 5),
        settle("settled", entry(5), 5, 9),
    ];
    assert_eq!(apply(store, right).await, [true; 6]);
    fresh.reopen().await;
    let store = fresh.store();
    assert_eq!(entry_of(store, "recorded").await, Some(entry(7)));
    assert_eq!(entry_of(store, "forgotten").await, None);
    assert_eq!(entry_of(store, "absent").await, Some(absent(5)));
    assert_eq!(entry_of(store, "back").await, Some(entry(5)));
    assert_eq!(entry_of(store, "settled").await, None);
    assert_eq!(store.counts().await.unwrap().tracked, 3);
    let keys: Vec<Key> = all_due(store, 10).await.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["absent", "back", "recorded"].map(Key::from));
}

pub async fn calls_take_effect_in_the_order_in_which_they_were_made(fresh: impl Fresh) {
    let store = fresh.store();
    let first = store.apply(FIRST, vec![record("a", 1)]);
    let second = store.apply(FIRST, vec![record_over("a", entry(1), 2)]);
    let third = store.known(vec!["a".into()]);
    let fourth = store.apply(FIRST, vec![settle("a", entry(2), 2, 9)]);
    let fifth = store.counts();
    // Awaited the other way round.
    assert_eq!(fifth.await.unwrap().pending, 1);
    assert_eq!(fourth.done.await.unwrap(), [true]);
    assert_eq!(third.await.unwrap()[0].entry, Some(entry(2)));
    assert_eq!(second.done.await.unwrap(), [true]);
    assert_eq!(first.done.await.unwrap(), [true]);
    for durable in [fourth.durable, second.durable, first.durable] {
        durable.await.unwrap();
    }
}

pub async fn changes_of_one_call_see_each_other_in_order(fresh: impl Fresh) {
    let store = fresh.store();
    let changes = vec![
        record("a", 1),
        record("a", 2),
        record_over("a", entry(1), 3),
        mark_absent("a", entry(3)),
        settle("a", absent(3), 3, 9),
        settle("a", absent(3), 3, 9),
        record("a", 4),
    ];
    assert_eq!(apply(store, changes).await, [true, false, true, true, true, false, true]);
    assert_eq!(entry_of(store, "a").await, Some(entry(4)));
    assert_eq!(names(&outbox(store).await), ["a"]);
}

pub async fn a_call_whose_answers_are_dropped_is_done_all_the_same(mut fresh: impl Fresh) {
    for number in 0..100 {
        drop(fresh.store().apply(FIRST, vec![record(&format!("k{number:02}"), number)]));
    }
    fresh.reopen().await;
    assert_eq!(all_due(fresh.store(), 100).await.len(), 100);
}

pub async fn settling_moves_the_entry_to_the_outbox_or_does_nothing(mut fresh: impl Fresh) {
    apply(fresh.store(), vec![record("a", 5), record("b", 6)]).await;
    let done = apply(fresh.store(), vec![settle("a", entry(5), 5, 9), settle("b", entry(5), 5, 9)]).await;
    assert_eq!(done, [true, false]);
    fresh.reopen().await;
    let store = fresh.store();
    assert_eq!((entry_of(store, "a").await, entry_of(store, "b").await), (None, Some(entry(6))));
    let pending = outbox(store).await;
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].event, event("a", 5, 9));
    assert_eq!((pending[0].attempts, pending[0].first_attempt, pending[0].not_before), (0, None, Millis(0)));
}

pub async fn settling_without_entry_appends_the_event(fresh: impl Fresh) {
    let store = fresh.store();
    assert_eq!(apply(store, vec![settle("a", None, 5, 9)]).await, [true]);
    assert_eq!(outbox(store).await[0].event, event("a", 5, 9));
    assert_eq!(store.counts().await.unwrap().tracked, 0);
}

pub async fn a_settled_or_forgotten_key_is_remembered_with_its_owner(mut fresh: impl Fresh) {
    let store = fresh.store();
    apply(store, vec![record("settled", 5), record("forgotten", 5)]).await;
    apply(store, vec![settle("settled", entry(5), 5, 100), settle("unseen", None, 5, 101)]).await;
    let later = store.take_epoch().await.unwrap();
    let applying = store.apply(later, vec![forget("forgotten", entry(5), 102), record("settled", 200)]);
    applying.durable.await.unwrap();
    fresh.reopen().await;
    let store = fresh.store();
    let memory = |at, epoch| Some(Memory { at: Millis(at), epoch });
    let settled = known(store, "settled").await;
    assert_eq!(settled, Known { entry: Some(entry(200)), memory: memory(100, FIRST) });
    assert_eq!(known(store, "unseen").await, Known { entry: None, memory: memory(101, FIRST) });
    assert_eq!(known(store, "forgotten").await, Known { entry: None, memory: memory(102, later) });
    // The last word counts.
    let again = store.apply(later, vec![settle("settled", entry(200), 200, 300)]);
    again.durable.await.unwrap();
    assert_eq!(known(store, "settled").await.memory, memory(300, later));
}

pub async fn a_memory_is_kept_for_a_while_and_not_for_ever(mut fresh: impl Fresh) {
    let start = 1_000_000;
    let store = fresh.store();
    let early = |number: i64| settle(&format!("early{number}"), None, 5, start);
    apply(store, (0..50).map(early).collect()).await;
    apply(store, vec![record("early7", 9)]).await;
    apply(store, vec![settle("b", None, 5, start + MEMORY_MS)]).await;
    assert_eq!(known(store, "early0").await.memory, Some(Memory { at: Millis(start), epoch: FIRST }));
    fresh.reopen().await;
    let store = fresh.store();
    assert_eq!(known(store, "early0").await.memory, Some(Memory { at: Millis(start), epoch: FIRST }));
    for _ in 0..2 {
        apply(store, vec![settle("c", None, 5, start + 2 * MEMORY_MS)]).await;
    }
    for number in 0..50 {
        assert_eq!(known(store, &format!("early{number}")).await.memory, None, "{number}");
    }
    assert_eq!(entry_of(store, "early7").await, Some(entry(9)));
    assert_eq!(known(store, "b").await.memory, Some(Memory { at: Millis(start + MEMORY_MS), epoch: FIRST }));
}

pub async fn a_refused_settle_leaves_no_memory(fresh: impl Fresh) {
    let store = fresh.store();
    apply(store, vec![record("a", 5)]).await;
    assert_eq!(apply(store, vec![settle("a", None, 5, 9), forget("a", entry(6), 9)]).await, [false, false]);
    assert_eq!(known(store, "a").await.memory, None);
}

pub async fn what_is_due_is_paged_by_deadline_then_key(fresh: impl Fresh) {
    let store = fresh.store();
    let mut expected: Vec<(i64, String)> = (0..60).map(|n| (n % 3, format!("key{:02}", (n * 7) % 60))).collect();
    apply(store, expected.iter().map(|(deadline, key)| record(key, *deadline)).collect()).await;
    apply(store, vec![mark_absent("key00", entry(0))]).await;
    expected.sort();
    for limit in [1, 7, 20, 1000] {
        let found = all_due(store, limit).await;
        let found: Vec<(i64, String)> =
            found.iter().map(|entry| (entry.seen.deadline.0, entry.key.to_string())).collect();
        assert_eq!(found, expected, "in pages of {limit}");
    }
    assert_eq!(store.due(None, 1).await.unwrap(), [Entry { key: "key00".into(), seen: absent(0) }]);
    // A cursor need not name an entry that is there.
    assert_eq!(store.due(Some((Millis(1), "zzz".into())), 1).await.unwrap()[0].seen, entry(2));
    assert!(store.due(Some((Millis(3), "".into())), 1).await.unwrap().is_empty());
    assert!(store.due(None, 0).await.unwrap().is_empty());
}

pub async fn keys_are_any_bytes(mut fresh: impl Fresh) {
    let keys: Vec<Key> =
        [&b""[..], b"\0", b"\0\0", b"a\0b", b"\x80", b"\xff\xfe", b"'; DROP TABLE keys; --", b"\xc3\x28"]
            .map(Key::from)
            .into();
    let deadline = Millis(5);
    let changes = keys.iter().map(|key| Change::Record { key: key.clone(), saw: None, deadline }).collect();
    assert_eq!(apply(fresh.store(), changes).await, [true; 8]);
    fresh.reopen().await;
    let store = fresh.store();
    let mut sorted = keys.clone();
    sorted.sort();
    let found: Vec<Key> = all_due(store, 3).await.into_iter().map(|entry| entry.key).collect();
    assert_eq!(found, sorted);
    let settled = keys.iter().map(|key| {
        let event = redis_expiry_operator::model::Event { key: key.clone(), ..event(&key.to_string(), 5, 9) };
        Change::Settle { saw: Some(entry(5)), event, at: Millis(9) }
    });
    assert_eq!(apply(store, settled.collect()).await, [true; 8]);
    fresh.reopen().await;
    let found: Vec<Key> = outbox(fresh.store()).await.into_iter().map(|pending| pending.event.key).collect();
    assert_eq!(found, keys);
}

pub async fn known_answers_in_the_order_asked(fresh: impl Fresh) {
    let store = fresh.store();
    apply(store, vec![record("a", 1), record("b", 2)]).await;
    let found = store.known(["b", "nobody", "a", "b"].map(Key::from).into()).await.unwrap();
    let entries: Vec<_> = found.into_iter().map(|known| known.entry).collect();
    assert_eq!(entries, [Some(entry(2)), None, Some(entry(1)), Some(entry(2))]);
    assert!(store.known(Vec::new()).await.unwrap().is_empty());
}

pub async fn nothing_to_do_is_done(fresh: impl Fresh) {
    let applying = fresh.store().apply(Epoch(3), Vec::new());
    assert!(applying.done.await.unwrap().is_empty());
    applying.durable.await.unwrap();
    fresh.store().delivered(FIRST, Vec::new()).await.unwrap();
}
