//! What is sent: the Standard Webhooks body and headers. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Settings, signing::Signer};
use crate::{
    model::{Event, Millis},
    plan::WebhookPlan,
};

const USER_AGENT_VALUE: &str = concat!("redis-expiry-operator/", env!("CARGO_PKG_VERSION"));

/// Why no request can be made of the settings.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("webhook.headers: {0:?} is not an HTTP header name")]
    HeaderName(String),
    /// The value is a secret: it is not shown.
    #[error("webhook.headers: the value of {0:?} has a byte that HTTP does not allow, such as a line break")]
    HeaderValue(String),
    #[error("webhook.auth.bearer has a byte that HTTP does not allow, such as a line break")]
    Bearer,
}

/// The body that tells of `event`. The same event and settings give the same bytes, on every attempt and in every process.
pub fn body(settings: &Settings, event: &Event) -> Vec<u8> {
    let body = Body {
        event_type: &settings.webhook.event_type,
        timestamp: rfc3339(event.settled_at),
        data: Data { settings, event },
    };
    // Writing text and numbers into memory cannot fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    timestamp: String,
    data: Data<'a>,
}

struct Data<'a> {
    settings: &'a Settings,
    event: &'a Event,
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { settings, event } = self;
        let mut data = serializer.serialize_map(None)?;
        for (name, value) in settings.id_template.read(&settings.pattern, event.key.as_bytes()) {
            bytes_entry(&mut data, &name, value)?;
        }
        bytes_entry(&mut data, "key", event.key.as_bytes())?;
        data.serialize_entry("database", &settings.database)?;
        data.serialize_entry("deadline", &rfc3339(event.deadline))?;
        data.serialize_entry("evidence", event.evidence.as_str())?;
        data.serialize_entry("listener", settings.listener.as_str())?;
        data.end()
    }
}

/// Text as it is; what is not UTF-8 as `<name>Base64`, since JSON has nothing else for it.
fn bytes_entry<M: SerializeMap>(data: &mut M, name: &str, value: &[u8]) -> Result<(), M::Error> {
    match std::str::from_utf8(value) {
        Ok(text) => data.serialize_entry(name, text),
        Err(_) => data.serialize_entry(&format!("{name}Base64"), &STANDARD.encode(value)),
    }
}

/// RFC 3339 in UTC with milliseconds. A moment beyond the year 9999 is written as the last one before.
fn rfc3339(at: Millis) -> String {
    let end = if at.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    format!("{:.3}", jiff::Timestamp::from_millisecond(at.0).unwrap_or(end))
}

/// The headers that are the same for each request.
pub fn fixed_headers(webhook: &WebhookPlan) -> Result<HeaderMap, RequestError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| RequestError::HeaderName(name.clone()))?;
        let value = secret_value(&value.0).map_err(|_| RequestError::HeaderValue(name.clone()))?;
        headers.append(parsed, value);
    }
    if let Some(bearer) = &webhook.bearer {
        let value = secret_value(&[b"Bearer ", bearer.0.as_slice()].concat()).map_err(|_| RequestError::Bearer)?;
        headers.insert(AUTHORIZATION, value);
    }
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
    Ok(headers)
}

fn secret_value(bytes: &[u8]) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_bytes(bytes)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The headers of one attempt at `now` (our clock), the `attempt`th of its event from 1 on.
pub fn headers(fixed: &HeaderMap, signer: &Signer, event: &Event, body: &[u8], attempt: u32, now: Millis) -> HeaderMap {
    let timestamp = now.0.div_euclid(1000).to_string();
    let signature = signer.sign(event.id.as_str(), &timestamp, body);
    // With room for ours and for what the client adds: a copy has none, and would grow twice.
    let mut headers = HeaderMap::with_capacity(fixed.len() + 8);
    headers.extend(fixed.iter().map(|(name, value)| (name.clone(), value.clone())));
    let own = [
        ("webhook-id", Some(event.id.as_str().to_owned())),
        ("webhook-timestamp", Some(timestamp)),
        ("webhook-signature", signature),
        ("webhook-attempt", Some(attempt.to_string())),
    ];
    for (name, text) in own {
        // Each is of visible ASCII: an id that we made, digits, base64.
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        model::{EventId, Evidence, Key, ListenerId},
        plan::{DeliveryPlan, Glob, IdTemplate, Secret},
    };

    fn settings(template: &str) -> Settings {
        Settings {
            listener: ListenerId::new("shop", "order-timeouts"),
            database: 0,
            pattern: Glob::new(b"order:pay:*").unwrap(),
            id_template: if template.is_empty() { IdTemplate::FirstStar } else { IdTemplate::parse(template).unwrap() },
            suspend: false,
            webhook: WebhookPlan {
                url: "http://127.0.0.1/".to_owned(),
                connect_timeout: Duration::from_secs(2),
                request_timeout: Duration::from_secs(10),
                event_type: "order.timeout.expired".to_owned(),
                headers: vec![("X-Api-Key".to_owned(), Secret(b"token".to_vec()))],
                bearer: Some(Secret(b"bearer-token".to_vec())),
                tls: None,
                signing_keys: Vec::new(),
            },
            delivery: DeliveryPlan {
                max_in_flight: 64,
                initial_backoff: Duration::from_millis(500),
                max_backoff: Duration::from_secs(60),
                retry_after_max: Duration::from_secs(300),
                deadline: Duration::from_secs(86_400),
            },
        }
    }

    fn event(key: impl Into<Key>) -> Event {
        Event {
            id: EventId::from("evt_1"),
            key: key.into(),
            deadline: Millis(1_795_328_020_119),
            evidence: Evidence::Witnessed,
            settled_at: Millis(1_795_328_020_123),
        }
    }

    #[test]
    fn the_body_is_the_one_of_the_design() {
        let body = body(&settings("order:pay:{orderId}"), &event("order:pay:42"));
        assert_eq!(
            String::from_utf8(body).unwrap(),
            concat!(
                r#"{"type":"order.timeout.expired","timestamp":"2026-11-22T06:13:40.123Z","data":{"orderId":"42","#,
                r#""key":"order:pay:42","database":0,"deadline":"2026-11-22T06:13:40.119Z","evidence":"Witnessed","#,
                r#""listener":"shop/order-timeouts"}}"#
            )
        );
    }

    #[test]
    fn whole_seconds_have_their_milliseconds_too_and_no_moment_is_too_far() {
        assert_eq!(rfc3339(Millis(1_000)), "1970-01-01T00:00:01.000Z");
        assert_eq!(rfc3339(Millis(-1)), "1969-12-31T23:59:59.999Z");
        assert!(rfc3339(Millis(i64::MAX)).starts_with("9999-12-"));
        assert!(rfc3339(Millis(i64::MIN)).starts_with("-009999-"));
    }

    #[test]
    fn a_key_and_an_id_that_are_not_utf8_are_given_as_base64() {
        let body = body(&settings(""), &event(b"order:pay:\xff".to_vec()));
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({
            "idBase64": "/w==", "keyBase64": "b3JkZXI6cGF5Ov8=", "database": 0, "deadline": "2026-11-22T06:13:40.119Z",
            "evidence": "Witnessed", "listener": "shop/order-timeouts",
        });
        assert_eq!(body["data"], expected);
    }

    #[test]
    fn a_key_that_is_not_of_the_templates_form_goes_without_id() {
        let body = body(&settings("order:paid:{orderId}"), &event("order:pay:42"));
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["data"]["key"], "order:pay:42");
        assert_eq!(body["data"].get("orderId"), None);
    }

    #[test]
    fn an_attempt_has_the_headers_of_standard_webhooks_and_the_configured_ones() {
        let mut settings = settings("");
        settings.webhook.headers.push(("webhook-id".to_owned(), Secret(b"forged".to_vec())));
        let fixed = fixed_headers(&settings.webhook).unwrap();
        let signer = Signer::new(&[Secret(vec![1; 24])]);
        let headers = headers(&fixed, &signer, &event("k"), b"{}", 3, Millis(1_795_328_020_999));
        let expected = [
            ("accept", "*/*"),
            ("authorization", "Bearer bearer-token"),
            ("content-type", "application/json"),
            ("user-agent", USER_AGENT_VALUE),
            ("webhook-attempt", "3"),
            ("webhook-id", "evt_1"),
            ("webhook-signature", &signer.sign("evt_1", "1795328020", b"{}").unwrap()),
            ("webhook-timestamp", "1795328020"),
            ("x-api-key", "token"),
        ];
        let mut found: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert!(headers["x-api-key"].is_sensitive() && headers["authorization"].is_sensitive());
    }

    #[test]
    fn an_unsigned_webhook_has_no_signature_header() {
        let headers = headers(&HeaderMap::new(), &Signer::new(&[]), &event("k"), b"{}", 1, Millis(0));
        assert!(!headers.contains_key("webhook-signature"));
    }

    #[test]
    fn a_header_that_http_does_not_allow_is_named_and_its_value_is_not_shown() {
        let mut webhook = settings("").webhook;
        webhook.headers = vec![("X-Token".to_owned(), Secret(b"hidden\n".to_vec()))];
        let error = fixed_headers(&webhook).unwrap_err().to_string();
        assert!(error.contains("X-Token") && !error.contains("hidden"), "{error}");
        webhook.headers = vec![("not a name".to_owned(), Secret(Vec::new()))];
        assert!(fixed_headers(&webhook).unwrap_err().to_string().contains("not a name"));
        webhook.headers.clear();
        webhook.bearer = Some(Secret(b"hidden\n".to_vec()));
        assert!(!fixed_headers(&webhook).unwrap_err().to_string().contains("hidden"));
    }
}
