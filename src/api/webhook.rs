//! Whom to tell.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Duration, KeyRef, WebhookTls,
    schema::{EVENT_TYPE, HEADER_VALUE, LABEL, PATH, within},
};

/// Whom to tell: exactly one of `url`, `urlSecretRef` and `serviceRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.url), has(self.urlSecretRef), has(self.serviceRef)].exists_one(given, given)"
    )
    .message("set exactly one of url, urlSecretRef and serviceRef")
    .reason(Reason::FieldValueRequired),
    validation = Rule::new(concat!(
        "!has(self.auth) || !has(self.headers) || ",
        "!self.headers.exists(header, header.name.lowerAscii() == 'authorization')"
    ))
    .message("auth sets the header Authorization: remove it here, or remove auth")
    .field_path(".headers")
    .reason(Reason::FieldValueForbidden)
)]
pub struct WebhookSpec {
    /// Where to send to: http or https, without user, password and fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''")
            .message("write a whole URL such as https://orders.shop.svc/internal/order-timeouts")
            .reason(Reason::FieldValueInvalid),
        validation = Rule::new("!self.matches('^[^/]*//[^/?#]*@')")
            .message("has a user or a password in it: use auth or headers instead")
            .reason(Reason::FieldValueForbidden),
        validation = Rule::new("!self.contains('#')")
            .message("has a fragment, which is never sent: remove the # and what follows")
            .reason(Reason::FieldValueInvalid)
    )]
    pub url: Option<String>,
    /// The same, from a Secret: for a URL that carries a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<KeyRef>,
    /// A Service in the listener's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<ServiceRef>,
    /// How long to wait.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What is sent.
    #[serde(default)]
    pub payload: Payload,
    /// Headers that are sent with each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new(
            "self.all(header, self.exists_one(other, other.name.lowerAscii() == header.name.lowerAscii()))"
        )
        // Not FieldValueDuplicate, with which the API server leaves the message out.
        .message("a header is there twice, for upper and lower case are the same in a name: remove one")
        .reason(Reason::FieldValueInvalid)
    )]
    pub headers: Vec<Header>,
    /// How we say who we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Signs each request as Standard Webhooks does. Default: unsigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// For a URL of https: whom we believe, and who we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<WebhookTls>,
}

/// A Service in the listener's namespace: `scheme://name.namespace.svc:port/path`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// The name of the Service.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// The port of the Service. Default: 80, or 443 where scheme is HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The path, and what may follow it behind a `?`.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = PATH))]
    pub path: String,
    /// How it is spoken to. For HTTPS the certificate has to name `name.namespace.svc`.
    #[serde(default)]
    pub scheme: ServiceScheme,
}

impl ServiceRef {
    /// `scheme://name.namespace.svc:port/path`.
    pub fn url(&self, namespace: &str) -> String {
        let Self { name, port, path, scheme } = self;
        let (scheme, usual) = match scheme {
            ServiceScheme::Http => ("http", 80),
            ServiceScheme::Https => ("https", 443),
        };
        format!("{scheme}://{name}.{namespace}.svc:{}{path}", port.unwrap_or(usual))
    }
}

impl WebhookSpec {
    /// Whom it tells, as it may be shown to whoever may see the listener: of a URL that lies in a Secret, where it lies.
    /// `None`: it does not say, or says more than one.
    pub fn shown(&self, namespace: &str) -> Option<String> {
        match (&self.url, &self.url_secret_ref, &self.service_ref) {
            (Some(url), None, None) => Some(url.clone()),
            (None, Some(KeyRef { name, key }), None) => Some(format!("secret {name}/{key}")),
            (None, None, Some(service)) => Some(service.url(namespace)),
            _ => None,
        }
    }
}

fn root() -> String {
    "/".to_owned()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServiceScheme {
    #[default]
    Http,
    Https,
}

/// How long to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.connect) <= duration(self.request)")
        .message("connect is longer than request, which includes it: make it shorter")
        .field_path(".connect")
        .reason(Reason::FieldValueInvalid)
)]
pub struct Timeouts {
    /// Until the connection stands, TLS included: 100ms to 10s, no longer than `request`.
    #[serde(default = "connect")]
    #[x_kube(validation = within("100ms", "10s"))]
    pub connect: Duration,
    /// Until the answer is there, the connection included: 100ms to 30s.
    #[serde(default = "request")]
    #[x_kube(validation = within("100ms", "30s"))]
    pub request: Duration,
}

fn connect() -> Duration {
    Duration::from_secs(2)
}
fn request() -> Duration {
    Duration::from_secs(10)
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: connect(), request: request() }
    }
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// The form of a request.
    #[serde(default)]
    pub format: PayloadFormat,
    /// The event's type: letters, digits and `_`, in parts joined by dots.
    #[serde(rename = "type", default = "event_type")]
    #[schemars(length(min = 1, max = 128), regex(pattern = EVENT_TYPE))]
    pub event_type: String,
}

fn event_type() -> String {
    "redis.key.expired".to_owned()
}

impl Default for Payload {
    fn default() -> Self {
        Self { format: PayloadFormat::default(), event_type: event_type() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PayloadFormat {
    #[default]
    StandardWebhooks,
    // Not enforced yet, nor are the others.
    #[schemars(skip)]
    CloudEventsStructured,
    #[schemars(skip)]
    CloudEventsBinary,
    #[schemars(skip)]
    CloudEventsBatch,
}

/// A header: exactly one of `value` and `valueFrom`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.valueFrom)")
        .message("set exactly one of value and valueFrom")
        .reason(Reason::FieldValueRequired)
)]
pub struct Header {
    /// The header's name. What is set by the operator or by HTTP itself is refused.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(
        validation = Rule::new("self.matches(\"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$\")")
            .message("is not a name that HTTP allows: use letters, digits and -")
            .reason(Reason::FieldValueInvalid),
        validation = Rule::new(concat!(
            "!(self.lowerAscii() in ['host', 'content-length', 'content-type', 'transfer-encoding', 'connection', ",
            "'te', 'trailer', 'upgrade', 'keep-alive', 'user-agent']) && ",
            "!self.lowerAscii().matches('^(proxy|webhook|ce)-')"
        ))
        .message("is set by the operator or by HTTP: remove this header")
        .reason(Reason::FieldValueForbidden)
    )]
    pub name: String,
    /// The value as it is. A secret one belongs into `valueFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096), regex(pattern = HEADER_VALUE))]
    pub value: Option<String>,
    /// Where the value lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderSource>,
}

/// Where a value lies: exactly one of `secretKeyRef` and `configMapKeyRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)")
        .message("set exactly one of secretKeyRef and configMapKeyRef")
        .reason(Reason::FieldValueRequired)
)]
pub struct HeaderSource {
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// A key of a `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// How we say who we are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Sends `Authorization: Bearer ...`.
    pub bearer: Bearer,
}

/// `Authorization: Bearer ...`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bearer {
    /// Where the token lies.
    pub secret_key_ref: KeyRef,
}

/// Standard Webhooks signatures, one for each key: so keys rotate without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Signing {
    /// How it is signed.
    #[serde(default)]
    pub scheme: SigningScheme,
    /// One to three keys of 24 to 64 bytes, as they are or in base64 behind `whsec_`. The first is the current one; a
    /// request carries a signature of each, so that keys rotate without a gap.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub secret_key_refs: Vec<KeyRef>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SigningScheme {
    #[default]
    #[serde(rename = "HMACSHA256")]
    HmacSha256,
    // Not enforced yet.
    #[schemars(skip)]
    Ed25519,
}
