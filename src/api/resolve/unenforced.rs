//! Fields of the design that this version does not enforce. Ignoring one would be a silent broken promise, whatever it is set
//! to: what the CustomResourceDefinition does not have is refused wherever it stands.

use super::Check;
use crate::api::{OnGone, PayloadFormat, RedisExpiryListenerSpec, SigningScheme};

pub(super) fn refuse(check: &mut Check<'_>, spec: &RedisExpiryListenerSpec) {
    let mut refuse = |set: bool, field: &str, found: &str, fix: &str| {
        if set {
            check.problem(field, format!("{found}is not enforced by this version yet"), fix);
        }
    };
    let (webhook, delivery) = (&spec.webhook, &spec.delivery);
    let format = format!("{:?} ", webhook.payload.format);
    let standard = webhook.payload.format == PayloadFormat::StandardWebhooks;
    refuse(!standard, "spec.webhook.payload.format", &format, "use StandardWebhooks");
    let ed25519 = webhook.signing.as_ref().is_some_and(|signing| signing.scheme == SigningScheme::Ed25519);
    refuse(ed25519, "spec.webhook.signing.scheme", "Ed25519 ", "use HMACSHA256");
    refuse(delivery.batch.is_some(), "spec.delivery.batch", "", "remove it; each event has its own request");
    refuse(delivery.rate_limit.is_some(), "spec.delivery.rateLimit", "", "remove it; maxInFlight bounds the load");
    refuse(delivery.response_rules.is_some(), "spec.delivery.responseRules", "", "remove it");
    refuse(delivery.circuit_breaker.is_some(), "spec.delivery.circuitBreaker", "", "remove it");
    let gone = format!("{:?} ", delivery.on_gone);
    refuse(delivery.on_gone != OnGone::Pause, "spec.delivery.onGone", &gone, "use Pause");
}
