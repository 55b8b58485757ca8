//! The HTTP service. Status codes are part of the contract with the operator: a 2xx says "done, never again".

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{
    arming::{self, Patience},
    database::{Armed, Database, Line, Listing, Millis, Paid, Placed, Status, TimedOut},
    keys::Keys,
    verify::Verifier,
};

/// What the service consists of.
#[derive(Clone)]
pub struct Service {
    pub database: Database,
    pub keys: Keys,
    pub verifier: Verifier,
    /// How long an order may be paid, unless it says so itself.
    pub default_ttl: Duration,
    pub patience: Patience,
}

/// Our clock.
pub fn now() -> Millis {
    Millis::try_from(since_1970().as_millis()).unwrap_or(Millis::MAX)
}

pub(super) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Service {
    /// Serves until it is told to stop; requests under way are answered.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        let router = self.clone().router();
        self.run_with(router, listener, stop).await
    }

    /// With a router that somebody has put something around.
    pub async fn run_with(self, router: Router, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        let arming = arming::run(self.database.clone(), self.keys.clone(), self.patience, stop.clone());
        tasks.spawn(async {
            arming.await;
            anyhow::Ok(())
        });
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tasks.spawn(async { server.await.context("serving HTTP") });
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            // Neither ends before its time but by an error; then the other stops too.
            stop.cancel();
            result = result.and(ended.context("a task of the service").flatten());
        }
        result
    }

    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(async || Html(include_str!("page.html"))))
            .route("/healthz", get(health))
            .route("/stock", get(stock))
            .route("/orders", post(place).get(orders))
            .route("/orders/{id}", get(order))
            .route("/orders/{id}/pay", post(pay))
            .route("/internal/order-timeouts", post(timed_out).get(webhooks))
            .with_state(self)
    }
}

/// An answer that is not what was asked for.
enum Failure {
    Told(StatusCode, Value),
    Ours(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Ours(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Told(status, body) => (status, Json(body)).into_response(),
            Self::Ours(cause) => {
                error!(error = format!("{cause:#}"), "Could not answer.");
                (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": "internal"}))).into_response()
            }
        }
    }
}

fn told(status: StatusCode, error: impl Into<String>) -> Failure {
    Failure::Told(status, json!({"error": error.into()}))
}

type Answer<T = Json<Value>> = Result<T, Failure>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewOrder {
    lines: Vec<Line>,
    ttl_ms: Option<u64>,
}

const LONGEST_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

impl NewOrder {
    /// The lines, those of one product made one, and the TTL.
    fn check(self, default_ttl: Duration) -> Answer<(Vec<Line>, Duration)> {
        let bad = |what: &str| told(StatusCode::BAD_REQUEST, what);
        let ttl = self.ttl_ms.map_or(default_ttl, Duration::from_millis);
        if !(Duration::from_millis(100)..=LONGEST_TTL).contains(&ttl) {
            return Err(bad("ttlMs: want 100 to 2592000000 (30 days)"));
        }
        if self.lines.is_empty() || self.lines.len() > 100 {
            return Err(bad("lines: want 1 to 100"));
        }
        let mut quantities = BTreeMap::new();
        for line in self.lines {
            if !(1..=1000).contains(&line.quantity) || line.sku.is_empty() || line.sku.len() > 64 {
                return Err(bad("lines: want a sku of 1 to 64 characters and a quantity of 1 to 1000"));
            }
            *quantities.entry(line.sku).or_insert(0) += line.quantity;
        }
        let lines = quantities.into_iter().map(|(sku, quantity)| Line { sku, quantity }).collect();
        Ok((lines, ttl))
    }
}

async fn place(State(it): State<Service>, Json(new): Json<NewOrder>) -> Answer<(StatusCode, Json<Value>)> {
    let (lines, ttl) = new.check(it.default_ttl)?;
    let id = format!("{:016x}", rand::rng().random::<u64>());
    let created_at = now();
    let deadline = created_at + Millis::try_from(ttl.as_millis()).unwrap_or(Millis::MAX);
    match it.database.place(&id, lines, created_at, deadline).await? {
        Placed::Stored => {}
        Placed::OutOfStock(sku) => return Err(told(StatusCode::CONFLICT, format!("out of stock: {sku}"))),
        Placed::UnknownProduct(sku) => return Err(told(StatusCode::BAD_REQUEST, format!("unknown product: {sku}"))),
    }
    // Stored is what 201 promises. Not armed is no failure: the loop arms it, and until then nothing is lost but time.
    let armed = arming::arm(&it.database, &it.keys, &id, deadline).await;
    let body = json!({
        "id": id, "status": Status::Unpaid, "createdAt": created_at, "deadline": deadline,
        "armed": armed != Armed::No, "replicated": armed == Armed::Confirmed,
    });
    Ok((StatusCode::CREATED, Json(body)))
}

async fn pay(State(it): State<Service>, Path(id): Path<String>) -> Answer {
    match it.database.pay(&id, now()).await? {
        Paid::Now => {
            // Only to spare the webhook. If it fails, or the key is gone already, the webhook finds the order paid.
            let deleted = it.keys.disarm(&id).await;
            if let Err(error) = &deleted {
                debug!(order = id, error = format!("{error:#}"), "Could not delete the key of a paid order.");
            }
            Ok(Json(json!({"id": id, "status": Status::Paid, "keyDeleted": deleted.ok()})))
        }
        Paid::No(status) => {
            let error = match status {
                Status::Unpaid => "too late: the time to pay is over",
                Status::Paid => "paid already",
                Status::Cancelled => "cancelled",
            };
            Err(Failure::Told(StatusCode::CONFLICT, json!({"id": id, "status": status, "error": error})))
        }
        Paid::UnknownOrder => Err(told(StatusCode::NOT_FOUND, "no such order")),
    }
}

/// What of the webhook's body matters here.
#[derive(Deserialize)]
struct Event {
    data: EventData,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventData {
    order_id: String,
    evidence: Option<String>,
}

async fn timed_out(State(it): State<Service>, headers: HeaderMap, body: Bytes) -> Answer {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let id = header("webhook-id");
    // Before the body is so much as parsed: until then it is anybody's.
    it.verifier.verify(id, header("webhook-timestamp"), header("webhook-signature"), &body, since_1970()).map_err(
        |refused| {
            warn!(id, %refused, "Refused a webhook.");
            told(StatusCode::UNAUTHORIZED, "signature refused")
        },
    )?;
    let event: Event = serde_json::from_slice(&body)
        .map_err(|error| told(StatusCode::BAD_REQUEST, format!("not an event of ours: {error}")))?;
    let EventData { order_id, evidence } = &event.data;
    let (outcome, repeated) = it.database.time_out(id, order_id, evidence.as_deref(), now()).await?;
    match outcome {
        TimedOut::Unknown => warn!(order = order_id, "A timeout of an unknown order."),
        TimedOut::Early => warn!(order = order_id, "A timeout ahead of the deadline; arming again."),
        TimedOut::Cancelled | TimedOut::Settled => {}
    }
    // A repetition too: what the sender wants to know is that it is done.
    Ok(Json(json!({"outcome": outcome, "repeated": repeated})))
}

async fn order(State(it): State<Service>, Path(id): Path<String>) -> Answer<Response> {
    let order = it.database.order(&id).await?.ok_or_else(|| told(StatusCode::NOT_FOUND, "no such order"))?;
    Ok(Json(order).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    list: Listing,
    /// For `list=id`: the last id of the page before.
    #[serde(default)]
    after: String,
    limit: Option<u32>,
}

async fn orders(State(it): State<Service>, Query(filter): Query<Filter>) -> Answer {
    let limit = filter.limit.unwrap_or(100).min(1000);
    let orders = it.database.orders(filter.list, &filter.after, limit).await?;
    // With our clock, so that a page counts down by it and not by the reader's.
    Ok(Json(json!({"now": now(), "counts": it.database.counts().await?, "orders": orders})))
}

#[derive(Deserialize)]
struct Page {
    /// By id, and only those behind this one; the latest first without it.
    after: Option<String>,
    limit: Option<u32>,
}

async fn webhooks(State(it): State<Service>, Query(page): Query<Page>) -> Answer {
    let limit = page.limit.unwrap_or(100).min(1000);
    Ok(Json(json!({"webhooks": it.database.webhook_events(page.after, limit).await?})))
}

async fn stock(State(it): State<Service>) -> Answer {
    Ok(Json(json!({"products": it.database.stock().await?})))
}

async fn health(State(it): State<Service>) -> Answer {
    // The database decides everything; without Redis orders are still taken.
    it.database.counts().await?;
    Ok(Json(json!({"status": "ok"})))
}
