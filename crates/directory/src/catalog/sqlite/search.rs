//! Searching: candidates in the order of results, each looked at until the page is full.
//!
//! Candidates come from the index. Only where a filter names holders with few files (one user's, or those few that are
//! online) they come from those peers' files instead, which are then fewer than what the index would nominate.
//!
//! Work is bounded: a request looks at so many candidates and no more. A page may therefore end early, with a cursor to
//! go on from; it happens only where a filter passes over nearly everything that the words find.

use std::{cmp::Reverse, collections::HashSet};

use content::{ContentId, Layout};
use rusqlite::{CachedStatement, Connection, Row, params};
use wire::{Username, rest::directory::SearchItem};

use super::{
    delta::signed,
    frequencies::Frequencies,
    index::{self, content_of, rank},
    peers::Viewer,
    roster::Roster,
    writer::Shared,
};
use crate::{
    catalog::{Items, Search, SearchCursor},
    words,
};

/// The most files of named holders that are looked through without the index.
const FEW_FILES: u64 = 4_000;
/// What one request may spend.
const BUDGET: u32 = 40_000;
/// Of that, to see that a candidate is not held by whom the filter names, and to look at it closely.
const GLANCE: u32 = 1;
const LOOK: u32 = 4;

pub(super) fn search(
    conn: &Connection,
    shared: &Shared,
    search: &Search,
    viewer: &Username,
    now: i64,
) -> rusqlite::Result<Items<SearchItem, SearchCursor>> {
    let roster = &shared.roster;
    let viewer = Viewer { name: viewer, groups: &shared.groups };
    let mut page = Page::new(conn, roster, search, viewer, now)?;
    if search.words.as_ref().is_some_and(words::Query::is_empty) {
        return Ok(page.done);
    }
    let few = page.named.as_ref().is_some_and(|peers| files_of(roster, peers) <= FEW_FILES);
    if few {
        let candidates = page.of_named(conn)?;
        for candidate in candidates {
            if !page.take(candidate)? {
                break;
            }
        }
        return Ok(page.done);
    }
    let mut statement =
        conn.prepare_cached("SELECT rowid FROM docs WHERE docs MATCH ?1 AND rowid > ?2 ORDER BY rowid")?;
    let mut rows =
        statement.query(params![expression(search, &shared.frequencies), search.after.unwrap_or(0)])?;
    while let Some(row) = rows.next()? {
        if !page.take(row.get(0)?)? {
            break;
        }
    }
    Ok(page.done)
}

/// What a document must have, in FTS5's words. Grams hold no quote, so nothing in them is an operator.
fn expression(search: &Search, frequencies: &Frequencies) -> String {
    let mut all: Vec<String> = Vec::new();
    if let Some(words) = &search.words {
        all.extend(words.grams(|gram| frequencies.of(gram)).into_iter().map(|gram| format!("\"{gram}\"")));
    }
    if let Some(media_type) = &search.media_type {
        all.push(format!("\"{}\"", index::media_gram(media_type)));
    }
    let sizes = index::size_grams(search.min_size, search.max_size);
    if !sizes.is_empty() {
        all.push(format!(
            "({})",
            sizes.iter().map(|size| format!("\"{size}\"")).collect::<Vec<_>>().join(" OR ")
        ));
    }
    if all.is_empty() {
        all.push(format!("\"{}\"", index::ALL));
    }
    all.join(" AND ")
}

fn files_of(roster: &Roster, peers: &HashSet<i64>) -> u64 {
    let files =
        |row: &i64| roster.row(*row).map(|entry| entry.files.load(std::sync::atomic::Ordering::Relaxed));
    peers.iter().filter_map(files).sum()
}

/// A page as it fills.
struct Page<'a> {
    roster: &'a Roster,
    search: &'a Search,
    viewer: Viewer<'a>,
    now: i64,
    /// The peers of whom one must hold what is found; `None` where anybody may.
    named: Option<HashSet<i64>>,
    holds: CachedStatement<'a>,
    content: CachedStatement<'a>,
    others: CachedStatement<'a>,
    holdings: CachedStatement<'a>,
    budget: u32,
    last: SearchCursor,
    done: Items<SearchItem, SearchCursor>,
}

struct Variant {
    no: i64,
    name: String,
    media_type: Option<String>,
    size: u64,
    refs: i64,
    matches: bool,
}

impl<'a> Page<'a> {
    fn new(
        conn: &'a Connection,
        roster: &'a Roster,
        search: &'a Search,
        viewer: Viewer<'a>,
        now: i64,
    ) -> rusqlite::Result<Self> {
        let named: Option<HashSet<i64>> = match (&search.holder, search.online) {
            (None, false) => None,
            (Some(user), online) => Some(
                roster
                    .of_account(user)
                    .iter()
                    .filter(|peer| !online || peer.online(now))
                    .map(|peer| peer.row)
                    .collect(),
            ),
            (None, true) => Some(roster.online(now).iter().map(|peer| peer.row).collect()),
        };
        Ok(Self {
            roster,
            search,
            viewer,
            now,
            named,
            holds: conn.prepare_cached("SELECT peer FROM holdings WHERE content = ?1")?,
            content: conn.prepare_cached(
                "SELECT name, media_type, size, refs, others, hash FROM contents WHERE id = ?1",
            )?,
            others: conn
                .prepare_cached("SELECT name, media_type, size, refs, no FROM variants WHERE content = ?1")?,
            holdings: conn
                .prepare_cached("SELECT peer, variant, pieces, audience FROM holdings WHERE content = ?1")?,
            budget: BUDGET,
            last: 0,
            done: Items { items: Vec::new(), next: None },
        })
    }

    /// The candidates among the named peers' files.
    fn of_named(&self, conn: &Connection) -> rusqlite::Result<Vec<SearchCursor>> {
        let mut files = conn.prepare_cached(
            "SELECT h.content, c.holders FROM holdings h INDEXED BY holdings_by_peer
             CROSS JOIN contents c ON c.id = h.content WHERE h.peer = ?1",
        )?;
        let mut ranks = Vec::new();
        for peer in self.named.iter().flatten() {
            let mut rows = files.query([peer])?;
            while let Some(row) = rows.next()? {
                ranks.push(rank(row.get(1)?, row.get(0)?));
            }
        }
        let after = self.search.after.unwrap_or(0);
        ranks.retain(|rank| *rank > after);
        ranks.sort_unstable();
        ranks.dedup();
        Ok(ranks)
    }

    /// Looks at the next candidate. False when the page is done.
    fn take(&mut self, candidate: SearchCursor) -> rusqlite::Result<bool> {
        if self.budget < LOOK {
            self.done.next = Some(self.last);
            metrics::counter!("directory_searches_cut_short_total").increment(1);
            return Ok(false);
        }
        let content = content_of(candidate);
        if let Some(item) = self.look(content)? {
            if self.done.items.len() == self.search.limit {
                self.done.next = Some(self.last);
                return Ok(false);
            }
            self.done.items.push(item);
        }
        self.last = candidate;
        Ok(true)
    }

    /// The item, where the viewer may see it and it is what was searched for.
    fn look(&mut self, content: i64) -> rusqlite::Result<Option<SearchItem>> {
        if let Some(named) = &self.named {
            let mut rows = self.holds.query([content])?;
            let mut held = false;
            while let Some(row) = rows.next()? {
                self.budget = self.budget.saturating_sub(GLANCE);
                held |= named.contains(&row.get(0)?);
                if held {
                    break;
                }
            }
            if !held {
                return Ok(None);
            }
        }
        self.budget = self.budget.saturating_sub(LOOK);
        let Some((hash, mut variants)) = self.variants_of(content)? else { return Ok(None) };
        if variants.iter().all(|variant| !variant.matches) {
            return Ok(None);
        }
        let mut seen = Seen::default();
        let mut rows = self.holdings.query([content])?;
        while let Some(row) = rows.next()? {
            let peer: i64 = row.get(0)?;
            let Some(entry) = self.roster.row(peer) else { continue };
            if !self.viewer.sees(row.get_ref(3)?.as_str_or_null()?, &entry.username) {
                continue;
            }
            let no: i64 = row.get(1)?;
            let Some(at) = variants.iter().position(|variant| variant.no == no) else { continue };
            let (online, size) = (entry.online(self.now), variants[at].size);
            seen.add(peer, online, row.get(2)?, size);
            if variants[at].matches && self.named.as_ref().is_none_or(|named| named.contains(&peer)) {
                seen.claim(at, peer, online, size);
            }
        }
        drop(rows);
        let Some(best) = seen.best() else { return Ok(None) };
        let Variant { name, media_type, size, .. } = variants.swap_remove(best);
        Ok(Some(SearchItem {
            content_id: hash,
            name,
            size,
            media_type,
            holders: seen.holders,
            online: seen.online,
            complete: seen.complete,
        }))
    }

    /// The content's hash and its variants, those that most holders use first.
    fn variants_of(&mut self, content: i64) -> rusqlite::Result<Option<(ContentId, Vec<Variant>)>> {
        let mut variants = Vec::new();
        let mut rows = self.content.query([content])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let first = Variant::read(row, 0, self.search)?;
        if first.refs > 0 {
            variants.push(first);
        }
        let others: i64 = row.get(4)?;
        let hash = ContentId::from_bytes(row.get(5)?);
        if others > 0 {
            let mut rows = self.others.query([content])?;
            while let Some(row) = rows.next()? {
                variants.push(Variant::read(row, row.get(4)?, self.search)?);
            }
            variants.sort_by_key(|variant| (Reverse(variant.refs), variant.no));
        }
        Ok(Some((hash, variants)))
    }
}

impl Variant {
    fn read(row: &Row<'_>, no: i64, search: &Search) -> rusqlite::Result<Self> {
        let mut variant = Self {
            no,
            name: row.get(0)?,
            media_type: row.get(1)?,
            size: row.get(2)?,
            refs: row.get(3)?,
            matches: false,
        };
        variant.matches = matches(search, &variant);
        Ok(variant)
    }
}

fn matches(search: &Search, variant: &Variant) -> bool {
    let sizes = signed(search.min_size)..=signed(search.max_size);
    sizes.contains(&signed(variant.size))
        && search.media_type.as_deref().is_none_or(|wanted| is_of_type(variant.media_type.as_deref(), wanted))
        && search.words.as_ref().is_none_or(|words| words.matches(&words::fold(&variant.name)))
}

fn is_of_type(media_type: Option<&str>, wanted: &str) -> bool {
    let Some(media_type) = media_type else { return false };
    match wanted.strip_suffix('*') {
        Some(kind) => media_type.starts_with(kind),
        None => media_type == wanted,
    }
}

/// The holders of a content, as the viewer may know them. Rows come ordered by peer.
#[derive(Default)]
struct Seen {
    last: Option<i64>,
    holders: u32,
    online: u32,
    complete: bool,
    /// The sizes that holders of matching variants state: one, unless somebody is wrong.
    claims: Vec<Claim>,
}

/// A size, and who states it.
struct Claim {
    size: u64,
    online: u32,
    last: i64,
    /// The position of the best variant of this size.
    best: usize,
}

impl Seen {
    fn add(&mut self, peer: i64, online: bool, pieces: u32, size: u64) {
        if self.last != Some(peer) {
            self.last = Some(peer);
            self.holders += 1;
            self.online += u32::from(online);
        }
        self.complete |= online && Layout::new(size).is_ok_and(|layout| pieces >= layout.count());
    }

    /// `peer` holds the variant at `at`, which matches.
    fn claim(&mut self, at: usize, peer: i64, online: bool, size: u64) {
        let online = u32::from(online);
        match self.claims.iter_mut().find(|claim| claim.size == size) {
            None => self.claims.push(Claim { size, online, last: peer, best: at }),
            Some(claim) => {
                claim.best = claim.best.min(at);
                // Under however many names it holds it, a peer counts once.
                if std::mem::replace(&mut claim.last, peer) != peer {
                    claim.online += online;
                }
            }
        }
    }

    /// The position of the best variant, of the size that most holders state who are online.
    fn best(&self) -> Option<usize> {
        self.claims.iter().min_by_key(|claim| (Reverse(claim.online), claim.best)).map(|claim| claim.best)
    }
}
