//! No unpaid order stays without a key.
//!
//! An order is stored first and armed after, so a crash or a Redis that does not answer leaves it without key, and a
//! failover may lose the key: such an order would never expire. The database knows them all; this loop arms them.

use std::time::Duration;

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    database::{Armed, Database, Millis, ToArm},
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
/// A key that is there is not set again when its order is due so soon.
const TOO_LATE_MS: Millis = 2000;
/// Many: those of a shard without master, soonest due, must not keep out the others.
const BATCH: u32 = 2000;

/// Runs until it is told to stop.
pub async fn run(database: Database, keys: Keys, patience: Patience, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(PAUSE)).await.is_some() {
        match round(&database, &keys, patience).await {
            Ok((0, 0)) => {}
            Ok((armed, 0)) => info!(armed, "Armed orders that had no confirmed key."),
            Ok((armed, failed)) => warn!(armed, failed, "Could not arm all orders; trying again soon."),
            Err(error) => warn!(error = format!("{error:#}"), "Could not read which orders to arm."),
        }
    }
}

/// How many orders were armed, and how many could not be.
async fn round(database: &Database, keys: &Keys, patience: Patience) -> anyhow::Result<(usize, usize)> {
    let now = now();
    let before = |pause: Duration| now - Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX);
    let which = ToArm {
        created_before: before(patience.unarmed),
        unconfirmed_since: before(patience.unconfirmed),
        not_due_by: now + TOO_LATE_MS,
        overdue_since: before(patience.overdue),
    };
    let orders = database.to_arm(which, BATCH).await?;
    let mut arms = JoinSet::new();
    for (order, deadline) in orders {
        let (database, keys) = (database.clone(), keys.clone());
        arms.spawn(async move { arm(&database, &keys, &order, deadline).await });
    }
    let outcomes = arms.join_all().await;
    let armed = outcomes.iter().filter(|armed| **armed != Armed::No).count();
    Ok((armed, outcomes.len() - armed))
}

/// Arms one order and remembers what came of it. A failure leaves it to the loop.
///
/// An order that is paid at the same moment may get its key back here. It expires, the webhook comes, and finds the
/// order paid: nothing happens, which is why the database decides and not the key.
pub async fn arm(database: &Database, keys: &Keys, order: &str, deadline: Millis) -> Armed {
    let (armed, remembered) = match keys.arm(order, deadline, now()).await {
        // A moment ago Redis took too long; later.
        Ok(Armed::No) => return Armed::No,
        Ok(armed) => (armed, database.armed(order, armed, now()).await),
        Err(error) => {
            // Not louder: a shard without master would fill the log. The loop tells of all at once.
            debug!(order, error = format!("{error:#}"), "Could not arm the order; trying again soon.");
            (Armed::No, database.tried_to_arm(order).await)
        }
    };
    if let Err(error) = remembered {
        // The key may be there all the same; the loop sets it once more.
        warn!(order, error = format!("{error:#}"), "Could not remember whether the order is armed.");
    }
    armed
}
