//! [`Hasher`]: a few threads that hash files, all of them at one big file or each at small ones of its own.
//!
//! A thread takes a small file whole; of a big one it takes a stripe of pieces, and whoever finishes the last stripe
//! puts the outline together. Each thread reads into one buffer that stays in its core's cache, and hashes from there.
//! What was asked for by somebody who waits goes before what a scan came upon.
//!
//! A file is stamped before and after: if the stamps differ, its bytes belong to neither, and the answer is
//! [`HashError::Changed`]. The queue is bounded; whoever fills it waits ([`Hasher::push`] blocks, for scanning threads).

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
};

use content::{ContentId, Layout, Outline, OutlineBuilder, PieceHasher, TooLarge};
use parking_lot::{Condvar, Mutex};

use crate::{library::FileStamp, place::open_real};

/// Files that may wait.
const QUEUE: usize = 16_384;
/// Pieces in a stripe: enough to make taking one cheap, few enough for threads to finish together.
const STRIPE: u32 = 4;
/// Files of at most this many pieces are hashed by one thread.
const SMALL: u32 = 2;
/// Bytes read at once: within a core's second cache, and large enough for BLAKE3's widest lanes.
const PORTION: usize = 128 << 10;

/// Why a file was not hashed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    /// It is being written to, or it was replaced: try again when it is quiet.
    #[error("it changed while it was read")]
    Changed,
    #[error("it is not wanted any more")]
    Cancelled,
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// Another name of a file in the data folder, such as a key.
    #[error(
        "it is one of this peer's own files (PEER_DATA_DIR) under another name, and those are never shared"
    )]
    Own,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What hashing gave: the outline, and the stamp that the file had all the while.
pub(crate) type Hashed = Result<(Arc<Outline>, FileStamp), HashError>;

/// Told what hashing gave, on a hashing thread; must not wait for long.
pub(crate) type Done = Box<dyn FnOnce(Hashed) + Send>;

/// Stops the hashing of one file when it is set.
pub(crate) type Cancel = Arc<AtomicBool>;

/// A handle; clones are the same threads. They end when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Hasher {
    inner: Arc<Owner>,
}

/// What the handles share and the threads do not: dropping it closes the queue.
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    /// The folder of the peer's own files.
    own: PathBuf,
    queue: Mutex<Queue>,
    work: Condvar,
    room: Condvar,
    files: AtomicU64,
    bytes: AtomicU64,
    hashed: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Big files of which stripes are left.
    open: VecDeque<Arc<BigFile>>,
    urgent: VecDeque<Request>,
    waiting: VecDeque<Request>,
    closed: bool,
}

struct Request {
    path: PathBuf,
    /// As told when it was queued, for the count of bytes that wait.
    size: u64,
    cancel: Cancel,
    done: Done,
}

struct BigFile {
    file: File,
    path: PathBuf,
    stamp: FileStamp,
    layout: Layout,
    size: u64,
    next: AtomicU32,
    left: AtomicU32,
    cancel: Cancel,
    failed: Mutex<Option<HashError>>,
    builder: Mutex<Option<OutlineBuilder>>,
    done: Mutex<Option<Done>>,
}

enum Task {
    Whole(Request),
    Stripe(Arc<BigFile>, u32),
}

impl Hasher {
    /// Starts `threads` threads, which hash nothing that lies in `own` too.
    ///
    /// # Errors
    /// Where the system gives none.
    pub(crate) fn start(threads: usize, own: PathBuf) -> io::Result<Self> {
        let shared = Arc::new(Shared { own, ..Shared::default() });
        let mut running = Vec::new();
        for at in 0..threads.max(1) {
            let shared = shared.clone();
            running.push(thread::Builder::new().name(format!("hash-{at}")).spawn(move || run(&shared))?);
        }
        Ok(Self { inner: Arc::new(Owner { shared, threads: Mutex::new(running) }) })
    }

    /// Queues a file; blocks while the queue is full.
    pub(crate) fn push(&self, path: PathBuf, size: u64, cancel: Cancel, done: Done) {
        let shared = &self.inner.shared;
        let mut queue = shared.queue.lock();
        while queue.waiting.len() >= QUEUE && !queue.closed {
            shared.room.wait(&mut queue);
        }
        if queue.closed {
            drop(queue);
            return done(Err(HashError::Cancelled));
        }
        shared.expect(size);
        queue.waiting.push_back(Request { path, size, cancel, done });
        drop(queue);
        shared.work.notify_one();
    }

    /// Queues a file before all that wait; false where too many are urgent already, or the threads have ended.
    pub(crate) fn push_urgent(&self, path: PathBuf, size: u64, cancel: Cancel, done: Done) -> bool {
        let shared = &self.inner.shared;
        let mut queue = shared.queue.lock();
        if queue.urgent.len() >= QUEUE || queue.closed {
            return false;
        }
        shared.expect(size);
        queue.urgent.push_back(Request { path, size, cancel, done });
        drop(queue);
        shared.work.notify_one();
        true
    }

    /// Hashes one file before all that wait.
    pub(crate) async fn hash(&self, path: PathBuf, size: u64, cancel: Cancel) -> Hashed {
        let (send, answer) = tokio::sync::oneshot::channel();
        let done = move |hashed| drop(send.send(hashed));
        if !self.push_urgent(path, size, cancel, Box::new(done)) {
            return Err(HashError::Io(io::Error::new(io::ErrorKind::ResourceBusy, "too many files wait")));
        }
        answer.await.unwrap_or(Err(HashError::Cancelled))
    }

    /// Files and bytes that wait or are being hashed.
    pub(crate) fn pending(&self) -> (u64, u64) {
        let shared = &self.inner.shared;
        (shared.files.load(Ordering::Relaxed), shared.bytes.load(Ordering::Relaxed))
    }

    /// Files hashed since the start.
    pub(crate) fn hashed(&self) -> u64 {
        self.inner.shared.hashed.load(Ordering::Relaxed)
    }

    /// Takes no more, drops what waits, and lets the threads end. For good.
    pub(crate) fn close(&self) {
        self.inner.shared.close();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
        for thread in self.threads.lock().drain(..) {
            // An answer may hold the last handle; its thread cannot wait for itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a hashing thread panicked");
            }
        }
    }
}

impl Shared {
    fn expect(&self, size: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    fn close(&self) {
        let dropped = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            for big in &queue.open {
                big.cancel.store(true, Ordering::Relaxed);
            }
            (std::mem::take(&mut queue.urgent), std::mem::take(&mut queue.waiting))
        };
        self.work.notify_all();
        self.room.notify_all();
        for request in dropped.0.into_iter().chain(dropped.1) {
            self.answer(request.size, request.done, Err(HashError::Cancelled));
        }
    }

    /// Blocks for the next task; `None` when the queue is closed and empty.
    fn take(&self) -> Option<Task> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(request) = queue.urgent.pop_front() {
                return Some(Task::Whole(request));
            }
            if let Some(big) = queue.open.front() {
                let stripe = big.next.fetch_add(STRIPE, Ordering::Relaxed);
                let (big, last) = (big.clone(), stripe + STRIPE >= big.layout.count());
                if last {
                    queue.open.pop_front();
                }
                return Some(Task::Stripe(big, stripe));
            }
            if let Some(request) = queue.waiting.pop_front() {
                self.room.notify_one();
                return Some(Task::Whole(request));
            }
            if queue.closed {
                return None;
            }
            self.work.wait(&mut queue);
        }
    }

    fn answer(&self, size: u64, done: Done, hashed: Hashed) {
        self.files.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        if let Ok((outline, _)) = &hashed {
            self.hashed.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("trueque_hashed_files_total").increment(1);
            metrics::counter!("trueque_hashed_bytes_total").increment(outline.layout().size());
        }
        done(hashed);
    }
}

fn run(shared: &Shared) {
    let mut buffer = vec![0; PORTION];
    while let Some(task) = shared.take() {
        match task {
            Task::Whole(request) => start_file(shared, request, &mut buffer),
            Task::Stripe(big, first) => hash_stripe(shared, &big, first, &mut buffer),
        }
    }
}

/// Opens a file and hashes it, or opens it to all threads where it is big.
fn start_file(shared: &Shared, request: Request, buffer: &mut [u8]) {
    let Request { path, size, cancel, done } = request;
    let opened = if cancel.load(Ordering::Relaxed) { Err(HashError::Cancelled) } else { open(&path) };
    let opened = opened
        .and_then(|opened| if is_own(&opened.0, &shared.own)? { Err(HashError::Own) } else { Ok(opened) });
    let (file, stamp, layout) = match opened {
        Ok(opened) => opened,
        Err(error) => return shared.answer(size, done, Err(error)),
    };
    let count = layout.count();
    if count <= SMALL {
        let hashed = hash_small(&file, layout, buffer)
            .and_then(|outline| still(&file, &path, stamp).map(|()| (Arc::new(outline), stamp)));
        return shared.answer(size, done, hashed);
    }
    let big = Arc::new(BigFile {
        file,
        path,
        stamp,
        layout,
        size,
        next: AtomicU32::new(STRIPE),
        left: AtomicU32::new(count.div_ceil(STRIPE)),
        cancel,
        failed: Mutex::default(),
        builder: Mutex::new(Some(OutlineBuilder::new(layout))),
        done: Mutex::new(Some(done)),
    });
    if count > STRIPE {
        // Only a hint: a system that takes none reads all the same.
        let _hint = rustix::fs::fadvise(&big.file, 0, None, rustix::fs::Advice::Sequential);
        shared.queue.lock().open.push_back(big.clone());
        shared.work.notify_all();
    }
    hash_stripe(shared, &big, 0, buffer);
}

fn hash_small(file: &File, layout: Layout, buffer: &mut [u8]) -> Result<Outline, HashError> {
    let mut builder = OutlineBuilder::new(layout);
    for index in 0..layout.count() {
        builder.set(index, hash_piece(file, layout, index, buffer)?);
    }
    builder.finish().ok_or(HashError::Changed)
}

fn hash_stripe(shared: &Shared, big: &BigFile, first: u32, buffer: &mut [u8]) {
    for index in first..(first + STRIPE).min(big.layout.count()) {
        if big.cancel.load(Ordering::Relaxed) {
            big.failed.lock().get_or_insert(HashError::Cancelled);
            break;
        }
        match hash_piece(&big.file, big.layout, index, buffer) {
            Ok(digest) => {
                if let Some(builder) = big.builder.lock().as_mut() {
                    builder.set(index, digest);
                }
            }
            Err(error) => {
                // The other stripes need not be read.
                big.cancel.store(true, Ordering::Relaxed);
                big.failed.lock().get_or_insert(error);
                break;
            }
        }
    }
    if big.left.fetch_sub(1, Ordering::AcqRel) > 1 {
        return;
    }
    let failed = big.failed.lock().take();
    let outline = big.builder.lock().take().and_then(OutlineBuilder::finish);
    let hashed = match (failed, outline) {
        (None, Some(outline)) => {
            still(&big.file, &big.path, big.stamp).map(|()| (Arc::new(outline), big.stamp))
        }
        (None, None) => Err(HashError::Changed),
        (Some(error), _) => Err(error),
    };
    if let Some(done) = big.done.lock().take() {
        shared.answer(big.size, done, hashed);
    }
}

/// Reads one piece in portions and hashes each while it is warm.
fn hash_piece(
    file: &File,
    layout: Layout,
    index: u32,
    buffer: &mut [u8],
) -> Result<content::PieceDigest, HashError> {
    let range = layout.range(index);
    let mut hasher = PieceHasher::new(layout, index);
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
        let portion = &mut buffer[..wanted];
        match file.read_exact_at(portion, at) {
            Ok(()) => hasher.update(portion),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(HashError::Changed),
            Err(error) => return Err(error.into()),
        }
        at += wanted as u64;
    }
    hasher.finish().ok_or(HashError::Changed)
}

/// Reads and hashes one file on this thread, and its stamp all the while.
///
/// # Errors
/// As hashing gives.
pub(crate) fn read_again(
    path: &std::path::Path,
    cancel: &AtomicBool,
) -> Result<(ContentId, FileStamp), HashError> {
    let (file, stamp, layout) = open(path)?;
    let mut builder = OutlineBuilder::new(layout);
    let mut buffer = vec![0; PORTION];
    for index in 0..layout.count() {
        if cancel.load(Ordering::Relaxed) {
            return Err(HashError::Cancelled);
        }
        builder.set(index, hash_piece(&file, layout, index, &mut buffer)?);
    }
    let outline = builder.finish().ok_or(HashError::Changed)?;
    still(&file, path, stamp)?;
    Ok((outline.id(), stamp))
}

fn open(path: &std::path::Path) -> Result<(File, FileStamp, Layout), HashError> {
    // Not through a symlink that was put there meanwhile, and without waiting for the other end of a pipe.
    let file = open_real(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(HashError::Changed);
    }
    let stamp = FileStamp::of(&metadata);
    Ok((file, stamp, Layout::new(stamp.size)?))
}

/// Whether a file lies in the folder of the peer's own files too: whoever can make hard links could give a key another
/// name. A file of one name lies nowhere else.
fn is_own(file: &File, own: &std::path::Path) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if metadata.nlink() < 2 || own.as_os_str().is_empty() {
        return Ok(false);
    }
    let same = |other: std::fs::Metadata| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino());
    let mut entries = walkdir::WalkDir::new(own).into_iter();
    Ok(entries.any(|entry| entry.is_ok_and(|entry| entry.metadata().is_ok_and(same))))
}

/// Whether the file is still as it was when it was opened, and still the one at its path.
fn still(file: &File, path: &std::path::Path, stamp: FileStamp) -> Result<(), HashError> {
    if FileStamp::of(&file.metadata()?) != stamp {
        return Err(HashError::Changed);
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if FileStamp::of(&metadata) == stamp => Ok(()),
        Ok(_) => Err(HashError::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(HashError::Changed),
        Err(error) => Err(error.into()),
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("pending", &self.pending()).finish_non_exhaustive()
    }
}
