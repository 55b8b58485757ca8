//! How much of everything.

use std::time::Duration;

pub struct Scale {
    pub rounds: usize,
    /// Keys with a TTL that lie beside the orders; they are the keys of the first scan, too.
    pub others: usize,
    pub orders_a_second: u32,
    pub lateness: Duration,
    pub burst: usize,
    /// From arming the burst to its deadline.
    pub burst_ahead: Duration,
    pub outage: Duration,
}

impl Scale {
    pub const FULL: Self = Self {
        rounds: 3,
        others: 1_000_000,
        orders_a_second: 200,
        lateness: Duration::from_secs(30),
        burst: 20_000,
        burst_ahead: Duration::from_secs(8),
        outage: Duration::from_secs(15),
    };
    /// Shows that it works, and no more.
    pub const QUICK: Self = Self {
        rounds: 1,
        others: 5_000,
        orders_a_second: 100,
        lateness: Duration::from_secs(2),
        burst: 500,
        burst_ahead: Duration::from_secs(2),
        outage: Duration::from_secs(2),
    };
}
