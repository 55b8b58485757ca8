//! Which Redis, and how to reach it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Duration, KeyRef, NameRef, RefKind,
    schema::{DATA_KEY, HostPort, SERVER_NAME, SUBDOMAIN, sentinel_alone, sentinel_given, user_with_password, within},
};

/// The Redis to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = user_with_password(),
    validation = Rule::new("self.mode != 'Cluster' || self.database == 0")
        .message("a cluster has only database 0: use 0")
        .field_path(".database")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("self.changeSource != 'ClientTracking' || self.keyspaceEvents == 'Observe'")
        .message("client tracking needs no keyspace events: use Observe, or changeSource: Auto")
        .field_path(".keyspaceEvents")
        .reason(Reason::FieldValueInvalid),
    validation = sentinel_given(),
    validation = sentinel_alone()
)]
pub struct RedisSpec {
    /// What kind of deployment it is.
    #[serde(default)]
    pub mode: Mode,
    /// Which nodes to ask first, as `host:port` or `[IPv6]:port`; in mode Sentinel the sentinels. The others are found from there.
    #[schemars(with = "Vec<HostPort>", length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub addresses: Vec<String>,
    /// Where to dial instead of what a node announces, for nodes behind NAT or in another network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["announced".into()]))]
    pub address_map: Vec<AddressMapping>,
    /// Mode `Sentinel` only: what to ask the sentinels, whose addresses `addresses` are then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<SentinelSpec>,
    /// The logical database. A cluster has only 0.
    #[serde(default)]
    #[schemars(range(max = 65535))]
    pub database: u32,
    /// The ACL user, for which `passwordSecretRef` must be set too. Default: the user `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<KeyRef>,
    /// The password. A changed Secret is used without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<KeyRef>,
    /// TLS towards the nodes. Present, even if empty, means TLS: `addresses` are those of their `tls-port`. In mode Sentinel, where
    /// `addresses` are the sentinels', those have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
    /// How changes of keys are learnt of. `KeyspaceEvents`: by keyspace notifications, which need the flags `K g $ x e` of
    /// `notify-keyspace-events` on every node, replicas too. `ClientTracking`: by CLIENT TRACKING, which needs no setting of
    /// the server but says only that something happened to a key: an order that is paid within milliseconds of its deadline,
    /// or while we are behind, may be told of as Inferred. `Auto`: by keyspace notifications on the nodes where they are on,
    /// by client tracking on those where they are off or cannot be read.
    #[serde(default)]
    pub change_source: ChangeSource,
    /// What to do about missing `notify-keyspace-events` flags: `Observe` says in the status which command would set them;
    /// `Enable` adds them, keeping those there.
    #[serde(default)]
    pub keyspace_events: KeyspaceEvents,
    /// How often the nodes are asked who owns what, 100ms to 1m. It is asked at once where something changed.
    #[serde(default = "one_second")]
    #[x_kube(validation = within("100ms", "1m"))]
    pub topology_refresh: Duration,
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    // A Redis Cluster.
    #[default]
    Cluster,
    // A master with replicas; sentinels say which of them is the master, and `addresses` are theirs.
    Sentinel,
    // One server, alone or a master with replicas, which are found from there.
    Standalone,
}

/// Where to dial instead of what a node announces; both `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressMapping {
    /// What the node announces, as `host:port`.
    #[schemars(with = "HostPort")]
    pub announced: String,
    /// Where to dial instead, as `host:port`.
    #[schemars(with = "HostPort")]
    pub dial: String,
}

/// What to ask sentinels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = user_with_password()
)]
pub struct SentinelSpec {
    /// What the sentinels call the master.
    #[schemars(length(min = 1, max = 255))]
    pub master_name: String,
    /// The sentinels' ACL user, for which `passwordSecretRef` must be set too. Default: the user `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<KeyRef>,
    /// The sentinels' password. A changed Secret is used without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<KeyRef>,
    /// TLS towards the sentinels. Present, even if empty, means TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
}

/// TLS towards a Redis. Present, even if empty, means TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisTls {
    /// Who signs the servers' certificates. Default: those whom the operator's system trusts. What changes there is used without a
    /// restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaReference>,
    /// Our own certificate: a Secret with `tls.crt` and `tls.key`, as those of type `kubernetes.io/tls`. What changes there is used
    /// without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<NameRef>,
    /// The name that the certificate of each server must have. Default: the host of its address, as it is dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SERVER_NAME))]
    pub server_name: Option<String>,
}

/// TLS towards a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTls {
    /// Who signs the receiver's certificate. Default: those whom the operator's system trusts. What changes there is used without a
    /// restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaReference>,
    /// Our own certificate: a Secret with `tls.crt` and `tls.key`, as those of type `kubernetes.io/tls`. What changes there is used
    /// without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<NameRef>,
}

/// Certificates of authorities, in PEM, in the listener's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaReference {
    /// What they lie in.
    pub kind: RefKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// The key in its data.
    #[serde(default = "ca_crt")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

fn ca_crt() -> String {
    "ca.crt".into()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChangeSource {
    #[default]
    Auto,
    KeyspaceEvents,
    ClientTracking,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyspaceEvents {
    // Say which command would set them.
    #[default]
    Observe,
    // Add them, keeping those there.
    Enable,
}

/// Where the ledger of deadlines and the outbox of undelivered events lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.redis) || self.type == 'Redis'")
        .message("redis is for type Redis only: remove it, or use type Redis")
        .field_path(".redis")
        .reason(Reason::FieldValueForbidden)
)]
pub struct StoreSpec {
    /// `Redis`: in Redis, so that replicas of the operator can take over from each other. `Local`: a file of the operator's
    /// pod, for a single replica with a volume. `Memory`: gone with the process, and with it what was not delivered yet;
    /// for a single replica too.
    #[serde(rename = "type")]
    pub store_type: StoreType,
    /// Another Redis than the watched one; type `Redis` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<StoreRedisSpec>,
}

/// Another Redis than the watched one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = user_with_password(),
    validation = sentinel_given(),
    validation = sentinel_alone()
)]
pub struct StoreRedisSpec {
    /// What kind of deployment it is.
    #[serde(default)]
    pub mode: Mode,
    /// Which nodes to ask first, as `host:port` or `[IPv6]:port`; in mode Sentinel the sentinels. The others are found from there.
    #[schemars(with = "Vec<HostPort>", length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub addresses: Vec<String>,
    /// Where to dial instead of what a node announces, for nodes behind NAT or in another network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["announced".into()]))]
    pub address_map: Vec<AddressMapping>,
    /// Mode `Sentinel` only: what to ask the sentinels, whose addresses `addresses` are then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<SentinelSpec>,
    /// The ACL user, for which `passwordSecretRef` must be set too. Default: the user `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<KeyRef>,
    /// The password. A changed Secret is used without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<KeyRef>,
    /// TLS towards the nodes. Present, even if empty, means TLS: `addresses` are those of their `tls-port`. In mode Sentinel, where
    /// `addresses` are the sentinels', those have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StoreType {
    Redis,
    Local,
    Memory,
}
