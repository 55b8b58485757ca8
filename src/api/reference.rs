//! References to Secrets and `ConfigMaps`, always in the listener's own namespace.

use serde::{Deserialize, Serialize};

/// A key of a Secret or of a `ConfigMap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRef {
    pub name: String,
    pub key: String,
}

/// A whole Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NameRef {
    pub name: String,
}

/// What a reference refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefKind {
    ConfigMap,
    Secret,
}

/// Where the values behind references come from: the Kubernetes API, or files and the environment.
pub trait Secrets {
    /// The value, or why there is none as the end of a sentence that begins with the field's name, such as "refers to
    /// key password of Secret redis-auth, which ...".
    fn read(&self, kind: RefKind, namespace: &str, reference: &KeyRef) -> Result<Vec<u8>, String>;
}
