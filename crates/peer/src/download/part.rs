//! [`Part`]: a file on its way in. Verified pieces, and only those, are written into it at their places.
//!
//! The part knows which pieces it has; the store is told less often, after the disk was told to keep them. After a
//! crash the store's word is believed, and what the file holds beyond it is found again by hashing.
//!
//! [`Parts`] are the parts that other peers may be served from.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, IoSlice},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use content::{ContentId, Outline, PIECE_SIZE, PieceHasher, PieceSet, WrongPiece};
use parking_lot::Mutex;
use rustix::fs::SeekFrom;
use tokio::sync::watch;

/// A file on its way in.
#[derive(Debug)]
pub struct Part {
    outline: Arc<Outline>,
    file: Arc<File>,
    path: PathBuf,
    pieces: watch::Sender<PieceSet>,
    /// The kernel lets one write into a file at a time, and the others spin: here they sleep.
    writing: Mutex<()>,
}

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    #[error(transparent)]
    Wrong(#[from] WrongPiece),
    #[error("the piece could not be written")]
    Disk(#[source] io::Error),
}

impl Part {
    /// Opens the part at `path`, or makes it. `kept` are the pieces that the store knows to be on disk; others that
    /// are there too are found. Blocks for as long as hashing what was not known takes.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(path: &Path, outline: Arc<Outline>, kept: Option<PieceSet>) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        let size = outline.layout().size();
        let mut pieces = PieceSet::empty(outline.layout().count());
        if file.metadata()?.len() == size {
            pieces = kept.filter(|kept| kept.count() == pieces.count()).unwrap_or(pieces);
        } else {
            // It was begun under another size: the store's word was about that one.
            file.set_len(size)?;
        }
        find_written(&file, &outline, &mut pieces)?;
        Ok(Self {
            outline,
            file: Arc::new(file),
            path: path.to_owned(),
            pieces: watch::Sender::new(pieces),
            writing: Mutex::new(()),
        })
    }

    pub fn outline(&self) -> &Arc<Outline> {
        &self.outline
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The verified pieces.
    pub fn pieces(&self) -> PieceSet {
        self.pieces.borrow().clone()
    }

    /// Whether this piece is verified.
    pub fn has(&self, index: u32) -> bool {
        self.pieces.borrow().contains(index)
    }

    /// Whether none is.
    pub fn has_nothing(&self) -> bool {
        self.pieces.borrow().is_empty()
    }

    /// Follows the verified pieces as they come.
    pub fn subscribe(&self) -> watch::Receiver<PieceSet> {
        self.pieces.subscribe()
    }

    /// Hashes a received piece and writes it in its place. Blocks. True where it was not here yet.
    ///
    /// # Errors
    /// [`PieceError::Wrong`] before anything was written.
    pub fn take(&self, index: u32, segments: &[Bytes]) -> Result<bool, PieceError> {
        if self.pieces.borrow().contains(index) {
            return Ok(false);
        }
        let mut hasher = PieceHasher::new(self.outline.layout(), index);
        for segment in segments {
            hasher.update(segment);
        }
        self.outline.check(index, hasher.finish())?;
        let offset = self.outline.layout().range(index).start;
        {
            let _one_at_a_time = self.writing.lock();
            write_all_at(&self.file, segments, offset).map_err(PieceError::Disk)?;
        }
        Ok(self.pieces.send_if_modified(|pieces| pieces.insert(index)))
    }

    /// Verified bytes.
    pub fn verified_bytes(&self) -> u64 {
        let pieces = self.pieces.borrow();
        let layout = self.outline.layout();
        let last = layout.count() - 1;
        let full = u64::from(pieces.held()) * PIECE_SIZE;
        if pieces.contains(last) { full - PIECE_SIZE + layout.len(last) } else { full }
    }

    /// Reads verified bytes. Blocks.
    ///
    /// # Errors
    /// What the disk says; the caller has looked that the pieces are here.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    /// Waits until what was written is on the disk. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Takes the file away; who has it open keeps reading.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the part of a download could not be removed");
        }
    }
}

/// Hashes what lies in the file and is not known yet. Holes are skipped, so an almost empty file costs almost nothing.
fn find_written(file: &File, outline: &Outline, pieces: &mut PieceSet) -> io::Result<()> {
    let layout = outline.layout();
    let mut buffer = Vec::new();
    let mut index = 0;
    while index < layout.count() {
        if pieces.contains(index) {
            index += 1;
            continue;
        }
        let range = layout.range(index);
        let data = match rustix::fs::seek(file.as_fd(), SeekFrom::Data(range.start)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) if layout.size() > 0 => return Ok(()), // only a hole is left
            Err(_) => range.start,
        };
        if data >= range.end && !layout.is_empty() {
            index = u32::try_from(data / PIECE_SIZE).unwrap_or(u32::MAX);
            continue;
        }
        buffer.resize(usize::try_from(range.end - range.start).unwrap_or_default(), 0);
        file.read_exact_at(&mut buffer, range.start)?;
        let mut hasher = PieceHasher::new(layout, index);
        hasher.update(&buffer);
        if outline.check(index, hasher.finish()).is_ok() {
            pieces.insert(index);
        }
        index += 1;
    }
    Ok(())
}

fn write_all_at(file: &File, segments: &[Bytes], mut offset: u64) -> io::Result<()> {
    /// IOV_MAX everywhere that matters.
    const MOST: usize = 1024;
    let mut slices: Vec<IoSlice<'_>> =
        segments.iter().filter(|s| !s.is_empty()).map(|s| IoSlice::new(s)).collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let some = left.len().min(MOST);
        match rustix::io::pwritev(file, &left[..some], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The parts that other peers may be served from. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    by_content: Arc<Mutex<HashMap<ContentId, Arc<Part>>>>,
}

impl Parts {
    pub fn get(&self, id: &ContentId) -> Option<Arc<Part>> {
        self.by_content.lock().get(id).cloned()
    }

    pub(super) fn offer(&self, part: Arc<Part>) {
        self.by_content.lock().insert(part.outline.id(), part);
    }

    pub(super) fn withdraw(&self, id: &ContentId) {
        self.by_content.lock().remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use content::{Layout, OutlineBuilder};

    fn outline_of(bytes: &[u8]) -> Arc<Outline> {
        let layout = Layout::new(bytes.len() as u64).unwrap();
        let mut builder = OutlineBuilder::new(layout);
        for index in 0..layout.count() {
            let mut hasher = PieceHasher::new(layout, index);
            hasher.update(piece(bytes, layout, index));
            builder.set(index, hasher.finish().unwrap());
        }
        Arc::new(builder.finish().unwrap())
    }

    fn piece(bytes: &[u8], layout: Layout, index: u32) -> &[u8] {
        let range = layout.range(index);
        &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
    }

    fn portions(bytes: &[u8]) -> Vec<Bytes> {
        bytes.chunks(100_000).map(Bytes::copy_from_slice).collect()
    }

    #[test]
    fn what_was_written_is_found_again_and_nothing_else_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        let bytes: Vec<u8> = (0..4_500_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let outline = outline_of(&bytes);
        let layout = outline.layout();

        let part = Part::open(&path, outline.clone(), None).unwrap();
        assert!(part.pieces().is_empty());
        for index in [0, 2, 4] {
            assert!(part.take(index, &portions(piece(&bytes, layout, index))).unwrap());
        }
        assert!(!part.take(2, &portions(piece(&bytes, layout, 2))).unwrap(), "it was here");
        assert!(matches!(part.take(1, &portions(piece(&bytes, layout, 2))), Err(PieceError::Wrong(_))));
        assert_eq!(part.verified_bytes(), 2 * PIECE_SIZE + layout.len(4));
        drop(part); // as if killed: the store was never told

        let again = Part::open(&path, outline.clone(), None).unwrap();
        assert_eq!(again.pieces().iter().collect::<Vec<_>>(), [0, 2, 4]);
        again.take(1, &portions(piece(&bytes, layout, 1))).unwrap();
        again.take(3, &portions(piece(&bytes, layout, 3))).unwrap();
        assert!(again.pieces().is_full());
        assert_eq!(again.read(0, bytes.len()).unwrap(), bytes);
    }

    #[test]
    fn small_and_empty_files() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("empty", &b""[..]), ("one", b"1")] {
            let path = dir.path().join(name);
            let part = Part::open(&path, outline_of(bytes), None).unwrap();
            part.take(0, &portions(bytes)).unwrap();
            assert_eq!(
                (part.pieces().is_full(), part.verified_bytes()),
                (true, bytes.len() as u64),
                "{name}"
            );
            let again = Part::open(&path, outline_of(bytes), None).unwrap();
            assert!(again.pieces().is_full(), "{name}");
        }
    }
}
