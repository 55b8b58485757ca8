//! Makes what the files declare run, now and whenever they change.
//!
//! Everything is read anew each half second and compared with what was read before: a few small files, no dependency,
//! and right for the symlinks that Kubernetes swaps when it updates a mounted Secret. Watching inodes was refused for
//! that reason. Only what differs is made into listeners again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Platform,
    commands::{
        load::{Declared, Files, LoadError, Seen},
        output::{Happening, Line},
    },
    listener::Supervisor,
    model::ListenerId,
    plan::Plan,
    telemetry::probes::{Gate, Heart},
};

const POLL: Duration = Duration::from_millis(500);

type Read = Result<Vec<Plan>, LoadError>;

pub async fn load(files: Files, platform: Platform) -> anyhow::Result<Result<Vec<Declared>, LoadError>> {
    spawn_blocking(move || files.load(platform)).await.context("reading the files")
}

/// How others see that it works.
pub struct Signs {
    pub started: Gate,
    pub reads: Heart,
}

/// Declares `first`, then whatever the files come to.
pub async fn reload(
    files: Files,
    first: Vec<Declared>,
    supervisor: Arc<Supervisor>,
    signs: Signs,
    say: mpsc::Sender<Line>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut running = plans(first);
    supervisor.declare(running.clone()).await;
    signs.started.open();
    let mut steady = Steady::new(Ok(running.clone()));
    let mut seen = None;
    while stop.run_until_cancelled(sleep(POLL)).await.is_some() {
        signs.reads.beat();
        let line = match steady.read(read_again(&files, &mut seen).await?) {
            None => continue,
            Some(Err(error)) => rejected(&error),
            Some(Ok(plans)) => {
                let line = reloaded(&running, &plans);
                running.clone_from(&plans);
                supervisor.declare(plans).await;
                line
            }
        };
        // Nobody hears it: the process is ending.
        if say.send(line).await.is_err() {
            break;
        }
    }
    signs.reads.retire();
    Ok(())
}

/// `None`: the same as before.
async fn read_again(files: &Files, seen: &mut Option<Seen>) -> anyhow::Result<Option<Read>> {
    let (files, before) = (files.clone(), seen.take());
    let reading = spawn_blocking(move || match before {
        Some(before) if before.is_still_there(&files) => (None, before),
        _ => {
            let (read, now) = files.load_and_see(Platform::Process);
            (Some(read.map(plans)), now)
        }
    });
    let (read, now) = reading.await.context("reading the files")?;
    *seen = Some(now);
    Ok(read)
}

fn plans(declared: Vec<Declared>) -> Vec<Plan> {
    declared.into_iter().map(|declared| declared.plan).collect()
}

/// Gives what was read once it was read twice, for a file may be read while it is being written, and an empty half of it
/// would stop listeners.
struct Steady {
    settled: Read,
    glimpsed: Read,
}

impl Steady {
    fn new(settled: Read) -> Self {
        Self { glimpsed: settled.clone(), settled }
    }

    /// `None`: what was read before.
    fn read(&mut self, read: Option<Read>) -> Option<Read> {
        let twice = read.as_ref().is_none_or(|read| *read == self.glimpsed);
        if let Some(read) = read {
            self.glimpsed = read;
        }
        if !twice || self.glimpsed == self.settled {
            return None;
        }
        self.settled = self.glimpsed.clone();
        Some(self.settled.clone())
    }
}

fn rejected(error: &LoadError) -> Line {
    let message = format!("the files are not valid, the listeners go on as they were: {}", error.problems.join("; "));
    Line::new(Happening::Rejected, None, message).with("problems", error.problems.clone())
}

fn reloaded(before: &[Plan], now: &[Plan]) -> Line {
    let by_name = |plans: &[Plan]| -> BTreeMap<ListenerId, Plan> {
        plans.iter().map(|plan| (plan.listener.clone(), plan.clone())).collect()
    };
    let (before, now) = (by_name(before), by_name(now));
    let added: Vec<String> = now.keys().filter(|name| !before.contains_key(*name)).map(ToString::to_string).collect();
    let removed: Vec<String> = before.keys().filter(|name| !now.contains_key(*name)).map(ToString::to_string).collect();
    let changed: Vec<String> = now
        .iter()
        .filter(|(name, plan)| before.get(*name).is_some_and(|other| other != *plan))
        .map(|(name, _)| name.to_string())
        .collect();
    let parts: Vec<String> = [("added", &added), ("changed", &changed), ("removed", &removed)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", names.join(", ")))
        .collect();
    let what = if parts.is_empty() { "valid again, nothing changed".to_owned() } else { parts.join("; ") };
    Line::new(Happening::Reloaded, None, format!("files read again: {what}"))
        .with("added", added)
        .with("changed", changed)
        .with("removed", removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(text: &str) -> Read {
        Err(LoadError { problems: vec![text.to_owned()] })
    }

    #[test]
    fn a_change_counts_when_it_was_read_twice_and_only_once() {
        let mut steady = Steady::new(Ok(Vec::new()));
        assert_eq!(steady.read(Some(Ok(Vec::new()))), None);
        assert_eq!(steady.read(Some(bad("half"))), None, "it may be half written");
        assert_eq!(steady.read(Some(bad("whole"))), None);
        assert_eq!(steady.read(Some(bad("whole"))), Some(bad("whole")));
        assert_eq!(steady.read(Some(bad("whole"))), None, "it is said once");
        assert_eq!(steady.read(None), None);
        assert_eq!(steady.read(Some(bad("other"))), None);
        assert_eq!(steady.read(None), Some(bad("other")), "it is still there");
        assert_eq!(steady.read(Some(Ok(Vec::new()))), None);
        assert_eq!(steady.read(Some(Ok(Vec::new()))), Some(Ok(Vec::new())));
    }
}
