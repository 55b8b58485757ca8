//! A receiver that speaks HTTP/2: one connection carries all, and it says so when it has not taken a request.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use h2::{
    RecvStream,
    server::{self, SendResponse},
};
use http::{Request, Response};
use tokio::task::JoinSet;

use crate::{
    certified::{Certified, Connection},
    setup::{Outbox, events, settings, snapshot},
    tls,
};

/// So many requests are taken on a connection.
const EACH: usize = 50;

#[derive(Default)]
struct Told {
    connections: usize,
    /// The ids of all that came, and of what was taken.
    came: HashSet<String>,
    taken: Vec<String>,
    refused: usize,
}

async fn serve(stream: Connection, told: Arc<Mutex<Told>>) {
    // Of those that are opened at once one is kept; the others end here or while they shake hands.
    let Ok(mut connection) = server::handshake(stream).await else { return };
    told.lock().unwrap().connections += 1;
    let mut accepted = 0;
    // Dropped, those that are under way would go with it.
    let mut answering = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        accepted += 1;
        answering.spawn(respond_to(request, respond, Arc::clone(&told)));
        if accepted == EACH {
            connection.graceful_shutdown();
        }
    }
}

/// Every third event is refused when it first comes.
async fn respond_to(request: Request<RecvStream>, mut respond: SendResponse<bytes::Bytes>, told: Arc<Mutex<Told>>) {
    let id = request.headers()["webhook-id"].to_str().unwrap().to_owned();
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.data().await {}
    let refused = {
        let mut told = told.lock().unwrap();
        let refused = told.came.insert(id.clone()) && told.came.len().is_multiple_of(3);
        told.refused += usize::from(refused);
        if !refused {
            told.taken.push(id);
        }
        refused
    };
    if refused {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
    } else {
        respond.send_response(Response::new(()), true).unwrap();
    }
}

#[tokio::test]
async fn over_http2_what_was_not_taken_goes_again_at_once_and_is_no_failure() {
    let told = Arc::new(Mutex::new(Told::default()));
    let shared = Arc::clone(&told);
    let receiver = Certified::http2("localhost", move |stream| serve(stream, Arc::clone(&shared))).await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&format!("https://localhost:{}/hook", receiver.address.port()));
    // A failure would be waited out.
    settings.delivery.initial_backoff = Duration::from_secs(60);
    settings.webhook.tls = Some(tls(&receiver, None));
    let delivery = outbox.deliver(settings);
    outbox.settle_and_offer(&delivery, events("order", 500)).await;
    outbox.becomes_empty().await;
    let snapshot = snapshot(&delivery, "all are counted", |now| now.delivered == 500).await;
    assert_eq!((snapshot.failed_attempts, snapshot.last_error), (0, None));
    let told = told.lock().unwrap();
    assert_eq!((told.taken.len(), told.refused), (500, 166));
    // Those that were under way when the word went out are taken too.
    assert!(told.connections > 666 / (EACH + 64), "{} connections for 500 events, of {EACH} each", told.connections);
}
