//! Whatever is done in whatever order, every store answers what the maps answer and holds what they hold.

use proptest::prelude::*;
use redis_expiry_operator::{
    model::{Key, Millis},
    store::{Change, Delivery, Epoch, NodeState, Seen, Selection, Store, StoreError, meta},
};
use tokio::runtime::Builder;

use crate::{
    given::{
        Fresh, Memory, Sqlite, dead_letter, delivered, entry_of, forget, holding, id, mark_absent, record, record_over,
        retry, settle,
    },
    redis::setup::Redis,
};

const KEYS: [&str; 4] = ["a", "b", "c", "\u{0}"];
/// Time passes this much with each step, so that memories grow old in a run.
const STEP_MS: i64 = 4_000;

/// Which entry a change claims to have seen.
#[derive(Clone, Debug)]
enum Saw {
    /// The one that is there.
    Right,
    Some(Seen),
    None,
}

#[derive(Clone, Debug)]
enum Kind {
    Record(i64),
    Forget,
    MarkAbsent,
    Settle(i64),
}

#[derive(Clone, Debug)]
enum Step {
    TakeEpoch,
    Apply(Vec<(usize, Saw, Kind)>),
    Delivered(Vec<Delivery>),
    Pending(i64, Vec<(usize, i64)>, usize),
    Replay(Selection),
    Purge(Selection),
    Node(u64, bool),
    Meta(String),
    Discard,
    Reopen,
}

fn seen() -> impl Strategy<Value = Seen> {
    (0..4_i64, any::<bool>()).prop_map(|(deadline, absent)| Seen { deadline: Millis(deadline), absent })
}
fn event() -> impl Strategy<Value = (usize, i64)> {
    (0..KEYS.len(), 0..4_i64)
}
fn saw() -> impl Strategy<Value = Saw> {
    prop_oneof![6 => Just(Saw::Right), 1 => seen().prop_map(Saw::Some), 1 => Just(Saw::None)]
}
fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => (0..4_i64).prop_map(Kind::Record),
        1 => Just(Kind::Forget),
        1 => Just(Kind::MarkAbsent),
        3 => (0..4_i64).prop_map(Kind::Settle),
    ]
}
fn outcome() -> impl Strategy<Value = Delivery> {
    (event(), 0..3_u8, 0..3_u32, 0..60_i64).prop_map(|((key, deadline), outcome, attempts, at)| match outcome {
        0 => delivered(KEYS[key], deadline, at),
        1 => retry(KEYS[key], deadline, attempts, at),
        _ => dead_letter(KEYS[key], deadline, at),
    })
}
fn selection() -> impl Strategy<Value = Selection> {
    prop_oneof![
        1 => Just(Selection::All),
        2 => prop::collection::vec(event(), 0..4)
            .prop_map(|events| Selection::Ids(events.into_iter().map(|(key, at)| id(KEYS[key], at)).collect())),
    ]
}
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::TakeEpoch),
        12 => prop::collection::vec((0..KEYS.len(), saw(), kind()), 0..6).prop_map(Step::Apply),
        6 => prop::collection::vec(outcome(), 0..5).prop_map(Step::Delivered),
        4 => (0..60_i64, prop::collection::vec(event(), 0..4), 0..5_usize)
            .prop_map(|(ready, but, limit)| Step::Pending(ready, but, limit)),
        2 => selection().prop_map(Step::Replay),
        1 => selection().prop_map(Step::Purge),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(flushes, keep)| Step::Node(flushes, keep)),
        1 => "[a-z]{0,3}".prop_map(Step::Meta),
        1 => Just(Step::Discard),
        1 => Just(Step::Reopen),
    ]
}

/// Does a step, and says all that was answered, as text.
async fn perform(fresh: &mut impl Fresh, step: Step, epoch: Epoch, at: i64) -> String {
    #[expect(clippy::needless_pass_by_value, reason = "what was answered is not looked at again")]
    fn said<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
        format!("{answer:?}")
    }
    if let Step::Reopen = step {
        fresh.reopen().await;
        return String::new();
    }
    let store = fresh.store();
    match step {
        Step::Reopen => String::new(),
        Step::TakeEpoch => said(store.take_epoch().await),
        Step::Apply(changes) => {
            let mut made = Vec::new();
            for (key, saw, kind) in changes {
                made.push(change(KEYS[key], &saw, kind, entry_of(store, KEYS[key]).await, at));
            }
            let applying = store.apply(epoch, made);
            format!("{:?} {:?}", applying.done.await, applying.durable.await)
        }
        Step::Delivered(outcomes) => said(store.delivered(epoch, outcomes).await),
        Step::Pending(ready, but, limit) => {
            let but: Vec<_> = but.into_iter().map(|(key, at)| id(KEYS[key], at)).collect();
            let next = store.next_pending(but.clone()).await;
            format!("{next:?} {:?}", store.pending(Millis(ready), but, limit).await)
        }
        Step::Replay(which) => said(store.replay(epoch, which).await),
        Step::Purge(which) => said(store.purge(epoch, which).await),
        Step::Node(flushes, true) => {
            let (run_id, slots) = (String::new(), [redis_expiry_operator::model::Slot(7)].into_iter().collect());
            said(
                store
                    .remember_node(epoch, NodeState { node: "n".into(), run_id, config_epoch: 1, flushes, slots })
                    .await,
            )
        }
        Step::Node(_, false) => said(store.forget_node(epoch, "n".into()).await),
        Step::Meta(value) => said(store.set_meta(epoch, meta::PATTERN, value).await),
        Step::Discard => said(store.discard_ledger(epoch).await),
    }
}

fn change(key: &str, saw: &Saw, kind: Kind, there: Option<Seen>, at: i64) -> Change {
    let saw = match saw {
        Saw::Right => there,
        Saw::Some(seen) => Some(*seen),
        Saw::None => None,
    };
    match (kind, saw) {
        (Kind::Record(deadline), None) => record(key, deadline),
        (Kind::Record(deadline), Some(saw)) => record_over(key, saw, deadline),
        (Kind::Forget, Some(saw)) => forget(key, saw, at),
        (Kind::MarkAbsent, Some(saw)) => mark_absent(key, saw),
        (Kind::Settle(deadline), saw) => settle(key, saw, deadline, at),
        (Kind::Forget | Kind::MarkAbsent, None) => settle(key, None, 1, at),
    }
}

/// Does the steps in the maps and in the others, and compares all that is answered and held.
async fn compare(others: &mut [impl Fresh], steps: Vec<(Step, u64)>) {
    let mut maps = Memory::fresh();
    let keys: Vec<Key> = KEYS.map(Key::from).into();
    for (number, (step, epoch)) in (0..).zip(steps) {
        let at = number * STEP_MS;
        let of_maps = perform(&mut maps, step.clone(), Epoch(epoch), at).await;
        let held = holding(maps.store(), &keys, Millis(at)).await;
        for (which, other) in others.iter_mut().enumerate() {
            let of_other = perform(other, step.clone(), Epoch(epoch), at).await;
            assert_eq!(of_other, of_maps, "store {which}, step {number}: {step:?}");
            let of_other = holding(other.store(), &keys, Millis(at)).await;
            assert_eq!(of_other, held, "store {which}, after step {number}: {step:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_file_and_the_maps_answer_the_same(steps in prop::collection::vec((step(), 0..4_u64), 1..40)) {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(compare(&mut [Sqlite::fresh(), Sqlite::unfiled(), Sqlite::filing()], steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redis_and_the_maps_answer_the_same(steps in prop::collection::vec((step(), 0..4_u64), 1..40)) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut one = Redis::few().await;
            one.settings.partitions = 1;
            compare(&mut [Redis::few().await, Redis::with(one.settings).await], steps).await;
        });
    }
}
