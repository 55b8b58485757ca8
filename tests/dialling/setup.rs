//! A listener in this process, a Redis Cluster of one master, and a receiver.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, http::HeaderMap, routing::post};
use redis::Cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    dial::{Dialler, Egress},
    listener::{Fencing, OnDeploymentChange, Snapshot, Supervisor},
    model::Address,
    plan::{DeliveryPlan, Plan, Secret},
};
use tokio::{net::TcpListener, time::timeout};

use crate::plan;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn cluster(directives: &[(&str, &str)], password: Option<&str>) -> Cluster {
    let directives = directives.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let password = password.map(str::to_owned);
    Cluster::start(Options { masters: 1, replicas: 0, directives, password, ..Options::default() }).await.unwrap()
}

pub fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}

/// What is harmless, and these.
pub fn guarded(allowed: &[&str]) -> Dialler {
    Dialler::new(Egress::guarded(allowed.iter().map(|cidr| cidr.parse().unwrap()).collect()))
}

/// One request: its key, its id and its bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub key: String,
    pub id: String,
    pub authorization: String,
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Receiver {
    /// Answers each request with 200, `after` so long.
    pub async fn start(after: Duration) -> Self {
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let answer = async move |State(told): State<Arc<Mutex<Vec<Told>>>>, headers: HeaderMap, body: String| {
            let event: serde_json::Value = serde_json::from_str(&body).unwrap();
            let text = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            let key = event["data"]["key"].as_str().unwrap().to_owned();
            told.lock().unwrap().push(Told { key, id: text("webhook-id"), authorization: text("authorization") });
            tokio::time::sleep(after).await;
        };
        let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&told));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, router).await });
        Self { url, told }
    }
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }
}

pub fn plan(seeds: &[String], url: &str) -> Plan {
    let redis = plan::redis(seeds.iter().filter_map(|seed| Address::parse(seed)).collect());
    let mut plan = plan::plan(redis, b"order:*", url);
    plan.webhook.request_timeout = Duration::from_secs(5);
    plan.webhook.event_type = "order.expired".into();
    plan.webhook.bearer = Some(Secret(b"first".to_vec()));
    plan.delivery = DeliveryPlan {
        max_in_flight: 64,
        initial_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_millis(500),
        deadline: Duration::from_secs(3_600),
        ..plan.delivery
    };
    plan
}

pub fn with_password(mut plan: Plan, password: &str) -> Plan {
    plan.redis.password = Some(Secret(password.as_bytes().to_vec()));
    plan
}

pub async fn running(dialler: Dialler, plan: Plan) -> Supervisor {
    let supervisor = Supervisor::dialling(dialler, OnDeploymentChange::Hold, Fencing::Permit);
    supervisor.declare(vec![plan]).await;
    supervisor
}

/// The first snapshot that is so.
pub async fn until(supervisor: &Supervisor, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut snapshots = supervisor.snapshots();
    let waiting = snapshots.wait_for(|snapshots| snapshots.values().any(|snapshot| wanted(snapshot)));
    if let Ok(Ok(found)) = timeout(PATIENCE, waiting).await {
        return found.values().next().cloned().unwrap();
    }
    panic!("not {what} within {PATIENCE:?}: {:#?}", supervisor.snapshots().borrow())
}

/// Polls until it is so.
pub async fn eventually(what: &str, mut wanted: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !wanted().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("not {what} within {PATIENCE:?}"));
}
