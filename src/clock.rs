//! Our own clock: milliseconds and microseconds since the Unix epoch that never step back or jump.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::model::Millis;

/// The system's time when we started, then the monotonic clock: a step of the system's time would otherwise look like a
/// step of every node's, and move every deadline.
static START: LazyLock<(Instant, i64)> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
});

/// Microseconds since the epoch.
pub fn micros() -> i64 {
    micros_of(Instant::now())
}

/// Milliseconds since the epoch.
pub fn now() -> Millis {
    Millis(micros().div_euclid(1_000))
}

/// When an instant was, or will be.
pub fn micros_of(instant: Instant) -> i64 {
    let (start, at) = *START;
    let signed = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    if instant >= start { at + signed(instant - start) } else { at - signed(start - instant) }
}

/// The instant of a time of ours; the present for one that is long past.
pub fn instant_of(micros: i64) -> Instant {
    let (start, at) = *START;
    match u64::try_from(micros - at) {
        Ok(ahead) => start + Duration::from_micros(ahead),
        Err(_) => start,
    }
}
