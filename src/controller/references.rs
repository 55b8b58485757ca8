//! The Secrets and `ConfigMaps` that listeners name: read when they are first needed, and again when the watch of their
//! metadata says that they have changed.
//!
//! What was read is kept only if nothing was heard of the object since the reading began: it may have been read before that.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
#[derive(Default)]
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
    /// Those that are being read, and what has been heard of them since the first reading began.
    reading: HashMap<Name, Reading>,
}

#[derive(Default)]
struct Reading {
    readers: u32,
    /// How often it was heard of.
    heard: u64,
}

/// One reading, from before its question until it is dropped.
struct Reader<'a> {
    of: &'a References,
    name: Name,
    /// As it was when it began.
    heard: u64,
}

impl Reader<'_> {
    /// Keeps what was read, if it is still so.
    fn keep(&self, held: Arc<Held>) {
        let mut known = self.of.known();
        if known.reading.get(&self.name).is_some_and(|reading| reading.heard == self.heard) {
            known.held.insert(self.name.clone(), held);
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut known = self.of.known();
        if let Some(reading) = known.reading.get_mut(&self.name) {
            reading.readers -= 1;
            if reading.readers == 0 {
                known.reading.remove(&self.name);
            }
        }
    }
}

impl Known {
    /// What is known of it may be wrong.
    fn doubt(&mut self, name: &Name) {
        self.held.remove(name);
        if let Some(reading) = self.reading.get_mut(name) {
            reading.heard += 1;
        }
    }
}

impl References {
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// An object has changed, was made or deleted: it is read again when it is needed next. Says who needs it.
    pub fn changed(&self, kind: RefKind, namespace: &str, name: &str) -> Vec<ListenerId> {
        let name = (kind, namespace.to_owned(), name.to_owned());
        let mut known = self.known();
        known.doubt(&name);
        known.users.get(&name).into_iter().flatten().cloned().collect()
    }

    /// All were listed: those that are not among them, by namespace and name, are gone. Says who needs them.
    pub fn listed(
        &self,
        kind: RefKind,
        within: Option<&str>,
        listed: &HashSet<(String, String)>,
    ) -> BTreeSet<ListenerId> {
        let mut known = self.known();
        let there = |(_, namespace, name): &Name| listed.contains(&(namespace.clone(), name.clone()));
        let gone: Vec<Name> = known.users.keys().filter(|name| is_within(name, kind, within)).cloned().collect();
        let mut users = BTreeSet::new();
        for name in gone.into_iter().filter(|name| !there(name)) {
            known.doubt(&name);
            users.extend(known.users.get(&name).into_iter().flatten().cloned());
        }
        users
    }

    /// It is not told what happens to them, as where the operator may not watch: what is needed is read each time.
    pub fn doubt(&self, kind: RefKind, within: Option<&str>) {
        let mut known = self.known();
        let names: Vec<Name> = known.users.keys().filter(|name| is_within(name, kind, within)).cloned().collect();
        for name in names {
            known.doubt(&name);
        }
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
                let reader = self.reader(key);
                let held = Arc::new(self.get(kind, namespace, &name).await?);
                reader.keep(Arc::clone(&held));
                held
            };
            values.insert((kind, name), held);
        }
        Ok(Values(values))
    }

    fn reader(&self, name: Name) -> Reader<'_> {
        let mut known = self.known();
        let reading = known.reading.entry(name.clone()).or_default();
        reading.readers += 1;
        let heard = reading.heard;
        drop(known);
        Reader { of: self, name, heard }
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
        let Known { held, users, .. } = &mut *known;
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

/// Whether it is one of those that a watch of this kind, within a namespace or all of them, tells of.
fn is_within((of, namespace, _): &Name, kind: RefKind, within: Option<&str>) -> bool {
    *of == kind && within.is_none_or(|within| within == namespace)
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
mod tests;
