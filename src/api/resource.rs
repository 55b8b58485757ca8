//! The document as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{DeliverySpec, Duration, RedisSpec, StoreSpec, WebhookSpec};
use crate::model::ListenerId;

/// One document.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisExpiryListener {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
    pub spec: RedisExpiryListenerSpec,
    // What `kubectl get -o yaml` adds.
    #[serde(default, rename = "status")]
    _status: Option<IgnoredAny>,
}

impl RedisExpiryListener {
    /// `namespace/name`; without a namespace it is `default`.
    pub fn id(&self) -> ListenerId {
        ListenerId::new(self.metadata.namespace.as_deref().unwrap_or("default"), &self.metadata.name)
    }
}

/// The part of a Kubernetes object's metadata that matters here. The rest of it is accepted, so that the output of
/// `kubectl get -o yaml` can be run; anything else is a mistyped name and refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    pub name: String,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "uid")]
    _uid: Option<IgnoredAny>,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: Option<IgnoredAny>,
    #[serde(default, rename = "generation")]
    _generation: Option<IgnoredAny>,
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: Option<IgnoredAny>,
    #[serde(default, rename = "deletionTimestamp")]
    _deletion_timestamp: Option<IgnoredAny>,
    #[serde(default, rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: Option<IgnoredAny>,
    #[serde(default, rename = "generateName")]
    _generate_name: Option<IgnoredAny>,
    #[serde(default, rename = "selfLink")]
    _self_link: Option<IgnoredAny>,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: Option<IgnoredAny>,
    #[serde(default, rename = "finalizers")]
    _finalizers: Option<IgnoredAny>,
    #[serde(default, rename = "managedFields")]
    _managed_fields: Option<IgnoredAny>,
}

/// Which keys of which Redis to watch, and whom to tell when one expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisExpiryListenerSpec {
    /// Holds delivery; detection and the outbox go on.
    #[serde(default)]
    pub suspend: bool,
    /// The Redis to watch.
    pub redis: RedisSpec,
    /// Which keys: a Redis glob, filtered on the server.
    pub key_pattern: String,
    /// Where in the key the order's id is, such as `order:pay:{orderId}`. Default: what the pattern's first `*` matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_template: Option<String>,
    /// What to do with an expiry that was concluded rather than heard of.
    #[serde(default)]
    pub inferred: Inferred,
    /// The periodic scan that finds what was missed.
    #[serde(default)]
    pub resync: Resync,
    /// Whom to tell.
    pub webhook: WebhookSpec,
    /// How to deliver.
    #[serde(default)]
    pub delivery: DeliverySpec,
    /// Where the ledger and the outbox lie. Default: `Redis` in Kubernetes, `Local` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSpec>,
}

/// What to do with an expiry that was concluded rather than heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inferred {
    #[default]
    Deliver,
    Drop,
}

/// The periodic scan that finds what was missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resync {
    /// From one scan of a master to the next; `0s` turns it off.
    pub interval: Duration,
}

impl Default for Resync {
    fn default() -> Self {
        Self { interval: Duration::from_secs(600) }
    }
}
