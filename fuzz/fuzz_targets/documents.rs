//! A file of listeners: plans, or what is wrong with each. Input: the file, a byte 0 and the value behind every reference.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use redis_expiry_operator::{
    api::{
        KeyRef, NoValue, Platform, RedisExpiryListener, RefKind, Secrets, Surroundings, document, reason, references,
        resolve::resolve,
    },
    fuzzing::fixed_headers,
    plan::Plan,
};
use url::Url;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let Ok(text) = std::str::from_utf8(&input[..end]) else { return };
    let value = input.get(end + 1..).unwrap_or_default();
    let (listeners, errors) = document::parse(text);
    assert!(errors.iter().all(|error| error.number > 0 && !error.message.is_empty()));
    for (_, listener) in &listeners {
        for platform in [Platform::Kubernetes, Platform::Process] {
            check(listener, Surroundings { secrets: &Always(value), platform, state_dir: Path::new("state") }, text);
        }
        references(&listener.spec);
    }
});

/// What every reference refers to, but for those to `missing`.
struct Always<'a>(&'a [u8]);

impl Secrets for Always<'_> {
    fn read(&self, _: RefKind, _: &str, reference: &KeyRef) -> Result<Vec<u8>, NoValue> {
        if reference.name == "missing" {
            return Err(NoValue { reason: reason::SECRET_NOT_FOUND, why: "refers to nothing".to_owned() });
        }
        Ok(self.0.to_vec())
    }
}

fn check(listener: &RedisExpiryListener, around: Surroundings<'_>, text: &str) {
    let resolved = resolve(listener, around);
    // An object of the API server comes to the same.
    let object = serde_json::to_value(listener).unwrap();
    let object: RedisExpiryListener = serde_json::from_value(object).unwrap();
    assert_eq!(resolve(&object, around), resolved);
    match resolved {
        Ok(plan) => usable(&plan),
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                let problem = problem.to_string();
                assert!(problem.starts_with("spec.") || problem.starts_with("metadata."), "{problem}");
                silent(&problem, around, text);
            }
        }
    }
}

/// A secret is not shown to those who read what is wrong.
fn silent(problem: &str, around: Surroundings<'_>, text: &str) {
    let reference = KeyRef { name: "any".to_owned(), key: "any".to_owned() };
    let secret = around.secrets.read(RefKind::Secret, "", &reference).unwrap_or_default();
    if let Ok(secret) = std::str::from_utf8(secret.trim_ascii_end()) {
        assert!(secret.len() < 40 || text.contains(secret) || !problem.contains(secret), "{problem}");
    }
}

fn usable(plan: &Plan) {
    assert!((1..=512).contains(&plan.pattern.as_bytes().len()));
    assert!(!plan.redis.addresses.is_empty());
    assert!(fixed_headers(&plan.webhook).is_ok());
    let url = Url::parse(&plan.webhook.url).unwrap();
    assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
}
