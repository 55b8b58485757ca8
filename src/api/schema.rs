//! What the schema of several fields is made of.

use std::borrow::Cow;

use kube::core::{Reason, Rule};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{StoreSpec, StoreType};

/// Names of Secrets and `ConfigMaps`, as Kubernetes allows them.
pub(super) const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Names of Services.
pub(super) const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Keys of Secrets and `ConfigMaps`: neither `.` nor anything that begins with `..`.
pub(super) const DATA_KEY: &str = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$";
/// Names and addresses that a certificate can have.
pub(super) const SERVER_NAME: &str = r"^[-._:a-zA-Z0-9]+$";
/// Names of letters, digits and `_`, joined by dots.
pub(super) const EVENT_TYPE: &str = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$";
/// What HTTP allows as a header's value.
pub(super) const HEADER_VALUE: &str = r"^[^\x00-\x08\x0a-\x1f\x7f]*$";
/// A path with what may follow behind `?`.
pub(super) const PATH: &str = r"^/[^#\s]*$";

/// A duration of `least` to `most`, both included.
pub(super) fn within(least: &str, most: &str) -> Rule {
    Rule::new(format!("duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"))
        .message(format!("choose {least} to {most}").as_str())
        .reason(Reason::FieldValueInvalid)
}

/// As [`within`], or `0s`.
pub(super) fn zero_or_within(least: &str, most: &str) -> Rule {
    let rule = within(least, most);
    Rule {
        rule: format!("duration(self) == duration('0s') || ({})", rule.rule),
        message: Some(format!("choose {least} to {most}, or 0s to turn it off").as_str().into()),
        ..rule
    }
}

/// Of what has `usernameSecretRef` and `passwordSecretRef`.
pub(super) fn user_with_password() -> Rule {
    Rule::new("!has(self.usernameSecretRef) || has(self.passwordSecretRef)")
        .message("usernameSecretRef is without a password: set passwordSecretRef too")
        .field_path(".passwordSecretRef")
        .reason(Reason::FieldValueRequired)
}

/// Of what has `mode` and `sentinel`: mode Sentinel has it,
pub(super) fn sentinel_given() -> Rule {
    Rule::new("self.mode != 'Sentinel' || has(self.sentinel)")
        .message("mode Sentinel needs sentinel.masterName: what the sentinels call the master")
        .field_path(".sentinel")
        .reason(Reason::FieldValueRequired)
}

/// ... and no other.
pub(super) fn sentinel_alone() -> Rule {
    Rule::new("self.mode == 'Sentinel' || !has(self.sentinel)")
        .message("sentinel is for mode Sentinel only: remove it, or use mode Sentinel")
        .field_path(".sentinel")
        .reason(Reason::FieldValueForbidden)
}

/// A string's schema: how long it may be, and what else must hold.
fn text(longest: u32, rule: Rule) -> Schema {
    let rule = serde_json::to_value(rule).unwrap_or_default();
    json_schema!({ "type": "string", "minLength": 1, "maxLength": longest, "x-kubernetes-validations": [rule] })
}

/// The schema of a `host:port`.
pub(super) struct HostPort;

impl JsonSchema for HostPort {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "HostPort".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A host of 253, brackets, a colon, a port of five digits.
        text(
            261,
            Rule::new(concat!(
                r"self.matches('^([-._a-zA-Z0-9]+|\\[[-._%:a-zA-Z0-9]+\\]):[0-9]{1,5}$') && ",
                "int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && ",
                "int(self.substring(self.lastIndexOf(':') + 1)) <= 65535"
            ))
            .message("write host:port, such as redis-0.shop.svc:6379 or [::1]:6379")
            .reason(Reason::FieldValueInvalid),
        )
    }
}

/// The store's default in Kubernetes.
#[expect(clippy::unnecessary_wraps, reason = "it is the default of an optional field")]
pub(super) fn redis_store() -> Option<StoreSpec> {
    Some(StoreSpec { store_type: StoreType::Redis, redis: None })
}
