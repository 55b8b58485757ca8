//! How to deliver.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, schema::within};

/// How to deliver. The defaults lose nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliverySpec {
    /// Requests under way at once.
    #[serde(default = "max_in_flight")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_in_flight: u32,
    // Not enforced yet: src/api/resolve/unenforced.rs. Nor is the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub batch: Option<Batch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub rate_limit: Option<RateLimit>,
    /// When to try again. A wait is drawn between nothing and the backoff, which doubles with each attempt.
    #[serde(default)]
    pub retry: Retry,
    /// How long an event is tried for before it is parked as a dead letter, 1s to 168h.
    #[serde(default = "deadline")]
    #[x_kube(validation = within("1s", "168h"))]
    pub deadline: Duration,
    // Not enforced yet, nor is the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub response_rules: Option<Vec<ResponseRule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// What an answer 410 Gone means. `Pause`: stop sending, keep everything.
    #[serde(default)]
    pub on_gone: OnGone,
}

fn max_in_flight() -> u32 {
    64
}
fn deadline() -> Duration {
    Duration::from_secs(24 * 3600)
}

impl Default for DeliverySpec {
    fn default() -> Self {
        Self {
            max_in_flight: max_in_flight(),
            batch: None,
            rate_limit: None,
            retry: Retry::default(),
            deadline: deadline(),
            response_rules: None,
            circuit_breaker: None,
            on_gone: OnGone::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Batch {
    pub max_events: u32,
    pub max_wait: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self { max_events: 1, max_wait: Duration::ZERO }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    pub requests_per_second: u32,
    /// Default: `requestsPerSecond`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// When to try again. A wait is drawn between nothing and the backoff, which doubles with each attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.maxBackoff) >= duration(self.initialBackoff)")
        .message("maxBackoff is shorter than initialBackoff: make it longer")
        .field_path(".maxBackoff")
        .reason(Reason::FieldValueInvalid)
)]
pub struct Retry {
    /// The first backoff, 50ms to 1m.
    #[serde(default = "initial_backoff")]
    #[x_kube(validation = within("50ms", "1m"))]
    pub initial_backoff: Duration,
    /// The longest backoff, `initialBackoff` to 1h.
    #[serde(default = "max_backoff")]
    #[x_kube(validation = within("50ms", "1h"))]
    pub max_backoff: Duration,
    /// The longest `Retry-After` of an answer that is honoured, 0s to 1h; `0s` ignores the header.
    #[serde(default = "retry_after_max")]
    #[x_kube(validation = within("0s", "1h"))]
    pub retry_after_max: Duration,
}

fn initial_backoff() -> Duration {
    Duration::from_millis(500)
}
fn max_backoff() -> Duration {
    Duration::from_secs(60)
}
fn retry_after_max() -> Duration {
    Duration::from_secs(300)
}

impl Default for Retry {
    fn default() -> Self {
        Self { initial_backoff: initial_backoff(), max_backoff: max_backoff(), retry_after_max: retry_after_max() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseRule {
    /// `409` or `500-599`.
    pub codes: Vec<String>,
    pub action: ResponseAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResponseAction {
    Acknowledge,
    Retry,
    DeadLetter,
    Pause,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CircuitBreaker {
    pub mode: BreakerMode,
    pub consecutive_failures: u32,
    pub open_for: Duration,
    pub max_open_for: Duration,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            mode: BreakerMode::default(),
            consecutive_failures: 10,
            open_for: Duration::from_secs(5),
            max_open_for: Duration::from_secs(60),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BreakerMode {
    #[default]
    Enabled,
    Disabled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnGone {
    #[default]
    Pause,
    // Not enforced yet, nor is the next.
    #[schemars(skip)]
    DeadLetter,
    #[schemars(skip)]
    Retry,
}
