//! Whether the process is ready, and whether it is alive.
//!
//! Readiness is *gates*: whoever makes ready holds one and opens it. Liveness is *hearts*: every task that must go on
//! forever holds one and beats. Neither asks Redis, the store or the API server: restarting this process repairs none of
//! them, and a replica that waits for them is as ready as it can be.
//!
//! # Guarantees
//! - A gate is closed until it is opened, and again when it is dropped: who held it saw to it that it is true.
//! - A heart that is dropped without [`Heart::retire`] is dead, so a task that panics is noticed without a word of its own.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

/// Every gate and heart of the process.
#[derive(Clone, Debug, Default)]
pub struct Probes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// It was told to stop, and by what.
    stopping: Option<String>,
    gates: BTreeMap<u64, Gated>,
    hearts: BTreeMap<u64, Beating>,
}

/// A gate's state: `None` is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gated {
    pub name: &'static str,
    pub closed: Option<String>,
}

/// A heart's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beating {
    pub name: &'static str,
    pub limit: Duration,
    pub last: Instant,
    /// Its task has ended, and should not have.
    pub ended: bool,
}

/// What a probe is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub good: bool,
    /// For people: a line for each gate or heart.
    pub lines: String,
}

impl Probes {
    /// A new gate, closed. `name` is what is true once it is open: "the watch of redisexpirylisteners has synced".
    pub fn gate(&self, name: &'static str) -> Gate {
        let gated = Gated { name, closed: Some("not yet".to_owned()) };
        let id = self.state().add(|state| &mut state.gates, gated);
        Gate { probes: self.clone(), id }
    }

    /// A heart that beats now, and has to beat again within `limit`, for ever.
    pub fn heart(&self, name: &'static str, limit: Duration) -> Heart {
        let beating = Beating { name, limit, last: Instant::now(), ended: false };
        let id = self.state().add(|state| &mut state.hearts, beating);
        Heart { probes: self.clone(), id }
    }

    /// From here on the process is not ready, and that its tasks end is no illness.
    pub fn stop(&self, reason: impl Into<String>) {
        self.state().stopping = Some(reason.into());
    }

    pub fn ready(&self) -> Verdict {
        let state = self.state();
        let mut verdict = ready(state.gates.values());
        if let Some(reason) = &state.stopping {
            verdict.line(false, "it was not told to stop", &format!(": {reason}"));
        }
        verdict
    }
    pub fn alive(&self, now: Instant) -> Verdict {
        let state = self.state();
        let mut verdict = alive(state.hearts.values(), now);
        verdict.good |= state.stopping.is_some();
        verdict
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole between any two of its changes, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add<T>(&mut self, of: impl FnOnce(&mut Self) -> &mut BTreeMap<u64, T>, what: T) -> u64 {
        let id = self.next;
        self.next += 1;
        of(self).insert(id, what);
        id
    }
}

/// Ready when every gate is open.
pub fn ready<'a>(gates: impl Iterator<Item = &'a Gated>) -> Verdict {
    let mut verdict = Verdict { good: true, lines: String::new() };
    for Gated { name, closed } in gates {
        match closed {
            None => verdict.line(true, name, ""),
            Some(reason) => verdict.line(false, name, &format!(": {reason}")),
        }
    }
    verdict
}

/// Alive when every heart beat in time, and none has ended.
pub fn alive<'a>(hearts: impl Iterator<Item = &'a Beating>, now: Instant) -> Verdict {
    let mut verdict = Verdict { good: true, lines: String::new() };
    for Beating { name, limit, last, ended } in hearts {
        let ago = now.saturating_duration_since(*last);
        if *ended {
            verdict.line(false, name, ": it has ended");
        } else {
            verdict.line(
                ago <= *limit,
                name,
                &format!(": {:.1} s ago, at most {} s", ago.as_secs_f64(), limit.as_secs()),
            );
        }
    }
    verdict
}

impl Verdict {
    fn line(&mut self, good: bool, name: &str, rest: &str) {
        self.good &= good;
        let _ = writeln!(self.lines, "[{}] {name}{rest}", if good { '+' } else { '-' });
    }
}

/// Something that must be so before the process is ready.
#[derive(Debug)]
pub struct Gate {
    probes: Probes,
    id: u64,
}

impl Gate {
    pub fn open(&self) {
        self.set(None);
    }
    /// `reason`, for people: "the CustomResourceDefinition is not installed".
    pub fn close(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }
    fn set(&self, closed: Option<String>) {
        if let Some(gate) = self.probes.state().gates.get_mut(&self.id) {
            gate.closed = closed;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let ended = "who held it has ended";
        if let Some(Gated { closed, .. }) = self.probes.state().gates.get_mut(&self.id) {
            *closed = Some(closed.take().map_or_else(|| ended.to_owned(), |reason| format!("{reason}, and {ended}")));
        }
    }
}

/// A sign of life of a task that must go on.
#[derive(Debug)]
pub struct Heart {
    probes: Probes,
    id: u64,
}

impl Heart {
    pub fn beat(&self) {
        if let Some(heart) = self.probes.state().hearts.get_mut(&self.id) {
            heart.last = Instant::now();
        }
    }
    /// Its task ends, as it should.
    pub fn retire(self) {
        self.probes.state().hearts.remove(&self.id);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        if let Some(heart) = self.probes.state().hearts.get_mut(&self.id) {
            heart.ended = true;
        }
    }
}

/// Shows that the runtime runs tasks and timers: beats every second until `stop`.
pub async fn tick(heart: Heart, stop: CancellationToken) {
    let mut tick = interval(Duration::from_secs(1));
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        heart.beat();
    }
    heart.retire();
}

#[cfg(test)]
mod tests {
    use tokio::{task::JoinSet, time::advance};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn ready_only_while_every_gate_is_open_and_each_closed_one_says_why() {
        let probes = Probes::default();
        assert!(probes.ready().good, "nothing is waited for");
        let (watch, other) = (probes.gate("the watch has synced"), probes.gate("the files were read"));
        other.open();
        assert_eq!(
            probes.ready(),
            Verdict { good: false, lines: "[-] the watch has synced: not yet\n[+] the files were read\n".to_owned() }
        );
        watch.open();
        assert!(probes.ready().good);
        other.close("they are gone");
        assert!(!probes.ready().good && probes.ready().lines.contains("[-] the files were read: they are gone\n"));
    }

    #[test]
    fn a_gate_that_is_dropped_is_closed() {
        let probes = Probes::default();
        let (open, closed) = (probes.gate("one"), probes.gate("two"));
        open.open();
        drop((open, closed));
        let ready = probes.ready();
        assert!(!ready.good);
        assert_eq!(ready.lines, "[-] one: who held it has ended\n[-] two: not yet, and who held it has ended\n");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_to_stop_is_not_ready_and_not_ill() {
        let probes = Probes::default();
        let heart = probes.heart("the controller", LIMIT);
        probes.stop("SIGTERM");
        drop(heart);
        advance(LIMIT * 9).await;
        assert!(probes.alive(Instant::now()).good, "{:?}", probes.alive(Instant::now()));
        assert_eq!(probes.ready(), Verdict { good: false, lines: "[-] it was not told to stop: SIGTERM\n".to_owned() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_heart_that_does_not_beat_in_time_is_named() {
        let probes = Probes::default();
        let (heart, _other) = (probes.heart("the controller", LIMIT), probes.heart("the runtime", LIMIT * 9));
        advance(LIMIT).await;
        assert!(probes.alive(Instant::now()).good, "just in time");
        advance(Duration::from_millis(200)).await;
        let late = probes.alive(Instant::now());
        assert!(!late.good);
        assert_eq!(
            late.lines,
            "[-] the controller: 10.2 s ago, at most 10 s\n[+] the runtime: 10.2 s ago, at most 90 s\n"
        );
        heart.beat();
        assert!(probes.alive(Instant::now()).good, "it goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_heart_that_is_dropped_is_dead_at_once_and_one_that_retires_is_not_missed() {
        let probes = Probes::default();
        probes.heart("one that ends well", LIMIT).retire();
        assert_eq!(probes.alive(Instant::now()), Verdict { good: true, lines: String::new() });
        let heart = probes.heart("the reloader", LIMIT);
        let mut task = JoinSet::new();
        task.spawn(async move {
            heart.beat();
            panic!("a fault of the reloader");
        });
        assert!(task.join_next().await.unwrap().is_err());
        assert_eq!(probes.alive(Instant::now()).lines, "[-] the reloader: it has ended\n");
    }

    #[tokio::test(start_paused = true)]
    async fn the_tick_beats_until_it_is_told_to_stop() {
        let (probes, stop) = (Probes::default(), CancellationToken::new());
        let mut task = JoinSet::new();
        task.spawn(tick(probes.heart("the runtime", LIMIT), stop.clone()));
        tokio::time::sleep(LIMIT * 6).await;
        assert!(probes.alive(Instant::now()).good);
        stop.cancel();
        task.join_next().await.unwrap().unwrap();
        advance(LIMIT * 2).await;
        assert!(probes.alive(Instant::now()).good && probes.alive(Instant::now()).lines.is_empty());
    }
}
