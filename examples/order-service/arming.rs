//! No unpaid order stays without a key.
//!
//! An order is stored first and armed after, so a crash or a Redis that does not answer leaves it without key, and a
//! failover may lose the key: such an order would never expire. The database knows them all; this loop arms them.

use std::time::Duration;

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    database::{Armed, Database, Millis},
    keys::Keys,
    service::now,
};

/// When the loop takes an order for one that needs arming.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Not armed so long after it was stored: whoever stored it has given up, or is gone.
    pub unarmed: Duration,
    /// Armed so long ago, and no replica had confirmed. Again with each pause, until one does.
    pub unconfirmed: Duration,
    /// Still unpaid so long after its deadline: something lost it that should not have. It gets a new key.
    pub overdue: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { unarmed: Duration::from_secs(1), unconfirmed: Duration::from_secs(5), overdue: Duration::from_secs(60) }
    }
}

const PAUSE: Duration = Duration::from_millis(200);
const BATCH: u32 = 256;

/// Runs until it is told to stop.
pub async fn run(database: Database, keys: Keys, patience: Patience, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(PAUSE)).await.is_some() {
        match round(&database, &keys, patience).await {
            Ok(0) => {}
            Ok(armed) => info!(armed, "Armed orders that had no confirmed key."),
            Err(error) => warn!(error = format!("{error:#}"), "Could not read which orders to arm."),
        }
    }
}

async fn round(database: &Database, keys: &Keys, patience: Patience) -> anyhow::Result<usize> {
    let before = |pause: Duration| now() - Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX);
    let orders = database
        .to_arm(before(patience.unarmed), before(patience.unconfirmed), before(patience.overdue), BATCH)
        .await?;
    let mut arms = JoinSet::new();
    for (order, deadline) in orders {
        let (database, keys) = (database.clone(), keys.clone());
        arms.spawn(async move { arm(&database, &keys, &order, deadline).await });
    }
    Ok(arms.join_all().await.into_iter().filter(|armed| *armed != Armed::No).count())
}

/// Arms one order and remembers what came of it. A failure leaves it to the loop.
///
/// An order that is paid at the same moment may get its key back here. It expires, the webhook comes, and finds the
/// order paid: nothing happens, which is why the database decides and not the key.
pub async fn arm(database: &Database, keys: &Keys, order: &str, deadline: Millis) -> Armed {
    let armed = match keys.arm(order, deadline, now()).await {
        Ok(armed) => armed,
        Err(error) => {
            warn!(order, error = format!("{error:#}"), "Could not arm the order; trying again soon.");
            return Armed::No;
        }
    };
    if let Err(error) = database.armed(order, armed, now()).await {
        // The key is there all the same; the loop sets it once more.
        warn!(order, error = format!("{error:#}"), "Could not remember that the order is armed.");
    }
    armed
}
