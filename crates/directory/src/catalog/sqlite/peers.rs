//! Peers, and their files.

use rusqlite::Connection;
use std::sync::atomic::Ordering::Relaxed;
use wire::{
    Username,
    rest::{
        accounts::SessionItem,
        directory::{PeerFile, PeerItem},
    },
};

use super::{groups::Groups, locate::time, roster::Entry};
use crate::catalog::{FilesCursor, Items};

/// Rows that one page looks at; what is hidden from the viewer is passed over.
const MAX_LOOKED_AT: usize = 20_000;

/// Who asks, and which groups there are.
#[derive(Clone, Copy)]
pub(super) struct Viewer<'a> {
    pub(super) name: &'a Username,
    pub(super) groups: &'a Groups,
}

impl Viewer<'_> {
    /// Whether they may know of an entry that `owner` announced to `audience` (`,ana,@lab,`; nothing is everybody).
    pub(super) fn sees(self, audience: Option<&str>, owner: &Username) -> bool {
        let Some(audience) = audience else { return true };
        owner == self.name
            || audience.split(',').any(|entry| match entry.strip_prefix('@') {
                None => entry == self.name.as_str(),
                Some(group) => self.groups.admits(group, owner, self.name),
            })
    }
}

pub(super) fn item(
    conn: &Connection,
    entry: &Entry,
    viewer: Viewer<'_>,
    now: i64,
) -> rusqlite::Result<PeerItem> {
    let (files, restricted) = (entry.files.load(Relaxed), entry.restricted.load(Relaxed));
    let hidden = if restricted == 0 || entry.username == *viewer.name {
        0
    } else {
        restricted.saturating_sub(shown_restricted(conn, entry, viewer)?)
    };
    Ok(PeerItem {
        peer_id: entry.peer_id,
        username: entry.username.clone(),
        endpoints: entry.endpoints.clone(),
        online: entry.online(now),
        last_seen: time(entry.last_seen.load(Relaxed)),
        sealing_key: entry.sealing_key.clone(),
        relay: false,
        version: entry.version.clone(),
        files: files.saturating_sub(hidden),
    })
}

/// The session of a peer that has one.
pub(super) fn session(entry: &Entry, now: i64) -> SessionItem {
    SessionItem {
        peer_id: entry.peer_id,
        endpoints: entry.endpoints.clone(),
        version: entry.version.clone(),
        created: time(entry.logged_in_at),
        last_seen: time(entry.last_seen.load(Relaxed)),
        online: entry.online(now),
        current: false,
    }
}

/// How many restricted entries of this peer are for `viewer`.
fn shown_restricted(conn: &Connection, entry: &Entry, viewer: Viewer<'_>) -> rusqlite::Result<u64> {
    let mut statement = conn.prepare_cached(
        "SELECT audience FROM holdings INDEXED BY holdings_restricted WHERE peer = ?1 AND audience IS NOT NULL",
    )?;
    let mut rows = statement.query([entry.row])?;
    let mut shown = 0;
    while let Some(row) = rows.next()? {
        shown += u64::from(viewer.sees(row.get_ref(0)?.as_str_or_null()?, &entry.username));
    }
    Ok(shown)
}

pub(super) fn files(
    conn: &Connection,
    entry: &Entry,
    after: Option<FilesCursor>,
    limit: usize,
    viewer: Viewer<'_>,
) -> rusqlite::Result<Items<PeerFile, FilesCursor>> {
    let mut statement = conn.prepare_cached(
        "SELECT h.content, h.variant, h.audience, c.hash, c.name, c.size, c.media_type, h.pieces
         FROM holdings h INDEXED BY holdings_by_peer CROSS JOIN contents c ON c.id = h.content
         WHERE h.peer = ?1 AND (h.content, h.variant) > (?2, ?3) ORDER BY h.content, h.variant",
    )?;
    let mut other =
        conn.prepare_cached("SELECT name, size, media_type FROM variants WHERE content = ?1 AND no = ?2")?;
    let (content, variant) = after.unwrap_or((0, 0));
    let mut rows = statement.query([entry.row, content, if after.is_some() { variant } else { -1 }])?;
    let mut page = Items { items: Vec::new(), next: None };
    let mut last = (content, variant);
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        if looked_at > MAX_LOOKED_AT {
            page.next = Some(last);
            break;
        }
        let here: FilesCursor = (row.get(0)?, row.get(1)?);
        if viewer.sees(row.get_ref(2)?.as_str_or_null()?, &entry.username) {
            if page.items.len() == limit {
                page.next = Some(last);
                break;
            }
            let (name, size, media_type) = match here.1 {
                0 => (row.get(4)?, row.get(5)?, row.get(6)?),
                _ => other.query_row([here.0, here.1], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?,
            };
            page.items.push(PeerFile {
                content_id: content::ContentId::from_bytes(row.get(3)?),
                name,
                size,
                media_type,
                pieces_held: row.get(7)?,
            });
        }
        last = here;
    }
    Ok(page)
}
