//! `spec.webhook.signing`: keys as Standard Webhooks writes them.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::Check;
use crate::{
    api::{Signing, reason},
    plan::Secret,
};

const PREFIX: &[u8] = b"whsec_";
const MAKE_ONE: &str = "make one with: printf 'whsec_%s' \"$(head -c 32 /dev/urandom | base64 -w 0)\"";

pub(super) fn keys(check: &mut Check<'_>, signing: Option<&Signing>) -> Vec<Secret> {
    let Some(signing) = signing else { return Vec::new() };
    let field = "spec.webhook.signing.secretKeyRefs";
    check.count(field, signing.secret_key_refs.len(), 1, 3, "keys");
    let mut keys = Vec::new();
    for (index, reference) in signing.secret_key_refs.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let Some(value) = check.secret(&field, reference) else { continue };
        match key(&value) {
            Ok(key) => keys.push(Secret(key)),
            Err(found) => check.problem_of(reason::SECRET_INVALID, field, found, MAKE_ONE),
        }
    }
    keys
}

/// The raw key, of 24 to 64 bytes: what is behind `whsec_`, or the value as it is.
fn key(value: &[u8]) -> Result<Vec<u8>, String> {
    let (key, what) = match value.strip_prefix(PREFIX) {
        Some(encoded) => {
            let key = STANDARD.decode(encoded).map_err(|_| "refers to a key whose part behind whsec_ is not base64")?;
            (key, " behind whsec_")
        }
        None if value.starts_with(b"whsk_") || value.starts_with(b"whpk_") => {
            return Err("refers to an Ed25519 key, and the scheme is HMACSHA256".to_owned());
        }
        None => (value.to_vec(), ""),
    };
    match key.len() {
        24..=64 => Ok(key),
        length => Err(format!("refers to a key of {length} bytes{what}; 24 to 64 are needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_24_to_64_bytes_raw_or_behind_whsec() {
        let encoded = |length: usize| [PREFIX, STANDARD.encode(vec![7; length]).as_bytes()].concat();
        for length in [24, 32, 64] {
            assert_eq!(key(&encoded(length)), Ok(vec![7; length]));
            assert_eq!(key(&vec![b'x'; length]), Ok(vec![b'x'; length]));
        }
        for length in [1, 23, 65] {
            assert!(key(&encoded(length)).unwrap_err().contains(&format!("{length} bytes behind whsec_")));
            assert!(key(&vec![b'x'; length]).unwrap_err().contains(&format!("{length} bytes;")));
        }
        assert!(key(b"whsec_?").unwrap_err().contains("not base64"));
        assert!(key(b"whsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap_err().contains("Ed25519"));
    }
}
