//! The time that truth is told by.

use redis_expiry_operator::model::Millis;

/// Everything runs on one machine, so this is Redis's clock too.
pub fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    Millis(i64::try_from(since.as_millis()).expect("the clock is before the year 292 million"))
}
