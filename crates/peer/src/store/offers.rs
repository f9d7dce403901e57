//! The table of offers, those that others made and our own: who, what, and what became of it.
//!
//! Whether a new offer has its place is decided here, in the transaction that would add it, so that two which come at
//! once do not both take the last one.

use content::{ContentId, SafeName};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use wire::{
    PeerId, Username,
    rest::pclient::{OfferDirection, OfferState},
};

/// A step of [`super::schema`].
pub(super) const OFFERS: &str = "
CREATE TABLE offers (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    -- 0: received, 1: sent.
    direction   INTEGER NOT NULL,
    -- By which both sides know the same offer; its sender chose it.
    token       BLOB NOT NULL,
    -- As whom this peer was logged in.
    account     TEXT NOT NULL,
    -- The other side, and the machine of theirs that spoke or was told.
    username    TEXT NOT NULL,
    peer_id     BLOB,
    content_id  BLOB NOT NULL,
    name        TEXT NOT NULL,
    size        INTEGER NOT NULL,
    -- 0 waiting, 1 offered: open; 2 delivered, 3 accepted, 4 declined, 5 expired: over.
    state       INTEGER NOT NULL,
    offered_at  INTEGER NOT NULL,
    why         TEXT,
    download_id TEXT
) STRICT;
CREATE UNIQUE INDEX offers_by_token ON offers (direction, username, token);
CREATE INDEX offers_by_content ON offers (direction, username, content_id);
CREATE INDEX offers_open ON offers (direction, username, seq) WHERE state < 2;
";

/// The limits of what is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open offers of one other user.
    pub(crate) open_of_one: u64,
    /// Open offers of one direction.
    pub(crate) open: u64,
    /// Offers of one direction, those that are over among them.
    pub(crate) kept: u64,
}

/// A row, or what a new one is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferRow {
    /// 0 for one that is not stored yet.
    pub(crate) seq: u64,
    pub(crate) direction: OfferDirection,
    pub(crate) token: [u8; 16],
    pub(crate) account: Username,
    pub(crate) username: Username,
    pub(crate) peer_id: Option<PeerId>,
    pub(crate) content_id: ContentId,
    pub(crate) name: SafeName,
    pub(crate) size: u64,
    pub(crate) state: OfferState,
    /// Milliseconds since 1970.
    pub(crate) offered_at: i64,
    pub(crate) why: Option<String>,
    pub(crate) download_id: Option<String>,
}

/// What became of a new offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Added {
    New(OfferRow),
    /// It is there already, perhaps with other words.
    Known {
        row: OfferRow,
        changed: bool,
    },
    /// There is no place for it; the reason.
    Full(&'static str),
}

/// Takes in an offer of somebody else. One that was told before is the same one; a new one of a content that they
/// offer already takes the place of the former.
pub(crate) fn receive(t: &Transaction<'_>, new: &OfferRow, limits: Limits) -> rusqlite::Result<Added> {
    let by_token = format!("{SELECT} WHERE direction = ?1 AND username = ?2 AND token = ?3");
    let key = params![direction_word(new.direction), new.username.as_str(), new.token];
    if let Some(row) = one(t, &by_token, key)? {
        return Ok(Added::Known { row, changed: false });
    }
    if let Some(row) = open_of_content(t, new)? {
        t.prepare_cached(
            "UPDATE offers SET token = ?2, peer_id = ?3, name = ?4, size = ?5, offered_at = ?6 WHERE seq = ?1",
        )?
        .execute(params![
            row.seq.cast_signed(),
            new.token,
            new.peer_id.as_ref().map(PeerId::as_bytes),
            new.name.as_str(),
            new.size.cast_signed(),
            new.offered_at,
        ])?;
        return Ok(Added::Known { row: OfferRow { seq: row.seq, ..new.clone() }, changed: true });
    }
    add(t, new, limits)
}

/// Takes in an offer of our own. One that waits already is the same one; one that is over makes room for it.
pub(crate) fn send(t: &Transaction<'_>, new: &OfferRow, limits: Limits) -> rusqlite::Result<Added> {
    if let Some(row) = open_of_content(t, new)? {
        return Ok(Added::Known { row, changed: false });
    }
    let added = add(t, new, limits)?;
    if let Added::New(row) = &added {
        let former =
            "DELETE FROM offers WHERE direction = ?1 AND username = ?2 AND content_id = ?3 AND state >= 2";
        let (direction, content) = (direction_word(row.direction), row.content_id.as_bytes());
        t.prepare_cached(former)?.execute(params![direction, row.username.as_str(), content])?;
    }
    Ok(added)
}

fn open_of_content(t: &Transaction<'_>, new: &OfferRow) -> rusqlite::Result<Option<OfferRow>> {
    let sql = format!(
        "{SELECT} WHERE direction = ?1 AND username = ?2 AND content_id = ?3 AND account = ?4 AND state < 2 LIMIT 1"
    );
    let (direction, content) = (direction_word(new.direction), new.content_id.as_bytes());
    one(t, &sql, params![direction, new.username.as_str(), content, new.account.as_str()])
}

fn add(t: &Transaction<'_>, new: &OfferRow, limits: Limits) -> rusqlite::Result<Added> {
    let direction = direction_word(new.direction);
    let open_of_one = "SELECT count(*) FROM offers WHERE direction = ?1 AND username = ?2 AND state < 2";
    let open = "SELECT count(*) FROM offers WHERE direction = ?1 AND state < 2";
    let kept = "SELECT count(*) FROM offers WHERE direction = ?1";
    if count(t, open_of_one, params![direction, new.username.as_str()])? >= limits.open_of_one {
        return Ok(Added::Full("open offers of one user"));
    }
    if count(t, open, [direction])? >= limits.open {
        return Ok(Added::Full("open offers"));
    }
    if count(t, kept, [direction])? >= limits.kept {
        return Ok(Added::Full("offers kept"));
    }
    t.prepare_cached(
        "INSERT INTO offers (direction, token, account, username, peer_id, content_id, name, size, state, offered_at,
         why, download_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        direction,
        new.token,
        new.account.as_str(),
        new.username.as_str(),
        new.peer_id.as_ref().map(PeerId::as_bytes),
        new.content_id.as_bytes(),
        new.name.as_str(),
        new.size.cast_signed(),
        state_word(new.state),
        new.offered_at,
        new.why,
        new.download_id,
    ])?;
    Ok(Added::New(OfferRow { seq: t.last_insert_rowid().cast_unsigned(), ..new.clone() }))
}

fn count(t: &Transaction<'_>, sql: &str, key: impl rusqlite::Params) -> rusqlite::Result<u64> {
    t.prepare_cached(sql)?.query_row(key, |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// Moves an offer on, if it is still in the state it was in. `None` where it is not: the world has moved.
pub(crate) fn advance(
    t: &Transaction<'_>,
    from: &OfferRow,
    to: &OfferRow,
) -> rusqlite::Result<Option<OfferRow>> {
    let changed = t
        .prepare_cached(
            "UPDATE offers SET state = ?3, peer_id = ?4, why = ?5, download_id = ?6
             WHERE seq = ?1 AND state = ?2",
        )?
        .execute(params![
            from.seq.cast_signed(),
            state_word(from.state),
            state_word(to.state),
            to.peer_id.as_ref().map(PeerId::as_bytes),
            to.why,
            to.download_id,
        ])?;
    Ok((changed == 1).then(|| to.clone()))
}

/// Ends the open offers made at or before `until`, at most `limit` at once, and forgets the oldest of those that are
/// over beyond `kept` of each direction. What has ended.
pub(crate) fn sweep(
    t: &Transaction<'_>,
    until: i64,
    limit: usize,
    kept: u64,
) -> rusqlite::Result<Vec<OfferRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut ended = many(
        t,
        &format!("{SELECT} WHERE state < 2 AND offered_at <= ?1 ORDER BY seq LIMIT ?2"),
        params![until, limit],
    )?;
    let mut end = t.prepare_cached("UPDATE offers SET state = ?2 WHERE seq = ?1")?;
    for row in &mut ended {
        row.state = OfferState::Expired;
        end.execute(params![row.seq.cast_signed(), state_word(row.state)])?;
    }
    for direction in [OfferDirection::Received, OfferDirection::Sent].map(direction_word) {
        t.prepare_cached(
            "DELETE FROM offers WHERE direction = ?1 AND state >= 2 AND seq <= (
                 SELECT seq FROM offers WHERE direction = ?1 AND state >= 2 ORDER BY seq DESC LIMIT 1 OFFSET ?2
             )",
        )?
        .execute(params![direction, kept.cast_signed()])?;
    }
    Ok(ended)
}

pub(crate) fn get(c: &Connection, seq: u64) -> rusqlite::Result<Option<OfferRow>> {
    one(c, &format!("{SELECT} WHERE seq = ?1"), [seq.cast_signed()])
}

/// The offer that was given this id.
pub(crate) fn by_token(
    c: &Connection,
    direction: OfferDirection,
    token: &[u8; 16],
) -> rusqlite::Result<Option<OfferRow>> {
    one(
        c,
        &format!("{SELECT} WHERE direction = ?1 AND token = ?2"),
        params![direction_word(direction), token],
    )
}

/// The newest first, from below `before` on.
pub(crate) fn page(
    c: &Connection,
    direction: OfferDirection,
    state: Option<OfferState>,
    before: Option<u64>,
    limit: usize,
) -> rusqlite::Result<Vec<OfferRow>> {
    let before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
    let sql = format!(
        "{SELECT} WHERE direction = ?1 AND seq < ?2 AND (?3 IS NULL OR state = ?3) ORDER BY seq DESC LIMIT ?4"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    many(c, &sql, params![direction_word(direction), before, state.map(state_word), limit])
}

/// Users for whom something of `account` waits, after `after` in the order of their names.
pub(crate) fn waited_for(
    c: &Connection,
    account: &Username,
    after: Option<&Username>,
    limit: usize,
) -> rusqlite::Result<Vec<Username>> {
    let mut statement = c.prepare_cached(
        "SELECT DISTINCT username FROM offers
         WHERE direction = 1 AND state < 2 AND username > ?1 AND account = ?2 ORDER BY username LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let key = params![after.map_or("", Username::as_str), account.as_str(), limit];
    let names = statement.query_map(key, |row| row.get::<_, String>(0))?;
    Ok(names.collect::<rusqlite::Result<Vec<_>>>()?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// What `account` offered to a user and could not tell yet, the oldest first.
pub(crate) fn waiting_for(
    c: &Connection,
    account: &Username,
    username: &Username,
    limit: usize,
) -> rusqlite::Result<Vec<OfferRow>> {
    let sql = format!(
        "{SELECT} WHERE direction = 1 AND username = ?1 AND state < 2 AND account = ?2 ORDER BY seq LIMIT ?3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    many(c, &sql, params![username.as_str(), account.as_str(), limit])
}

const SELECT: &str =
    "SELECT seq, direction, token, account, username, peer_id, content_id, name, size, state,
    offered_at, why, download_id FROM offers";

fn one(c: &Connection, sql: &str, key: impl rusqlite::Params) -> rusqlite::Result<Option<OfferRow>> {
    Ok(c.prepare_cached(sql)?.query_row(key, |row| Ok(read(row))).optional()?.flatten())
}

fn many(c: &Connection, sql: &str, key: impl rusqlite::Params) -> rusqlite::Result<Vec<OfferRow>> {
    let mut statement = c.prepare_cached(sql)?;
    let rows = statement.query_map(key, |row| Ok(read(row)))?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// A row that this program cannot read is left out, not a reason to show none.
fn read(row: &Row<'_>) -> Option<OfferRow> {
    let peer_id: Option<[u8; 16]> = row.get("peer_id").ok()?;
    Some(OfferRow {
        seq: row.get::<_, i64>("seq").ok()?.cast_unsigned(),
        direction: match row.get("direction").ok()? {
            0 => OfferDirection::Received,
            _ => OfferDirection::Sent,
        },
        token: row.get("token").ok()?,
        account: row.get::<_, String>("account").ok()?.parse().ok()?,
        username: row.get::<_, String>("username").ok()?.parse().ok()?,
        peer_id: peer_id.map(PeerId::from_bytes),
        content_id: ContentId::from_bytes(row.get("content_id").ok()?),
        name: row.get::<_, String>("name").ok()?.parse().ok()?,
        size: row.get::<_, i64>("size").ok()?.cast_unsigned(),
        state: match row.get("state").ok()? {
            0 => OfferState::Waiting,
            1 => OfferState::Offered,
            2 => OfferState::Delivered,
            3 => OfferState::Accepted,
            4 => OfferState::Declined,
            _ => OfferState::Expired,
        },
        offered_at: row.get("offered_at").ok()?,
        why: row.get("why").ok()?,
        download_id: row.get("download_id").ok()?,
    })
}

fn direction_word(direction: OfferDirection) -> i64 {
    match direction {
        OfferDirection::Received => 0,
        OfferDirection::Sent => 1,
    }
}

fn state_word(state: OfferState) -> i64 {
    match state {
        OfferState::Waiting => 0,
        OfferState::Offered => 1,
        OfferState::Delivered => 2,
        OfferState::Accepted => 3,
        OfferState::Declined => 4,
        OfferState::Expired => 5,
    }
}
