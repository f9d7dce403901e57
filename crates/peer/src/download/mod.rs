//! Getting files: from all their holders at once, verified, resumable, and served on while they arrive.
//!
//! - [`plan`]: which piece is asked of whom; pure.
//! - [`job`]: drives one plan: asks, checks, writes, remembers.
//! - [`span`]: one question to one source.
//! - [`mailed`]: holders that are off, asked through the relay.
//! - [`small`]: many small files at once, without a job for each.
//! - [`reader`]: bytes of a file for somebody who waits for them, whether it is here or not.
//!
//! Each download is one task that owns its plan; what others see of it is its [`Entry`]. A download that was asked
//! for survives the process; one that only serves a reader goes with its last reader.

mod brought;
mod claims;
mod doubt;
mod engine;
mod entry;
mod finish;
mod here;
mod job;
mod keep;
pub(crate) mod mailed;
mod part;
mod plan;
mod prepare;
mod reader;
mod refused;
mod small;
mod sources;
mod span;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use content::{ContentId, Layout, PieceSet, SafeName};
use daemon::Lifecycle;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tracing::Instrument;
use wire::{
    ErrorCode, PeerId,
    rest::{
        directory::Holder,
        pclient::{Download, DownloadState, Event},
    },
};

pub use part::{Part, Parts, PieceError};
pub use reader::ContentReader;

use self::{
    engine::Engine,
    entry::{Entry, Stage, Stop},
    here::Before,
};
use crate::{
    Failure,
    directory_link::DirectoryClient,
    library::Library,
    link::Links,
    mail::Mail,
    meter::Meter,
    relay::Limits,
    store::{Store, downloads as table},
    throttle::Throttle,
    turns::Turns,
};

/// The most downloads that are remembered, the finished ones among them.
const MAX_DOWNLOADS: usize = 200_000;

/// What downloads need from the rest of the peer.
pub struct Parameters {
    pub links: Links,
    pub directory: DirectoryClient,
    pub library: Library,
    pub parts: Parts,
    pub store: Store,
    pub download_limit: Throttle,
    pub relay_limits: Limits,
    pub download_dir: PathBuf,
    /// Nothing is put there, even if it lies in the download folder.
    pub data_dir: PathBuf,
    /// Whether finished files are shared.
    pub reshare: bool,
    pub own_id: PeerId,
    /// The way to holders that are off, where there is a relay.
    pub mail: Option<Mail>,
}

/// All downloads of this peer. Clones are the same.
#[derive(Clone)]
pub struct Downloads {
    engine: Arc<Engine>,
    lifecycle: Lifecycle,
    registry: Arc<Mutex<Registry>>,
    turns: Arc<Turns>,
}

#[derive(Default)]
struct Registry {
    by_seq: BTreeMap<u64, Arc<Entry>>,
    /// What runs, waits or is paused, readers' own ones among them.
    alive: HashMap<ContentId, Arc<Entry>>,
    /// The last download of each content that is done.
    finished: HashMap<ContentId, Arc<Entry>>,
}

impl Downloads {
    /// Takes up what an earlier run left, and goes on with it.
    ///
    /// # Errors
    /// Where the store or the download folder cannot be read.
    pub async fn restore(parameters: Parameters, lifecycle: &Lifecycle) -> Result<Self, Failure> {
        let engine = Arc::new(Engine::new(parameters));
        let rows = engine.store.read(table::all)?;
        let downloads =
            Self { engine, lifecycle: lifecycle.clone(), registry: Arc::default(), turns: Arc::default() };
        let going: Vec<Arc<Entry>> = {
            let mut registry = downloads.registry.lock();
            let mut going = Vec::new();
            for row in rows {
                let entry = Arc::new(Entry::restored(&row));
                if entry.has_part() {
                    downloads.show_kept(&entry, row.seq)?;
                }
                if matches!(row.state, table::Kept::Active | table::Kept::Paused) {
                    registry.alive.insert(row.content_id, entry.clone());
                }
                if row.state == table::Kept::Active {
                    going.push(entry.clone());
                }
                if row.state == table::Kept::Done {
                    registry.finished.insert(row.content_id, entry.clone());
                }
                registry.by_seq.insert(row.seq, entry);
            }
            going
        };
        let kept = downloads
            .registry
            .lock()
            .by_seq
            .values()
            .filter(|e| e.has_part())
            .map(|e| e.content_id)
            .collect();
        let engine = downloads.engine.clone();
        tokio::task::spawn_blocking(move || engine.remove_orphans(&kept))
            .await
            .map_err(Failure::internal)??;
        for entry in going {
            downloads.run(entry);
        }
        Ok(downloads)
    }

    /// Asks for a content. One that runs already, or is done and still there, is answered as it is: `false`.
    ///
    /// # Errors
    /// Where the store refuses, or too many downloads are remembered.
    pub async fn start(&self, id: ContentId, name: Option<SafeName>) -> Result<(Download, bool), Failure> {
        let _turn = self.turns.of([id.as_bytes()]).await;
        if let Some(entry) = self.alive(&id).filter(|entry| entry.seq().is_some()) {
            return Ok((entry.view(), false));
        }
        let (doubtful, known) = match self.before(&id) {
            Before::Right(entry) => return Ok((entry.view(), false)),
            Before::Doubtful(path, known) => (Some(path), known),
            Before::Nothing => (None, None),
        };
        let shared = self.shared(&id);
        let entry = self.create(id, name.or(known)).await?;
        if let Some(shared) = shared {
            self.settle_shared(vec![(entry.clone(), shared)]).await?;
            return Ok((entry.view(), true));
        }
        doubtful.into_iter().for_each(|path| entry.doubt(path));
        self.run(entry.clone());
        Ok((entry.view(), true))
    }

    /// Asks for many contents at once; small ones share questions, files and commits.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_many(
        &self,
        wanted: Vec<(ContentId, Option<SafeName>)>,
    ) -> Result<Vec<Download>, Failure> {
        small::start_many(self, wanted).await
    }

    pub fn get(&self, id: &str) -> Option<Download> {
        self.entry(id).map(|entry| entry.view())
    }

    /// A page of downloads, the newest first, after the one named.
    pub fn page(&self, state: Option<DownloadState>, after: Option<String>, limit: usize) -> Vec<Download> {
        let before = after.and_then(|id| entry::seq_of(&id)).unwrap_or(u64::MAX);
        let registry = self.registry.lock();
        let older = registry.by_seq.range(..before).rev().map(|(_, entry)| entry);
        // Looked at before it is copied: there may be many others.
        let wanted = older.filter(|entry| state.is_none_or(|state| entry.state() == state));
        wanted.take(limit).map(|entry| entry.view()).collect()
    }

    /// Stops a download; what it has is kept.
    ///
    /// # Errors
    /// `not_found`; `unprocessable` for one that is over.
    pub async fn pause(&self, id: &str) -> Result<Download, Failure> {
        let entry = self.existing(id)?;
        match entry.view().state {
            DownloadState::Paused => {}
            DownloadState::Done | DownloadState::Failed | DownloadState::Finishing => {
                return Err(Failure::new(
                    ErrorCode::Unprocessable,
                    "this download is over; there is nothing to pause",
                ));
            }
            _ => entry.stop(Stop::Pause).await,
        }
        Ok(entry.view())
    }

    /// Goes on with a download that was paused or failed.
    ///
    /// # Errors
    /// `not_found`; `unprocessable` for one that is done.
    pub async fn resume(&self, id: &str) -> Result<Download, Failure> {
        let _turn = self.turns.of([self.existing(id)?.content_id.as_bytes()]).await;
        let entry = self.existing(id)?;
        match entry.view().state {
            DownloadState::Paused | DownloadState::Failed => {
                let seq = entry.seq().ok_or_else(|| Failure::not_found("there is no such download"))?;
                self.engine.store.write(move |t| table::set_state(t, seq, table::Kept::Active, None)).await?;
                self.registry.lock().alive.insert(entry.content_id, entry.clone());
                entry.allow();
                entry.update(|view| {
                    view.state = DownloadState::Queued;
                    view.error = None;
                });
                self.run(entry.clone());
            }
            DownloadState::Done => {
                return Err(Failure::new(
                    ErrorCode::Unprocessable,
                    "this download is done; there is nothing to resume",
                ));
            }
            _ => {}
        }
        Ok(entry.view())
    }

    /// Ends a download and forgets it; its part goes, a finished file stays.
    ///
    /// # Errors
    /// `not_found`; where the store refuses.
    pub async fn cancel(&self, id: &str) -> Result<(), Failure> {
        let _turn = self.turns.of([self.existing(id)?.content_id.as_bytes()]).await;
        // Somebody else may have ended it meanwhile.
        let entry = self.existing(id)?;
        entry.stop(Stop::Cancel).await;
        let Some(seq) = entry.seq() else { return Ok(()) };
        self.engine.store.write(move |t| table::remove(t, seq)).await?;
        {
            let mut registry = self.registry.lock();
            registry.by_seq.remove(&seq);
            let is_it = |of: &HashMap<ContentId, Arc<Entry>>| {
                of.get(&entry.content_id).is_some_and(|known| Arc::ptr_eq(known, &entry))
            };
            if is_it(&registry.alive) {
                registry.alive.remove(&entry.content_id);
            }
            if is_it(&registry.finished) {
                registry.finished.remove(&entry.content_id);
            }
        }
        if entry.view().state != DownloadState::Done {
            self.engine.discard_part(entry.content_id).await;
        }
        self.engine.tell(Event::DownloadRemoved { id: id.to_owned() });
        Ok(())
    }

    /// Opens a content for reading: from the library, from a running download, or from the network as it is read.
    ///
    /// # Errors
    /// `not_found` where nobody has it; `unavailable` where nobody can be reached.
    pub async fn open(&self, id: ContentId) -> Result<ContentReader, Failure> {
        for entry in self.engine.library.entries(&id) {
            if let Ok(reader) = ContentReader::local(&entry.path, entry.name.clone(), entry.stamp) {
                return Ok(reader);
            }
        }
        // What is not shared on may still be here.
        if let Before::Right(entry) = self.before(&id)
            && let (Some(path), Some(stamp)) = (entry.view().path, entry.stamp())
            && let Ok(name) = SafeName::new(&entry.name())
            && let Ok(reader) = ContentReader::local(Path::new(&path), name, stamp)
        {
            return Ok(reader);
        }
        let known = self.alive(&id);
        // One that rests may have pieces to read, or nothing at all.
        let looks = |entry: &Arc<Entry>| {
            let is_open = matches!(&*entry.stage().borrow(), Stage::Open(_));
            !is_open && (entry.is_running() || entry.view().verified_bytes == 0)
        };
        if known.as_ref().is_none_or(looks) {
            // A job would wait for a holder for ever, and a reader does not.
            let located = self.engine.directory.locate(id).await?;
            let able = |holder: &Holder| holder.online && holder.peer_id != self.engine.own_id;
            if !located.holders.iter().any(able) {
                return Err(Failure::unavailable("no holder is online"));
            }
        }
        let entry = known.unwrap_or_else(|| {
            let entry = Arc::new(Entry::for_readers(id));
            self.registry.lock().alive.entry(id).or_insert(entry).clone()
        });
        if !entry.is_running() {
            entry.allow();
            self.run(entry.clone());
        }
        ContentReader::remote(entry).await
    }

    /// Bytes per second that come in now.
    pub fn received(&self) -> &Meter {
        &self.engine.meter
    }

    pub fn received_rate(&self) -> u64 {
        self.engine.meter.rate(Instant::now())
    }

    /// How many downloads that are not over are in each state.
    pub fn by_state(&self) -> [(&'static str, usize); 5] {
        let alive: Vec<DownloadState> =
            self.registry.lock().alive.values().map(|entry| entry.state()).collect();
        [
            ("queued", DownloadState::Queued),
            ("waiting", DownloadState::Waiting),
            ("running", DownloadState::Running),
            ("paused", DownloadState::Paused),
            ("finishing", DownloadState::Finishing),
        ]
        .map(|(word, state)| (word, alive.iter().filter(|other| **other == state).count()))
    }

    /// Follows every change of every download.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.engine.events.subscribe()
    }

    /// Which pieces of a download are here; none while its size is not known.
    ///
    /// # Errors
    /// `not_found`; where the store cannot be read.
    pub fn pieces(&self, id: &str) -> Result<PieceSet, Failure> {
        let entry = self.existing(id)?;
        let view = entry.view();
        let Some(layout) = view.size.and_then(|size| Layout::new(size).ok()) else {
            return Ok(PieceSet::empty(0));
        };
        if view.state == DownloadState::Done {
            return Ok(PieceSet::full(layout.count()));
        }
        if let Stage::Open(part) = &*entry.stage().borrow() {
            return Ok(part.pieces());
        }
        let kept = entry.seq().map(|seq| self.kept(seq, layout)).transpose()?.flatten();
        Ok(kept.unwrap_or_else(|| PieceSet::empty(layout.count())))
    }

    /// What an earlier run had verified, for those who look before it goes on.
    fn show_kept(&self, entry: &Entry, seq: u64) -> Result<(), Failure> {
        if let Some(layout) = entry.view().size.and_then(|size| Layout::new(size).ok())
            && let Some(pieces) = self.kept(seq, layout)?
        {
            entry.update(|view| view.verified_bytes = pieces.iter().map(|piece| layout.len(piece)).sum());
        }
        Ok(())
    }

    /// The pieces that the store knows to be verified.
    fn kept(&self, seq: u64, layout: Layout) -> Result<Option<PieceSet>, Failure> {
        let bits = self.engine.store.read(|c| table::progress(c, seq))?.and_then(|kept| kept.pieces);
        Ok(bits.and_then(|bits| PieceSet::from_bytes(layout.count(), &bits).ok()))
    }

    async fn create(&self, id: ContentId, name: Option<SafeName>) -> Result<Arc<Entry>, Failure> {
        let mut created = self.create_many(vec![(id, name)]).await?;
        created.pop().ok_or_else(|| Failure::internal("a download was not created"))
    }

    /// Remembers new downloads, durably, without running them. A reader's job for the same content is taken over.
    async fn create_many(
        &self,
        wanted: Vec<(ContentId, Option<SafeName>)>,
    ) -> Result<Vec<Arc<Entry>>, Failure> {
        if self.registry.lock().by_seq.len() + wanted.len() > MAX_DOWNLOADS {
            let detail =
                format!("{MAX_DOWNLOADS} downloads are remembered; remove some of those that are done");
            return Err(Failure::new(ErrorCode::Unprocessable, detail));
        }
        let mut named = Vec::with_capacity(wanted.len());
        for (id, name) in wanted {
            let by_user = name.is_some();
            let name = match name {
                Some(name) => name,
                None => SafeName::new(&id.to_string()).map_err(Failure::internal)?,
            };
            named.push((id, name, by_user));
        }
        let (seqs, named) = self
            .engine
            .store
            .write(move |t| {
                let insert =
                    |(id, name, by_user): &(ContentId, SafeName, bool)| table::insert(t, id, name, *by_user);
                let seqs: Vec<u64> = named.iter().map(insert).collect::<Result<_, _>>()?;
                Ok((seqs, named))
            })
            .await?;
        let mut registry = self.registry.lock();
        let created = seqs.into_iter().zip(named).map(|(seq, (id, name, by_user))| {
            let entry = registry.alive.entry(id).or_insert_with(|| Arc::new(Entry::for_readers(id))).clone();
            entry.adopt(seq, &name, by_user);
            registry.by_seq.insert(seq, entry.clone());
            entry
        });
        Ok(created.collect())
    }

    /// Starts the task of a download, unless it has one.
    fn run(&self, entry: Arc<Entry>) {
        if !entry.begin() {
            return;
        }
        let (downloads, soft) = (self.clone(), self.lifecycle.soft());
        // On every line that it logs, whatever is filtered.
        let span = tracing::error_span!("download", download.id = entry.id(), content.id = %entry.content_id);
        let running = async move {
            let over = match here::look_again(&downloads.engine, &entry, &soft).await {
                Some(end) => job::conclude(&downloads.engine, &entry, end).await,
                None => Box::pin(job::run(&downloads.engine, &entry, soft)).await,
            };
            if over {
                downloads.forget_alive(&entry);
            }
            entry.ended();
        };
        self.lifecycle.spawn("download", running.instrument(span));
    }

    /// The content is no longer being fetched: a new request starts anew.
    fn forget_alive(&self, entry: &Arc<Entry>) {
        let mut registry = self.registry.lock();
        if registry.alive.get(&entry.content_id).is_some_and(|alive| Arc::ptr_eq(alive, entry)) {
            registry.alive.remove(&entry.content_id);
        }
        if entry.view().state == DownloadState::Done && entry.seq().is_some() {
            registry.finished.insert(entry.content_id, entry.clone());
        }
    }

    fn alive(&self, id: &ContentId) -> Option<Arc<Entry>> {
        self.registry.lock().alive.get(id).cloned()
    }

    fn entry(&self, id: &str) -> Option<Arc<Entry>> {
        let seq = entry::seq_of(id)?;
        self.registry.lock().by_seq.get(&seq).cloned()
    }

    fn existing(&self, id: &str) -> Result<Arc<Entry>, Failure> {
        self.entry(id).ok_or_else(|| Failure::not_found("there is no such download"))
    }
}

impl std::fmt::Debug for Downloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Downloads").field("known", &self.registry.lock().by_seq.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameters").field("download_dir", &self.download_dir).finish_non_exhaustive()
    }
}
