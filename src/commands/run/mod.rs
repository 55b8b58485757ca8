//! `run -f`: listeners without Kubernetes.

use std::{net::SocketAddr, pin::pin, process::ExitCode, sync::Arc, time::Duration};

use anyhow::bail;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    ending,
    load::Files,
    output::{Happening, Line, Output, say},
    web,
};
use crate::{
    api::{self, Platform},
    clock,
    listener::{Fencing, OnDeploymentChange, Snapshots, Supervisor},
    telemetry::{
        admin::{self, Running},
        http::{self, Served},
        probes::Probes,
    },
};

pub mod report;

mod reload;
pub(super) mod signals;

use reload::Signs;
pub use reload::load;
use signals::Signals;

/// How many lines of the reloader may wait to be shown.
const LINES: usize = 64;
/// What `/readyz` and `/livez` say.
const STARTED: &str = "the listeners of the files were started";
const READS: &str = "the files are read again and again";
/// A change waits for listeners to end, and for what they have under way: tens of seconds, with many of them.
const READS_WITHIN: Duration = Duration::from_secs(120);
const TICKS_WITHIN: Duration = Duration::from_secs(15);
/// A listener that another process has taken is taken back after so long: the other may have been a mistake, and is gone.
const TAKEN_BACK: Duration = Duration::from_secs(30);
/// A bad file, as for `check`.
const BAD_FILE: u8 = 2;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    files: Files,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// How long attempts under way may take to end when told to stop; the rest stays in the outbox.
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = duration)]
    drain_timeout: Duration,
    /// What to do with a ledger that belongs to another Redis than the one named now.
    #[arg(long, value_enum, default_value_t = OnChange::Hold, value_name = "WHAT")]
    on_deployment_change: OnChange,
    /// Serves /livez, /readyz, /metrics and a status page there by HTTP, such as 127.0.0.1:9121. Default: nowhere.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_address: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnChange {
    /// Do nothing until told.
    Hold,
    /// Drop what was tracked; what waits to be delivered stays.
    Discard,
    /// What was tracked is true of the new one too: it was moved, or restored from a copy.
    Keep,
}

impl From<OnChange> for OnDeploymentChange {
    fn from(what: OnChange) -> Self {
        match what {
            OnChange::Hold => Self::Hold,
            OnChange::Discard => Self::Discard,
            OnChange::Keep => Self::Keep,
        }
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<api::Duration>().map(api::Duration::get).map_err(|error| error.to_string())
}

/// Runs until SIGTERM or SIGINT, then drains; a second signal ends it at once.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { files, output, drain_timeout, on_deployment_change, admin_address } = arguments;
    let mut signals = Signals::install()?;
    let declared = match reload::load(files.clone(), Platform::Process).await? {
        Ok(declared) => declared,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(BAD_FILE));
        }
    };
    let socket = admin::bind(&files.state_dir).await?;
    let port = match admin_address {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    let web_at = port.as_ref().map(TcpListener::local_addr).transpose()?;
    let supervisor = Arc::new(Supervisor::new(on_deployment_change.into(), Fencing::Wait(TAKEN_BACK)));
    let mut shown = Shown { output, snapshots: supervisor.snapshots(), told: Snapshots::new() };
    let path = admin::socket(&files.state_dir).display().to_string();
    shown.say(
        &Line::new(Happening::Listening, None, format!("runs {} listener(s), admin socket {path}", declared.len()))
            .with("adminSocket", path.as_str())
            .with("adminAddress", web_at.map(|address| address.to_string()))
            .with("pid", std::process::id()),
    );

    let stop = CancellationToken::new();
    let (said, mut lines) = mpsc::channel(LINES);
    let mut tasks = JoinSet::new();
    let running = Arc::new(Running(Arc::downgrade(&supervisor)));
    let serving = admin::serve(socket, running, stop.clone());
    tasks.spawn(async move { serving.await.map_err(anyhow::Error::from) });
    let probes = Probes::default();
    let signs = Signs { started: probes.gate(STARTED), reads: probes.heart(READS, READS_WITHIN) };
    tasks.spawn(reload::reload(files, declared, Arc::clone(&supervisor), signs, said, stop.clone()));
    // It is there for as long as there is something to see.
    let (shut, mut web_tasks) = (CancellationToken::new(), JoinSet::new());
    if let Some(port) = port {
        let served = Served { snapshots: supervisor.snapshots(), probes: probes.clone(), operator: None };
        web::serve(&mut web_tasks, port, served, TICKS_WITHIN, &shut);
    }

    let signal = loop {
        tokio::select! {
            signal = signals.next() => break signal,
            Some(line) = lines.recv() => shown.say(&line),
            () = shown.changed() => shown.tell(),
            Some(ended) = tasks.join_next() => return unexpected(ended),
            Some(ended) = web_tasks.join_next() => return unexpected(ended),
        }
    };
    probes.stop(signal.name());

    shown.say(&Line::new(
        Happening::Stopping,
        None,
        format!(
            "{}: attempts under way have {} to end; a second signal ends them now",
            signal.name(),
            api::Duration::from(drain_timeout)
        ),
    ));
    stop.cancel();
    let mut ending = pin!(end(tasks, supervisor, drain_timeout));
    loop {
        tokio::select! {
            () = &mut ending => break,
            signal = signals.next() => {
                shown.say(&Line::new(Happening::Stopped, None, "aborted by a second signal; the outbox keeps the rest"));
                return Ok(ExitCode::from(signal.exit_code()));
            }
            () = shown.changed() => shown.tell(),
        }
    }
    shown.tell();
    shut.cancel();
    // Whoever reads slowly is no reason to wait longer.
    let _ = timeout(Duration::from_secs(1), async { while web_tasks.join_next().await.is_some() {} }).await;
    // A later process would replace it; without it, a client is told at once that nobody runs here.
    let _ = std::fs::remove_file(&path);
    shown.say(&Line::new(Happening::Stopped, None, "stopped"));
    Ok(ExitCode::SUCCESS)
}

/// A task that runs until it is told to stop has ended by itself.
fn unexpected(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<ExitCode> {
    ended??;
    bail!("a task ended that should not have")
}

async fn end(mut tasks: JoinSet<anyhow::Result<()>>, supervisor: Arc<Supervisor>, patience: Duration) {
    // A connection to the admin socket that stays open is no reason to wait longer.
    let _ = timeout(Duration::from_secs(1), async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
    ending::end(supervisor, patience).await;
}

/// What was said so far.
struct Shown {
    output: Output,
    snapshots: watch::Receiver<Snapshots>,
    told: Snapshots,
}

impl Shown {
    async fn changed(&mut self) {
        if self.snapshots.changed().await.is_err() {
            // The supervisor is gone: nothing will ever change.
            std::future::pending::<()>().await;
        }
    }

    fn tell(&mut self) {
        let now = self.snapshots.borrow_and_update().clone();
        for line in report::lines(&self.told, &now) {
            self.say(&line);
        }
        self.told = now;
    }

    fn say(&self, line: &Line) {
        say(&line.render(self.output, clock::now()));
    }
}
