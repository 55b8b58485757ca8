//! Which Redis, and how to reach it.

use serde::{Deserialize, Serialize};

use super::{Duration, KeyRef, NameRef, RefKind};

/// The Redis to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisSpec {
    /// What kind of deployment it is.
    #[serde(default)]
    pub mode: Mode,
    /// Where to ask first, `host:port`. The other nodes are found from there.
    pub addresses: Vec<String>,
    /// Where to dial instead of what a node announces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_map: Vec<AddressMapping>,
    /// Mode `Sentinel` only.
    #[serde(default, skip_serializing_if = "SentinelSpec::is_empty")]
    pub sentinel: SentinelSpec,
    /// The logical database; a cluster has only 0.
    #[serde(default)]
    pub database: u32,
    /// The ACL user. Default: the user `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<KeyRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<KeyRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// How changes of keys are learnt of.
    #[serde(default)]
    pub change_source: ChangeSource,
    /// What to do about missing `notify-keyspace-events` flags.
    #[serde(default)]
    pub keyspace_events: KeyspaceEvents,
    /// How often the nodes are asked who owns what.
    #[serde(default = "one_second")]
    pub topology_refresh: Duration,
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    #[default]
    Cluster,
    Sentinel,
    Standalone,
}

/// Where to dial instead of what a node announces; both `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressMapping {
    pub announced: String,
    pub dial: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SentinelSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<KeyRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<KeyRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

impl SentinelSpec {
    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// TLS towards Redis or a webhook. Present, even if empty, means TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientTls {
    /// Who signs the server's certificate. Default: the system's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaReference>,
    /// Our own certificate, of type `kubernetes.io/tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<NameRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaReference {
    pub kind: RefKind,
    pub name: String,
    pub key: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeSource {
    /// Keyspace notifications where they are on.
    #[default]
    Auto,
    KeyspaceEvents,
    ClientTracking,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyspaceEvents {
    /// Say which command would set them.
    #[default]
    Observe,
    /// Add them, keeping those there.
    Enable,
}

/// Where the ledger and the outbox lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreSpec {
    #[serde(rename = "type")]
    pub store_type: StoreType,
    /// Another deployment than the watched one; type `Redis` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreType {
    Redis,
    /// One `SQLite` file.
    Local,
    /// Gone with the process.
    Memory,
}
