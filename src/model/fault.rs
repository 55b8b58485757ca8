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

    /// Why none of several did `what`. Those that are more than merely away come first: they are to be mended, and the category is
    /// that of the first. Where all are away, `fix` says what to do.
    pub fn of_all(failures: &[Self], what: &str, fix: &str) -> Self {
        let away = |fault: &Self| fault.category == FaultCategory::Unreachable;
        let mut failures: Vec<&Self> = failures.iter().collect();
        // Whom of them was asked first changes with each look, and is no news.
        failures.sort_by_key(|fault| (away(fault), fault.category.as_str(), Arc::clone(&fault.message)));
        let category = failures.first().filter(|fault| !away(fault)).map(|fault| fault.category);
        let messages: Vec<&str> = failures.iter().map(|fault| &*fault.message).take(4).collect();
        let message = format!("{what}: {}", messages.join("; "));
        match category {
            Some(category) => category.fault(message),
            None => FaultCategory::Unreachable.fault(format!("{message}; {fix}")),
        }
    }

    /// The message, for where the node has been named already: without the address that it begins with ([`Fault::at`]).
    pub fn beside(&self, node: impl fmt::Display) -> &str {
        let message: &str = &self.message;
        message.strip_prefix(&format!("{node}: ")).unwrap_or(message)
    }
}

/// `node: message`; a message that names the node already stays as it is.
pub fn of_node(node: impl fmt::Display, message: &str) -> String {
    let node = node.to_string();
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let named = message.match_indices(&node).any(|(at, _)| {
        let (before, after) = (message.as_bytes()[..at].last(), message.as_bytes().get(at + node.len()));
        !part(before) && !after.is_some_and(u8::is_ascii_digit)
    });
    if named { message.to_owned() } else { format!("{node}: {message}") }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why pushes of a node may not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotificationFault {
    /// Flags are missing. `command` adds them and keeps those there: `CONFIG SET notify-keyspace-events Kgxe$`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_once() {
        let fault = FaultCategory::Unreachable.fault("Connection refused").at("10.85.0.4:6379");
        assert_eq!(of_node("10.85.0.4:6379", &fault.message), "10.85.0.4:6379: Connection refused");
        assert_eq!(of_node("10.85.0.4:6379", "Connection refused"), "10.85.0.4:6379: Connection refused");
        assert_eq!(of_node("10.0.0.4:6379", "run it on 10.0.0.4:6379"), "run it on 10.0.0.4:6379");
        assert_eq!(of_node("10.0.0.4:637", "run it on 10.0.0.4:6379"), "10.0.0.4:637: run it on 10.0.0.4:6379");
        assert_eq!(of_node("0.0.0.4:6379", "run it on 10.0.0.4:6379"), "0.0.0.4:6379: run it on 10.0.0.4:6379");
        assert_eq!((fault.beside("10.85.0.4:6379"), fault.beside("a:1")), ("Connection refused", &*fault.message));
    }
}
