//! A real HTTP server that answers 200 and notes when: on a thread of its own, and reading nothing while it is timed.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use serde_json::Value;
use tokio::{net::TcpSocket, runtime, time::Instant};

use super::statistics::micros;

type Taken = Arc<Mutex<Vec<(i64, Bytes)>>>;

pub struct Receiver {
    taken: Taken,
    address: SocketAddr,
    /// `None`: down. Dropped, it closes every connection.
    server: Option<runtime::Runtime>,
}

/// What it was told of one key, first.
#[derive(Clone, Copy)]
pub struct Told {
    /// When it answered, in microseconds.
    pub at: i64,
    pub deadline: i64,
    pub settled_at: i64,
}

impl Receiver {
    pub async fn start() -> anyhow::Result<Self> {
        for _ in 0..100 {
            // Below the ports that the system gives to outgoing connections, so that it is free for the return.
            let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(7_000..9_900)));
            let mut receiver = Self { taken: Taken::default(), address, server: None };
            if receiver.up().await.is_ok() {
                return Ok(receiver);
            }
        }
        anyhow::bail!("no free port for the receiver")
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn down(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }

    pub async fn up(&mut self) -> anyhow::Result<()> {
        let server = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (address, taken) = (self.address, Arc::clone(&self.taken));
        let bound = server.spawn(async move {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(1024)
        });
        let listener = match bound.await? {
            Ok(listener) => listener,
            Err(error) => {
                server.shutdown_background();
                return Err(error.into());
            }
        };
        let router = Router::new().route("/", post(take)).with_state(taken);
        server.spawn(async move { axum::serve(listener, router).await });
        self.server = Some(server);
        Ok(())
    }

    /// How many requests it has taken.
    pub fn count(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for so many requests.
    pub async fn wait(&self, count: usize, patience: Duration) -> anyhow::Result<()> {
        let over = Instant::now() + patience;
        while self.count() < count {
            anyhow::ensure!(Instant::now() < over, "{} of {count} came within {patience:?}", self.count());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// When the last request was answered.
    pub fn last(&self) -> i64 {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).last().map_or(0, |(at, _)| *at)
    }

    /// What it was told of each key; forgets it.
    pub fn told(&self) -> anyhow::Result<HashMap<String, Told>> {
        let taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        let mut told = HashMap::new();
        for (at, body) in taken {
            let body: Value = serde_json::from_slice(&body)?;
            let time = |value: &Value| -> anyhow::Result<i64> {
                Ok(value.as_str().context("a time")?.parse::<jiff::Timestamp>()?.as_millisecond())
            };
            let (deadline, settled_at) = (time(&body["data"]["deadline"])?, time(&body["timestamp"])?);
            let key = body["data"]["key"].as_str().context("a key")?.to_owned();
            told.entry(key).or_insert(Told { at, deadline, settled_at });
        }
        Ok(told)
    }

    pub fn forget(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.down();
    }
}

async fn take(State(taken): State<Taken>, body: Bytes) -> StatusCode {
    taken.lock().unwrap_or_else(PoisonError::into_inner).push((micros(), body));
    StatusCode::OK
}
