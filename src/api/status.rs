//! What the operator says about a listener. Everything may be absent, so that a part of it can be applied.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How many nodes are listed; the schema refuses more.
pub const MOST_NODES: usize = 2048;
/// How many characters of a node's error are shown; the schema refuses more.
pub const LONGEST_ERROR: usize = 1024;
/// How many characters of whom it tells are shown; the schema refuses more.
pub const LONGEST_WEBHOOK: usize = 2048;
/// How many characters a condition's message has; the schema refuses more.
pub const LONGEST_MESSAGE: usize = 32768;

/// What the operator says about the listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisExpiryListenerStatus {
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// `Ready`, and what it is made of: `Accepted`, `Connected`, `NotificationsEnabled`, `Durable`; and `Delivering`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<ConditionSchema>", length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The nodes of the watched Redis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2048))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub nodes: Vec<NodeStatus>,
    /// How many masters there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub masters: Option<i32>,
    /// How many of them are subscribed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub subscribed_masters: Option<i32>,
    /// Both in one, such as `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub subscribed: Option<String>,
    /// Whom it tells: the URL, that of the Service, or which Secret it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub webhook: Option<String>,
    /// The replica of the operator that has the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub owner: Option<String>,
    /// How many keys' deadlines are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tracked: Option<i64>,
    /// How delivery stands; it is looked at every 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryStatus>,
}

/// A node of the watched Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node's id; of a server that is not in cluster mode, its address.
    #[schemars(length(min = 1, max = 261))]
    pub id: String,
    /// Where it is dialled, as `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 261))]
    pub address: Option<String>,
    /// What it is. A replica is a standby: subscribed too, for the day it is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<NodeRole>,
    /// How many slots it owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16384))]
    pub slots: Option<i32>,
    /// Whether it tells us of changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<bool>,
    /// Since when nothing it told was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// How its changes are learnt of: `KeyspaceEvents` or `ClientTracking`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub change_source: Option<String>,
    /// Its `notify-keyspace-events`, where we may look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub notify_keyspace_events: Option<String>,
    /// What went wrong last, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeRole {
    Master,
    Replica,
}

/// How delivery stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// Events that are not delivered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub pending: Option<i64>,
    /// Events that were given up, and can be replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub dead_lettered: Option<i64>,
    /// When an event was delivered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivered_time: Option<Time>,
}

// That of `k8s_openapi` bounds nothing: these are the bounds that metav1.Condition has.
struct ConditionSchema;

impl JsonSchema for ConditionSchema {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "One thing that is so, or is not.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316, "pattern": "^[A-Za-z]([A-Za-z0-9]*[A-Za-z0-9])?$",
                    "description": "What it is about, such as `Ready`.",
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is so.",
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation of the spec that this is about.",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time", "description": "When status changed last.",
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, in one word: see docs/status.md.",
                },
                "message": {
                    "type": "string", "maxLength": 32768, "description": "Why, in a sentence, and what to do about it.",
                },
            },
        })
    }
}
