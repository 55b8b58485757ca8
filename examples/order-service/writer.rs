//! One thread that owns the database's connection and commits for all who wait.
//!
//! A commit waits for the disk, some milliseconds; one commit an order would be two hundred orders a second. So
//! whatever has queued up during one commit goes into the next, each piece of work within a savepoint of its own, and
//! nobody is answered before the commit. `PostgreSQL` does this itself (`commit_delay`), and takes a pool instead.

use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow};
use rusqlite::{Connection, Savepoint, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

/// Does its work; what it returns is called with what became of the commit.
type Job = Box<dyn FnOnce(&mut Transaction) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), String>)>;

/// How many may wait before who comes next waits to be let in; also the most that one commit carries.
const QUEUE: usize = 512;

pub struct Writer {
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(connection: Connection) -> anyhow::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new().name("orders".into()).spawn(move || work_off(connection, queue));
        Ok(Self { jobs: Some(jobs), thread: Some(thread.context("starting the database's thread")?) })
    }

    /// Runs the work, all of it or, if it fails, nothing, and returns when it is committed.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Savepoint) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let done = within_savepoint(transaction, work);
            Box::new(move |committed| {
                let all = committed.map_err(|error| anyhow!("committing: {error}")).and(done);
                // Nobody waits any more: the work is done all the same.
                let _ = answer.send(all);
            })
        });
        let jobs = self.jobs.as_ref().context("the database is closed")?;
        jobs.send(job).await.ok().context("the database's thread ended")?;
        answered.await.context("the database's thread ended")?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread ends when the queue does, after what is still in it.
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn within_savepoint<T>(
    transaction: &mut Transaction,
    work: impl FnOnce(&mut Savepoint) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // Dropped without commit, it is rolled back.
    let mut savepoint = transaction.savepoint()?;
    let done = work(&mut savepoint)?;
    savepoint.commit()?;
    Ok(done)
}

fn work_off(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => transaction,
            Err(error) => {
                // The job is dropped, and with it its answer: the caller hears that.
                tracing::error!(%error, "Could not begin a transaction.");
                continue;
            }
        };
        let mut answers = vec![first(&mut transaction)];
        while answers.len() < QUEUE
            && let Ok(job) = queue.try_recv()
        {
            answers.push(job(&mut transaction));
        }
        let committed = transaction.commit().map_err(|error| error.to_string());
        for answer in answers {
            answer(committed.clone());
        }
    }
}
