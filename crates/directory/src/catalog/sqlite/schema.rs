//! The tables, and how every connection is set up.
//!
//! Names are long and ids are long, so each is stored once: a content gets a small number, a name with its media type
//! and size is a *variant* of its content, and who holds what is a row of small numbers. Nearly every content has one
//! variant, so variant 0 stands in `contents` itself (it is there while `refs` is above 0), and `others` says how many
//! more are in `variants`: a lookup then reads three trees, and an entry that arrives writes four. New contents get growing
//! numbers, so that all but one tree grow at their end; that one, from hash to number, has eight bytes of the hash as
//! key, because a page of it is written for nearly every row that arrives.
//!
//! `docs` is the search index: one document per content, whose row id is its rank (see [`super::index`]). It holds
//! grams and no text: what a gram nominates is checked against the variants.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

const VERSION: i64 = 2;

/// Pages of the log after which the writer moves them into the file: 64 MiB. A page that many batches touch is then
/// moved once.
const CHECKPOINT_PAGES: u32 = 16_384;

/// SQLite's way of opening a file for one process alone: a second directory on the same folder is refused, and a
/// reading needs no locks of the system, which would cost as much as a lookup.
const ONE_PROCESS: &str = "unix-excl";

const TABLES: &str = "
CREATE TABLE accounts (
    username TEXT PRIMARY KEY, password_hash TEXT NOT NULL, disabled INTEGER NOT NULL, created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE invites (
    digest BLOB PRIMARY KEY, uses INTEGER NOT NULL, expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE peers (
    id INTEGER PRIMARY KEY, peer_id BLOB NOT NULL UNIQUE, username TEXT NOT NULL, token BLOB,
    sealing_key TEXT NOT NULL, endpoints TEXT NOT NULL, version TEXT NOT NULL,
    lease_until INTEGER NOT NULL, last_seen INTEGER NOT NULL,
    revision INTEGER NOT NULL, files INTEGER NOT NULL, restricted INTEGER NOT NULL
) STRICT;
CREATE TABLE contents (
    id INTEGER PRIMARY KEY, key INTEGER NOT NULL, hash BLOB NOT NULL, holders INTEGER NOT NULL,
    name TEXT NOT NULL, media_type TEXT, size INTEGER NOT NULL, refs INTEGER NOT NULL, others INTEGER NOT NULL
) STRICT;
CREATE INDEX contents_by_key ON contents (key);
CREATE TABLE variants (
    content INTEGER NOT NULL, no INTEGER NOT NULL, name TEXT NOT NULL, media_type TEXT, size INTEGER NOT NULL,
    refs INTEGER NOT NULL, PRIMARY KEY (content, no)
) STRICT, WITHOUT ROWID;
CREATE TABLE holdings (
    content INTEGER NOT NULL, peer INTEGER NOT NULL, variant INTEGER NOT NULL, pieces INTEGER NOT NULL,
    reports INTEGER NOT NULL, audience TEXT, PRIMARY KEY (content, peer, variant)
) STRICT, WITHOUT ROWID;
CREATE INDEX holdings_by_peer ON holdings (peer);
CREATE INDEX holdings_restricted ON holdings (peer) WHERE audience IS NOT NULL;
CREATE TABLE reports (
    content INTEGER NOT NULL, peer INTEGER NOT NULL, reporter TEXT NOT NULL, PRIMARY KEY (content, peer, reporter)
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE docs USING fts5(grams, content='', contentless_delete=1, detail=none, tokenize='ascii');
INSERT INTO docs(docs, rank) VALUES ('hashsize', 33554432);
INSERT INTO docs(docs, rank) VALUES ('usermerge', 2);
";

/// What version 2 has more: groups, and who is not trusted any more. A revocation without a peer (an empty blob) is of
/// the whole account. `changes` numbers everything of this; `revoked` is the number of the last change of revocations.
const SINCE_2: &str = "
ALTER TABLE peers ADD COLUMN logged_in_at INTEGER NOT NULL DEFAULT 0;
CREATE TABLE groups (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, revision INTEGER NOT NULL, deleted INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX groups_by_owner ON groups (owner);
CREATE TABLE members (
    of_group TEXT NOT NULL, username TEXT NOT NULL, PRIMARY KEY (of_group, username)
) STRICT, WITHOUT ROWID;
CREATE TABLE revocations (
    username TEXT NOT NULL, peer BLOB NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (username, peer)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_by_end ON revocations (until);
CREATE TABLE trust (id INTEGER PRIMARY KEY, changes INTEGER NOT NULL, revoked INTEGER NOT NULL) STRICT;
INSERT INTO trust VALUES (1, 1, 1);
";

/// The connection of the writer; makes the tables where there are none.
pub(super) fn open_writer(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags_and_vfs(path, flags, ONE_PROCESS)?;
    set_up(&conn, 64)?;
    conn.busy_timeout(Duration::from_secs(1))?;
    conn.pragma_update_and_check(None, "journal_mode", "wal", |row| {
        let mode: String = row.get(0)?;
        if mode == "wal" { Ok(()) } else { Err(rusqlite::Error::InvalidQuery) }
    })?;
    // What is answered has to survive the machine's power too, not only the process.
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", 256 << 20)?;
    conn.pragma_update(None, "cache_size", -131_072)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    match conn.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
        VERSION => {}
        0 => {
            conn.execute_batch(&format!("BEGIN; {TABLES} {SINCE_2} PRAGMA user_version = {VERSION}; COMMIT"))?
        }
        1 => conn.execute_batch(&format!("BEGIN; {SINCE_2} PRAGMA user_version = {VERSION}; COMMIT"))?,
        other => anyhow::bail!("{} has version {other}; this program knows {VERSION}", path.display()),
    }
    Ok(conn)
}

/// A connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags_and_vfs(path, flags, ONE_PROCESS)?;
    set_up(&conn, 32)?;
    conn.busy_timeout(Duration::from_secs(1))?;
    // Read in place: a cache of its own would be empty again after each commit.
    conn.pragma_update(None, "mmap_size", 4_i64 << 30)?;
    conn.pragma_update(None, "cache_size", -16_384)?;
    Ok(conn)
}

fn set_up(conn: &Connection, statements: usize) -> rusqlite::Result<()> {
    conn.set_prepared_statement_cache_capacity(statements);
    // Otherwise a bound value may change the plan, and SQLite parses the statement again at every call.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}
