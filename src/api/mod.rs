//! The resource: `RedisExpiryListener` of group `redisexpiry.io`, version `v1alpha1` (DESIGN section 6), its
//! [CustomResourceDefinition](crd()), how a document is read ([`document`]) and what both come to ([`resolve`]). No I/O:
//! secrets come through the [`Secrets`] port.
//!
//! A field is enforced or it does not exist: the CustomResourceDefinition has no others. The types have every field of the
//! design, so that a document can name one; [`resolve`] refuses one that is not enforced yet, and a value that is not, whatever
//! the default. `#[schemars(skip)]` is what keeps either out of the schema.
//!
//! The API server refuses unknown fields, so reading an object of it passes over them: a newer operator's resource can be
//! read during an update. A document has nobody else to check it, so reading one does not.

mod connection;
mod crd;
mod delivery;
pub mod document;
mod duration;
pub mod reasons;
mod reference;
pub mod resolve;
mod resource;
mod schema;
pub mod status;
mod strict;
mod webhook;

pub use connection::{
    AddressMapping, CaReference, ChangeSource, KeyspaceEvents, Mode, RedisSpec, RedisTls, SentinelSpec, StoreRedisSpec,
    StoreSpec, StoreType, WebhookTls,
};
pub use crd::{crd, crd_yaml};
pub use delivery::{
    Batch, BreakerMode, CircuitBreaker, DeliverySpec, OnGone, RateLimit, ResponseAction, ResponseRule, Retry,
};
pub use duration::Duration;
pub use reasons::{condition, reason};
pub use reference::{KeyRef, NameRef, NoValue, RefKind, Secrets, references};
pub use resolve::{Platform, Problem, Surroundings};
pub use resource::{Inferred, RedisExpiryListener, RedisExpiryListenerSpec, Resync};
pub use status::{DeliveryStatus, NodeRole, NodeStatus, RedisExpiryListenerStatus};
pub use webhook::{
    Auth, Bearer, Header, HeaderSource, Payload, PayloadFormat, ServiceRef, ServiceScheme, Signing, SigningScheme,
    Timeouts, WebhookSpec,
};

/// The only `apiVersion`.
pub const API_VERSION: &str = "redisexpiry.io/v1alpha1";
/// The annotation that says what is to become of a ledger whose deployment was changed: `Discard:CHANGE` or `Keep:CHANGE`, with
/// the change's name as the condition `Connected` says it.
pub const DEPLOYMENT_CHANGED: &str = "redisexpiry.io/deployment-changed";
/// The only `kind`.
pub const KIND: &str = "RedisExpiryListener";
