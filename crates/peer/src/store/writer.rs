//! The writing thread: group commit with a savepoint for each closure.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::failure;
use crate::Failure;

/// Closures in one transaction at the most, so that the first does not wait long for the last.
const GROUP: usize = 256;

/// One closure in the queue.
pub(super) trait Job: Send {
    /// Does the work, and keeps what it gave.
    fn run(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()>;
    /// Tells the caller, after the commit or instead of it.
    fn answer(self: Box<Self>, outcome: Result<(), Failure>);
}

pub(super) struct Write<T, F, A> {
    work: Option<F>,
    value: Option<T>,
    after: A,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T, F, A> Write<T, F, A> {
    pub(super) fn new(work: F, after: A, reply: oneshot::Sender<Result<T, Failure>>) -> Self {
        Self { work: Some(work), value: None, after, reply }
    }
}

impl<T, F, A> Job for Write<T, F, A>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
    A: FnOnce(&T) + Send,
{
    fn run(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(transaction)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), Failure>) {
        let Self { value, after, reply, .. } = *self;
        let outcome = match (outcome, value) {
            (Ok(()), Some(value)) => {
                after(&value);
                Ok(value)
            }
            (Ok(()), None) => Err(Failure::internal("store: a write gave no value")),
            (Err(failure), _) => Err(failure),
        };
        // The caller may have stopped waiting; the work is done all the same.
        let _gone = reply.send(outcome);
    }
}

/// Runs until every handle is dropped and the queue is empty.
pub(super) fn run(mut connection: Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = queue.blocking_recv() {
        let mut done = Vec::with_capacity(16);
        let outcome = commit_group(&mut connection, first, &mut queue, &mut done);
        let outcome = outcome.map_err(|error| failure(&error));
        metrics::counter!("trueque_store_commits_total").increment(1);
        metrics::counter!("trueque_store_writes_total").increment(done.len() as u64);
        for job in done {
            job.answer(outcome.clone());
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(error = %error, "the store was not closed in order");
    }
}

/// Runs `first` and what else waits, commits, and leaves those that succeeded in `done`. Those that failed by
/// themselves are answered here.
fn commit_group(
    connection: &mut Connection,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Box<dyn Job>>,
    done: &mut Vec<Box<dyn Job>>,
) -> rusqlite::Result<()> {
    let mut next = Some(first);
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            done.extend(next);
            return Err(error);
        }
    };
    while let Some(mut job) = next.take() {
        match run_one(&transaction, job.as_mut()) {
            Ok(()) => done.push(job),
            // A full disk or a failing one ends the whole transaction inside SQLite.
            Err(error) if transaction.is_autocommit() => {
                done.push(job);
                return Err(error);
            }
            Err(error) => job.answer(Err(failure(&error))),
        }
        if done.len() < GROUP {
            next = queue.try_recv().ok();
        }
    }
    transaction.commit()
}

fn run_one(transaction: &Transaction<'_>, job: &mut dyn Job) -> rusqlite::Result<()> {
    transaction.prepare_cached("SAVEPOINT one")?.execute([])?;
    let ran = catch_unwind(AssertUnwindSafe(|| job.run(transaction))).unwrap_or_else(|_| {
        let aborted = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
        Err(rusqlite::Error::SqliteFailure(aborted, Some("a write panicked".to_owned())))
    });
    if ran.is_err() && !transaction.is_autocommit() {
        transaction.prepare_cached("ROLLBACK TO one")?.execute([])?;
    }
    if !transaction.is_autocommit() {
        transaction.prepare_cached("RELEASE one")?.execute([])?;
    }
    ran
}
