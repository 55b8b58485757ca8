//! Delivery against a real HTTP server: what is sent, what an answer does, what is left when it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use redis_expiry_operator::{
    meters::Attempt,
    model::{Failure, Millis},
    plan::{IdTemplate, Secret},
    store::{Epoch, Selection, Store, StoreError},
    tls::{Material, Tls},
};
use tokio::net::TcpListener;

use self::{
    receiver::{Receiver, answer},
    refusing::Refusing,
    setup::{Outbox, event, events, eventually, now, settings, snapshot},
};

#[path = "../support/certificates.rs"]
mod certificates;
#[path = "../support/certified.rs"]
mod certified;
mod egress;
mod http2;
mod receiver;
mod refusing;
mod setup;

const A_MOMENT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn each_event_is_sent_once_and_leaves_the_outbox_with_its_2xx() {
    let receiver = Receiver::start(|_| answer(204)).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, events("order", 500)).await;
    outbox.becomes_empty().await;
    let ids: HashSet<String> = receiver.seen().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!((ids.len(), receiver.count()), (500, 500));
    let told = snapshot(&delivery, "all are counted", |now| now.delivered == 500 && now.in_flight == 0).await;
    assert_eq!((told.failed_attempts, told.dead_lettered, told.last_error, told.paused), (0, 0, None, None));
    assert!(told.last_delivered.is_some_and(|at| now().since(at) < 60_000));
}

#[tokio::test]
async fn every_key_signs_and_the_independent_library_accepts_each() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&receiver.url());
    let keys: Vec<Vec<u8>> = (1..=3).map(|key| vec![key; 32]).collect();
    settings.webhook.signing_keys = keys.iter().cloned().map(Secret).collect();
    settings.webhook.bearer = Some(Secret(b"the-token".to_vec()));
    settings.id_template = IdTemplate::parse("order:pay:{orderId}").unwrap();
    let delivery = outbox.deliver(settings);
    let sent = event("order:pay:42");
    outbox.settle_and_offer(&delivery, vec![sent.clone()]).await;
    outbox.becomes_empty().await;
    let request = &receiver.seen()[0];
    for key in keys {
        standardwebhooks::Webhook::from_bytes(key).unwrap().verify(&request.body, &request.headers).unwrap();
    }
    let stranger = standardwebhooks::Webhook::from_bytes(vec![9; 32]).unwrap();
    assert!(stranger.verify(&request.body, &request.headers).is_err());
    assert_eq!(request.header("webhook-id"), sent.id.as_str());
    assert_eq!(request.header("webhook-attempt"), "1");
    assert_eq!(request.header("authorization"), "Bearer the-token");
    assert_eq!(request.header("content-type"), "application/json");
    assert!(request.header("user-agent").starts_with("redis-expiry-operator/"));
    let body = request.json();
    assert_eq!(body["type"], "order.timeout.expired");
    assert_eq!(body["data"]["orderId"], "42");
    assert_eq!(body["data"]["key"], "order:pay:42");
    assert_eq!(body["data"]["listener"], "shop/orders");
}

#[tokio::test]
async fn a_key_that_is_not_text_arrives_as_base64() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, vec![event(b"\xff\x00\n".to_vec())]).await;
    outbox.becomes_empty().await;
    let body = receiver.seen()[0].json();
    assert_eq!(body["data"]["keyBase64"], "/wAK");
    assert_eq!(body["data"].get("key"), None);
}

#[tokio::test]
async fn a_failed_event_is_sent_again_with_the_same_id_and_body_until_its_2xx() {
    let receiver =
        Receiver::start(|request| answer(if request.header("webhook-attempt") == "3" { 200 } else { 500 })).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    outbox.becomes_empty().await;
    let seen = receiver.seen();
    let attempts: Vec<_> = seen.iter().map(|request| request.header("webhook-attempt")).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    assert!(seen.iter().all(|request| request.body == seen[0].body));
    assert!(seen.iter().all(|request| request.header("webhook-id") == seen[0].header("webhook-id")));
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(10), "not before half the first backoff");
    let told = snapshot(&delivery, "it is healthy again", |now| now.delivered == 1).await;
    assert_eq!(
        (told.failed_attempts, told.consecutive_failures, told.last_error, told.last_failure),
        (2, 0, None, None)
    );
}

#[tokio::test]
async fn the_outbox_knows_of_each_failed_attempt_so_that_a_restart_goes_on_from_there() {
    let receiver = Receiver::start(|_| answer(503)).await;
    let outbox = Outbox::empty().await;
    let mut slow = settings(&receiver.url());
    slow.delivery.initial_backoff = Duration::from_secs(60);
    slow.delivery.max_backoff = Duration::from_secs(60);
    let before = now();
    let delivery = outbox.deliver(slow.clone());
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    eventually("the failure is stored", async || outbox.pending().await[0].attempts == 1).await;
    let pending = &outbox.pending().await[0];
    assert!(pending.first_attempt.is_some_and(|at| at >= before && at <= now()));
    assert!(pending.not_before.since(now()) > 25_000, "half a minute at least");
    delivery.drain(Duration::ZERO).await;

    receiver.answer_with(|_| answer(200));
    let delivery = outbox.deliver(slow);
    outbox.settle_and_offer(&delivery, vec![event("another")]).await;
    eventually("the new one is delivered", async || outbox.pending().await.len() == 1).await;
    assert_eq!(receiver.count(), 2, "the other is not due");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let receiver = Receiver::start(|_| answer(302).header("location", "/elsewhere")).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    let told = snapshot(&delivery, "it failed twice", |now| now.failed_attempts >= 2).await;
    assert_eq!(told.last_error.as_deref(), Some("answered 302: redirects are not followed"));
    assert_eq!(told.last_failure, Some(Failure::Rejected(302)));
    assert_eq!(outbox.pending().await.len(), 1);
    assert!(receiver.seen().iter().all(|request| request.path == "/hook"));
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_the_request_timeout_and_then_it_is_tried_again() {
    let receiver = Receiver::start(|_| answer(200).after(Duration::from_secs(3600))).await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&receiver.url());
    settings.webhook.request_timeout = Duration::from_millis(200);
    let delivery = outbox.deliver(settings);
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    let told = snapshot(&delivery, "it failed", |now| now.failed_attempts >= 1).await;
    assert_eq!(told.last_error.as_deref(), Some("no answer within 200ms"));
    assert_eq!(told.last_failure, Some(Failure::Unreachable));
    receiver.answer_with(|_| answer(200));
    outbox.becomes_empty().await;
}

#[tokio::test]
async fn each_attempt_is_counted_by_what_came_of_it_and_timed() {
    let receiver = Receiver::start(|_| answer(200).after(Duration::from_secs(3600))).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outbox = Outbox::empty().await;
    let attempts = &outbox.meters.delivery.attempts;
    let mut settings = settings(&receiver.url());
    settings.webhook.request_timeout = Duration::from_millis(200);
    let delivery = outbox.deliver(settings.clone());
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    eventually("it took too long", async || attempts.get(Attempt::Timeout) > 0).await;
    settings.webhook.url = format!("http://{nobody}/");
    delivery.update(settings.clone());
    eventually("nobody listened", async || attempts.get(Attempt::ConnectionRefused) > 0).await;
    settings.webhook.url = receiver.url().replace("http:", "https:");
    receiver.answer_with(|_| answer(429));
    delivery.update(settings.clone());
    eventually("no TLS is spoken there", async || attempts.get(Attempt::Tls) > 0).await;
    settings.webhook.url = receiver.url();
    delivery.update(settings);
    eventually("it was busy", async || attempts.get(Attempt::Busy) > 0).await;
    receiver.answer_with(|_| answer(200));
    outbox.becomes_empty().await;
    assert_eq!(attempts.get(Attempt::Delivered), 1);
    let all: u64 = attempts.read().map(|(_, count)| count).sum();
    let meters = &outbox.meters.delivery;
    assert_eq!((meters.attempt_time.read().count, meters.delivery_time.read().count), (all, 1));
}

#[tokio::test]
async fn while_nobody_listens_events_wait_and_are_delivered_when_somebody_does() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&format!("http://{port}/hook")));
    outbox.settle_and_offer(&delivery, events("order", 20)).await;
    let told = snapshot(&delivery, "all failed", |now| now.failed_attempts >= 20).await;
    assert_eq!(told.last_error.as_deref(), Some("connection refused"));
    assert_eq!(told.last_failure, Some(Failure::Unreachable));
    assert_eq!(outbox.pending().await.len(), 20);
    let receiver = Receiver::on(TcpListener::bind(port).await.unwrap(), |_| answer(200));
    outbox.becomes_empty().await;
    assert_eq!(receiver.count(), 20);
}

#[tokio::test]
async fn a_refused_event_waits_minutes_for_its_next_try_and_holds_up_nobody() {
    let receiver = Receiver::start(|request| answer(if request.key() == "bad" { 422 } else { 200 })).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, vec![event("bad"), event("good")]).await;
    eventually(
        "one is left, and its failure is stored",
        async || matches!(outbox.pending().await.as_slice(), [one] if one.attempts == 1),
    )
    .await;
    assert!(outbox.pending().await[0].not_before.since(now()) > 290_000);
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn gone_stops_everything_until_the_webhook_changes_and_parks_nothing() {
    let receiver = Receiver::start(|_| answer(410)).await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&receiver.url());
    settings.delivery.max_in_flight = 4;
    let delivery = outbox.deliver(settings.clone());
    outbox.settle_and_offer(&delivery, events("order", 50)).await;
    let told = snapshot(&delivery, "it is paused", |now| now.paused.is_some() && now.in_flight == 0).await;
    assert!(told.paused.as_deref().is_some_and(|why| why.starts_with("the receiver answered 410")));
    let before = receiver.count();
    assert!(before <= 8, "{before} were sent before the pause");
    receiver.answer_with(|_| answer(200));
    settings.delivery.max_in_flight = 8;
    delivery.update(settings.clone());
    delivery.wake();
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!(receiver.count(), before, "the webhook is the same");
    assert_eq!(outbox.pending().await.len(), 50);

    settings.webhook.headers.push(("X-Version".to_owned(), Secret(b"2".to_vec())));
    delivery.update(settings);
    outbox.becomes_empty().await;
    assert_eq!(receiver.count(), before + 50);
    assert!(
        receiver.seen()[before..].iter().all(|request| request.header("webhook-attempt") == "1"),
        "a 410 is no attempt"
    );
    snapshot(&delivery, "it is not paused", |now| now.paused.is_none()).await;
}

#[tokio::test]
async fn retry_after_of_429_holds_the_whole_endpoint_that_long() {
    let asked = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => answer(429).header("retry-after", "1"),
        _ => answer(200),
    })
    .await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, vec![event("first")]).await;
    snapshot(&delivery, "it was refused", |now| now.failed_attempts == 1).await;
    outbox.settle_and_offer(&delivery, events("later", 5)).await;
    outbox.becomes_empty().await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 7);
    assert!(seen[1..].iter().all(|request| request.at - seen[0].at >= Duration::from_millis(990)));
}

#[tokio::test]
async fn no_more_than_max_in_flight_are_under_way_and_no_fewer_when_there_is_work() {
    let receiver = Receiver::start(|_| answer(200).after(Duration::from_millis(20))).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, events("order", 1_000)).await;
    outbox.becomes_empty().await;
    assert_eq!(receiver.most_in_flight(), 64);
    assert_eq!(receiver.count(), 1_000);
}

#[tokio::test]
async fn first_attempts_overtake_a_backlog_of_retries() {
    let receiver = Receiver::start(|request| match request.key() {
        key if key.starts_with("good") => answer(200),
        _ => answer(500).after(Duration::from_millis(100)),
    })
    .await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&receiver.url());
    settings.delivery.max_in_flight = 8;
    let delivery = outbox.deliver(settings);
    outbox.settle_and_offer(&delivery, events("bad", 200)).await;
    eventually("the backlog is all retries", async || outbox.pending().await.iter().all(|one| one.attempts > 0)).await;
    // At 6 places and 100 ms each, the 200 that are due take over 3 s.
    let offered = Instant::now();
    outbox.settle_and_offer(&delivery, events("good", 20)).await;
    eventually("the new ones are delivered", async || outbox.pending().await.len() == 200).await;
    assert!(offered.elapsed() < Duration::from_secs(2), "took {:?}", offered.elapsed());
}

#[tokio::test]
async fn a_retry_goes_to_the_current_url_with_the_current_headers_and_keys() {
    let old = Receiver::start(|_| answer(401)).await;
    let new = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&old.url());
    settings.webhook.headers = vec![("X-Api-Key".to_owned(), Secret(b"stale".to_vec()))];
    let delivery = outbox.deliver(settings.clone());
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    snapshot(&delivery, "it failed", |now| now.last_error.as_deref() == Some("answered 401")).await;
    settings.webhook.url = new.url();
    settings.webhook.headers = vec![("X-Api-Key".to_owned(), Secret(b"fresh".to_vec()))];
    settings.webhook.signing_keys = vec![Secret(vec![5; 24])];
    delivery.update(settings);
    outbox.becomes_empty().await;
    assert_eq!(old.seen()[0].header("x-api-key"), "stale");
    let request = &new.seen()[0];
    assert_eq!(request.header("x-api-key"), "fresh");
    standardwebhooks::Webhook::from_bytes(vec![5; 24]).unwrap().verify(&request.body, &request.headers).unwrap();
    assert_eq!(request.header("webhook-id"), old.seen()[0].header("webhook-id"));
    assert_eq!(request.body, old.seen()[0].body);
}

#[tokio::test]
async fn settings_that_cannot_be_used_stop_sending_and_say_why_without_the_secret() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    let good = settings(&receiver.url());
    let delivery = outbox.deliver(good.clone());
    let mut wrong = good.clone();
    wrong.webhook.bearer = Some(Secret(b"hidden\n".to_vec()));
    delivery.update(wrong.clone());
    let told = snapshot(&delivery, "it is paused", |now| now.paused.is_some()).await;
    assert!(told.paused.is_some_and(|why| why.contains("bearer") && !why.contains("hidden")));
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!(receiver.count(), 0);
    delivery.update(good.clone());
    outbox.becomes_empty().await;
    drop(delivery);
    // So they do from the start.
    let delivery = outbox.deliver(wrong);
    snapshot(&delivery, "it is paused", |now| now.paused.is_some()).await;
    outbox.settle_and_offer(&delivery, vec![event("l")]).await;
    delivery.update(good);
    outbox.becomes_empty().await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn an_event_past_its_deadline_is_parked_with_the_reason_and_can_be_replayed() {
    let receiver = Receiver::start(|_| answer(503)).await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&receiver.url());
    settings.delivery.deadline = Duration::from_secs(1);
    let delivery = outbox.deliver(settings);
    let sent = event("k");
    outbox.settle_and_offer(&delivery, vec![sent.clone()]).await;
    outbox.becomes_empty().await;
    let parked = outbox.dead_letters().await;
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].reason, "not delivered within 1s: last: answered 503");
    assert_eq!(parked[0].event, sent);
    assert_eq!(parked[0].attempts as usize, receiver.count());
    assert!(parked[0].at.since(sent.settled_at) >= 1_000);
    snapshot(&delivery, "it is counted", |now| now.dead_lettered == 1).await;
    assert_eq!(outbox.meters.delivery.dead_lettered.get(), 1);

    receiver.answer_with(|_| answer(200));
    let before = receiver.count();
    assert_eq!(outbox.store.replay(outbox.epoch, Selection::All).await.unwrap(), 1);
    delivery.wake();
    outbox.becomes_empty().await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), before + 1);
    assert_eq!((seen[before].header("webhook-attempt"), seen[before].header("webhook-id")), ("1", sent.id.as_str()));
}

#[tokio::test]
async fn while_suspended_nothing_is_sent_and_nothing_is_lost() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&receiver.url());
    settings.suspend = true;
    let delivery = outbox.deliver(settings.clone());
    outbox.settle_and_offer(&delivery, events("order", 30)).await;
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!((receiver.count(), outbox.pending().await.len()), (0, 30));
    settings.suspend = false;
    delivery.update(settings);
    outbox.becomes_empty().await;
    assert_eq!(receiver.count(), 30);
}

#[tokio::test]
async fn what_lies_in_the_outbox_at_the_start_is_delivered_though_nobody_offers_it() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    outbox.settle(&events("order", 300)).await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.becomes_empty().await;
    assert_eq!(receiver.count(), 300);
    delivery.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn a_retry_that_another_process_began_goes_on_counting() {
    let receiver = Receiver::start(|_| answer(500)).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    snapshot(&delivery, "it failed", |now| now.failed_attempts >= 1).await;
    delivery.drain(Duration::from_secs(5)).await;
    let failed = receiver.count();
    assert_eq!(outbox.pending().await[0].attempts as usize, failed);
    receiver.answer_with(|_| answer(200));
    let _delivery = outbox.deliver(settings(&receiver.url()));
    outbox.becomes_empty().await;
    assert_eq!(receiver.seen()[failed].header("webhook-attempt"), (failed + 1).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_larger_than_what_is_held_in_memory_is_delivered_whole() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    let sent = events("order", 40_000);
    outbox.settle(&sent[..35_000]).await;
    delivery.offer(sent[..35_000].to_vec());
    outbox.settle_and_offer(&delivery, sent[35_000..].to_vec()).await;
    let mut snapshots = delivery.snapshot();
    let all = snapshots.wait_for(|now| now.delivered == 40_000);
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("all are delivered").unwrap();
    outbox.becomes_empty().await;
    assert_eq!(receiver.count(), 40_000, "none was sent twice");
}

#[tokio::test]
async fn a_failure_of_tls_is_called_one() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    // The receiver speaks no TLS.
    let delivery = outbox.deliver(settings(&receiver.url().replace("http:", "https:")));
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    let told = snapshot(&delivery, "it failed", |now| now.last_error.is_some()).await;
    assert!(told.last_error.as_ref().is_some_and(|why| why.starts_with("TLS: ")), "{:?}", told.last_error);
    assert_eq!(told.last_failure, Some(Failure::Tls));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_told_with_what_to_do() {
    let server = certified::Certified::start("localhost").await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&format!("https://localhost:{}/hook", server.address.port())));
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    let told = snapshot(&delivery, "it failed", |now| now.last_error.is_some()).await;
    assert_eq!(told.last_failure, Some(Failure::Tls));
    let why = told.last_error.unwrap();
    assert!(why.starts_with("TLS: ") && why.contains("spec.webhook.tls.caRef"), "{why}");
    assert_eq!(outbox.pending().await.len(), 1);
}

fn tls(server: &certified::Certified, identity: Option<&certificates::Certificate>) -> Tls {
    let authorities = Some(server.authority.clone().into_bytes());
    let identity = identity.map(|own| (own.certificate.clone().into_bytes(), own.key.clone().into_bytes()));
    Tls::new(Material { authorities, identity, server_name: None }).unwrap()
}

#[tokio::test]
async fn a_receiver_is_believed_once_its_authority_is_named_and_changes_with_it() {
    let server = certified::Certified::start("localhost").await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&format!("https://localhost:{}/hook", server.address.port()));
    settings.webhook.tls = Some(tls(&server, None));
    let delivery = outbox.deliver(settings.clone());
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    outbox.becomes_empty().await;
    // Another, that nobody has named yet.
    let other = certified::Certified::start("localhost").await;
    settings.webhook.url = format!("https://localhost:{}/hook", other.address.port());
    delivery.update(settings.clone());
    outbox.settle_and_offer(&delivery, vec![event("l")]).await;
    snapshot(&delivery, "it failed", |now| now.last_failure == Some(Failure::Tls)).await;
    settings.webhook.tls = Some(tls(&other, None));
    delivery.update(settings);
    outbox.becomes_empty().await;
}

#[tokio::test]
async fn a_receiver_that_demands_a_certificate_gets_ours() {
    let server = certified::Certified::demanding("localhost").await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&format!("https://localhost:{}/hook", server.address.port()));
    settings.webhook.tls = Some(tls(&server, None));
    let delivery = outbox.deliver(settings.clone());
    outbox.settle_and_offer(&delivery, vec![event("k")]).await;
    let told = snapshot(&delivery, "it failed", |now| now.last_failure == Some(Failure::Tls)).await;
    assert!(told.last_error.unwrap().contains("spec.webhook.tls.clientCertSecretRef"));
    settings.webhook.tls = Some(tls(&server, Some(&server.own)));
    delivery.update(settings);
    outbox.becomes_empty().await;
}

#[tokio::test]
async fn what_is_offered_and_read_from_the_outbox_too_is_sent_once() {
    let receiver = Receiver::start(|_| answer(200).after(Duration::from_millis(5))).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    for round in 0..50 {
        outbox.settle_and_offer(&delivery, events(&round.to_string(), 20)).await;
        delivery.wake();
    }
    outbox.becomes_empty().await;
    let mut times: HashMap<String, usize> = HashMap::new();
    for request in receiver.seen() {
        *times.entry(request.key()).or_default() += 1;
    }
    assert_eq!(times.len(), 1_000);
    assert!(times.values().all(|sent| *sent == 1), "some were sent again");
}

#[tokio::test]
async fn draining_lets_what_is_under_way_end_and_leaves_the_rest() {
    let receiver = Receiver::start(|_| answer(200).after(A_MOMENT)).await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&receiver.url());
    settings.delivery.max_in_flight = 5;
    let delivery = outbox.deliver(settings);
    outbox.settle_and_offer(&delivery, events("order", 20)).await;
    eventually("five are under way", async || receiver.count() == 5).await;
    delivery.drain(Duration::from_secs(10)).await;
    assert_eq!(receiver.count(), 5, "none was started after that");
    assert_eq!(outbox.pending().await.len(), 15, "and what came of those is stored");
}

#[tokio::test]
async fn draining_gives_up_attempts_when_patience_is_over_and_they_stay_as_they_were() {
    let receiver = Receiver::start(|_| answer(200).after(Duration::from_secs(3600))).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, events("order", 3)).await;
    eventually("they are under way", async || receiver.count() == 3).await;
    let begun = Instant::now();
    delivery.drain(A_MOMENT).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    let pending = outbox.pending().await;
    assert_eq!(pending.len(), 3);
    assert!(pending.iter().all(|one| one.attempts == 0 && one.not_before == Millis(0)));
}

#[tokio::test]
async fn outcomes_that_the_store_does_not_take_are_kept_and_stored_later() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let full = StoreError::Full { path: "ledger.db".into(), detail: "disk full".to_owned() };
    let outbox = Outbox::over(Refusing::with(full)).await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    outbox.settle_and_offer(&delivery, events("order", 100)).await;
    snapshot(&delivery, "all are delivered", |now| now.delivered == 100).await;
    delivery.wake();
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!((outbox.pending().await.len(), receiver.count()), (100, 100), "none is sent again meanwhile");
    let held = &outbox.meters.delivery.unstored;
    eventually("all are held", async || held.get() == 100).await;
    outbox.store.relent();
    outbox.becomes_empty().await;
    eventually("none is held", async || held.get() == 0).await;
    assert_eq!(receiver.count(), 100);
}

#[tokio::test]
async fn a_partition_that_takes_no_outcomes_holds_back_only_its_own_events() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox =
        Outbox::over(Refusing::partition("away", StoreError::Unavailable("its shard is down".to_owned()))).await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    // More than are kept of one partition.
    outbox.settle_and_offer(&delivery, events("away", 9_000)).await;
    let held = &outbox.meters.delivery.unstored;
    eventually("as many are held as may be", async || held.get() >= 8_192).await;
    outbox.settle_and_offer(&delivery, events("here", 300)).await;
    eventually("the others are delivered and stored", async || outbox.pending().await.len() == 9_000).await;
    assert!(held.get() < 8_192 + 64, "{} outcomes are held", held.get());
    outbox.store.relent();
    outbox.becomes_empty().await;
    assert_eq!(receiver.count(), 9_300, "each was sent once");
}

#[tokio::test]
async fn a_fenced_delivery_stops_and_says_so() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver(settings(&receiver.url()));
    let newer: Epoch = outbox.store.take_epoch().await.unwrap();
    let sent = events("order", 3);
    let heir = Outbox { store: outbox.store.clone(), epoch: newer, meters: std::sync::Arc::default() };
    heir.settle(&sent).await;
    delivery.offer(sent);
    let told = snapshot(&delivery, "it has stopped", |now| now.paused.is_some()).await;
    assert!(told.paused.is_some_and(|why| why.contains("another process has taken the store")));
    assert_eq!(outbox.pending().await.len(), 3, "the new owner delivers them");
    delivery.drain(Duration::from_secs(5)).await;
}
