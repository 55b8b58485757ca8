//! How to deliver.

use serde::{Deserialize, Serialize};

use super::Duration;

/// How to deliver. The defaults lose nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeliverySpec {
    /// Requests under way at once.
    pub max_in_flight: u32,
    pub batch: Batch,
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    pub retry: Retry,
    /// From settling to giving up.
    pub deadline: Duration,
    /// Consulted before the default outcomes; the first that matches wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_rules: Vec<ResponseRule>,
    pub circuit_breaker: CircuitBreaker,
    /// What a 410 means.
    pub on_gone: OnGone,
}

impl Default for DeliverySpec {
    fn default() -> Self {
        Self {
            max_in_flight: 64,
            batch: Batch::default(),
            rate_limit: None,
            retry: Retry::default(),
            deadline: Duration::from_secs(24 * 3600),
            response_rules: Vec::new(),
            circuit_breaker: CircuitBreaker::default(),
            on_gone: OnGone::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    pub requests_per_second: u32,
    /// Default: `requestsPerSecond`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// Full jitter between nothing and the backoff, which doubles with each attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    /// The longest `Retry-After` that is honoured; `0s` ignores the header.
    pub retry_after_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(300),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnGone {
    /// Stop sending, keep everything.
    #[default]
    Pause,
    DeadLetter,
    Retry,
}
