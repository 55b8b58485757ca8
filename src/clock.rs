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

/// How often those look around who have nothing to do.
pub const AT_REST: Duration = Duration::from_secs(1);

/// The next of the moments that come once in each `period` and are the same for all: who has little to do, and need not do it at a
/// time of its own, is woken together with the others.
pub fn next(period: Duration) -> Instant {
    let ((start, _), now) = (*START, Instant::now());
    // A test's clock may stand before it.
    let Some(since) = now.checked_duration_since(start) else { return now + period };
    let into = since.as_nanos() % period.as_nanos().max(1);
    now + period - Duration::from_nanos(u64::try_from(into).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_the_next_moment_of_a_period_waits_for_the_same() {
        let period = Duration::from_millis(100);
        let (before, one, after) = (Instant::now(), next(period), Instant::now());
        assert!(one > before && one <= after + period, "{:?} ahead", one - before);
        assert_eq!((one - START.0).as_millis() % period.as_millis(), 0);
        let second = next(Duration::from_secs(1));
        assert_eq!((second - START.0).as_millis() % 1_000, 0);
    }
}
