//! Which part of a key is the id, and the body that tells it. Input: the template, a line break, the pattern, a line break, the
//! key.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use redis_expiry_operator::{
    delivery::Settings,
    fuzzing::{Part, body},
    model::{Event, EventId, Evidence, Key, ListenerId, Millis},
    plan::{DeliveryPlan, Glob, IdTemplate, WebhookPlan},
};
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let (Some(template), Some(pattern), Some(key)) = (lines.next(), lines.next(), lines.next()) else { return };
    let (Ok(template), Ok(pattern)) = (std::str::from_utf8(template), Glob::new(pattern)) else { return };
    let template = match template {
        "" => IdTemplate::FirstStar,
        template => match IdTemplate::parse(template) {
            Ok(template) => template,
            Err(_) => return,
        },
    };
    if let IdTemplate::Parts(parts) = &template {
        assert_eq!(IdTemplate::parse(&spelled(parts)).as_ref(), Ok(&template));
        let fields = template.read(&pattern, key);
        assert!(fields.is_empty() || written(parts, &values(&fields)) == key);
        // Whatever is written by the template can be read by it, if not as the same values.
        let pieces: Vec<&[u8]> = key.split(|byte| *byte == b',').collect();
        let names = parts.iter().filter(|part| matches!(part, Part::Name(_))).count();
        let chosen: Vec<&[u8]> = pieces.iter().cycle().take(names).copied().collect();
        let other = written(parts, &chosen);
        let fields = template.read(&pattern, &other);
        assert_eq!(fields.len(), names);
        assert_eq!(written(parts, &values(&fields)), other);
    }
    told(template, pattern, key);
});

fn values<'t>(fields: &[(String, &'t [u8])]) -> Vec<&'t [u8]> {
    fields.iter().map(|(_, value)| *value).collect()
}

/// The template as a user writes it.
fn spelled(parts: &[Part]) -> String {
    let part = |part: &Part| match part {
        Part::Literal(text) => String::from_utf8(text.clone()).unwrap().replace('{', "{{").replace('}', "}}"),
        Part::Name(name) => format!("{{{name}}}"),
    };
    parts.iter().map(part).collect()
}

/// The key in which the names stand for these.
fn written(parts: &[Part], values: &[&[u8]]) -> Vec<u8> {
    let mut values = values.iter();
    let mut part = |part: &Part| match part {
        Part::Literal(text) => text.clone(),
        Part::Name(_) => values.next().unwrap().to_vec(),
    };
    parts.iter().flat_map(&mut part).collect()
}

/// Each field is in the body once, with what was read.
fn told(id_template: IdTemplate, pattern: Glob, key: &[u8]) {
    let fields: Vec<(String, Vec<u8>)> =
        id_template.read(&pattern, key).into_iter().map(|(name, value)| (name, value.to_vec())).collect();
    let settings = Settings { pattern, id_template, ..settings() };
    let moment =
        |from: usize| Millis(key.get(from..from + 8).map_or(0, |bytes| i64::from_le_bytes(bytes.try_into().unwrap())));
    let event = Event {
        id: EventId::of(&settings.listener, 0, &Key::from(key), moment(0)),
        key: Key::from(key),
        deadline: moment(0),
        evidence: Evidence::Inferred,
        settled_at: moment(8),
    };
    let body = body(&settings, &event);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let data = body["data"].as_object().unwrap();
    assert_eq!(data.len(), fields.len() + 5);
    for (name, value) in fields.into_iter().chain([("key".to_owned(), key.to_vec())]) {
        let (name, text) = match String::from_utf8(value) {
            Ok(text) => (name, text),
            Err(binary) => (name + "Base64", data_encoding::BASE64.encode(binary.as_bytes())),
        };
        assert_eq!(data[&name], text);
    }
}

fn settings() -> Settings {
    Settings {
        listener: ListenerId::new("shop", "orders"),
        database: 0,
        pattern: Glob::new(b"*").unwrap(),
        id_template: IdTemplate::FirstStar,
        suspend: false,
        webhook: WebhookPlan {
            url: "http://orders/".to_owned(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            event_type: "order.timeout.expired".to_owned(),
            headers: Vec::new(),
            bearer: None,
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
