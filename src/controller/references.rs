//! The Secrets and `ConfigMaps` that listeners name: read when they are first needed, and again when the watch of their
//! metadata says that they have changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use tokio::time::timeout;

use crate::{
    api::{KeyRef, NoValue, RedisExpiryListenerSpec, RefKind, Secrets, reason, references},
    model::ListenerId,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Why a value could not be read now.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    #[error("reading {kind} {name}: {source}")]
    Failed { kind: &'static str, name: String, source: kube::Error },
    #[error("reading {kind} {name}: the API server does not answer within {PATIENCE:?}")]
    Silent { kind: &'static str, name: String },
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Values(BTreeMap<String, Vec<u8>>),
    Missing,
    /// What the API server said.
    Forbidden(String),
}

type Name = (RefKind, String, String);

/// The values behind the references of one listener.
pub struct Values(BTreeMap<(RefKind, String), Arc<Held>>);

pub struct References {
    client: Client,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By kind, namespace and name.
    held: HashMap<Name, Arc<Held>>,
    users: HashMap<Name, BTreeSet<ListenerId>>,
}

impl References {
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// An object has changed, was made or deleted: it is read again when it is needed next. Says who needs it.
    pub fn changed(&self, kind: RefKind, namespace: &str, name: &str) -> Vec<ListenerId> {
        let name = (kind, namespace.to_owned(), name.to_owned());
        let mut known = self.known();
        known.held.remove(&name);
        known.users.get(&name).into_iter().flatten().cloned().collect()
    }

    /// The listener names nothing any more.
    pub fn forget(&self, listener: &ListenerId) {
        self.note(listener, &[]);
    }

    /// All that a spec names.
    pub async fn read(&self, listener: &ListenerId, spec: &RedisExpiryListenerSpec) -> Result<Values, ReferenceError> {
        let namespace = listener.namespace();
        let wanted = references(spec);
        // First, so that a change while it is being read comes round.
        self.note(listener, &wanted);
        let mut values = BTreeMap::new();
        for (kind, name) in wanted {
            let key = (kind, namespace.to_owned(), name.clone());
            let there = self.known().held.get(&key).cloned();
            let held = if let Some(held) = there {
                held
            } else {
                let held = Arc::new(self.get(kind, namespace, &name).await?);
                self.known().held.insert(key, Arc::clone(&held));
                held
            };
            values.insert((kind, name), held);
        }
        Ok(Values(values))
    }

    fn note(&self, listener: &ListenerId, wanted: &[(RefKind, String)]) {
        let mut known = self.known();
        for users in known.users.values_mut() {
            users.remove(listener);
        }
        for (kind, name) in wanted {
            let name = (*kind, listener.namespace().to_owned(), name.clone());
            known.users.entry(name).or_default().insert(listener.clone());
        }
        known.users.retain(|_, users| !users.is_empty());
        let Known { held, users } = &mut *known;
        held.retain(|name, _| users.contains_key(name));
    }

    async fn get(&self, kind: RefKind, namespace: &str, name: &str) -> Result<Held, ReferenceError> {
        let client = self.client.clone();
        let reading = async {
            Ok(match kind {
                RefKind::Secret => Api::<Secret>::namespaced(client, namespace).get_opt(name).await?.map(|secret| {
                    secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
                }),
                RefKind::ConfigMap => {
                    Api::<ConfigMap>::namespaced(client, namespace).get_opt(name).await?.map(of_config_map)
                }
            })
        };
        let what = kind.as_str();
        match timeout(PATIENCE, reading).await {
            Err(_) => Err(ReferenceError::Silent { kind: what, name: name.to_owned() }),
            Ok(Ok(Some(values))) => Ok(Held::Values(values)),
            Ok(Ok(None)) => Ok(Held::Missing),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(Held::Forbidden(status.message)),
            Ok(Err(source)) => Err(ReferenceError::Failed { kind: what, name: name.to_owned(), source }),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_config_map(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    text.chain(binary).collect()
}

impl Secrets for Values {
    fn read(&self, kind: RefKind, namespace: &str, reference: &KeyRef) -> Result<Vec<u8>, NoValue> {
        let KeyRef { name, key } = reference;
        let what = kind.as_str();
        let no = |reason, rest: String| {
            Err(NoValue { reason, why: format!("refers to key {key} of {what} {name}, {rest}") })
        };
        match self.0.get(&(kind, name.clone())).map(|held| &**held) {
            Some(Held::Values(values)) => {
                if let Some(value) = values.get(key) {
                    return Ok(value.clone());
                }
                let keys: Vec<&str> = values.keys().map(String::as_str).collect();
                let there = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
                no(kind.key_missing(), format!("which has only {there}; add the key, or name one that is there"))
            }
            Some(Held::Forbidden(said)) => no(
                reason::REFERENCE_UNREADABLE,
                format!("which the operator may not read ({said}); see rbac in its chart"),
            ),
            Some(Held::Missing) | None => {
                no(kind.not_found(), format!("which is not in namespace {namespace}; create it there"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_there_is_said_with_the_fix() {
        let held = Held::Values([("user".to_owned(), b"a".to_vec())].into());
        let values = Values(
            [
                ((RefKind::Secret, "there".to_owned()), Arc::new(held)),
                ((RefKind::Secret, "gone".to_owned()), Arc::new(Held::Missing)),
                ((RefKind::ConfigMap, "shut".to_owned()), Arc::new(Held::Forbidden("no".into()))),
            ]
            .into(),
        );
        let read = |kind, name: &str, key: &str| {
            values.read(kind, "shop", &KeyRef { name: name.to_owned(), key: key.to_owned() })
        };
        assert_eq!(read(RefKind::Secret, "there", "user"), Ok(b"a".to_vec()));
        let missing = read(RefKind::Secret, "there", "password").unwrap_err();
        assert_eq!(missing.reason, reason::SECRET_KEY_MISSING);
        assert!(missing.why.contains("which has only user"), "{}", missing.why);
        let gone = read(RefKind::Secret, "gone", "user").unwrap_err();
        assert_eq!(gone.reason, reason::SECRET_NOT_FOUND);
        assert!(gone.why.contains("namespace shop; create it"), "{}", gone.why);
        assert_eq!(read(RefKind::ConfigMap, "shut", "user").unwrap_err().reason, reason::REFERENCE_UNREADABLE);
    }
}
