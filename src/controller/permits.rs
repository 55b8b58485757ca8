//! Lets a listener whose store another replica took take it again: when a reading of the membership since then names us.
//!
//! In a loop of its own, since it is what a listener that stands still waits for: no watch, no status and no queue holds it up.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Context, membership};
use crate::listener::{Hold, Snapshots};

/// Snapshots change with every key; so often is looked for one that is fenced.
const APART: Duration = Duration::from_millis(100);

/// Permits until `stop`.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut snapshots = context.supervisor.snapshots();
    let mut roster = context.roster.clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
            changed = roster.changed() => if changed.is_err() { return },
        }
        let now = snapshots.borrow_and_update().clone();
        permit(&context, &now);
        if stop.run_until_cancelled(sleep(APART)).await.is_none() {
            return;
        }
    }
}

fn permit(context: &Context, snapshots: &Snapshots) {
    let roster = context.roster.borrow().clone();
    let Some(read_at) = roster.read_at else { return };
    for (id, snapshot) in snapshots {
        let fenced = matches!(&snapshot.hold, Some(Hold::Store { category: "Fenced", .. }));
        if fenced && membership::owner(id.as_str(), &roster.members) == Some(&context.settings.me) {
            context.supervisor.permit(id, read_at);
        }
    }
}
