//! What people use today, beside us in the same run: redis-py's manager for keyspace notifications in a cluster, and delayed jobs
//! of `BullMQ` in place of keys.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::{
    bed::Bed,
    due::ORDERS,
    engine::Engine,
    lateness::{TWINS, orders},
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
    statistics::{Sample, late, sleep_until},
};

/// `make bench` installs them there.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");
/// Heard, and told, until this long after the last deadline.
const AFTER: Duration = Duration::from_secs(5);

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<Figure> {
    let (ours, theirs) = (Receiver::start().await?, Receiver::start().await?);
    let engine = Engine::start(bed, &format!("{ORDERS}*"), &ours.url()).await?;
    let manager = Manager::start(bed).await.context("redis-py (make bench installs it)")?;
    let jobs = Jobs::start(bed, &theirs.url()).await.context("BullMQ (make bench installs it)")?;
    let mut rounds = Vec::new();
    for round in 0..scale.rounds {
        eprintln!("peers, round {}", round + 1);
        let also = |id: &str, deadline: i64| jobs.add(&format!("{ORDERS}{id}"), deadline);
        let name = format!("peers{round}");
        let deadlines = orders(bed, scale.orders_a_second, scale.lateness, &name, true, also).await?;
        let last = deadlines.values().copied().max().unwrap_or(0);
        sleep_until(last + i64::try_from(AFTER.as_millis())?).await;
        ours.wait(deadlines.len(), Duration::from_secs(10)).await?;
        let (ours, jobs) = (told(&ours, &deadlines)?, told(&theirs, &deadlines)?);
        let heard = manager.heard();
        let heard = deadlines.iter().filter_map(|(id, deadline)| Some(late(*heard.get(id)?, *deadline))).collect();
        let (p50, p99) = (ours.percentile(50), ours.percentile(99));
        let count = deadlines.len();
        rounds.push(Round {
            ours: shown(&ours, count),
            yardstick: format!("redis-py {}; BullMQ {}", shown(&Sample::new(heard), count), shown(&jobs, count)),
            ratio: Some(p99 / jobs.percentile(99)),
            order: p50,
            met: ours.len() == count && p99 <= jobs.percentile(99),
            times: None,
        });
        bed.remove(deadlines.keys().map(|id| format!("{TWINS}{id}"))).await?;
    }
    engine.stop().await?;
    Ok(Figure {
        name: "Peers",
        what: format!(
            "From a deadline to the 2xx, at {} orders/s for {:?} beside {} other keys with a TTL: how many came until {AFTER:?} after \
             the last deadline, and how late.",
            scale.orders_a_second, scale.lateness, scale.others
        ),
        yardstick: "in the same run, redis-py 8.1.0's `ClusterKeyspaceNotifications` (when it hears of twins of the orders; nothing \
                    is POSTed), and BullMQ 6.7.0: a delayed job in place of each key, POSTed by a worker (to its 2xx; a job is no \
                    key: who pays has to remove it). The ratio is of the p99 to BullMQ's"
            .to_owned(),
        target: "all of them, no later than BullMQ".to_owned(),
        rounds,
    })
}

fn told(receiver: &Receiver, deadlines: &HashMap<String, i64>) -> anyhow::Result<Sample> {
    let told = receiver.told()?;
    let lateness = deadlines.iter().filter_map(|(id, deadline)| {
        let told = told.get(&format!("{ORDERS}{id}"))?;
        Some(late(told.at, *deadline))
    });
    Ok(Sample::new(lateness.collect()))
}

fn shown(sample: &Sample, count: usize) -> String {
    if sample.len() == 0 {
        return format!("0 of {count}");
    }
    format!("{} of {count}, p50 {:.1} ms, p99 {:.1} ms", sample.len(), sample.percentile(50), sample.percentile(99))
}

/// Starts it and waits until it is ready.
async fn started(command: &mut Command) -> anyhow::Result<(Child, tokio::io::Lines<BufReader<ChildStdout>>)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
    let first = timeout(Duration::from_secs(20), lines.next_line()).await.context("it is not ready")??;
    anyhow::ensure!(first.as_deref() == Some("READY"), "it says {first:?}");
    Ok((child, lines))
}

/// redis-py's, which writes down what it hears.
struct Manager {
    heard: Arc<Mutex<HashMap<String, i64>>>,
    _child: Child,
}

impl Manager {
    async fn start(bed: &Bed) -> anyhow::Result<Self> {
        let mut command = Command::new(format!("{INSTALLED}/venv/bin/python"));
        let port = bed.masters[0].node.port().to_string();
        command.args([&format!("{SCRIPTS}/redis_py.py"), &port, TWINS]);
        let (child, mut lines) = started(&mut command).await?;
        let heard: Arc<Mutex<HashMap<String, i64>>> = Arc::default();
        let writing = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((at, key)) = line.split_once(' ')
                    && let (Ok(at), Some(id)) = (at.parse(), key.strip_prefix(TWINS))
                {
                    writing.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_insert(at);
                }
            }
        });
        Ok(Self { heard, _child: child })
    }

    fn heard(&self) -> HashMap<String, i64> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `BullMQ`'s.
struct Jobs {
    adding: UnboundedSender<String>,
    _child: Child,
}

impl Jobs {
    async fn start(bed: &Bed, url: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("node");
        command.arg(format!("{SCRIPTS}/bullmq.js")).arg(url).env("NODE_PATH", format!("{INSTALLED}/node_modules"));
        command.args(bed.masters.iter().map(|master| master.node.port().to_string()));
        let (mut child, _) = started(&mut command).await?;
        let mut input = child.stdin.take().context("its input is a pipe")?;
        let (adding, mut added) = unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(line) = added.recv().await {
                if input.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
        });
        Ok(Self { adding, _child: child })
    }

    fn add(&self, key: &str, deadline: i64) {
        // One that has ended shows in the figures.
        let _ = self.adding.send(format!("{key} {deadline}\n"));
    }
}
