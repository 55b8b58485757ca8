//! `tls`, of a Redis, of sentinels, and of the webhook.

use url::Url;

use super::Check;
use crate::{
    api::{CaReference, KeyRef, NameRef, RedisTls, RefKind, WebhookTls, reason},
    tls::{Material, Tls, Wrong},
};

/// `field`: `spec.redis.tls`.
pub(super) fn redis(check: &mut Check<'_>, field: &str, spec: Option<&RedisTls>) -> Option<Tls> {
    let RedisTls { ca_ref, client_cert_secret_ref, server_name } = spec?;
    tls(check, field, ca_ref.as_ref(), client_cert_secret_ref.as_ref(), server_name.as_deref())
}

/// `url`: where it leads to.
pub(super) fn webhook(check: &mut Check<'_>, spec: Option<&WebhookTls>, url: Option<&str>) -> Option<Tls> {
    const FIELD: &str = "spec.webhook.tls";
    let WebhookTls { ca_ref, client_cert_secret_ref } = spec?;
    if url.and_then(|url| Url::parse(url).ok()).is_some_and(|url| url.scheme() == "http") {
        check.problem(FIELD, "is set, and the URL is one of http", "remove it, or use https");
    }
    tls(check, FIELD, ca_ref.as_ref(), client_cert_secret_ref.as_ref(), None)
}

fn tls(
    check: &mut Check<'_>,
    field: &str,
    ca: Option<&CaReference>,
    own: Option<&NameRef>,
    server_name: Option<&str>,
) -> Option<Tls> {
    let before = check.problems.len();
    let ca_field = format!("{field}.caRef");
    let authorities = ca.and_then(|ca| {
        let reference = KeyRef { name: ca.name.clone(), key: ca.key.clone() };
        check.referenced(&ca_field, ca.kind, &reference)
    });
    let own_field = format!("{field}.clientCertSecretRef");
    let identity = own.and_then(|own| {
        let mut part = |key: &str| check.secret(&own_field, &KeyRef { name: own.name.clone(), key: key.to_owned() });
        // One that is not there has neither.
        let chain = part("tls.crt")?;
        Some((chain, part("tls.key")?))
    });
    // What is missing is no default.
    if check.problems.len() > before {
        return None;
    }
    let server_name = server_name.map(str::to_owned);
    let wrong = match Tls::new(Material { authorities, identity, server_name }) {
        Ok(tls) => return Some(tls),
        Err(wrong) => wrong,
    };
    let of = |name: &str, key: &str, kind: RefKind| format!("refers to key {key} of {} {name}, which ", kind.as_str());
    let own_of = |key| of(own.map_or("", |own| &own.name), key, RefKind::Secret);
    match wrong {
        Wrong::Authorities(why) => {
            let kind = ca.map_or(RefKind::Secret, |ca| ca.kind);
            let found = ca.map_or_else(String::new, |ca| of(&ca.name, &ca.key, kind)) + &why;
            check.problem_of(kind.invalid(), ca_field, found, "put the authority's certificates there");
        }
        Wrong::Certificate(why) => {
            let fix = "put our certificate there, and those that lead to its authority behind it";
            check.problem_of(reason::SECRET_INVALID, own_field, own_of("tls.crt") + &why, fix);
        }
        Wrong::Key(why) => {
            let found = own_of("tls.key") + &why;
            check.problem_of(reason::SECRET_INVALID, own_field, found, "put the certificate's own key there");
        }
        Wrong::ServerName => {
            check.problem(
                format!("{field}.serverName"),
                "is no name that a certificate can have",
                "write a host name or an address",
            );
        }
    }
    None
}
