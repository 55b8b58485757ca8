use std::{future::ready, sync::Mutex};

use tokio::task::JoinSet;

use super::*;
use crate::{
    listener::{Snapshot, Snapshots},
    model::{Event, Evidence, Key, Millis},
    store::DeadLetter,
};

/// Two listeners, of which `shop/orders` has the letters and `shop/held` has no store.
struct Fake {
    letters: Vec<DeadLetter>,
    asked: Mutex<Vec<(String, Action)>>,
}

impl Parked for Fake {
    fn snapshots(&self) -> Snapshots {
        let names = [ListenerId::new("shop", "held"), ListenerId::new("shop", "orders")];
        names.map(|name| (name, Arc::new(Snapshot { ready: true, ..Snapshot::default() }))).into()
    }
    fn act<'a>(&'a self, listener: &'a ListenerId, action: Action) -> port::Acting<'a> {
        self.asked.lock().unwrap().push((listener.to_string(), action.clone()));
        let answer = match action {
            _ if listener.name() == "held" => None,
            Action::List(limit) => Some(Ok(Answer::Letters(self.letters.iter().take(limit).cloned().collect()))),
            Action::Replay(Selection::Ids(ids)) => Some(Ok(Answer::Count(ids.len() as u64))),
            Action::Replay(Selection::All) => Some(Ok(Answer::Count(2))),
            Action::Purge(_) => Some(Err(StoreError::Closed)),
        };
        Box::pin(ready(answer))
    }
}

fn letter(key: &[u8]) -> DeadLetter {
    let event = Event {
        id: "evt_1".into(),
        key: Key::from(key),
        deadline: Millis(1_795_328_020_123),
        evidence: Evidence::Witnessed,
        settled_at: Millis(0),
    };
    DeadLetter { event, attempts: 3, reason: "answered 422".to_owned(), at: Millis(1_795_328_021_000) }
}

/// Serves the fake while `test` runs.
async fn served(test: impl AsyncFnOnce(Client, Arc<Fake>)) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let listener = bind(&state).await.unwrap();
    let fake = Arc::new(Fake { letters: vec![letter(b"order:1"), letter(b"\xff")], asked: Mutex::default() });
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, fake.clone(), stop.clone()));
    test(Client::connect(socket(&state)).await.unwrap(), fake).await;
    stop.cancel();
    tasks.join_all().await;
}

fn orders() -> ListenerId {
    ListenerId::new("shop", "orders")
}

#[tokio::test]
async fn dead_letters_are_listed_with_keys_of_any_bytes() {
    served(async |client, _| {
        let list = client.list(&Scope { listener: Some(orders()), limit: None }).await.unwrap().dead_letters;
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].key.as_deref(), list[0].key_base64.as_deref()), (Some("order:1"), None));
        assert_eq!((list[1].key.as_deref(), list[1].key_base64.as_deref()), (None, Some("/w==")));
        assert_eq!(list[0].deadline, "2026-11-22T06:13:40.123Z");
        let one = client.list(&Scope { listener: Some(orders()), limit: Some(1) }).await.unwrap();
        assert_eq!(one.dead_letters.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn replay_names_all_or_the_ids_that_were_given() {
    served(async |client, fake| {
        let all = client.replay(&Request { listener: Some(orders()), ids: None }).await.unwrap();
        let one = client.replay(&Request { listener: Some(orders()), ids: Some(vec!["evt_1".into()]) }).await.unwrap();
        assert_eq!((all.count, one.count), (2, 1));
        let asked = fake.asked.lock().unwrap().clone();
        let name = "shop/orders".to_owned();
        assert_eq!(
            asked,
            [
                (name.clone(), Action::Replay(Selection::All)),
                (name, Action::Replay(Selection::Ids(vec!["evt_1".into()])))
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_is_told_in_words() {
    served(async |client, _| {
        let unknown = Some(ListenerId::new("shop", "nope"));
        let error = client.list(&Scope { listener: unknown, limit: None }).await.unwrap_err().to_string();
        assert_eq!(error, "no listener shop/nope runs here; there are: shop/held, shop/orders");
        let held = Some(ListenerId::new("shop", "held"));
        let error = client.list(&Scope { listener: held, limit: None }).await.unwrap_err().to_string();
        assert!(error.contains("shop/held has no store at the moment"), "{error}");
        let error = client.purge(&Request { listener: Some(orders()), ids: None }).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "listener shop/orders: the store was closed, as where its process ends; if it stays so, see the log"
        );
    })
    .await;
}

#[tokio::test]
async fn the_snapshot_lists_every_listener() {
    served(async |client, _| {
        let snapshot = client.snapshot().await.unwrap();
        assert_eq!(snapshot["listeners"]["shop/orders"]["ready"], true);
        assert!(snapshot["listeners"]["shop/held"]["delivery"]["pending"].is_u64());
    })
    .await;
}

#[tokio::test]
async fn a_dead_process_s_socket_is_replaced_and_a_live_one_s_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("deep/state");
    let first = bind(&state).await.unwrap();
    let mode = fs::metadata(socket(&state)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = bind(&state).await.unwrap_err().to_string();
    assert!(error.contains("another process uses --state-dir"), "{error}");
    drop(first);
    bind(&state).await.unwrap();
}

#[tokio::test]
async fn where_no_process_runs_the_client_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::connect(socket(folder.path())).await.err().unwrap().to_string();
    assert!(error.starts_with("neither `run` nor `controller` answers at "), "{error}");
}
