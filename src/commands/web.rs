//! The admin port of a command that runs listeners.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{
    http::{self, Served},
    probes,
};

/// Serves until `stop`; the process is alive as long as the runtime gets round to it `within` so long.
pub fn serve(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    port: TcpListener,
    served: Served,
    within: Duration,
    stop: &CancellationToken,
) {
    let ticking = probes::tick(served.probes.heart("the runtime runs tasks and timers", within), stop.clone());
    tasks.spawn(async move {
        ticking.await;
        Ok(())
    });
    let serving = http::serve(port, served, stop.clone());
    tasks.spawn(async move { serving.await.context("serving --admin-address") });
}
