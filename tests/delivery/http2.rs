//! A receiver that speaks HTTP/2: one connection carries all, and it says so when it has not taken a request.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use h2::{
    RecvStream,
    server::{self, SendResponse},
};
use http::{Request, Response};
use redis_expiry_operator::tls::{Material, Tls};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificates::{Authority, Certificate},
    setup::{Outbox, events, settings, snapshot},
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

struct Receiver {
    address: SocketAddr,
    authority: String,
    told: Arc<Mutex<Told>>,
    _serving: JoinSet<()>,
}

impl Receiver {
    async fn start() -> Self {
        let authority = Authority::new();
        let Certificate { certificate, key } = authority.vouch_for("localhost");
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"h2".into()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, told) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Told::default())));
        let mut serving = JoinSet::new();
        let shared = Arc::clone(&told);
        serving.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                served.spawn(serve(acceptor.clone(), stream, Arc::clone(&shared)));
            }
        });
        Self { address, authority: authority.pem, told, _serving: serving }
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, told: Arc<Mutex<Told>>) {
    // Of those that are opened at once one is kept; the others end somewhere in here.
    let Ok(stream) = acceptor.accept(stream).await else { return };
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
    let receiver = Receiver::start().await;
    let outbox = Outbox::empty().await;
    let mut settings = settings(&format!("https://localhost:{}/hook", receiver.address.port()));
    // A failure would be waited out.
    settings.delivery.initial_backoff = Duration::from_secs(60);
    let authorities = Some(receiver.authority.clone().into_bytes());
    settings.webhook.tls = Some(Tls::new(Material { authorities, ..Material::default() }).unwrap());
    let delivery = outbox.deliver(settings);
    outbox.settle_and_offer(&delivery, events("order", 500)).await;
    outbox.becomes_empty().await;
    let told = snapshot(&delivery, "all are counted", |now| now.delivered == 500).await;
    assert_eq!((told.failed_attempts, told.last_error), (0, None));
    let told = receiver.told.lock().unwrap();
    assert_eq!((told.taken.len(), told.refused), (500, 166));
    // Those that were under way when the word went out are taken too.
    assert!(told.connections > 666 / (EACH + 64), "{} connections for 500 events, of {EACH} each", told.connections);
}
