//! Taking an epoch, which lies in every partition.
//!
//! Partition 0 decides: of two that take at once, one raises it there. It goes above what *any* partition has, since a
//! failover may have taken partition 0 back to before the last owner. The others follow when it is decided; each waits in
//! its own queue, so that the call has its place among the others everywhere.

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout},
};

use super::{
    jobs::{Decision, Job, Raise, Role, text},
    queues::{Part, Queues, all, of},
    reply,
    script::{self, PROBE},
    worker::Worker,
};
use crate::store::{Epoch, StoreError};

/// Others that take an epoch at the same time are given way so often.
const ATTEMPTS: usize = 8;

/// Puts the taking into all queues; the parts answer with the epoch.
pub(super) fn enqueue(queues: &Queues) -> Result<Vec<Part<Epoch>>, StoreError> {
    let (told, decided) = watch::channel(None);
    let (mut jobs, mut epochs, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for partition in 0..queues.partitions() {
        let (answer, part) = oneshot::channel();
        jobs.push((partition, Job::Read { script: &PROBE, args: Vec::new(), answer }));
        epochs.push(part);
    }
    let mut first = Some((epochs, told));
    for partition in 0..queues.partitions() {
        let (answer, part) = oneshot::channel();
        let role = match first.take() {
            Some((epochs, told)) => Role::First { epochs, told },
            None => Role::Next(decided.clone()),
        };
        jobs.push((partition, Job::Raise(Raise { role, answer })));
        parts.push(part);
    }
    queues.put(jobs).map(|()| parts)
}

/// All have raised it.
pub(super) async fn taken(parts: Vec<Part<Epoch>>) -> Result<Epoch, StoreError> {
    Ok(all(parts).await?.into_iter().next().unwrap_or(Epoch(0)))
}

impl Worker {
    pub async fn raise(&mut self, Raise { role, answer }: Raise) {
        let raised = match role {
            Role::First { epochs, told } => {
                let decided = self.decide(epochs).await;
                told.send_replace(Some(decided.clone()));
                decided
            }
            Role::Next(decided) => match self.decision(decided).await {
                Ok(epoch) => self.follow(epoch).await,
                Err(error) => Err(error),
            },
        };
        let _ = answer.send(raised);
    }

    async fn decide(&mut self, epochs: Vec<Part<Vec<redis::Value>>>) -> Result<Epoch, StoreError> {
        let mut newest = Epoch(0);
        for part in epochs {
            let answer = of(part).await?;
            let (_, epoch) = reply::head(&answer).ok_or_else(|| reply::unexpected(&answer))?;
            newest = newest.max(epoch);
        }
        for _ in 0..ATTEMPTS {
            let epoch = Epoch(newest.0 + 1);
            let (seq, there, raised) = self.raise_to(epoch, "first").await?;
            if raised {
                self.own(epoch, seq);
                return Ok(epoch);
            }
            newest = there.max(epoch);
        }
        Err(StoreError::Unavailable("others take it again and again".to_owned()))
    }

    async fn decision(&self, mut decided: watch::Receiver<Decision>) -> Result<Epoch, StoreError> {
        // All its parts have limits of their own; this one is for what nobody thought of.
        let patience = self.shared.settings.patience * 4;
        let waited = timeout(patience, decided.wait_for(Option::is_some)).await;
        let unknown = || StoreError::Unavailable("the other partitions do not answer".to_owned());
        let decision = waited.map_err(|_| unknown())?.map_err(|_| unknown())?.clone();
        decision.unwrap_or_else(|| Err(unknown()))
    }

    async fn follow(&mut self, epoch: Epoch) -> Result<Epoch, StoreError> {
        let (seq, _, _) = self.raise_to(epoch, "next").await?;
        self.own(epoch, seq);
        Ok(epoch)
    }

    async fn raise_to(&self, epoch: Epoch, how: &str) -> Result<(u64, Epoch, bool), StoreError> {
        let args = [text(epoch.0), how.into()];
        let answer = self.call(&script::RAISE, &args).await?;
        let (seq, there) = reply::head(&answer).ok_or_else(|| reply::unexpected(&answer))?;
        Ok((seq, there, answer.get(2).and_then(reply::number) == Some(1)))
    }

    /// What came before is another owner's to keep.
    fn own(&mut self, epoch: Epoch, seq: u64) {
        self.counted_as(None);
        (self.taken, self.raised) = (epoch, seq);
        // The raise itself is repeated where it is lost.
        self.journal.clear(seq.saturating_sub(1));
        self.wrote = Some(Instant::now());
        (self.seq, self.next) = (seq, self.next.max(seq + 1));
    }
}
