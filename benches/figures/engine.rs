//! The built binary, as anybody would run it: `run -f`, `--output json`.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::{Instant, timeout},
};

use super::{bed::Bed, machine};

const READY_WITHIN: Duration = Duration::from_secs(300);
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

pub struct Engine {
    child: Child,
    output: tokio::io::Lines<BufReader<ChildStdout>>,
    directory: TempDir,
    /// From starting the process to its saying `ready`.
    pub start_up: Duration,
}

/// In MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: f64,
    /// The most that was resident since the process began.
    pub peak: f64,
}

/// Where the ledger lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Local,
    /// In the watched cluster.
    Redis,
}

impl Engine {
    /// Starts with an empty ledger in a file, and returns when it is ready.
    pub async fn start(bed: &Bed, pattern: &str, webhook: &str) -> anyhow::Result<Self> {
        Self::with(bed, &[pattern.to_owned()], webhook, Store::Local).await
    }

    /// Starts with a listener for each pattern, and returns when all of them are ready.
    pub async fn with(bed: &Bed, patterns: &[String], webhook: &str, store: Store) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("figures-").tempdir()?;
        let secrets = directory.path().join("secrets/webhook-key");
        fs::create_dir_all(&secrets)?;
        fs::write(secrets.join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
        let listener = directory.path().join("listener.yaml");
        let documents = patterns.iter().enumerate();
        let documents: Vec<String> =
            documents.map(|(number, pattern)| yaml(number, &bed.cluster.seeds(), pattern, webhook, store)).collect();
        fs::write(&listener, documents.join("---\n"))?;
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_redis-expiry-operator"))
            .args(["run", "--output", "json", "-f"])
            .arg(&listener)
            .arg("--state-dir")
            .arg(directory.path().join("state"))
            .arg("--secrets-dir")
            .arg(directory.path().join("secrets"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(directory.path().join("engine.log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("starting redis-expiry-operator")?;
        let output = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
        let mut engine = Self { child, output, directory, start_up: Duration::ZERO };
        for _ in patterns {
            timeout(READY_WITHIN, engine.say("ready")).await.context("it was not ready in time")??;
        }
        engine.start_up = began.elapsed();
        Ok(engine)
    }

    /// Reads its output up to that event.
    async fn say(&mut self, event: &str) -> anyhow::Result<()> {
        while let Some(line) = self.output.next_line().await? {
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            if said["event"] == event {
                return Ok(());
            }
        }
        bail!("it ended: {}", fs::read_to_string(self.directory.path().join("engine.log")).unwrap_or_default())
    }

    pub fn memory(&self) -> anyhow::Result<Memory> {
        let process = self.child.id().context("it runs")?;
        let read = |name| -> anyhow::Result<f64> {
            let value = machine::field(&format!("/proc/{process}/status"), name).context("it runs")?;
            let kibibytes: u32 = value.trim_end_matches("kB").trim().parse()?;
            Ok(f64::from(kibibytes) / 1024.0)
        };
        Ok(Memory { resident: read("VmRSS")?, peak: read("VmHWM")? })
    }

    /// Seconds of CPU that it has had.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        let process = self.child.id().context("it runs")?;
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name of the program may hold anything; the third field is the first after it.
        let fields: Vec<&str> = stat.rsplit_once(')').context("proc(5)")?.1.split_whitespace().collect();
        let ticks: u32 = fields.get(11..13).context("proc(5)")?.iter().map(|field| field.parse().unwrap_or(0)).sum();
        // What the kernel counts by for user space.
        Ok(f64::from(ticks) / 100.0)
    }

    /// SIGTERM; says how many keys its ledger has.
    pub async fn stop(mut self) -> anyhow::Result<usize> {
        let process = self.child.id().context("it runs")?.to_string();
        // std cannot send this signal, and every shell can.
        Command::new("sh").args(["-c", r#"kill -s TERM "$1""#, "signal", &process]).status().await?;
        // A pipe that nobody reads would hold it up.
        timeout(STOPPED_WITHIN, async { while let Ok(Some(_)) = self.output.next_line().await {} }).await?;
        let status = timeout(STOPPED_WITHIN, self.child.wait()).await??;
        anyhow::ensure!(status.success(), "it stopped with {status}");
        let mut tracked = 0;
        for file in files(&self.directory.path().join("state"))? {
            let store = rusqlite::Connection::open(&file)?;
            let count: i64 =
                store.query_row("SELECT (SELECT count(*) FROM keys WHERE deadline IS NOT NULL) + (SELECT coalesce(sum(count), 0) FROM unfiled)", [], |row| row.get(0))?;
            tracked += usize::try_from(count)?;
        }
        Ok(tracked)
    }
}

/// The stores under a state directory.
fn files(folder: &std::path::Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "db" || extension == "sqlite") {
            found.push(path);
        }
    }
    Ok(found)
}

fn yaml(number: usize, seeds: &[String], pattern: &str, webhook: &str, store: Store) -> String {
    // JSON's arrays and strings are YAML's.
    let (seeds, pattern, webhook) = (json!(seeds), json!(pattern), json!(webhook));
    format!(
        "apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {{name: order-timeouts-{number}, namespace: shop}}
spec:
  redis: {{mode: Cluster, addresses: {seeds}}}
  keyPattern: {pattern}
  webhook:
    url: {webhook}
    payload: {{type: order.timeout.expired}}
    signing: {{scheme: HMACSHA256, secretKeyRefs: [{{name: webhook-key, key: secret}}]}}
  delivery:
    retry: {{initialBackoff: 200ms, maxBackoff: 2s}}
  store: {{type: {store:?}}}
"
    )
}
