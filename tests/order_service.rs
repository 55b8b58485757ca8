//! The order service against a real Redis Cluster of one node and a real database: what it promises its customers.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

use std::{
    future::Future,
    time::{Duration, Instant},
};

use redis::cmd;
use redis_expiry_operator::commands::demo::{
    cluster::{Cluster, Options},
    order_service::{
        arming::Patience,
        database::{Armed, Database, Line, Listing, Paid, Placed, Product, Status, TimedOut},
        keys::{Keys, Servers},
        service::{Service, now},
        verify::Verifier,
    },
};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A shop with 10 teas and 5 mugs.
struct Shop {
    cluster: Cluster,
    database: Database,
    url: String,
    http: Client,
    service: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    _directory: TempDir,
}

impl Shop {
    async fn open(patience: Patience) -> Self {
        let cluster = Cluster::start(Options { masters: 1, replicas: 0, ..Options::default() }).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("orders.db")).unwrap();
        database.add_product("tea", "Tea", 10).await.unwrap();
        database.add_product("mug", "Mug", 5).await.unwrap();
        let service = Service {
            database: database.clone(),
            keys: Keys::connect(&Servers { addresses: cluster.seeds(), clustered: true, ..Servers::default() })
                .await
                .unwrap(),
            verifier: Verifier::new([SECRET]).unwrap(),
            default_ttl: Duration::from_secs(600),
            patience,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run(listener, stop.clone()));
        let http = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        Self { cluster, database, url, http, service: tasks, stop, _directory: directory }
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).body(body.to_string());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn order(&self, lines: Value, ttl_ms: u64) -> String {
        let (status, body) = self.post("/orders", &json!({"lines": lines, "ttlMs": ttl_ms})).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    async fn webhook(&self, event: &str, order: &str, secret: &str) -> (StatusCode, Value) {
        let body = json!({"type": "order.timeout.expired", "data": {"orderId": order}}).to_string();
        let seconds = now() / 1000;
        let signature = Webhook::new(secret).unwrap().sign(event, seconds, body.as_bytes()).unwrap();
        let request = self.http.post(format!("{}/internal/order-timeouts", self.url)).body(body);
        let request = request.header("webhook-id", event).header("webhook-timestamp", seconds.to_string());
        let answer = request.header("webhook-signature", signature).send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    /// (available, sold) of a product.
    async fn stock(&self, sku: &str) -> (i64, i64) {
        let stock = self.database.stock().await.unwrap();
        let product: Product = stock.into_iter().find(|product| product.sku == sku).unwrap();
        (product.available, product.sold)
    }

    async fn ttl(&self, order: &str) -> i64 {
        let node = &self.cluster.nodes()[0];
        node.query(cmd("PTTL").arg(format!("order:pay:{order}"))).await.unwrap()
    }

    async fn close(mut self) {
        self.stop.cancel();
        self.service.join_next().await.unwrap().unwrap().unwrap();
    }
}

async fn until<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let end = Instant::now() + Duration::from_secs(20);
    while !check().await {
        assert!(Instant::now() < end, "waited 20 s until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_takes_stock_and_a_key_and_its_timeout_gives_back_once_what_it_took() {
    let shop = Shop::open(Patience::default()).await;
    let lines = json!([{"sku": "tea", "quantity": 2}, {"sku": "mug", "quantity": 1}, {"sku": "tea", "quantity": 1}]);
    let order = shop.order(lines, 100).await;
    assert_eq!((shop.stock("tea").await, shop.stock("mug").await), ((7, 3), (4, 1)));
    let (_, told) = shop.get(&format!("/orders/{order}")).await;
    assert_eq!(told["lines"], json!([{"sku": "mug", "quantity": 1}, {"sku": "tea", "quantity": 3}]));
    // No replica in this cluster: armed, and known not to be safe.
    assert_eq!((&told["status"], &told["armed"]), (&json!("unpaid"), &json!("unconfirmed")));

    let deadline = told["deadline"].as_i64().unwrap();
    until("the time to pay is over", async || now() >= deadline).await;
    let (status, late) = shop.post(&format!("/orders/{order}/pay"), &json!({})).await;
    assert_eq!((status, &late["status"]), (StatusCode::CONFLICT, &json!("unpaid")));

    let cancelled = shop.webhook("evt_1", &order, SECRET).await;
    assert_eq!(cancelled, (StatusCode::OK, json!({"outcome": "cancelled", "repeated": false})));
    assert_eq!((shop.stock("tea").await, shop.stock("mug").await), ((10, 0), (5, 0)));
    // The same event again, and another one about the same order.
    let again = shop.webhook("evt_1", &order, SECRET).await;
    assert_eq!(again, (StatusCode::OK, json!({"outcome": "cancelled", "repeated": true})));
    let other = shop.webhook("evt_2", &order, SECRET).await;
    assert_eq!(other, (StatusCode::OK, json!({"outcome": "settled", "repeated": false})));
    assert_eq!((shop.stock("tea").await, shop.stock("mug").await), ((10, 0), (5, 0)));
    let (_, came) = shop.get("/internal/order-timeouts").await;
    let came: Vec<_> = came["webhooks"].as_array().unwrap().iter().map(|it| (&it["id"], &it["deliveries"])).collect();
    assert_eq!(came, [(&json!("evt_2"), &json!(1)), (&json!("evt_1"), &json!(2))]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_keeps_its_stock_whatever_comes_after() {
    let shop = Shop::open(Patience::default()).await;
    let order = shop.order(json!([{"sku": "mug", "quantity": 2}]), 60_000).await;
    assert!((1..=60_000).contains(&shop.ttl(&order).await));
    let (status, paid) = shop.post(&format!("/orders/{order}/pay"), &json!({})).await;
    assert_eq!((status, &paid["keyDeleted"]), (StatusCode::OK, &json!(true)));
    assert_eq!(shop.ttl(&order).await, -2);
    let (status, again) = shop.post(&format!("/orders/{order}/pay"), &json!({})).await;
    assert_eq!((status, &again["status"]), (StatusCode::CONFLICT, &json!("paid")));
    let late = shop.webhook("evt_1", &order, SECRET).await;
    assert_eq!(late, (StatusCode::OK, json!({"outcome": "settled", "repeated": false})));
    assert_eq!(shop.stock("mug").await, (3, 2));

    // Deleted by somebody else: the payment counts all the same.
    let order = shop.order(json!([{"sku": "mug", "quantity": 1}]), 60_000).await;
    let () = shop.cluster.nodes()[0].query(cmd("DEL").arg(format!("order:pay:{order}"))).await.unwrap();
    let (status, paid) = shop.post(&format!("/orders/{order}/pay"), &json!({})).await;
    assert_eq!((status, &paid["keyDeleted"]), (StatusCode::OK, &json!(false)));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_cannot_be_ordered_and_a_refused_order_changes_nothing() {
    let shop = Shop::open(Patience::default()).await;
    let order = async |lines| shop.post("/orders", &json!({"lines": lines})).await;
    let (status, body) = order(json!([{"sku": "mug", "quantity": 2}, {"sku": "tea", "quantity": 11}])).await;
    assert_eq!((status, body), (StatusCode::CONFLICT, json!({"error": "out of stock: tea"})));
    let (status, body) = order(json!([{"sku": "mug", "quantity": 2}, {"sku": "yacht", "quantity": 1}])).await;
    assert_eq!((status, body), (StatusCode::BAD_REQUEST, json!({"error": "unknown product: yacht"})));
    for wrong in [json!([]), json!([{"sku": "mug", "quantity": 0}]), json!([{"sku": "", "quantity": 1}])] {
        assert_eq!(order(wrong).await.0, StatusCode::BAD_REQUEST);
    }
    assert_eq!((shop.stock("tea").await, shop.stock("mug").await), ((10, 0), (5, 0)));
    assert!(shop.database.orders(Listing::Newest, "", 10).await.unwrap().is_empty());

    // Thirty at once for five mugs: five get one.
    let mut answers = Vec::new();
    let (one, rest) = (json!([{"sku": "mug", "quantity": 1}]), 29);
    let first = order(one.clone()).await.0;
    answers.push(first);
    let all = (0..rest).map(|_| {
        let (http, url, body) = (shop.http.clone(), shop.url.clone(), json!({"lines": one}).to_string());
        async move {
            let request = http.post(format!("{url}/orders")).header("content-type", "application/json").body(body);
            request.send().await.unwrap().status()
        }
    });
    answers.extend(all.collect::<JoinSet<_>>().join_all().await);
    assert_eq!(answers.iter().filter(|status| **status == StatusCode::CREATED).count(), 5);
    assert_eq!(answers.iter().filter(|status| **status == StatusCode::CONFLICT).count(), 25);
    assert_eq!(shop.stock("mug").await, (0, 5));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_not_signed_by_us_changes_nothing() {
    let shop = Shop::open(Patience::default()).await;
    let order = shop.order(json!([{"sku": "tea", "quantity": 1}]), 100).await;
    let forged = shop.webhook("evt_1", &order, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").await;
    assert_eq!(forged.0, StatusCode::UNAUTHORIZED);
    let (unsigned, _) = shop.post("/internal/order-timeouts", &json!({"data": {"orderId": order}})).await;
    assert_eq!(unsigned, StatusCode::UNAUTHORIZED);
    assert_eq!(shop.database.order(&order).await.unwrap().unwrap().status, Status::Unpaid);
    assert!(shop.database.webhook_events(None, 10).await.unwrap().is_empty());
    // Signed, and about nothing we know: done, or the operator would try for a day.
    let unknown = shop.webhook("evt_2", "nobody", SECRET).await;
    assert_eq!(unknown, (StatusCode::OK, json!({"outcome": "unknown", "repeated": false})));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_payment_and_timeout_at_the_same_moment_exactly_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("orders.db")).unwrap();
    database.add_product("tea", "Tea", 1000).await.unwrap();
    let (mut paid, mut cancelled) = (0, 0);
    for number in 0..100 {
        let id = format!("order-{number}");
        let line = Line { sku: "tea".into(), quantity: 3 };
        assert_eq!(database.place(&id, vec![line], 0, 1000).await.unwrap(), Placed::Stored);
        let mut race = JoinSet::new();
        for runner in 0..8 {
            let (database, id) = (database.clone(), id.clone());
            race.spawn(async move {
                // By clocks that differ by less than the skew that is allowed, both may win.
                if (runner + number) % 2 == 0 {
                    let paid = database.pay(&id, 999).await.unwrap() == Paid::Now;
                    (u32::from(paid), 0)
                } else {
                    let event = format!("evt_{id}_{}", runner / 4);
                    let (outcome, repeated) = database.time_out(&event, &id, None, 1001).await.unwrap();
                    (0, u32::from(outcome == TimedOut::Cancelled && !repeated))
                }
            });
        }
        let won = race.join_all().await.into_iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        assert_eq!(won.0 + won.1, 1, "order {id}: paid {} times, cancelled {} times", won.0, won.1);
        paid += i64::from(won.0);
        cancelled += i64::from(won.1);
    }
    let counts = database.counts().await.unwrap();
    assert_eq!((counts.unpaid, counts.paid, counts.cancelled), (0, paid, cancelled));
    let stock = database.stock().await.unwrap();
    assert_eq!((stock[0].available, stock[0].sold), (1000 - 3 * paid, 3 * paid));
    assert!(paid > 0 && cancelled > 0, "{counts:?}: no race at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_taken_while_redis_is_silent_is_armed_when_it_is_back() {
    let patience = Patience { unarmed: Duration::ZERO, ..Patience::default() };
    let shop = Shop::open(patience).await;
    let node = shop.cluster.nodes().remove(0);
    shop.cluster.pause(&node).unwrap();
    let (status, body) = shop.post("/orders", &json!({"lines": [{"sku": "tea", "quantity": 1}]})).await;
    assert_eq!((status, &body["armed"]), (StatusCode::CREATED, &json!(false)));
    shop.cluster.resume(&node).unwrap();
    let id = body["id"].as_str().unwrap();
    until("it is armed", async || shop.database.order(id).await.unwrap().unwrap().armed != Armed::No).await;
    assert!(shop.ttl(id).await > 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_lost_is_set_again() {
    let short = Duration::from_millis(300);
    let shop = Shop::open(Patience { overdue: short, ..Patience::default() }).await;
    let node = shop.cluster.nodes().remove(0);
    // Lost, so that nothing told of the expiry: overdue, it gets another.
    let order = shop.order(json!([{"sku": "tea", "quantity": 1}]), 200).await;
    until("the key has gone", async || shop.ttl(&order).await == -2).await;
    until("it has a key again", async || shop.ttl(&order).await > 0).await;
    // Gone ahead of its time, which the webhook tells: not cancelled, armed again.
    let order = shop.order(json!([{"sku": "tea", "quantity": 1}]), 60_000).await;
    let () = node.query(cmd("DEL").arg(format!("order:pay:{order}"))).await.unwrap();
    let early = shop.webhook("evt_1", &order, SECRET).await;
    assert_eq!(early, (StatusCode::OK, json!({"outcome": "early", "repeated": false})));
    until("it has a key again", async || shop.ttl(&order).await > 50_000).await;
    assert_eq!(shop.database.order(&order).await.unwrap().unwrap().status, Status::Unpaid);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_its_figures_are_served() {
    let shop = Shop::open(Patience::default()).await;
    let order = shop.order(json!([{"sku": "tea", "quantity": 1}]), 60_000).await;
    let paid = shop.order(json!([{"sku": "mug", "quantity": 1}]), 60_000).await;
    shop.post(&format!("/orders/{paid}/pay"), &json!({})).await;
    let listed = async |list: &str| {
        let (status, body) = shop.get(&format!("/orders?list={list}&limit=5")).await;
        assert_eq!(status, StatusCode::OK);
        body["orders"].as_array().unwrap().iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect()
    };
    let newest: Vec<String> = listed("newest").await;
    assert_eq!(newest.len(), 2);
    let due: Vec<String> = listed("due").await;
    assert_eq!(due, [order]);
    let settled: Vec<String> = listed("settled").await;
    assert_eq!(settled, [paid]);
    let (_, list) = shop.get("/orders").await;
    assert_eq!(list["counts"], json!({"unpaid": 1, "paid": 1, "cancelled": 0}));
    assert_eq!(shop.get("/orders?list=lost").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(shop.get("/orders/nobody").await.0, StatusCode::NOT_FOUND);
    assert_eq!(shop.get("/stock").await.1["products"][1]["available"], json!(9));
    assert_eq!(shop.get("/healthz").await.0, StatusCode::OK);
    let page = shop.http.get(&shop.url).send().await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = page.text().await.unwrap();
    // Nothing from elsewhere: it works in a closed network and tells nobody.
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
    shop.close().await;
}
