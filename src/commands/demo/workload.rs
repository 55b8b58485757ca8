//! Customers: they order over HTTP, and about a third of them pay.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use rand::{Rng as _, seq::IndexedRandom as _};
use reqwest::{Client, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::report::Told;

/// What is in the shop: plenty, so that no order fails for want of stock.
pub const PRODUCTS: [(&str, &str, u32); 6] = [
    ("tea", "Darjeeling, 100 g", 40_000),
    ("mug", "Mug, 0.3 l", 30_000),
    ("kettle", "Kettle, 1.2 l", 20_000),
    ("strainer", "Strainer", 20_000),
    ("honey", "Honey, 500 g", 30_000),
    ("tin", "Tea tin", 20_000),
];

/// What the customers were told.
#[derive(Default)]
pub struct Record {
    told: Mutex<BTreeMap<String, Told>>,
    /// Orders answered with something else than 201, or not at all.
    refused: AtomicUsize,
    last_error: Mutex<Option<String>>,
}

impl Record {
    pub fn told(&self) -> BTreeMap<String, Told> {
        self.lock().clone()
    }
    pub fn created(&self) -> usize {
        self.lock().len()
    }
    pub fn refused(&self) -> (usize, Option<String>) {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.refused.load(Ordering::Relaxed), last)
    }
    fn refuse(&self, error: &anyhow::Error) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
pub struct Shop {
    http: Client,
    url: String,
    record: Arc<Record>,
    /// How long an order may be paid, in milliseconds.
    ttl: RangeInclusive<u64>,
}

/// What a customer is going to do.
struct Customer {
    order: Value,
    /// How long after ordering.
    pays: Option<Duration>,
}

impl Customer {
    fn any(ttl: &RangeInclusive<u64>) -> Self {
        let mut random = rand::rng();
        let lines: Vec<Value> = PRODUCTS
            .choose_multiple(&mut random, 2)
            .take(1 + usize::from(rand::random_bool(0.4)))
            .map(|(sku, _, _)| json!({"sku": sku, "quantity": rand::random_range(1..=3)}))
            .collect();
        let ttl = random.random_range(ttl.clone());
        let pays = match random.random_range(0..100) {
            0..31 => Some(ttl * random.random_range(5..95) / 100),
            // At the last moment, to the millisecond: who wins?
            31..34 => Some(ttl),
            _ => None,
        };
        Self { order: json!({"lines": lines, "ttlMs": ttl}), pays: pays.map(Duration::from_millis) }
    }
}

impl Shop {
    pub fn new(url: String, record: Arc<Record>, ttl: RangeInclusive<u64>) -> anyhow::Result<Self> {
        let http = Client::builder().timeout(Duration::from_secs(10)).build().context("making an HTTP client")?;
        Ok(Self { http, url, record, ttl })
    }

    /// Lets so many customers come at that rate, none any more when told so, and returns when the last has gone.
    pub async fn open(&self, customers: usize, per_second: u32, no_more: &CancellationToken) {
        let mut ticks = interval(Duration::from_secs(1) / per_second.max(1));
        // After a hiccup the customers that were held up come at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut inside = JoinSet::new();
        for _ in 0..customers {
            if no_more.run_until_cancelled(ticks.tick()).await.is_none() {
                break;
            }
            let shop = self.clone();
            inside.spawn(async move {
                if let Err(error) = shop.serve(Customer::any(&shop.ttl)).await {
                    shop.record.refuse(&error);
                }
            });
            while inside.try_join_next().is_some() {}
        }
        inside.join_all().await;
    }

    async fn serve(&self, customer: Customer) -> anyhow::Result<()> {
        let asked = Instant::now();
        let (status, body) = self.post("/orders", &customer.order).await?;
        let id = body["id"].as_str().filter(|_| status == StatusCode::CREATED);
        let id = id.with_context(|| format!("POST /orders: {status} {body}"))?.to_owned();
        self.record.lock().insert(id.clone(), Told { created: true, ..Told::default() });
        let Some(pays) = customer.pays else { return Ok(()) };
        sleep_until(asked + pays).await;
        // A payment whose answer was lost is asked for again: 409 with "paid" says that it was taken.
        for _ in 0..3 {
            match self.post(&format!("/orders/{id}/pay"), &json!({})).await {
                Ok((StatusCode::OK, body)) => {
                    let key_deleted = body["keyDeleted"] == true;
                    self.record.lock().insert(id, Told { created: true, paid: true, key_deleted });
                    break;
                }
                Ok((StatusCode::CONFLICT, _)) => break,
                Ok(_) | Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
        Ok(())
    }

    /// What the order service tells of itself.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.context("GET from the order service")?;
        let answer = answer.error_for_status().context("GET from the order service")?;
        let body = answer.bytes().await.context("reading the order service's answer")?;
        serde_json::from_slice(&body).with_context(|| format!("reading the answer to GET {path}"))
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let request = self.http.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.context("POST to the order service")?;
        let status = answer.status();
        let body = answer.bytes().await.context("reading the order service's answer")?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}
