//! How a listener's store fares, beside what its ledger and its delivery hear of it: how much it holds, whether it is durable, and
//! whether it would take a write, though there may be none to make.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    clock,
    meters::Shared,
    store::{Counts, Durability, Epoch, Store, StoreError},
};

/// How often the store is counted while nothing is written; else each [`clock::AT_REST`].
const COUNT_AGAIN: Duration = Duration::from_secs(10);
/// How often it is asked whether its owner still is one, and may write ..
const OWNER: Duration = Duration::from_secs(10);
/// .. and whether it is durable.
const DURABLE: Duration = Duration::from_secs(60);
/// Both, while something is wrong: its end is to be seen soon.
const TROUBLED: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub counts: Counts,
    /// How often they were counted.
    pub counted: u64,
    /// `None` until it was asked.
    pub durability: Option<Durability>,
    pub error: Option<StoreError>,
}

/// What was asked last, and when it is asked again.
struct Asked {
    error: Option<StoreError>,
    next: Instant,
}

impl Asked {
    fn new(now: Instant) -> Self {
        Self { error: None, next: now }
    }
    fn answered<T>(&mut self, answer: Result<T, StoreError>, every: Duration) -> Option<T> {
        let wait = if answer.is_ok() { every } else { TROUBLED.min(every) };
        self.next = Instant::now() + wait;
        match answer {
            Ok(value) => {
                self.error = None;
                Some(value)
            }
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

/// Until the store will have nothing more from us: then says why. A store that only we have need not be asked whose it is.
pub(super) async fn watch(
    store: Arc<dyn Store>,
    epoch: Epoch,
    shared: bool,
    meters: Shared,
    tell: watch::Sender<Health>,
) -> StoreError {
    let now = Instant::now();
    let (mut counting, mut owning, mut lasting) = (Asked::new(now), Asked::new(now + OWNER), Asked::new(now));
    let mut written = None;
    loop {
        let now = Instant::now();
        // Before it is counted: what is written meanwhile is counted the next time.
        let writes = Some(meters.store.writes.read().count);
        let counts = if written != writes || counting.next <= now {
            written = writes;
            counting.answered(store.counts().await, COUNT_AGAIN)
        } else {
            None
        };
        if shared && owning.next <= now {
            // Nothing is changed, and all that a change needs is asked for.
            owning.answered(store.apply(epoch, Vec::new()).durable.await, OWNER);
        }
        let durability = if lasting.next <= now { lasting.answered(store.durability().await, DURABLE) } else { None };
        let errors = [&owning, &lasting, &counting].into_iter().filter_map(|asked| asked.error.clone());
        if let Some(last) = errors.clone().find(|error| !error.retryable()) {
            return last;
        }
        let error = errors.into_iter().next();
        tell.send_if_modified(|health| {
            let before = health.clone();
            if let Some(counts) = counts {
                health.counts = counts;
                health.counted += 1;
            }
            health.durability = durability.or(health.durability.take());
            health.error = error;
            *health != before
        });
        sleep_until(clock::next(clock::AT_REST)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Millis,
        store::{Change, memory::MemoryStore, metered::Metered},
    };

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_counted_within_a_second_and_what_is_not_again_in_a_while() {
        let meters = Shared::default();
        let store: Arc<dyn Store> = Arc::new(Metered::new(Arc::new(MemoryStore::new()), Arc::clone(&meters)));
        let epoch = store.take_epoch().await.unwrap();
        let (tell, mut health) = watch::channel(Health::default());
        let watching = watch(Arc::clone(&store), epoch, false, Arc::clone(&meters), tell);
        let asking = async {
            let first = health.wait_for(|health| health.counted > 0).await.unwrap().clone();
            assert_eq!(first.counts.tracked, 0);
            let key = "order:pay:1".into();
            let change = Change::Record { key, saw: None, deadline: Millis(5) };
            assert_eq!(store.apply(epoch, vec![change]).done.await.unwrap(), [true]);
            let began = Instant::now();
            health.wait_for(|health| health.counts.tracked == 1).await.unwrap();
            assert!(began.elapsed() <= 2 * clock::AT_REST, "{:?}", began.elapsed());
            let counted = health.borrow().counted;
            let began = Instant::now();
            health.wait_for(|health| health.counted > counted).await.unwrap();
            let again = began.elapsed();
            assert!(again + clock::AT_REST > COUNT_AGAIN && again <= COUNT_AGAIN + clock::AT_REST, "{again:?}");
        };
        tokio::select! {
            error = watching => panic!("{error}"),
            () = asking => {}
        }
    }
}
