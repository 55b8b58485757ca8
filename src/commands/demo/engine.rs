//! The engine, as anybody would run it: the built binary, a YAML file, a directory of secrets.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::watchdog::Watchdog;

/// What it was told to do.
pub struct Settings<'a> {
    pub executable: PathBuf,
    /// For its files; it exists.
    pub directory: &'a Path,
    /// `spec.redis`, as JSON.
    pub redis: Value,
    pub webhook: String,
}

/// How far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Starting,
    Ready,
    Ended,
}

/// A running `redis-expiry-operator run`. Dropped, it is killed.
pub struct Engine {
    child: Child,
    reached: watch::Receiver<Reached>,
    reader: JoinSet<()>,
    errors: PathBuf,
}

/// A signing secret as Standard Webhooks writes them.
pub fn secret() -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(rand::random::<[u8; 32]>()))
}

impl Engine {
    /// Writes its files and starts it.
    pub fn start(settings: &Settings, secret: &str, watchdog: &Watchdog) -> anyhow::Result<Self> {
        let directory = settings.directory;
        let secrets = directory.join("secrets");
        fs::create_dir_all(secrets.join("webhook-key"))?;
        fs::write(secrets.join("webhook-key/secret"), secret)?;
        let listener = directory.join("listener.yaml");
        fs::write(&listener, listener_yaml(settings)).context("writing listener.yaml")?;
        let errors = directory.join("engine.log");
        let mut command = Command::new(&settings.executable);
        command.arg("run").arg("-f").arg(&listener).arg("--secrets-dir").arg(&secrets);
        command.arg("--state-dir").arg(directory.join("state")).args(["--output", "json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        watchdog.enlist(&mut command)?;
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().context("starting redis-expiry-operator run")?;
        let output = child.stdout.take().context("the engine's output is a pipe")?;
        let (sender, reached) = watch::channel(Reached::Starting);
        let mut reader = JoinSet::new();
        reader.spawn(read(output, sender));
        Ok(Self { child, reached, reader, errors })
    }

    /// Waits until each master is subscribed and scanned.
    pub async fn ready(&mut self, patience: Duration) -> anyhow::Result<()> {
        // The guard that it returns would lock the channel; only what it reached is wanted.
        let reached = timeout(patience, self.reached.wait_for(|it| *it != Reached::Starting)).await;
        match reached.map(|reached| reached.is_ok_and(|it| *it == Reached::Ready)) {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the engine ended: {}", self.last_words()),
            Err(_) => bail!("the engine was not ready within {patience:?}: {}", self.last_words()),
        }
    }

    /// Returns only if it ends by itself, which it should not.
    pub async fn ended(&self) -> anyhow::Error {
        let mut reached = self.reached.clone();
        // A sender that is gone is an engine that is gone.
        let _ = reached.wait_for(|it| *it == Reached::Ended).await;
        anyhow::anyhow!("the engine ended: {}", self.last_words())
    }

    /// SIGTERM, and waits: it hands over what is under way.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(process) = self.child.id() {
            // std cannot send this signal, and every shell can.
            Command::new("sh").args(["-c", r#"kill -s TERM "$1""#, "signal", &process.to_string()]).status()?;
        }
        let status = timeout(Duration::from_secs(15), self.child.wait()).await;
        let status = status.context("the engine did not stop within 15 s")?.context("waiting for the engine")?;
        self.reader.shutdown().await;
        if !status.success() {
            bail!("the engine stopped with {status}: {}", self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// Reads to the end: a pipe that nobody reads holds up who writes.
async fn read(output: ChildStdout, reached: watch::Sender<Reached>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["event"] == "ready" {
            reached.send_replace(Reached::Ready);
        }
    }
    reached.send_replace(Reached::Ended);
}

fn listener_yaml(settings: &Settings) -> String {
    let Settings { redis, webhook, .. } = settings;
    // JSON is YAML.
    let webhook = json!(webhook);
    format!(
        "apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata:
  name: order-timeouts
  namespace: demo
spec:
  redis: {redis}
  keyPattern: \"order:pay:*\"
  idTemplate: \"order:pay:{{orderId}}\"
  webhook:
    url: {webhook}
    payload:
      type: order.timeout.expired
    signing:
      scheme: HMACSHA256
      secretKeyRefs:
        - name: webhook-key
          key: secret
  store:
    type: Local
"
    )
}
