//! The service as a process: its arguments, its database, its keys, and how it ends.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{
    arming::Patience,
    database::Database,
    keys::{Keys, Servers},
    service::Service,
    verify::Verifier,
};

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(long, env = "ORDER_SERVICE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The database's file.
    #[arg(long, env = "ORDER_SERVICE_DATABASE", default_value = "orders.db")]
    database: PathBuf,
    /// Nodes of the Redis Cluster, one is enough; outside of one, all servers; with --redis-master-name, the sentinels.
    #[arg(long, env = "REDIS_ADDRESSES", value_delimiter = ',', default_value = "127.0.0.1:6379")]
    redis: Vec<String>,
    /// It is no cluster, but a master and its replicas.
    #[arg(long, env = "REDIS_STANDALONE")]
    redis_standalone: bool,
    /// What the sentinels call the master.
    #[arg(long, env = "REDIS_MASTER_NAME", conflicts_with = "redis_standalone")]
    redis_master_name: Option<String>,
    #[arg(long, env = "REDIS_USERNAME")]
    redis_username: Option<String>,
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true)]
    redis_password: Option<String>,
    /// What webhooks are signed with, `whsec_` and base64; several while they are rotated.
    #[arg(long, env = "WEBHOOK_SECRETS", value_delimiter = ',', hide_env_values = true, required = true)]
    webhook_secret: Vec<String>,
    /// How long an order may be paid, in milliseconds, unless it says so itself.
    #[arg(long, default_value_t = 900_000)]
    default_ttl_ms: u64,
    /// Arm an order again that is still unpaid so many seconds after its deadline.
    #[arg(long, default_value_t = 60)]
    overdue_after: u64,
    /// Products that are put on the shelf when they are not there yet, as sku=count.
    #[arg(long, value_delimiter = ',', default_value = "tea=1000,mug=1000,kettle=1000")]
    products: Vec<String>,
}

/// Serves until SIGINT or SIGTERM; requests under way are answered.
pub async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let stop = on_signal()?;
    let database = Database::open(&arguments.database)?;
    for product in &arguments.products {
        let (sku, count) = product.split_once('=').with_context(|| format!("--products {product}: want sku=count"))?;
        let count = count.parse().with_context(|| format!("--products {product}: want a number"))?;
        database.add_product(sku, sku, count).await?;
    }
    let servers = Servers {
        addresses: arguments.redis,
        clustered: !arguments.redis_standalone && arguments.redis_master_name.is_none(),
        sentinels_call_it: arguments.redis_master_name,
        username: arguments.redis_username,
        password: arguments.redis_password,
    };
    let service = Service {
        database,
        keys: Keys::connect(&servers).await?,
        verifier: Verifier::new(&arguments.webhook_secret)?,
        default_ttl: Duration::from_millis(arguments.default_ttl_ms),
        patience: Patience { overdue: Duration::from_secs(arguments.overdue_after), ..Patience::default() },
    };
    let listener = listen(arguments.listen).await?;
    service.run(listener, stop).await
}

pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "Listening.");
    Ok(listener)
}

/// Cancelled by the first SIGINT or SIGTERM.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    // It holds nothing and ends with the process.
    drop(tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.cancel();
    }));
    Ok(stop)
}
