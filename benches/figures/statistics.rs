//! Order statistics of lateness, in milliseconds.

/// Sorted.
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }
    /// Of whole numbers, each of which stands for what lies between it and the next: ties are spread evenly, so that a
    /// percentile does not jump by a whole one.
    pub fn of_whole(values: Vec<f64>) -> Self {
        let mut spread = Self::new(values);
        for ties in spread.0.chunk_by_mut(|one, other| one.total_cmp(other).is_eq()) {
            let step = 1.0 / f64::from(u32::try_from(ties.len()).unwrap_or(u32::MAX));
            for (place, value) in (0_u32..).zip(ties) {
                *value += step * (f64::from(place) + 0.5);
            }
        }
        spread
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Nearest rank; NaN of nothing.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
    pub fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

/// Microseconds since the epoch: everything runs on one machine, so this is Redis's clock too.
pub fn micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds since the epoch.
pub fn millis() -> i64 {
    micros().div_euclid(1_000)
}

/// How much later `at` (microseconds) is than `deadline` (milliseconds), in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "lateness is some milliseconds")]
pub fn late(at: i64, deadline: i64) -> f64 {
    (at - deadline * 1_000) as f64 / 1_000.0
}

pub async fn sleep_until(millis_since_epoch: i64) {
    if let Ok(left) = u64::try_from(millis_since_epoch * 1_000 - micros()) {
        tokio::time::sleep(std::time::Duration::from_micros(left)).await;
    }
}
