//! Who holds a content. The hottest path of the directory: one statement per content, the rest from the roster.

use content::{ContentId, Layout};
use jiff::Timestamp;
use rusqlite::{Connection, params};
use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use wire::{
    Username,
    rest::directory::{Holder, HolderRef, LocateReply, Located, LocatedMany},
};

use super::{
    delta::key,
    groups::Groups,
    peers::{self, Viewer},
    roster::{Entry, Roster},
    writer::{JobError, Tx},
};
use crate::catalog::{CatalogError, MAX_HOLDERS, MAX_NAMES};

/// Holders that one content is answered with where many contents are asked for.
const MAX_HOLDERS_OF_MANY: usize = 32;

const HOLDINGS: &str = "SELECT h.peer, h.variant, h.pieces, h.reports, h.audience, c.name, c.size, c.id
    FROM contents c CROSS JOIN holdings h ON h.content = c.id WHERE c.key = ?1 AND c.hash = ?2";
/// Of a variant that does not stand in `contents`.
const OTHER: &str = "SELECT name, size FROM variants WHERE content = ?1 AND no = ?2";

struct Held {
    entry: Arc<Entry>,
    /// As this holder says it.
    size: u64,
    pieces: u32,
    reports: u32,
}

struct Variant {
    no: i64,
    name: String,
    size: u64,
    holders: u32,
}

/// What the viewer may know of a content.
struct Found {
    /// A hint; see [`likely_size`].
    size: u64,
    held: Vec<Held>,
    /// Those that most holders use first.
    variants: Vec<Variant>,
}

impl Held {
    /// How much of it the holder says to have: all of a small file is more than a part of a large one.
    fn extent(&self) -> u32 {
        let most = Layout::new(self.size).map_or(u32::MAX, Layout::count);
        if self.pieces >= most { u32::MAX } else { self.pieces }
    }

    fn pieces(&self) -> u32 {
        self.pieces.min(Layout::new(self.size).map_or(u32::MAX, Layout::count))
    }
}

/// The size that most holders state who are online; among equals, that of the best one. Each holder counts once,
/// under however many names it has the content. A hash has one size, so a second one is a mistake or a lie, and
/// which it is the peers find out.
fn likely_size(held: &[Held], now: i64) -> u64 {
    let [first, others @ ..] = held else { return 0 };
    if others.iter().all(|other| other.size == first.size) {
        return first.size;
    }
    let mut claims: Vec<(u64, u32, u32)> = Vec::new();
    for holder in held {
        let online = u32::from(holder.entry.online(now));
        match claims.iter_mut().find(|(size, ..)| *size == holder.size) {
            Some((_, ours, all)) => (*ours, *all) = (*ours + online, *all + 1),
            None => claims.push((holder.size, online, 1)),
        }
    }
    // The first of equals, and holders come best first.
    claims.into_iter().min_by_key(|(_, online, all)| Reverse((*online, *all))).map_or(0, |(size, ..)| size)
}

fn find(
    conn: &Connection,
    roster: &Roster,
    id: &ContentId,
    viewer: Viewer<'_>,
    now: i64,
    limit: usize,
) -> rusqlite::Result<Option<Found>> {
    let mut statement = conn.prepare_cached(HOLDINGS)?;
    let mut rows = statement.query(params![key(id), id.as_bytes()])?;
    let mut found = Found { size: 0, held: Vec::new(), variants: Vec::new() };
    while let Some(row) = rows.next()? {
        let Some(entry) = roster.row(row.get(0)?) else { continue };
        if !viewer.sees(row.get_ref(4)?.as_str_or_null()?, &entry.username) {
            continue;
        }
        let variant: i64 = row.get(1)?;
        let size = match found.variants.iter_mut().find(|known| known.no == variant) {
            Some(known) => {
                known.holders += 1;
                known.size
            }
            None => {
                let (name, size) = match variant {
                    0 => (row.get(5)?, row.get(6)?),
                    _ => conn
                        .prepare_cached(OTHER)?
                        .query_row([row.get(7)?, variant], |row| Ok((row.get(0)?, row.get(1)?)))?,
                };
                found.variants.push(Variant { no: variant, name, size, holders: 1 });
                size
            }
        };
        let (pieces, reports) = (row.get(2)?, row.get(3)?);
        match found.held.last_mut() {
            // A peer with the content under several names is one holder, and states one size.
            Some(last) if last.entry.row == entry.row => {
                if pieces > last.pieces {
                    (last.pieces, last.size) = (pieces, size);
                }
                last.reports = last.reports.max(reports);
            }
            _ => found.held.push(Held { entry, size, pieces, reports }),
        }
    }
    if found.held.is_empty() {
        return Ok(None);
    }
    found.variants.sort_by_key(|variant| (Reverse(variant.holders), variant.no));
    found
        .held
        .sort_by_key(|held| (!held.entry.online(now), held.reports, Reverse(held.extent()), held.entry.row));
    found.size = likely_size(&found.held, now);
    found.held.truncate(limit);
    Ok(Some(found))
}

pub(super) fn locate(
    conn: &Connection,
    roster: &Roster,
    id: &ContentId,
    viewer: Viewer<'_>,
    now: i64,
) -> rusqlite::Result<Option<Located>> {
    let Some(found) = find(conn, roster, id, viewer, now, MAX_HOLDERS)? else { return Ok(None) };
    let size = found.size;
    let holder = |held: Held| Holder {
        size: held.size,
        pieces_held: held.pieces(),
        peer_id: held.entry.peer_id,
        username: held.entry.username.clone(),
        endpoints: held.entry.endpoints.clone(),
        online: held.entry.online(now),
        last_seen: time(held.entry.last_seen.load(Relaxed)),
        sealing_key: held.entry.sealing_key.clone(),
        relay: false,
    };
    let mut names: Vec<String> = Vec::new();
    for variant in found.variants {
        // The same name may stand in several variants, with another media type or size.
        if names.len() < MAX_NAMES && !names.contains(&variant.name) {
            names.push(variant.name);
        }
    }
    Ok(Some(Located { content_id: *id, size, names, holders: found.held.into_iter().map(holder).collect() }))
}

pub(super) fn locate_many(
    conn: &Connection,
    roster: &Roster,
    ids: &[ContentId],
    viewer: Viewer<'_>,
    now: i64,
) -> rusqlite::Result<LocateReply> {
    let mut reply = LocateReply { items: Vec::with_capacity(ids.len()), peers: Vec::new() };
    let mut positions: HashMap<i64, u32> = HashMap::new();
    for id in ids {
        let Some(found) = find(conn, roster, id, viewer, now, MAX_HOLDERS_OF_MANY)? else { continue };
        let size = found.size;
        let mut holders = Vec::with_capacity(found.held.len());
        for held in found.held {
            let peer = match positions.get(&held.entry.row) {
                Some(&position) => position,
                None => {
                    let position = u32::try_from(reply.peers.len()).unwrap_or(u32::MAX);
                    reply.peers.push(peers::item(conn, &held.entry, viewer, now)?);
                    positions.insert(held.entry.row, position);
                    position
                }
            };
            holders.push(HolderRef { peer, size: held.size, pieces_held: held.pieces() });
        }
        let name = found.variants.into_iter().next().map(|variant| variant.name).unwrap_or_default();
        reply.items.push(LocatedMany { content_id: *id, size, name, holders });
    }
    Ok(reply)
}

/// Counts a report, once for each reporter. What the reporter may not see is not there.
///
/// A report that does not count is only checked.
pub(super) fn report(
    tx: &mut Tx<'_>,
    groups: &Groups,
    id: &ContentId,
    holder: &Entry,
    reporter: &Username,
    counts: bool,
) -> Result<(), JobError> {
    let viewer = Viewer { name: reporter, groups };
    let mut statement = tx.conn.prepare_cached(
        "SELECT c.id, h.audience FROM contents c JOIN holdings h ON h.content = c.id AND h.peer = ?3
         WHERE c.key = ?1 AND c.hash = ?2",
    )?;
    let mut rows = statement.query(params![key(id), id.as_bytes(), holder.row])?;
    let mut content: Option<i64> = None;
    while let Some(row) = rows.next()? {
        if viewer.sees(row.get_ref(1)?.as_str_or_null().map_err(rusqlite::Error::from)?, &holder.username) {
            content = Some(row.get(0)?);
        }
    }
    let Some(content) = content else { return Err(JobError::Refused(CatalogError::NotFound("the holder"))) };
    if !counts {
        return Ok(());
    }
    let new = tx
        .conn
        .prepare_cached("INSERT OR IGNORE INTO reports (content, peer, reporter) VALUES (?1, ?2, ?3)")?
        .execute(params![content, holder.row, reporter.as_str()])?;
    if new == 1 {
        tx.conn
            .prepare_cached("UPDATE holdings SET reports = reports + 1 WHERE content = ?1 AND peer = ?2")?
            .execute([content, holder.row])?;
    }
    Ok(())
}

pub(super) fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
