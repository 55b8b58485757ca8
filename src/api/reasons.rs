//! The words of a status: types of conditions, and reasons. docs/status.md says what each means and what to do about it;
//! tests/status.rs holds the two together.

/// Constants, and all of them in the order in which they stand.
macro_rules! words {
    ($(#[$about:meta])* $module:ident { $($(#[$what:meta])* $name:ident = $word:literal;)* }) => {
        $(#[$about])*
        pub mod $module {
            $($(#[$what])* pub const $name: &str = $word;)*
            /// All of them.
            pub const ALL: &[&str] = &[$($name),*];
        }
    };
}

words! {
    /// Types of conditions. All are written on the first visit.
    condition {
        /// Accepted, Connected and Durable, and NotificationsEnabled not False.
        READY = "Ready";
        /// The spec can be carried out, and what it refers to is there.
        ACCEPTED = "Accepted";
        /// Every master of the watched Redis is subscribed and was scanned since.
        CONNECTED = "Connected";
        /// Every node tells of its keys' changes.
        NOTIFICATIONS_ENABLED = "NotificationsEnabled";
        /// The webhook takes what is sent. Not part of Ready: it is somebody else's job.
        DELIVERING = "Delivering";
        /// The store takes what is recorded, and will still have it tomorrow.
        DURABLE = "Durable";
    }
}

words! {
    /// Reasons. That of Ready is the one of the condition that keeps it from being True.
    reason {
        // Any condition.
        PENDING = "Pending";

        // Ready.
        LISTENING = "Listening";
        // Delivering too.
        SUSPENDED = "Suspended";

        // Accepted.
        VALID = "Valid";
        INVALID_SPEC = "InvalidSpec";
        SECRET_NOT_FOUND = "SecretNotFound";
        SECRET_KEY_MISSING = "SecretKeyMissing";
        SECRET_INVALID = "SecretInvalid";
        CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound";
        CONFIG_MAP_KEY_MISSING = "ConfigMapKeyMissing";
        CONFIG_MAP_INVALID = "ConfigMapInvalid";
        REFERENCE_UNREADABLE = "ReferenceUnreadable";
        STORE_NOT_SHARED = "StoreNotShared";

        // Connected.
        ALL_NODES_SUBSCRIBED = "AllNodesSubscribed";
        PARTIALLY_CONNECTED = "PartiallyConnected";
        CONNECTION_FAILED = "ConnectionFailed";
        AUTHENTICATION_FAILED = "AuthenticationFailed";
        PERMISSION_DENIED = "PermissionDenied";
        TLS_HANDSHAKE_FAILED = "TLSHandshakeFailed";
        TOPOLOGY_UNKNOWN = "TopologyUnknown";
        SCANNING = "Scanning";
        DEPLOYMENT_CHANGED = "DeploymentChanged";
        // Delivering too.
        EGRESS_REFUSED = "EgressRefused";

        // NotificationsEnabled.
        KEYSPACE_EVENTS_ON = "KeyspaceEventsOn";
        CLIENT_TRACKING = "ClientTracking";
        NOTIFICATIONS_DISABLED = "NotificationsDisabled";
        CANNOT_INSPECT = "CannotInspect";

        // Delivering.
        DELIVERED = "Delivered";
        IDLE = "Idle";
        SINK_UNREACHABLE = "SinkUnreachable";
        SINK_REJECTED = "SinkRejected";
        PAUSED = "Paused";

        // Durable. Behind `Store`, the categories of the store's errors.
        STORED = "Stored";
        STORE_VOLATILE = "StoreVolatile";
        STORE_FENCED = "StoreFenced";
        STORE_LOCKED = "StoreLocked";
        STORE_NEWER = "StoreNewer";
        STORE_CORRUPT = "StoreCorrupt";
        STORE_READ_ONLY = "StoreReadOnly";
        STORE_FULL = "StoreFull";
        STORE_EVICTS = "StoreEvicts";
        STORE_DENIED = "StoreDenied";
        STORE_OUT_OF_MEMORY = "StoreOutOfMemory";
        STORE_REFUSED = "StoreRefused";
        STORE_EGRESS_REFUSED = "StoreEgressRefused";
        STORE_UNSYNCED = "StoreUnsynced";
        STORE_UNAVAILABLE = "StoreUnavailable";
        STORE_CLOSED = "StoreClosed";
    }
}

impl super::RefKind {
    /// The reason where there is no such object.
    pub const fn not_found(self) -> &'static str {
        match self {
            Self::Secret => reason::SECRET_NOT_FOUND,
            Self::ConfigMap => reason::CONFIG_MAP_NOT_FOUND,
        }
    }
    /// ... where it has no such key.
    pub const fn key_missing(self) -> &'static str {
        match self {
            Self::Secret => reason::SECRET_KEY_MISSING,
            Self::ConfigMap => reason::CONFIG_MAP_KEY_MISSING,
        }
    }
    /// ... where the value cannot be used.
    pub const fn invalid(self) -> &'static str {
        match self {
            Self::Secret => reason::SECRET_INVALID,
            Self::ConfigMap => reason::CONFIG_MAP_INVALID,
        }
    }
}
