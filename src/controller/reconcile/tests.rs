use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use kube::{
    core::Status,
    runtime::{reflector, watcher::Event},
};
use tokio::sync::watch;

use super::{
    super::{
        Settings,
        fake::{Api as Server, Asked},
        membership::Roster,
        watches::{AT_ONCE, Leaving, gone},
    },
    *,
};
use crate::{listener::Supervisor, meters::Operator};

#[test]
fn the_backoff_doubles_to_a_minute() {
    let seconds: Vec<u64> = [1, 2, 3, 6, 7, 8, u32::MAX].map(|failures| backoff(failures).as_secs()).into();
    assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60]);
}

#[test]
fn versions_are_compared_as_numbers() {
    assert!(is_later("100", "99"));
    assert!(!is_later("99", "100") && !is_later("99", "99") && !is_later("x", "1"));
}

/// `operator-a`, the API server that it asks, and who is alive.
struct Bed {
    server: Server,
    context: Arc<Context>,
    roster: watch::Sender<Roster>,
    /// How many listeners were made to run.
    made: Arc<AtomicU32>,
}

fn id() -> ListenerId {
    ListenerId::new("shop", "orders")
}

/// Alone, as of `ago`.
fn of(member: &str, ago: Duration) -> Roster {
    Roster { members: [member.to_owned()].into(), read_at: Instant::now().checked_sub(ago) }
}

impl Bed {
    async fn start() -> Self {
        Self::watching(None).await
    }

    /// Only those with these labels.
    async fn watching(selector: Option<&str>) -> Self {
        let server = Server::start().await;
        let (roster, read) = watch::channel(of("operator-a", Duration::ZERO));
        let made = Arc::new(AtomicU32::new(0));
        let supervisor = Supervisor::counting(Arc::clone(&made));
        let settings = Settings {
            me: "operator-a".into(),
            lease_expiry: Duration::from_secs(6),
            replicas: 1,
            state_dir: PathBuf::new(),
            namespaces: Vec::new(),
            selector: selector.map(ToOwned::to_owned),
        };
        let meters = Arc::new(Operator::default());
        let context = Context::new(settings, server.client.clone(), Arc::new(supervisor), read, meters);
        Self { server, context: Arc::new(context), roster, made }
    }

    fn reconciling(&self, object: Guarded) -> tokio::task::JoinHandle<Result<Action, ReconcileError>> {
        tokio::spawn(reconcile(Arc::new(object), Arc::clone(&self.context)))
    }

    /// The next status that is written; it waits for its answer.
    async fn written(&mut self) -> Asked {
        loop {
            let asked = self.server.next().await;
            if asked.what == "PATCH /apis/redisexpiry.io/v1alpha1/namespaces/shop/redisexpirylisteners/orders/status" {
                return asked;
            }
            assert!(asked.what.contains("/events"), "{}", asked.what);
            asked.answer(201, event());
        }
    }

    /// Takes the next status, of which the object has this version then; its body.
    async fn takes(&mut self, version: &str) -> serde_json::Value {
        let asked = self.written().await;
        let body = asked.body.clone();
        asked.answer(200, taken(&body, version));
        body
    }

    /// Answers events until the reconciliation is over.
    async fn over(&mut self, task: tokio::task::JoinHandle<Result<Action, ReconcileError>>) -> Action {
        let mut task = task;
        loop {
            tokio::select! {
                done = &mut task => return done.unwrap().unwrap(),
                asked = self.server.next() => {
                    assert!(asked.what.contains("/events"), "{}", asked.what);
                    asked.answer(201, event());
                }
            }
        }
    }
}

fn event() -> serde_json::Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "x"}, "eventTime": null})
}

fn object(uid: &str, version: &str, status: &serde_json::Value, more: &serde_json::Value) -> Guarded {
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "orders", "namespace": "shop", "uid": uid, "resourceVersion": version, "generation": 1},
        "spec": {
            "redis": {"addresses": ["127.0.0.1:9"]},
            "keyPattern": "k*",
            "webhook": {"url": "http://127.0.0.1:9/"},
            "store": {"type": "Memory"},
        },
        "status": status,
    });
    if let Some(more) = more.as_object() {
        for (path, value) in more {
            *object.pointer_mut(path).unwrap() = value.clone();
        }
    }
    serde_json::from_value(object).unwrap()
}

fn plain(uid: &str, version: &str) -> Guarded {
    object(uid, version, &json!(null), &json!({}))
}

/// What the API server makes of a status: the object with another version.
fn taken(body: &serde_json::Value, version: &str) -> serde_json::Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "orders", "namespace": "shop", "uid": "one", "resourceVersion": version},
        "spec": {"redis": {"addresses": ["127.0.0.1:9"]}, "keyPattern": "k*", "webhook": {"url": "http://127.0.0.1:9/"}},
        "status": body["status"],
    })
}

fn conflict() -> serde_json::Value {
    serde_json::to_value(Status::failure("the object has been modified", "Conflict").with_code(409)).unwrap()
}

#[tokio::test]
async fn a_status_is_written_of_the_version_that_was_seen_and_the_next_of_the_version_that_this_made() {
    let mut bed = Bed::start().await;
    let first = bed.reconciling(plain("one", "10"));
    let body = bed.takes("11").await;
    assert_eq!(body["metadata"]["resourceVersion"], "10");
    assert_eq!(bed.over(first).await, Action::requeue(STARTING));
    // The watch has not brought that yet; another generation is something to say.
    let second = bed.reconciling(object("one", "10", &json!(null), &json!({"/metadata/generation": 2})));
    let body = bed.takes("12").await;
    assert_eq!(body["metadata"]["resourceVersion"], "11");
    bed.over(second).await;
    // And now it has brought something that came after.
    let third =
        bed.reconciling(object("one", "14", &json!({"owner": "operator-a"}), &json!({"/metadata/generation": 3})));
    let body = bed.takes("15").await;
    assert_eq!(body["metadata"]["resourceVersion"], "14");
    bed.over(third).await;
}

#[tokio::test]
async fn a_status_that_comes_late_is_not_written_and_what_another_wrote_is_judged_anew() {
    let mut bed = Bed::start().await;
    let first = bed.reconciling(plain("one", "10"));
    bed.written().await.answer(409, conflict());
    assert_eq!(bed.over(first).await, Action::requeue(AGAIN.0));
    // What the other says is told over, though it was not we who had said anything else.
    let second = bed.reconciling(object("one", "11", &json!({"owner": "operator-b"}), &json!({})));
    let body = bed.takes("12").await;
    assert_eq!((&body["metadata"]["resourceVersion"], &body["status"]["owner"]), (&json!("11"), &json!("operator-a")));
    bed.over(second).await;
    // Nothing is new; but somebody has overwritten it, and it is written again.
    let third = bed.reconciling(object("one", "13", &json!({"owner": "operator-b"}), &json!({})));
    let body = bed.takes("14").await;
    assert_eq!((&body["metadata"]["resourceVersion"], &body["status"]["owner"]), (&json!("13"), &json!("operator-a")));
    bed.over(third).await;
}

#[tokio::test]
async fn one_whose_membership_is_old_runs_its_listener_and_writes_no_status() {
    let mut bed = Bed::start().await;
    bed.roster.send_replace(of("operator-a", Duration::from_secs(7)));
    let done = bed.reconciling(plain("one", "10")).await.unwrap().unwrap();
    assert_eq!(done, Action::requeue(AGAIN.0));
    assert_eq!((bed.server.waiting(), bed.made.load(Ordering::SeqCst)), (None, 1));
    bed.roster.send_replace(of("operator-a", Duration::ZERO));
    let again = bed.reconciling(plain("one", "10"));
    bed.takes("11").await;
    bed.over(again).await;
}

#[tokio::test]
async fn a_listener_that_becomes_anothers_while_its_secrets_are_read_is_not_begun() {
    let mut bed = Bed::start().await;
    let named = json!({"/spec/redis": {
        "addresses": ["127.0.0.1:9"], "passwordSecretRef": {"name": "auth", "key": "password"},
    }});
    let task = bed.reconciling(object("one", "10", &json!(null), &named));
    let asked = bed.server.next().await;
    assert_eq!(asked.what, "GET /api/v1/namespaces/shop/secrets/auth");
    bed.roster.send_replace(of("operator-b", Duration::ZERO));
    asked.answer(200, json!({"kind": "Secret", "metadata": {"name": "auth"}, "data": {"password": "eA=="}}));
    assert_eq!(task.await.unwrap().unwrap(), Action::await_change());
    assert_eq!((bed.server.waiting(), bed.made.load(Ordering::SeqCst)), (None, 0));
    assert!(bed.context.turns.take(&id()).await.is_none(), "it is not ours");
}

#[tokio::test]
async fn the_news_that_one_is_gone_ends_no_other_that_has_its_name_by_now() {
    let mut bed = Bed::start().await;
    let first = bed.reconciling(plain("one", "10"));
    bed.takes("11").await;
    bed.over(first).await;
    let going = tokio::spawn(gone(Arc::clone(&bed.context), Leaving::of(Vec::new()), id()));
    let late = bed.server.next().await;
    assert_eq!(late.what, "GET /apis/redisexpiry.io/v1alpha1/namespaces/shop/redisexpirylisteners/orders");
    // Before the answer is heard, another has been created and reconciled: the old one has ended, the new one runs.
    let second = bed.reconciling(plain("two", "20"));
    bed.takes("21").await;
    bed.over(second).await;
    assert_eq!(bed.made.load(Ordering::SeqCst), 2, "the old one's memory is not the new one's");
    late.answer(404, serde_json::to_value(Status::failure("not found", "NotFound").with_code(404)).unwrap());
    going.await.unwrap();
    assert_eq!(bed.context.turns.take(&id()).await.uid(), Some("two"));
    // Heard of once more, that one is the one that is gone.
    let going = tokio::spawn(gone(Arc::clone(&bed.context), Leaving::of(Vec::new()), id()));
    let asked = bed.server.next().await;
    asked.answer(200, there("three"));
    going.await.unwrap();
    assert!(bed.context.turns.take(&id()).await.is_none(), "another has its name");
}

/// What the API server says of an object that is there.
fn there(uid: &str) -> serde_json::Value {
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": "orders", "namespace": "shop", "uid": uid},
    })
}

#[tokio::test]
async fn what_is_labelled_again_goes_on_and_what_is_not_ends() {
    let mut bed = Bed::watching(Some("team=shop")).await;
    let first = bed.reconciling(plain("one", "10"));
    bed.takes("11").await;
    bed.over(first).await;
    let (store, mut writer) = reflector::store();
    let leaving = Leaving::of(vec![store]);
    let going = tokio::spawn(gone(Arc::clone(&bed.context), leaving.clone(), id()));
    let asked = bed.server.next().await;
    // Labelled again meanwhile, and its reconciliation has found that it runs.
    writer.apply_watcher_event(&Event::Apply(plain("one", "12")));
    asked.answer(200, there("one"));
    going.await.unwrap();
    assert_eq!(bed.context.turns.take(&id()).await.uid(), Some("one"));
    writer.apply_watcher_event(&Event::Delete(plain("one", "13")));
    let going = tokio::spawn(gone(Arc::clone(&bed.context), leaving, id()));
    bed.server.next().await.answer(200, there("one"));
    going.await.unwrap();
    assert!(bed.context.turns.take(&id()).await.is_none(), "it is not watched any more");
}

#[tokio::test]
async fn of_many_that_are_gone_a_few_are_asked_about_at_once() {
    let mut bed = Bed::start().await;
    let leaving = Leaving::of(Vec::new());
    let mut going = tokio::task::JoinSet::new();
    for number in 0..100 {
        let id = ListenerId::new("shop", &format!("orders-{number}"));
        *bed.context.turns.take(&id).await = Some(Remembered { uid: Some("one".into()), ..Remembered::default() });
        going.spawn(gone(Arc::clone(&bed.context), leaving.clone(), id));
    }
    let mut asked = Vec::new();
    for _ in 0..AT_ONCE {
        asked.push(bed.server.next().await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bed.server.waiting(), None);
    for _ in 0..100 {
        let next = if asked.is_empty() { bed.server.next().await } else { asked.remove(0) };
        next.answer(404, serde_json::to_value(Status::failure("not found", "NotFound").with_code(404)).unwrap());
    }
    while let Some(gone) = going.join_next().await {
        gone.unwrap();
    }
}
