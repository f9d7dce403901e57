//! [`Library`]: what this peer holds whole and shares, and what the directory must be told of it.
//!
//! Two copies of the same truth: tables in the [`Store`], and an index in memory from which every question is
//! answered. A change is a closure for the store's writer, which decides by the tables alone; when it is durable, and
//! in the order of the commits, the index follows, the announced revision moves and an event goes out. So nothing is
//! served or announced that a crash would take back.
//!
//! - The unit is a *path*; several may have one content, and one content may have several names.
//! - An audience belongs to a *content*: the same bytes cannot be restricted here and public there.
//! - What somebody gave to this peer alone is *withheld*, a content too: in whatever folder it lies, it is not shared.
//! - What is announced is one row for each (content, name): see [`announce`].
//!
//! It looks at no file: that a path still has the bytes it had is for [`crate::shares`] to watch, and for whoever
//! opens it to check against the [`FileStamp`].

pub mod announce;
mod entry;
mod index;
mod outlines;
mod tables;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use content::{ContentId, Layout, Outline, SafeName};
use daemon::Clock;
use parking_lot::{Mutex, RwLock};
use rusqlite::Transaction;
use tokio::sync::{broadcast, watch};
use wire::{
    GroupName,
    rest::{
        Audience,
        directory::{CatalogDelta, MAX_DELTA_ENTRIES},
        pclient::FileEvent,
    },
};

pub(crate) use self::entry::media_type_of;
pub use self::entry::{FileStamp, NewFile, Origin, SharedEntry};
use self::{
    index::Index,
    outlines::OutlineCache,
    tables::{Edit, Outcome},
};
use crate::{Failure, store::Store};

/// Events that a slow listener may lag behind.
const EVENTS: usize = 1024;
/// Bytes of chaining values that are kept in memory.
const OUTLINE_CACHE: usize = 64 << 20;

/// A handle; clones are the same library.
#[derive(Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Clock,
    index: RwLock<Index>,
    outlines: Mutex<OutlineCache>,
    revision: watch::Sender<u64>,
    bell: watch::Sender<()>,
    events: broadcast::Sender<FileEvent>,
}

impl Library {
    /// Loads what was shared when the peer last ran.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub async fn open(store: Store, clock: Clock) -> Result<Self, Failure> {
        let born = clock.millis().unsigned_abs();
        let revision = store.write(move |tx| announce::first_revision(tx, born)).await?;
        let index = store.read(tables::load)?;
        index.show_totals();
        let inner = Inner {
            store,
            clock,
            index: RwLock::new(index),
            outlines: Mutex::new(OutlineCache::new(OUTLINE_CACHE)),
            revision: watch::Sender::new(revision),
            bell: watch::Sender::new(()),
            events: broadcast::Sender::new(EVENTS),
        };
        let library = Self { inner: Arc::new(inner) };
        library.change(|edit| edit.withdraw_withheld()).await?;
        Ok(library)
    }

    /// An entry that has the content, whole; any of them where it has several paths.
    pub fn get(&self, id: &ContentId) -> Option<Arc<SharedEntry>> {
        self.inner.index.read().of_content(id).first().cloned()
    }

    /// Every path that has the content.
    pub fn entries(&self, id: &ContentId) -> Vec<Arc<SharedEntry>> {
        self.inner.index.read().of_content(id).to_vec()
    }

    /// What is shared at `path`.
    pub fn by_path(&self, path: &Path) -> Option<Arc<SharedEntry>> {
        self.inner.index.read().at(path).cloned()
    }

    /// What is shared at `path` and beneath it.
    pub fn beneath(&self, path: &Path) -> Vec<Arc<SharedEntry>> {
        self.inner.index.read().beneath(path).cloned().collect()
    }

    /// Every entry, in order of their paths.
    pub fn all(&self) -> Vec<Arc<SharedEntry>> {
        self.inner.index.read().all().cloned().collect()
    }

    /// Every entry whose file looked [like](FileStamp::is_like) this: the names that one file has, or had.
    pub fn like(&self, stamp: &FileStamp) -> Vec<Arc<SharedEntry>> {
        self.inner.index.read().like(stamp).cloned().collect()
    }

    /// Up to `limit` entries in order of (name, content id), after the one given; with `q`, those whose name has it,
    /// case ignored. A content that lies at several paths under one name is one entry.
    pub fn page(
        &self,
        q: Option<&str>,
        after: Option<(String, ContentId)>,
        limit: usize,
    ) -> Vec<Arc<SharedEntry>> {
        self.inner.index.read().page(q, after, limit)
    }

    /// Files (pairs of content and name) and the sum of their bytes.
    pub fn totals(&self) -> (u64, u64) {
        self.inner.index.read().totals()
    }

    /// The chaining values of a shared content; `None` where it is not shared whole, or they are lost.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn outline(&self, id: &ContentId) -> Result<Option<Arc<Outline>>, Failure> {
        let Some(entry) = self.get(id) else { return Ok(None) };
        let Ok(layout) = Layout::new(entry.size) else { return Ok(None) };
        if Outline::values_for(layout) == 0 {
            return Ok(Outline::verify(*id, layout, Vec::new()).ok().map(Arc::new));
        }
        if let Some(outline) = self.inner.outlines.lock().get(id) {
            return Ok(Some(outline));
        }
        let Some(values) = self.inner.store.read(|connection| tables::outline(connection, id))? else {
            return Ok(None);
        };
        match Outline::verify(*id, layout, values) {
            Ok(outline) => {
                let outline = Arc::new(outline);
                self.inner.outlines.lock().put(outline.clone());
                Ok(Some(outline))
            }
            Err(error) => {
                tracing::error!(content.id = %id, error = %error, "the stored outline of a shared file is wrong");
                Ok(None)
            }
        }
    }

    /// Shares files, whatever the user took out before; replaces what was at the same paths. One transaction.
    ///
    /// # Errors
    /// Where the store refuses; then none is shared.
    pub async fn add(&self, files: Vec<NewFile>) -> Result<(), Failure> {
        self.apply(files, Vec::new(), Origin::Asked).await.map(|_| ())
    }

    /// Withdraws what is shared at `paths`: the files are gone or have changed.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn remove_paths(&self, paths: &[PathBuf]) -> Result<(), Failure> {
        if paths.is_empty() {
            return Ok(());
        }
        self.apply(Vec::new(), paths.to_vec(), Origin::Found).await.map(|_| ())
    }

    /// Adds and withdraws in one transaction, so that a file that moves keeps its audience and is never gone. Files
    /// that were only [`Origin::Found`] and that the user took out are left out. How many were added.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn apply(
        &self,
        add: Vec<NewFile>,
        remove: Vec<PathBuf>,
        origin: Origin,
    ) -> Result<usize, Failure> {
        if add.is_empty() && remove.is_empty() {
            return Ok(0);
        }
        let now = self.inner.clock.now();
        let outlines: Vec<_> = add.iter().filter_map(|file| file.outline.clone()).collect();
        let folders = self.inner.index.read().folder_audiences();
        let outcome = self
            .change(move |edit| {
                for file in &add {
                    edit.add(file, origin, &folders, now)?;
                }
                for path in &remove {
                    edit.remove(path)?;
                }
                Ok(())
            })
            .await?;
        let mut cache = self.inner.outlines.lock();
        outlines.into_iter().for_each(|outline| cache.put(outline));
        Ok(outcome)
    }

    /// Stops sharing a content; the files stay on disk. Remembered: no scan shares these paths, or this content at
    /// another path, until somebody asks for it. How many paths there were.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn unshare(&self, id: &ContentId) -> Result<usize, Failure> {
        let id = *id;
        let paths = self.entries(&id).len();
        self.change(move |edit| edit.exclude(&id)).await?;
        Ok(paths)
    }

    /// Whether the user took out what lies at `path`.
    pub fn is_excluded(&self, path: &Path) -> bool {
        self.inner.index.read().is_excluded(path)
    }

    /// Lets scans share again what the user took out at `path` or beneath it.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn include(&self, path: &Path) -> Result<(), Failure> {
        let path = path.to_owned();
        self.change(move |edit| edit.include_beneath(&path)).await.map(|_| ())
    }

    /// Remembers that contents were given to this peer alone: no scan and no request shares them, in whatever folder
    /// they come to lie. One that is shared here already is this user's own, and stays so.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn withhold(&self, ids: Vec<ContentId>) -> Result<(), Failure> {
        self.change(move |edit| ids.iter().try_for_each(|id| edit.withhold(id))).await.map(|_| ())
    }

    /// A content that was given to this peer alone came again, and everybody may have it.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn release(&self, id: &ContentId) -> Result<(), Failure> {
        if !self.is_withheld(id)? {
            return Ok(());
        }
        let id = *id;
        self.change(move |edit| edit.release(&id)).await.map(|_| ())
    }

    /// Whether a content was given to this peer alone.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn is_withheld(&self, id: &ContentId) -> Result<bool, Failure> {
        self.inner.store.read(|connection| tables::is_withheld(connection, id))
    }

    /// The groups that files here are for, or will be.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn groups(&self) -> Result<BTreeSet<GroupName>, Failure> {
        self.inner.store.read(tables::groups)
    }

    /// Says who may have a content, under all of its names. False where it is not shared.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn set_audience(&self, id: &ContentId, audience: Audience) -> Result<bool, Failure> {
        let id = *id;
        let known = self.get(&id).is_some();
        self.change(move |edit| edit.set_audience(&id, &audience)).await?;
        Ok(known)
    }

    /// Says who may have what appears beneath `folder` from now on.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn set_folder_audience(&self, folder: &Path, audience: Audience) -> Result<(), Failure> {
        let folder = folder.to_owned();
        self.change(move |edit| edit.set_folder_audience(&folder, &audience)).await.map(|_| ())
    }

    /// Announces that this peer has a part of a content and serves it. Only for what the whole network may have:
    /// nothing happens where the content is restricted here, or shared whole.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn set_partial(
        &self,
        id: &ContentId,
        name: &SafeName,
        size: u64,
        media_type: Option<String>,
        pieces_held: u32,
    ) -> Result<(), Failure> {
        let (id, name) = (*id, name.clone());
        self.change(move |edit| edit.set_partial(&id, &name, size, media_type.as_deref(), pieces_held))
            .await
            .map(|_| ())
    }

    /// The part is not served any more: the download ended or was cancelled.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn clear_partial(&self, id: &ContentId) -> Result<(), Failure> {
        let id = *id;
        self.change(move |edit| edit.clear_partial(&id)).await.map(|_| ())
    }

    /// The newest revision of what is announced; it moves with every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.revision.subscribe()
    }

    /// Rings whenever something is shared with fewer than before. Whoever holds it may ring it too.
    pub fn bell(&self) -> &watch::Sender<()> {
        &self.inner.bell
    }

    /// The next portion, at most `max` rows, for a directory that holds revision `held`; `None` where it has all. If
    /// `held` is none that can be built upon (the directory was emptied, or put back from a copy; this store is
    /// new), it begins a full announcement: see [`announce::next`].
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn delta(&self, held: u64, max: usize) -> Result<Option<CatalogDelta>, Failure> {
        let max = max.clamp(1, MAX_DELTA_ENTRIES);
        match self.inner.store.read(|connection| announce::next(connection, held, max))? {
            announce::Next::UpToDate => Ok(None),
            announce::Next::Delta(delta) => Ok(Some(delta)),
            announce::Next::Restamp => self.reset_delta(held, max).await.map(Some),
        }
    }

    /// The first portion of a full announcement, whatever the directory says that it holds; [`Self::delta`] gives the
    /// next ones.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn reset_delta(&self, held: u64, max: usize) -> Result<CatalogDelta, Failure> {
        let max = max.clamp(1, MAX_DELTA_ENTRIES);
        let inner = self.inner.clone();
        let restamp = move |tx: &Transaction<'_>| announce::restamp(tx, held, max);
        let (delta, _) =
            self.inner.store.write_then(restamp, move |(_, newest)| inner.moved(*newest)).await?;
        Ok(delta)
    }

    /// The directory has answered that it holds `revision`: what was removed up to there need not be told again.
    ///
    /// # Errors
    /// Where the store refuses.
    pub async fn acked(&self, revision: u64) -> Result<(), Failure> {
        if self.inner.store.read(|connection| announce::has_tombstones(connection, revision))? {
            self.inner.store.write(move |tx| announce::drop_tombstones(tx, revision)).await?;
        }
        Ok(())
    }

    /// What happens to shared files from now on. A listener that is too slow misses some and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<FileEvent> {
        self.inner.events.subscribe()
    }

    /// Tells the listeners. The event is made only where there is one.
    pub fn tell(&self, event: impl FnOnce() -> FileEvent) {
        if self.inner.events.receiver_count() > 0 {
            let _nobody_left = self.inner.events.send(event());
        }
    }

    /// Runs an edit on the tables and lets the index follow. How many paths it shared.
    async fn change(
        &self,
        work: impl FnOnce(&mut Edit<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<usize, Failure> {
        let inner = self.inner.clone();
        let edit = move |tx: &Transaction<'_>| Edit::run(tx, work);
        let outcome = self.inner.store.write_then(edit, move |outcome| inner.follow(outcome)).await?;
        Ok(outcome.shared.len())
    }
}

impl Inner {
    /// Brings the index up to what was committed. Runs on the store's writer, in the order of commits.
    fn follow(&self, outcome: &Outcome) {
        let gone = {
            let mut index = self.index.write();
            let gone = index.follow(outcome);
            index.show_totals();
            gone
        };
        self.moved(outcome.revision);
        if !gone.is_empty() || !outcome.removed.is_empty() || !outcome.audiences.is_empty() {
            self.bell.send_replace(());
        }
        if self.events.receiver_count() == 0 {
            return;
        }
        for entry in gone {
            let name = entry.name.to_string();
            let _nobody_left = self.events.send(FileEvent::Unshared { content_id: entry.content_id, name });
        }
        for entry in &outcome.shared {
            let _nobody_left = self.events.send(FileEvent::Shared(entry.to_rest()));
        }
    }

    fn moved(&self, revision: u64) {
        self.revision.send_if_modified(|newest| {
            let moved = revision > *newest;
            *newest = revision.max(*newest);
            moved
        });
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (files, bytes) = self.totals();
        f.debug_struct("Library").field("files", &files).field("bytes", &bytes).finish_non_exhaustive()
    }
}
