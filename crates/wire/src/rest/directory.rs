//! The directory's REST: accounts, sessions, catalog, search, locate, peers, reports.

use content::ContentId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Audience;
use crate::{PeerId, Username};

/// The most entries of a [`CatalogDelta`], `put` and `remove` together.
pub const MAX_DELTA_ENTRIES: usize = 10_000;
/// The most content ids of a [`LocateRequest`].
pub const MAX_LOCATE: usize = 1_000;

/// `POST /v1/accounts`. `Debug` shows no password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRequest {
    pub username: Username,
    pub password: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountReply {
    pub username: Username,
}

/// `POST /v1/sessions`: a peer logs in. `Debug` shows no password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    pub username: Username,
    pub password: String,
    /// A certificate signing request for the peer's own Ed25519 key.
    pub csr_pem: String,
    /// The peer's X25519 public key for the relay, 64 hex digits.
    pub sealing_key: String,
    /// `host:port` of the peer's pserver, best first; none for a peer that takes no calls. At most 16.
    pub endpoints: Vec<String>,
    /// The peer's program version.
    pub version: String,
}

/// The answer holds the session's token: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReply {
    pub token: String,
    pub peer_id: PeerId,
    pub lease_seconds: u64,
    pub certificate_pem: String,
    pub ca_pem: String,
    /// The revision of this peer's catalog that the directory holds; 0 where it holds none.
    pub catalog_revision: u64,
    pub broker: Option<Broker>,
}

/// The relay's broker and how to log in there. `Debug` shows neither, as both may hold a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// `amqp://` or `amqps://`; several of one cluster, comma separated.
    pub url: String,
    /// Who to log in as, where the address does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Seconds until the password ends. A renewal of the lease brings the next one in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("username", &self.username).finish_non_exhaustive()
    }
}

/// `PUT /v1/sessions/current`: renews the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<String>>,
    /// Asks for a new certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr_pem: Option<String>,
    /// The peer's sealing key, where it is another one than at the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewReply {
    pub lease_seconds: u64,
    pub catalog_revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_pem: Option<String>,
    /// The broker as it is to be used from now on; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Broker>,
}

/// `POST /v1/catalog`: what changed in a peer's catalog since `base_revision`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogDelta {
    /// The revision that the directory must hold. Not looked at with `reset`.
    pub base_revision: u64,
    /// The revision after this delta; larger than `base_revision`.
    pub revision: u64,
    /// Forget everything of this peer first.
    #[serde(default)]
    pub reset: bool,
    #[serde(default)]
    pub put: Vec<CatalogPut>,
    #[serde(default)]
    pub remove: Vec<CatalogKey>,
}

/// A file that a peer holds, whole or in part. The same content under two names is two entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogPut {
    pub content_id: ContentId,
    /// Checked as a [`content::SafeName`] by the directory.
    pub name: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Fewer than the file has = a partial holder.
    pub pieces_held: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogKey {
    pub content_id: ContentId,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogReply {
    pub revision: u64,
}

/// The query of `GET /v1/search`, at the directory and at pclient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchQuery {
    /// Words in any order; each may be a prefix or a part of a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// `video/mp4`, or `video/*` for all of a kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// A username: only what this user's peers hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Username>,
    /// Only what somebody holds who is online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The query of a plain list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The query of `GET /v1/peers`, at the directory and at pclient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersQuery {
    /// Only the peers of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Username>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One content that a search found, under the name that matched best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchItem {
    pub content_id: ContentId,
    pub name: String,
    /// What most of the online holders say whose entries match. A hint, as in [`Located::size`].
    pub size: u64,
    pub media_type: Option<String>,
    /// Peers that hold it, whole or in part.
    pub holders: u32,
    /// Those of them that are online.
    pub online: u32,
    /// Whether somebody who is online holds all of it.
    pub complete: bool,
}

/// `GET /v1/files/{content_id}`: who holds a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    pub content_id: ContentId,
    /// What most holders that are online say. A hint: a content has one size, and only its proof says which.
    pub size: u64,
    pub names: Vec<String>,
    pub holders: Vec<Holder>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub peer_id: PeerId,
    pub username: Username,
    pub endpoints: Vec<String>,
    pub online: bool,
    /// What this holder says the content's size is; nobody else's word changes it.
    pub size: u64,
    /// Of a file of that size.
    pub pieces_held: u32,
    pub last_seen: Timestamp,
    pub sealing_key: String,
    /// Whether the network has a relay through which this peer can be asked.
    pub relay: bool,
}

/// `POST /v1/files/locate`: the holders of many contents at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocateRequest {
    /// 1 to 1,000.
    pub content_ids: Vec<ContentId>,
}

/// Those that were found, in the order asked. Each peer is described once; `holders` refers to it by position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocateReply {
    pub items: Vec<LocatedMany>,
    pub peers: Vec<PeerItem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatedMany {
    pub content_id: ContentId,
    /// As in [`Located::size`].
    pub size: u64,
    pub name: String,
    pub holders: Vec<HolderRef>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderRef {
    /// Position in [`LocateReply::peers`].
    pub peer: u32,
    /// What this holder says the content's size is.
    pub size: u64,
    pub pieces_held: u32,
}

/// `POST /v1/files/{content_id}/reports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub peer_id: PeerId,
    pub kind: ReportKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportKind {
    /// No connection could be made.
    Unreachable,
    /// It answered that it does not have the file.
    Missing,
    /// It sent bytes that are not the file's.
    Corrupt,
}

/// `GET /v1/peers`, `GET /v1/peers/{peer_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerItem {
    pub peer_id: PeerId,
    pub username: Username,
    pub endpoints: Vec<String>,
    pub online: bool,
    pub last_seen: Timestamp,
    pub sealing_key: String,
    pub relay: bool,
    pub version: String,
    /// Entries of its catalog that the caller may see.
    pub files: u64,
}

/// `GET /v1/peers/{peer_id}/files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFile {
    pub content_id: ContentId,
    pub name: String,
    pub size: u64,
    pub media_type: Option<String>,
    pub pieces_held: u32,
}

/// `POST /v1/invites` (admin).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// How many accounts it may create, 1 to 10,000.
    pub uses: u32,
    /// Seconds until it ends, at most a year.
    pub expires_in: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteReply {
    pub invite: String,
}

impl std::fmt::Debug for AccountRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountRequest").field("username", &self.username).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SessionRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRequest")
            .field("username", &self.username)
            .field("endpoints", &self.endpoints)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SessionReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionReply")
            .field("peer_id", &self.peer_id)
            .field("lease_seconds", &self.lease_seconds)
            .field("catalog_revision", &self.catalog_revision)
            .finish_non_exhaustive()
    }
}
