//! The admin HTTP server: `/livez`, `/readyz`, `/metrics`, and a page for people at `/`.
//!
//! # Guarantees
//! - It only reads, and shows no secret, no key and no URL: whoever reaches the port learns which listeners there are and
//!   how they fare, and nothing else.
//! - Connections are bounded in number and in time, and each carries one answer: one that is held open for nothing is cut,
//!   and probes and scrapes are far apart.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    metrics::{self, Format, Process},
    probes::{Probes, Verdict},
};
use crate::{clock, listener::Snapshots, meters::Operator};

mod bounded;
mod page;

use bounded::Bounded;

/// What is served.
#[derive(Clone)]
pub struct Served {
    pub snapshots: watch::Receiver<Snapshots>,
    pub probes: Probes,
    /// In the `controller` alone.
    pub operator: Option<Arc<Operator>>,
}

/// # Errors
/// Another process listens there, or the address is not of this machine.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening at --admin-address {address}"))
}

/// Serves until `stop`; then what is under way ends, which takes no longer than a connection may last.
pub async fn serve(listener: TcpListener, served: Served, stop: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/", get(status))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(served)
        .layer(axum::middleware::map_response(sealed));
    axum::serve(Bounded::new(listener), router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn livez(State(served): State<Served>) -> Response {
    probed(served.probes.alive(Instant::now()))
}

async fn readyz(State(served): State<Served>) -> Response {
    probed(served.probes.ready())
}

fn probed(Verdict { good, lines }: Verdict) -> Response {
    let (status, word) = if good { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ok") };
    (status, format!("{lines}{word}\n")).into_response()
}

async fn scrape(State(served): State<Served>, headers: HeaderMap) -> Response {
    // Several headers of one name are one, with commas.
    let wanted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&wanted.collect::<Vec<_>>().join(","));
    let Served { snapshots, operator, .. } = served;
    let input = move || {
        let snapshots = snapshots.borrow().clone();
        metrics::Input { snapshots, operator, process: Process::now(), now: clock::now() }
    };
    // Hundreds of listeners are megabytes: no work for a thread that looks at keys.
    typed(format.content_type(), spawn_blocking(move || metrics::render(input(), format)).await)
}

async fn status(State(served): State<Served>) -> Response {
    let snapshots = served.snapshots.borrow().clone();
    let ready = served.probes.ready();
    let made = spawn_blocking(move || page::page(&snapshots, &ready, clock::now())).await;
    typed("text/html; charset=utf-8", made)
}

fn typed(content_type: &'static str, body: Result<String, JoinError>) -> Response {
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, content_type)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "A page could not be made.");
            (StatusCode::INTERNAL_SERVER_ERROR, "a fault of this program; see its log\n").into_response()
        }
    }
}

/// Nothing is kept by caches, run by browsers, or sent over a connection that carried an answer.
async fn sealed(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (header::CONNECTION, "close"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::VARY, "accept"),
    ] as [(HeaderName, &'static str); 5]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
