//! One Redis, shared by its listeners: the topology loop and the nodes' connections.
//!
//! Hands out signals (hints, looks, the view) and takes two questions: ask (look at these keys, scan this node) and
//! refresh (the topology seems old).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{dial::Dialler, nodes::Guidance, plan::RedisPlan, topology::Refresh};

mod main;
mod port;
mod view;

pub use crate::nodes::{Answer, Heard, Look, NoAnswer, NodeData, Sort, Source, Used};
pub use port::{Looks, Port, Scanner};
pub use view::{NodeView, View};

/// A running deployment. Dropping it stops it; [`Deployment::stop`] also waits.
pub struct Deployment {
    plan: RedisPlan,
    guidance: Arc<watch::Sender<Arc<Guidance>>>,
    view: watch::Receiver<Arc<View>>,
    refresh: Refresh,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// That there are many patterns was said.
    warned: AtomicBool,
}

/// From here on they are worth a warning: facts/redis.md 3.
const MANY_PATTERNS: usize = 20;

impl Deployment {
    pub fn start(plan: RedisPlan, dialler: Dialler) -> Self {
        let guidance = Arc::new(watch::Sender::new(Arc::new(Guidance::default())));
        let (publish, view) = watch::channel(Arc::new(View::default()));
        let refresh = Refresh::default();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_running(plan.clone(), dialler, Arc::clone(&guidance), publish, refresh.clone(), stop.clone()));
        Self { plan, guidance, view, refresh, stop, tasks, warned: AtomicBool::new(false) }
    }

    pub fn plan(&self) -> &RedisPlan {
        &self.plan
    }

    /// Joins a listener: from here on its pattern is subscribed to on every node.
    pub fn join(&self, pattern: &[u8]) -> (Port, Looks) {
        let joined = Port::new(pattern, Arc::clone(&self.guidance), self.view.clone(), self.refresh.clone());
        let patterns = self.patterns();
        if patterns > MANY_PATTERNS && !self.warned.swap(true, Ordering::Relaxed) {
            let addresses = &self.plan.addresses;
            tracing::warn!(
                patterns,
                ?addresses,
                "Each key event of this Redis is matched against every pattern, at about 0.065 us a pattern: 100 of them \
                 make a write of 3 us one of 16 us. Let listeners share a pattern, or merge some."
            );
        }
        joined
    }

    /// How many different patterns are subscribed to on each node. Listeners with the same one share it.
    pub fn patterns(&self) -> usize {
        self.guidance.borrow().patterns
    }

    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "A task of the deployment failed.");
            }
        }
    }
}

/// Begins again, a little later, when the loop has ended though nobody told it to.
async fn keep_running(
    plan: RedisPlan,
    dialler: Dialler,
    guidance: Arc<watch::Sender<Arc<Guidance>>>,
    publish: watch::Sender<Arc<View>>,
    refresh: Refresh,
    stop: CancellationToken,
) {
    loop {
        let mut running = JoinSet::new();
        let (plan, dialler, guidance) = (plan.clone(), dialler.clone(), Arc::clone(&guidance));
        running.spawn(main::run(plan, dialler, guidance, publish.clone(), refresh.clone(), stop.clone()));
        if let Some(Err(error)) = running.join_next().await {
            tracing::error!(%error, "The deployment failed; it begins again.");
        }
        if stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
            return;
        }
    }
}

/// Between two runs of the loop.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

impl Drop for Deployment {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
