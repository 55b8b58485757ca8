//! `demo`: a local Redis, an order service and the engine, a master killed in the middle, and nothing lost.

use std::{
    env,
    ops::RangeInclusive,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

mod answers;
pub mod cluster;
mod customers;
mod engine;
mod faults;
/// The example, and no copy of it: what the demo shows is what a reader of the example gets.
#[path = "../../../examples/order-service/mod.rs"]
pub mod order_service;
mod progress;
pub mod report;
pub mod watchdog;
mod workload;

use answers::Answers;
use cluster::{Cluster, MASTER_NAME, Options, Sentinel};
use engine::Engine;
use order_service::{
    arming::Patience,
    database::{Counts, Database, Listing},
    front,
    keys::{Keys, Servers},
    serve,
    service::{Service, now},
    verify::Verifier,
};
use progress::Progress;
use report::{Facts, Outage, Report};
use watchdog::Watchdog;
use workload::{PRODUCTS, Record, Shop};

/// Starts a local Redis and an order service, creates orders, kills a master, and shows that nothing is lost.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// One of its parts alone, for a Redis and an operator that run elsewhere.
    #[command(subcommand)]
    pub part: Option<Part>,
    /// What kind of Redis.
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    pub mode: Mode,
    /// How many orders.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub orders: u32,
    /// Orders a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
    /// How many other keys with a TTL lie beside the orders'.
    #[arg(long, default_value_t = 100_000)]
    pub other_keys: usize,
    /// Leave everything running until Ctrl-C, with a few more orders a second.
    #[arg(long)]
    pub keep: bool,
    /// Print lines and redraw nothing, also on a terminal.
    #[arg(long)]
    pub plain: bool,
    /// The binary whose `run` is shown; this one unless told otherwise.
    #[arg(long, hide = true)]
    pub engine: Option<PathBuf>,
}

/// As `spec.redis.mode` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Mode {
    /// Three masters, each with a replica; then some slots move too.
    #[default]
    Cluster,
    /// A master and a replica, which we promote.
    Standalone,
    /// A master and a replica, which three sentinels promote.
    Sentinel,
}

impl Mode {
    fn options(self) -> Options {
        let alone = Options { clustered: false, masters: 1, ..Options::default() };
        match self {
            Self::Cluster => Options::default(),
            Self::Standalone => alone,
            Self::Sentinel => Options { sentinels: 3, ..alone },
        }
    }

    fn consists_of(self) -> &'static str {
        match self {
            Self::Cluster => "a Redis Cluster: 3 masters, 3 replicas",
            Self::Standalone => "a Redis: a master, a replica",
            Self::Sentinel => "a Redis: a master, a replica, 3 sentinels",
        }
    }

    /// What the order service is told of it.
    fn servers(self, cluster: &Cluster) -> Servers {
        Servers {
            addresses: self.addresses(cluster),
            clustered: self == Self::Cluster,
            sentinels_call_it: (self == Self::Sentinel).then(|| MASTER_NAME.to_owned()),
            ..Servers::default()
        }
    }

    /// `spec.redis` of the listener.
    fn spec(self, cluster: &Cluster) -> serde_json::Value {
        let mut spec = serde_json::json!({"mode": format!("{self:?}"), "addresses": self.addresses(cluster)});
        if self == Self::Sentinel {
            spec["sentinel"] = serde_json::json!({"masterName": MASTER_NAME});
        }
        spec
    }

    fn addresses(self, cluster: &Cluster) -> Vec<String> {
        match self {
            Self::Cluster | Self::Standalone => cluster.seeds(),
            Self::Sentinel => cluster.sentinels().iter().map(Sentinel::address).collect(),
        }
    }
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Part {
    /// The order service: takes orders, lets Redis expire the unpaid ones, and cancels them when a webhook says so.
    OrderService(serve::Arguments),
    /// The part of the order service that faces the operator: takes webhooks, checks them and passes them on.
    Webhooks(front::Arguments),
    /// Its customers: they order, a third of them pays, and in the end they judge what became of each order.
    Customers(customers::Arguments),
}

/// Everything that runs. Dropped, it is gone: in this order.
struct Stage {
    engine: Engine,
    service: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    cluster: Cluster,
    database: Database,
    answers: Arc<Answers>,
    record: Arc<Record>,
    shop: Shop,
    url: String,
    // Ends the engine and removes the files even when we are killed.
    _watchdog: Watchdog,
    _directory: TempDir,
}

/// How long an order may be paid, in milliseconds.
const TTL_MS: RangeInclusive<u64> = 4000..=10_000;

/// How long after the last deadline, and after the last cancellation, an order may still be cancelled before it counts
/// as lost.
const GRACE: Duration = Duration::from_secs(15);

pub async fn demo(mut args: Arguments) -> anyhow::Result<ExitCode> {
    let ended = match args.part.take() {
        None => return whole(args).await,
        Some(Part::Customers(arguments)) => return customers::customers(arguments).await,
        Some(Part::OrderService(arguments)) => serve::serve(arguments).await,
        Some(Part::Webhooks(arguments)) => front::serve(arguments).await,
    };
    ended.map(|()| ExitCode::SUCCESS)
}

async fn whole(args: Arguments) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let progress = Progress::new(args.plain);
    let mut verdict = None;
    tokio::select! {
        result = play(&args, &progress, &mut verdict) => result?,
        // Dropped, the play takes down what it had put up.
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    progress.end();
    Ok(match verdict {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        // As a shell tells of SIGINT.
        None => ExitCode::from(130),
    })
}

async fn play(args: &Arguments, progress: &Progress, verdict: &mut Option<bool>) -> anyhow::Result<()> {
    let mut stage = Stage::set(args, progress).await?;
    let outage = stage.act(args, progress).await?;
    let report = stage.judge(outage).await?;
    progress.end();
    println!("\n{report}");
    println!("{}", if report.sound() { "Nothing lost, nothing doubled." } else { "NOT as promised: see above." });
    let (refused, error) = stage.record.refused();
    if let Some(error) = error {
        println!("{refused} customers gave up: {error}");
    }
    *verdict = Some(report.sound());
    if args.keep {
        println!("\nStill running: {} shows the orders. Ctrl-C ends it.", stage.url);
        tokio::select! {
            () = stage.shop.open(usize::MAX, 3, &stage.stop) => {}
            error = stage.failed() => return Err(error),
        }
    }
    stage.strike().await
}

impl Stage {
    async fn set(args: &Arguments, progress: &Progress) -> anyhow::Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("redis-expiry-demo-").tempdir().context("making a temporary directory")?;
        let watchdog = Watchdog::start(Some(directory.path()))?;
        progress.say(&format!("starting {}", args.mode.consists_of()));
        let cluster = Cluster::start(args.mode.options()).await?;
        faults::add_other_keys(&cluster, args.other_keys).await?;
        progress.say(&format!("its nodes: {}; {} other keys with a TTL", cluster.seeds().join(" "), args.other_keys));

        let database = Database::open(&directory.path().join("orders.db"))?;
        for (sku, name, count) in PRODUCTS {
            database.add_product(sku, name, count).await?;
        }
        let secret = engine::secret();
        let service = Service {
            database: database.clone(),
            keys: Keys::connect(&args.mode.servers(&cluster)).await?,
            verifier: Verifier::new([&secret])?,
            default_ttl: Duration::from_secs(10),
            // What was lost must stay lost here: the demo is to see it.
            patience: Patience { overdue: Duration::from_secs(3600), ..Patience::default() },
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening on the loopback address")?;
        let url = format!("http://{}", listener.local_addr()?);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let answers = Arc::new(Answers::default());
        let router = answers.around(service.clone().router());
        tasks.spawn(service.run_with(router, listener, stop.clone()));
        progress.say(&format!("the order service: {url} (a page to watch)"));

        let executable = args.engine.clone().map_or_else(env::current_exe, Ok).context("finding our own binary")?;
        let files = directory.path().join("engine");
        std::fs::create_dir(&files).context("making a directory for the engine")?;
        let settings = engine::Settings {
            executable,
            directory: &files,
            redis: args.mode.spec(&cluster),
            webhook: format!("{url}/internal/order-timeouts"),
        };
        let mut engine = Engine::start(&settings, &secret, &watchdog)?;
        engine.ready(Duration::from_secs(30)).await?;
        progress.say("the engine is ready: every node subscribed, every master scanned");
        let record = Arc::new(Record::default());
        Ok(Self {
            engine,
            service: tasks,
            stop,
            cluster,
            database,
            answers,
            shop: Shop::new(url.clone(), Arc::clone(&record), TTL_MS)?,
            record,
            url,
            _watchdog: watchdog,
            _directory: directory,
        })
    }

    /// Orders come, payments come, a master goes, slots move; returns when every order is settled or overdue.
    async fn act(&mut self, args: &Arguments, progress: &Progress) -> anyhow::Result<Outage> {
        progress.say(&format!("{} orders at {} a second, each to be paid within 4 to 10 s", args.orders, args.rate));
        let orders = usize::try_from(args.orders)?;
        let trouble = async {
            self.created(orders * 35 / 100).await;
            let outage = faults::kill_a_master(&self.cluster, args.mode, progress).await?;
            if args.mode == Mode::Cluster {
                self.created(orders * 70 / 100).await;
                faults::move_slots(&self.cluster, progress).await?;
            }
            anyhow::Ok(outage)
        };
        let all = async {
            let (outage, ()) = tokio::join!(trouble, self.shop.open(orders, args.rate, &self.stop));
            let outage = outage?;
            progress.say("the last order is placed; waiting for the last deadline");
            self.settled().await?;
            anyhow::Ok(outage)
        };
        tokio::select! {
            outage = all => outage,
            error = self.show(progress) => Err(error),
            error = self.failed() => Err(error),
        }
    }

    /// Waits until so many orders are placed; those refused count, or it would wait for ever.
    async fn created(&self, count: usize) {
        while self.record.created() + self.record.refused().0 < count {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until no order is unpaid, or those that are have been due for long and nothing moves any more.
    async fn settled(&self) -> anyhow::Result<()> {
        let orders = self.database.orders(Listing::Newest, "", u32::MAX).await?;
        let last = orders.iter().map(|order| order.deadline).max().unwrap_or_default();
        let (mut unpaid, mut moved) = (i64::MAX, Instant::now());
        while unpaid > 0 && (now() < last || moved.elapsed() < GRACE) {
            let counted = self.database.counts().await?.unpaid;
            // On a slow machine it may be late, which is no loss.
            if counted < unpaid || now() < last {
                (unpaid, moved) = (counted, Instant::now());
            }
            sleep(Duration::from_millis(50)).await;
        }
        // An event told twice comes a little after the first: let it come.
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// Shows how it stands; returns only with an error.
    async fn show(&self, progress: &Progress) -> anyhow::Error {
        loop {
            match self.database.counts().await {
                Ok(Counts { unpaid, paid, cancelled }) => {
                    let created = unpaid + paid + cancelled;
                    progress
                        .stands(&format!("{created} created, {paid} paid, {cancelled} cancelled, {unpaid} waiting"));
                }
                Err(error) => return error,
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns only if something ended that should not have.
    async fn failed(&self) -> anyhow::Error {
        tokio::select! {
            error = self.engine.ended() => error,
            // Which it does itself when it ends.
            () = self.stop.cancelled() => anyhow::anyhow!("the order service ended"),
        }
    }

    async fn judge(&self, outage: Outage) -> anyhow::Result<Report> {
        let facts = Facts {
            orders: self.database.orders(Listing::Newest, "", u32::MAX).await?,
            events: self.database.webhook_events(None, u32::MAX).await?,
            told: self.record.told(),
            answered: self.answers.first(),
            initial: PRODUCTS.iter().map(|(sku, _, count)| ((*sku).to_owned(), i64::from(*count))).collect(),
            stock: self.database.stock().await?,
            outage: Some(outage),
        };
        ensure!(!facts.orders.is_empty(), "no order was created: {:?}", self.record.refused().1);
        Ok(report::judge(&facts))
    }

    /// Takes everything down, the engine first: it hands over what is under way.
    async fn strike(mut self) -> anyhow::Result<()> {
        self.engine.stop().await?;
        self.stop.cancel();
        while let Some(ended) = self.service.join_next().await {
            ended.context("the order service")??;
        }
        Ok(())
    }
}
