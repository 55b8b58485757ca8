//! A real HTTP server that writes down what it is told before it answers, and that fails as it is asked to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    routing::post,
};
use base64::Engine as _;
use redis_expiry_operator::model::{Evidence, Key, Millis};
use tokio::{net::TcpSocket, runtime, sync::watch};

use super::now;

/// How the receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Answers(u16),
    #[allow(dead_code, reason = "tests/every_mode.rs wants it")]
    /// 429, and in how many seconds it will take more.
    Later(u64),
    /// Takes the request and never answers it.
    Hangs,
    #[allow(dead_code, reason = "tests/every_mode.rs wants it")]
    /// Answers 200 after so many milliseconds.
    Slow(u64),
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub at: Millis,
    /// `webhook-id`.
    pub id: String,
    pub key: Key,
    pub deadline: Millis,
    pub evidence: Evidence,
    /// The status that it was answered with; 0 if it never was.
    pub answered: u16,
}

#[derive(Default)]
struct Record {
    received: Vec<Received>,
    /// What should never have come: a wrong signature, a body that is not as promised.
    wrong: Vec<String>,
}

#[derive(Clone)]
struct Shared {
    record: Arc<Mutex<Record>>,
    mode: watch::Sender<Mode>,
    verifier: Arc<standardwebhooks::Webhook>,
    /// Whose events are to come, `namespace/name`.
    listener: Arc<str>,
}

pub struct Receiver {
    shared: Shared,
    address: SocketAddr,
    /// `None`: down. Its own runtime, so that going down cuts every connection at once.
    server: Option<runtime::Runtime>,
}

impl Receiver {
    /// Listens on a port of its own below those of the cluster and of outgoing connections, so that nobody takes it while the receiver is down.
    pub async fn start(secret: &str, listener: &str) -> Self {
        let shared = Shared {
            record: Arc::default(),
            mode: watch::Sender::new(Mode::Answers(200)),
            verifier: Arc::new(standardwebhooks::Webhook::new(secret).expect("the secret is a whsec_ one")),
            listener: listener.into(),
        };
        for _ in 0..100 {
            let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(7_000..9_900)));
            let mut receiver = Self { shared: shared.clone(), address, server: None };
            if receiver.try_up().await.is_ok() {
                return receiver;
            }
        }
        panic!("no free port for the receiver");
    }

    pub fn url(&self) -> String {
        format!("http://{}/order-timeouts", self.address)
    }

    pub fn behave(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Closes the port and every connection.
    pub fn down(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }

    /// Listens again on the same port.
    pub async fn up(&mut self) {
        self.try_up().await.expect("the receiver gets its port back");
    }

    async fn try_up(&mut self) -> std::io::Result<()> {
        let server = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (address, shared) = (self.address, self.shared.clone());
        let bound = server.spawn(async move {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(1024)
        });
        let listener = match bound.await.map_err(std::io::Error::other).and_then(|bound| bound) {
            Ok(listener) => listener,
            Err(e) => {
                server.shutdown_background();
                return Err(e);
            }
        };
        let app = Router::new().route("/order-timeouts", post(take)).with_state(shared);
        server.spawn(async move { axum::serve(listener, app).await });
        self.server = Some(server);
        Ok(())
    }

    /// Everything that came so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.record.lock().unwrap().received.clone()
    }

    /// What came and should never have.
    pub fn wrong(&self) -> Vec<String> {
        self.shared.record.lock().unwrap().wrong.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.down();
    }
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap) {
    let at = now();
    let mode = *shared.mode.borrow();
    let answered = match mode {
        Mode::Answers(status) => status,
        Mode::Later(_) => 429,
        Mode::Hangs => 0,
        Mode::Slow(_) => 200,
    };
    let verified = shared.verifier.verify(&body, &headers).map_err(|e| format!("the signature is wrong: {e}"));
    let read = verified.and_then(|()| read(&shared.listener, &headers, &body, at, answered));
    {
        let mut record = shared.record.lock().unwrap();
        match read {
            Ok(received) => record.received.push(received),
            Err(reason) => record.wrong.push(format!("{reason}: {headers:?} {body:?}")),
        }
    }
    match mode {
        Mode::Hangs => tokio::time::sleep(Duration::from_secs(3600)).await,
        Mode::Slow(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        Mode::Answers(_) | Mode::Later(_) => {}
    }
    let mut told = HeaderMap::new();
    if let Mode::Later(seconds) = mode {
        told.insert(RETRY_AFTER, seconds.into());
    }
    (StatusCode::from_u16(answered).expect("a status"), told)
}

fn read(listener: &str, headers: &HeaderMap, body: &[u8], at: Millis, answered: u16) -> Result<Received, String> {
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).ok_or("it has no webhook-id")?.to_owned();
    let body: serde_json::Value = serde_json::from_slice(body).map_err(|e| format!("it is not JSON: {e}"))?;
    let data = &body["data"];
    let text = |name: &str| data[name].as_str().ok_or(format!("data.{name} is missing"));
    let key = match data["keyBase64"].as_str() {
        Some(encoded) => {
            Key::from(base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|e| e.to_string())?)
        }
        None => Key::from(text("key")?),
    };
    let deadline: jiff::Timestamp = text("deadline")?.parse().map_err(|e| format!("data.deadline: {e}"))?;
    let evidence = match text("evidence")? {
        "Witnessed" => Evidence::Witnessed,
        "Inferred" => Evidence::Inferred,
        other => return Err(format!("data.evidence is {other}")),
    };
    if body["type"] != "order.timeout.expired" || data["listener"] != listener {
        return Err("it is of another type or listener".into());
    }
    Ok(Received { at, id, key, deadline: Millis(deadline.as_millisecond()), evidence, answered })
}
