//! More expiries than anybody can tell of, for a while: how many a second get their 2xx; and a bare loop that asks and POSTs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use super::{
    bed::{Bed, PIPELINE},
    burst::{AT_ONCE, client, send},
    engine::{Engine, Store},
    receiver::{Receiver, Told},
    report::{Figure, Round},
    scale::Scale,
    statistics::{late, millis, sleep_until},
};

const ORDERS: &str = "order:pay:";
/// Outside the engine's pattern.
const BARE: &str = "bare:pay:";
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<[Figure; 2]> {
    let local = with(Store::Local, "Sustained", 0.6, bed, scale).await?;
    let redis = with(Store::Redis, "Sustained, ledger in Redis", 0.45, bed, scale).await?;
    Ok([local, redis])
}

async fn with(store: Store, name: &'static str, least: f64, bed: &Bed, scale: &Scale) -> anyhow::Result<Figure> {
    let receiver = Receiver::start().await?;
    let engine = Engine::with(bed, &[format!("{ORDERS}*")], &receiver.url(), store).await?;
    let mut rounds = Vec::new();
    for round in 0..scale.rounds {
        eprintln!("{name}, round {}", round + 1);
        let id = format!("{store:?}{round}");
        let theirs = bare(bed, scale, &receiver, &id).await.context("the bare loop")?;
        let ours = ours(bed, scale, &receiver, &id).await.context("the engine")?;
        let peak = engine.memory()?.peak;
        rounds.push(Round {
            ours: format!("{:.0}/s; {:.0} MiB at the most", ours.rate, peak),
            yardstick: format!("{theirs:.0}/s"),
            ratio: Some(ours.rate / theirs),
            order: theirs / ours.rate,
            met: ours.rate >= least * theirs,
            times: None,
        });
    }
    engine.stop().await?;
    Ok(Figure {
        name,
        what: format!(
            "{} keys due within {:?}, so that there is always more to tell of: expiries a second that got their 2xx, from the first \
             deadline to the last 2xx. None is lost or told of twice, and what is due first on a node is settled first.",
            scale.sustained, scale.sustained_over
        ),
        yardstick: format!(
            "a bare loop that asks for the same keys when they are due (`PEXPIRETIME`, pipelined, each master at once) and \
             POSTs what is gone, {AT_ONCE} at a time, with the same libraries; it keeps nothing and signs nothing"
        ),
        target: format!(">= {least} x"),
        rounds,
    })
}

/// Keys and their deadlines, in the order of these.
async fn armed(bed: &Bed, scale: &Scale, prefix: &str, id: &str) -> anyhow::Result<Vec<(String, i64)>> {
    let first = millis() + i64::try_from(scale.burst_ahead.as_millis())?;
    let over = usize::try_from(scale.sustained_over.as_millis())?;
    let deadline = |number: usize| anyhow::Ok(first + i64::try_from(number * over / scale.sustained)?);
    let keys: Vec<(String, i64)> = (0..scale.sustained)
        .map(|number| Ok((format!("{prefix}sustained{id}-{number:08}"), deadline(number)?)))
        .collect::<anyhow::Result<_>>()?;
    bed.arm(keys.iter().cloned()).await?;
    anyhow::ensure!(millis() < first - 500, "arming took too long");
    Ok(keys)
}

struct Ours {
    rate: f64,
}

fn rate(count: usize, seconds: f64) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count)?) / seconds)
}

async fn ours(bed: &Bed, scale: &Scale, receiver: &Receiver, id: &str) -> anyhow::Result<Ours> {
    let keys = armed(bed, scale, ORDERS, id).await?;
    let first = keys.first().context("there are keys")?.1;
    sleep_until(first).await;
    receiver.wait(keys.len(), PATIENCE).await?;
    let took = late(receiver.last(), first) / 1_000.0;
    anyhow::ensure!(receiver.count() == keys.len(), "{} came of {}", receiver.count(), keys.len());
    let told = receiver.told()?;
    anyhow::ensure!(keys.iter().all(|(key, _)| told.contains_key(key)), "some keys were told twice and others not");
    in_order(bed, &keys, &told)?;
    Ok(Ours { rate: rate(keys.len(), took)? })
}

/// By how many milliseconds one key may be settled before another of its node that was due so much sooner: looks are under way
/// side by side.
const TOGETHER_MS: i64 = 250;

fn in_order(bed: &Bed, keys: &[(String, i64)], told: &HashMap<String, Told>) -> anyhow::Result<()> {
    for share in bed.by_owner(keys.iter().map(|(key, _)| key), |key| key)? {
        let mut latest = (0, 0);
        for key in share {
            let Told { deadline, settled_at, .. } = told[key];
            let (settled, due) = latest;
            anyhow::ensure!(
                settled_at >= settled || deadline - due <= TOGETHER_MS || settled - settled_at <= TOGETHER_MS,
                "{key}, due at {deadline}, was settled {} ms before one due at {due}",
                settled - settled_at
            );
            latest = latest.max((settled_at, deadline));
        }
    }
    Ok(())
}

async fn bare(bed: &Bed, scale: &Scale, receiver: &Receiver, id: &str) -> anyhow::Result<f64> {
    let keys = armed(bed, scale, BARE, id).await?;
    let first = keys.first().context("there are keys")?.1;
    let shares = bed.by_owner(keys, |(key, _)| key)?;
    let (found, gone) = mpsc::channel(scale.sustained);
    let gone = Arc::new(Mutex::new(gone));
    let client = client()?;
    let mut tasks = JoinSet::new();
    for (share, master) in shares.into_iter().zip(bed.masters.clone()) {
        tasks.spawn(ask(share, master.connection, found.clone()));
    }
    drop(found);
    for _ in 0..AT_ONCE {
        tasks.spawn(send(client.clone(), receiver.url(), Arc::clone(&gone), first));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    anyhow::ensure!(receiver.count() == scale.sustained, "{} of {} came", receiver.count(), scale.sustained);
    let took = late(receiver.last(), first) / 1_000.0;
    receiver.forget();
    rate(scale.sustained, took)
}

/// `keys` by their deadlines.
async fn ask(
    keys: Vec<(String, i64)>,
    mut connection: MultiplexedConnection,
    found: mpsc::Sender<String>,
) -> anyhow::Result<()> {
    let mut left: std::collections::VecDeque<(String, i64)> = keys.into();
    while let Some((_, next)) = left.front() {
        // Redis expires a key when its clock is past the deadline.
        sleep_until(next + 1).await;
        let now = millis();
        let due = left.iter().take(PIPELINE).take_while(|(_, deadline)| *deadline < now).count();
        let chunk: Vec<(String, i64)> = left.drain(..due).collect();
        let mut pipeline = redis::pipe();
        for (key, _) in &chunk {
            pipeline.cmd("PEXPIRETIME").arg(key);
        }
        if chunk.is_empty() {
            continue;
        }
        let answers: Vec<i64> = pipeline.query_async(&mut connection).await?;
        for (item, answer) in chunk.into_iter().zip(answers).rev() {
            if answer == -2 {
                found.send(item.0).await?;
            } else {
                left.push_front(item);
            }
        }
    }
    Ok(())
}
