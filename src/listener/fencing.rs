//! Who goes on when two own a listener: whoever took the store last. The other stops, and comes back when it is told to.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What a listener waits for when another process has taken its store (DESIGN rule 9). Taking it back at once would let the
/// two fight for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// For [`super::Supervisor::permit`], with a reading of the membership younger than the fencing.
    Permit,
    /// For so long: nobody else decides, and a person is told.
    Wait(Duration),
}

/// One listener's: it outlives a change of the listener's settings, which is no reason to take the store back.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    permitted: Notify,
}

#[derive(Default)]
struct State {
    fenced: Option<Instant>,
    permitted: Option<Instant>,
}

impl State {
    /// When the store may be taken; `None` while it may not, and nobody knows when.
    fn opens(&self, policy: Fencing) -> Option<Instant> {
        let Some(fenced) = self.fenced else { return Some(Instant::now()) };
        match policy {
            Fencing::Permit => self.permitted.filter(|read_at| *read_at > fenced),
            Fencing::Wait(duration) => Some(fenced + duration),
        }
    }
}

impl Gate {
    /// Another has taken the store, seen now.
    pub fn shut(&self) {
        self.state().fenced = Some(Instant::now());
    }

    pub fn is_shut(&self) -> bool {
        self.state().fenced.is_some()
    }

    /// A reading of the membership, made at `read_at`, names us as the owner.
    pub fn permit(&self, read_at: Instant) {
        let mut state = self.state();
        state.permitted = state.permitted.max(Some(read_at));
        drop(state);
        self.permitted.notify_waiters();
    }

    /// Waits until the store may be taken. Cancel-safe.
    pub async fn pass(&self, policy: Fencing) {
        loop {
            let permitted = self.permitted.notified();
            let opens = self.state().opens(policy);
            match opens {
                Some(at) if at <= Instant::now() => {
                    self.state().fenced = None;
                    return;
                }
                Some(at) => sleep_until(at).await,
                None => permitted.await,
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told while it is shut.
pub(super) fn message(policy: Fencing, fenced: &str) -> String {
    match policy {
        Fencing::Permit => format!("{fenced}; it is taken again when the membership names this replica"),
        Fencing::Wait(duration) => format!(
            "another process has taken this listener ({fenced}); stop one of the two, or give this one another \
             metadata.name or spec.store; it is taken back in {} s",
            duration.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_reading_younger_than_the_fencing_opens_it() {
        let gate = Gate::default();
        gate.pass(Fencing::Permit).await;
        let before = Instant::now();
        advance(Duration::from_secs(1)).await;
        gate.permit(Instant::now());
        gate.shut();
        gate.permit(before);
        let mut passing = pin!(gate.pass(Fencing::Permit));
        assert!(passing.as_mut().now_or_never().is_none());
        advance(Duration::from_secs(3_600)).await;
        assert!(passing.as_mut().now_or_never().is_none(), "time alone does not open it");
        gate.permit(Instant::now());
        assert!(passing.as_mut().now_or_never().is_some());
        assert!(!gate.is_shut());
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_permits_it_opens_by_itself_and_not_at_once() {
        let gate = Gate::default();
        gate.shut();
        gate.permit(Instant::now() + Duration::from_secs(1));
        let mut passing = pin!(gate.pass(Fencing::Wait(Duration::from_secs(30))));
        assert!(passing.as_mut().now_or_never().is_none());
        advance(Duration::from_secs(29)).await;
        assert!(passing.as_mut().now_or_never().is_none());
        advance(Duration::from_secs(1)).await;
        assert!(passing.as_mut().now_or_never().is_some());
    }
}
