//! [`ContentReader`]: a content for somebody who reads it now.
//!
//! From the library it is a file. Otherwise a download is told what the reader waits for, and hands out each piece
//! once it is verified; only what is read, and a little ahead, is fetched, unless the whole was asked for anyway.
//! A download waits for a holder as long as it takes; whoever reads is told after half a minute that there is none.

use std::{fs::File, ops::Range, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use content::{Layout, PIECE_SIZE, SafeName};
use futures::{Stream, stream};
use tokio::time::Instant;
use wire::{ErrorCode, rest::pclient::DownloadState};

use super::{
    Part,
    entry::{Entry, Stage},
};
use crate::{
    Failure,
    library::{FileStamp, media_type_of},
    place::open_real,
};

/// Pieces that are fetched ahead of a reader.
const AHEAD: u32 = 16;
/// Bytes handed out at once.
const PORTION: u64 = 256 << 10;
/// How long a reader waits while nobody can be asked.
const STALL: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A content opened for reading.
pub struct ContentReader {
    layout: Layout,
    name: SafeName,
    from: From,
}

enum From {
    File(Arc<File>, FileStamp),
    Download { part: Arc<Part>, reader: Arc<Reader> },
}

/// Keeps its place in the entry while somebody reads.
struct Reader {
    entry: Arc<Entry>,
    number: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.entry.reader_left(self.number);
    }
}

impl ContentReader {
    /// A file that is here, if it still is what it was when it had this stamp.
    pub(super) fn local(path: &Path, name: SafeName, stamp: FileStamp) -> Result<Self, Failure> {
        let layout = Layout::new(stamp.size).map_err(Failure::internal)?;
        // A link put in its place since, or in that of a folder on the way, is not followed.
        let file = open_real(path).map_err(|error| Failure::storage(&error))?;
        let now = FileStamp::of(&file.metadata().map_err(|error| Failure::storage(&error))?);
        if now != stamp {
            return Err(changed());
        }
        Ok(Self { layout, name, from: From::File(Arc::new(file), stamp) })
    }

    /// Waits until the download knows what the file looks like.
    pub(super) async fn remote(entry: Arc<Entry>) -> Result<Self, Failure> {
        let mut stages = entry.stage().subscribe();
        let number = entry.read(None, 0..0);
        let reader = Arc::new(Reader { entry: entry.clone(), number });
        let stage = stages.wait_for(|stage| !matches!(stage, Stage::Preparing)).await;
        let part = match stage.map_err(Failure::internal)?.clone() {
            Stage::Open(part) => part,
            Stage::Over(failure) => return Err(failure),
            Stage::Preparing => return Err(Failure::unavailable("the download has not begun")),
        };
        let name = SafeName::new(&entry.name()).map_err(|error| Failure::invalid(error.to_string()))?;
        Ok(Self { layout: part.outline().layout(), name, from: From::Download { part, reader } })
    }

    /// Bytes in the whole file.
    pub fn size(&self) -> u64 {
        self.layout.size()
    }

    pub fn name(&self) -> &SafeName {
        &self.name
    }

    pub fn media_type(&self) -> Option<String> {
        media_type_of(&self.name)
    }

    /// Waits until the first of these bytes is here, so that an answer that begins has something to say.
    ///
    /// # Errors
    /// `unavailable` where nobody can be asked for it.
    pub async fn begin(&self, range: &Range<u64>) -> Result<(), Failure> {
        match &self.from {
            From::Download { part, reader } if !range.is_empty() => {
                self.arrived(part, reader, range.start, range.end).await
            }
            From::Download { .. } | From::File(..) => Ok(()),
        }
    }

    /// The bytes `range`, in order, as they are here. An error ends the stream.
    pub fn stream(self, range: Range<u64>) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
        stream::try_unfold((self, range), |(content, mut left)| async move {
            if left.is_empty() {
                return Ok(None);
            }
            // A portion never reaches over a piece's end, so that it waits for one piece only.
            let piece_end = (left.start / PIECE_SIZE + 1) * PIECE_SIZE;
            let portion = left.start..left.end.min(left.start + PORTION).min(piece_end);
            let bytes = content.read(portion.clone(), left.end).await?;
            left.start = portion.end;
            Ok(Some((bytes, (content, left))))
        })
    }

    async fn read(&self, portion: Range<u64>, end: u64) -> Result<Bytes, Failure> {
        let length = usize::try_from(portion.end - portion.start).map_err(Failure::internal)?;
        let read = match &self.from {
            From::File(file, stamp) => {
                let (file, stamp) = (file.clone(), *stamp);
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; length];
                    let read = file.read_exact_at(&mut bytes, portion.start);
                    // After reading, so that what came is of the file that it was.
                    let unchanged = FileStamp::of(&file.metadata()?) == stamp;
                    read.map(|()| unchanged.then(|| Bytes::from(bytes)))
                });
                let read = read.await.map_err(Failure::internal)?;
                return read.map_err(|error| Failure::storage(&error))?.ok_or_else(changed);
            }
            From::Download { part, reader } => {
                self.arrived(part, reader, portion.start, end).await?;
                let part = part.clone();
                tokio::task::spawn_blocking(move || part.read(portion.start, length)).await
            }
        };
        read.map_err(Failure::internal)?.map_err(|error| Failure::storage(&error))
    }

    /// Waits until the piece with this byte is verified.
    async fn arrived(&self, part: &Part, reader: &Reader, offset: u64, end: u64) -> Result<(), Failure> {
        let wanted = self.layout.covering(&(offset..end));
        let index = wanted.start;
        reader.entry.read(Some(reader.number), index..wanted.end.min(index + AHEAD));
        let mut pieces = part.subscribe();
        let mut stages = reader.entry.stage().subscribe();
        let is_of = |stage: &Stage| matches!(stage, Stage::Open(open) if std::ptr::eq(&**open, part));
        tokio::select! {
            biased;
            here = pieces.wait_for(|pieces| pieces.contains(index)) => here.map(|_| ()).map_err(Failure::internal),
            over = stages.wait_for(|stage| !is_of(stage)) => match over.map_err(Failure::internal)?.clone() {
                Stage::Over(failure) => Err(failure),
                // The size that was told turned out to be wrong.
                Stage::Open(_) | Stage::Preparing => Err(Failure::unavailable("the download began anew")),
            },
            stalled = nobody_can_be_asked(&reader.entry) => Err(stalled),
        }
    }
}

/// Resolves when it has been so for a while.
async fn nobody_can_be_asked(entry: &Entry) -> Failure {
    let mut since = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let view = entry.view();
        if view.state != DownloadState::Waiting {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= STALL {
            let why = view.note.map_or_else(String::new, |note| format!(": {note}"));
            return Failure::unavailable(format!("nobody who has the rest can be asked now{why}"));
        }
    }
}

fn changed() -> Failure {
    Failure::new(ErrorCode::Unprocessable, "the file was changed since it was hashed")
}

impl std::fmt::Debug for ContentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentReader")
            .field("name", &self.name)
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}
