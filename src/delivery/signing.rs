//! Standard Webhooks signatures: HMAC-SHA256 over `id.timestamp.body`, one for each key.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::plan::Secret;

/// Signs with every key at once, so that a receiver can take up a new key while the old one still counts.
pub struct Signer {
    /// Each with its key already read in: an attempt only clones it.
    keys: Vec<Hmac<Sha256>>,
}

impl Signer {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn new(keys: &[Secret]) -> Self {
        let keys =
            keys.iter().map(|key| Hmac::new_from_slice(&key.0).expect("HMAC takes a key of any length")).collect();
        Self { keys }
    }

    /// The value of `webhook-signature`: `v1,<base64>` for each key in their order, separated by spaces; `None` without
    /// keys. `timestamp` is in seconds since the Unix epoch.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
        let mut signatures = String::new();
        for key in &self.keys {
            let mut hmac = key.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                hmac.update(part);
            }
            signatures.push_str(if signatures.is_empty() { "v1," } else { " v1," });
            STANDARD.encode_string(hmac.finalize().into_bytes(), &mut signatures);
        }
        (!signatures.is_empty()).then_some(signatures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u8) -> Vec<Secret> {
        (1..=count).map(|key| Secret(vec![key; 23 + usize::from(key)])).collect()
    }

    #[test]
    fn each_keys_signature_is_that_of_the_reference_library() {
        let body = br#"{"type":"order.timeout.expired","data":{"key":"\u00fc"}}"#;
        let signed = Signer::new(&keys(3)).sign("evt_1", "1795328020", body).unwrap();
        let expected: Vec<String> = keys(3)
            .into_iter()
            .map(|key| {
                standardwebhooks::Webhook::from_bytes(key.0).unwrap().sign("evt_1", 1_795_328_020, body).unwrap()
            })
            .collect();
        assert_eq!(signed, expected.join(" "));
    }

    #[test]
    fn without_a_key_there_is_no_signature() {
        assert_eq!(Signer::new(&[]).sign("evt_1", "1", b"{}"), None);
    }
}
