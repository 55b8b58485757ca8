//! The receiver as it is set up now, and one attempt on it.

use std::{io, time::Duration};

use anyhow::Context;
use reqwest::{
    Client, Method, Request, Response, Url,
    header::{HeaderMap, RETRY_AFTER},
    redirect,
};
use rustls::ClientConfig;
use url::Host;

use super::{Settings, outcome::Answer, queue::Waiting, request, signing::Signer};
use crate::{
    dial::{self, Dialler, Refused},
    meters::Attempt,
    model::{FaultCategory, Millis},
};

/// What is read of an answer. Reading it to its end lets the connection be used again; one longer than this is not worth it.
const ANSWER_BYTES: usize = 64 * 1024;
/// Less than what receivers and their proxies keep idle connections for, so that few attempts meet one just closed.
const IDLE: Duration = Duration::from_secs(30);
/// Over HTTP/2 one connection carries all, and a dead one would fail every attempt until the kernel gives it up.
const HTTP2_PING: Duration = Duration::from_secs(10);

/// Everything that an attempt needs, made once for each change of the settings.
pub struct Endpoint {
    settings: Settings,
    url: Url,
    /// An address that the URL has in place of a name, and that must not be dialled: the client does not ask of those.
    refused: Option<Refused>,
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
        let refused = match url.host() {
            Some(Host::Ipv4(address)) => dialler.judge(address.into()).err(),
            Some(Host::Ipv6(address)) => dialler.judge(address.into()).err(),
            Some(Host::Domain(_)) | None => None,
        };
        let client = match before {
            Some(before) if before.has_client_for(&settings, &url) => before.client.clone(),
            _ => client(&settings, &url, dialler)?,
        };
        let fixed_headers = request::fixed_headers(webhook)?;
        let signer = Signer::new(&webhook.signing_keys);
        Ok(Self { settings, url, refused, client, fixed_headers, signer })
    }

    fn has_client_for(&self, settings: &Settings, url: &Url) -> bool {
        self.url.scheme() == url.scheme()
            && self.settings.webhook.connect_timeout == settings.webhook.connect_timeout
            && self.settings.webhook.tls == settings.webhook.tls
            && self.settings.delivery.max_in_flight == settings.delivery.max_in_flight
    }

    /// POSTs once and says what came back. Takes at most the request timeout.
    pub async fn attempt(&self, waiting: &Waiting, now: Millis) -> Answer {
        if let Some(refused) = self.refused {
            return Answer::None { sort: Attempt::EgressRefused, why: refused.to_string() };
        }
        let body = request::body(&self.settings, &waiting.event);
        let attempt = waiting.attempts.saturating_add(1);
        let headers = request::headers(&self.fixed_headers, &self.signer, &waiting.event, &body, attempt, now);
        // Not by a builder, which would copy each header once more.
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        *request.timeout_mut() = Some(self.settings.webhook.request_timeout);
        match self.client.execute(request).await {
            Ok(response) => {
                let code = response.status().as_u16();
                let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let answer = Answer::Status { code, retry_after: retry_after.map(str::to_owned) };
                // The status says it all: whatever becomes of the rest of the answer, the receiver has decided.
                read_away(response).await;
                answer
            }
            Err(error) => self.explain(&error),
        }
    }

    /// Never with the URL, which may carry a token.
    fn explain(&self, error: &reqwest::Error) -> Answer {
        let webhook = &self.settings.webhook;
        if error.is_timeout() {
            let why = if error.is_connect() {
                format!("no connection within {:?}", webhook.connect_timeout.min(webhook.request_timeout))
            } else {
                format!("no answer within {:?}", webhook.request_timeout)
            };
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
            _ if error.is_dns() => (Attempt::Dns, format!("the host name does not resolve: {innermost}")),
            // reqwest's own errors show the URL; those below it do not.
            _ if innermost.is::<reqwest::Error>() => (Attempt::Other, "the request could not be sent".to_owned()),
            _ => (Attempt::Connect, innermost.to_string()),
        };
        Answer::None { sort, why }
    }
}

async fn read_away(mut response: Response) {
    let mut left = ANSWER_BYTES;
    // The request's timeout runs on over this.
    while let Ok(Some(chunk)) = response.chunk().await {
        let Some(rest) = left.checked_sub(chunk.len()) else { return };
        left = rest;
    }
}

const AUTHORITIES: &str = "setting up TLS for the webhook (are the system's CA certificates installed?)";

fn client(settings: &Settings, url: &Url, dialler: &Dialler) -> anyhow::Result<Client> {
    // The only provider compiled in. Where the process chose one already, that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(settings.webhook.connect_timeout)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.delivery.max_in_flight)
        .http2_keep_alive_interval(HTTP2_PING)
        .http2_keep_alive_timeout(settings.webhook.connect_timeout)
        .redirect(redirect::Policy::none())
        .referer(false)
        // A proxy of the environment would dial for us, and ask nobody.
        .no_proxy()
        .dns_resolver(dialler.clone());
    if url.scheme() == "http" {
        // No roots to read, so an image without CA certificates will do, and their memory is saved.
        builder = builder.tls_certs_only([]);
    } else if let Some(tls) = &settings.webhook.tls {
        let mut config = ClientConfig::clone(&*tls.config().context(AUTHORITIES)?);
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        builder = builder.tls_backend_preconfigured(config);
    }
    builder.build().context(AUTHORITIES)
}
