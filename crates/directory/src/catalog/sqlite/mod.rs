//! The embedded catalog: one SQLite file in the data folder, and the default.
//!
//! One thread writes ([`writer`]), whoever asks reads ([`reader`]), and every peer stands in memory ([`roster`]). The file
//! belongs to one process. Where it cannot be written, reading goes on and writes fail, each with its error.

mod accounts;
mod delta;
mod frequencies;
mod groups;
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
    GroupName, PeerId, Username,
    rest::accounts::{Group, Revoked, SessionItem},
    rest::directory::{CatalogDelta, LocateReply, Located, PeerFile, PeerItem, ReportKind, SearchItem},
};

use self::{
    frequencies::Frequencies,
    groups::Groups,
    peers::Viewer,
    reader::Reader,
    roster::Roster,
    writer::{Shared, Writer},
};
use super::{
    Account, Answer, Bounds, Catalog, CatalogError, FilesCursor, Items, Login, Renewal, RevokedCursor,
    Search, SearchCursor, Session,
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
            let shared = Arc::new(Shared {
                roster: Roster::load(&conn)?,
                groups: Groups::load(&conn)?,
                frequencies: Frequencies::sample(&conn)?,
            });
            let writer = Writer::start(conn, shared.clone())?;
            Ok(Self { reader: Reader::new(path.clone()), shared, writer, bounds: Bounds::default() })
        };
        opened().with_context(|| format!("the catalog {} cannot be opened", path.display()))
    }

    fn viewer<'a>(&'a self, name: &'a Username) -> Viewer<'a> {
        Viewer { name, groups: &self.shared.groups }
    }

    fn row(&self, peer: PeerId) -> Result<i64, CatalogError> {
        self.shared.roster.peer(peer).map(|entry| entry.row).ok_or(CatalogError::NotFound("the peer"))
    }
}

/// The first `limit` items of those found, and where the next page starts if there are more.
fn first<T, C>(mut found: Vec<T>, limit: usize, key: impl Fn(&T) -> C) -> Items<T, C> {
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(key);
    Items { items: found, next }
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

    fn enable_account<'a>(&'a self, username: &'a Username) -> Answer<'a, ()> {
        let username = username.clone();
        Box::pin(self.writer.run(0, move |tx| accounts::enable_account(tx, &username)))
    }

    fn set_password<'a>(
        &'a self,
        username: &'a Username,
        password_hash: String,
        keep: Option<PeerId>,
        now: i64,
    ) -> Answer<'a, ()> {
        let username = username.clone();
        Box::pin(
            self.writer.run(0, move |tx| accounts::set_password(tx, &username, &password_hash, keep, now)),
        )
    }

    fn sessions<'a>(
        &'a self,
        username: &'a Username,
        after: Option<PeerId>,
        limit: usize,
        now: i64,
    ) -> Answer<'a, Items<SessionItem, PeerId>> {
        let mut open = self.shared.roster.of_account(username);
        open.retain(|entry| {
            entry.token.is_some()
                && leases::session_open(entry.last_seen.load(Relaxed), now)
                && after.is_none_or(|after| entry.peer_id > after)
        });
        open.sort_by_key(|entry| entry.peer_id);
        let items = open.iter().map(|entry| peers::session(entry, now)).collect();
        ready(Ok(first(items, limit, |item: &SessionItem| item.peer_id)))
    }

    fn end_session<'a>(&'a self, username: &'a Username, peer: PeerId, now: i64) -> Answer<'a, ()> {
        let username = username.clone();
        Box::pin(self.writer.run(0, move |tx| accounts::end_session(tx, &username, peer, now)))
    }

    fn trust_revision<'a>(&'a self, viewer: &'a Username) -> Answer<'a, u64> {
        ready(Ok(self.shared.groups.trust_revision(viewer)))
    }

    fn revoked(
        &self,
        after: Option<RevokedCursor>,
        limit: usize,
        now: i64,
    ) -> Answer<'_, Items<Revoked, RevokedCursor>> {
        let found = self.reader.read(|conn| accounts::revoked(conn, after.as_ref(), limit + 1, now));
        let key = |item: &Revoked| (item.username.clone(), item.peer_id);
        ready(found.map(|found| first(found, limit, key)))
    }

    fn create_group<'a>(&'a self, group: Group) -> Answer<'a, ()> {
        let Group { name, owner, members } = group;
        let members = members.into_iter().collect();
        Box::pin(self.writer.run(0, move |tx| groups::create(tx, &name, &owner, members)))
    }

    fn group<'a>(&'a self, name: &'a GroupName, viewer: &'a Username) -> Answer<'a, Option<Group>> {
        ready(Ok(self.shared.groups.seen_by(name, viewer).map(|group| group.to_rest(name))))
    }

    fn groups<'a>(
        &'a self,
        after: Option<GroupName>,
        limit: usize,
        viewer: &'a Username,
    ) -> Answer<'a, Items<Group, GroupName>> {
        let found = self.shared.groups.of(viewer, after.as_ref(), limit + 1);
        let found = found.into_iter().map(|(name, group)| group.to_rest(&name)).collect();
        ready(Ok(first(found, limit, |group: &Group| group.name.clone())))
    }

    fn set_member<'a>(
        &'a self,
        name: &'a GroupName,
        caller: &'a Username,
        member: &'a Username,
        belongs: bool,
    ) -> Answer<'a, ()> {
        let (name, caller, member) = (name.clone(), caller.clone(), member.clone());
        Box::pin(self.writer.run(0, move |tx| groups::set_member(tx, &name, &caller, &member, belongs)))
    }

    fn delete_group<'a>(&'a self, name: &'a GroupName, caller: &'a Username) -> Answer<'a, ()> {
        let (name, caller) = (name.clone(), caller.clone());
        Box::pin(self.writer.run(0, move |tx| groups::delete(tx, &name, &caller)))
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
        ready(
            self.reader.read(|conn| locate::locate(conn, &self.shared.roster, id, self.viewer(viewer), now)),
        )
    }

    fn locate_many<'a>(
        &'a self,
        ids: &'a [ContentId],
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, LocateReply> {
        let viewer = self.viewer(viewer);
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
            let (found, viewer) = (self.shared.roster.after(after, limit + 1), self.viewer(viewer));
            let items: Vec<PeerItem> =
                found.iter().map(|entry| peers::item(conn, entry, viewer, now)).collect::<Result<_, _>>()?;
            Ok(first(items, limit, |item| item.peer_id))
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
            found.truncate(limit + 1);
            let viewer = self.viewer(viewer);
            let items: Vec<PeerItem> =
                found.iter().map(|entry| peers::item(conn, entry, viewer, now)).collect::<Result<_, _>>()?;
            Ok(first(items, limit, |item| item.peer_id))
        }))
    }

    fn peer<'a>(&'a self, peer: PeerId, viewer: &'a Username, now: i64) -> Answer<'a, Option<PeerItem>> {
        let Some(entry) = self.shared.roster.peer(peer) else { return ready(Ok(None)) };
        ready(self.reader.read(|conn| peers::item(conn, &entry, self.viewer(viewer), now)).map(Some))
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
        ready(self.reader.read(|conn| peers::files(conn, &entry, after, limit, self.viewer(viewer))))
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
            let holder = self.shared.roster.peer(holder).ok_or(CatalogError::NotFound("the holder"))?;
            let shared = self.shared.clone();
            let report = move |tx: &mut writer::Tx<'_>| {
                locate::report(tx, &shared.groups, &id, &holder, &reporter, counts)
            };
            self.writer.run(0, report).await
        })
    }
}
