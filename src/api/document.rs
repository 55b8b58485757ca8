//! Reads documents out of a YAML file. A mistake names its field.

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use serde::{Deserialize, de::IgnoredAny};

use super::{API_VERSION, KIND, RedisExpiryListener, RedisExpiryListenerSpec, strict::Strict};

/// A document that is not a listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("document {number}: {message}")]
pub struct DocumentError {
    /// From 1.
    pub number: usize,
    /// Begins with the field's path where there is one.
    pub message: String,
}

/// A listener and which document of its file it is, from 1.
pub type Numbered = (usize, RedisExpiryListener);

/// The documents of a file; empty ones are passed over. All mistakes are given, one a document; what follows one that is
/// not YAML is not looked at.
pub fn parse(text: &str) -> (Vec<Numbered>, Vec<DocumentError>) {
    let (mut listeners, mut errors) = (Vec::new(), Vec::new());
    let documents = || serde_norway::Deserializer::from_str(text);
    for (index, ((any, loose), strict)) in documents().zip(documents()).zip(documents()).enumerate() {
        let number = index + 1;
        // Anything that is YAML can be ignored. The iterator gives what is not YAML again and again, without end.
        if let Err(error) = IgnoredAny::deserialize(any) {
            errors.push(DocumentError { number, message: format!("is not YAML: {error}") });
            break;
        }
        match read(loose, strict) {
            Ok(Some(listener)) => listeners.push((number, listener)),
            Ok(None) => {}
            Err(message) => errors.push(DocumentError { number, message }),
        }
    }
    (listeners, errors)
}

/// One document, as strictly as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: RedisExpiryListenerSpec,
    // What `kubectl get -o yaml` adds.
    #[serde(default, rename = "status")]
    _status: Option<IgnoredAny>,
}

/// The part of a Kubernetes object's metadata that matters here. The rest of it is accepted, so that the output of
/// `kubectl get -o yaml` can be run; anything else is a mistyped name and refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "uid")]
    _uid: Option<IgnoredAny>,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: Option<IgnoredAny>,
    #[serde(default, rename = "generation")]
    _generation: Option<IgnoredAny>,
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: Option<IgnoredAny>,
    #[serde(default, rename = "deletionTimestamp")]
    _deletion_timestamp: Option<IgnoredAny>,
    #[serde(default, rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: Option<IgnoredAny>,
    #[serde(default, rename = "generateName")]
    _generate_name: Option<IgnoredAny>,
    #[serde(default, rename = "selfLink")]
    _self_link: Option<IgnoredAny>,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: Option<IgnoredAny>,
    #[serde(default, rename = "finalizers")]
    _finalizers: Option<IgnoredAny>,
    #[serde(default, rename = "managedFields")]
    _managed_fields: Option<IgnoredAny>,
}

impl From<Document> for RedisExpiryListener {
    fn from(document: Document) -> Self {
        let Metadata { name, namespace, labels, annotations, .. } = document.metadata;
        let metadata = ObjectMeta { name: Some(name), namespace, labels, annotations, ..ObjectMeta::default() };
        Self { metadata, spec: document.spec, status: None }
    }
}

/// What a document says it is, whatever else is in it: a Secret is told to be a Secret rather than to have the unknown
/// field `data`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: Option<serde_norway::Value>,
    #[serde(default)]
    kind: Option<serde_norway::Value>,
}

fn read(
    loose: serde_norway::Deserializer<'_>,
    strict: serde_norway::Deserializer<'_>,
) -> Result<Option<RedisExpiryListener>, String> {
    match Option::<Head>::deserialize(loose) {
        Ok(None) => return Ok(None),
        Ok(Some(head)) => {
            expect("apiVersion", head.api_version.as_ref(), API_VERSION)?;
            expect("kind", head.kind.as_ref(), KIND)?;
        }
        // The strict reading says it better.
        Err(_) => {}
    }
    let document: Result<Document, _> = serde_path_to_error::deserialize(Strict(strict));
    document.map(|document| Some(document.into())).map_err(|error| message(&error))
}

fn expect(field: &str, found: Option<&serde_norway::Value>, wanted: &str) -> Result<(), String> {
    match found {
        None => Err(format!("{field} is missing: write `{field}: {wanted}`")),
        Some(serde_norway::Value::String(text)) if text == wanted => Ok(()),
        Some(serde_norway::Value::String(text)) => Err(format!(
            "{field} is {text:?}: only {wanted} is known here; take this document out, or write `{field}: {wanted}`"
        )),
        Some(_) => Err(format!("{field} is not text: write `{field}: {wanted}`")),
    }
}

/// `spec.webhook.payloads: unknown field, expected one of ... (line 7)`. The parser puts a path of its own, which ends
/// one field too early, before what it says, and the place behind it.
fn message(error: &serde_path_to_error::Error<serde_norway::Error>) -> String {
    let path = error.path().to_string();
    let mut said = error.inner().to_string();
    let mut place = String::new();
    if let Some(location) = error.inner().location() {
        let suffix = format!(" at line {} column {}", location.line(), location.column());
        if let Some(rest) = said.strip_suffix(&suffix) {
            said = rest.to_owned();
        }
        place = format!(" (line {})", location.line());
    }
    if path == "." {
        return format!("{said}{place}");
    }
    let ends = path.match_indices(['.', '[']).map(|(at, _)| at).chain([path.len()]);
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        if let Some(rest) = said.strip_prefix(&format!("{}: ", &path[..end])) {
            said = rest.to_owned();
            break;
        }
    }
    let field = path.rsplit('.').next().unwrap_or(&path);
    if let Some(rest) = said.strip_prefix(&format!("unknown field `{field}`")) {
        said = format!("unknown field{rest}");
    }
    format!("{path}: {said}{place}")
}
