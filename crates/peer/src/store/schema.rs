//! The tables, as a list of steps. A store remembers how many it has taken (`user_version`) and takes the rest when it
//! is opened. A step that was released is never changed: what it should have been comes as another one.

use rusqlite::{Connection, TransactionBehavior};

/// Append only.
const MIGRATIONS: &[&str] = &[
    LIBRARY,
    super::downloads::DOWNLOADS,
    super::offers::OFFERS,
    super::mail::MAIL,
    CARE,
    super::mail::LETTERS,
    super::audit::AUDIT,
    super::mail::ANSWERED,
];

/// Brings the tables up to date.
///
/// # Errors
/// Where a step fails (none of it is kept), or the store was written by a newer program.
pub(super) fn migrate(connection: &mut Connection) -> anyhow::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let taken = taken as usize;
    anyhow::ensure!(taken <= MIGRATIONS.len(), "it was written by a newer version of this program");
    for step in &MIGRATIONS[taken..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", u32::try_from(MIGRATIONS.len())?)?;
    transaction.commit()?;
    Ok(())
}

/// What this peer shares and what the directory is to be told of it: see [`crate::library`].
const LIBRARY: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each path. Paths are bytes, as the system has them.
CREATE TABLE shared_files (
    path       BLOB PRIMARY KEY,
    content_id BLOB NOT NULL,
    name       TEXT NOT NULL,
    size       INTEGER NOT NULL,
    media_type TEXT,
    mtime_ns   INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    shared_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX shared_files_by_content ON shared_files (content_id);

-- Who may have a content, where that is not the whole network. Outlives the file: a restricted file that comes back
-- is still restricted.
CREATE TABLE audiences (
    content_id BLOB PRIMARY KEY,
    audience   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What new files beneath a folder start with.
CREATE TABLE folder_audiences (
    path     BLOB PRIMARY KEY,
    audience TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Paths, and by them contents, that the user took out and that no scan puts back.
CREATE TABLE exclusions (
    path       BLOB PRIMARY KEY,
    content_id BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX exclusions_by_content ON exclusions (content_id);

-- The chaining values of files of two pieces and more, 32 bytes each.
CREATE TABLE outlines (
    content_id      BLOB PRIMARY KEY,
    chaining_values BLOB NOT NULL
) STRICT;

-- Downloads that already serve what they have.
CREATE TABLE partials (
    content_id  BLOB PRIMARY KEY,
    name        TEXT NOT NULL,
    size        INTEGER NOT NULL,
    media_type  TEXT,
    pieces_held INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The state that the directory should hold, each row with the revision of its last change.
CREATE TABLE announcements (
    revision    INTEGER PRIMARY KEY,
    content_id  BLOB NOT NULL,
    name        TEXT NOT NULL,
    removed     INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    media_type  TEXT,
    pieces_held INTEGER NOT NULL,
    audience    TEXT
) STRICT;
CREATE UNIQUE INDEX announcements_by_key ON announcements (content_id, name);
CREATE INDEX announcements_removed ON announcements (revision) WHERE removed = 1;
";

/// What keeps files as they are and where they are meant to be.
const CARE: &str = "
-- Contents that somebody gave to this peer alone. Whatever folder they come to lie in, this peer does not share them.
CREATE TABLE withheld (
    content_id BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
INSERT INTO withheld SELECT DISTINCT content_id FROM downloads WHERE restricted = 1;

-- When the file or what is said of it last changed: bytes that were changed and got their old time back show by it.
-- 0 where it was not kept yet; the first look takes what it finds.
ALTER TABLE shared_files ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;

-- A finished download's file as it was put in its place, to see later whether it is that file still.
ALTER TABLE downloads ADD COLUMN mtime_ns INTEGER;
ALTER TABLE downloads ADD COLUMN ctime_ns INTEGER;
ALTER TABLE downloads ADD COLUMN inode INTEGER;
";
