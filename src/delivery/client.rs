//! The HTTP client of a webhook: hyper-util's, over connections that a [`Dialler`] opens.
//!
//! Not reqwest, which is this below: it reads the URL anew for each request, copies its headers, and sends it through layers for
//! redirects, cookies and retries of which we want none; a seventh of what an event costs us.

use std::{
    error::Error,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Uri;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{self, connect},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::ClientConfig;
use tower_service::Service;

use super::Settings;
use crate::{
    dial::{Dialler, NoHandshake, Stream, host_of_url, made_of},
    model::Address,
    tls::Tls,
};

/// Less than what receivers and their proxies keep idle connections for, so that few attempts meet one just closed.
const IDLE: Duration = Duration::from_secs(30);
/// A receiver that is gone without a word is not waited for longer than twice this, however long a request may take.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Over HTTP/2 one connection carries all, and a dead one would fail every attempt until the kernel gives it up.
const HTTP2_PING: Duration = Duration::from_secs(10);

/// Keeps connections for the next request. Cheap to clone. It follows no redirect, and asks no proxy: one of the environment would
/// dial for us, and ask nobody.
pub type Client = legacy::Client<Connector, Full<Bytes>>;

/// A client for `uri` and others of its scheme.
///
/// # Errors
/// The system's certificate authorities cannot be read.
pub fn client(settings: &Settings, uri: &Uri, dialler: &Dialler) -> anyhow::Result<Client> {
    // Without TLS there are no authorities to read, so an image without any will do, and their memory is saved.
    let secured = (uri.scheme() == Some(&http::uri::Scheme::HTTPS))
        .then(|| secured(settings.webhook.tls.clone().unwrap_or_default()))
        .transpose()
        .context("setting up TLS for the webhook (are the system's CA certificates installed?)")?;
    let within = settings.webhook.connect_timeout;
    let connector = Connector { dialler: dialler.clone(), secured, within };
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.delivery.max_in_flight)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(HTTP2_PING)
        .http2_keep_alive_timeout(within)
        .build(connector))
}

/// With HTTP/2 where the receiver speaks it.
fn secured(tls: Tls) -> Result<(Tls, Arc<ClientConfig>), rustls::Error> {
    let mut config = ClientConfig::clone(&*tls.config()?);
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    Ok((tls, Arc::new(config)))
}

/// Opens the client's connections.
#[derive(Clone)]
pub struct Connector {
    dialler: Dialler,
    secured: Option<(Tls, Arc<ClientConfig>)>,
    within: Duration,
}

impl Connector {
    async fn open(self, uri: Uri) -> io::Result<TokioIo<Stream>> {
        let host = host_of_url(uri.host().unwrap_or_default());
        let port = uri.port_u16().unwrap_or(if self.secured.is_some() { 443 } else { 80 });
        let secured = self.secured.as_ref().map(|(tls, config)| (tls, Arc::clone(config)));
        let stream = self.dialler.open_by(&Address::new(host, port), secured, self.within).await?;
        stream.set_nodelay()?;
        stream.keep_alive(KEEP_ALIVE)?;
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().open(uri))
    }
}

impl connect::Connection for Stream {
    fn connected(&self) -> connect::Connected {
        let connected = connect::Connected::new();
        if self.speaks() == Some(b"h2") { connected.negotiated_h2() } else { connected }
    }
}

/// Whether the receiver said that it has not begun with the request. Over HTTP/2 it does when it is through with a connection, as
/// many are after so many requests.
pub fn was_not_taken(error: &legacy::Error) -> bool {
    let Some(error) = made_of(error).find_map(|error| error.downcast_ref::<h2::Error>()) else { return false };
    let through = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (through || refused)
}

/// Whether it took too long to be connected, or the connection was found dead.
pub fn is_timeout(error: &legacy::Error) -> bool {
    let late = |error: &(dyn Error + 'static)| {
        error.is::<NoHandshake>()
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
            || error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    };
    made_of(error).any(late)
}
