//! Whether the process is ready, and whether it is alive: what `/readyz` and `/livez` answer. Decided with `now` as an argument.
//!
//! A gate is held by whoever knows, and is closed until it is opened, and again when its holder is gone. A heart is held by a
//! task that comes round: one that has not beaten for longer than it may, or that is gone, is dead, and only a restart helps.
//! Neither asks Redis or the API server: a restart mends neither.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The gates and hearts of a process.
#[derive(Clone, Default)]
pub struct Probes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Why a gate is closed; `None`: it is open.
    gates: BTreeMap<&'static str, Option<String>>,
    hearts: BTreeMap<&'static str, Beats>,
}

struct Beats {
    limit: Duration,
    /// `None`: its task has ended.
    last: Option<Instant>,
}

/// One thing that has to be so before the process is ready.
pub struct Gate {
    probes: Probes,
    name: &'static str,
}

/// One task that has to come round.
pub struct Heart {
    probes: Probes,
    name: &'static str,
}

/// An answer: whether all is well, and a line for each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub well: bool,
    pub text: String,
}

impl Probes {
    /// A gate that is closed because of `reason`.
    pub fn gate(&self, name: &'static str, reason: &str) -> Gate {
        self.state().gates.insert(name, Some(reason.to_owned()));
        Gate { probes: self.clone(), name }
    }

    /// A heart that beats at least every `limit`.
    pub fn heart(&self, name: &'static str, limit: Duration) -> Heart {
        self.state().hearts.insert(name, Beats { limit, last: Some(Instant::now()) });
        Heart { probes: self.clone(), name }
    }

    pub fn ready(&self) -> Report {
        let state = self.state();
        report(state.gates.iter().map(|(name, closed)| (*name, closed.clone())))
    }

    pub fn alive(&self, now: Instant) -> Report {
        let state = self.state();
        report(state.hearts.iter().map(|(name, beats)| (*name, beats.wrong(now))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beats {
    fn wrong(&self, now: Instant) -> Option<String> {
        let Some(last) = self.last else { return Some("its task has ended".to_owned()) };
        let silent = now.saturating_duration_since(last);
        (silent > self.limit).then(|| format!("it has not come round for {} s", silent.as_secs()))
    }
}

fn report<'a>(parts: impl Iterator<Item = (&'a str, Option<String>)>) -> Report {
    let mut report = Report { well: true, text: String::new() };
    for (name, wrong) in parts {
        report.well &= wrong.is_none();
        let (sign, why) = wrong.map_or(("+", "ok".to_owned()), |why| ("-", why));
        let _ = writeln!(report.text, "[{sign}] {name}: {why}");
    }
    report
}

impl Gate {
    pub fn open(&self) {
        self.probes.state().gates.insert(self.name, None);
    }
    pub fn close(&self, reason: &str) {
        self.probes.state().gates.insert(self.name, Some(reason.to_owned()));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close("its task has ended");
    }
}

impl Heart {
    pub fn beat(&self) {
        if let Some(beats) = self.probes.state().hearts.get_mut(self.name) {
            beats.last = Some(Instant::now());
        }
    }

    /// Its task ends as it should.
    pub fn retire(self) {
        self.probes.state().hearts.remove(self.name);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        if let Some(beats) = self.probes.state().hearts.get_mut(self.name) {
            beats.last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_gate_is_open() {
        let probes = Probes::default();
        let (a, b) = (probes.gate("a", "not yet"), probes.gate("b", "nor this"));
        a.open();
        assert_eq!(probes.ready(), Report { well: false, text: "[+] a: ok\n[-] b: nor this\n".into() });
        b.open();
        assert!(probes.ready().well);
        a.close("stopping");
        assert!(!probes.ready().well);
        a.open();
        drop(b);
        assert_eq!(probes.ready().text, "[+] a: ok\n[-] b: its task has ended\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_come_round_is_dead() {
        let probes = Probes::default();
        let heart = probes.heart("loop", Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(probes.alive(Instant::now()).well);
        tokio::time::advance(Duration::from_secs(2)).await;
        let report = probes.alive(Instant::now());
        assert_eq!((report.well, report.text.as_str()), (false, "[-] loop: it has not come round for 12 s\n"));
        heart.beat();
        assert!(probes.alive(Instant::now()).well);
        drop(heart);
        assert_eq!(probes.alive(Instant::now()).text, "[-] loop: its task has ended\n");
        probes.heart("loop", Duration::from_secs(10)).retire();
        assert!(probes.alive(Instant::now()).well);
    }
}
