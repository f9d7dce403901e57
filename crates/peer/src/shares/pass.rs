//! [`Pass`]: one look at some paths or at everything, against what the library knows.
//!
//! It sorts what it sees: unchanged (nothing), known by its stamp under another name (added without reading), new or
//! changed (to be hashed), gone (withdrawn), refused (told once). It reads metadata and never bytes. Everything here
//! runs on threads that may wait for a disk.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use content::SafeName;
use tokio::runtime::Handle;
use walkdir::WalkDir;
use wire::ErrorCode;

use super::{
    Inner, Place,
    follow::Finished,
    hash::{Cancel, HashError, Hashed},
    hashing,
    quiet::{AFTER_MOVE, AFTER_WRITE, Due},
    roots::is_ours,
};
use crate::library::{FileStamp, NewFile, Origin, SharedEntry};

/// Changes of the library in one transaction.
const BATCH: usize = 1024;
/// Before what the store would not take is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

struct Pass<'a> {
    inner: &'a Arc<Inner>,
    /// Known under another name.
    known: Vec<NewFile>,
    gone: Vec<PathBuf>,
    to_hash: Vec<(PathBuf, FileStamp)>,
    /// The entries whose file was seen, by their address.
    seen: HashSet<*const SharedEntry>,
    /// Files that are shared or will be.
    files: u64,
}

/// Looks at the paths that have fallen silent, and glances at those that have not.
pub(super) fn look(inner: &Arc<Inner>, due: &Due) {
    let mut pass = Pass::new(inner);
    due.silent.iter().for_each(|path| pass.look_at(path));
    due.restless.iter().for_each(|path| pass.glance_at(path));
    pass.tell_library();
    pass.hash_now();
}

/// Looks at a folder that is to be shared. How many of its files are, or will be.
pub(super) fn share_folder(inner: &Arc<Inner>, folder: &Path) -> Result<u64, crate::Failure> {
    let mut pass = Pass::new(inner);
    pass.walk(folder);
    let files = pass.files;
    pass.tell_library();
    pass.hash_now();
    Ok(files)
}

/// Looks at everything: the folders, and what the library knows and they do not have.
pub(super) fn scan(inner: &Arc<Inner>) {
    inner.watch.lock().ensure();
    let mut pass = Pass::new(inner);
    let entries = inner.library.all();
    for folder in &inner.roots.shared {
        pass.walk(folder);
    }
    pass.check_unseen(&entries);
    pass.tell_library();
    pass.hash_in_turn();
}

impl<'a> Pass<'a> {
    fn new(inner: &'a Arc<Inner>) -> Self {
        let seen = HashSet::new();
        Self { inner, known: Vec::new(), gone: Vec::new(), to_hash: Vec::new(), seen, files: 0 }
    }

    fn look_at(&mut self, path: &Path) {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let entries = self.inner.library.beneath(path);
                if self.inner.roots.folder_of(path).is_some() {
                    self.walk(path);
                }
                self.check_unseen(&entries);
            }
            Ok(metadata) => {
                // Where a folder was, something else is now: what was in it is not to be had any more.
                let entries = self.inner.library.beneath(path);
                let below = entries.into_iter().filter(|entry| entry.path != path);
                self.gone.extend(below.map(|entry| entry.path.clone()));
                self.consider(path, &metadata);
            }
            Err(error) => {
                let entries = self.inner.library.beneath(path);
                self.gone.extend(entries.into_iter().map(|entry| entry.path.clone()));
                if is_gone(&error) {
                    self.inner.forgive(path);
                } else if matches!(self.inner.roots.place(path), Place::Shared(_)) {
                    self.inner.refuse(path, &format!("it cannot be read: {error}"));
                }
            }
        }
    }

    /// Withdraws what is not what it was, and leaves the rest for when it is silent.
    fn glance_at(&mut self, path: &Path) {
        let Some(entry) = self.inner.library.by_path(path) else { return };
        if !stamp_at(path).is_some_and(|stamp| stamp.is_like(&entry.stamp)) {
            self.gone.push(path.to_owned());
        }
    }

    fn walk(&mut self, folder: &Path) {
        let roots = &self.inner.roots;
        let ours = |entry: &walkdir::DirEntry| {
            (entry.depth() > 0 && is_ours(entry.path())) || roots.is_private(entry.path())
        };
        for entry in WalkDir::new(folder).into_iter().filter_entry(|entry| !ours(entry)) {
            let read = entry.and_then(|entry| Ok((entry.metadata()?, entry)));
            match read {
                Ok((metadata, entry)) if !metadata.is_dir() => self.consider(entry.path(), &metadata),
                Ok(_) => {}
                // A file or folder that went away while we were looking is no news.
                Err(error) if error.io_error().is_some_and(is_gone) => {}
                Err(error) => {
                    if let Some(path) = error.path() {
                        self.inner.refuse(path, &format!("it cannot be read: {}", plain(&error)));
                    }
                }
            }
        }
    }

    /// Looks at one path that is no folder.
    fn consider(&mut self, path: &Path, metadata: &Metadata) {
        let entry = self.inner.library.by_path(path);
        let stamp = FileStamp::of(metadata);
        let unchanged = metadata.is_file() && entry.as_ref().is_some_and(|entry| entry.stamp == stamp);
        // Another name or mode, or other bytes under the old time: it stays, unread by anybody, until it is hashed.
        let touched =
            entry.clone().filter(|entry| metadata.is_file() && !unchanged && entry.stamp.is_like(&stamp));
        let name = match self.inner.roots.place(path) {
            Place::Shared(name) if metadata.is_file() => name,
            Place::Download if unchanged => return,
            Place::Download if let Some(entry) = touched => {
                return self.look_again(&entry, &entry.name, stamp);
            }
            Place::Refused(detail) if metadata.is_file() => {
                self.inner.refuse(path, &detail);
                return self.gone.extend(entry.map(|entry| entry.path.clone()));
            }
            // Also what is no regular file: a symlink chooses a path elsewhere, a pipe would never end.
            Place::Shared(_) | Place::Refused(_) | Place::Download | Place::Ignored => {
                return self.gone.extend(entry.map(|entry| entry.path.clone()));
            }
        };
        self.files += 1;
        if let Some(entry) = entry.as_ref().filter(|entry| unchanged && entry.name == name) {
            self.seen.insert(Arc::as_ptr(entry));
            return self.inner.forgive(path);
        }
        if let Some(entry) = touched.filter(|entry| entry.name == name) {
            return self.look_again(&entry, &name, stamp);
        }
        if self.inner.library.is_excluded(path) {
            self.files -= 1;
            return;
        }
        let like = self.inner.library.like(&stamp);
        for twin in &like {
            // A rename moves the ctime too, and the file is the same all the same.
            let moved = fs::symlink_metadata(&twin.path).is_err_and(|error| is_gone(&error));
            if moved || (twin.stamp == stamp && is_still(twin)) {
                if moved {
                    self.gone.push(twin.path.clone());
                }
                self.known.push(NewFile::known(path.to_owned(), name, stamp, twin));
                return;
            }
        }
        // A write is told for the name it was made by alone; other names of the same file have it too.
        let before = entry.as_ref().map(|entry| self.inner.library.like(&entry.stamp)).unwrap_or_default();
        for link in like.iter().chain(&before).filter(|link| link.path != path) {
            self.inner.quiet.touch(&link.path, AFTER_MOVE);
        }
        if entry.is_some() {
            self.gone.push(path.to_owned());
        }
        if let Some(wait) = self.still_fresh(&stamp) {
            return self.inner.quiet.touch(path, wait);
        }
        self.to_hash.push((path.to_owned(), stamp));
    }

    /// Reads a file again of which only the ctime has moved. Nobody gets a byte of it before.
    fn look_again(&mut self, entry: &Arc<SharedEntry>, name: &SafeName, stamp: FileStamp) {
        self.seen.insert(Arc::as_ptr(entry));
        if entry.stamp.ctime_ns == 0 {
            // An earlier version kept no ctime: what it believed by the rest is believed once more.
            self.known.push(NewFile::known(entry.path.clone(), name.clone(), stamp, entry));
        } else {
            self.to_hash.push((entry.path.clone(), stamp));
        }
    }

    /// How long a file that was written to just now should be left alone.
    fn still_fresh(&self, stamp: &FileStamp) -> Option<Duration> {
        AFTER_WRITE.checked_sub(self.inner.age(stamp.mtime_ns)?).filter(|wait| !wait.is_zero())
    }

    /// Withdraws those of `entries` that no walk has met and that are not what they were, or lie in no folder of ours
    /// any more.
    fn check_unseen(&mut self, entries: &[Arc<SharedEntry>]) {
        let mut real = Folders::default();
        for entry in entries {
            if self.seen.contains(&Arc::as_ptr(entry)) {
                continue;
            }
            let ours = matches!(self.inner.roots.place(&entry.path), Place::Shared(_) | Place::Download);
            match stamp_at(&entry.path).filter(|_| ours && real.has(&entry.path)) {
                Some(stamp) if stamp == entry.stamp => {}
                Some(stamp) if stamp.is_like(&entry.stamp) => self.look_again(entry, &entry.name, stamp),
                _ => self.gone.push(entry.path.clone()),
            }
        }
    }

    /// Lets the library know. What has another name is added first, so that it is never gone in between.
    fn tell_library(&mut self) {
        let runtime = Handle::current();
        let library = &self.inner.library;
        let added: HashSet<PathBuf> = self.known.iter().map(|file| file.path.clone()).collect();
        let mut again = Vec::new();
        let mut wait = AFTER_MOVE;
        let mut known = std::mem::take(&mut self.known);
        while !known.is_empty() {
            let batch: Vec<_> = known.drain(..known.len().min(BATCH)).collect();
            let paths: Vec<_> = batch.iter().map(|file| file.path.clone()).collect();
            let wanted = batch.len();
            match runtime.block_on(library.apply(batch, Vec::new(), Origin::Found)) {
                Ok(done) if done == wanted => {}
                // The entry that they were known by was withdrawn meanwhile.
                Ok(_) => again.extend(paths),
                Err(failure) => {
                    wait = after(&failure);
                    again.extend(paths);
                }
            }
        }
        let gone: Vec<_> = self.gone.drain(..).filter(|path| !added.contains(path)).collect();
        for batch in gone.chunks(BATCH) {
            if let Err(failure) = runtime.block_on(library.remove_paths(batch)) {
                wait = after(&failure);
                again.extend_from_slice(batch);
            }
        }
        again.iter().for_each(|path| self.inner.quiet.touch(path, wait));
    }

    /// Hashes what a change has brought up, before what a scan did.
    fn hash_now(self) {
        for (path, stamp) in self.to_hash {
            if !self.inner.send_off(&path, stamp, true) {
                return self.inner.quiet.overflow();
            }
        }
    }

    /// Hashes what a scan has found, waiting where the threads have enough. Gives up when all is to be scanned again.
    fn hash_in_turn(self) {
        let inner = self.inner;
        let bytes = self.to_hash.iter().map(|(_, stamp)| stamp.size).sum::<u64>();
        inner.backlog_files.fetch_add(self.to_hash.len() as u64, Ordering::Relaxed);
        inner.backlog_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut given_up = false;
        for (path, stamp) in self.to_hash {
            given_up = given_up || inner.quiet.is_overflown() || inner.finished.is_closed();
            if !given_up {
                inner.send_off(&path, stamp, false);
            }
            inner.backlog_files.fetch_sub(1, Ordering::Relaxed);
            inner.backlog_bytes.fetch_sub(stamp.size, Ordering::Relaxed);
        }
    }
}

impl Inner {
    /// Queues a file for hashing, unless it is on its way already. False where there is no room for urgent ones.
    pub(super) fn send_off(self: &Arc<Self>, path: &Path, stamp: FileStamp, urgent: bool) -> bool {
        if self.library.by_path(path).is_some_and(|entry| entry.stamp == stamp) {
            return true;
        }
        let cancel = Cancel::default();
        {
            let mut in_flight = self.in_flight.lock();
            if let Some((flying, cancel)) = in_flight.get(path) {
                // Whoever hashes it looks at the ctime at the end.
                if !flying.is_like(&stamp) {
                    cancel.store(true, Ordering::Relaxed);
                    self.quiet.touch(path, AFTER_WRITE);
                }
                return true;
            }
            in_flight.insert(path.to_owned(), (stamp, cancel.clone()));
        }
        self.library.tell(|| hashing(path, stamp.size));
        let (inner, to, mark) = (self.clone(), path.to_owned(), cancel.clone());
        let done = Box::new(move |hashed: Hashed| {
            let error = match hashed {
                Ok((outline, now)) if now.is_like(&stamp) => {
                    let finished = Finished { path: to, stamp: now, outline, cancel: mark };
                    // Closed only when the peer stops.
                    let _stopping = inner.finished.blocking_send(finished);
                    return;
                }
                // Written to since it was looked at. A second write in the same tick of the file system's clock would
                // not show, so it is read once more when it has been silent.
                Ok(_) => HashError::Changed,
                Err(error) => error,
            };
            inner.land(&to, &mark);
            match error {
                HashError::Cancelled => {}
                HashError::Changed => inner.quiet.touch(&to, AFTER_WRITE),
                HashError::Io(error) if is_gone(&error) => inner.quiet.touch(&to, AFTER_MOVE),
                error @ (HashError::Io(_) | HashError::TooLarge(_) | HashError::Own) => {
                    inner.refuse(&to, &error.to_string());
                }
            }
        });
        if !urgent {
            self.hasher.push(path.to_owned(), stamp.size, cancel, done);
            return true;
        }
        let taken = self.hasher.push_urgent(path.to_owned(), stamp.size, cancel.clone(), done);
        if !taken {
            self.land(path, &cancel);
        }
        taken
    }
}

/// How long to wait after the store has refused. The refusal is told here.
pub(super) fn after(failure: &crate::Failure) -> Duration {
    if failure.code == ErrorCode::StorageFull {
        tracing::warn!("the disk is full: what changed in the shared folders is not stored yet");
    }
    AFTER_FAILURE
}

/// Whether the file at an entry's path is the one that was hashed.
pub(super) fn is_still(entry: &SharedEntry) -> bool {
    stamp_at(&entry.path).is_some_and(|stamp| stamp == entry.stamp)
}

/// The stamp of the regular file at a path.
fn stamp_at(path: &Path) -> Option<FileStamp> {
    fs::symlink_metadata(path).ok().filter(Metadata::is_file).map(|metadata| FileStamp::of(&metadata))
}

/// Folders, and whether no link leads to them: what a link leads to is not in our folders, even if it was.
#[derive(Default)]
struct Folders(HashMap<PathBuf, bool>);

impl Folders {
    fn has(&mut self, path: &Path) -> bool {
        let Some(folder) = path.parent() else { return false };
        if let Some(real) = self.0.get(folder) {
            return *real;
        }
        let real = folder.canonicalize().is_ok_and(|found| found == folder);
        self.0.insert(folder.to_owned(), real);
        real
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The system's own words, without the path that walkdir adds.
fn plain(error: &walkdir::Error) -> String {
    error.io_error().map_or_else(|| error.to_string(), ToString::to_string)
}
