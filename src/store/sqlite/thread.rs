//! The one thread that reads and changes the file, and how it groups commits.
//!
//! It takes what waits, does each job in turn within one transaction, commits, and goes on: whether the commit is on the
//! disk is [`super::syncing`]'s affair, and who asks here does not wait for that; but see the caveats.
//!
//! # Guarantees
//! - A job that fails has changed nothing, and those beside it in the transaction are not hurt: they are done again
//!   without it. So a job may be run more than once, each time from the state of the first.
//! - Where the commit itself fails, all of the transaction is undone, and each job in it is told.
//!
//! # Caveats
//! - It does wait for the disk while more changes wait to be synced than [`super::syncing`] takes (what is held is to be
//!   bounded), for the header when a log starts anew, and when it has to fold a log that grew too large.

use std::time::{Duration, Instant};

use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::{database::Database, failure::Failure, folding::Folding, open::remove, syncing::Syncing, unfiled::Unfiled};
use crate::store::{Change, Epoch, StoreError};

/// The jobs that may wait.
pub(super) const QUEUE: usize = 65_536;
/// A transaction takes no more jobs when it has done this much.
const MAX_WEIGHT: usize = 50_000;
/// After so much, the log is folded into the file when nobody waits ..
const FOLDED_WEIGHT: usize = 10_000;
/// .. and after so much in any case.
const FOLDED_AT_ONCE: usize = 100_000;
/// So many new entries are filed at a time (see [`super::filing`]), when nobody waits: a job that comes meanwhile waits
/// for some milliseconds.
const FILED: usize = 256;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Job {
    Read(Box<dyn Read>),
    Write(Box<dyn Write>),
    Close(Answer<()>),
    /// Removes the files.
    Destroy(Epoch, Answer<()>),
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
    /// How it is told what became of it, once it is durable or has changed nothing. All else of it is let go of.
    fn told(self: Box<Self>) -> Told;
}

pub(super) type Told = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

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
    T: Send + 'static,
    F: FnMut(&mut Database) -> Result<T, Failure> + Send,
{
    fn weight(&self) -> usize {
        self.weight
    }
    fn run(&mut self, database: &mut Database) -> Result<(), Failure> {
        self.result = Some((self.work)(database)?);
        Ok(())
    }
    fn told(self: Box<Self>) -> Told {
        let Self { result, answer, .. } = *self;
        Box::new(move |outcome| drop(answer.send(outcome.and_then(|()| result.ok_or(StoreError::Closed)))))
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
    fn told(self: Box<Self>) -> Told {
        let Self { done, durable, .. } = *self;
        Box::new(move |outcome| {
            if let (Some(done), Err(error)) = (done, &outcome) {
                let _ = done.send(Err(error.clone()));
            }
            let _ = durable.send(outcome);
        })
    }
}

/// Serves until it is told to close, or everybody who could ask has gone.
///
/// Entries that came in bulk are filed when none has come for `quiet`.
pub(super) fn serve(
    database: Database,
    (syncing, folding): (Syncing, Folding),
    mut jobs: mpsc::Receiver<Job>,
    quiet: Duration,
) {
    let (file_from, unfiled) = (Instant::now(), database.unfiled().map_or(0, Unfiled::keys));
    let (executed, weight, unfolded) = (Vec::new(), 0, 0);
    let mut group = Group { syncing, folding, database, executed, weight, unfolded, unfiled, quiet, file_from };
    loop {
        let mut next = match group.next(&mut jobs) {
            Next::Job(job) => Some(job),
            Next::Nothing => None,
            Next::Over => return drop(group.close(Files::Stay)),
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
                Job::Close(answer) => return close(group, Files::Stay, &mut jobs, answer),
                Job::Destroy(epoch, answer) => match group.database.fence(epoch) {
                    Ok(()) => return close(group, Files::Go, &mut jobs, answer),
                    Err(failure) => drop(answer.send(Err(failure.named(&group.database.path)))),
                },
            }
            next = if group.weight < MAX_WEIGHT { jobs.try_recv().ok() } else { None };
        }
        group.commit();
        group.look_for_bulk();
        if group.wants_folding(jobs.is_empty()) && group.folding.fold() {
            group.unfolded = 0;
        }
    }
}

/// What becomes of the files at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Stay,
    Go,
}

fn close(group: Group, files: Files, jobs: &mut mpsc::Receiver<Job>, answer: Answer<()>) {
    let closed = group.close(files);
    jobs.close();
    while let Ok(job) = jobs.try_recv() {
        match job {
            Job::Read(read) => read.answer(Err(StoreError::Closed)),
            Job::Write(write) => write.told()(Err(StoreError::Closed)),
            Job::Close(answer) | Job::Destroy(_, answer) => drop(answer.send(Err(StoreError::Closed))),
        }
    }
    let _ = answer.send(closed);
}

/// The open transaction, if there is one: `executed` is empty exactly when nothing was written.
///
/// The last field that is dropped is the one with the lock.
struct Group {
    syncing: Syncing,
    folding: Folding,
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

    fn wants_folding(&self, quiet: bool) -> bool {
        let due = self.unfolded >= if quiet { FOLDED_WEIGHT } else { FOLDED_AT_ONCE };
        due && self.syncing.sound().is_ok()
    }

    fn file(&mut self) {
        let path = self.database.path.clone();
        let filed = self.begin().and_then(|()| {
            let filed = self.database.file(FILED).and_then(|()| self.database.commit());
            filed.map_err(|failure| failure.named(&path))
        });
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
            && let Err(error) = self.begin()
        {
            return write.told()(Err(error));
        }
        match write.run(&mut self.database) {
            Ok(()) => self.executed.push(write),
            Err(failure) => {
                // One that was refused before it wrote would not need this; but it is as rare.
                self.database.roll_back();
                self.repeat();
                let error = failure.named(&self.database.path);
                self.make_room(&error);
                write.told()(Err(error));
            }
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.syncing.sound()?;
        self.database.begin().map_err(|failure| failure.named(&self.database.path))
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
                self.undone(&failure.named(&self.database.path));
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
        match committed {
            Ok(()) => self.syncing.add(self.executed.drain(..).map(Write::told), weight),
            Err(failure) => {
                self.database.roll_back();
                self.undone(&failure.named(&self.database.path));
            }
        }
    }

    /// Where the disk is full, the log may be what fills it: folded, it is written from its beginning.
    fn make_room(&mut self, error: &StoreError) {
        if matches!(error, StoreError::Full { .. }) {
            self.unfolded = self.unfolded.max(FOLDED_AT_ONCE);
        }
    }

    fn undone(&mut self, error: &StoreError) {
        self.make_room(error);
        for write in self.executed.drain(..) {
            write.told()(Err(error.clone()));
        }
    }

    /// What was done is on the disk, and the files are closed; or they are removed.
    fn close(mut self, files: Files) -> Result<(), StoreError> {
        self.commit();
        let synced = self.syncing.end();
        self.folding.end();
        let Database { connection, path, lock, .. } = self.database;
        let closed = connection.close().map_err(|(_, error)| Failure::from(error).named(&path));
        if files == Files::Go {
            return remove(&path, lock);
        }
        drop(lock);
        synced.and(closed)
    }
}
