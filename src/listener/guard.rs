//! Keeps one listener's pipeline running: one that fails by a fault of this program is reported and begun again, and takes no
//! other with it.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};

use super::{
    Hold,
    pipeline::{Ending, Pipeline, ending},
};

/// How long is waited before the next try: doubled each time, and from the start again after a run that was long enough.
pub(super) struct Backoff {
    next: Duration,
    began: Instant,
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);
/// Who ran for so long had begun well.
const WELL: Duration = Duration::from_secs(30);

impl Backoff {
    pub fn new() -> Self {
        Self { next: FIRST, began: Instant::now() }
    }
    /// A try begins.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }
    /// It has failed: how long to wait before another.
    pub fn wait(&mut self) -> Duration {
        if self.began.elapsed() >= WELL {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = LONGEST.min(wait * 2);
        wait.mul_f64(rand::random_range(0.75..1.0))
    }
}

/// Runs what `make` makes until it was told to end.
pub(super) async fn keep_running(make: impl Fn() -> Pipeline, mut end: watch::Receiver<Ending>) {
    let mut backoff = Backoff::new();
    loop {
        backoff.begin();
        let pipeline = make();
        let failing = pipeline.teller();
        let mut task = JoinSet::new();
        task.spawn(pipeline.run());
        let ended = task.join_next().await;
        let well = matches!(ended, Some(Ok(())));
        let told = *end.borrow() != Ending::Never;
        if well && told {
            return;
        }
        let wait = backoff.wait();
        let why = cause(ended);
        tracing::error!(listener = %failing.listener(), %why, ?wait, "A listener failed; it begins again.");
        if told {
            // It was to end, and has. What a deleted one leaves in its store is not worth another fault.
            return;
        }
        failing.hold(Hold::Store {
            category: "Failed",
            message: format!("a fault of this program, which begins again: {why}; report it with the log"),
        });
        tokio::select! {
            () = sleep(wait) => {}
            // The next one is told so at once, and ends as it is to.
            () = ending(&mut end) => {}
        }
    }
}

fn cause(ended: Option<Result<(), JoinError>>) -> String {
    match ended {
        Some(Err(error)) => error.to_string(),
        _ => "it ended though nobody told it to".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_try_waits_longer_up_to_a_bound_and_a_long_run_begins_anew() {
        let mut backoff = Backoff::new();
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.begin();
            waits.push(backoff.wait());
        }
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST) && waits[7] > LONGEST / 2, "{waits:?}");
        backoff.begin();
        advance(WELL).await;
        assert!(backoff.wait() <= FIRST);
    }
}
