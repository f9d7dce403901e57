//! The tables of what waits for a peer that is off: what we asked of others, and what others asked of us.

use content::ContentId;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use wire::{PeerId, Username};
use zeroize::Zeroizing;

use crate::relay::LetterKeys;

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

/// A later step of [`super::schema`].
pub(super) const LETTERS: &str = "
-- The keys that it was sealed with; none where that was not kept yet.
ALTER TABLE wants ADD COLUMN keys BLOB;

-- Offers of ours that lie at the broker for one machine of their receiver.
CREATE TABLE offer_letters (
    ticket    BLOB PRIMARY KEY,
    -- Of the offer.
    token     BLOB NOT NULL,
    receiver  BLOB NOT NULL,
    reply_key BLOB NOT NULL,
    keys      BLOB NOT NULL,
    left_at   INTEGER NOT NULL,
    -- Whether the broker took it.
    lies      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (token, receiver)
) STRICT, WITHOUT ROWID;
";

/// A later step of [`super::schema`].
pub(super) const ANSWERED: &str = "
-- Wants and offers that are done with: a copy of one is not answered again.
CREATE TABLE answered_letters (
    sender      BLOB NOT NULL,
    ticket      BLOB NOT NULL,
    answered_at INTEGER NOT NULL,
    PRIMARY KEY (sender, ticket)
) STRICT, WITHOUT ROWID;
CREATE INDEX answered_letters_by_age ON answered_letters (answered_at);
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
    /// What it was sealed with; none of one from before that was kept.
    pub(crate) keys: Option<LetterKeys>,
    /// Unix seconds.
    pub(crate) asked_at: i64,
    pub(crate) settled: bool,
}

/// An offer of ours that was left for a machine that is off.
#[derive(Clone)]
pub(crate) struct OfferLetterRow {
    pub(crate) ticket: Ticket,
    pub(crate) token: [u8; 16],
    pub(crate) receiver: PeerId,
    pub(crate) reply_key: Zeroizing<[u8; 32]>,
    pub(crate) keys: LetterKeys,
    /// Unix seconds.
    pub(crate) left_at: i64,
    pub(crate) lies: bool,
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

const WANT: &str = "SELECT ticket, content_id, holder, reply_key, asked_at, settled, keys FROM wants";

pub(crate) fn add_want(t: &Transaction<'_>, want: &WantRow) -> rusqlite::Result<()> {
    t.prepare_cached(
        "INSERT INTO wants (ticket, content_id, holder, reply_key, asked_at, keys) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        want.ticket,
        want.content_id.as_bytes(),
        want.holder.as_bytes(),
        want.reply_key.as_slice(),
        want.asked_at,
        want.keys,
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
        keys: row.get(6)?,
    })
}

const LETTER: &str = "SELECT ticket, token, receiver, reply_key, keys, left_at, lies FROM offer_letters";

/// Notes a letter before it is left, in the place of an earlier one.
pub(crate) fn add_letter(t: &Transaction<'_>, letter: &OfferLetterRow) -> rusqlite::Result<()> {
    t.prepare_cached(
        "INSERT OR REPLACE INTO offer_letters (ticket, token, receiver, reply_key, keys, left_at, lies)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        letter.ticket,
        letter.token,
        letter.receiver.as_bytes(),
        letter.reply_key.as_slice(),
        letter.keys,
        letter.left_at,
        letter.lies,
    ])
    .map(|_| ())
}

/// The broker took it.
pub(crate) fn letter_lies(t: &Transaction<'_>, ticket: &Ticket) -> rusqlite::Result<()> {
    t.execute("UPDATE offer_letters SET lies = 1 WHERE ticket = ?1", [ticket]).map(|_| ())
}

/// The letter of an offer for one machine.
pub(crate) fn letter_for(
    c: &Connection,
    token: &[u8; 16],
    receiver: PeerId,
) -> rusqlite::Result<Option<OfferLetterRow>> {
    c.prepare_cached(&format!("{LETTER} WHERE token = ?1 AND receiver = ?2"))?
        .query_row(params![token, receiver.as_bytes()], read_letter)
        .optional()
}

/// The letter that an answer belongs to.
pub(crate) fn letter(c: &Connection, ticket: &Ticket) -> rusqlite::Result<Option<OfferLetterRow>> {
    c.prepare_cached(&format!("{LETTER} WHERE ticket = ?1"))?.query_row([ticket], read_letter).optional()
}

/// Answers to a forgotten letter are dropped.
pub(crate) fn forget_letters(t: &Transaction<'_>, token: &[u8; 16]) -> rusqlite::Result<()> {
    t.execute("DELETE FROM offer_letters WHERE token = ?1", [token]).map(|_| ())
}

pub(crate) fn forget_letters_before(t: &Transaction<'_>, unix_seconds: i64) -> rusqlite::Result<()> {
    t.execute("DELETE FROM offer_letters WHERE left_at < ?1", [unix_seconds]).map(|_| ())
}

fn read_letter(row: &Row<'_>) -> rusqlite::Result<OfferLetterRow> {
    Ok(OfferLetterRow {
        ticket: row.get(0)?,
        token: row.get(1)?,
        receiver: PeerId::from_bytes(row.get(2)?),
        reply_key: Zeroizing::new(row.get(3)?),
        keys: row.get(4)?,
        left_at: row.get(5)?,
        lies: row.get(6)?,
    })
}

/// What became of a want that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// It is being answered, or was.
    Copy,
    /// There are as many as there may be.
    Full,
}

/// Takes a want, unless `most` others are taken already.
pub(crate) fn add_promise(t: &Transaction<'_>, promise: &PromiseRow, most: u32) -> rusqlite::Result<Taken> {
    let same = "SELECT EXISTS (SELECT 1 FROM promises WHERE asker = ?1 AND ticket = ?2)";
    let under_way = t.query_row(same, params![promise.asker.as_bytes(), promise.ticket], |row| row.get(0))?;
    if under_way || is_answered(t, promise.asker, &promise.ticket)? {
        return Ok(Taken::Copy);
    }
    let others: u32 = t.query_row(
        "SELECT count(*) FROM promises WHERE asker <> ?1 OR content_id <> ?2",
        params![promise.asker.as_bytes(), promise.content_id.as_bytes()],
        |row| row.get(0),
    )?;
    if others >= most {
        return Ok(Taken::Full);
    }
    // The want whose place it takes does not come back either.
    t.prepare_cached(
        "INSERT OR IGNORE INTO answered_letters (sender, ticket, answered_at)
         SELECT asker, ticket, ?3 FROM promises WHERE asker = ?1 AND content_id = ?2",
    )?
    .execute(params![promise.asker.as_bytes(), promise.content_id.as_bytes(), promise.asked_at])?;
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
    Ok(Taken::Yes)
}

/// Whether a want or an offer was answered for good.
pub(crate) fn is_answered(c: &Connection, sender: PeerId, ticket: &Ticket) -> rusqlite::Result<bool> {
    c.prepare_cached("SELECT EXISTS (SELECT 1 FROM answered_letters WHERE sender = ?1 AND ticket = ?2)")?
        .query_row(params![sender.as_bytes(), ticket], |row| row.get(0))
}

/// Notes that a want or an offer was answered for good; a promise is kept by that. Forgets those from before `oldest`, in
/// Unix seconds, and the oldest of more than `most`.
pub(crate) fn set_answered(
    t: &Transaction<'_>,
    sender: PeerId,
    ticket: &Ticket,
    now: i64,
    oldest: i64,
    most: u32,
) -> rusqlite::Result<()> {
    t.prepare_cached("DELETE FROM promises WHERE asker = ?1 AND ticket = ?2")?
        .execute(params![sender.as_bytes(), ticket])?;
    t.prepare_cached(
        "INSERT OR IGNORE INTO answered_letters (sender, ticket, answered_at) VALUES (?1, ?2, ?3)",
    )?
    .execute(params![sender.as_bytes(), ticket, now])?;
    t.prepare_cached("DELETE FROM answered_letters WHERE answered_at < ?1")?.execute([oldest])?;
    t.prepare_cached(
        "DELETE FROM answered_letters WHERE (sender, ticket) IN
         (SELECT sender, ticket FROM answered_letters ORDER BY answered_at DESC LIMIT -1 OFFSET ?1)",
    )?
    .execute([most])
    .map(|_| ())
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
