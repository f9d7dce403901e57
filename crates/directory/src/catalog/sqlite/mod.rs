//! The embedded catalog: one SQLite file in the data folder, and the default.
//!
//! One thread writes ([`writer`]), whoever asks reads ([`reader`]), and every peer stands in memory ([`roster`]). The file
//! belongs to one process. Where it cannot be written, reading goes on and writes fail, each with its error.

mod accounts;
mod delta;
mod frequencies;
mod index;
mod locate;
mod peers;
mod reader;
mod roster;
mod schema;
mod search;
#[cfg(test)]
mod tests;
mod writer;

use std::{path::Path, sync::Arc, sync::atomic::Ordering::Relaxed};

use anyhow::Context;
use content::ContentId;
use rusqlite::OptionalExtension;
use wire::{
    PeerId, Username,
    rest::directory::{CatalogDelta, LocateReply, Located, PeerFile, PeerItem, ReportKind, SearchItem},
};

use self::{
    frequencies::Frequencies,
    reader::Reader,
    roster::Roster,
    writer::{Shared, Writer},
};
use super::{
    Account, Answer, Bounds, Catalog, CatalogError, FilesCursor, Items, Login, Renewal, Search, SearchCursor,
    Session,
};
use crate::{leases, secrets::Digest256};

/// A catalog in one file.
#[derive(Debug)]
pub struct SqliteCatalog {
    reader: Reader,
    shared: Arc<Shared>,
    writer: Writer,
    bounds: Bounds,
}

impl SqliteCatalog {
    /// With other bounds than the usual ones.
    #[must_use]
    pub fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Opens the catalog in this folder, or makes it.
    ///
    /// # Errors
    /// A file that cannot be opened, or that is of another version.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("catalog.sqlite");
        let opened = || -> anyhow::Result<Self> {
            let conn = schema::open_writer(&path)?;
            let shared =
                Arc::new(Shared { roster: Roster::load(&conn)?, frequencies: Frequencies::sample(&conn)? });
            let writer = Writer::start(conn, shared.clone())?;
            Ok(Self { reader: Reader::new(path.clone()), shared, writer, bounds: Bounds::default() })
        };
        opened().with_context(|| format!("the catalog {} cannot be opened", path.display()))
    }

    fn row(&self, peer: PeerId) -> Result<i64, CatalogError> {
        self.shared.roster.peer(peer).map(|entry| entry.row).ok_or(CatalogError::NotFound("the peer"))
    }
}

/// An answer that is ready.
fn ready<'a, T: Send + 'a>(result: Result<T, CatalogError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Catalog for SqliteCatalog {
    fn ready(&self) -> Answer<'_, ()> {
        if !self.writer.alive() {
            return ready(Err(CatalogError::Broken("the writer has ended".to_owned())));
        }
        ready(
            self.reader
                .read(|conn| conn.query_row("SELECT 1 FROM contents LIMIT 1", [], |_| Ok(())).optional())
                .map(drop),
        )
    }

    fn create_account<'a>(
        &'a self,
        username: &'a Username,
        password_hash: String,
        invite: Option<Digest256>,
        now: i64,
    ) -> Answer<'a, ()> {
        let username = username.clone();
        Box::pin(
            self.writer
                .run(0, move |tx| accounts::create_account(tx, &username, &password_hash, invite, now)),
        )
    }

    fn account<'a>(&'a self, username: &'a Username) -> Answer<'a, Option<Account>> {
        ready(self.reader.read(|conn| {
            conn.prepare_cached("SELECT password_hash, disabled FROM accounts WHERE username = ?1")?
                .query_row([username.as_str()], |row| {
                    Ok(Account { password_hash: row.get(0)?, disabled: row.get(1)? })
                })
                .optional()
        }))
    }

    fn disable_account<'a>(&'a self, username: &'a Username, now: i64) -> Answer<'a, ()> {
        let username = username.clone();
        Box::pin(self.writer.run(0, move |tx| accounts::disable_account(tx, &username, now)))
    }

    fn create_invite(&self, invite: Digest256, uses: u32, expires_at: i64, now: i64) -> Answer<'_, ()> {
        Box::pin(self.writer.run(0, move |tx| accounts::create_invite(tx, invite, uses, expires_at, now)))
    }

    fn login(&self, login: Login) -> Answer<'_, u64> {
        let most = self.bounds.peers_per_account;
        Box::pin(self.writer.run(0, move |tx| accounts::login(tx, &login, most)))
    }

    fn session<'a>(&'a self, token: &'a Digest256, now: i64) -> Answer<'a, Option<Session>> {
        let open = |entry: &Arc<roster::Entry>| leases::session_open(entry.last_seen.load(Relaxed), now);
        let session = self
            .shared
            .roster
            .token(token)
            .filter(open)
            .map(|entry| Session { peer_id: entry.peer_id, username: entry.username.clone() });
        ready(Ok(session))
    }

    fn is_logged_in(&self, peer: PeerId, now: i64) -> Answer<'_, bool> {
        let open = |entry: Arc<roster::Entry>| {
            entry.token.is_some() && leases::session_open(entry.last_seen.load(Relaxed), now)
        };
        ready(Ok(self.shared.roster.peer(peer).is_some_and(open)))
    }

    fn online(&self, now: i64) -> Answer<'_, u64> {
        ready(Ok(self.shared.roster.online(now).len() as u64))
    }

    fn renew(&self, peer: PeerId, renewal: Renewal) -> Answer<'_, u64> {
        Box::pin(async move {
            let row = self.row(peer)?;
            self.writer.run(0, move |tx| accounts::renew(tx, row, &renewal)).await
        })
    }

    fn logout(&self, peer: PeerId, now: i64) -> Answer<'_, ()> {
        Box::pin(async move {
            let row = self.row(peer)?;
            self.writer.run(0, move |tx| accounts::logout(tx, row, now)).await
        })
    }

    fn apply(&self, peer: PeerId, delta: CatalogDelta) -> Answer<'_, u64> {
        Box::pin(async move {
            let entry = self.shared.roster.peer(peer).ok_or(CatalogError::NotFound("the peer"))?;
            let (row, bounds) = (entry.row, self.bounds);
            let files = |entry: Arc<roster::Entry>| entry.files.load(Relaxed);
            let all: u64 = self.shared.roster.of_account(&entry.username).into_iter().map(files).sum();
            // As committed: deltas that go on at the same time may pass the account's bound by what they bring.
            let elsewhere = all.saturating_sub(files(entry));
            let weight = u32::try_from(delta.put.len() + delta.remove.len()).unwrap_or(u32::MAX);
            self.writer.run(weight, move |tx| delta::apply(tx, row, delta, bounds, elsewhere)).await
        })
    }

    fn locate<'a>(
        &'a self,
        id: &'a ContentId,
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, Option<Located>> {
        ready(self.reader.read(|conn| locate::locate(conn, &self.shared.roster, id, viewer, now)))
    }

    fn locate_many<'a>(
        &'a self,
        ids: &'a [ContentId],
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, LocateReply> {
        ready(self.reader.read(|conn| locate::locate_many(conn, &self.shared.roster, ids, viewer, now)))
    }

    fn search<'a>(
        &'a self,
        search: &'a Search,
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, Items<SearchItem, SearchCursor>> {
        ready(self.reader.read(|conn| search::search(conn, &self.shared, search, viewer, now)))
    }

    fn peers<'a>(
        &'a self,
        after: Option<PeerId>,
        limit: usize,
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, Items<PeerItem, PeerId>> {
        ready(self.reader.read(|conn| {
            let mut found = self.shared.roster.after(after, limit + 1);
            let more = found.len() > limit;
            found.truncate(limit);
            let items: Vec<PeerItem> =
                found.iter().map(|entry| peers::item(conn, entry, viewer, now)).collect::<Result<_, _>>()?;
            let next = items.last().filter(|_| more).map(|last| last.peer_id);
            Ok(Items { items, next })
        }))
    }

    fn peers_of<'a>(
        &'a self,
        username: &'a Username,
        after: Option<PeerId>,
        limit: usize,
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, Items<PeerItem, PeerId>> {
        ready(self.reader.read(|conn| {
            let mut found = self.shared.roster.of_account(username);
            found.sort_by_key(|entry| entry.peer_id);
            found.retain(|entry| after.is_none_or(|after| entry.peer_id > after));
            let more = found.len() > limit;
            found.truncate(limit);
            let items: Vec<PeerItem> =
                found.iter().map(|entry| peers::item(conn, entry, viewer, now)).collect::<Result<_, _>>()?;
            let next = items.last().filter(|_| more).map(|last| last.peer_id);
            Ok(Items { items, next })
        }))
    }

    fn peer<'a>(&'a self, peer: PeerId, viewer: &'a Username, now: i64) -> Answer<'a, Option<PeerItem>> {
        let Some(entry) = self.shared.roster.peer(peer) else { return ready(Ok(None)) };
        ready(self.reader.read(|conn| peers::item(conn, &entry, viewer, now)).map(Some))
    }

    fn peer_files<'a>(
        &'a self,
        peer: PeerId,
        after: Option<FilesCursor>,
        limit: usize,
        viewer: &'a Username,
    ) -> Answer<'a, Items<PeerFile, FilesCursor>> {
        let Some(entry) = self.shared.roster.peer(peer) else {
            return ready(Err(CatalogError::NotFound("the peer")));
        };
        ready(self.reader.read(|conn| peers::files(conn, &entry, after, limit, viewer)))
    }

    fn report<'a>(
        &'a self,
        id: &'a ContentId,
        holder: PeerId,
        kind: ReportKind,
        reporter: &'a Username,
    ) -> Answer<'a, ()> {
        // A peer that one cannot reach may be reached by all others; it says nothing about what it holds.
        let counts = kind != ReportKind::Unreachable;
        let (id, reporter) = (*id, reporter.clone());
        Box::pin(async move {
            let row = self.row(holder).map_err(|_| CatalogError::NotFound("the holder"))?;
            self.writer.run(0, move |tx| locate::report(tx, &id, row, &reporter, counts)).await
        })
    }
}
