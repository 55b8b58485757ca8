//! The part that faces the operator, on its own: takes webhooks, checks them, and passes them on to the order service.
//!
//! It keeps nothing, so it may be restarted, scaled and be away while orders are taken. An answer is the order
//! service's, and a 2xx says that it is in its database; what can't be passed on is answered with 502, and comes again.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use reqwest::Client;
use tracing::warn;

use super::{
    serve::{listen, on_signal},
    service::since_1970,
    verify::Verifier,
};

const PATH: &str = "/internal/order-timeouts";

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(long, env = "ORDER_SERVICE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the order service is.
    #[arg(long, env = "ORDER_SERVICE_URL")]
    orders: String,
    /// What webhooks are signed with, `whsec_` and base64; several while they are rotated.
    #[arg(long, env = "WEBHOOK_SECRETS", value_delimiter = ',', hide_env_values = true, required = true)]
    webhook_secret: Vec<String>,
}

#[derive(Clone)]
struct Front {
    http: Client,
    url: String,
    verifier: Verifier,
}

/// Serves until SIGINT or SIGTERM; requests under way are answered.
pub async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let stop = on_signal()?;
    // Below what the operator waits for us.
    let http = Client::builder().timeout(Duration::from_secs(5)).build().context("making an HTTP client")?;
    let url = format!("{}{PATH}", arguments.orders.trim_end_matches('/'));
    let front = Front { http, url, verifier: Verifier::new(&arguments.webhook_secret)? };
    let router = Router::new().route("/healthz", get(async || "ok")).route(PATH, post(pass_on)).with_state(front);
    let server = axum::serve(listen(arguments.listen).await?, router);
    server.with_graceful_shutdown(stop.cancelled_owned()).await.context("serving HTTP")
}

async fn pass_on(State(front): State<Front>, headers: HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    if let Err(refused) = front.verifier.verify(id, timestamp, signature, &body, since_1970()) {
        warn!(id, %refused, "Refused a webhook.");
        return (StatusCode::UNAUTHORIZED, Bytes::from_static(b"signature refused"));
    }
    let mut request = front.http.post(&front.url).body(body);
    // The order service checks it again: it believes nobody.
    for (name, value) in [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)] {
        request = request.header(name, value);
    }
    let answer = async {
        let answer = request.send().await?;
        Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
    };
    answer.await.unwrap_or_else(|error| {
        warn!(id, %error, "Could not pass a webhook on.");
        (StatusCode::BAD_GATEWAY, Bytes::from_static(b"the order service does not answer"))
    })
}
