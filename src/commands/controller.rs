//! `controller`: the operator, in a cluster.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use kube::{Client, Config};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{ending, run::signals::Signals, web};
use crate::{
    api,
    controller::{
        self, Context, Settings,
        membership::{self, Membership},
    },
    dial::{Cidr, Dialler, Egress},
    listener::{Fencing, OnDeploymentChange, Supervisor},
    meters::Operator,
    telemetry::{
        admin::{self, Running},
        http::{self, Served},
        probes::{Gate, Probes},
    },
};

#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// Watch only these namespaces. Default: all.
    #[arg(long, env, value_delimiter = ',', value_name = "NAMESPACE")]
    watch_namespace: Vec<String>,
    /// Watch only listeners with these labels, such as `team=shop`.
    #[arg(long, env, value_name = "SELECTOR")]
    watch_label_selector: Option<String>,
    /// What this replica is called among the others. Default: the host name.
    #[arg(long, env, value_name = "NAME")]
    pod_name: Option<String>,
    /// The uid of that pod: its Lease is removed with it, however it ends. Default: there is no such pod.
    #[arg(long, env, value_name = "UID")]
    pod_uid: Option<String>,
    /// Where the replicas' Leases lie. Default: the namespace of the pod, or of the kubeconfig's context.
    #[arg(long, env, value_name = "NAMESPACE")]
    pod_namespace: Option<String>,
    /// How many replicas are meant to run; above 1, stores of one process (Local, Memory) are refused.
    #[arg(long, env, default_value_t = 1, value_name = "COUNT")]
    replicas: u32,
    /// From one renewal of this replica's Lease to the next.
    #[arg(long, env, default_value = "2s", value_parser = super::run::duration, value_name = "DURATION")]
    lease_renew: Duration,
    /// A replica whose Lease was not renewed for so long is dead: the others take its listeners.
    #[arg(long, env, default_value = "6s", value_parser = super::run::duration, value_name = "DURATION")]
    lease_expiry: Duration,
    /// How long attempts under way may take to end when told to stop; the rest stays in the outbox.
    #[arg(long, env, default_value = "25s", value_parser = super::run::duration, value_name = "DURATION")]
    drain_timeout: Duration,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    admin_address: SocketAddr,
    /// Dial these though they are loopback, link-local or metadata addresses; comma-separated, such as `127.0.0.0/8`.
    #[arg(long, env, value_delimiter = ',', value_name = "CIDR")]
    allow_egress: Vec<Cidr>,
    /// Stores of type Local, and the socket of `dead-letters`.
    #[arg(long, env, default_value = "/var/lib/redis-expiry-operator", value_name = "DIRECTORY")]
    state_dir: PathBuf,
}

/// A task that has not come round for so long is dead.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// What the API server has been silent for so long over is dead.
const DEAD: Duration = Duration::from_secs(30);
/// Attempts under way have so long before the others are told to take over.
const HAND_OVER: Duration = Duration::from_secs(1);
const NOT_SYNCED: &str = "the RedisExpiryListeners have not been listed yet: is the CRD installed, may the operator list them, and is --watch-label-selector a label selector?";

/// Runs until SIGTERM or SIGINT, then hands over and drains; a second signal ends it at once.
pub async fn controller(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::install()?;
    let settings = settings(&arguments)?;
    let (client, namespace) = connect(&arguments).await?;
    let me = settings.me.clone();
    let socket = admin::bind(&arguments.state_dir).await?;
    let port = http::bind(arguments.admin_address).await?;
    let dialler = Dialler::new(Egress::guarded(arguments.allow_egress.clone()));
    let supervisor = Arc::new(Supervisor::dialling(dialler, OnDeploymentChange::Hold, Fencing::Permit));
    let probes = Probes::default();
    let gate = probes.gate("the RedisExpiryListeners have been listed");
    gate.close(NOT_SYNCED);
    let meters = Arc::new(Operator::default());
    let stop = CancellationToken::new();
    let serving = CancellationToken::new();

    let renewing = probes.heart("the Lease is renewed, or tried to be", HEARTBEAT);
    let member = membership::Settings {
        me: me.clone(),
        pod_uid: arguments.pod_uid.clone().filter(|uid| !uid.is_empty()),
        renew: arguments.lease_renew,
        expiry: arguments.lease_expiry,
    };
    let (synced, is_synced) = watch::channel(false);
    let beat = move || renewing.beat();
    let mut membership = Membership::start(client.clone(), &namespace, member, is_synced.clone(), beat);
    let context =
        Arc::new(Context::new(settings, client, Arc::clone(&supervisor), membership.roster(), Arc::clone(&meters)));
    let looping = probes.heart("the controller comes round", HEARTBEAT);

    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let running = controller::run(context, synced, move || looping.beat(), stop.clone());
    tasks.spawn(async move {
        running.await;
        Ok(())
    });
    let mut servers: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let parked = Arc::new(Running(Arc::downgrade(&supervisor)));
    let admin = admin::serve(socket, parked, serving.clone());
    servers.spawn(async move { admin.await.map_err(anyhow::Error::from) });
    let served = Served { snapshots: supervisor.snapshots(), probes: probes.clone(), operator: Some(meters) };
    web::serve(&mut servers, port, served, HEARTBEAT, &serving);
    servers.spawn(open(gate, is_synced, stop.clone()));
    tracing::info!(replica = %me, leases = %namespace, address = %arguments.admin_address, "The operator runs.");

    let signal = tokio::select! {
        signal = signals.next() => signal,
        why = membership.failed() => bail!("the membership failed: {why}"),
        Some(ended) = tasks.join_next() => return unexpected(ended),
        Some(ended) = servers.join_next() => return unexpected(ended),
    };
    probes.stop(signal.name());
    tracing::info!(signal = signal.name(), "Hands over; a second signal ends it now.");
    stop.cancel();
    let ending = async {
        let _ = timeout(HAND_OVER, async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
        hand_over(supervisor, membership, arguments.drain_timeout).await;
    };
    tokio::select! {
        () = ending => {}
        signal = signals.next() => {
            tracing::warn!("Aborted by a second signal; the outbox keeps the rest.");
            return Ok(ExitCode::from(signal.exit_code()));
        }
    }
    serving.cancel();
    let _ = timeout(HAND_OVER, async { while servers.join_next().await.is_some() {} }).await;
    let _ = std::fs::remove_file(admin::socket(&arguments.state_dir));
    tracing::info!("Stopped.");
    Ok(ExitCode::SUCCESS)
}

fn settings(arguments: &Arguments) -> anyhow::Result<Settings> {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let me = match &arguments.pod_name {
        Some(name) => name.clone(),
        None => host().context("reading the host name; give --pod-name instead")?,
    };
    if me.is_empty() {
        bail!("--pod-name is empty: name the replica");
    }
    let (renew, expiry) = (arguments.lease_renew, arguments.lease_expiry);
    if renew.is_zero() || expiry < renew * 2 {
        let [renew, expiry] = [renew, expiry].map(api::Duration::from);
        bail!("--lease-expiry is {expiry} and --lease-renew {renew}: a Lease must live for at least two renewals");
    }
    Ok(Settings {
        me,
        lease_expiry: expiry,
        replicas: arguments.replicas,
        state_dir: arguments.state_dir.clone(),
        namespaces: arguments.watch_namespace.iter().filter(|name| !name.is_empty()).cloned().collect(),
        selector: arguments.watch_label_selector.clone().filter(|selector| !selector.is_empty()),
    })
}

/// The pod's service account, else the kubeconfig; and where the Leases lie. Our calls have limits of their own, which the
/// client's retries, of up to a quarter of an hour, would pass over.
async fn connect(arguments: &Arguments) -> anyhow::Result<(Client, String)> {
    let mut config = Config::infer()
        .await
        .context("finding the API server by the kubeconfig (KUBECONFIG, else ~/.kube/config) or the pod's ServiceAccount; set KUBECONFIG")?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    // A connection that is dead though nobody has closed it; the watches are ended before (see `controller::watching`).
    config.read_timeout = Some(DEAD);
    let namespace = arguments.pod_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    Ok((Client::try_from(config).context("making a client of the API server")?, namespace))
}

/// Opens the gate when all listeners have been seen, and holds it until the process stops.
async fn open(gate: Gate, mut synced: watch::Receiver<bool>, stop: CancellationToken) -> anyhow::Result<()> {
    let opened = stop.run_until_cancelled(synced.wait_for(|synced| *synced)).await.is_some_and(|synced| synced.is_ok());
    if opened {
        gate.open();
    }
    stop.cancelled().await;
    drop(gate);
    Ok(())
}

/// Ends the listeners and leaves the membership: when they have ended, or when they have had a moment.
async fn hand_over(supervisor: Arc<Supervisor>, membership: Membership, drain: Duration) {
    let mut ended = std::pin::pin!(ending::end(supervisor, drain));
    let in_time = timeout(HAND_OVER, &mut ended).await.is_ok();
    membership.leave().await;
    if !in_time {
        ended.await;
    }
}

/// A task that runs until it is told to stop has ended by itself.
fn unexpected(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<ExitCode> {
    ended.context("a task of the operator failed")??;
    bail!("a task of the operator ended that should not have")
}
