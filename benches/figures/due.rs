//! Keys that fall due: told of by the engine, and by a bare loop that asks Redis for them and POSTs what is gone.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::sleep,
};

use super::{
    bed::{Bed, PIPELINE},
    receiver::{Receiver, Told},
    statistics::{late, millis, sleep_until},
};

/// What the engine listens for.
pub const ORDERS: &str = "order:pay:";
/// Outside the engine's pattern.
pub const BARE: &str = "bare:pay:";
/// POSTs under way at once: the engine's own default.
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);
const AFTERWARDS: Duration = Duration::from_millis(500);
/// By how many milliseconds one key may be settled before another of its node that was due so much sooner: looks are under way
/// side by side.
const TOGETHER_MS: i64 = 250;

/// What a yardstick of this kind is, in words.
pub fn bare_loop() -> String {
    format!(
        "a bare loop that asks for the same keys when they are due (`PEXPIRETIME`, pipelined, each master at once) and POSTs what \
         is gone, {AT_ONCE} at a time, with reqwest; it keeps nothing and signs nothing"
    )
}

/// Names and deadlines, in the order of these.
pub struct Keys(Vec<(String, i64)>);

/// From arming the keys to the last 2xx.
#[derive(Clone, Copy)]
pub struct Took {
    /// From the first deadline to the last 2xx, in milliseconds.
    pub telling: f64,
    /// Seconds of CPU that all nodes had together, replicas too.
    pub redis: f64,
}

impl Keys {
    /// So many keys of that name; the first of them are due `ahead` from now, and each at what `after` says of its number, in
    /// milliseconds after that, which never falls.
    pub fn due(name: &str, count: usize, ahead: Duration, after: impl Fn(usize) -> usize) -> anyhow::Result<Self> {
        let first = millis() + i64::try_from(ahead.as_millis())?;
        let key = |number| anyhow::Ok((format!("{name}-{number:08}"), first + i64::try_from(after(number))?));
        Ok(Self((0..count).map(key).collect::<anyhow::Result<_>>()?))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    async fn arm(&self, bed: &Bed) -> anyhow::Result<i64> {
        bed.arm(self.0.iter().cloned()).await?;
        let first = self.0.first().context("there are keys")?.1;
        anyhow::ensure!(millis() < first - 500, "arming took too long");
        Ok(first)
    }

    /// The engine tells `receiver` of all of them: none is lost or told of twice, and what is due first on a node is settled
    /// first.
    pub async fn told(&self, bed: &Bed, receiver: &Receiver) -> anyhow::Result<Took> {
        let before = bed.cpu().await?;
        let first = self.arm(bed).await?;
        receiver.wait(self.len(), PATIENCE).await?;
        let (telling, redis) = (late(receiver.last(), first), bed.cpu().await? - before);
        // What is told of twice comes a little later.
        sleep(AFTERWARDS).await;
        anyhow::ensure!(receiver.count() == self.len(), "{} came of {}", receiver.count(), self.len());
        let told = receiver.told()?;
        anyhow::ensure!(
            self.0.iter().all(|(key, _)| told.contains_key(key)),
            "some keys were told twice and others not"
        );
        anyhow::ensure!(
            told.values().all(|told| told.at >= told.deadline * 1_000),
            "something came before its deadline"
        );
        self.in_order(bed, &told)?;
        Ok(Took { telling, redis })
    }

    fn in_order(&self, bed: &Bed, told: &HashMap<String, Told>) -> anyhow::Result<()> {
        for share in bed.by_owner(self.0.iter().map(|(key, _)| key), |key| key)? {
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

    /// The bare loop tells `receiver` of all of them.
    pub async fn told_barely(&self, bed: &Bed, receiver: &Receiver) -> anyhow::Result<Took> {
        let before = bed.cpu().await?;
        let first = self.arm(bed).await?;
        let (found, gone) = mpsc::channel(self.len());
        let gone = Arc::new(Mutex::new(gone));
        let client = client()?;
        let mut tasks = JoinSet::new();
        for (share, master) in
            bed.by_owner(self.0.iter().cloned(), |(key, _)| key)?.into_iter().zip(bed.masters.clone())
        {
            tasks.spawn(ask(share.into(), master.connection, found.clone()));
        }
        drop(found);
        for _ in 0..AT_ONCE {
            tasks.spawn(send(client.clone(), receiver.url(), Arc::clone(&gone), first));
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        anyhow::ensure!(receiver.count() == self.len(), "{} of {} came", receiver.count(), self.len());
        let took = Took { telling: late(receiver.last(), first), redis: bed.cpu().await? - before };
        receiver.forget();
        Ok(took)
    }
}

fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().pool_max_idle_per_host(AT_ONCE).no_proxy().build()?)
}

/// `left` by their deadlines.
async fn ask(
    mut left: VecDeque<(String, i64)>,
    mut connection: MultiplexedConnection,
    found: mpsc::Sender<String>,
) -> anyhow::Result<()> {
    while let Some((_, next)) = left.front() {
        // Redis expires a key when its clock is past the deadline.
        sleep_until(next + 1).await;
        let now = millis();
        let due = left.iter().take(PIPELINE).take_while(|(_, deadline)| *deadline < now).count();
        if due == 0 {
            continue;
        }
        let chunk: Vec<(String, i64)> = left.drain(..due).collect();
        let mut pipeline = redis::pipe();
        for (key, _) in &chunk {
            pipeline.cmd("PEXPIRETIME").arg(key);
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

async fn send(
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
