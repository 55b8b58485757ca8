//! From starting the process, with an empty ledger, until every key is tracked, and the memory that took; and a bare
//! loop that scans and asks.

use std::time::Duration;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    bed::{Bed, OTHERS},
    engine::Engine,
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
};

pub const RATIO: f64 = 2.0;
pub const MEMORY_MIB: f64 = 60.0;
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<[Figure; 2]> {
    let receiver = Receiver::start().await?;
    let pattern = format!("{OTHERS}*");
    let (mut scans, mut memories) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        eprintln!("first scan, round {}", round + 1);
        let began = Instant::now();
        let found = bare(bed, &pattern).await.context("the bare loop")?;
        let bare = began.elapsed();
        anyhow::ensure!(found >= scale.others, "the bare loop found {found} of {}", scale.others);
        let engine = Engine::start(bed, &pattern, &receiver.url()).await.context("the engine")?;
        scans.push(Round::ratio(engine.start_up.as_secs_f64(), bare.as_secs_f64(), "s", RATIO));
        let ready = engine.memory()?;
        // What the last of the scan still owes to the disk, and what is then given back.
        sleep(Duration::from_secs(3)).await;
        let idle = engine.memory()?;
        let tracked = engine.stop().await?;
        anyhow::ensure!(tracked == scale.others, "{tracked} of {} keys were tracked", scale.others);
        memories.push(Round {
            ours: format!(
                "{:.1} MiB resident when ready, {:.1} MiB 3 s later, {:.1} MiB at the most",
                ready.resident, idle.resident, idle.peak
            ),
            yardstick: format!("{:.0} bytes a key", idle.peak * f64::from(1 << 20) / num(tracked)),
            ratio: Some(idle.peak / MEMORY_MIB),
            order: idle.peak,
            met: idle.peak <= MEMORY_MIB,
            times: None,
        });
    }
    let scan = Figure {
        name: "First scan",
        what: format!(
            "{} matching keys and an empty ledger: from starting the process to `ready`, every key tracked on disk or \
             on its way there.",
            scale.others
        ),
        yardstick: "a bare loop on each master at once: SCAN with COUNT 1000 and the pattern, PEXPIRETIME of what it \
                    finds in one pipeline; it keeps nothing"
            .to_owned(),
        target: format!("<= {RATIO} x"),
        rounds: scans,
    };
    let memory = Figure {
        name: "Memory",
        what: format!("The process with {} keys tracked (VmRSS), and the most it ever had (VmHWM).", scale.others),
        yardstick: "what that is a tracked key, the program itself included; the ratio is to the target".to_owned(),
        target: format!("<= {MEMORY_MIB} MiB, start-up included"),
        rounds: memories,
    };
    Ok([scan, memory])
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn num(count: usize) -> f64 {
    count as f64
}

async fn bare(bed: &Bed, pattern: &str) -> anyhow::Result<usize> {
    let mut tasks = JoinSet::new();
    for master in &bed.masters {
        let connection = master.node.connect(PATIENCE).await?;
        tasks.spawn(scan(connection, pattern.to_owned()));
    }
    let mut found = 0;
    while let Some(ended) = tasks.join_next().await {
        found += ended??;
    }
    Ok(found)
}

async fn scan(mut connection: MultiplexedConnection, pattern: String) -> anyhow::Result<usize> {
    let (mut cursor, mut found) = (0u64, 0);
    loop {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
        let (next, keys): (u64, Vec<Vec<u8>>) = command.query_async(&mut connection).await?;
        if !keys.is_empty() {
            let mut pipeline = redis::pipe();
            for key in &keys {
                pipeline.cmd("PEXPIRETIME").arg(key);
            }
            let deadlines: Vec<i64> = pipeline.query_async(&mut connection).await?;
            found += deadlines.iter().filter(|deadline| **deadline > 0).count();
        }
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}
