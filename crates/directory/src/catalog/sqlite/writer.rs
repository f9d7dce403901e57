//! The one thread that writes. Jobs queue up, and all that wait are committed as one transaction (*group commit*):
//! one flush to the disk then pays for many callers. Each is answered after the commit, so an answer is a promise.
//!
//! A job that is refused has written nothing. A job that fails in SQLite (a full disk) takes the whole group with it:
//! all are answered that they failed, and nothing of them is there. The queue is bounded by jobs and by entries; beyond
//! that, callers are told at once to come back.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    frequencies::Frequencies,
    groups::Groups,
    index::{self, Dirty},
    roster::{Effect, Roster},
};
use crate::catalog::CatalogError;

const MAX_JOBS: usize = 4_096;
/// Entries that may wait: 40 deltas of the largest size.
const MAX_WAITING: usize = 400_000;
/// Entries after which a group is closed, so that the first of it does not wait too long.
const GROUP_ENTRIES: u32 = 20_000;
const GROUP_JOBS: usize = 1_024;

/// Without work for so long, the thread tidies the index, a little at a time.
const TIDY_AFTER: Duration = Duration::from_millis(20);
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What the writer keeps up to date for the readers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) roster: Roster,
    pub(super) groups: Groups,
    pub(super) frequencies: Frequencies,
}

/// Why a job did not do it.
#[derive(Debug)]
pub(super) enum JobError {
    /// It wrote nothing.
    Refused(CatalogError),
    /// Whatever the transaction holds is lost.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for JobError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The transaction that a job writes into.
#[derive(Debug)]
pub(super) struct Tx<'c> {
    pub(super) conn: &'c Connection,
    pub(super) dirty: Dirty,
    pub(super) effects: Vec<Effect>,
    /// The number of the next new content.
    pub(super) next_content: &'c mut i64,
    /// Why this transaction cannot be committed.
    lost: Option<rusqlite::Error>,
}

type Reply = Box<dyn FnOnce(Option<CatalogError>) + Send>;
type Run = Box<dyn FnOnce(&mut Tx<'_>) -> Reply + Send>;

struct Job {
    weight: u32,
    run: Run,
    place: Option<OwnedSemaphorePermit>,
}

/// The door to the thread. Dropping it lets the thread finish what waits, and waits for it.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::SyncSender<Job>>>,
    places: Arc<Semaphore>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(conn: Connection, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(MAX_JOBS);
        let next: i64 =
            conn.query_row("SELECT ifnull(max(id), 0) + 1 FROM contents", [], |row| row.get(0))?;
        let thread = std::thread::Builder::new()
            .name("catalog-writer".to_owned())
            .spawn(move || write_groups(&conn, &receiver, &shared, next))?;
        Ok(Self {
            jobs: Mutex::new(Some(sender)),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Whether the thread lives.
    pub(super) fn alive(&self) -> bool {
        self.thread.lock().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Queues a job that writes about `weight` entries. The future is ready after the commit; dropping it does not take
    /// the job back.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        weight: u32,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let place = match weight {
            0 => None,
            _ => Some(self.places.clone().try_acquire_many_owned(weight).map_err(|_| busy())?),
        };
        let (sender, receiver) = oneshot::channel();
        let run: Run = Box::new(move |tx| {
            let result = match tx.lost {
                // The group's loss is what the caller will hear.
                Some(_) => Err(ended()),
                None => work(tx).map_err(|error| match error {
                    JobError::Refused(error) => error,
                    JobError::Sqlite(error) => {
                        let heard = failure(&error);
                        tx.lost = Some(error);
                        heard
                    }
                }),
            };
            Box::new(move |lost| {
                let _caller_may_be_gone = sender.send(lost.map_or(result, Err));
            })
        });
        let sent = match &*self.jobs.lock() {
            Some(jobs) => jobs.try_send(Job { weight, run, place }),
            None => return Err(ended()),
        };
        sent.map_err(|error| match error {
            mpsc::TrySendError::Full(_) => busy(),
            mpsc::TrySendError::Disconnected(_) => ended(),
        })?;
        receiver.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            let _a_panic_was_logged = thread.join();
        }
    }
}

fn write_groups(conn: &Connection, jobs: &mpsc::Receiver<Job>, shared: &Shared, mut next_content: i64) {
    let mut untidy = true;
    loop {
        let first = match jobs.recv_timeout(if untidy { TIDY_AFTER } else { FOR_EVER }) {
            Ok(first) => first,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                untidy = untidy
                    && index::tidy(conn).unwrap_or_else(|error| {
                        tracing::warn!(%error, "the search index could not be tidied");
                        false
                    });
                continue;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        untidy = true;
        let begun = Instant::now();
        let mut replies = Vec::new();
        let lost = match write_group(conn, first, jobs, shared, &mut next_content, &mut replies) {
            Ok(mut effects) => {
                shared.groups.apply(&mut effects);
                shared.roster.apply(effects);
                None
            }
            Err(error) => {
                if !conn.is_autocommit() {
                    // Nothing more can be done about a rollback that fails; the next BEGIN will say so.
                    let _ = conn.execute_batch("ROLLBACK");
                }
                tracing::error!(%error, "a transaction was lost");
                metrics::counter!("directory_transactions_lost_total").increment(1);
                Some(failure(&error))
            }
        };
        metrics::histogram!("directory_commit_seconds").record(begun.elapsed());
        metrics::counter!("directory_groups_total").increment(1);
        metrics::counter!("directory_group_jobs_total").increment(replies.len() as u64);
        for reply in replies {
            reply(lost.clone());
        }
    }
}

fn write_group(
    conn: &Connection,
    first: Job,
    jobs: &mpsc::Receiver<Job>,
    shared: &Shared,
    next_content: &mut i64,
    replies: &mut Vec<Reply>,
) -> rusqlite::Result<Vec<Effect>> {
    let begun = conn.execute_batch("BEGIN IMMEDIATE");
    let mut tx = Tx { conn, dirty: Dirty::default(), effects: Vec::new(), next_content, lost: begun.err() };
    // Places are given back when the group is written, not before: what waits in memory is what they count.
    let mut places = Vec::new();
    let mut weight = 0;
    let mut next = Some(first);
    while let Some(job) = next {
        weight += job.weight;
        places.push(job.place);
        replies.push((job.run)(&mut tx));
        if let Some(error) = tx.lost {
            return Err(error);
        }
        let open = weight < GROUP_ENTRIES && replies.len() < GROUP_JOBS;
        next = if open { jobs.try_recv().ok() } else { None };
    }
    tx.dirty.write(conn, &shared.frequencies)?;
    conn.execute_batch("COMMIT")?;
    Ok(tx.effects)
}

/// What a caller hears of an error in SQLite.
pub(super) fn failure(error: &rusqlite::Error) -> CatalogError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => CatalogError::StorageFull,
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => CatalogError::Busy,
        _ => CatalogError::Broken(error.to_string()),
    }
}

fn busy() -> CatalogError {
    metrics::counter!("directory_refusals_total", "reason" => "writer_busy").increment(1);
    CatalogError::Busy
}

fn ended() -> CatalogError {
    CatalogError::Broken("the writer has ended".to_owned())
}
