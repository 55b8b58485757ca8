//! The receiver's half of Standard Webhooks: <https://github.com/standard-webhooks/standard-webhooks>, "Signature scheme".

use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use thiserror::Error;

/// How old, or how far ahead, a request may be: a recorded one can't be played back later.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Why a request is refused. Goes into our log, not into the answer: whoever guesses is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("webhook-timestamp is not a number of seconds")]
    Timestamp,
    #[error("webhook-timestamp is more than five minutes from now")]
    Stale,
    #[error("no signature is of a key of ours")]
    Signature,
}

/// The keys with which a sender may sign; several while they are rotated.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<Vec<u8>>,
}

impl Verifier {
    /// Each secret as `whsec_` and base64, as the specification writes them.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> anyhow::Result<Self> {
        let mut keys = Vec::new();
        for (number, secret) in secrets.into_iter().enumerate() {
            let secret = secret.as_ref().trim();
            let key = BASE64_STANDARD
                .decode(secret.strip_prefix("whsec_").unwrap_or(secret))
                .with_context(|| format!("signing secret {}: want whsec_ and base64", number + 1))?;
            ensure!(
                (24..=64).contains(&key.len()),
                "signing secret {}: {} bytes, want 24 to 64",
                number + 1,
                key.len()
            );
            keys.push(key);
        }
        ensure!(!keys.is_empty(), "no signing secret: anybody could cancel orders");
        Ok(Self { keys })
    }

    /// Takes the three headers' values and the body as it came. `now` since 1970.
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: Duration,
    ) -> Result<(), Refused> {
        // Digits only: what is signed is this text, and `+5` or ` 5` would be other texts for one number.
        let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let at = timestamp.parse().ok().filter(|_| digits).ok_or(Refused::Timestamp)?;
        if Duration::from_secs(at).abs_diff(now) > TOLERANCE {
            return Err(Refused::Stale);
        }
        let offered: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|signature| BASE64_STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .collect();
        for key in &self.keys {
            // A key of any length makes an HMAC.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { continue };
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            // In constant time each.
            if offered.iter().any(|signature| mac.clone().verify_slice(signature).is_ok()) {
                return Ok(());
            }
        }
        Err(Refused::Signature)
    }
}

#[cfg(test)]
mod tests {
    use standardwebhooks::Webhook;

    use super::*;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const NOW: Duration = Duration::from_secs(1_795_328_020);

    fn signed(secret: &str, body: &str) -> String {
        Webhook::new(secret).unwrap().sign("evt_1", 1_795_328_020, body.as_bytes()).unwrap()
    }
    fn verify(verifier: &Verifier, signatures: &str, body: &str, now: Duration) -> Result<(), Refused> {
        verifier.verify("evt_1", "1795328020", signatures, body.as_bytes(), now)
    }

    #[test]
    fn what_the_reference_signs_is_accepted_with_any_of_our_keys() {
        let both = Verifier::new([NEW, OLD]).unwrap();
        for secret in [OLD, NEW] {
            assert_eq!(verify(&both, &signed(secret, "{}"), "{}", NOW), Ok(()));
        }
        let one = Verifier::new([OLD]).unwrap();
        let two_signatures = format!("{} {}", signed(NEW, "{}"), signed(OLD, "{}"));
        assert_eq!(verify(&one, &two_signatures, "{}", NOW), Ok(()));
        assert_eq!(verify(&one, &signed(NEW, "{}"), "{}", NOW), Err(Refused::Signature));
    }

    #[test]
    fn another_body_id_or_time_is_refused() {
        let one = Verifier::new([OLD]).unwrap();
        let signature = signed(OLD, "{}");
        assert_eq!(verify(&one, &signature, "{ }", NOW), Err(Refused::Signature));
        assert_eq!(one.verify("evt_2", "1795328020", &signature, b"{}", NOW), Err(Refused::Signature));
        assert_eq!(one.verify("evt_1", "1795328021", &signature, b"{}", NOW), Err(Refused::Signature));
        assert_eq!(one.verify("evt_1", "+1795328020", &signature, b"{}", NOW), Err(Refused::Timestamp));
        for wrong in ["", "v1,", "v1,!!", "v2,AAAA", &signature[..signature.len() - 4], &signature[3..]] {
            assert_eq!(verify(&one, wrong, "{}", NOW), Err(Refused::Signature), "{wrong}");
        }
    }

    #[test]
    fn five_minutes_are_tolerated_and_no_more() {
        let one = Verifier::new([OLD]).unwrap();
        let signature = signed(OLD, "{}");
        for seconds in [0, 300] {
            let off = Duration::from_secs(seconds);
            assert_eq!(verify(&one, &signature, "{}", NOW + off), Ok(()));
            assert_eq!(verify(&one, &signature, "{}", NOW.saturating_sub(off)), Ok(()));
        }
        let off = Duration::from_secs(301);
        assert_eq!(verify(&one, &signature, "{}", NOW + off), Err(Refused::Stale));
        assert_eq!(verify(&one, &signature, "{}", NOW.saturating_sub(off)), Err(Refused::Stale));
    }

    #[test]
    fn no_secret_or_a_short_one_is_refused() {
        assert!(Verifier::new::<&str>([]).is_err());
        assert!(Verifier::new(["whsec_c2hvcnQ="]).is_err());
        assert!(Verifier::new(["whsec_not base64"]).is_err());
    }
}
