//! The one thread that touches the file, and how it groups commits.
//!
//! It takes what waits, does each job in turn within one transaction, and commits: an fsync costs the same for one change
//! as for ten thousand.
//!
//! # Guarantees
//! - A job that fails has changed nothing, and those beside it in the transaction are not hurt: they are done again
//!   without it. So a job may be run more than once, each time from the state of the first.
//! - Where the commit itself fails, all of the transaction is undone, and each job in it is told.

use std::time::{Duration, Instant};

use rusqlite::Result as SqlResult;
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::{database::Database, failure::Failure, unfiled::Unfiled};
use crate::store::{Change, Epoch, StoreError};

/// The jobs that may wait.
pub(super) const QUEUE: usize = 65_536;
/// A transaction takes no more jobs when it has done this much.
const MAX_WEIGHT: usize = 50_000;
/// After so much, the log is folded into the file as soon as nobody waits.
const FOLDED_WEIGHT: usize = 2_000;
/// So many new entries are filed at a time (see [`super::filing`]), when nobody waits: a job that comes meanwhile waits
/// for some milliseconds.
const FILED: usize = 256;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Job {
    Read(Box<dyn Read>),
    Write(Box<dyn Write>),
    Close(Answer<()>),
}

pub(super) trait Read: Send {
    /// Answers from the database, earlier writes of the same transaction included.
    fn answer(self: Box<Self>, database: Result<&Database, StoreError>);
}

pub(super) trait Write: Send {
    /// How much work it is, in rows.
    fn weight(&self) -> usize;
    /// Does it within the open transaction. What it writes before it fails is undone by the caller.
    fn run(&mut self, database: &mut Database) -> Result<(), Failure>;
    /// It is durable, or has changed nothing.
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// A question and where its answer goes.
pub(super) struct Question<F, T> {
    pub ask: F,
    pub answer: Answer<T>,
}

impl<T, F> Read for Question<F, T>
where
    T: Send,
    F: FnOnce(&Database) -> Result<T, Failure> + Send,
{
    fn answer(self: Box<Self>, database: Result<&Database, StoreError>) {
        let Self { ask, answer } = *self;
        let found = database.and_then(|database| ask(database).map_err(|failure| failure.named(&database.path)));
        let _ = answer.send(found);
    }
}

/// A write that answers once, when it is durable.
pub(super) struct Call<F, T> {
    pub work: F,
    pub weight: usize,
    pub result: Option<T>,
    pub answer: Answer<T>,
}

impl<T, F> Write for Call<F, T>
where
    T: Send,
    F: FnMut(&mut Database) -> Result<T, Failure> + Send,
{
    fn weight(&self) -> usize {
        self.weight
    }
    fn run(&mut self, database: &mut Database) -> Result<(), Failure> {
        self.result = Some((self.work)(database)?);
        Ok(())
    }
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { result, answer, .. } = *self;
        let _ = answer.send(outcome.and_then(|()| result.ok_or(StoreError::Closed)));
    }
}

/// Changes of the ledger, which answer twice.
pub(super) struct Apply {
    pub epoch: Epoch,
    pub changes: Vec<Change>,
    /// Taken when it was sent.
    pub done: Option<Answer<Vec<bool>>>,
    pub durable: Answer<()>,
}

impl Write for Apply {
    fn weight(&self) -> usize {
        self.changes.len()
    }
    fn run(&mut self, database: &mut Database) -> Result<(), Failure> {
        let result = database.apply(self.epoch, &self.changes)?;
        // Run again, it decides the same: the state is that of the first time.
        if let Some(done) = self.done.take() {
            let _ = done.send(Ok(result));
        }
        Ok(())
    }
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        if let (Some(done), Err(error)) = (self.done, &outcome) {
            let _ = done.send(Err(error.clone()));
        }
        let _ = self.durable.send(outcome);
    }
}

/// Serves until it is told to close, or everybody who could ask has gone.
///
/// Entries that came in bulk are filed when none has come for `quiet`.
pub(super) fn serve(database: Database, mut jobs: mpsc::Receiver<Job>, quiet: Duration) {
    let (now, unfiled) = (Instant::now(), database.unfiled().map_or(0, Unfiled::keys));
    let mut group = Group { database, executed: Vec::new(), weight: 0, unfolded: 0, unfiled, quiet, file_from: now };
    loop {
        let mut next = match group.next(&mut jobs) {
            Next::Job(job) => Some(job),
            Next::Nothing => None,
            Next::Over => return,
        };
        if next.is_none() {
            group.file();
        }
        while let Some(job) = next {
            match job {
                Job::Read(read) => {
                    group.weight += 1;
                    read.answer(Ok(&group.database));
                }
                Job::Write(write) => group.execute(write),
                Job::Close(answer) => return close(group, &mut jobs, answer),
            }
            next = if group.weight < MAX_WEIGHT { jobs.try_recv().ok() } else { None };
        }
        group.commit();
        group.look_for_bulk();
        if group.unfolded >= FOLDED_WEIGHT && jobs.is_empty() {
            group.unfolded = 0;
            group.database.checkpoint();
        }
    }
}

fn close(mut group: Group, jobs: &mut mpsc::Receiver<Job>, answer: Answer<()>) {
    group.commit();
    let Database { connection, path, lock, .. } = group.database;
    let closed: SqlResult<()> = connection.close().map_err(|(_, error)| error);
    drop(lock);
    jobs.close();
    while let Ok(job) = jobs.try_recv() {
        match job {
            Job::Read(read) => read.answer(Err(StoreError::Closed)),
            Job::Write(write) => write.finish(Err(StoreError::Closed)),
            Job::Close(answer) => drop(answer.send(Err(StoreError::Closed))),
        }
    }
    let _ = answer.send(closed.map_err(|error| Failure::from(error).named(&path)));
}

/// The open transaction, if there is one: `executed` is empty exactly when nothing was written.
struct Group {
    database: Database,
    executed: Vec<Box<dyn Write>>,
    weight: usize,
    /// What was committed since the log was folded last.
    unfolded: usize,
    /// Keys that were not filed when that was last looked at.
    unfiled: usize,
    quiet: Duration,
    /// When filing may begin.
    file_from: Instant,
}

/// What the thread does next.
enum Next {
    Job(Job),
    /// Nobody waits, and there is something to file.
    Nothing,
    Over,
}

impl Group {
    fn next(&self, jobs: &mut mpsc::Receiver<Job>) -> Next {
        // Whoever uses the store counts it every now and then: that there is quiet is seen by then.
        if self.unfiled == 0 || Instant::now() < self.file_from {
            return jobs.blocking_recv().map_or(Next::Over, Next::Job);
        }
        match jobs.try_recv() {
            Ok(job) => Next::Job(job),
            Err(TryRecvError::Disconnected) => Next::Over,
            Err(TryRecvError::Empty) => Next::Nothing,
        }
    }

    fn look_for_bulk(&mut self) {
        let unfiled = self.database.unfiled().map_or(0, Unfiled::keys);
        if unfiled > self.unfiled {
            self.file_from = Instant::now() + self.quiet;
        }
        self.unfiled = unfiled;
    }

    fn file(&mut self) {
        let filed =
            self.database.begin().and_then(|()| self.database.file(FILED)).and_then(|()| self.database.commit());
        self.unfolded += FILED;
        if filed.is_err() {
            // They lie well where they are; whoever writes next is told what is wrong.
            self.database.roll_back();
            self.file_from = Instant::now() + self.quiet;
        }
    }

    fn execute(&mut self, mut write: Box<dyn Write>) {
        self.weight += 1 + write.weight();
        if self.executed.is_empty()
            && let Err(failure) = self.database.begin()
        {
            return write.finish(Err(failure.named(&self.database.path)));
        }
        match write.run(&mut self.database) {
            Ok(()) => self.executed.push(write),
            Err(failure) => {
                // One that was refused before it wrote would not need this; but it is as rare.
                self.database.roll_back();
                self.repeat();
                write.finish(Err(failure.named(&self.database.path)));
            }
        }
    }

    /// Does again, and commits, what a failure beside it has undone.
    fn repeat(&mut self) {
        if self.executed.is_empty() {
            return;
        }
        let Self { database, executed, .. } = self;
        let repeated = database.begin().and_then(|()| executed.iter_mut().try_for_each(|write| write.run(database)));
        match repeated {
            Ok(()) => self.commit(),
            Err(failure) => {
                self.database.roll_back();
                let outcome = Err(failure.named(&self.database.path));
                self.finish(&outcome);
            }
        }
    }

    fn commit(&mut self) {
        let weight = std::mem::take(&mut self.weight);
        self.unfolded += weight;
        if self.executed.is_empty() {
            return;
        }
        // Half as much again as was written, so that a backlog of memories shrinks under any load.
        let committed = self.database.prune(weight + weight / 2 + 100).and_then(|()| self.database.commit());
        if committed.is_err() {
            self.database.roll_back();
        }
        let outcome = committed.map_err(|failure| failure.named(&self.database.path));
        self.finish(&outcome);
    }

    fn finish(&mut self, outcome: &Result<(), StoreError>) {
        for write in self.executed.drain(..) {
            write.finish(outcome.clone());
        }
    }
}
