//! How a command that runs listeners lets go of them.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::listener::Supervisor;

/// Stops the supervisor as soon as nobody else holds it, for which it waits as long as for attempts under way.
pub async fn end(mut supervisor: Arc<Supervisor>, patience: Duration) {
    // A request at the admin socket holds it for as long as its store takes.
    let owned = timeout(patience, async {
        loop {
            match Arc::try_unwrap(supervisor) {
                Ok(owned) => break owned,
                Err(shared) => supervisor = shared,
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    if let Ok(supervisor) = owned.await {
        supervisor.stop(patience).await;
    } else {
        tracing::error!("The admin socket did not let go of the listeners; they were not drained.");
    }
}
