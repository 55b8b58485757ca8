//! What makes a listener be looked at again though its object did not change: its snapshot says something new.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::runtime::reflector::ObjectRef;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    reconcile::{Guarded, object_of},
};
use crate::{listener::Snapshot, model::ListenerId};

/// A listener's changes are looked at so often at most: status is no place for what changes faster.
const APART: Duration = Duration::from_millis(500);

/// Where the listeners of one scope are reconciled.
pub struct Outlet {
    /// `None`: all namespaces.
    pub namespace: Option<String>,
    pub tell: mpsc::Sender<ObjectRef<Guarded>>,
}

/// Tells of changes until `stop`.
pub async fn run(context: Arc<Context>, outlets: Vec<Outlet>, stop: CancellationToken) {
    let mut snapshots = context.supervisor.snapshots();
    // As last looked at, and what of it was news.
    let mut told: BTreeMap<ListenerId, (Arc<Snapshot>, Snapshot)> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
        let now = snapshots.borrow_and_update().clone();
        told.retain(|id, _| now.contains_key(id));
        for (id, snapshot) in &now {
            let old = told.get(id);
            if old.is_some_and(|(old, _)| Arc::ptr_eq(old, snapshot)) {
                continue;
            }
            let news = snapshot.news();
            let new = old.is_none_or(|(_, old)| *old != news);
            told.insert(id.clone(), (Arc::clone(snapshot), news));
            let outlet =
                outlets.iter().find(|outlet| outlet.namespace.as_deref().is_none_or(|ns| ns == id.namespace()));
            if let (true, Some(outlet)) = (new, outlet) {
                let telling = outlet.tell.send(object_of(id));
                if stop.run_until_cancelled(telling).await.is_none_or(|told| told.is_err()) {
                    return;
                }
            }
        }
        if stop.run_until_cancelled(sleep(APART)).await.is_none() {
            return;
        }
    }
}
