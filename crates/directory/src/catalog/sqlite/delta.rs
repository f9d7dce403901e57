//! Applying what changed in a peer's catalog.
//!
//! All of a delta or nothing: a savepoint takes back what a refused one had begun. Entries are applied in the order of
//! their hashes, so that neighbouring ones touch the same pages.

use content::ContentId;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use wire::rest::{
    Audience,
    directory::{CatalogDelta, CatalogKey, CatalogPut},
};

use super::{
    index,
    roster::Effect,
    writer::{JobError, Tx},
};
use crate::catalog::{Bounds, CatalogError, MAX_VARIANTS, class};

/// Applies `delta` to the catalog of the peer in `row`, whose account has as many files as `elsewhere` besides. The
/// revision that is then held.
pub(super) fn apply(
    tx: &mut Tx<'_>,
    row: i64,
    delta: CatalogDelta,
    bounds: Bounds,
    elsewhere: u64,
) -> Result<u64, JobError> {
    let first_new = *tx.next_content;
    tx.conn.prepare_cached("SAVEPOINT delta")?.execute([])?;
    match apply_inside(tx, row, delta, bounds, elsewhere) {
        Err(JobError::Refused(error)) => {
            tx.conn.execute_batch("ROLLBACK TO delta; RELEASE delta")?;
            tx.dirty.forget_from(first_new);
            Err(JobError::Refused(error))
        }
        Err(fatal) => Err(fatal),
        Ok((revision, effect)) => {
            tx.conn.prepare_cached("RELEASE delta")?.execute([])?;
            tx.effects.extend(effect);
            Ok(revision)
        }
    }
}

/// Forgets everything that a peer announced.
pub(super) fn clear(tx: &mut Tx<'_>, row: i64) -> Result<(), JobError> {
    let mut counts = Counts::default();
    let mut entries = Entries::prepare(tx.conn, row)?;
    let held: Vec<(i64, i64)> = tx
        .conn
        .prepare_cached("SELECT content, variant FROM holdings WHERE peer = ?1")?
        .query_map([row], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for of_one in held.chunk_by(|one, next| one.0 == next.0) {
        let content = of_one[0].0;
        let holders: u64 = tx
            .conn
            .prepare_cached("SELECT holders FROM contents WHERE id = ?1")?
            .query_row([content], |row| row.get(0))?;
        for &(_, variant) in of_one {
            entries.delete(tx, &mut counts, Place { content, variant, holders })?;
        }
        entries.leave(tx, content, holders)?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counts {
    files: i64,
    restricted: i64,
}

fn apply_inside(
    tx: &mut Tx<'_>,
    row: i64,
    mut delta: CatalogDelta,
    bounds: Bounds,
    elsewhere: u64,
) -> Result<(u64, Option<Effect>), JobError> {
    let (revision, mut files, mut restricted): (u64, i64, i64) = tx
        .conn
        .prepare_cached("SELECT revision, files, restricted FROM peers WHERE id = ?1")?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if delta.reset {
        clear(tx, row)?;
        (files, restricted) = (0, 0);
    } else if delta.revision == revision {
        return Ok((revision, None));
    } else if delta.base_revision != revision {
        return Err(JobError::Refused(CatalogError::Conflict { revision }));
    }
    let mut counts = Counts::default();
    let mut entries = Entries::prepare(tx.conn, row)?;
    for key in &delta.remove {
        entries.remove(tx, &mut counts, key)?;
    }
    // Stable: of two entries for the same name, the later one stays the later one.
    delta.put.sort_by_key(|put| put.content_id);
    for put in &delta.put {
        entries.put(tx, &mut counts, put)?;
    }
    files += counts.files;
    restricted += counts.restricted;
    // What makes a catalog smaller is always taken.
    if counts.files > 0 || delta.reset {
        check(u64::try_from(files).unwrap_or(0), elsewhere, bounds).map_err(JobError::Refused)?;
    }
    tx.conn
        .prepare_cached("UPDATE peers SET revision = ?2, files = ?3, restricted = ?4 WHERE id = ?1")?
        .execute(params![row, signed(delta.revision), files, restricted])?;
    let effect = Effect::Catalog {
        row,
        revision: delta.revision,
        files: u64::try_from(files).unwrap_or(0),
        restricted: u64::try_from(restricted).unwrap_or(0),
    };
    Ok((delta.revision, Some(effect)))
}

fn check(files: u64, elsewhere: u64, bounds: Bounds) -> Result<(), CatalogError> {
    let (setting, most, what) = if files > bounds.files_per_peer {
        ("DIRECTORY_MAX_FILES_PER_PEER", bounds.files_per_peer, "a peer announces")
    } else if files.saturating_add(elsewhere) > bounds.files_per_account {
        ("DIRECTORY_MAX_FILES_PER_ACCOUNT", bounds.files_per_account, "the peers of an account announce")
    } else {
        return Ok(());
    };
    metrics::counter!("directory_refusals_total", "reason" => "files").increment(1);
    Err(CatalogError::Full(format!("{what} at most {most} files here ({setting})")))
}

/// A row of `holdings`, and how many holders its content had before.
#[derive(Clone, Copy)]
struct Place {
    content: i64,
    variant: i64,
    holders: u64,
}

/// What is compared with the variants of a content.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    name: &'a str,
    media_type: Option<&'a str>,
    size: u64,
}

/// A content as it was found.
struct Known {
    content: i64,
    holders: u64,
    variants: Vec<Variant>,
}

struct Variant {
    no: i64,
    same_name: bool,
    same: bool,
}

/// The statements for one peer's entries, prepared once for many.
struct Entries<'c> {
    peer: i64,
    find: CachedStatement<'c>,
    new_content: CachedStatement<'c>,
    first_variant: CachedStatement<'c>,
    first_refs: CachedStatement<'c>,
    others: CachedStatement<'c>,
    new_variant: CachedStatement<'c>,
    new_holding: CachedStatement<'c>,
    variants: CachedStatement<'c>,
    mine: CachedStatement<'c>,
    again: CachedStatement<'c>,
    refs: CachedStatement<'c>,
    holders: CachedStatement<'c>,
    drop_holding: CachedStatement<'c>,
    drop_variant: CachedStatement<'c>,
    drop_content: CachedStatement<'c>,
    drop_reports: CachedStatement<'c>,
}

impl<'c> Entries<'c> {
    fn prepare(conn: &'c Connection, peer: i64) -> rusqlite::Result<Self> {
        let prepare = |sql| conn.prepare_cached(sql);
        Ok(Self {
            peer,
            find: prepare(
                "SELECT id, holders, others, refs, name = ?3, name = ?3 AND media_type IS ?4 AND size = ?5
                 FROM contents WHERE key = ?1 AND hash = ?2",
            )?,
            new_content: prepare(
                "INSERT INTO contents (id, key, hash, holders, name, media_type, size, refs, others)
                 VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, 1, 0)",
            )?,
            first_variant: prepare(
                "UPDATE contents SET name = ?2, media_type = ?3, size = ?4, refs = 1 WHERE id = ?1",
            )?,
            first_refs: prepare("UPDATE contents SET refs = refs + ?2 WHERE id = ?1 RETURNING refs")?,
            others: prepare("UPDATE contents SET others = others + ?2 WHERE id = ?1")?,
            new_variant: prepare(
                "INSERT INTO variants (content, no, name, media_type, size, refs) VALUES (?1, ?2, ?3, ?4, ?5, 1)",
            )?,
            new_holding: prepare(
                "INSERT INTO holdings (content, peer, variant, pieces, reports, audience) VALUES (?1, ?2, ?3, ?4, 0, ?5)",
            )?,
            variants: prepare(
                "SELECT no, name = ?2, name = ?2 AND media_type IS ?3 AND size = ?4 FROM variants WHERE content = ?1",
            )?,
            mine: prepare(
                "SELECT variant, audience IS NOT NULL FROM holdings WHERE content = ?1 AND peer = ?2",
            )?,
            again: prepare(
                "UPDATE holdings SET pieces = ?4, reports = 0, audience = ?5
                 WHERE content = ?1 AND peer = ?2 AND variant = ?3",
            )?,
            refs: prepare(
                "UPDATE variants SET refs = refs + ?3 WHERE content = ?1 AND no = ?2 RETURNING refs",
            )?,
            holders: prepare("UPDATE contents SET holders = ?2 WHERE id = ?1")?,
            drop_holding: prepare(
                "DELETE FROM holdings WHERE content = ?1 AND peer = ?2 AND variant = ?3 RETURNING audience IS NOT NULL",
            )?,
            drop_variant: prepare("DELETE FROM variants WHERE content = ?1 AND no = ?2")?,
            drop_content: prepare("DELETE FROM contents WHERE id = ?1")?,
            drop_reports: prepare("DELETE FROM reports WHERE content = ?1 AND peer = ?2")?,
        })
    }

    fn put(&mut self, tx: &mut Tx<'_>, counts: &mut Counts, put: &CatalogPut) -> Result<(), JobError> {
        let audience = audience_text(put.audience.as_ref());
        let wanted = Wanted { name: &put.name, media_type: put.media_type.as_deref(), size: put.size };
        let Some(Known { content, holders, variants: known }) = self.find(&put.content_id, wanted)? else {
            return self.put_new(tx, counts, put, audience.as_deref());
        };
        let mine: Vec<(i64, bool)> = self
            .mine
            .query_map([content, self.peer], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let same_name = |no: i64| known.iter().any(|variant| variant.no == no && variant.same_name);
        let wanted = known.iter().find(|variant| variant.same);
        let before = mine.iter().find(|(no, _)| same_name(*no)).copied();
        if let (Some((no, was_restricted)), Some(wanted)) = (before, wanted)
            && wanted.no == no
        {
            counts.restricted += i64::from(audience.is_some()) - i64::from(was_restricted);
            self.again.execute(params![content, self.peer, no, put.pieces_held, audience])?;
            self.drop_reports.execute([content, self.peer])?;
            return Ok(());
        }
        if wanted.is_none() && known.len() >= MAX_VARIANTS {
            return Err(JobError::Refused(CatalogError::Limit(format!(
                "the content {} has {MAX_VARIANTS} names, and no more are taken",
                put.content_id
            ))));
        }
        let variant = match wanted {
            Some(variant) => {
                self.add_refs(content, variant.no, 1)?;
                variant.no
            }
            None => {
                tx.dirty.changed(content, holders);
                self.add_variant(content, &known, put)?
            }
        };
        counts.files += 1;
        counts.restricted += i64::from(audience.is_some());
        self.new_holding.execute(params![content, self.peer, variant, put.pieces_held, audience])?;
        if let Some((old, _)) = before {
            self.delete(tx, counts, Place { content, variant: old, holders })?;
        }
        if mine.is_empty() {
            self.set_holders(tx, content, holders, holders + 1)?;
        }
        Ok(())
    }

    fn put_new(
        &mut self,
        tx: &mut Tx<'_>,
        counts: &mut Counts,
        put: &CatalogPut,
        audience: Option<&str>,
    ) -> Result<(), JobError> {
        let content = *tx.next_content;
        *tx.next_content += 1;
        self.new_content.execute(params![
            content,
            key(&put.content_id),
            put.content_id.as_bytes(),
            put.name,
            put.media_type,
            signed(put.size)
        ])?;
        counts.files += 1;
        counts.restricted += i64::from(audience.is_some());
        self.new_holding.execute(params![content, self.peer, 0, put.pieces_held, audience])?;
        tx.dirty.fresh(content, index::document(&put.name, put.media_type.as_deref(), put.size));
        Ok(())
    }

    /// An entry that is not there is removed already.
    fn remove(&mut self, tx: &mut Tx<'_>, counts: &mut Counts, key: &CatalogKey) -> Result<(), JobError> {
        let wanted = Wanted { name: &key.name, media_type: None, size: 0 };
        let Some(Known { content, holders, variants }) = self.find(&key.content_id, wanted)? else {
            return Ok(());
        };
        let mine: Vec<i64> =
            self.mine.query_map([content, self.peer], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let named = variants.iter().find(|variant| variant.same_name && mine.contains(&variant.no));
        let Some(&Variant { no: variant, .. }) = named else { return Ok(()) };
        self.delete(tx, counts, Place { content, variant, holders })?;
        if mine.len() == 1 {
            self.leave(tx, content, holders)?;
        }
        Ok(())
    }

    fn delete(&mut self, tx: &mut Tx<'_>, counts: &mut Counts, place: Place) -> Result<(), JobError> {
        let Place { content, variant, holders } = place;
        let restricted: bool =
            self.drop_holding.query_row([content, self.peer, variant], |row| row.get(0))?;
        counts.files -= 1;
        counts.restricted -= i64::from(restricted);
        if self.add_refs(content, variant, -1)? == 0 {
            if variant != 0 {
                self.drop_variant.execute([content, variant])?;
                self.others.execute([content, -1])?;
            }
            tx.dirty.changed(content, holders);
        }
        Ok(())
    }

    /// The peer holds nothing of this content any more.
    fn leave(&mut self, tx: &mut Tx<'_>, content: i64, holders: u64) -> Result<(), JobError> {
        self.drop_reports.execute([content, self.peer])?;
        self.set_holders(tx, content, holders, holders.saturating_sub(1))
    }

    fn set_holders(
        &mut self,
        tx: &mut Tx<'_>,
        content: i64,
        before: u64,
        after: u64,
    ) -> Result<(), JobError> {
        if after == 0 {
            self.drop_content.execute([content])?;
        } else {
            self.holders.execute(params![content, signed(after)])?;
        }
        if class(before) != class(after) {
            tx.dirty.changed(content, before);
        }
        Ok(())
    }

    fn add_refs(&mut self, content: i64, variant: i64, more: i64) -> rusqlite::Result<i64> {
        match variant {
            0 => self.first_refs.query_row([content, more], |row| row.get(0)),
            _ => self.refs.query_row([content, variant, more], |row| row.get(0)),
        }
    }

    /// The number of a new variant, which has one reference.
    fn add_variant(&mut self, content: i64, known: &[Variant], put: &CatalogPut) -> rusqlite::Result<i64> {
        let CatalogPut { name, media_type, size, .. } = put;
        if known.iter().all(|variant| variant.no != 0) {
            self.first_variant.execute(params![content, name, media_type, signed(*size)])?;
            return Ok(0);
        }
        let no = known.iter().map(|variant| variant.no + 1).max().unwrap_or(0);
        self.new_variant.execute(params![content, no, name, media_type, signed(*size)])?;
        self.others.execute([content, 1])?;
        Ok(no)
    }

    fn find(&mut self, id: &ContentId, wanted: Wanted<'_>) -> rusqlite::Result<Option<Known>> {
        let Wanted { name, media_type, size } = wanted;
        let found: Option<(i64, u64, i64, Option<Variant>)> = self
            .find
            .query_row(params![key(id), id.as_bytes(), name, media_type, signed(size)], |row| {
                let refs: i64 = row.get(3)?;
                let first = Variant { no: 0, same_name: row.get(4)?, same: row.get(5)? };
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, (refs > 0).then_some(first)))
            })
            .optional()?;
        let Some((content, holders, others, first)) = found else { return Ok(None) };
        let mut variants: Vec<Variant> = first.into_iter().collect();
        if others > 0 {
            let variant = |row: &rusqlite::Row<'_>| {
                Ok(Variant { no: row.get(0)?, same_name: row.get(1)?, same: row.get(2)? })
            };
            for other in self.variants.query_map(params![content, name, media_type, signed(size)], variant)? {
                variants.push(other?);
            }
        }
        Ok(Some(Known { content, holders, variants }))
    }
}

/// The part of a hash that is indexed.
pub(super) fn key(id: &ContentId) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// SQLite's integers are signed; sizes and revisions are checked to fit before they come here.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `,ana,@lab,`; nothing for everybody.
fn audience_text(audience: Option<&Audience>) -> Option<String> {
    let Audience::Users(users) = audience? else { return None };
    Some(users.iter().fold(",".to_owned(), |text, user| text + &user.to_string() + ","))
}
