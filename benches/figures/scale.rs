//! How much of everything.

use std::time::Duration;

pub struct Scale {
    pub rounds: usize,
    /// Keys with a TTL that lie beside the orders; they are the keys of the first scan, too.
    pub others: usize,
    pub orders_a_second: u32,
    pub lateness: Duration,
    pub burst: usize,
    /// Keys due at one instant when there are very many, and those due behind them, one each millisecond.
    pub great_burst: usize,
    pub behind: usize,
    /// From arming the burst to its deadline.
    pub burst_ahead: Duration,
    pub outage: Duration,
    /// Orders a second when there are many, and for how long.
    pub many_a_second: u32,
    pub many: Duration,
    /// Keys due as fast as nobody can tell of them, and the time over which they are.
    pub sustained: usize,
    pub sustained_over: Duration,
    /// Other keys, as they grow in number, and for how long orders come beside them.
    pub beside: &'static [usize],
    pub beside_for: Duration,
    pub listeners: usize,
    pub idle: Duration,
    /// Tracked keys, as they grow.
    pub tracked: &'static [usize],
}

impl Scale {
    pub const FULL: Self = Self {
        rounds: 3,
        others: 1_000_000,
        orders_a_second: 200,
        lateness: Duration::from_secs(30),
        burst: 20_000,
        great_burst: 100_000,
        behind: 1_000,
        burst_ahead: Duration::from_secs(8),
        outage: Duration::from_secs(15),
        many_a_second: 2_000,
        many: Duration::from_secs(15),
        sustained: 200_000,
        sustained_over: Duration::from_secs(2),
        beside: &[0, 100_000, 1_000_000, 3_000_000],
        beside_for: Duration::from_secs(10),
        listeners: 100,
        idle: Duration::from_secs(20),
        tracked: &[10_000, 100_000, 1_000_000, 5_000_000],
    };
    /// Shows that it works, and no more.
    pub const QUICK: Self = Self {
        rounds: 1,
        others: 5_000,
        orders_a_second: 100,
        lateness: Duration::from_secs(2),
        burst: 500,
        great_burst: 2_000,
        behind: 200,
        burst_ahead: Duration::from_secs(2),
        outage: Duration::from_secs(2),
        many_a_second: 200,
        many: Duration::from_secs(1),
        sustained: 2_000,
        sustained_over: Duration::from_millis(200),
        beside: &[0, 1_000],
        beside_for: Duration::from_secs(1),
        listeners: 5,
        idle: Duration::from_secs(1),
        tracked: &[1_000, 2_000],
    };
}
