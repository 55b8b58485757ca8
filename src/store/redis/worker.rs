//! The task of one partition. It has one script under way at a time: so writes are in order, those that gather meanwhile go
//! together, and one that got no answer can be sent again without being done twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Value;
use tokio::time::{Instant, sleep_until};

use super::{
    counting::{COUNTED, Counting},
    jobs::{Answer, Args, CHUNK, Job, Next, Write, text, written},
    journal::Journal,
    link::{Call, Link},
    names::{Kind, Names},
    places::Newest,
    queues::Queues,
    reply::{self, Done, Outcome},
    script::{self, Script},
    settings::Settings,
};
use crate::store::{Epoch, Losses, StoreError};

/// What all partitions of a store have in common.
pub(super) struct Shared {
    pub settings: Settings,
    pub link: Arc<Link>,
    pub queues: Queues,
    pub newest: Newest,
    /// Tells this process's writes from another's.
    pub writer: String,
    /// Writes that a failover had lost and that were made again.
    pub reapplied: AtomicU64,
    pub losses: Lost,
    pub counting: Counting,
}

/// Losses of more than what is kept to be made again.
#[derive(Default)]
pub(super) struct Lost {
    count: AtomicU64,
    before_us: AtomicU64,
}

impl Lost {
    pub fn one_more(&self, before_us: bool) {
        self.before_us.fetch_add(before_us.into(), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Release);
    }
    pub fn so_far(&self) -> Losses {
        let count = self.count.load(Ordering::Acquire);
        Losses { count, before_us: self.before_us.load(Ordering::Relaxed) }
    }
}

pub(super) struct Worker {
    pub shared: Arc<Shared>,
    pub index: usize,
    pub names: Names,
    pub journal: Journal,
    /// The newest write that we know to be there.
    pub seq: u64,
    /// The number of the next one: of those in between we do not know.
    pub next: u64,
    /// The epoch that was taken here, 0 if none was, and the number of that.
    pub taken: Epoch,
    pub raised: u64,
    pub upkeep: super::upkeep::Upkeep,
    /// Writes up to this were made on what is lost for good: they are made again whatever they find.
    pub holed: u64,
    /// When it was last seen that nothing is lost.
    pub seen: Instant,
    /// When that was asked last, though nobody had called.
    pub probed: Instant,
    /// When something was written last, the epoch included: so long ago, a failover takes nothing back.
    pub wrote: Option<Instant>,
    /// What the partition's owner has counted since it wrote last, and when.
    pub counted: Option<(Instant, Vec<Value>)>,
}

/// Tells the queues that the task has ended, however it came to that.
struct Ending<'a>(&'a Queues, usize);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

/// A loss that comes again while it is mended is left to the next call.
const MENDINGS: usize = 3;

impl Worker {
    /// Until it is closed.
    pub async fn serve(mut self) {
        let shared = Arc::clone(&self.shared);
        let _ending = Ending(&shared.queues, self.index);
        loop {
            match shared.queues.take(self.index) {
                Some(Next::Writes(writes)) => self.write_all(writes).await,
                Some(Next::Other(Job::Close(answer))) => return drop(answer.send(Ok(()))),
                Some(Next::Other(job)) => self.other(job).await,
                None => tokio::select! {
                    () = shared.queues.woken(self.index) => {}
                    () = sleep_until(self.wake()) => {}
                },
            }
            self.tend().await;
        }
    }

    async fn other(&mut self, job: Job) {
        match job {
            Job::Check { epoch, answer } => drop(answer.send(self.check(epoch).await)),
            Job::Page { set, args, answer } => drop(answer.send(self.page(set, &args).await)),
            Job::Count(answer) => drop(answer.send(self.count().await)),
            Job::Read { script, args, answer } => drop(answer.send(self.read(script, &args).await)),
            Job::Repeated { epoch, args, answer } => drop(answer.send(self.repeat(epoch, &args).await)),
            Job::Raise(raise) => self.raise(raise).await,
            Job::Write(_) | Job::Close(_) => {}
        }
    }

    /// When to look again though nobody calls.
    fn wake(&self) -> Instant {
        let next = self.upkeep.next();
        self.probing().map_or(next, |probe| next.min(probe))
    }

    /// When to ask whether what was written is still there; `None` where there is nothing to lose.
    fn probing(&self) -> Option<Instant> {
        let Settings { probe, keep_writes, .. } = self.shared.settings;
        let every = between_probes(self.seen.saturating_duration_since(self.wrote?), probe, keep_writes);
        Some(self.seen.max(self.probed) + every)
    }

    /// What is done from time to time.
    async fn tend(&mut self) {
        let now = Instant::now();
        // Nothing grows old while its partition is away: what that comes back with was replicated before.
        self.journal.trim(self.seen);
        let keep = self.shared.settings.keep_writes;
        self.wrote = self.wrote.filter(|wrote| self.seen.saturating_duration_since(*wrote) <= keep);
        if self.probing().is_some_and(|probe| now >= probe) {
            // Whatever comes of it: the next is as far away.
            self.probed = now;
            if let Err(error) = self.read(&script::PROBE, &[]).await {
                tracing::debug!(partition = self.index, %error, "The partition could not be probed.");
            }
        }
        self.keep_up(now).await;
    }

    pub async fn call(&self, script: &Script, args: &[Vec<u8>]) -> Result<Vec<Value>, StoreError> {
        let call = Call { slot: self.names.slot, script, keys: &self.names.keys, args };
        self.shared.link.run(&call, Instant::now() + self.shared.settings.patience).await
    }

    /// Whether what a script found is not what was written.
    pub fn is_lost(&self, found: Option<(u64, Epoch)>) -> bool {
        found.is_none_or(|(seq, epoch)| seq < self.seq || epoch < self.taken)
    }

    async fn check(&mut self, mine: Epoch) -> Result<String, StoreError> {
        let answer = self.read(&script::CHECK, &[text(mine.0)]).await?;
        let (_, newest) = reply::head(&answer).ok_or_else(|| reply::unexpected(&answer))?;
        if newest > mine { Err(StoreError::Fenced { mine, newest }) } else { Ok(String::new()) }
    }

    /// `None`: it may be another count by now.
    pub fn counted_as(&mut self, counted: Option<(Instant, Vec<Value>)>) {
        self.shared.counting.known(self.counted.is_some(), counted.is_some());
        self.counted = counted;
    }

    fn counted(&self) -> Option<&[Value]> {
        self.counted.as_ref().filter(|(at, _)| at.elapsed() < COUNTED).map(|(_, counted)| counted.as_slice())
    }

    async fn page(&mut self, set: Kind, args: &Args) -> Result<Vec<Value>, StoreError> {
        let none = |counted: &[Value]| counted.get(set.count()).and_then(reply::number) == Some(0);
        if self.counted().is_some_and(none) {
            return Ok(vec![Value::Nil, Value::Nil, Value::Int(0)]);
        }
        self.read(&script::PAGE, args).await
    }

    async fn count(&mut self) -> Result<Vec<Value>, StoreError> {
        if let Some(counted) = self.counted() {
            return Ok(counted.to_vec());
        }
        let answer = self.read(&script::COUNTS, &[]).await?;
        // Another owner's writes we do not see.
        let ours = self.taken > Epoch(0) && reply::head(&answer).is_some_and(|(_, epoch)| epoch == self.taken);
        self.counted_as(ours.then(|| (Instant::now(), answer.clone())));
        Ok(answer)
    }

    pub async fn read(&mut self, script: &'static Script, args: &[Vec<u8>]) -> Result<Vec<Value>, StoreError> {
        for _ in 0..MENDINGS {
            let answer = self.call(script, args).await?;
            if !self.is_lost(reply::head(&answer)) {
                self.seen = Instant::now();
                return Ok(answer);
            }
            self.mend().await?;
        }
        Err(StoreError::Unavailable("a failover lost writes, again and again".to_owned()))
    }

    async fn write_all(&mut self, writes: Vec<Write>) {
        match self.write(written(&writes)).await {
            Ok(outcome) => answer_all(writes, &outcome),
            // What needs memory must not keep back what frees some.
            Err(StoreError::OutOfMemory(_)) if writes.len() > 1 => {
                for write in writes {
                    let done = self.write(written(std::slice::from_ref(&write))).await;
                    answer_one(write, done);
                }
            }
            Err(error) => writes.into_iter().for_each(|write| drop(write.answer.send(Err(error.clone())))),
        }
    }

    /// Does a batch once, however often it has to be sent.
    async fn write(&mut self, jobs: Args) -> Result<Outcome, StoreError> {
        self.counted_as(None);
        for _ in 0..2 * MENDINGS {
            let mine = self.next;
            self.next += 1;
            let answer = match self.send(self.seq, mine, false, &jobs).await {
                Ok(answer) => answer,
                Err(error) => {
                    if matches!(error, StoreError::Unavailable(_)) {
                        self.journal.doubtful(mine, jobs, Instant::now());
                    }
                    return Err(error);
                }
            };
            match reply::done(&answer)? {
                Done::Yes(outcome) => {
                    // A refused owner's jobs have left no trace.
                    self.journal.done(mine, outcome.seq, jobs, Instant::now());
                    self.seq = mine;
                    self.seen = Instant::now();
                    self.wrote = Some(self.seen);
                    return Ok(outcome);
                }
                Done::Fenced(outcome) => {
                    self.journal.clear(outcome.seq);
                    (self.seq, self.next) = (outcome.seq, self.next.max(outcome.seq + 1));
                    return Ok(outcome);
                }
                Done::Ahead(seq) => (self.seq, self.next) = (seq, seq + 1),
                Done::Lost => self.mend().await?,
            }
        }
        Err(StoreError::Unavailable("its writes are lost or overtaken, again and again".to_owned()))
    }

    /// `holed`: what the jobs were made on is lost.
    pub async fn send(&self, seq: u64, mine: u64, holed: bool, jobs: &Args) -> Result<Vec<Value>, StoreError> {
        let writer = self.shared.writer.clone().into_bytes();
        let bound = super::places::memory_score(self.shared.newest.bound(), Epoch(0));
        let mut args = vec![text(seq), text(mine), writer, text(self.taken.0), text(bound), text(u8::from(holed))];
        args.extend_from_slice(jobs);
        self.call(&script::WRITE, &args).await
    }

    async fn repeat(&mut self, epoch: Epoch, args: &Args) -> Result<u64, StoreError> {
        let mut sum = 0;
        loop {
            let mut jobs = vec![text(1), text(epoch.0), text(args.len())];
            jobs.extend_from_slice(args);
            let outcome = self.write(jobs).await?;
            let answers = outcome.answers(1);
            let answer = answers.first().map_or("", String::as_str);
            if answer == reply::FENCED {
                return Err(StoreError::Fenced { mine: epoch, newest: outcome.epoch });
            }
            let counts: Vec<u64> = answer.split('+').filter_map(|count| count.parse().ok()).collect();
            sum += counts.first().copied().unwrap_or(0);
            if counts.iter().all(|count| *count < CHUNK) {
                return Ok(sum);
            }
        }
    }
}

/// After a second, two, four and so on until `keep` is over: what a failover takes is what was written just before it, and there may be
/// many listeners. `age`: of the last write, when nothing was lost; it stands still while the partition is away, and so does the
/// distance.
fn between_probes(age: Duration, least: Duration, keep: Duration) -> Duration {
    least.max(age.min(keep.saturating_sub(age)))
}

fn answer_all(writes: Vec<Write>, outcome: &Outcome) {
    let count = writes.len();
    for (write, answer) in writes.into_iter().zip(outcome.answers(count)) {
        tell(write.answer, write.epoch, answer, outcome.epoch);
    }
}

fn answer_one(write: Write, done: Result<Outcome, StoreError>) {
    match done {
        Ok(outcome) => answer_all(vec![write], &outcome),
        Err(error) => drop(write.answer.send(Err(error))),
    }
}

fn tell(to: Answer<String>, mine: Epoch, answer: String, newest: Epoch) {
    let answer = if answer == reply::FENCED { Err(StoreError::Fenced { mine, newest }) } else { Ok(answer) };
    let _ = to.send(answer);
}

pub(super) fn count_reapplied(shared: &Shared, count: u64) {
    shared.reapplied.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_the_further_apart_the_longer_nothing_was_lost_and_are_over_when_nothing_is_kept() {
        let second = Duration::from_secs(1);
        let (mut age, mut at) = (Duration::ZERO, Vec::new());
        for _ in 0..6 {
            age += between_probes(age, second, 30 * second);
            at.push(age.as_secs());
        }
        assert_eq!(at, [1, 2, 4, 8, 16, 30]);
        // Something else was asked meanwhile.
        assert_eq!(between_probes(25 * second, second, 30 * second), 5 * second);
        assert_eq!(between_probes(30 * second, second, 30 * second), second);
    }
}
