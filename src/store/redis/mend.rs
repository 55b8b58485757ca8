//! What is done when a failover has lost writes, and what a partition begins with.

use tokio::time::Instant;

use super::{
    jobs::text,
    names::PLACEHOLDER,
    reply::{self, Done},
    script,
    worker::{Worker, count_reapplied},
};
use crate::store::{Epoch, StoreError};

/// The version of what lies in Redis. A newer one is refused.
pub(super) const SCHEMA: i64 = 1;

/// A key's partition depends on how many there are.
pub(super) fn as_many(found: Option<i64>, wanted: u16) -> Result<(), StoreError> {
    if found == Some(i64::from(wanted)) {
        return Ok(());
    }
    let found = found.map_or_else(|| "an unknown number of".to_owned(), |found| found.to_string());
    Err(StoreError::Refused(format!("it has {found} partitions of this listener, and not {wanted}")))
}

impl Worker {
    /// Sees to it that the partition is there, and says its newest write and epoch.
    pub async fn init(&self) -> Result<(u64, Epoch), StoreError> {
        let partitions = self.shared.settings.partitions;
        let args = [text(SCHEMA), text(partitions), PLACEHOLDER.into()];
        let answer = self.call(&script::INIT, &args).await?;
        let [_, _, schema, count] = answer.as_slice() else { return Err(reply::unexpected(&answer)) };
        let unexpected = || reply::unexpected(&answer);
        let (schema, count) = (reply::number(schema).ok_or_else(unexpected)?, reply::number(count));
        if schema > SCHEMA {
            let path = self.names.keys.first().cloned().unwrap_or_default().into();
            return Err(StoreError::Newer { path, found: schema, known: SCHEMA });
        }
        as_many(count, partitions)?;
        reply::head(&answer).ok_or_else(unexpected)
    }

    /// Makes the writes again that are not there any more, in their order.
    pub async fn mend(&mut self) -> Result<(), StoreError> {
        self.counted_as(None);
        let (mut seq, mut epoch) = self.init().await?;
        let epoch_lost = epoch < self.taken;
        if epoch_lost {
            let args = [text(self.taken.0), b"again".to_vec()];
            let answer = self.call(&script::RAISE, &args).await?;
            (seq, epoch) = reply::head(&answer).ok_or_else(|| reply::unexpected(&answer))?;
        }
        if self.taken > Epoch(0) && epoch > self.taken {
            // The new owner has its own to make again; ours are refused.
            self.left_to(seq);
            return Ok(());
        }
        let gone = self.seq.saturating_sub(seq);
        // It went back to before our epoch, and another has written since: what it counted does not tell what of ours is left.
        let hidden = epoch_lost && seq >= self.raised;
        let count = match (seq < self.seq, hidden) {
            (true, false) => {
                let (count, whole) = self.journal.lost_behind(seq);
                if !whole {
                    tracing::error!(
                        partition = self.index,
                        gone,
                        kept = count,
                        "The store has lost writes that are older than what is kept to make them again: all is looked at anew."
                    );
                    self.holed = self.seq;
                    self.shared.losses.one_more(epoch_lost);
                }
                if count == 0 {
                    // There is nothing to make again: it is as it is.
                    self.seq = seq;
                }
                count
            }
            // Done again, whatever they find. What was written before them may be gone as well: nobody can say.
            (_, true) => {
                self.shared.losses.one_more(true);
                self.seq = self.journal.lost_all(seq);
                self.next = self.next.max(self.seq + 1);
                self.holed = self.seq;
                self.journal.len()
            }
            (false, false) => return Ok(()),
        };
        self.reapply(seq).await?;
        count_reapplied(&self.shared, count as u64);
        tracing::warn!(partition = self.index, writes = count, "The store had lost writes; they were made again.");
        self.upkeep.again();
        Ok(())
    }

    async fn reapply(&mut self, mut seq: u64) -> Result<(), StoreError> {
        while let Some((mine, jobs)) = self.journal.after(seq, self.holed) {
            let answer = self.send(seq, mine, mine <= self.holed, &jobs).await?;
            match reply::done(&answer)? {
                Done::Yes(_) => {
                    // As if written only now: another failover may take it back again.
                    let now = Instant::now();
                    self.journal.made_again(seq, mine, now);
                    self.wrote = Some(now);
                    seq = mine;
                }
                Done::Fenced(outcome) => {
                    self.left_to(outcome.seq);
                    return Ok(());
                }
                Done::Ahead(other) => {
                    (self.seq, self.next) = (other, self.next.max(other + 1));
                    return Ok(());
                }
                // Again: whoever sent us here finds it lost once more.
                Done::Lost => return Ok(()),
            }
        }
        self.seen = Instant::now();
        Ok(())
    }

    fn left_to(&mut self, seq: u64) {
        self.journal.clear(seq);
        (self.seq, self.next) = (seq, self.next.max(seq + 1));
        // Reads go on, and are not taken for lost.
        self.taken = Epoch(0);
    }
}
