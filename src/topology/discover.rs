//! Asks the servers who they are.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use super::Topology;
use crate::{
    dial::Dialler,
    model::{Fault, NodeId},
    plan::{Mode, RedisPlan},
};

mod cluster;
mod servers;

use cluster::Cluster;
use servers::Servers;

/// The longest that one node may take to answer, connecting included.
const PATIENCE: Duration = Duration::from_millis(500);

/// Asks for a new look at the topology, at once. The only thing that goes back to this stage.
#[derive(Clone, Default)]
pub struct Refresh(Arc<Notify>);

impl Refresh {
    pub fn request(&self) {
        self.0.notify_one();
    }
    pub async fn requested(&self) {
        self.0.notified().await;
    }
}

/// A topology, and who is what it says by the word of others.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub topology: Arc<Topology>,
    /// Nodes whose roles were confirmed, each with the moment before that was asked for.
    pub confirmed: Vec<(NodeId, Instant)>,
}

/// Reads the topology of one deployment.
pub struct Discovery(Kind);

enum Kind {
    Cluster(Box<Cluster>),
    Servers(Box<Servers>),
}

impl Discovery {
    pub fn new(plan: RedisPlan, dialler: Dialler) -> Self {
        Self(match &plan.mode {
            Mode::Cluster => Kind::Cluster(Box::new(Cluster::new(plan, dialler))),
            Mode::Standalone | Mode::Sentinel(_) => Kind::Servers(Box::new(Servers::new(plan, dialler))),
        })
    }

    /// Looks once. `known`: what the look before came to; `doubted`: nodes that are not to be asked first.
    ///
    /// # Errors
    /// What each node that was asked answered, for people, when none gave a topology.
    pub async fn look(&mut self, known: &Topology, doubted: &[NodeId]) -> Result<Sighting, Fault> {
        match &mut self.0 {
            Kind::Cluster(cluster) => Box::pin(cluster.look(known, doubted)).await,
            Kind::Servers(servers) => Box::pin(servers.look()).await,
        }
    }
}

fn none(failures: &[Fault]) -> Fault {
    let fix = "correct spec.redis.addresses, or see that these nodes run and can be reached from here";
    Fault::of_all(failures, "no node tells the topology", fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FaultCategory;

    #[test]
    fn of_several_nodes_the_one_that_is_not_merely_away_says_what_sort_it_is() {
        let away = || FaultCategory::Unreachable.fault("a: connection refused");
        let wrong = || FaultCategory::Authentication.fault("b: WRONGPASS");
        assert_eq!(none(&[away(), away()]).category, FaultCategory::Unreachable);
        for faults in [[away(), wrong()], [wrong(), away()]] {
            assert_eq!(none(&faults).category, FaultCategory::Authentication);
        }
        assert_eq!(
            &*none(&[away(), wrong()]).message,
            "no node tells the topology: b: WRONGPASS; a: connection refused"
        );
    }
}
