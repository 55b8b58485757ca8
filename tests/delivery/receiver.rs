//! A webhook receiver on loopback that answers as it is told and remembers everything that it was sent.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use tokio::{net::TcpListener, task::JoinSet};

/// One request as it came.
#[derive(Clone)]
pub struct Request {
    pub at: Instant,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    pub fn key(&self) -> String {
        self.json()["data"]["key"].as_str().unwrap_or_default().to_owned()
    }
}

/// How a request is answered.
pub struct Answer {
    pub code: u16,
    pub headers: Vec<(&'static str, String)>,
    pub after: Duration,
}

pub fn answer(code: u16) -> Answer {
    Answer { code, headers: Vec::new(), after: Duration::ZERO }
}

impl Answer {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    _server: JoinSet<()>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    seen: Mutex<Vec<Request>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Receiver {
    pub async fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    pub fn on(listener: TcpListener, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            seen: Mutex::default(),
            in_flight: AtomicUsize::default(),
            most_in_flight: AtomicUsize::default(),
        });
        let app = Router::new().fallback(any(respond)).with_state(shared.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { shared, address, _server: server }
    }

    pub fn answer_with(&self, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }
}

/// Counts a request out even if the sender hangs up.
struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn respond(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    let _in_flight = InFlight(shared.clone());
    shared.most_in_flight.fetch_max(now, Ordering::SeqCst);
    let request = Request { at: Instant::now(), path: uri.path().to_owned(), headers, body };
    let script = shared.script.lock().unwrap().clone();
    let answer = script(&request);
    shared.seen.lock().unwrap().push(request);
    tokio::time::sleep(answer.after).await;
    let mut response = StatusCode::from_u16(answer.code).unwrap().into_response();
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
