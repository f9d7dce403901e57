//! [`Shares`]: the shared folders, followed. What lies in them is hashed and put into the [`Library`]; what leaves
//! them or changes leaves it.
//!
//! ```text
//!   watch ──► quiet ──► follow ─┐            ┌──► add ──► library
//!                               ├─► hash ────┘
//!   (start, 60 s, overrun) scan ┘      threads
//! ```
//!
//! - Only regular files with names that are safe; symlinks are never followed, and `.trueque*` is ours.
//! - A file is hashed when it has been silent for 0.3 s, and not again while size, times and inode stay; under a new
//!   name it is known by them.
//! - What cannot be shared is told once, as an event and in the log.
//! - The download folder is followed only for what the library knows: a file there that changes or goes is withdrawn.
//!
//! It never decides who may have a file, and never writes into a shared folder but for uploads.

mod follow;
mod hash;
mod pass;
mod quiet;
mod roots;
mod upload;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use content::{ContentId, SafeName};
use daemon::{Clock, Lifecycle};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use wire::{
    ErrorCode,
    rest::{Audience, pclient::FileEvent},
};

pub(crate) use self::hash::read_again;
use self::{
    follow::Finished,
    hash::{Cancel, HashError, Hasher},
    quiet::Quiet,
    roots::{Place, Roots},
    watch::Watch,
};
use crate::{
    Failure,
    library::{FileStamp, Library, NewFile, SharedEntry},
};

/// Hashed files that may wait for the library.
const FINISHED: usize = 4096;
/// Refusals that are remembered, so that each is told once.
const REFUSALS: usize = 10_000;
/// A file system's clock ticks so slowly that two writes within this time may leave the same stamp.
const TICK: Duration = Duration::from_millis(50);
/// How often a file that is asked for and changes under our hands is tried again.
const TRIES: u32 = 10;

/// Which folders.
#[derive(Debug, Clone)]
pub struct Settings {
    /// At least one; uploads go into the first.
    pub folders: Vec<PathBuf>,
    pub download_dir: PathBuf,
    /// Never shared, wherever it lies.
    pub data_dir: PathBuf,
}

/// Makes the folders that are missing, and looks whether they can be used together.
///
/// # Errors
/// Where they cannot; the message names the setting.
pub fn check(settings: &Settings) -> Result<(), Failure> {
    Roots::open(&settings.folders, &settings.download_dir, &settings.data_dir).map(drop)
}

/// What [`Shares::share`] found.
#[derive(Debug, Clone)]
pub enum Shared {
    /// A file: it is shared now.
    File(Arc<SharedEntry>),
    /// A folder with so many files: they are being hashed.
    Folder { path: PathBuf, files: u64 },
}

/// A handle; clones are the same folders.
#[derive(Clone)]
pub struct Shares {
    inner: Arc<Inner>,
}

struct Inner {
    roots: Roots,
    library: Library,
    clock: Clock,
    hasher: Hasher,
    quiet: Arc<Quiet>,
    watch: Mutex<Watch>,
    /// Files that are queued or being hashed, with the stamp that they had.
    in_flight: Mutex<HashMap<PathBuf, (FileStamp, Cancel)>>,
    refused: Mutex<HashMap<PathBuf, String>>,
    finished: mpsc::Sender<Finished>,
    /// Found by a scan and not queued yet.
    backlog_files: AtomicU64,
    backlog_bytes: AtomicU64,
    /// Scans of everything that have ended.
    scans: tokio::sync::watch::Sender<u64>,
}

impl Shares {
    /// Creates the folders that are missing and begins to follow them. Returns before the first scan has ended.
    ///
    /// # Errors
    /// Where a folder cannot be made or read, lies in the data folder, or there is none.
    pub fn start(
        settings: &Settings,
        library: Library,
        clock: Clock,
        lifecycle: &Lifecycle,
    ) -> Result<Self, Failure> {
        let roots = Roots::open(&settings.folders, &settings.download_dir, &settings.data_dir)?;
        roots.warn();
        upload::remove_leftovers(&roots.shared);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let hasher = Hasher::start(threads, roots.data.clone()).map_err(Failure::internal)?;
        let quiet = Arc::new(Quiet::default());
        let watch = Mutex::new(Watch::new(roots.watched(), roots.data.clone(), quiet.clone()));
        let (finished, queue) = mpsc::channel(FINISHED);
        let inner = Arc::new(Inner {
            roots,
            library,
            clock,
            hasher,
            quiet,
            watch,
            in_flight: Mutex::default(),
            refused: Mutex::default(),
            finished,
            backlog_files: AtomicU64::new(0),
            backlog_bytes: AtomicU64::new(0),
            scans: tokio::sync::watch::Sender::new(0),
        });
        follow::spawn(&inner, queue, lifecycle);
        Ok(Self { inner })
    }

    /// Shares a file or a folder that lies in a shared folder, also what was taken out before. A file is hashed at
    /// once and before all others; the files of a folder follow as events.
    ///
    /// # Errors
    /// `not_found`; `permission_denied` for a path outside the shared folders, also by way of a symlink;
    /// `unprocessable` for what is neither file nor folder or cannot be read, has a name that cannot be shared, keeps
    /// changing, is the peer's own, or was given to this peer alone.
    pub async fn share(&self, path: &Path, audience: Option<Audience>) -> Result<Shared, Failure> {
        let (inner, asked) = (self.inner.clone(), path.to_owned());
        let (path, metadata) = blocking(move || {
            let real = inner.roots.resolve(&asked)?;
            let metadata = fs::symlink_metadata(&real)
                .map_err(|_| Failure::not_found(format!("there is no file or folder {}", asked.display())))?;
            Ok((real, metadata))
        })
        .await?;
        if metadata.is_dir() {
            return self.share_folder(path, audience).await;
        }
        let unprocessable = |detail: String| Failure::new(ErrorCode::Unprocessable, detail);
        let shown = path.display();
        if !metadata.is_file() {
            return Err(unprocessable(format!("{shown} is neither a file nor a folder")));
        }
        let name = match self.inner.roots.place(&path) {
            Place::Shared(name) => name,
            Place::Refused(detail) => {
                return Err(unprocessable(format!("{shown} cannot be shared: {detail}")));
            }
            Place::Ignored | Place::Download => {
                return Err(unprocessable(format!("{shown} is a file of Trueque's own")));
            }
        };
        self.inner.library.include(&path).await?;
        let stamp = FileStamp::of(&metadata);
        if let Some(entry) = self.inner.library.by_path(&path).filter(|entry| entry.stamp == stamp) {
            if let Some(audience) = audience {
                self.inner.library.set_audience(&entry.content_id, audience).await?;
            }
            return self.shared_at(&path);
        }
        self.hash_and_add(&path, name, stamp, audience).await?;
        self.shared_at(&path)
    }

    /// The folder that uploads are streamed into, as `.trueque-upload-*`, before [`Self::adopt_upload`].
    pub fn upload_target(&self) -> &Path {
        self.inner.roots.uploads.root()
    }

    /// Shares an uploaded file: `temp`, which lies in [`Self::upload_target`], gets its name there, or the next free
    /// one. If the same content is shared there under this name already, that is the answer and `temp` goes. On
    /// failure it goes too.
    ///
    /// # Errors
    /// Where it cannot be hashed, moved or stored.
    pub async fn adopt_upload(
        &self,
        temp: PathBuf,
        name: SafeName,
        audience: Option<Audience>,
    ) -> Result<Arc<SharedEntry>, Failure> {
        upload::adopt(&self.inner, temp, name, audience).await
    }

    /// Files and bytes that wait to be hashed or are.
    pub fn progress(&self) -> (u64, u64) {
        let (files, bytes) = self.inner.hasher.pending();
        (
            files + self.inner.backlog_files.load(Ordering::Relaxed),
            bytes + self.inner.backlog_bytes.load(Ordering::Relaxed),
        )
    }

    /// Whether everything that was hashed has come to the library, or will not. That is later than its hash is known, and
    /// later than the library shows it.
    pub fn has_landed(&self) -> bool {
        self.inner.in_flight.lock().is_empty()
    }

    /// The file at `path` looked changed or gone when somebody was to get it: looks there now.
    pub fn nudge(&self, path: &Path) {
        self.inner.quiet.touch(path, Duration::ZERO);
    }

    /// Looks at everything again soon.
    pub fn rescan(&self) {
        self.inner.quiet.overflow();
    }

    /// Counts the scans of everything that have ended; the first begins at the start.
    pub fn scans(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.scans.subscribe()
    }

    /// Files that were read and hashed since the start.
    pub fn hashed_files(&self) -> u64 {
        self.inner.hasher.hashed()
    }

    async fn share_folder(&self, path: PathBuf, audience: Option<Audience>) -> Result<Shared, Failure> {
        let library = &self.inner.library;
        library.include(&path).await?;
        if let Some(audience) = audience {
            library.set_folder_audience(&path, audience.clone()).await?;
            let ids: std::collections::HashSet<ContentId> =
                library.beneath(&path).iter().map(|entry| entry.content_id).collect();
            for id in ids {
                library.set_audience(&id, audience.clone()).await?;
            }
        }
        let (inner, folder) = (self.inner.clone(), path.clone());
        let files = blocking(move || pass::share_folder(&inner, &folder)).await?;
        Ok(Shared::Folder { path, files })
    }

    async fn hash_and_add(
        &self,
        path: &Path,
        name: SafeName,
        mut stamp: FileStamp,
        audience: Option<Audience>,
    ) -> Result<(), Failure> {
        let inner = &self.inner;
        for _ in 0..TRIES {
            // The watcher may have begun with it; what somebody waits for is not queued behind the rest.
            let cancel = Cancel::default();
            if let Some((_, other)) = inner.in_flight.lock().insert(path.to_owned(), (stamp, cancel.clone()))
            {
                other.store(true, Ordering::Relaxed);
            }
            let _landed = Landing { inner, path, cancel: &cancel };
            if inner.age(stamp.newest_ns()).is_some_and(|age| age < TICK) {
                tokio::time::sleep(TICK).await;
            }
            inner.library.tell(|| hashing(path, stamp.size));
            match inner.hasher.hash(path.to_owned(), stamp.size, cancel.clone()).await {
                Ok((outline, hashed)) if hashed == stamp => {
                    refuse_withheld(inner, &outline.id())?;
                    let file = NewFile { audience, ..NewFile::new(path.to_owned(), name, stamp, outline) };
                    return inner.library.add(vec![file]).await;
                }
                // Written to since it was looked at: that it was old enough is not known of this stamp.
                Ok(_) | Err(HashError::Changed) => tokio::time::sleep(quiet::AFTER_WRITE).await,
                Err(error) => return Err(refusal(path, &error)),
            }
            let again = path.to_owned();
            let metadata = blocking(move || {
                fs::symlink_metadata(&again)
                    .map_err(|_| Failure::not_found(format!("{} is gone", again.display())))
            });
            stamp = FileStamp::of(&metadata.await?);
        }
        Err(refusal(path, &HashError::Changed))
    }

    fn shared_at(&self, path: &Path) -> Result<Shared, Failure> {
        let entry = self.inner.library.by_path(path);
        let gone = || Failure::not_found(format!("{} is gone", path.display()));
        entry.map(Shared::File).ok_or_else(gone)
    }
}

/// Takes a file out of flight when it has landed, unless another flight has taken its place.
struct Landing<'a> {
    inner: &'a Inner,
    path: &'a Path,
    cancel: &'a Cancel,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.inner.land(self.path, self.cancel);
    }
}

impl Shares {
    /// Files that lie in shared folders and cannot be shared, with the reason; at most 10,000. It looks at the disk.
    pub fn refused(&self) -> Vec<(PathBuf, String)> {
        let refused = self.inner.refused.lock().clone();
        refused.into_iter().filter(|(path, _)| std::fs::symlink_metadata(path).is_ok()).collect()
    }
}

impl Inner {
    fn land(&self, path: &Path, cancel: &Cancel) {
        let mut in_flight = self.in_flight.lock();
        if in_flight.get(path).is_some_and(|(_, other)| Arc::ptr_eq(other, cancel)) {
            in_flight.remove(path);
        }
    }

    /// How long ago a time was, in nanoseconds since 1970; `None` where it lies ahead.
    fn age(&self, at_ns: i64) -> Option<Duration> {
        let age = self.clock.millis().checked_sub(at_ns / 1_000_000)?;
        u64::try_from(age).ok().map(Duration::from_millis)
    }

    /// Tells, once, that a file cannot be shared.
    fn refuse(&self, path: &Path, detail: &str) {
        {
            let mut refused = self.refused.lock();
            if refused.get(path).is_some_and(|told| told == detail) {
                return;
            }
            if refused.len() < REFUSALS {
                refused.insert(path.to_owned(), detail.to_owned());
            }
        }
        metrics::counter!("trueque_shares_refused_total").increment(1);
        tracing::warn!(file.path = %path.display(), reason = detail, "a file in a shared folder cannot be shared");
        self.library
            .tell(|| FileEvent::Refused { path: path.display().to_string(), detail: detail.to_owned() });
    }

    fn forgive(&self, path: &Path) {
        let mut refused = self.refused.lock();
        if !refused.is_empty() {
            refused.remove(path);
        }
    }
}

/// What was given to this peer alone is not passed on, whoever asks for it.
fn refuse_withheld(inner: &Inner, id: &ContentId) -> Result<(), Failure> {
    if !inner.library.is_withheld(id)? {
        return Ok(());
    }
    let detail = "somebody gave this file to you alone, and only they can share it with others";
    Err(Failure::new(ErrorCode::Unprocessable, detail))
}

fn hashing(path: &Path, size: u64) -> FileEvent {
    FileEvent::Hashing { path: path.display().to_string(), size }
}

/// Why a file that somebody asked for is not shared.
fn refusal(path: &Path, error: &HashError) -> Failure {
    let shown = path.display();
    match error {
        HashError::Cancelled => Failure::unavailable("the peer is stopping"),
        HashError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Failure::not_found(format!("{shown} is gone"))
        }
        HashError::Io(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            Failure::new(ErrorCode::RateLimited, "too many files wait to be hashed")
        }
        HashError::Changed => Failure::new(ErrorCode::Unprocessable, format!("{shown} is being written to")),
        HashError::TooLarge(_) | HashError::Io(_) | HashError::Own => {
            Failure::new(ErrorCode::Unprocessable, format!("{shown} cannot be shared: {error}"))
        }
    }
}

/// Runs what reads the disk where it may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::internal)?
}

impl std::fmt::Debug for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shares").field("roots", &self.inner.roots).finish_non_exhaustive()
    }
}
