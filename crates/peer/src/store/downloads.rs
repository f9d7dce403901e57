//! The table of downloads: what was asked for, how far it is, and what came of it.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use content::{ContentId, SafeName};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use wire::{
    ErrorCode,
    rest::pclient::{DownloadError, Source},
};

use crate::library::FileStamp;

/// A step of [`super::schema`].
pub(super) const DOWNLOADS: &str = "
CREATE TABLE downloads (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    content_id      BLOB NOT NULL,
    name            TEXT NOT NULL,
    -- Whether a user chose the name; else the holders' name takes its place when it is known.
    named           INTEGER NOT NULL,
    state           INTEGER NOT NULL,
    restricted      INTEGER NOT NULL DEFAULT 0,
    size            INTEGER,
    -- The proof, once it was received and checked: a restart needs no holder to go on.
    chaining_values BLOB,
    -- The piece set that is surely on disk.
    pieces          BLOB,
    error_code      TEXT,
    error_detail    TEXT,
    path            BLOB,
    sources         TEXT
) STRICT;
CREATE INDEX downloads_active ON downloads (state) WHERE state < 2;
";

/// What a restart does with a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Goes on with it.
    Active = 0,
    Paused = 1,
    Failed = 2,
    Done = 3,
}

#[derive(Debug, Clone)]
pub(crate) struct DownloadRow {
    pub(crate) seq: u64,
    pub(crate) content_id: ContentId,
    pub(crate) name: SafeName,
    pub(crate) named: bool,
    pub(crate) state: Kept,
    pub(crate) size: Option<u64>,
    pub(crate) error: Option<DownloadError>,
    pub(crate) path: Option<PathBuf>,
    /// Of the finished file, when it was put there.
    pub(crate) stamp: Option<FileStamp>,
    pub(crate) sources: Vec<Source>,
}

/// What a download needs to go on, beside its row.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) chaining_values: Vec<[u8; 32]>,
    pub(crate) restricted: bool,
    pub(crate) pieces: Option<Vec<u8>>,
}

pub(crate) fn insert(
    t: &Transaction<'_>,
    id: &ContentId,
    name: &SafeName,
    named: bool,
) -> rusqlite::Result<u64> {
    t.prepare_cached("INSERT INTO downloads (content_id, name, named, state) VALUES (?1, ?2, ?3, 0)")?
        .execute(params![id.as_bytes(), name.as_str(), named])?;
    Ok(t.last_insert_rowid().cast_unsigned())
}

/// Everything, oldest first.
pub(crate) fn all(c: &Connection) -> rusqlite::Result<Vec<DownloadRow>> {
    let mut statement = c.prepare(
        "SELECT seq, content_id, name, named, state, size, error_code, error_detail, path, sources,
                mtime_ns, ctime_ns, inode FROM downloads ORDER BY seq",
    )?;
    // A row that this program cannot read is left out, not a reason never to start again.
    let rows = statement.query_map([], |row| Ok(read(row)))?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn read(row: &Row<'_>) -> Option<DownloadRow> {
    let error_code: Option<String> = row.get("error_code").ok()?;
    let error_detail: Option<String> = row.get("error_detail").ok()?;
    let error = error_code.map(|code| DownloadError {
        code: code.parse().unwrap_or(ErrorCode::Internal),
        detail: error_detail.unwrap_or_default(),
    });
    let sources: Option<String> = row.get("sources").ok()?;
    let path: Option<Vec<u8>> = row.get("path").ok()?;
    let size = row.get::<_, Option<i64>>("size").ok()?.map(i64::cast_unsigned);
    let times: (Option<i64>, Option<i64>) = (row.get("mtime_ns").ok()?, row.get("ctime_ns").ok()?);
    let stamp = match (size, times, row.get::<_, Option<i64>>("inode").ok()?) {
        (Some(size), (Some(mtime_ns), Some(ctime_ns)), Some(inode)) => {
            Some(FileStamp { size, mtime_ns, ctime_ns, inode: inode.cast_unsigned() })
        }
        _ => None,
    };
    Some(DownloadRow {
        seq: row.get::<_, i64>("seq").ok()?.cast_unsigned(),
        content_id: ContentId::from_bytes(row.get("content_id").ok()?),
        name: row.get::<_, String>("name").ok()?.parse().ok()?,
        named: row.get("named").ok()?,
        state: match row.get("state").ok()? {
            0 => Kept::Active,
            1 => Kept::Paused,
            2 => Kept::Failed,
            _ => Kept::Done,
        },
        size,
        error,
        path: path.map(|path| PathBuf::from(OsString::from_vec(path))),
        stamp,
        sources: sources.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
    })
}

/// What is kept of a download's progress; `None` before its proof was received.
pub(crate) fn progress(c: &Connection, seq: u64) -> rusqlite::Result<Option<Progress>> {
    let sql = "SELECT chaining_values, pieces, restricted FROM downloads WHERE seq = ?1";
    c.query_row(sql, [seq.cast_signed()], |row| {
        let values: Option<Vec<u8>> = row.get(0)?;
        let (pieces, restricted) = (row.get(1)?, row.get(2)?);
        Ok(values.map(|values| Progress {
            chaining_values: values.as_chunks().0.to_vec(),
            pieces,
            restricted,
        }))
    })
    .optional()
    .map(Option::flatten)
}

/// The name by which holders know it, for one that nobody named.
pub(crate) fn set_name(t: &Transaction<'_>, seq: u64, name: &SafeName) -> rusqlite::Result<()> {
    t.execute("UPDATE downloads SET name = ?2 WHERE seq = ?1", params![seq.cast_signed(), name.as_str()])
        .map(|_| ())
}

pub(crate) fn set_outline(
    t: &Transaction<'_>,
    seq: u64,
    name: &SafeName,
    size: u64,
    restricted: bool,
    values: &[u8],
) -> rusqlite::Result<()> {
    let sql =
        "UPDATE downloads SET name = ?2, size = ?3, restricted = ?4, chaining_values = ?5 WHERE seq = ?1";
    t.execute(sql, params![seq.cast_signed(), name.as_str(), size.cast_signed(), restricted, values])
        .map(|_| ())
}

pub(crate) fn set_pieces(
    t: &Transaction<'_>,
    seq: u64,
    pieces: &[u8],
    sources: &str,
) -> rusqlite::Result<()> {
    t.prepare_cached("UPDATE downloads SET pieces = ?2, sources = ?3 WHERE seq = ?1")?
        .execute(params![seq.cast_signed(), pieces, sources])
        .map(|_| ())
}

/// What the part was known to hold is not there any more.
pub(crate) fn forget_pieces(t: &Transaction<'_>, seq: u64) -> rusqlite::Result<()> {
    t.execute("UPDATE downloads SET pieces = NULL WHERE seq = ?1", [seq.cast_signed()]).map(|_| ())
}

pub(crate) fn set_state(
    t: &Transaction<'_>,
    seq: u64,
    state: Kept,
    error: Option<&DownloadError>,
) -> rusqlite::Result<()> {
    t.prepare_cached("UPDATE downloads SET state = ?2, error_code = ?3, error_detail = ?4 WHERE seq = ?1")?
        .execute(params![
            seq.cast_signed(),
            state as i64,
            error.map(|error| error.code.as_str()),
            error.map(|error| &error.detail)
        ])
        .map(|_| ())
}

/// The file is in its place: only what is shown of it stays.
pub(crate) fn set_done(t: &Transaction<'_>, done: &DownloadRow) -> rusqlite::Result<()> {
    let sources = serde_json::to_string(&done.sources).unwrap_or_default();
    t.prepare_cached(
        "UPDATE downloads SET state = 3, name = ?2, size = ?3, path = ?4, sources = ?5, mtime_ns = ?6,
         ctime_ns = ?7, inode = ?8, error_code = NULL, error_detail = NULL, chaining_values = NULL,
         pieces = NULL WHERE seq = ?1",
    )?
    .execute(params![
        done.seq.cast_signed(),
        done.name.as_str(),
        done.size.map(u64::cast_signed),
        done.path.as_ref().map(|path| path.as_os_str().as_bytes()),
        sources,
        done.stamp.map(|stamp| stamp.mtime_ns),
        done.stamp.map(|stamp| stamp.ctime_ns),
        done.stamp.map(|stamp| stamp.inode.cast_signed()),
    ])
    .map(|_| ())
}

/// The stamp of a finished file that was not known when it was said to be done.
pub(crate) fn set_stamp(t: &Transaction<'_>, seq: u64, stamp: &FileStamp) -> rusqlite::Result<()> {
    t.prepare_cached("UPDATE downloads SET mtime_ns = ?2, ctime_ns = ?3, inode = ?4 WHERE seq = ?1")?
        .execute(params![seq.cast_signed(), stamp.mtime_ns, stamp.ctime_ns, stamp.inode.cast_signed()])
        .map(|_| ())
}

pub(crate) fn remove(t: &Transaction<'_>, seq: u64) -> rusqlite::Result<()> {
    t.execute("DELETE FROM downloads WHERE seq = ?1", [seq.cast_signed()]).map(|_| ())
}
