//! The table of what others fetched from this peer: who, what, when, how much, over which path.

use content::ContentId;
use rusqlite::{Connection, Row, Transaction, params};
use wire::{PeerId, Username, rest::pclient::FetchPath};

/// A step of [`super::schema`].
pub(super) const AUDIT: &str = "
CREATE TABLE audit (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Milliseconds since 1970: the first byte and the last.
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    username   TEXT NOT NULL,
    peer_id    BLOB NOT NULL,
    content_id BLOB NOT NULL,
    -- As it was shared then; null for a download that was served while it ran.
    name       TEXT,
    -- 0 direct, 1 reversed, 2 relayed, 3 mailed.
    path       INTEGER NOT NULL,
    bytes      INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_by_content ON audit (content_id, peer_id, path, seq);
CREATE INDEX audit_by_user ON audit (username, seq);
CREATE INDEX audit_by_end ON audit (ended_at);
";

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditRow {
    /// 0 for one that is not stored yet.
    pub(crate) seq: u64,
    pub(crate) started_at: i64,
    pub(crate) ended_at: i64,
    pub(crate) username: Username,
    pub(crate) peer_id: PeerId,
    pub(crate) content_id: ContentId,
    pub(crate) name: Option<String>,
    pub(crate) path: FetchPath,
    pub(crate) bytes: u64,
}

/// Writes down bytes that went out. They belong to the last row of the same fetch, unless it has rested for `pause`
/// milliseconds; then they begin another.
pub(crate) fn record(t: &Transaction<'_>, new: &AuditRow, pause: i64) -> rusqlite::Result<()> {
    let (peer, content, path) = (new.peer_id.as_bytes(), new.content_id.as_bytes(), path_word(new.path));
    let joined = t
        .prepare_cached(
            "UPDATE audit SET bytes = bytes + ?1, ended_at = ?2 WHERE ended_at >= ?3 AND username = ?4 AND seq =
             (SELECT max(seq) FROM audit WHERE content_id = ?5 AND peer_id = ?6 AND path = ?7)",
        )?
        .execute(params![
            new.bytes.cast_signed(),
            new.ended_at,
            new.started_at - pause,
            new.username.as_str(),
            content,
            peer,
            path,
        ])?;
    if joined == 0 {
        t.prepare_cached(
            "INSERT INTO audit (started_at, ended_at, username, peer_id, content_id, name, path, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            new.started_at,
            new.ended_at,
            new.username.as_str(),
            peer,
            content,
            new.name,
            path,
            new.bytes.cast_signed(),
        ])?;
    }
    Ok(())
}

/// Forgets what ended before `before`, and all but the newest `most`.
pub(crate) fn forget(t: &Transaction<'_>, before: i64, most: u64) -> rusqlite::Result<usize> {
    let old = t.prepare_cached("DELETE FROM audit WHERE ended_at < ?1")?.execute([before])?;
    let many = "DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?1";
    Ok(old + t.prepare_cached(many)?.execute([most.cast_signed()])?)
}

/// Those of a content and a user that ended at `oldest` or later, the newest first, from below `before` on.
pub(crate) fn page(
    c: &Connection,
    (content, user): (Option<ContentId>, Option<&Username>),
    oldest: i64,
    before: Option<u64>,
    limit: usize,
) -> rusqlite::Result<Vec<AuditRow>> {
    let mut statement = c.prepare_cached(
        "SELECT seq, started_at, ended_at, username, peer_id, content_id, name, path, bytes FROM audit
         WHERE seq < ?1 AND (?2 IS NULL OR content_id = ?2) AND (?3 IS NULL OR username = ?3)
         AND ended_at >= ?4 ORDER BY seq DESC LIMIT ?5",
    )?;
    let before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let key =
        params![before, content.as_ref().map(ContentId::as_bytes), user.map(Username::as_str), oldest, limit];
    let rows = statement.query_map(key, |row| Ok(read(row)))?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Entries on disk, also those that are too old to be shown.
#[cfg(test)]
pub(crate) fn count(c: &Connection) -> rusqlite::Result<u32> {
    c.query_row("SELECT count(*) FROM audit", [], |row| row.get(0))
}

/// None for a row that no version of this program wrote.
fn read(row: &Row<'_>) -> Option<AuditRow> {
    Some(AuditRow {
        seq: row.get::<_, i64>(0).ok()?.cast_unsigned(),
        started_at: row.get(1).ok()?,
        ended_at: row.get(2).ok()?,
        username: row.get::<_, String>(3).ok()?.parse().ok()?,
        peer_id: PeerId::from_bytes(row.get(4).ok()?),
        content_id: ContentId::from_bytes(row.get(5).ok()?),
        name: row.get(6).ok()?,
        path: path_of(row.get(7).ok()?)?,
        bytes: row.get::<_, i64>(8).ok()?.cast_unsigned(),
    })
}

const PATHS: [FetchPath; 4] = [FetchPath::Direct, FetchPath::Reversed, FetchPath::Relayed, FetchPath::Mailed];

fn path_word(path: FetchPath) -> i64 {
    match path {
        FetchPath::Direct => 0,
        FetchPath::Reversed => 1,
        FetchPath::Relayed => 2,
        FetchPath::Mailed => 3,
    }
}

fn path_of(word: i64) -> Option<FetchPath> {
    PATHS.into_iter().find(|path| path_word(*path) == word)
}
