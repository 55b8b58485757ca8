//! Puts a call into the queues of the partitions that it concerns, and brings their answers together.

use redis::Value;
use tokio::sync::oneshot;

use super::{
    RedisStore,
    jobs::{Answer, Args, Job, Write},
    names::Kind,
    pages::Query,
    queues::{Part, all},
    record::PLACE,
    reply,
    script::HEAD,
};
use crate::{
    model::{EventId, Millis},
    store::{Epoch, Reply, Store as _, StoreError},
};

impl RedisStore {
    /// Enqueues writes, each of the partition at its place; an empty one of them is left out. Where nothing is to be done at all,
    /// one partition is asked whether the owner still is one.
    pub(super) fn write(&self, epoch: Epoch, parts: Vec<Args>) -> Result<Vec<Option<Part<String>>>, StoreError> {
        let nothing = parts.iter().all(Vec::is_empty);
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        for (partition, args) in parts.into_iter().enumerate() {
            let concerned = !args.is_empty() || (nothing && partition == 0);
            answers.push(concerned.then(|| {
                let (answer, part) = oneshot::channel();
                let job =
                    if nothing { Job::Check { epoch, answer } } else { Job::Write(Write { epoch, args, answer }) };
                jobs.push((partition, job));
                part
            }));
        }
        self.shared.queues.put(jobs)?;
        // Not before: a count that is enqueued in between has it.
        if !nothing {
            self.shared.counting.changed();
        }
        Ok(answers)
    }

    /// A write whose answers do not matter.
    pub(super) fn tell(&self, epoch: Epoch, parts: Vec<Args>) -> Reply<()> {
        let parts = self.write(epoch, parts);
        Box::pin(async move { all(parts?.into_iter().flatten().collect()).await.map(drop) })
    }

    /// A write of the head of partition 0.
    pub(super) fn tell_head(&self, epoch: Epoch, args: Args) -> Reply<()> {
        let mut parts = vec![Args::new(); self.partitions()];
        parts[0] = args;
        self.tell(epoch, parts)
    }

    /// An operation without bound in all partitions, and how much it came to.
    pub(super) fn everywhere(&self, epoch: Epoch, args: &Args) -> Reply<u64> {
        let parts = self.fan(|answer| Job::Repeated { epoch, args: args.clone(), answer });
        self.shared.counting.changed();
        Box::pin(async move { Ok(all(parts?).await?.into_iter().sum()) })
    }

    pub(super) fn fan<T>(&self, mut job: impl FnMut(Answer<T>) -> Job) -> Result<Vec<Part<T>>, StoreError> {
        let (jobs, parts): (Vec<_>, Vec<_>) = (0..self.partitions())
            .map(|partition| {
                let (answer, part) = oneshot::channel();
                ((partition, job(answer)), part)
            })
            .unzip();
        self.shared.queues.put(jobs).map(|()| parts)
    }

    /// Operations on events, each put into all partitions, for an id does not tell its own; counts those that found it.
    pub(super) fn on_events<'a>(
        &self,
        epoch: Epoch,
        ids: &'a [EventId],
        args: impl Fn(&'a EventId) -> Args,
    ) -> Reply<u64> {
        let mut parts = vec![Args::new(); self.partitions()];
        for id in ids {
            let args = args(id);
            for part in &mut parts {
                part.extend_from_slice(&args);
            }
        }
        let parts = self.write(epoch, parts);
        Box::pin(async move {
            let answers = all(parts?.into_iter().flatten().collect()).await?;
            Ok(answers.iter().map(|answer| answer.matches('1').count() as u64).sum())
        })
    }

    pub(super) fn read_head<T: Send + 'static>(
        &self,
        find: impl FnOnce(Vec<(String, Vec<u8>)>) -> T + Send + 'static,
    ) -> Reply<T> {
        let parts = self.shared.queues.read(&HEAD, [(0, Args::new())]);
        Box::pin(async move {
            let answer = all(parts?).await?.pop().unwrap_or_default();
            let Some(Value::Array(fields)) = answer.get(2) else { return Err(reply::unexpected(&answer)) };
            let field = |pair: &[Value]| Some((reply::text(&pair[0])?.to_owned(), reply::bytes(&pair[1])?.to_vec()));
            Ok(find(fields.chunks_exact(2).filter_map(field).collect()))
        })
    }

    pub(super) fn outbox_query(&self, set: Kind, most: Millis, limit: usize) -> Query {
        Query::new(set, Some((Kind::Outbox, PLACE)), most, limit, self.partitions())
    }
}
