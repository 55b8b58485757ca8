//! Where the operator may not dial: the attempt failed, nothing is lost, and nobody was dialled.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use redis_expiry_operator::{
    dial::{Dialler, Egress},
    model::Failure,
};
use tokio::net::TcpListener;

use crate::{
    receiver::{Receiver, answer},
    setup::{Outbox, events, settings, snapshot},
};

/// What the resolver answers, whatever the name; a test changes it.
type Answers = Arc<Mutex<Vec<IpAddr>>>;

/// 127.0.0.1 is a receiver's; the rest of loopback is not for us.
fn guarded(answers: &Answers) -> Dialler {
    let answers = Arc::clone(answers);
    Dialler::with_resolver(Egress::guarded(vec!["127.0.0.1/32".parse().unwrap()]), move |_| {
        let found = answers.lock().unwrap().iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
        Box::pin(async move { Ok(found) })
    })
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Two receivers on one port: 127.0.0.1's, and the one that must not be dialled.
async fn receivers() -> (Receiver, Receiver, u16) {
    let permitted = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = permitted.local_addr().unwrap().port();
    let forbidden = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    // Each connection is for one request, so that the next one dials.
    let once = |_: &_| answer(200).header("connection", "close");
    (Receiver::on(permitted, once), Receiver::on(forbidden, once), port)
}

#[tokio::test]
async fn a_webhook_at_an_address_that_is_refused_waits_until_its_url_is_mended() {
    let (permitted, forbidden, port) = receivers().await;
    for host in ["127.0.0.2", "0x7f000002", "127.2", "[::ffff:127.0.0.2]"] {
        let outbox = Outbox::empty().await;
        let mut settings = settings(&format!("http://{host}:{port}/hook"));
        let delivery = outbox.deliver_through(guarded(&Answers::default()), settings.clone());
        outbox.settle_and_offer(&delivery, events(host, 3)).await;
        let told = snapshot(&delivery, "all failed twice", |now| now.failed_attempts >= 6).await;
        assert_eq!(told.last_failure, Some(Failure::EgressRefused), "{host}");
        let why = told.last_error.unwrap();
        assert!(why.contains("127.0.0.2") || why.contains("::ffff:7f00:2"), "{why}");
        assert!(why.contains("loopback") || why.contains("IPv4"), "{why}");
        assert!(why.contains("--allow-egress"), "{why}");
        assert_eq!((outbox.pending().await.len(), told.delivered, told.dead_lettered), (3, 0, 0));
        settings.webhook.url = permitted.url();
        delivery.update(settings);
        outbox.becomes_empty().await;
        let told = snapshot(&delivery, "all are counted", |now| now.delivered == 3).await;
        assert_eq!((told.last_failure, told.last_error), (None, None));
    }
    assert_eq!((permitted.count(), forbidden.count()), (12, 0));
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_resolves_to_for_each_connection() {
    let (permitted, forbidden, port) = receivers().await;
    let answers: Answers = Arc::new(Mutex::new(ips(&["127.0.0.2", "169.254.169.254", "127.0.0.1"])));
    let outbox = Outbox::empty().await;
    let delivery = outbox.deliver_through(guarded(&answers), settings(&format!("http://receiver.test:{port}/hook")));
    outbox.settle_and_offer(&delivery, events("mixed", 5)).await;
    outbox.becomes_empty().await;
    assert_eq!((permitted.count(), forbidden.count()), (5, 0));
    // The name's owner lets it lead elsewhere once it has been judged well.
    *answers.lock().unwrap() = ips(&["127.0.0.2"]);
    outbox.settle_and_offer(&delivery, events("rebound", 5)).await;
    let told = snapshot(&delivery, "all failed", |now| now.failed_attempts >= 5).await;
    assert_eq!(told.last_failure, Some(Failure::EgressRefused));
    assert!(told.last_error.is_some_and(|why| why.starts_with("127.0.0.2 is not dialled")));
    assert_eq!(outbox.pending().await.len(), 5);
    *answers.lock().unwrap() = ips(&["127.0.0.1"]);
    outbox.becomes_empty().await;
    assert_eq!((permitted.count(), forbidden.count()), (10, 0));
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_asked_to_dial_for_us() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    // The environment of this process is every test's: a process of its own runs one.
    let mut delivering = tokio::process::Command::new(std::env::current_exe().unwrap());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        delivering.env(name, &url);
    }
    for name in ["no_proxy", "NO_PROXY"] {
        delivering.env_remove(name);
    }
    let one = "each_event_is_sent_once_and_leaves_the_outbox_with_its_2xx";
    let delivering = delivering.args(["--exact", one]).kill_on_drop(true).output();
    tokio::select! {
        output = delivering => {
            let output = output.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        }
        dialled = proxy.accept() => panic!("the proxy was dialled: {dialled:?}"),
    }
}
