//! The tables of what waits for a peer that is off: what we asked of others, and what others asked of us.

use content::ContentId;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use wire::{PeerId, Username};
use zeroize::Zeroizing;

/// A step of [`super::schema`].
pub(super) const MAIL: &str = "
-- What we asked absent peers for, and the keys that their answers are sealed with.
CREATE TABLE wants (
    ticket     BLOB PRIMARY KEY,
    content_id BLOB NOT NULL,
    holder     BLOB NOT NULL,
    reply_key  BLOB NOT NULL,
    asked_at   INTEGER NOT NULL,
    -- Whether the holder said that nothing more comes.
    settled    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX wants_by_content ON wants (content_id);

-- What others asked of us, and what of it is still to be sent. A new want takes the place of an older one.
CREATE TABLE promises (
    asker       BLOB NOT NULL,
    content_id  BLOB NOT NULL,
    username    TEXT NOT NULL,
    ticket      BLOB NOT NULL,
    reply_key   BLOB NOT NULL,
    -- Pieces still to be sent; none for all of them, and for the proof too.
    missing     BLOB,
    asked_at    INTEGER NOT NULL,
    PRIMARY KEY (asker, content_id)
) STRICT, WITHOUT ROWID;
";

/// Names a want, and the request whose answers come for it.
pub(crate) type Ticket = [u8; 16];

/// A want of ours.
#[derive(Clone)]
pub(crate) struct WantRow {
    pub(crate) ticket: Ticket,
    pub(crate) content_id: ContentId,
    pub(crate) holder: PeerId,
    pub(crate) reply_key: Zeroizing<[u8; 32]>,
    /// Unix seconds.
    pub(crate) asked_at: i64,
    pub(crate) settled: bool,
}

/// A want of somebody else's that we took.
#[derive(Clone)]
pub(crate) struct PromiseRow {
    pub(crate) asker: PeerId,
    pub(crate) username: Username,
    pub(crate) content_id: ContentId,
    pub(crate) ticket: Ticket,
    pub(crate) reply_key: Zeroizing<[u8; 32]>,
    pub(crate) missing: Option<Vec<u8>>,
    /// Unix seconds.
    pub(crate) asked_at: i64,
}

const WANT: &str = "SELECT ticket, content_id, holder, reply_key, asked_at, settled FROM wants";

pub(crate) fn add_want(t: &Transaction<'_>, want: &WantRow) -> rusqlite::Result<()> {
    t.prepare_cached(
        "INSERT INTO wants (ticket, content_id, holder, reply_key, asked_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        want.ticket,
        want.content_id.as_bytes(),
        want.holder.as_bytes(),
        want.reply_key.as_slice(),
        want.asked_at
    ])
    .map(|_| ())
}

pub(crate) fn want(c: &Connection, ticket: &Ticket) -> rusqlite::Result<Option<WantRow>> {
    c.prepare_cached(&format!("{WANT} WHERE ticket = ?1"))?.query_row([ticket], read_want).optional()
}

/// The wants for one content, oldest first.
pub(crate) fn wants_of(c: &Connection, id: &ContentId) -> rusqlite::Result<Vec<WantRow>> {
    let mut statement = c.prepare_cached(&format!("{WANT} WHERE content_id = ?1 ORDER BY asked_at"))?;
    statement.query_map([id.as_bytes()], read_want)?.collect()
}

pub(crate) fn settle_want(t: &Transaction<'_>, ticket: &Ticket) -> rusqlite::Result<()> {
    t.execute("UPDATE wants SET settled = 1 WHERE ticket = ?1", [ticket]).map(|_| ())
}

/// Answers to a forgotten want are dropped.
pub(crate) fn forget_wants(t: &Transaction<'_>, id: &ContentId) -> rusqlite::Result<()> {
    t.execute("DELETE FROM wants WHERE content_id = ?1", [id.as_bytes()]).map(|_| ())
}

pub(crate) fn forget_wants_before(t: &Transaction<'_>, unix_seconds: i64) -> rusqlite::Result<()> {
    t.execute("DELETE FROM wants WHERE asked_at < ?1", [unix_seconds]).map(|_| ())
}

fn read_want(row: &Row<'_>) -> rusqlite::Result<WantRow> {
    Ok(WantRow {
        ticket: row.get(0)?,
        content_id: ContentId::from_bytes(row.get(1)?),
        holder: PeerId::from_bytes(row.get(2)?),
        reply_key: Zeroizing::new(row.get(3)?),
        asked_at: row.get(4)?,
        settled: row.get(5)?,
    })
}

/// Takes a want, unless `most` others are taken already. True where it was taken.
pub(crate) fn add_promise(t: &Transaction<'_>, promise: &PromiseRow, most: u32) -> rusqlite::Result<bool> {
    let others: u32 = t.query_row(
        "SELECT count(*) FROM promises WHERE asker <> ?1 OR content_id <> ?2",
        params![promise.asker.as_bytes(), promise.content_id.as_bytes()],
        |row| row.get(0),
    )?;
    if others >= most {
        return Ok(false);
    }
    t.prepare_cached(
        "INSERT OR REPLACE INTO promises (asker, content_id, username, ticket, reply_key, missing, asked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        promise.asker.as_bytes(),
        promise.content_id.as_bytes(),
        promise.username.as_str(),
        promise.ticket,
        promise.reply_key.as_slice(),
        promise.missing,
        promise.asked_at
    ])?;
    Ok(true)
}

/// All of them, oldest first.
pub(crate) fn promises(c: &Connection) -> rusqlite::Result<Vec<PromiseRow>> {
    let mut statement = c.prepare_cached(
        "SELECT asker, content_id, username, ticket, reply_key, missing, asked_at FROM promises
         ORDER BY asked_at, ticket",
    )?;
    // A name that this program does not take is no reason to keep none of them.
    let rows = statement.query_map([], |row| {
        let username: String = row.get(2)?;
        let Ok(username) = username.parse() else { return Ok(None) };
        Ok(Some(PromiseRow {
            asker: PeerId::from_bytes(row.get(0)?),
            content_id: ContentId::from_bytes(row.get(1)?),
            username,
            ticket: row.get(3)?,
            reply_key: Zeroizing::new(row.get(4)?),
            missing: row.get(5)?,
            asked_at: row.get(6)?,
        }))
    })?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Notes what of a promise is still to be sent. One that was replaced meanwhile stays as it is.
pub(crate) fn set_missing(t: &Transaction<'_>, ticket: &Ticket, missing: &[u8]) -> rusqlite::Result<()> {
    t.prepare_cached("UPDATE promises SET missing = ?2 WHERE ticket = ?1")?
        .execute(params![ticket, missing])
        .map(|_| ())
}

pub(crate) fn keep_promise(t: &Transaction<'_>, ticket: &Ticket) -> rusqlite::Result<()> {
    t.execute("DELETE FROM promises WHERE ticket = ?1", [ticket]).map(|_| ())
}
