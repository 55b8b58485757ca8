//! `spec.webhook.headers`.

use super::Check;
use crate::{
    api::{Header, HeaderSource, RefKind, WebhookSpec, reason},
    plan::Secret,
};

/// Ours, or HTTP's own.
const RESERVED: [&str; 10] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "user-agent",
];
const RESERVED_PREFIXES: [&str; 3] = ["proxy-", "webhook-", "ce-"];
const LONGEST_NAME: usize = 256;
const LONGEST_VALUE: usize = 4096;

pub(super) fn headers(check: &mut Check<'_>, spec: &WebhookSpec) -> Vec<(String, Secret)> {
    check.count("spec.webhook.headers", spec.headers.len(), 0, 32, "headers");
    let mut found: Vec<(String, Secret)> = Vec::new();
    for (index, header) in spec.headers.iter().enumerate() {
        let field = format!("spec.webhook.headers[{index}]");
        let name = name(check, &field, &header.name, spec.auth.is_some());
        if spec.headers[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&header.name)) {
            let name = &header.name;
            check.problem(format!("{field}.name"), format!("is {name:?}, which is there already"), "remove one");
        }
        if let (true, Some(value)) = (name, value(check, &field, header)) {
            found.push((header.name.clone(), Secret(value)));
        }
    }
    found
}

fn name(check: &mut Check<'_>, field: &str, name: &str, authenticated: bool) -> bool {
    let field = format!("{field}.name");
    let lower = name.to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(token) {
        check.problem(field, format!("is {name:?}, which HTTP does not allow"), "use letters, digits and -");
        return false;
    }
    if RESERVED.contains(&lower.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        check.problem(field, format!("is {name:?}, which is set by us or by HTTP"), "remove it");
        return false;
    }
    if authenticated && lower == "authorization" {
        check.problem(field, format!("is {name:?}, which spec.webhook.auth sets"), "remove one of the two");
        return false;
    }
    true
}

fn value(check: &mut Check<'_>, field: &str, header: &Header) -> Option<Vec<u8>> {
    let (field, value, reason) = match (&header.value, &header.value_from) {
        (Some(value), None) => (format!("{field}.value"), value.clone().into_bytes(), reason::INVALID_SPEC),
        (None, Some(HeaderSource { secret_key_ref: Some(reference), config_map_key_ref: None })) => {
            let field = format!("{field}.valueFrom.secretKeyRef");
            let value = check.referenced(&field, RefKind::Secret, reference)?;
            (field, value, RefKind::Secret.invalid())
        }
        (None, Some(HeaderSource { secret_key_ref: None, config_map_key_ref: Some(reference) })) => {
            let field = format!("{field}.valueFrom.configMapKeyRef");
            let value = check.referenced(&field, RefKind::ConfigMap, reference)?;
            (field, value, RefKind::ConfigMap.invalid())
        }
        (None, Some(_)) => {
            let fix = "set secretKeyRef or configMapKeyRef";
            check.problem(format!("{field}.valueFrom"), "does not have exactly one source", fix);
            return None;
        }
        _ => {
            check.problem(field, "does not have exactly one of value and valueFrom", "set one of them");
            return None;
        }
    };
    is_plain(check, reason, &field, &value).then_some(value)
}

/// Whether HTTP allows it as a header's value. The value is not shown.
pub(super) fn is_plain(check: &mut Check<'_>, reason: &'static str, field: &str, value: &[u8]) -> bool {
    let allowed = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if value.len() > LONGEST_VALUE {
        let found = format!("has a value of {} bytes", value.len());
        check.problem_of(reason, field, found, format!("at most {LONGEST_VALUE} are allowed"));
        return false;
    }
    if !value.iter().all(|byte| allowed(*byte)) {
        let fix = "remove it; a line break at the end alone is taken off";
        check.problem_of(reason, field, "has a value with a control character or a line break in it", fix);
        return false;
    }
    true
}
