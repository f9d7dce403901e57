//! [`Reading`]: a file's bytes on their way out, block by block, read ahead by one.
//!
//! A shared file belongs to its user, who may change it at any time. So each block is handed out only if the file's
//! size, times and inode after the read are those of the time it was hashed; else the receiver gets an error, and
//! whoever watches the folders is told. Source: git's index, which trusts a file by the same.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tracing::Span;
use wire::ErrorCode;

use super::{
    Blocks, OnChanged, Standing, UploadPlace,
    blocks::{BLOCK, Block},
};
use crate::{
    Failure,
    audit::Page,
    download::Part,
    library::{FileStamp, SharedEntry},
    meter::Meter,
    place::open_real,
    throttle::Throttle,
};

/// A file opened for sending. Clones are the same.
#[derive(Clone)]
pub(super) struct Open {
    file: Arc<File>,
    /// What a shared file must still be; nobody else changes the part of a download.
    must_be: Option<Arc<MustBe>>,
}

struct MustBe {
    path: PathBuf,
    stamp: FileStamp,
    on_changed: OnChanged,
}

impl Open {
    pub(super) fn whole(entry: &SharedEntry, on_changed: OnChanged) -> Result<Self, Failure> {
        let must_be = MustBe { path: entry.path.clone(), stamp: entry.stamp, on_changed };
        // A link put in its place since, or in that of a folder on the way, is not followed.
        let file = open_real(&entry.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied => {
                must_be.changed()
            }
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => must_be.changed(),
            _ => Failure::internal(error),
        })?;
        let open = Self { file: Arc::new(file), must_be: Some(Arc::new(must_be)) };
        open.check()?;
        Ok(open)
    }

    pub(super) fn part(part: &Part) -> Self {
        Self { file: part.file().clone(), must_be: None }
    }

    /// Reads all of a small file.
    pub(super) fn read_all(&self, size: u64) -> Result<Bytes, Failure> {
        let mut bytes = vec![0; usize::try_from(size).map_err(Failure::internal)?];
        let read = self.file.read_exact_at(&mut bytes, 0);
        self.check()?;
        read.map_err(|error| Failure::storage(&error))?;
        Ok(bytes.into())
    }

    fn read(&self, range: &Range<u64>, block: Block) -> Result<Bytes, Failure> {
        let length = usize::try_from(range.end - range.start).map_err(Failure::internal)?;
        let read = block.filled(length, |to| self.file.read_exact_at(to, range.start));
        self.check()?;
        read.map_err(|error| Failure::storage(&error))
    }

    fn check(&self) -> Result<(), Failure> {
        let Some(must_be) = &self.must_be else { return Ok(()) };
        let is = self.file.metadata().map(|metadata| FileStamp::of(&metadata));
        if is.is_ok_and(|stamp| stamp == must_be.stamp) { Ok(()) } else { Err(must_be.changed()) }
    }
}

impl MustBe {
    fn changed(&self) -> Failure {
        (self.on_changed)(&self.path);
        metrics::counter!("trueque_refusals_total", "reason" => "file changed").increment(1);
        Failure::new(ErrorCode::Unprocessable, "the file was changed or removed since it was shared")
    }
}

/// Bytes on their way out. Dropping it ends the reading.
pub struct Reading {
    open: Open,
    start: u64,
    /// What has not been asked of the disk yet.
    left: Range<u64>,
    ahead: Option<JoinHandle<Result<Bytes, Failure>>>,
    blocks: Blocks,
    throttle: Throttle,
    meter: Meter,
    page: Page,
    sent: Option<metrics::Counter>,
    standing: Standing,
    place: UploadPlace,
    /// From the first block to the last.
    _span: Span,
}

impl Reading {
    #[expect(clippy::too_many_arguments, reason = "all that an upload is made of, in one place")]
    pub(super) fn new(
        open: Open,
        range: Range<u64>,
        blocks: Blocks,
        throttle: Throttle,
        meter: Meter,
        page: Page,
        place: UploadPlace,
        standing: Standing,
    ) -> Self {
        let mut reading = Self {
            open,
            start: range.start,
            _span: tracing::debug_span!("read from disk", size_bytes = range.end - range.start),
            left: range,
            ahead: None,
            blocks,
            throttle,
            meter,
            page,
            sent: None,
            standing,
            place,
        };
        reading.read_ahead();
        reading
    }

    /// Counts what is handed out here too: the doors know by which way it goes.
    pub fn counted(mut self, sent: metrics::Counter) -> Self {
        self.sent = Some(sent);
        self
    }

    /// Ends it after `bytes`, where it would not end before.
    pub fn at_most(mut self, bytes: u64) -> Self {
        // The first block is on its way already, and whole blocks are what is read.
        self.left.end = self.left.end.min(self.start + bytes).max(self.left.start);
        self
    }

    /// The next block, at most [`BLOCK`] bytes; `None` at the end. A caller that may not have the file any more gets an
    /// error instead, also while it waits for its turn; so does one whose place others have now.
    pub async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let block = match self.ahead.take()?.await {
            Ok(block) => block,
            Err(error) => Err(Failure::internal(error)),
        };
        if let Ok(bytes) = &block {
            let paced = tokio::select! {
                biased;
                () = self.throttle.take(bytes.len() as u64) => self.standing.check().and_then(|()| self.place.check()),
                lost = self.standing.lost() => Err(lost),
                given_away = self.place.revoked() => Err(given_away),
            };
            if let Err(refusal) = paced {
                return Some(Err(refusal));
            }
            self.read_ahead();
            self.meter.add(bytes.len() as u64);
            self.page.add(bytes.len() as u64);
            if let Some(sent) = &self.sent {
                sent.increment(bytes.len() as u64);
            }
        }
        Some(block)
    }

    fn read_ahead(&mut self) {
        if self.left.is_empty() {
            return;
        }
        let range = self.left.start..self.left.end.min(self.left.start + BLOCK as u64);
        self.left.start = range.end;
        let (open, block) = (self.open.clone(), self.blocks.take());
        self.ahead = Some(tokio::task::spawn_blocking(move || open.read(&range, block)));
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("left", &self.left).finish_non_exhaustive()
    }
}
