//! [`SharedEntry`]: one path that is shared, and the [`FileStamp`] by which a change of its file shows.

use std::{fs::Metadata, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};

use content::{ContentId, Outline, SafeName};
use jiff::Timestamp;
use wire::rest::{Audience, pclient::SharedFile};

/// What a file's metadata say of its bytes: as long as these are the same, so are they.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    pub size: u64,
    /// Last change of the bytes, in nanoseconds since 1970. Programs can put an old time back.
    pub mtime_ns: i64,
    /// Last change of the bytes or of what is said of them (names, owner, times), which no program sets. 0 where an
    /// earlier version did not keep it.
    pub ctime_ns: i64,
    pub inode: u64,
}

impl FileStamp {
    pub fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: metadata.len(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }

    /// Whether all but the ctime is the same. It moves with every chmod, new name or link of a file, and also where
    /// bytes were changed and got their old time back: only reading tells which.
    pub fn is_like(&self, other: &Self) -> bool {
        Self { ctime_ns: 0, ..*self } == Self { ctime_ns: 0, ..*other }
    }

    /// The last time that anything changed.
    pub fn newest_ns(&self) -> i64 {
        self.mtime_ns.max(self.ctime_ns)
    }
}

/// A file that is shared, at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedEntry {
    pub content_id: ContentId,
    /// Under which it is announced: its path relative to the shared folder.
    pub name: SafeName,
    pub size: u64,
    pub media_type: Option<String>,
    pub path: PathBuf,
    /// Of the file when it was hashed.
    pub stamp: FileStamp,
    pub audience: Audience,
    pub shared_at: Timestamp,
}

impl SharedEntry {
    /// As pclient shows it.
    pub fn to_rest(&self) -> SharedFile {
        SharedFile {
            content_id: self.content_id,
            name: self.name.to_string(),
            size: self.size,
            media_type: self.media_type.clone(),
            path: self.path.display().to_string(),
            audience: self.audience.clone(),
            shared_at: self.shared_at,
        }
    }
}

/// A file to be shared.
#[derive(Debug, Clone)]
pub struct NewFile {
    pub content_id: ContentId,
    pub name: SafeName,
    pub media_type: Option<String>,
    pub path: PathBuf,
    /// Of the file before it was hashed; its size is the file's.
    pub stamp: FileStamp,
    /// `None`: what the content has already, else what was at this path, else what its folder says, else the network.
    pub audience: Option<Audience>,
    /// `None` where the library has it already, as for a file that only got another name.
    pub outline: Option<Arc<Outline>>,
}

impl NewFile {
    /// A file whose bytes gave `outline`; its media type is told by the name.
    pub fn new(path: PathBuf, name: SafeName, stamp: FileStamp, outline: Arc<Outline>) -> Self {
        let media_type = media_type_of(&name);
        let content_id = outline.id();
        Self { content_id, name, media_type, path, stamp, audience: None, outline: Some(outline) }
    }
}

impl NewFile {
    /// A file that has the bytes of `twin`, which the library knows.
    pub fn known(path: PathBuf, name: SafeName, stamp: FileStamp, twin: &SharedEntry) -> Self {
        let media_type = media_type_of(&name);
        let content_id = twin.content_id;
        Self { content_id, name, media_type, path, stamp, audience: None, outline: None }
    }
}

/// What the ending of a name says about the content.
pub(crate) fn media_type_of(name: &SafeName) -> Option<String> {
    mime_guess::from_path(name.file_name()).first_raw().map(str::to_owned)
}

/// Why a file is to be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A scan or the watcher came upon it: what the user took out stays out.
    Found,
    /// Somebody asked for it: that it was taken out is forgotten.
    Asked,
}
