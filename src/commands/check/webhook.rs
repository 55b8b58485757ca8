//! The webhook's host: it is connected to, and nothing is sent. A POST of a made-up event would be an event.

use std::{io, sync::Arc, time::Duration};

use rustls_platform_verifier::ConfigVerifierExt;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use url::Url;

use super::{finding::Finding, not_dialled};
use crate::{
    dial::{self, Dialler},
    plan::WebhookPlan,
};

const SUBJECT: &str = "webhook";

pub(super) async fn check(plan: &WebhookPlan, dialler: &Dialler) -> Vec<Finding> {
    let mut findings = vec![reachable(plan, dialler).await];
    findings.push(match plan.signing_keys.len() {
        0 => Finding::warn(
            SUBJECT,
            "requests are not signed: the receiver cannot tell ours from others",
            "set spec.webhook.signing.secretKeyRefs",
        ),
        keys => Finding::ok(SUBJECT, format!("requests are signed with {keys} valid key(s)")),
    });
    findings
}

async fn reachable(plan: &WebhookPlan, dialler: &Dialler) -> Finding {
    // It was parsed when the file was read.
    let Ok(url) = Url::parse(&plan.url) else { return Finding::fail(SUBJECT, "the URL is not one", "") };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Finding::fail(SUBJECT, "the URL has no host", "correct spec.webhook.url");
    };
    // Without path and query, which may carry a token.
    let place = format!("{}://{host}:{port}", url.scheme());
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match connect(dialler, host, port, url.scheme() == "https", plan.connect_timeout).await {
        Ok(()) => Finding::ok(SUBJECT, format!("{place} accepts connections (nothing was sent)")),
        Err(error) => match (not_dialled(&error), dial::advice(&error)) {
            (Some((what, fix)), _) => Finding::fail(SUBJECT, format!("{place}: {what}"), fix),
            (None, Some(fix)) => Finding::fail(SUBJECT, format!("{place} is not believed: {error}"), fix),
            (None, None) => Finding::fail(
                SUBJECT,
                format!("{place} cannot be reached: {error}"),
                "start it, or correct spec.webhook.url",
            ),
        },
    }
}

async fn connect(dialler: &Dialler, host: &str, port: u16, tls: bool, patience: Duration) -> io::Result<()> {
    let connecting = async {
        let stream = dialler.connect(host, port).await?;
        if tls { handshake(stream, host).await } else { Ok(()) }
    };
    let late = || io::Error::other(format!("no answer within {patience:?} (timeouts.connect)"));
    timeout(patience, connecting).await.unwrap_or_else(|_| Err(late()))
}

/// With the verifier that deliveries use.
async fn handshake(stream: TcpStream, host: &str) -> io::Result<()> {
    let config = rustls::ClientConfig::with_platform_verifier().map_err(io::Error::other)?;
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
}
