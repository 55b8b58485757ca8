//! An order service whose unpaid orders expire in Redis: `cargo run --example order-service -- --help`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

#[path = "mod.rs"]
mod order_service;

use order_service::{arming::Patience, database::Database, keys::Keys, service::Service, verify::Verifier};

/// Takes orders, lets Redis expire the unpaid ones, and cancels them when the webhook says so.
#[derive(Parser)]
struct Args {
    #[arg(long, env = "ORDER_SERVICE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The database's file.
    #[arg(long, env = "ORDER_SERVICE_DATABASE", default_value = "orders.db")]
    database: PathBuf,
    /// Nodes of the Redis Cluster, one is enough.
    #[arg(long, env = "REDIS_ADDRESSES", value_delimiter = ',', default_value = "127.0.0.1:6379")]
    redis: Vec<String>,
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    let database = Database::open(&args.database)?;
    for product in &args.products {
        let (sku, count) = product.split_once('=').with_context(|| format!("--products {product}: want sku=count"))?;
        let count = count.parse().with_context(|| format!("--products {product}: want a number"))?;
        database.add_product(sku, sku, count).await?;
    }
    let service = Service {
        database,
        keys: Keys::connect(&args.redis, args.redis_username.as_deref(), args.redis_password.as_deref()).await?,
        verifier: Verifier::new(&args.webhook_secret)?,
        default_ttl: Duration::from_millis(args.default_ttl_ms),
        patience: Patience { overdue: Duration::from_secs(args.overdue_after), ..Patience::default() },
    };
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, "Taking orders.");
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let running = service.run(listener, stop.clone());
    tokio::pin!(running);
    tokio::select! {
        result = &mut running => return result,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.cancel();
    running.await
}
