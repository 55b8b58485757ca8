//! Who owns the store, and what is known of the deployment as a whole.

use redis_expiry_operator::{
    model::{Key, Millis, NodeId, Slot, SlotSet},
    store::{Counts, Durability, Epoch, NodeState, Reply, Selection, Store, StoreError, meta},
};

use crate::given::{
    FIRST, Fresh, all_due, apply, dead_letter, delivered, entry, holding, letters, mark_absent, names, outbox, record,
    retry, settle,
};

fn node(name: &str, config_epoch: u64) -> NodeState {
    let slots = [1, 2, 3, 16_383].map(Slot).into_iter().collect();
    NodeState { node: name.into(), run_id: format!("run of {name}"), config_epoch, flushes: u64::MAX - 1, slots }
}

pub async fn each_owner_takes_a_greater_epoch(mut fresh: impl Fresh) {
    let first = fresh.store().take_epoch().await.unwrap();
    let second = fresh.store().take_epoch().await.unwrap();
    fresh.reopen().await;
    let third = fresh.store().take_epoch().await.unwrap();
    assert!(FIRST < first && first < second && second < third);
}

pub async fn an_older_owner_is_refused_and_changes_nothing(mut fresh: impl Fresh) {
    let keys: Vec<Key> = ["a", "b"].map(Key::from).into();
    let store = fresh.store();
    let older = store.take_epoch().await.unwrap();
    store.apply(older, vec![record("a", 5), settle("b", None, 5, 9), settle("c", None, 5, 9)]).durable.await.unwrap();
    store.delivered(older, vec![dead_letter("b", 5, 9)]).await.unwrap();
    store.remember_node(older, node("n", 1)).await.unwrap();
    store.set_meta(older, meta::PATTERN, "before".to_owned()).await.unwrap();
    let before = holding(store, &keys, Millis(9)).await;
    let newest = store.take_epoch().await.unwrap();
    fresh.reopen().await;
    let store = fresh.store();

    // A call of the newer owner beside them is not hurt.
    let beside = store.apply(newest, vec![]);
    let applying = store.apply(older, vec![settle("a", entry(5), 5, 9), record("z", 5)]);
    let refused = |error: StoreError| {
        assert!(matches!(error, StoreError::Fenced { mine, newest: found } if mine == older && found == newest));
        assert!(!error.retryable());
    };
    refused(applying.done.await.unwrap_err());
    refused(applying.durable.await.unwrap_err());
    let without_answer: [Reply<()>; 4] = [
        store.delivered(older, vec![delivered("c", 5, 9)]),
        store.remember_node(older, node("n", 2)),
        store.forget_node(older, "n".into()),
        store.set_meta(older, meta::PATTERN, "after".to_owned()),
    ];
    for call in without_answer {
        refused(call.await.unwrap_err());
    }
    for call in [store.replay(older, Selection::All), store.purge(older, Selection::All), store.discard_ledger(older)] {
        refused(call.await.unwrap_err());
    }
    beside.durable.await.unwrap();
    assert_eq!(holding(store, &keys, Millis(9)).await, before);
}

pub async fn an_older_owner_may_still_read(fresh: impl Fresh) {
    let store = fresh.store();
    apply(store, vec![record("a", 5)]).await;
    store.take_epoch().await.unwrap();
    store.take_epoch().await.unwrap();
    assert_eq!(all_due(store, 10).await.len(), 1);
    // An epoch that nobody took yet is not older.
    store.apply(Epoch(99), vec![record("b", 5)]).durable.await.unwrap();
}

pub async fn node_states_are_remembered_replaced_and_forgotten(mut fresh: impl Fresh) {
    let store = fresh.store();
    assert!(store.node_states().await.unwrap().is_empty());
    for state in [node("b", 1), node("a", u64::MAX), node("b", 2), node("c", 3)] {
        store.remember_node(FIRST, state).await.unwrap();
    }
    store.forget_node(FIRST, NodeId::from("c")).await.unwrap();
    store.forget_node(FIRST, NodeId::from("nobody")).await.unwrap();
    fresh.reopen().await;
    let mut states = fresh.store().node_states().await.unwrap();
    states.sort_by(|a, b| a.node.cmp(&b.node));
    assert_eq!(states, [node("a", u64::MAX), node("b", 2)]);
    let empty = NodeState { slots: SlotSet::default(), ..node("a", 0) };
    fresh.store().remember_node(FIRST, empty.clone()).await.unwrap();
    assert!(fresh.store().node_states().await.unwrap().contains(&empty));
}

pub async fn named_texts_are_kept(mut fresh: impl Fresh) {
    let store = fresh.store();
    assert_eq!(store.meta(meta::PATTERN).await.unwrap(), None);
    store.set_meta(FIRST, meta::PATTERN, "first".to_owned()).await.unwrap();
    store.set_meta(FIRST, meta::PATTERN, "second".to_owned()).await.unwrap();
    fresh.reopen().await;
    assert_eq!(fresh.store().meta(meta::PATTERN).await.unwrap().as_deref(), Some("second"));
    assert_eq!(fresh.store().meta(meta::DEPLOYMENT).await.unwrap(), None);
}

pub async fn a_discarded_ledger_leaves_the_outbox_and_the_dead_letters(mut fresh: impl Fresh) {
    let store = fresh.store();
    apply(store, vec![record("a", 5), record("b", 6), settle("c", None, 5, 9), settle("d", None, 5, 9)]).await;
    store.delivered(FIRST, vec![dead_letter("d", 5, 9)]).await.unwrap();
    store.remember_node(FIRST, node("n", 1)).await.unwrap();
    assert_eq!(store.discard_ledger(FIRST).await.unwrap(), 2);
    assert_eq!(store.discard_ledger(FIRST).await.unwrap(), 0);
    fresh.reopen().await;
    let store = fresh.store();
    assert!(all_due(store, 10).await.is_empty());
    assert!(store.node_states().await.unwrap().is_empty());
    assert_eq!(names(&outbox(store).await), ["c"]);
    assert_eq!(letters(store).await.len(), 1);
    assert_eq!(store.counts().await.unwrap().tracked, 0);
    assert_eq!(apply(store, vec![record("a", 7)]).await, [true]);
}

pub async fn a_destroyed_store_leaves_nothing_and_an_older_owner_cannot_destroy_it(mut fresh: impl Fresh) {
    let store = fresh.store();
    let older = store.take_epoch().await.unwrap();
    let owner = store.take_epoch().await.unwrap();
    let many = (0..2_500).map(|number| record(&format!("k{number}"), 5 + number));
    let changes: Vec<_> = many.chain(["a", "b", "c"].map(|key| settle(key, None, 5, 9))).collect();
    store.apply(owner, changes).durable.await.unwrap();
    store.apply(owner, vec![mark_absent("k1", entry(6))]).durable.await.unwrap();
    store.delivered(owner, vec![retry("a", 5, 1, 99), dead_letter("b", 5, 9)]).await.unwrap();
    store.remember_node(owner, node("n", 1)).await.unwrap();
    store.set_meta(owner, meta::PATTERN, "k*".to_owned()).await.unwrap();
    let refused = store.destroy(older).await;
    assert!(matches!(refused, Err(StoreError::Fenced { mine, newest }) if mine == older && newest == owner));
    assert_eq!(store.counts().await.unwrap().tracked, 2_500);
    store.destroy(owner).await.unwrap();
    assert!(closed(store.counts().await));
    assert_eq!(fresh.left().await, Vec::<String>::new());
    fresh.again().await;
    let store = fresh.store();
    let keys: Vec<Key> = ["a", "k1"].map(Key::from).into();
    let nothing = holding(store, &keys, Millis(9)).await;
    let empty = Counts::default();
    assert_eq!((store.counts().await.unwrap(), nothing.is_empty()), (empty, true), "{nothing:?}");
    let owner = store.take_epoch().await.unwrap();
    assert_eq!(store.apply(owner, vec![record("a", 7), settle("b", None, 5, 9)]).done.await.unwrap(), [true, true]);
    assert_eq!(names(&outbox(store).await), ["b"]);
}

pub async fn a_store_says_whether_it_is_durable(fresh: impl Fresh) {
    let durability = fresh.store().durability().await.unwrap();
    assert_eq!(matches!(durability, Durability::Durable), fresh.durable(), "{durability:?}");
    if let Durability::Volatile { reason, fix } = durability {
        assert!(!reason.is_empty() && !fix.is_empty());
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what was answered is not looked at again")]
fn closed<T>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Closed))
}

pub async fn a_closed_store_finishes_what_was_enqueued_and_takes_no_more(fresh: impl Fresh) {
    let store = fresh.store();
    let applying = store.apply(FIRST, vec![record("a", 5)]);
    let read = store.counts();
    let closing = store.close();
    assert_eq!(applying.done.await.unwrap(), [true]);
    applying.durable.await.unwrap();
    assert_eq!(read.await.unwrap().tracked, 1);
    closing.await.unwrap();
    let applying = store.apply(FIRST, vec![record("b", 5)]);
    assert!(closed(applying.done.await) && closed(applying.durable.await));
    assert!(closed(store.take_epoch().await));
    assert!(closed(store.known(vec!["a".into()]).await) && closed(store.due(None, 1).await));
    assert!(closed(store.pending(Millis(0), vec![], 1).await) && closed(store.next_pending(vec![]).await));
    assert!(closed(store.delivered(FIRST, vec![]).await) && closed(store.dead_letters(None, 1).await));
    assert!(closed(store.replay(FIRST, Selection::All).await) && closed(store.purge(FIRST, Selection::All).await));
    assert!(closed(store.node_states().await) && closed(store.forget_node(FIRST, "n".into()).await));
    assert!(closed(store.remember_node(FIRST, node("n", 1)).await));
    assert!(closed(store.meta(meta::PATTERN).await));
    assert!(closed(store.set_meta(FIRST, meta::PATTERN, String::new()).await));
    assert!(closed(store.discard_ledger(FIRST).await) && closed(store.counts().await) && closed(store.close().await));
    assert!(closed(store.destroy(FIRST).await) && closed(store.durability().await));
}
