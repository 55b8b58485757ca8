//! Names as Kubernetes allows them. They become parts of paths, so nothing else may pass.

use kube::api::ObjectMeta;

use super::Check;
use crate::api::KeyRef;

pub(super) fn metadata(check: &mut Check<'_>, metadata: &ObjectMeta) {
    let name = metadata.name.as_deref().unwrap_or_default();
    if !is_subdomain(name) {
        check.problem("metadata.name", format!("is {name:?}"), SUBDOMAIN);
    }
    if let Some(namespace) = &metadata.namespace
        && !is_label(namespace)
    {
        check.problem(
            "metadata.namespace",
            format!("is {namespace:?}"),
            "use at most 63 lower-case letters, digits and -, beginning and ending with a letter or digit",
        );
    }
}

/// Whether a reference's name and key are ones.
pub(super) fn reference(check: &mut Check<'_>, field: &str, reference: &KeyRef) -> bool {
    let name = is_subdomain(&reference.name);
    if !name {
        check.problem(format!("{field}.name"), format!("is {:?}", reference.name), SUBDOMAIN);
    }
    let key = is_key(&reference.key);
    if !key {
        check.problem(
            format!("{field}.key"),
            format!("is {:?}", reference.key),
            "use at most 253 letters, digits, -, _ and .",
        );
    }
    name && key
}

const SUBDOMAIN: &str =
    "use at most 253 lower-case letters, digits, - and ., beginning and ending with a letter or digit";

pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| plain(*byte))
        && bytes.last().is_some_and(|byte| plain(*byte))
}

fn is_key(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(allowed) && text != "." && !text.starts_with("..")
}
