//! The receiver as it is set up now, and one attempt on it.

use std::{io, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header::RETRY_AFTER};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use tokio::time::{Instant, sleep_until, timeout_at};
use url::Url;

use super::{
    Settings,
    client::{self, Client},
    outcome::Answer,
    queue::Waiting,
    request,
    signing::Signer,
};
use crate::{
    dial::{self, Dialler, Unresolved},
    meters::Attempt,
    model::{FaultCategory, Millis},
};

/// What is read of an answer. Reading it to its end lets the connection be used again; one longer than this is not worth it.
const ANSWER_BYTES: usize = 64 * 1024;
/// How often an event is sent in one attempt where each time the receiver said that it had not taken it.
const TIMES: u32 = 6;
/// Before it is sent once more, and each time twice as long: by then the client knows that a connection is not to be used again, and
/// has made another, which takes a busy machine a while.
const A_MOMENT: Duration = Duration::from_millis(10);

/// Everything that an attempt needs, made once for each change of the settings.
pub struct Endpoint {
    settings: Settings,
    uri: Uri,
    client: Client,
    fixed_headers: HeaderMap,
    signer: Signer,
}

impl Endpoint {
    /// `before`: the endpoint in use, whose connections are kept where the settings allow it.
    pub fn new(settings: Settings, dialler: &Dialler, before: Option<&Self>) -> anyhow::Result<Self> {
        let webhook = &settings.webhook;
        // The URL may carry a token: the error does not show it.
        let url = Url::parse(&webhook.url).context("webhook.url is not a URL")?;
        anyhow::ensure!(matches!(url.scheme(), "http" | "https"), "webhook.url is neither http nor https");
        // As the one reads it, so that the other dials what was judged.
        let uri: Uri = url.as_str().parse().context("webhook.url is not one of HTTP")?;
        let client = match before {
            Some(before) if before.has_client_for(&settings, &uri) => before.client.clone(),
            _ => client::client(&settings, &uri, dialler)?,
        };
        let fixed_headers = request::fixed_headers(webhook)?;
        let signer = Signer::new(&webhook.signing_keys);
        Ok(Self { settings, uri, client, fixed_headers, signer })
    }

    fn has_client_for(&self, settings: &Settings, uri: &Uri) -> bool {
        self.uri.scheme() == uri.scheme()
            && self.settings.webhook.connect_timeout == settings.webhook.connect_timeout
            && self.settings.webhook.tls == settings.webhook.tls
            && self.settings.delivery.max_in_flight == settings.delivery.max_in_flight
    }

    /// POSTs once and says what came back. Takes at most the request timeout.
    pub async fn attempt(&self, waiting: &Waiting, now: Millis) -> Answer {
        let end = Instant::now() + self.settings.webhook.request_timeout;
        let body = Bytes::from(request::body(&self.settings, &waiting.event));
        let mut times = 1;
        loop {
            match timeout_at(end, self.client.request(self.request(waiting, &body, now))).await {
                Ok(Ok(response)) => {
                    let code = response.status().as_u16();
                    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    let answer = Answer::Status { code, retry_after: retry_after.map(str::to_owned) };
                    // The status says it all: whatever becomes of the rest of the answer, the receiver has decided.
                    let _ = timeout_at(end, read_away(response.into_body())).await;
                    return answer;
                }
                Ok(Err(error)) if times < TIMES && client::was_not_taken(&error) => {
                    sleep_until(end.min(Instant::now() + A_MOMENT * (1 << (times - 1)))).await;
                    times += 1;
                }
                Ok(Err(error)) => return self.explain(&error),
                Err(_) => return self.no_answer(),
            }
        }
    }

    fn request(&self, waiting: &Waiting, body: &Bytes, now: Millis) -> Request<Full<Bytes>> {
        let attempt = waiting.attempts.saturating_add(1);
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() =
            request::headers(&self.fixed_headers, &self.signer, &waiting.event, body, attempt, now);
        request
    }

    fn no_answer(&self) -> Answer {
        let why = format!("no answer within {:?}", self.settings.webhook.request_timeout);
        Answer::None { sort: Attempt::Timeout, why }
    }

    /// Never with the URL, which may carry a token.
    fn explain(&self, error: &legacy::Error) -> Answer {
        if client::is_timeout(error) {
            if !error.is_connect() {
                return self.no_answer();
            }
            let why = format!("no connection within {:?}", self.settings.webhook.connect_timeout);
            return Answer::None { sort: Attempt::Timeout, why };
        }
        let innermost = dial::made_of(error).last().unwrap_or(error);
        let io = innermost.downcast_ref::<io::Error>();
        let (sort, why) = match (dial::category(error), io.map(io::Error::kind)) {
            (FaultCategory::EgressRefused, _) => (Attempt::EgressRefused, innermost.to_string()),
            (FaultCategory::Tls, _) => {
                let fix = dial::advice(error, dial::For::Webhook).map(|fix| format!("; {fix}")).unwrap_or_default();
                (Attempt::Tls, format!("TLS: {innermost}{fix}"))
            }
            // Over HTTP/2 nothing but its words is left of an alert that comes behind the handshake.
            _ if innermost.to_string().contains("received fatal alert") => {
                (Attempt::Tls, format!("TLS: {innermost}; {}", dial::ours(dial::For::Webhook)))
            }
            (_, Some(io::ErrorKind::ConnectionRefused)) => {
                (Attempt::ConnectionRefused, "connection refused".to_owned())
            }
            (_, Some(io::ErrorKind::ConnectionReset)) => (Attempt::Connect, "the connection was reset".to_owned()),
            _ if innermost.is::<Unresolved>() => (Attempt::Dns, format!("the host name does not resolve: {innermost}")),
            // Of what the client says itself nobody has any use.
            _ if innermost.is::<legacy::Error>() => (Attempt::Other, "the request could not be sent".to_owned()),
            _ => (Attempt::Connect, innermost.to_string()),
        };
        Answer::None { sort, why }
    }
}

async fn read_away(mut body: Incoming) {
    let mut left = ANSWER_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}
