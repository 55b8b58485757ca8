//! What can go wrong with a store, classified once.

use std::path::PathBuf;

use super::Epoch;

/// Why a call did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("another process has taken the store over: its epoch is {}, ours {}", newest.0, mine.0)]
    Fenced { mine: Epoch, newest: Epoch },
    #[error("{} is in use by another process; give each process a --state-dir of its own, and let nothing else write there", path.display())]
    Locked { path: PathBuf },
    #[error("{} has schema version {found}, this program knows up to {known}; run the newer release that wrote it", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{} is not a ledger or is damaged ({detail}); move it away to start with an empty one: keys that are alive are found again by a scan", path.display())]
    Corrupt { path: PathBuf, detail: String },
    #[error("{} cannot be written ({detail}); make the file and its directory writable", path.display())]
    ReadOnly { path: PathBuf, detail: String },
    #[error("{} is full ({detail}); free space on its disk", path.display())]
    Full { path: PathBuf, detail: String },
    #[error(
        "the Redis of the store may evict the ledger: {node} has maxmemory-policy {policy}; run CONFIG SET maxmemory-policy noeviction on each of its nodes (or use a parameter group), or name another Redis in spec.store.redis"
    )]
    Evicts { node: String, policy: String },
    #[error(
        "the Redis of the store denies us something ({0}); grant the user of spec.store.redis, else of spec.redis, ~rx:* +eval +evalsha +@hash +@sortedset +@set +persist +pexpire +info +cluster|slots +asking"
    )]
    Denied(String),
    #[error(
        "the Redis of the store refuses the user or the password ({0}); correct the Secrets of spec.store.redis, else of spec.redis (usernameSecretRef, passwordSecretRef)"
    )]
    Authentication(String),
    #[error("the Redis of the store is out of memory ({0}); raise maxmemory or delete keys")]
    OutOfMemory(String),
    #[error("the Redis of the store takes no writes ({0}); see the log of that node")]
    Refused(String),
    #[error("the Redis of the store may not be dialled ({0}); or name another one in spec.store.redis")]
    EgressRefused(String),
    #[error("the disk did not take what was written to {} ({detail}); look at its health: the store is opened again", path.display())]
    Unsynced { path: PathBuf, detail: String },
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    #[error("the store was closed, as where its process ends; if it stays so, see the log")]
    Closed,
}

impl StoreError {
    /// A bounded word for metrics and conditions.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Fenced { .. } => "Fenced",
            Self::Locked { .. } => "Locked",
            Self::Newer { .. } => "Newer",
            Self::Corrupt { .. } => "Corrupt",
            Self::ReadOnly { .. } => "ReadOnly",
            Self::Full { .. } => "Full",
            Self::Evicts { .. } => "Evicts",
            Self::Denied(_) => "Denied",
            Self::Authentication(_) => "Authentication",
            Self::OutOfMemory(_) => "OutOfMemory",
            Self::Refused(_) => "Refused",
            Self::EgressRefused(_) => "EgressRefused",
            Self::Unsynced { .. } => "Unsynced",
            Self::Unavailable(_) => "Unavailable",
            Self::Closed => "Closed",
        }
    }

    /// Whether the same call may succeed later with no more than time or a person's help.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::ReadOnly { .. }
            | Self::Full { .. }
            | Self::Evicts { .. }
            | Self::Denied(_)
            | Self::Authentication(_)
            | Self::OutOfMemory(_)
            | Self::Refused(_)
            | Self::EgressRefused(_)
            | Self::Unavailable(_) => true,
            Self::Fenced { .. }
            | Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Corrupt { .. }
            | Self::Unsynced { .. }
            | Self::Closed => false,
        }
    }
}
