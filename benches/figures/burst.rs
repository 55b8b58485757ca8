//! Many keys due at one instant, until the last 2xx; and a bare loop that asks and POSTs as many.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use super::{
    bed::{Bed, PIPELINE},
    engine::Engine,
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
    statistics::{late, millis, sleep_until},
};

const ORDERS: &str = "order:pay:";
/// Outside the engine's pattern.
const BARE: &str = "bare:pay:";
/// POSTs under way at once: the engine's own default.
pub const AT_ONCE: usize = 64;
pub const RATIO: f64 = 1.7;
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<Figure> {
    let receiver = Receiver::start().await?;
    let engine = Engine::start(bed, &format!("{ORDERS}*"), &receiver.url()).await?;
    let mut rounds = Vec::new();
    for round in 0..scale.rounds {
        eprintln!("burst, round {}", round + 1);
        let bare = bare(bed, scale, &receiver, round).await.context("the bare loop")?;
        let ours = ours(bed, scale, &receiver, round).await.context("the engine")?;
        rounds.push(Round::ratio(ours, bare, "ms", RATIO));
    }
    engine.stop().await?;
    Ok(Figure {
        name: "Burst",
        what: format!("{} keys due at one instant: from the deadline to the last 2xx.", scale.burst),
        yardstick: format!(
            "a bare loop that asks for as many keys at their deadline (`PEXPIRETIME`, pipelined, each master at once) \
             and POSTs what is gone, {AT_ONCE} at a time, with the same libraries; it keeps nothing and signs nothing"
        ),
        target: format!("<= {RATIO} x"),
        rounds,
    })
}

fn keys(prefix: &str, round: usize, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}burst{round}-{number:08}")).collect()
}

async fn armed(bed: &Bed, scale: &Scale, keys: &[String]) -> anyhow::Result<i64> {
    let deadline = millis() + i64::try_from(scale.burst_ahead.as_millis())?;
    bed.arm(keys.iter().map(|key| (key.clone(), deadline))).await?;
    anyhow::ensure!(millis() < deadline - 500, "arming took too long");
    Ok(deadline)
}

async fn ours(bed: &Bed, scale: &Scale, receiver: &Receiver, round: usize) -> anyhow::Result<f64> {
    let keys = keys(ORDERS, round, scale.burst);
    let deadline = armed(bed, scale, &keys).await?;
    sleep_until(deadline).await;
    anyhow::ensure!(receiver.count() == 0, "something came before the deadline");
    receiver.wait(keys.len(), PATIENCE).await?;
    let took = late(receiver.last(), deadline);
    let told = receiver.told()?;
    anyhow::ensure!(keys.iter().all(|key| told.contains_key(key)), "some keys were told twice and others not");
    Ok(took)
}

async fn bare(bed: &Bed, scale: &Scale, receiver: &Receiver, round: usize) -> anyhow::Result<f64> {
    let keys = keys(BARE, round, scale.burst);
    let deadline = armed(bed, scale, &keys).await?;
    let shares = bed.by_owner(keys, |key| key)?;
    let (found, gone) = mpsc::channel(scale.burst);
    let gone = Arc::new(Mutex::new(gone));
    let client = client()?;
    let mut tasks = JoinSet::new();
    for (share, master) in shares.into_iter().zip(bed.masters.clone()) {
        tasks.spawn(ask(share, master.connection, found.clone(), deadline));
    }
    drop(found);
    for _ in 0..AT_ONCE {
        tasks.spawn(send(client.clone(), receiver.url(), Arc::clone(&gone), deadline));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    anyhow::ensure!(receiver.count() == scale.burst, "{} of {} came", receiver.count(), scale.burst);
    let took = late(receiver.last(), deadline);
    receiver.forget();
    Ok(took)
}

pub fn client() -> anyhow::Result<reqwest::Client> {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().pool_max_idle_per_host(AT_ONCE).no_proxy().tls_certs_only([]).build()?)
}

async fn ask(
    mut keys: Vec<String>,
    mut connection: MultiplexedConnection,
    found: mpsc::Sender<String>,
    deadline: i64,
) -> anyhow::Result<()> {
    // Redis expires a key when its clock is past the deadline.
    sleep_until(deadline + 1).await;
    while !keys.is_empty() {
        let mut alive = Vec::new();
        for chunk in keys.chunks(PIPELINE) {
            let mut pipeline = redis::pipe();
            for key in chunk {
                pipeline.cmd("PEXPIRETIME").arg(key);
            }
            let answers: Vec<i64> = pipeline.query_async(&mut connection).await?;
            for (key, answer) in chunk.iter().zip(answers) {
                if answer == -2 {
                    found.send(key.clone()).await?;
                } else {
                    alive.push(key.clone());
                }
            }
        }
        keys = alive;
    }
    Ok(())
}

pub async fn send(
    client: reqwest::Client,
    url: String,
    gone: Arc<Mutex<mpsc::Receiver<String>>>,
    deadline: i64,
) -> anyhow::Result<()> {
    loop {
        let Some(key) = gone.lock().await.recv().await else { return Ok(()) };
        let body = format!(
            "{{\"type\":\"order.timeout.expired\",\"timestamp\":{},\"data\":{{\"key\":\"{key}\",\"database\":0,\
             \"deadline\":{deadline},\"evidence\":\"Witnessed\",\"listener\":\"shop/order-timeouts\"}}}}",
            millis()
        );
        let request = client.post(&url).header("content-type", "application/json").body(body);
        let answer = request.send().await?.error_for_status()?;
        answer.bytes().await?;
    }
}
