//! Another deployment in the place of the one that a listener uses: the same Redis, under other credentials.
//!
//! It is joined before the first is left, so that its connections stand and the pattern is subscribed to on every node when
//! the ledger goes over to it. What nobody hears then lasts milliseconds, and the ledger begins there as after any gap.
//! To let the ledger hear both at once was refused: a life that both deployments push would be told under two ids.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::deployment::{Deployment, Looks, Port};

/// How long a deployment that works is kept for one that does not yet: a person who has set a wrong password is to see it.
const OVERLAP: Duration = Duration::from_secs(5);

pub(super) struct Successor {
    pub deployment: Arc<Deployment>,
    /// Keeps the pattern subscribed to; nobody reads it.
    joined: (Port, Looks),
    until: Instant,
}

impl Successor {
    /// `works`: the predecessor does, so there is something to wait for.
    pub fn join(deployment: Arc<Deployment>, pattern: &[u8], works: bool) -> Self {
        let joined = deployment.join(pattern);
        let wait = if works { OVERLAP } else { Duration::ZERO };
        Self { deployment, joined, until: Instant::now() + wait }
    }

    /// Waits until every master is heard, or for long enough. Cancel-safe.
    pub async fn heard(&self) {
        let pattern = self.joined.0.pattern();
        let mut view = self.deployment.view();
        let _ = timeout_at(self.until, view.wait_for(|view| view.heard(pattern))).await;
    }
}

/// Waits for the successor if there is one, else for ever.
pub(super) async fn heard(successor: Option<&Successor>) {
    match successor {
        Some(successor) => successor.heard().await,
        None => std::future::pending().await,
    }
}
