//! The resource: `RedisExpiryListener` of group `redisexpiry.io`, version `v1alpha1` (DESIGN section 6), how a document
//! is read ([`document`]) and what it comes to ([`resolve`]). No I/O: secrets come through the [`Secrets`] port.
//!
//! Every field of the design is here, so that a document can name it; a field that this version does not enforce is
//! refused by [`resolve`] when it is set to anything but its default. A field is enforced or it does not exist.

mod connection;
mod delivery;
pub mod document;
mod duration;
mod reference;
pub mod resolve;
mod resource;
mod webhook;

pub use connection::{
    AddressMapping, CaReference, ChangeSource, ClientTls, KeyspaceEvents, Mode, RedisSpec, SentinelSpec, StoreSpec,
    StoreType,
};
pub use delivery::{
    Batch, BreakerMode, CircuitBreaker, DeliverySpec, OnGone, RateLimit, ResponseAction, ResponseRule, Retry,
};
pub use duration::Duration;
pub use reference::{KeyRef, NameRef, RefKind, Secrets};
pub use resolve::{Problem, Surroundings};
pub use resource::{Inferred, Metadata, RedisExpiryListener, RedisExpiryListenerSpec, Resync};
pub use webhook::{
    Auth, Bearer, Header, HeaderSource, Payload, PayloadFormat, ServiceRef, Signing, SigningScheme, Timeouts,
    WebhookSpec,
};

/// The only `apiVersion`.
pub const API_VERSION: &str = "redisexpiry.io/v1alpha1";
/// The only `kind`.
pub const KIND: &str = "RedisExpiryListener";
