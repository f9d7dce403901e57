//! What the directory should hold, told in portions that build upon each other.
//!
//! One row for each (content, name), whole or in part, with the *revision* of its last change; what was withdrawn
//! stays as a tombstone until the directory has acknowledged it. Every change of a row takes the next revision, so the
//! rows after revision *r*, in order, are exactly what a directory at *r* lacks, and a portion ends at the revision of
//! its last row. A lost answer costs nothing: the directory says what it holds and the next portion starts there.
//!
//! Three numbers decide what a directory at `held` gets:
//!
//! - *newest*: the last revision given. A new store starts at the milliseconds since 1970, so that the revisions of a
//!   store that was lost lie below those of its successor and are never mistaken for them.
//! - *floor*: the highest tombstone that was dropped. A directory below it may hold what nobody remembers removing.
//! - So `floor ≤ held ≤ newest` gets the rows after `held`; every other gets a full announcement: `reset`, then plain
//!   portions. For that all live rows take new revisions above both `newest` and `held` (*restamp*), unless all lie
//!   above the floor already, as they do when the reset itself was lost.

use content::ContentId;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use wire::rest::{
    Audience,
    directory::{CatalogDelta, CatalogKey, CatalogPut},
};

use super::tables::{audience_of, id_of, text};

const NEWEST: &str = "announce.newest";
const FLOOR: &str = "announce.floor";
/// Beyond this a JSON reader that keeps numbers as doubles errs; a directory that claims more is not followed there.
const MAX_REVISION: u64 = 1 << 53;
/// How far at most the numbers leap where they follow a directory's. Stores that follow the same number seldom meet.
const LEAP: u64 = 1 << 32;

/// What [`next`] found.
#[derive(Debug)]
pub(super) enum Next {
    UpToDate,
    Delta(CatalogDelta),
    /// A full announcement is due, and the rows must take new revisions first: [`restamp`].
    Restamp,
}

/// A row as it should be announced.
#[derive(Debug, Clone)]
pub(super) struct Announced {
    pub(super) content_id: ContentId,
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) media_type: Option<String>,
    pub(super) pieces_held: u32,
    pub(super) audience: Audience,
}

/// Changes rows within one transaction, and gives each the next revision.
pub(super) struct Announcer<'a> {
    tx: &'a Transaction<'a>,
    before: u64,
    newest: u64,
}

impl<'a> Announcer<'a> {
    pub(super) fn begin(tx: &'a Transaction<'a>) -> rusqlite::Result<Self> {
        let newest = number(tx, NEWEST)?;
        Ok(Self { tx, before: newest, newest })
    }

    /// Puts a row, unless it is announced like this already.
    pub(super) fn put(&mut self, row: &Announced) -> rusqlite::Result<()> {
        let audience = match &row.audience {
            Audience::Network => None,
            users @ Audience::Users(_) => Some(text(users)),
        };
        let changed = self
            .tx
            .prepare_cached(
                "INSERT INTO announcements VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7)
                 ON CONFLICT (content_id, name) DO UPDATE SET revision = excluded.revision, removed = 0,
                     size = excluded.size, media_type = excluded.media_type,
                     pieces_held = excluded.pieces_held, audience = excluded.audience
                 WHERE removed = 1 OR size <> excluded.size OR media_type IS NOT excluded.media_type
                     OR pieces_held <> excluded.pieces_held OR audience IS NOT excluded.audience",
            )?
            .execute(params![
                (self.newest + 1).cast_signed(),
                row.content_id.as_bytes(),
                row.name,
                row.size.cast_signed(),
                row.media_type,
                row.pieces_held,
                audience,
            ])?;
        self.newest += changed as u64;
        Ok(())
    }

    /// Leaves a tombstone, unless there is nothing or one already.
    pub(super) fn remove(&mut self, id: &ContentId, name: &str) -> rusqlite::Result<()> {
        let changed = self
            .tx
            .prepare_cached(
                "UPDATE announcements SET revision = ?1, removed = 1
                 WHERE content_id = ?2 AND name = ?3 AND removed = 0",
            )?
            .execute(params![(self.newest + 1).cast_signed(), id.as_bytes(), name])?;
        self.newest += changed as u64;
        Ok(())
    }

    /// The newest revision after all.
    pub(super) fn finish(self) -> rusqlite::Result<u64> {
        if self.newest != self.before {
            set_number(self.tx, NEWEST, self.newest)?;
        }
        Ok(self.newest)
    }
}

/// The newest revision; in a new store, one that no store before it had.
pub(super) fn first_revision(tx: &Transaction<'_>, born: u64) -> rusqlite::Result<u64> {
    let newest = number(tx, NEWEST)?;
    if newest > 0 {
        return Ok(newest);
    }
    let first = born.clamp(1, MAX_REVISION / 2);
    set_number(tx, NEWEST, first)?;
    set_number(tx, FLOOR, first)?;
    Ok(first)
}

/// What a directory at `held` is told next.
pub(super) fn next(connection: &Connection, held: u64, max: usize) -> rusqlite::Result<Next> {
    // One snapshot for all the questions.
    let connection = connection.unchecked_transaction()?;
    let (newest, floor) = (number(&connection, NEWEST)?, number(&connection, FLOOR)?);
    if (floor..=newest).contains(&held) {
        let delta = rows_after(&connection, held, max)?;
        return Ok(if delta.revision == held { Next::UpToDate } else { Next::Delta(delta) });
    }
    let first: Option<i64> = connection
        .prepare_cached("SELECT min(revision) FROM announcements WHERE removed = 0")?
        .query_row([], |row| row.get(0))?;
    match first {
        // Nothing is shared: where the directory holds nothing either, there is nothing to say.
        None if held == 0 => Ok(Next::UpToDate),
        Some(first) if first.cast_unsigned() > floor && held < newest => {
            let delta = rows_after(&connection, floor, max)?;
            Ok(Next::Delta(CatalogDelta {
                reset: true,
                base_revision: held.min(delta.revision - 1),
                ..delta
            }))
        }
        _ => Ok(Next::Restamp),
    }
}

/// Gives every live row a new revision above `held` and all others, drops the tombstones, and builds the first portion
/// of a full announcement. With it, the newest revision.
pub(super) fn restamp(tx: &Transaction<'_>, held: u64, max: usize) -> rusqlite::Result<(CatalogDelta, u64)> {
    let newest = number(tx, NEWEST)?;
    // A number that is not ours may be followed again by a store that loses this one, for another directory: not to the
    // same place.
    let floor = if held > newest && held < MAX_REVISION - LEAP {
        held + rand::random_range(1..=LEAP)
    } else {
        newest + 1
    };
    tx.execute("DELETE FROM announcements WHERE removed = 1", [])?;
    let first: Option<i64> = tx.query_row("SELECT min(revision) FROM announcements", [], |row| row.get(0))?;
    let mut last = floor;
    if let Some(first) = first {
        // All move up by more than the width of their range, so no row meets another on the way.
        let up = floor.cast_signed() + 1 - first;
        tx.execute("UPDATE announcements SET revision = revision + ?1", [up])?;
        let max: i64 = tx.query_row("SELECT max(revision) FROM announcements", [], |row| row.get(0))?;
        last = max.cast_unsigned();
    }
    set_number(tx, FLOOR, floor)?;
    set_number(tx, NEWEST, last)?;
    let delta = rows_after(tx, floor, max)?;
    Ok((CatalogDelta { reset: true, base_revision: held.min(floor - 1), ..delta }, last))
}

/// Whether there is a tombstone up to `revision`.
pub(super) fn has_tombstones(connection: &Connection, revision: u64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM announcements WHERE removed = 1 AND revision <= ?1)")?
        .query_row([signed(revision)], |row| row.get(0))
}

/// Drops the tombstones up to `revision`, which the directory has acknowledged.
pub(super) fn drop_tombstones(tx: &Transaction<'_>, revision: u64) -> rusqlite::Result<()> {
    if revision > number(tx, NEWEST)? {
        return Ok(()); // no answer to anything that this store has announced
    }
    let last: Option<i64> = tx
        .prepare_cached("SELECT max(revision) FROM announcements WHERE removed = 1 AND revision <= ?1")?
        .query_row([signed(revision)], |row| row.get(0))?;
    let Some(last) = last else { return Ok(()) };
    tx.prepare_cached("DELETE FROM announcements WHERE removed = 1 AND revision <= ?1")?
        .execute([signed(revision)])?;
    set_number(tx, FLOOR, number(tx, FLOOR)?.max(last.cast_unsigned()))
}

/// The rows after `held`, in order, as a delta that ends with the last of them.
fn rows_after(connection: &Connection, held: u64, max: usize) -> rusqlite::Result<CatalogDelta> {
    let mut delta = CatalogDelta { base_revision: held, revision: held, ..CatalogDelta::default() };
    let mut query = connection.prepare_cached(
        "SELECT revision, content_id, name, removed, size, media_type, pieces_held, audience
         FROM announcements WHERE revision > ?1 ORDER BY revision LIMIT ?2",
    )?;
    let mut rows = query.query(params![signed(held), i64::try_from(max).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        delta.revision = row.get::<_, i64>(0)?.cast_unsigned();
        if row.get(3)? {
            delta.remove.push(CatalogKey { content_id: id_of(row, 1)?, name: row.get(2)? });
        } else {
            delta.put.push(put_of(row)?);
        }
    }
    Ok(delta)
}

fn put_of(row: &Row<'_>) -> rusqlite::Result<CatalogPut> {
    let audience = row.get_ref(7)?.as_str_or_null()?;
    Ok(CatalogPut {
        content_id: id_of(row, 1)?,
        name: row.get(2)?,
        size: row.get::<_, i64>(4)?.cast_unsigned(),
        media_type: row.get(5)?,
        pieces_held: row.get(6)?,
        audience: audience.map(|text| audience_of(Some(text))),
    })
}

/// A revision as a column has it. Larger ones are larger than all.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn number(connection: &Connection, key: &str) -> rusqlite::Result<u64> {
    let value: Option<i64> = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(value.unwrap_or(0).cast_unsigned())
}

fn set_number(tx: &Transaction<'_>, key: &str, value: u64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
        .execute(params![key, value.cast_signed()])?;
    Ok(())
}
