//! `/livez`, `/readyz` and `/metrics` on a port of their own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::probes::{Probes, Report};

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// As Prometheus asks for it.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Shown {
    probes: Probes,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// # Errors
/// The address cannot be listened at.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening at --admin-address {address}"))
}

/// Answers until `stop`.
pub async fn serve(
    listener: TcpListener,
    probes: Probes,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/livez", get(async |State(shown): State<Shown>| answer(shown.probes.alive(Instant::now()))))
        .route("/readyz", get(async |State(shown): State<Shown>| answer(shown.probes.ready())))
        .route(
            "/metrics",
            get(async |State(shown): State<Shown>| ([(header::CONTENT_TYPE, METRICS)], (shown.metrics)())),
        )
        .layer(middleware::from_fn(limited))
        .with_state(Shown { probes, metrics: Arc::new(metrics) });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.context("serving /metrics")
}

async fn limited(request: Request, next: Next) -> Response {
    timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())
}

fn answer(report: Report) -> (StatusCode, String) {
    (if report.well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report.text)
}
