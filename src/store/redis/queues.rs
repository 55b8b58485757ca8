//! The partitions' queues. A call is put into all that it concerns at once, so that each has calls in the order in which
//! they were made.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::jobs::{self, Answer, Args, Job, Next};
use super::{names::Kind, script::Script};
use crate::store::StoreError;

/// Jobs that may wait for a partition.
const ROOM: usize = 8_192;

pub(super) struct Queues {
    state: Mutex<State>,
    woken: Vec<Notify>,
}

struct State {
    closed: bool,
    /// A task has ended that nobody told to.
    broken: bool,
    queues: Vec<VecDeque<Job>>,
}

/// An answer of one partition.
pub(super) type Part<T> = oneshot::Receiver<Result<T, StoreError>>;

impl Queues {
    pub fn new(partitions: usize) -> Self {
        let queues = (0..partitions).map(|_| VecDeque::new()).collect();
        let state = Mutex::new(State { closed: false, broken: false, queues });
        Self { state, woken: (0..partitions).map(|_| Notify::new()).collect() }
    }

    pub fn partitions(&self) -> usize {
        self.woken.len()
    }

    /// Fails where nothing more is taken.
    pub fn open(&self) -> Result<(), StoreError> {
        self.put(Vec::new())
    }

    /// Puts jobs into the queues of the partitions named, or none of them into any.
    pub fn put(&self, jobs: Vec<(usize, Job)>) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(StoreError::Closed);
        }
        if state.broken {
            return Err(broken());
        }
        if jobs.iter().any(|(partition, _)| state.queues[*partition].len() >= ROOM) {
            return Err(StoreError::Unavailable(format!("{ROOM} calls wait for Redis")));
        }
        state.closed = jobs.iter().any(|(_, job)| matches!(job, Job::Close(_)));
        for (partition, job) in jobs {
            state.queues[partition].push_back(job);
            self.woken[partition].notify_one();
        }
        Ok(())
    }

    /// Reads of the partitions named, each with its arguments.
    pub fn read(
        &self,
        script: &'static Script,
        parts: impl IntoIterator<Item = (usize, Args)>,
    ) -> Result<Vec<Part<Vec<redis::Value>>>, StoreError> {
        self.ask(parts, |args, answer| Job::Read { script, args, answer })
    }

    /// Pages of a set of the partitions named, each with the arguments of page.lua.
    pub fn pages(
        &self,
        set: Kind,
        parts: impl IntoIterator<Item = (usize, Args)>,
    ) -> Result<Vec<Part<Vec<redis::Value>>>, StoreError> {
        self.ask(parts, |args, answer| Job::Page { set, args, answer })
    }

    fn ask(
        &self,
        parts: impl IntoIterator<Item = (usize, Args)>,
        job: impl Fn(Args, Answer<Vec<redis::Value>>) -> Job,
    ) -> Result<Vec<Part<Vec<redis::Value>>>, StoreError> {
        let (jobs, answers): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .map(|(partition, args)| {
                let (answer, part) = oneshot::channel();
                ((partition, job(args, answer)), part)
            })
            .unzip();
        self.put(jobs).map(|()| answers)
    }

    pub fn take(&self, partition: usize) -> Option<Next> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        jobs::take(&mut state.queues[partition])
    }

    /// The partition's task ends: nobody is to wait for it.
    pub fn end(&self, partition: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.broken |= !state.closed;
        state.queues[partition].clear();
    }

    pub async fn woken(&self, partition: usize) {
        self.woken[partition].notified().await;
    }
}

fn broken() -> StoreError {
    StoreError::Unavailable("a task of it failed; the log says why, and a restart helps".to_owned())
}

/// A partition's answer, whose task may have ended.
pub(super) async fn of<T>(part: Part<T>) -> Result<T, StoreError> {
    part.await.unwrap_or_else(|_| Err(broken()))
}

/// Waits for all, and gives the first error: that a newer owner was found counts before any other.
pub(super) async fn all<T>(parts: Vec<Part<T>>) -> Result<Vec<T>, StoreError> {
    let mut found = Vec::with_capacity(parts.len());
    let mut failed = None;
    for part in parts {
        match of(part).await {
            Ok(answer) => found.push(answer),
            Err(error @ StoreError::Fenced { .. }) => failed = Some(error),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(found), Err)
}
