//! The webhook's host: it is connected to, and nothing is sent. A POST of a made-up event would be an event.

use std::{io, time::Duration};

use url::Url;

use super::{finding::Finding, not_dialled};
use crate::{
    dial::{self, Dialler},
    model::Address,
    plan::WebhookPlan,
    tls::Tls,
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
    let tls = (url.scheme() == "https").then(|| plan.tls.clone().unwrap_or_default());
    match connect(dialler, &Address::new(dial::host_of_url(host), port), tls.as_ref(), plan.connect_timeout).await {
        Ok(()) => Finding::ok(SUBJECT, format!("{place} accepts connections (nothing was sent)")),
        Err(error) => match (not_dialled(&error), dial::advice(&error, dial::For::Webhook)) {
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

/// As deliveries do.
async fn connect(dialler: &Dialler, address: &Address, tls: Option<&Tls>, patience: Duration) -> io::Result<()> {
    dialler.open(address, tls, patience).await.map(drop)
}
