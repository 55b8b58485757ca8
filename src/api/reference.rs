//! References to Secrets and `ConfigMaps`, always in the listener's own namespace.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CaReference, RedisExpiryListenerSpec, RedisTls, WebhookTls,
    schema::{DATA_KEY, SUBDOMAIN},
};

/// A key of a Secret or a `ConfigMap` in the listener's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The name of the Secret or `ConfigMap`.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// A whole Secret in the listener's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// What a reference refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RefKind {
    ConfigMap,
    Secret,
}

impl RefKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// Where the values behind references come from: the Kubernetes API, or files and the environment.
pub trait Secrets {
    fn read(&self, kind: RefKind, namespace: &str, reference: &KeyRef) -> Result<Vec<u8>, NoValue>;
}

/// There is no value behind a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoValue {
    /// One of [`crate::api::reason`], such as `SecretNotFound`.
    pub reason: &'static str,
    /// The end of a sentence that begins with the field's name, such as "refers to key password of Secret redis-auth,
    /// which ...".
    pub why: String,
}

/// Every Secret and `ConfigMap` that a listener names, each once, sorted.
pub fn references(spec: &RedisExpiryListenerSpec) -> Vec<(RefKind, String)> {
    let (redis, webhook) = (&spec.redis, &spec.webhook);
    let mut secrets: Vec<&KeyRef> = Vec::new();
    let mut config_maps: Vec<&KeyRef> = Vec::new();
    let store = spec.store.as_ref().and_then(|store| store.redis.as_ref());
    secrets.extend(redis.username_secret_ref.iter().chain(&redis.password_secret_ref));
    secrets.extend(store.iter().flat_map(|redis| redis.username_secret_ref.iter().chain(&redis.password_secret_ref)));
    for sentinel in redis.sentinel.iter().chain(store.and_then(|redis| redis.sentinel.as_ref())) {
        secrets.extend(sentinel.username_secret_ref.iter().chain(&sentinel.password_secret_ref));
    }
    secrets.extend(&webhook.url_secret_ref);
    secrets.extend(webhook.auth.iter().map(|auth| &auth.bearer.secret_key_ref));
    secrets.extend(webhook.signing.iter().flat_map(|signing| &signing.secret_key_refs));
    for source in webhook.headers.iter().filter_map(|header| header.value_from.as_ref()) {
        secrets.extend(&source.secret_key_ref);
        config_maps.extend(&source.config_map_key_ref);
    }
    let of = |kind: RefKind| move |reference: &KeyRef| (kind, reference.name.clone());
    let mut found: Vec<(RefKind, String)> = Vec::new();
    found.extend(secrets.into_iter().map(of(RefKind::Secret)));
    found.extend(config_maps.into_iter().map(of(RefKind::ConfigMap)));
    let of_tls = |ca: &Option<CaReference>, own: &Option<NameRef>| {
        let ca = ca.iter().map(|ca| (ca.kind, ca.name.clone()));
        ca.chain(own.iter().map(|secret| (RefKind::Secret, secret.name.clone()))).collect::<Vec<_>>()
    };
    let sentinels = redis.sentinel.iter().chain(store.and_then(|redis| redis.sentinel.as_ref()));
    let nodes = redis.tls.iter().chain(store.and_then(|redis| redis.tls.as_ref()));
    for RedisTls { ca_ref, client_cert_secret_ref, .. } in
        nodes.chain(sentinels.filter_map(|sentinel| sentinel.tls.as_ref()))
    {
        found.extend(of_tls(ca_ref, client_cert_secret_ref));
    }
    if let Some(WebhookTls { ca_ref, client_cert_secret_ref }) = &webhook.tls {
        found.extend(of_tls(ca_ref, client_cert_secret_ref));
    }
    found.sort();
    found.dedup();
    found
}
