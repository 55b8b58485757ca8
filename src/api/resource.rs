//! The resource as a whole.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    DeliverySpec, Duration, RedisExpiryListenerStatus, RedisSpec, StoreSpec, WebhookSpec,
    schema::{redis_store, zero_or_within},
};
use crate::model::ListenerId;

/// Which keys of which Redis to watch, and whom to tell when one expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "redisexpiry.io",
    version = "v1alpha1",
    kind = "RedisExpiryListener",
    plural = "redisexpirylisteners",
    shortname = "rel",
    category = "redis",
    namespaced,
    status = "RedisExpiryListenerStatus",
    derive = "PartialEq",
    doc = "Turns the expiry of Redis keys into webhooks: on time, none lost, none invented.",
    selectable = ".spec.suspend",
    selectable = ".spec.redis.passwordSecretRef.name",
    selectable = ".spec.webhook.serviceRef.name",
    // An Event is named after its object, with a dot and 16 digits; a label's value has 63 characters.
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("use a name of at most 63 characters")
        .field_path(".metadata.name")
        .reason(Reason::FieldValueInvalid),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the listener is doing its job."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is, or why not: see docs/status.md."
    ),
    printcolumn(
        name = "Masters",
        type_ = "string",
        json_path = ".status.subscribed",
        description = "How many masters are subscribed, of how many."
    ),
    printcolumn(
        name = "Pending",
        type_ = "integer",
        json_path = ".status.delivery.pending",
        description = "Events that are not delivered yet."
    ),
    printcolumn(
        name = "Last Delivered",
        type_ = "date",
        json_path = ".status.delivery.lastDeliveredTime",
        description = "Since the latest delivery."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Pattern", type_ = "string", json_path = ".spec.keyPattern", priority = 1),
    printcolumn(
        name = "Webhook",
        type_ = "string",
        json_path = ".status.webhook",
        description = "Whom it tells; of a URL that lies in a Secret, where it lies.",
        priority = 1
    ),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.redis.mode", priority = 1),
    printcolumn(
        name = "Owner",
        type_ = "string",
        json_path = ".status.owner",
        description = "The replica of the operator that has it.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
pub struct RedisExpiryListenerSpec {
    /// Holds delivery; expiries are detected and kept meanwhile.
    #[serde(default)]
    pub suspend: bool,
    /// The Redis to watch.
    pub redis: RedisSpec,
    /// Which keys: a Redis glob of at most 512 bytes, such as `order:pay:*`. It is filtered on the server.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("size(bytes(self)) <= 512")
            .message("has more than 512 bytes: make it shorter")
            .reason(Reason::FieldValueInvalid)
    )]
    pub key_pattern: String,
    /// Where in the key the order's id is, such as `order:pay:{orderId}`; each name is a field of the payload's `data`, and
    /// `{{` and `}}` stand for a brace of the key. Default: what the pattern's first `*` matched, as `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('[{][A-Za-z_][A-Za-z0-9_]*[}]')")
            .message("has no name: put one in braces, such as order:pay:{orderId}")
            .reason(Reason::FieldValueInvalid)
    )]
    pub id_template: Option<String>,
    /// What to do with an expiry that was concluded rather than heard of, as after an outage: a key that was deleted
    /// meanwhile can't be told from one that expired.
    #[serde(default)]
    pub inferred: Inferred,
    /// The periodic scan that finds what was missed.
    #[serde(default)]
    pub resync: Resync,
    /// Whom to tell: exactly one of `url`, `urlSecretRef` and `serviceRef`.
    pub webhook: WebhookSpec,
    /// How to deliver.
    #[serde(default)]
    pub delivery: DeliverySpec,
    // Without Kubernetes there is another default, which is why it is not one of this type.
    /// Where the ledger of deadlines and the outbox of undelivered events lie. Default: in the watched Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(default = "redis_store")]
    pub store: Option<StoreSpec>,
}

impl RedisExpiryListener {
    /// `namespace/name`; without a namespace it is `default`.
    pub fn id(&self) -> ListenerId {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        ListenerId::new(self.metadata.namespace.as_deref().unwrap_or("default"), name)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Inferred {
    #[default]
    Deliver,
    Drop,
}

/// The periodic scan that finds what was missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resync {
    /// From one scan of a master to the next, 1s to 168h; `0s` turns it off.
    #[serde(default = "interval")]
    #[x_kube(validation = zero_or_within("1s", "168h"))]
    pub interval: Duration,
}

fn interval() -> Duration {
    Duration::from_secs(600)
}

impl Default for Resync {
    fn default() -> Self {
        Self { interval: interval() }
    }
}
