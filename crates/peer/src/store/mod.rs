//! [`Store`]: the peer's own memory on disk, one SQLite file.
//!
//! One thread writes. It takes what waits in its queue, runs all of it in one transaction (each closure in a savepoint
//! of its own, so that one that fails does not undo its neighbours), commits once, and only then answers: what was
//! answered survives `kill -9` and a power cut. Readers run inline on the caller's thread, on connections of their own:
//! a point lookup takes microseconds, less than handing it to another thread would.
//!
//! It knows SQL and nothing of files or downloads: the modules that own a table bring their closures. A disk that is
//! full is an answer of its own ([`ErrorCode::StorageFull`](wire::ErrorCode::StorageFull)); everything else that
//! SQLite may say is logged here, once, and told as internal.

pub(crate) mod audit;
pub(crate) mod downloads;
pub(crate) mod mail;
pub(crate) mod offers;
mod readers;
pub mod schema;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::{mpsc, oneshot};
use wire::ErrorCode;

use self::{
    readers::Readers,
    writer::{Job, Write},
};
use crate::{Failure, data_dir::DataDir};

/// Writes that may wait; more wait outside, in their callers.
const QUEUE: usize = 1024;
/// Statements that each connection keeps prepared.
const PREPARED: usize = 128;

/// A handle; clones are the same store. The last one to be dropped waits for the writer and closes the file.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    writer: Option<thread::JoinHandle<()>>,
    readers: Readers,
    /// What only one process may hold goes after all else has been put in order.
    _held: Option<DataDir>,
}

impl Store {
    /// Opens the store of a data folder, and holds the folder as long as the store is open.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in(data_dir: DataDir) -> Result<Self, Failure> {
        let path = data_dir.path().join("peer.db");
        Self::open_holding(&path, Some(data_dir))
    }

    /// Opens the file, creating it (0600) and its folder (0700) where they are missing, and brings its tables up to date.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no database, or was written by a newer program; the text names it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_holding(path, None)
    }

    fn open_holding(path: &Path, held: Option<DataDir>) -> Result<Self, Failure> {
        let broken = |error: &dyn std::fmt::Display| {
            Failure::new(
                ErrorCode::Internal,
                format!("the store {} cannot be opened: {error}", path.display()),
            )
        };
        create_private(path).map_err(|error| broken(&error))?;
        let mut connection =
            connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| broken(&error))?;
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(|error| broken(&error))?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(broken(&"its file system has no shared memory for a write-ahead log"));
        }
        connection.pragma_update(None, "synchronous", "FULL").map_err(|error| broken(&error))?;
        schema::migrate(&mut connection).map_err(|error| broken(&error))?;

        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(connection, queue))
            .map_err(|error| broken(&error))?;
        let readers = Readers::new(path.to_owned());
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                jobs: Some(jobs),
                writer: Some(writer),
                readers,
                _held: held,
            }),
        })
    }

    /// Runs `work` in a transaction and answers after the durable commit. Dropping the future does not undo it.
    ///
    /// # Errors
    /// What the closure or the commit said; nothing of the closure's work is kept then.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_then(work, |_| {}).await
    }

    /// As [`Self::write`]; `after` runs on the writer's thread once the commit is durable, before the answer. All
    /// `after`s run in the order of their commits, and whether or not the caller still waits: the place to bring
    /// what is held in memory up to date.
    ///
    /// # Errors
    /// As [`Self::write`]; `after` does not run then.
    pub async fn write_then<T, F, A>(&self, work: F, after: A) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let closed = || Failure::unavailable("the store is closed");
        let (reply, answer) = oneshot::channel();
        let jobs = self.inner.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(Box::new(Write::new(work, after, reply))).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Runs `work` on a read connection, inline. It sees every write that was answered.
    ///
    /// # Errors
    /// What the closure said.
    pub fn read<T, F>(&self, work: F) -> Result<T, Failure>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T>,
    {
        self.inner.readers.with(work).map_err(|error| failure(&error))
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.readers.close();
        self.jobs = None;
        let Some(writer) = self.writer.take() else { return };
        // A closure may have held the last handle; the writer cannot wait for itself.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// What the outside is told of an SQLite error; the cause is logged.
fn failure(error: &rusqlite::Error) -> Failure {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        metrics::counter!("trueque_store_full_total").increment(1);
        return Failure::new(ErrorCode::StorageFull, "the disk is full");
    }
    metrics::counter!("trueque_store_errors_total").increment(1);
    Failure::internal(format_args!("store: {error}"))
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

/// The folder as 0700 and the file as 0600, where they are not there yet. SQLite gives its side files the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
