//! What is wrong with a connection: for people in a message, for programs in a category.

use std::{fmt, sync::Arc};

/// Something is wrong, and a message that says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub category: FaultCategory,
    pub message: Arc<str>,
}

/// What sort of thing is wrong with a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCategory {
    /// Refused, too late, cut, or its name does not resolve.
    Unreachable,
    /// It does not believe who we are: NOAUTH, WRONGPASS.
    Authentication,
    /// It does not let us: NOPERM.
    Permission,
    Tls,
    NotACluster,
    /// A node's address cannot be told, or is another's too.
    Concealed,
    /// Some slots have no owner.
    Uncovered,
    /// The operator may not dial there.
    EgressRefused,
    Other,
}

impl FaultCategory {
    /// Going by the word that a Redis error begins with.
    pub fn of_code(code: &str) -> Self {
        match code {
            "NOAUTH" | "WRONGPASS" => Self::Authentication,
            "NOPERM" => Self::Permission,
            _ => Self::Other,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "Unreachable",
            Self::Authentication => "Authentication",
            Self::Permission => "Permission",
            Self::Tls => "Tls",
            Self::NotACluster => "NotACluster",
            Self::Concealed => "Concealed",
            Self::Uncovered => "Uncovered",
            Self::EgressRefused => "EgressRefused",
            Self::Other => "Other",
        }
    }

    pub fn fault(self, message: impl Into<Arc<str>>) -> Fault {
        Fault { category: self, message: message.into() }
    }
}

impl Fault {
    /// The same of something greater: `prefix: message`.
    pub fn at(self, prefix: impl fmt::Display) -> Self {
        Self { message: format!("{prefix}: {}", self.message).into(), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why pushes of a node may not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotificationFault {
    /// Flags are missing. `command` adds them and keeps those there: `CONFIG SET notify-keyspace-events Kg$xe`.
    Disabled { command: String, message: Arc<str> },
    /// The flags cannot be read, so nobody can tell.
    CannotInspect { message: Arc<str> },
}

impl NotificationFault {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Disabled { .. } => "NotificationsDisabled",
            Self::CannotInspect { .. } => "CannotInspect",
        }
    }
    pub fn message(&self) -> &Arc<str> {
        let (Self::Disabled { message, .. } | Self::CannotInspect { message }) = self;
        message
    }
    /// The same among all that can be wrong with a node.
    pub fn fault(&self) -> Fault {
        let category = match self {
            Self::Disabled { .. } => FaultCategory::Other,
            Self::CannotInspect { .. } => FaultCategory::Permission,
        };
        category.fault(Arc::clone(self.message()))
    }
}

/// Why the last attempt at a webhook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection or no answer: refused, too late, cut, or its name does not resolve.
    Unreachable,
    Tls,
    /// It answered with this status.
    Rejected(u16),
    /// The operator may not dial there.
    EgressRefused,
    /// A fault of this program.
    Other,
}

impl Failure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "Unreachable",
            Self::Tls => "Tls",
            Self::Rejected(_) => "Rejected",
            Self::EgressRefused => "EgressRefused",
            Self::Other => "Other",
        }
    }
}
