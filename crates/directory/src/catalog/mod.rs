//! [`Catalog`]: accounts, sessions, and who has what. The directory's memory.
//!
//! A trait, because it has two homes: SQLite inside the process ([`sqlite`]), and a database that several directories
//! share. One suite, `conformance`, says what both must do, down to the order of results and the ends of pages.
//!
//! What every implementation promises:
//! - What was answered survives `kill -9` of the process.
//! - Time is an argument. Online is who holds a lease at `now`, see [`crate::leases`]; nothing needs to be swept.
//! - An entry with an audience exists, for everybody else, nowhere: not in results, not in counts. A group in an audience
//!   stands for those who belong to it now, and for nobody while the one who announced does not belong to it.
//! - Reading never waits for writing. When too much waits to be written, [`CatalogError::Busy`] says so at once.

use std::{fmt, future::Future, pin::Pin};

use content::ContentId;
use wire::{
    GroupName, PeerId, Username,
    rest::accounts::{Group, Revoked, SessionItem},
    rest::directory::{CatalogDelta, LocateReply, Located, PeerFile, PeerItem, ReportKind, SearchItem},
};

use crate::{secrets::Digest256, words};

#[cfg(test)]
mod conformance;
pub mod sqlite;

/// The most names of groups of one account, those of deleted groups counted: a name stays with its first owner.
pub const MAX_GROUPS_PER_OWNER: u64 = 200;
/// The most holders that one content is answered with, the online and whole ones first.
pub const MAX_HOLDERS: usize = 1_000;
/// The most names that one content is answered with.
pub const MAX_NAMES: usize = 100;
/// The most names (with their media types and sizes) that one content may have. A peer that brings one more is
/// refused.
pub const MAX_VARIANTS: usize = 1_000;

/// What one account may take of a catalog. Its operator sets it, so it is no part of what [`conformance`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Entries of one peer. More are refused with [`CatalogError::Full`].
    pub files_per_peer: u64,
    /// Entries of all peers of one account together, as above.
    pub files_per_account: u64,
    /// More are refused with [`CatalogError::Limit`].
    pub peers_per_account: u64,
}

/// A future of a catalog's answer. SQLite's is ready at once for everything that only reads.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CatalogError>> + Send + 'a>>;

/// Why the catalog did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error("the username is taken")]
    Taken,
    #[error("the name of the group is taken")]
    GroupTaken,
    #[error("only its owner changes a group")]
    NotYours,
    #[error("the invite is not valid, or used up")]
    Invite,
    #[error("{0} is not known")]
    NotFound(&'static str),
    /// The delta does not follow the revision that the catalog holds.
    #[error("the catalog of this peer is at revision {revision}")]
    Conflict { revision: u64 },
    /// A limit of this catalog, in words for the caller.
    #[error("{0}")]
    Limit(String),
    /// A peer or an account has as many entries as it may, in words for the caller.
    #[error("{0}")]
    Full(String),
    #[error("too much waits to be written")]
    Busy,
    #[error("the disk is full")]
    StorageFull,
    #[error("the catalog is broken: {0}")]
    Broken(String),
}

impl Default for Bounds {
    fn default() -> Self {
        Self { files_per_peer: 5_000_000, files_per_account: 10_000_000, peers_per_account: 1_000 }
    }
}

/// An account, as a login needs it.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub password_hash: String,
    pub disabled: bool,
}

/// A peer that logs in. Its former session ends.
#[derive(Clone)]
pub struct Login {
    pub peer_id: PeerId,
    pub username: Username,
    /// The one that the password was held against: if it is another one meanwhile, the login is refused.
    pub password_hash: String,
    pub token: Digest256,
    pub sealing_key: String,
    pub endpoints: Vec<String>,
    pub version: String,
    pub now: i64,
    pub lease_until: i64,
}

/// A peer that is heard of again. What it does not say stays as it was.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    pub endpoints: Option<Vec<String>>,
    pub sealing_key: Option<String>,
    pub now: i64,
    pub lease_until: i64,
}

/// Whose call this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub peer_id: PeerId,
    pub username: Username,
}

/// Where a page of the revoked ended.
pub type RevokedCursor = (Username, Option<PeerId>);

/// A search, with its words folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Without words, everything is listed.
    pub words: Option<words::Query>,
    /// `video/mp4`, or `video/*`.
    pub media_type: Option<String>,
    pub min_size: u64,
    pub max_size: u64,
    pub holder: Option<Username>,
    pub online: bool,
    pub limit: usize,
    pub after: Option<SearchCursor>,
}

/// Where a page of a search ended. Opaque to all but the catalog that gave it.
pub type SearchCursor = i64;

/// Where a page of a peer's files ended.
pub type FilesCursor = (i64, i64);

/// Items, and where the next page starts. A page may have fewer items than asked for and still not be the last: a
/// request looks at a bounded number of candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items<T, C> {
    pub items: Vec<T>,
    pub next: Option<C>,
}

/// What the directory remembers. See the module for what every implementation promises.
///
/// `viewer` is who asks; what is restricted to others is hidden from them. `relay` is left false in all answers: it
/// is not the catalog that knows.
pub trait Catalog: fmt::Debug + Send + Sync {
    /// Whether it can answer now.
    fn ready(&self) -> Answer<'_, ()>;

    /// Creates an account, and uses up one use of the invite, both or none. [`CatalogError::Taken`],
    /// [`CatalogError::Invite`].
    fn create_account<'a>(
        &'a self,
        username: &'a Username,
        password_hash: String,
        invite: Option<Digest256>,
        now: i64,
    ) -> Answer<'a, ()>;

    fn account<'a>(&'a self, username: &'a Username) -> Answer<'a, Option<Account>>;

    /// Ends all sessions of the account; their peers are offline at once, and revoked. Nobody logs in any more.
    fn disable_account<'a>(&'a self, username: &'a Username, now: i64) -> Answer<'a, ()>;

    /// The account may log in again; what was ended stays ended.
    fn enable_account<'a>(&'a self, username: &'a Username) -> Answer<'a, ()>;

    /// Sets another password, and ends and revokes all sessions but `keep`'s. [`CatalogError::NotFound`].
    fn set_password<'a>(
        &'a self,
        username: &'a Username,
        password_hash: String,
        keep: Option<PeerId>,
        now: i64,
    ) -> Answer<'a, ()>;

    /// The open sessions of an account, in the order of their peers' ids. `current` is left false.
    fn sessions<'a>(
        &'a self,
        username: &'a Username,
        after: Option<PeerId>,
        limit: usize,
        now: i64,
    ) -> Answer<'a, Items<SessionItem, PeerId>>;

    /// Ends the session of a peer of this account, and revokes the peer, also where it has logged out before.
    /// [`CatalogError::NotFound`] for a peer that is not of this account.
    fn end_session<'a>(&'a self, username: &'a Username, peer: PeerId, now: i64) -> Answer<'a, ()>;

    /// Another number than before whenever there are other revocations, or `viewer` sees other groups. From 1 to
    /// 2^53 - 1. It depends on nothing that `viewer` may not know.
    fn trust_revision<'a>(&'a self, viewer: &'a Username) -> Answer<'a, u64>;

    /// Whose certificates are to be refused: who was ended by force, or belonged to another account, and did not log in
    /// since. In the order of accounts and peers.
    fn revoked(
        &self,
        after: Option<RevokedCursor>,
        limit: usize,
        now: i64,
    ) -> Answer<'_, Items<Revoked, RevokedCursor>>;

    /// Makes a group. [`CatalogError::GroupTaken`], also by one that was deleted, unless it was the same owner's;
    /// [`CatalogError::Limit`] for too many, and for a member without an account.
    fn create_group<'a>(&'a self, group: Group) -> Answer<'a, ()>;

    /// The group, for who owns it or belongs to it.
    fn group<'a>(&'a self, name: &'a GroupName, viewer: &'a Username) -> Answer<'a, Option<Group>>;

    /// Those that `viewer` owns or belongs to, by name.
    fn groups<'a>(
        &'a self,
        after: Option<GroupName>,
        limit: usize,
        viewer: &'a Username,
    ) -> Answer<'a, Items<Group, GroupName>>;

    /// Takes somebody into a group or out of it, if `caller` is its owner. [`CatalogError::NotFound`] for the group, and
    /// for a new member without an account; [`CatalogError::NotYours`]; [`CatalogError::Limit`].
    fn set_member<'a>(
        &'a self,
        name: &'a GroupName,
        caller: &'a Username,
        member: &'a Username,
        belongs: bool,
    ) -> Answer<'a, ()>;

    /// Ends a group, if `caller` is its owner. [`CatalogError::NotFound`], [`CatalogError::NotYours`].
    fn delete_group<'a>(&'a self, name: &'a GroupName, caller: &'a Username) -> Answer<'a, ()>;

    /// Until `expires_at`, or until it was used as often as `uses`.
    fn create_invite(&self, invite: Digest256, uses: u32, expires_at: i64, now: i64) -> Answer<'_, ()>;

    /// Opens a session and grants its lease. The revision of the catalog that is held for this peer. A peer that
    /// belonged to another account changes hands, without its catalog: its key proves the peer, not the person.
    fn login(&self, login: Login) -> Answer<'_, u64>;

    /// Whose token this is, while its session is open.
    fn session<'a>(&'a self, token: &'a Digest256, now: i64) -> Answer<'a, Option<Session>>;

    /// Whether this peer has a session that is open.
    fn is_logged_in(&self, peer: PeerId, now: i64) -> Answer<'_, bool>;

    /// How many peers have a lease that lasts.
    fn online(&self, now: i64) -> Answer<'_, u64>;

    /// Extends the lease of an open session. The revision of its catalog.
    fn renew(&self, peer: PeerId, renewal: Renewal) -> Answer<'_, u64>;

    /// Ends a peer's session: it is offline at once.
    fn logout(&self, peer: PeerId, now: i64) -> Answer<'_, ()>;

    /// Applies a delta: all of it or nothing. A delta whose revision is the one that is held was applied already, and
    /// is answered like then. The entries are checked by the caller. [`CatalogError::Conflict`],
    /// [`CatalogError::Limit`].
    fn apply(&self, peer: PeerId, delta: CatalogDelta) -> Answer<'_, u64>;

    /// Who holds a content: online before offline, few reports before many, whole before part.
    fn locate<'a>(&'a self, id: &'a ContentId, viewer: &'a Username, now: i64)
    -> Answer<'a, Option<Located>>;

    fn locate_many<'a>(
        &'a self,
        ids: &'a [ContentId],
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, LocateReply>;

    /// What matches, the best held first: by the class of its number of holders ([`class`]), older before newer.
    fn search<'a>(
        &'a self,
        search: &'a Search,
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, Items<SearchItem, SearchCursor>>;

    /// Everybody, in the order of their ids.
    fn peers<'a>(
        &'a self,
        after: Option<PeerId>,
        limit: usize,
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, Items<PeerItem, PeerId>>;

    /// The peers of one account, in the order of their ids. None of an account that does not exist.
    fn peers_of<'a>(
        &'a self,
        username: &'a Username,
        after: Option<PeerId>,
        limit: usize,
        viewer: &'a Username,
        now: i64,
    ) -> Answer<'a, Items<PeerItem, PeerId>>;

    fn peer<'a>(&'a self, peer: PeerId, viewer: &'a Username, now: i64) -> Answer<'a, Option<PeerItem>>;

    /// A peer's catalog, in the order in which its contents became known. [`CatalogError::NotFound`].
    fn peer_files<'a>(
        &'a self,
        peer: PeerId,
        after: Option<FilesCursor>,
        limit: usize,
        viewer: &'a Username,
    ) -> Answer<'a, Items<PeerFile, FilesCursor>>;

    /// A peer that has not got what it announced, or sent something else. Each account counts once for each content
    /// and peer, until that peer announces it anew; the more reports, the later it is listed.
    /// [`CatalogError::NotFound`].
    fn report<'a>(
        &'a self,
        id: &'a ContentId,
        holder: PeerId,
        kind: ReportKind,
        reporter: &'a Username,
    ) -> Answer<'a, ()>;
}

/// The class by which results are ordered: exact up to four holders, then two classes for every doubling. So that a
/// content of a thousand holders was moved in the index twenty times, not a thousand.
pub fn class(holders: u64) -> u8 {
    if holders <= 4 {
        return u8::try_from(holders).unwrap_or(4);
    }
    let power = holders.ilog2();
    let upper_half = holders >= (1 << power) + (1 << (power - 1));
    u8::try_from(2 * power + u32::from(upper_half)).unwrap_or(u8::MAX)
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn classes_grow_with_the_number_of_holders() {
        let seen: Vec<u8> = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 1000, 1 << 40].map(class).into();
        assert_eq!(seen, [1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 19, 80]);
        assert!((1..100_000).all(|n| class(n) <= class(n + 1)));
    }
}
