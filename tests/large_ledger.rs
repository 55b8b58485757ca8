//! A ledger larger than what the process keeps in memory: what lies beyond the book's horizon is found again after a
//! restart, shortened, told of in time, and never guessed at for ever.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, routing::post};
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    listener::{Fencing, OnDeploymentChange, Snapshot, Supervisor},
    model::{Address, slot_of},
    plan::{DeliveryPlan, Plan, StorePlan},
};
use tokio::time::{Instant, timeout};

#[path = "support/plan.rs"]
mod plan;

/// More than three times what the book holds once it is cut.
const KEYS: usize = 60_000;
const PATIENCE: Duration = Duration::from_secs(60);

type Told = Arc<Mutex<Vec<String>>>;

async fn receiver() -> (String, Told) {
    let told = Told::default();
    let router = Router::new().route(
        "/",
        post(|State(told): State<Told>, body: String| async move {
            let event: serde_json::Value = serde_json::from_str(&body).unwrap();
            told.lock().unwrap().push(event["data"]["key"].as_str().unwrap().to_owned());
        }),
    );
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let service = router.with_state(Arc::clone(&told));
    tokio::spawn(async move { axum::serve(socket, service).await });
    (url, told)
}

fn plan(seeds: &[String], url: &str, path: std::path::PathBuf) -> Plan {
    let redis = plan::redis(seeds.iter().filter_map(|seed| Address::parse(seed)).collect());
    let mut plan = plan::plan(redis, b"order:pay:*", url);
    plan.webhook.request_timeout = Duration::from_secs(5);
    plan.webhook.event_type = "order.timeout.expired".into();
    plan.delivery = DeliveryPlan {
        max_in_flight: 16,
        initial_backoff: Duration::from_millis(200),
        deadline: Duration::from_secs(3_600),
        ..plan.delivery
    };
    plan.store = StorePlan::Local { path };
    plan
}

async fn until(supervisor: &Supervisor, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut snapshots = supervisor.snapshots();
    let waiting = snapshots.wait_for(|snapshots| snapshots.values().any(|snapshot| wanted(snapshot)));
    match timeout(PATIENCE, waiting).await {
        Ok(Ok(found)) => found.values().next().cloned().unwrap(),
        _ => panic!("not {what} within {PATIENCE:?}: {:?}", supervisor.snapshots().borrow()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_beyond_the_books_horizon_are_looked_at_after_a_restart_and_when_they_change() {
    let cluster = Cluster::start(Options { replicas: 0, ..Options::default() }).await.unwrap();
    let client = redis::cluster::ClusterClient::new(
        cluster.seeds().iter().map(|seed| format!("redis://{seed}")).collect::<Vec<_>>(),
    );
    let mut connection = client.unwrap().get_async_connection().await.unwrap();
    let masters = cluster.masters().await.unwrap();
    for (master, seen) in &masters {
        let mut connection = master.connect(PATIENCE).await.unwrap();
        let owned = |number: &usize| seen.owns(slot_of(format!("order:pay:{number}").as_bytes()).0);
        let numbers: Vec<usize> = (0..KEYS).filter(owned).collect();
        for numbers in numbers.chunks(1_000) {
            let mut pipe = redis::pipe();
            for number in numbers {
                pipe.cmd("SET").arg(format!("order:pay:{number}")).arg(1).arg("PX").arg(3_600_000 + number).ignore();
            }
            pipe.query_async::<()>(&mut connection).await.unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (url, told) = receiver().await;
    let plan = plan(&cluster.seeds(), &url, directory.path().join("ledger.db"));
    let all = |snapshot: &Snapshot| snapshot.ready && snapshot.counts.tracked == KEYS as u64;
    for _ in 0..2 {
        let supervisor = Supervisor::new(OnDeploymentChange::Hold, Fencing::Permit);
        supervisor.declare(vec![plan.clone()]).await;
        until(&supervisor, "ready with every key", all).await;
        supervisor.stop(Duration::from_secs(5)).await;
    }
    let supervisor = Supervisor::new(OnDeploymentChange::Hold, Fencing::Permit);
    supervisor.declare(vec![plan]).await;
    until(&supervisor, "ready with every key", all).await;
    let shortened: Vec<String> = (KEYS - 40..KEYS).map(|number| format!("order:pay:{number}")).collect();
    for key in &shortened {
        redis::cmd("PEXPIRE").arg(key).arg(500).query_async::<()>(&mut connection).await.unwrap();
    }
    let over = Instant::now() + PATIENCE;
    while told.lock().unwrap().len() < shortened.len() {
        assert!(Instant::now() < over, "told of {:?} only", told.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let count = shortened.len() as u64;
    let settled = |snapshot: &Snapshot| {
        snapshot.counts.tracked == KEYS as u64 - count && snapshot.witnessed + snapshot.inferred >= count
    };
    let snapshot = until(&supervisor, "settled", settled).await;
    assert_eq!((snapshot.witnessed, snapshot.inferred, snapshot.resync_found), (count, 0, 0));
    let mut told = told.lock().unwrap().clone();
    told.sort_unstable();
    assert_eq!(told, shortened);
    supervisor.stop(Duration::from_secs(5)).await;
}
