//! A listener's settings, resolved and validated: no Kubernetes types, no references to Secrets.
//! Made by [`crate::api`] from the resource and by nobody else; every stage reads its own part.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{
    model::{Address, Key, ListenerId},
    tls::Tls,
};

pub mod glob;
pub(crate) mod template;

pub use glob::{Glob, GlobError};
pub use template::{IdTemplate, TemplateError};

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub Vec<u8>);

impl Secret {
    /// As text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub listener: ListenerId,
    /// Holds delivery; detection and the outbox go on.
    pub suspend: bool,
    pub redis: RedisPlan,
    pub pattern: Glob,
    pub id_template: IdTemplate,
    pub inferred: Inferred,
    /// `None`: no periodic scan.
    pub resync_interval: Option<Duration>,
    pub webhook: WebhookPlan,
    pub delivery: DeliveryPlan,
    pub store: StorePlan,
    /// What the user has said of a change of the deployment.
    pub answer: Option<Answer>,
}

/// What is to become of a ledger that belongs to another deployment (DESIGN rule 14). It is about one change and no other, so
/// that an answer that is still there does nothing when the deployment changes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The change, by the name that the listener gives it while it holds: lower-case hexadecimal digits.
    pub change: String,
    /// Its entries are about keys of the new deployment too; else they are dropped.
    pub keep: bool,
}

/// Which Redis, and how. Listeners with equal ones share a deployment, in whatever order their addresses are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisPlan {
    pub mode: Mode,
    pub addresses: Vec<Address>,
    /// Where to dial instead of what a node announces.
    pub address_map: Vec<(Address, Address)>,
    pub database: u32,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// `None`: without TLS.
    pub tls: Option<Tls>,
    pub change_source: ChangeSource,
    pub keyspace_events: KeyspaceEvents,
    pub topology_refresh: Duration,
}

impl RedisPlan {
    /// The same for two that list the same addresses.
    pub fn in_any_order(&self) -> Self {
        let mut plan = self.clone();
        plan.addresses.sort_unstable();
        plan.addresses.dedup();
        plan.address_map.sort_unstable();
        plan
    }
}

/// What kind of deployment it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    Cluster,
    /// One server, alone or with replicas.
    Standalone,
    /// The same, and sentinels say which of them is the master: the addresses are theirs.
    Sentinel(SentinelPlan),
}

impl Mode {
    /// The same but for who we are to the sentinels.
    pub fn leads_to(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sentinel(one), Self::Sentinel(other)) => one.master_name == other.master_name,
            _ => self == other,
        }
    }
}

/// What sentinels are asked, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SentinelPlan {
    pub master_name: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// `None`: without TLS.
    pub tls: Option<Tls>,
}

/// How we learn that something happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeSource {
    /// Each node by keyspace events where they are on, else by client tracking.
    Auto,
    KeyspaceEvents,
    ClientTracking,
}

/// What to do about missing `notify-keyspace-events` flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyspaceEvents {
    /// Say which command would set them.
    Observe,
    /// Add them, keeping those there.
    Enable,
}

/// What to do with events that nobody pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inferred {
    Deliver,
    Drop,
}

/// Whom to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookPlan {
    /// http or https, without userinfo and fragment.
    pub url: String,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// `type` of the payload.
    pub event_type: String,
    /// Sent with each request, in this order.
    pub headers: Vec<(String, Secret)>,
    /// `Authorization: Bearer`.
    pub bearer: Option<Secret>,
    /// Whom we believe and who we are, where the system's authorities and nobody will not do.
    pub tls: Option<Tls>,
    /// HMAC-SHA256 keys, raw, 24 to 64 bytes; one signature each. Empty: unsigned.
    pub signing_keys: Vec<Secret>,
}

/// How to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPlan {
    pub max_in_flight: usize,
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    /// The longest `Retry-After` that is honoured; zero ignores the header.
    pub retry_after_max: Duration,
    /// From settling to giving up.
    pub deadline: Duration,
}

/// Where the ledger and the outbox lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlan {
    Memory,
    /// One `SQLite` file.
    Local {
        path: PathBuf,
    },
    /// A Redis, the watched one or another: stores that name the same one share their connections.
    Redis {
        redis: RedisPlan,
    },
}

impl Plan {
    /// Whether the listener has anything to do with the key. Keys of a store of ours are never looked at, whatever
    /// the pattern (DESIGN rule 5).
    pub fn covers(&self, key: &Key) -> bool {
        self.pattern.matches(key.as_bytes()) && !key.as_bytes().starts_with(STORE_PREFIX)
    }
}

/// What every key of the Redis store begins with.
pub const STORE_PREFIX: &[u8] = b"rx:{";
