//! Customers of an order service that runs elsewhere, such as in a cluster, and what became of their orders.
//!
//! They are one process that knows everything it was told; other invocations tell it what is going on and ask for its
//! verdict, over a port of the loopback address: `kubectl exec` reaches it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::{get, post},
};
use clap::{Args, Subcommand};
use reqwest::{Client, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

mod phases;

use super::{
    GRACE,
    order_service::{
        database::{Counts, Millis, Order, Product, WebhookEvent},
        serve::{listen, on_signal},
        service::now,
    },
    report::Facts,
    workload::{Record, Shop},
};
use phases::{Mark, verdict};

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Where the running customers are talked to.
    #[arg(long, global = true, default_value = "127.0.0.1:8090")]
    control: SocketAddr,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Orders and pays until it is told to finish.
    Run(Run),
    /// Says how it stands.
    Status,
    /// Says what is going on from now on; the verdict tells it apart.
    Mark {
        name: String,
        /// Nothing is being broken.
        #[arg(long)]
        quiet: bool,
    },
    /// Waits until no order is overdue.
    CaughtUp {
        /// Fail after so many seconds.
        #[arg(long, default_value_t = 30)]
        within: u64,
    },
    /// Orders no more, waits until each order is settled, and judges.
    Finish,
}

#[derive(Clone, Debug, Args)]
struct Run {
    /// The order service.
    #[arg(long)]
    shop: Url,
    /// Orders a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// How long an order may be paid, in seconds: from and to. Nothing is promised for a key whose life fits into a gap.
    #[arg(long, num_args = 2, default_values_t = [15, 30])]
    ttl: Vec<u64>,
}

/// It may be starting, or its name not yet known everywhere.
const OPENS_WITHIN: Duration = Duration::from_secs(60);

pub async fn customers(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let path = match arguments.what {
        What::Run(it) => return run(it, arguments.control).await,
        What::Status => "status".to_owned(),
        What::Mark { name, quiet } => {
            let mut url = Url::parse("http://localhost/mark")?;
            url.query_pairs_mut().append_pair("name", &name).append_pair("quiet", &quiet.to_string());
            format!("mark?{}", url.query().unwrap_or_default())
        }
        What::CaughtUp { within } => format!("caught-up?within={within}"),
        What::Finish => "finish".to_owned(),
    };
    // The answer may take as long as the last order.
    let http = Client::builder().timeout(Duration::from_secs(600)).build().context("making an HTTP client")?;
    let request = http.post(format!("http://{}/{path}", arguments.control));
    let answer = request.send().await.context("asking the customers: do they run?")?;
    let status = answer.status();
    println!("{}", answer.text().await?.trim_end());
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The running customers.
#[derive(Clone)]
struct Crowd {
    shop: Shop,
    record: Arc<Record>,
    initial: Arc<BTreeMap<String, i64>>,
    marks: Arc<Mutex<Vec<Mark>>>,
    no_more: CancellationToken,
    gone: watch::Receiver<bool>,
}

async fn run(it: Run, control: SocketAddr) -> anyhow::Result<ExitCode> {
    let stopping = on_signal()?;
    let record = Arc::new(Record::default());
    let (shortest, longest) = (it.ttl[0] * 1000, it.ttl[1] * 1000);
    let shop = Shop::new(it.shop.as_str().trim_end_matches('/').to_owned(), Arc::clone(&record), shortest..=longest)?;
    let stock = opened(&shop).await?;
    let initial = stock.products.iter().map(|it| (it.sku.clone(), it.available + it.sold)).collect();
    let (gone, is_gone) = watch::channel(false);
    let crowd = Crowd {
        shop: shop.clone(),
        record,
        initial: Arc::new(initial),
        marks: Arc::default(),
        no_more: CancellationToken::new(),
        gone: is_gone,
    };
    let router = Router::new()
        .route("/status", post(status).get(status))
        .route("/mark", post(mark))
        .route("/caught-up", post(caught_up))
        .route("/finish", post(finish))
        .route("/healthz", get(async || "ok"))
        .with_state(crowd.clone());
    let listener = listen(control).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        shop.open(usize::MAX, it.rate, &crowd.no_more).await;
        gone.send_replace(true);
        // What was asked for in the meantime is still asked for.
        std::future::pending().await
    });
    tasks.spawn(async { axum::serve(listener, router).await.context("serving HTTP") });
    tokio::select! {
        () = stopping.cancelled() => Ok(ExitCode::SUCCESS),
        Some(ended) = tasks.join_next() => {
            ended.context("a task of the customers")??;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is on the shelves, once the order service answers.
async fn opened(shop: &Shop) -> anyhow::Result<Stock> {
    let began = Instant::now();
    loop {
        match shop.get("/stock").await {
            Ok(stock) => return Ok(stock),
            Err(error) if began.elapsed() > OPENS_WITHIN => {
                return Err(error).context("asking the order service for its stock");
            }
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

#[derive(Deserialize)]
struct Stock {
    products: Vec<Product>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "as the service calls it")]
struct Orders {
    now: Millis,
    counts: Counts,
    orders: Vec<Order>,
}

#[derive(Deserialize)]
struct Webhooks {
    webhooks: Vec<WebhookEvent>,
}

impl Crowd {
    async fn due(&self) -> anyhow::Result<Orders> {
        self.shop.get("/orders?list=due&limit=1").await
    }

    /// Waits until no order is unpaid that was due more than a second ago.
    async fn caught_up(&self, within: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        loop {
            let overdue = self.due().await.map(|it| it.orders.first().map(|order| it.now - order.deadline));
            match overdue {
                Ok(None | Some(..1000)) => return Ok(began.elapsed()),
                Ok(Some(late)) if began.elapsed() > within => {
                    anyhow::bail!("an order is {late} ms overdue after {} s", within.as_secs())
                }
                Err(error) if began.elapsed() > within => return Err(error),
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Waits until no order is unpaid, or those that are have been due for long and nothing moves any more.
    async fn settled(&self) -> anyhow::Result<()> {
        let (mut unpaid, mut moved) = (i64::MAX, Instant::now());
        loop {
            let it = self.due().await?;
            let waiting = it.orders.first().is_some_and(|order| order.deadline > it.now);
            if it.counts.unpaid == 0 || (moved.elapsed() > GRACE && !waiting) {
                // An event told twice comes a little after the first: let it come.
                sleep(Duration::from_secs(1)).await;
                return Ok(());
            }
            if it.counts.unpaid < unpaid {
                (unpaid, moved) = (it.counts.unpaid, Instant::now());
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn facts(&self) -> anyhow::Result<Facts> {
        let orders = self.pages("/orders?list=id", |it: Orders| it.orders, |order| &order.id).await?;
        let events = self.pages("/internal/order-timeouts?", |it: Webhooks| it.webhooks, |event| &event.id).await?;
        let stock: Stock = self.shop.get("/stock").await?;
        Ok(Facts {
            answered: events.iter().map(|event| (event.id.clone(), event.received_at)).collect(),
            orders,
            events,
            told: self.record.told(),
            initial: (*self.initial).clone(),
            stock: stock.products,
            outage: None,
        })
    }

    async fn pages<Page: DeserializeOwned, T>(
        &self,
        path: &str,
        items: impl Fn(Page) -> Vec<T>,
        id: impl Fn(&T) -> &str,
    ) -> anyhow::Result<Vec<T>> {
        let mut all: Vec<T> = Vec::new();
        loop {
            let after = all.last().map_or("", &id);
            let page = items(self.shop.get(&format!("{path}&limit=1000&after={after}")).await?);
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

/// A status that the asking process turns into its exit code, and what it prints.
type Answer = (StatusCode, String);

fn failed(error: &anyhow::Error) -> Answer {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
}

async fn status(State(it): State<Crowd>) -> Json<Value> {
    let (refused, last_error) = it.record.refused();
    Json(json!({"placed": it.record.created(), "refused": refused, "lastError": last_error}))
}

#[derive(Deserialize)]
struct NewMark {
    name: String,
    quiet: bool,
}

async fn mark(State(it): State<Crowd>, Query(new): Query<NewMark>) -> Answer {
    let NewMark { name, quiet } = new;
    let told = format!("{name}: {} orders so far", it.record.created());
    it.marks.lock().unwrap_or_else(PoisonError::into_inner).push(Mark { name, quiet, at: now() });
    (StatusCode::OK, told)
}

#[derive(Deserialize)]
struct Within {
    within: u64,
}

async fn caught_up(State(it): State<Crowd>, Query(query): Query<Within>) -> Answer {
    match it.caught_up(Duration::from_secs(query.within)).await {
        Ok(took) => (StatusCode::OK, format!("no order is overdue, after {:.1} s", took.as_secs_f32())),
        Err(error) => failed(&error),
    }
}

async fn finish(State(mut it): State<Crowd>) -> Answer {
    it.no_more.cancel();
    let end = now();
    let judged = async {
        it.gone.wait_for(|gone| *gone).await.context("the customers are gone")?;
        it.settled().await?;
        let marks = it.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (refused, error) = it.record.refused();
        let told = error.map(|error| format!("{refused} orders were refused, at last: {error}\n")).unwrap_or_default();
        let verdict = verdict(&it.facts().await?, &marks, end);
        let status = if verdict.sound() { StatusCode::OK } else { StatusCode::CONFLICT };
        anyhow::Ok((status, format!("{told}{verdict}")))
    };
    judged.await.unwrap_or_else(|error| failed(&error))
}
