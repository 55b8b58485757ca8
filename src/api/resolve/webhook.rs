//! `spec.webhook`.

use std::time::Duration;

use url::Url;

use super::{Check, headers, names, signing, tls};
use crate::{
    api::{Platform, ServiceRef, Timeouts, WebhookSpec, reason},
    plan::{Secret, WebhookPlan},
};

pub(super) fn webhook(check: &mut Check<'_>, spec: &WebhookSpec) -> Option<WebhookPlan> {
    let url = url(check, spec);
    timeouts(check, &spec.timeouts);
    let event_type = &spec.payload.event_type;
    if !is_event_type(event_type) {
        check.problem(
            "spec.webhook.payload.type",
            format!("is {event_type:?}"),
            "use at most 128 letters, digits and _, in parts joined by dots, such as order.timeout.expired",
        );
    }
    let headers = headers::headers(check, spec);
    let bearer = spec.auth.as_ref().and_then(|auth| {
        let field = "spec.webhook.auth.bearer.secretKeyRef";
        let token = check.secret_text(field, &auth.bearer.secret_key_ref);
        let token = token.filter(|token| headers::is_plain(check, reason::SECRET_INVALID, field, token.as_bytes()));
        token.map(|token| Secret(token.into_bytes()))
    });
    let signing_keys = signing::keys(check, spec.signing.as_ref());
    let tls = tls::webhook(check, spec.tls.as_ref(), url.as_deref());
    Some(WebhookPlan {
        url: url?,
        connect_timeout: spec.timeouts.connect.get(),
        request_timeout: spec.timeouts.request.get(),
        event_type: event_type.clone(),
        headers,
        bearer,
        tls,
        signing_keys,
    })
}

fn timeouts(check: &mut Check<'_>, timeouts: &Timeouts) {
    let (connect, request) = (timeouts.connect, timeouts.request);
    let least = Duration::from_millis(100);
    check.within("spec.webhook.timeouts.connect", connect.get(), least, Duration::from_secs(10));
    check.within("spec.webhook.timeouts.request", request.get(), least, Duration::from_secs(30));
    if connect > request {
        check.problem(
            "spec.webhook.timeouts.connect",
            format!("is {connect}, longer than request, {request}, which includes it"),
            "make it shorter",
        );
    }
}

fn url(check: &mut Check<'_>, spec: &WebhookSpec) -> Option<String> {
    match (&spec.url, &spec.url_secret_ref, &spec.service_ref) {
        (Some(url), None, None) => {
            let found = format!("is {url:?}, ");
            valid_url(check, reason::INVALID_SPEC, "spec.webhook.url", &found, url)
        }
        (None, Some(reference), None) => {
            let field = "spec.webhook.urlSecretRef";
            let url = check.secret_text(field, reference)?;
            // It is not shown: a URL that lies in a Secret carries a token.
            valid_url(check, reason::SECRET_INVALID, field, "refers to a value ", &url)
        }
        (None, None, Some(service)) => match check.around.platform {
            Platform::Kubernetes => service_url(check, service),
            Platform::Process => {
                check.problem("spec.webhook.serviceRef", "is for listeners that the operator runs", "use url");
                None
            }
        },
        (None, None, None) => {
            let fix = match check.around.platform {
                Platform::Kubernetes => "set url, urlSecretRef or serviceRef",
                Platform::Process => "set url or urlSecretRef",
            };
            check.problem("spec.webhook", "does not say whom to tell", fix);
            None
        }
        _ => {
            check.problem("spec.webhook", "has more than one of url, urlSecretRef and serviceRef", "keep one");
            None
        }
    }
}

/// `scheme://name.namespace.svc:port/path`.
fn service_url(check: &mut Check<'_>, service: &ServiceRef) -> Option<String> {
    let ServiceRef { name, port, path, .. } = service;
    let field = "spec.webhook.serviceRef";
    if !names::is_label(name) {
        let fix = "use at most 63 lower-case letters, digits and -, beginning and ending with a letter or digit";
        check.problem(format!("{field}.name"), format!("is {name:?}"), fix);
        return None;
    }
    if !path.starts_with('/') {
        check.problem(format!("{field}.path"), format!("is {path:?}"), "begin it with a /");
        return None;
    }
    if *port == Some(0) {
        check.problem(format!("{field}.port"), "is 0", "choose 1 to 65535");
        return None;
    }
    let url = service.url(check.namespace);
    valid_url(check, reason::INVALID_SPEC, field, &format!("is {url:?}, "), &url)
}

fn valid_url(check: &mut Check<'_>, reason: &'static str, field: &str, found: &str, text: &str) -> Option<String> {
    const MOST: usize = 2048;
    if text.len() > MOST {
        let found = format!("is {} bytes long", text.len());
        check.problem_of(reason, field, found, format!("at most {MOST} are allowed"));
        return None;
    }
    let wrong = match Url::parse(text) {
        Err(error) => Some((format!("which is not a URL ({error})"), "write https://host/path")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Some((format!("whose scheme is {}", url.scheme()), "use http or https"))
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Some(("with a user or a password in it".to_owned(), "use auth or headers instead"))
        }
        Ok(url) if url.fragment().is_some() => {
            Some(("with a fragment, which is never sent".to_owned(), "remove the # and what follows"))
        }
        Ok(_) => None,
    };
    match wrong {
        None => Some(text.to_owned()),
        Some((why, fix)) => {
            check.problem_of(reason, field, format!("{found}{why}"), fix);
            None
        }
    }
}

fn is_event_type(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    text.len() <= 128 && text.split('.').all(part)
}
