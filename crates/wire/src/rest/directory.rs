//! The directory's REST: accounts, sessions, catalog, search, locate, peers, reports.

use content::ContentId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::{
    Audience,
    schema::{Endpoint, FileName, ListedKey, MediaType, MediaTypes, Pem, SealingKey},
};
use crate::{PeerId, Username};

/// The most entries of a [`CatalogDelta`], `put` and `remove` together.
pub const MAX_DELTA_ENTRIES: usize = 10_000;
/// The most content ids of a [`LocateRequest`].
pub const MAX_LOCATE: usize = 1_000;

/// Somebody who wants to take part.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountRequest {
    pub username: Username,
    /// At least 8 characters, at most 1,024 bytes.
    #[schema(value_type = String, min_length = 8, max_length = 1024)]
    pub password: Zeroizing<String>,
    /// What an admin gave, where the directory creates accounts by invite only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub invite: Option<Zeroizing<String>>,
}

/// The account that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountReply {
    pub username: Username,
}

/// A peer logs in.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    pub username: Username,
    /// At most 1,024 bytes.
    #[schema(value_type = String, max_length = 1024)]
    pub password: Zeroizing<String>,
    /// A certificate signing request for the peer's own Ed25519 key.
    #[schema(value_type = Pem)]
    pub csr_pem: String,
    /// The peer's X25519 public key for the relay.
    #[schema(value_type = SealingKey)]
    pub sealing_key: String,
    /// Where the peer's pserver is reached, best first; none for a peer that takes no calls.
    #[schema(value_type = Vec<Endpoint>, max_items = 16)]
    pub endpoints: Vec<String>,
    /// The peer's program version: at most 64 bytes, no control characters.
    #[schema(max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub version: String,
}

/// A session, and what the peer needs in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionReply {
    /// What every further call carries as `Authorization: Bearer TOKEN`.
    pub token: String,
    /// The id of the peer's key.
    pub peer_id: PeerId,
    /// A peer that is silent for longer is offline.
    pub lease_seconds: u64,
    /// The peer's certificate, of the network's own authority.
    #[schema(value_type = Pem)]
    pub certificate_pem: String,
    /// The authority's own certificate.
    #[schema(value_type = Pem)]
    pub ca_pem: String,
    /// The revision of this peer's catalog that the directory holds; 0 where it holds none.
    pub catalog_revision: u64,
    /// What `GET /v1/trust` answers has changed when this is another number.
    #[serde(default)]
    #[schema(required, maximum = 9007199254740991u64)]
    pub trust_revision: u64,
    /// The relay's broker; null where there is none.
    #[schema(required)]
    pub broker: Option<Broker>,
}

/// The relay's broker and how to log in there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Broker {
    /// `amqp://` or `amqps://`; several of one cluster, comma separated.
    pub url: String,
    /// Who to log in as, where the address does not say. Where the directory is the broker's authority: to publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub username: Option<String>,
    /// The password there, where the address does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub password: Option<String>,
    /// Seconds until the password ends. A renewal of the lease brings the next one in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expires_in: Option<u64>,
    /// As whom to take messages, where that is somebody else than who publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub taking: Option<BrokerLogin>,
}

/// A user of the broker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokerLogin {
    /// The name there.
    pub username: String,
    /// The password there. It ends when the other one does.
    pub password: String,
}

impl std::fmt::Debug for BrokerLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A peer is still there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// Where the peer's pserver is reached, where that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Endpoint>>, max_items = 16)]
    pub endpoints: Option<Vec<String>>,
    /// Asks for a new certificate, for the key of this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Pem>)]
    pub csr_pem: Option<String>,
    /// The peer's sealing key, where it is another one than at the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SealingKey>)]
    pub sealing_key: Option<String>,
}

/// The lease, renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenewReply {
    /// A peer that is silent for longer is offline.
    pub lease_seconds: u64,
    /// The revision of this peer's catalog that the directory holds.
    pub catalog_revision: u64,
    /// What `GET /v1/trust` answers has changed when this is another number.
    #[serde(default)]
    #[schema(required, maximum = 9007199254740991u64)]
    pub trust_revision: u64,
    /// The new certificate, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Pem>, nullable = false)]
    pub certificate_pem: Option<String>,
    /// The broker as it is to be used from now on; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub broker: Option<Broker>,
}

/// What changed in a peer's catalog since `base_revision`: at most 10,000 entries, `put` and `remove` together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogDelta {
    /// The revision that the directory must hold. Not looked at with `reset`.
    #[schema(maximum = 9223372036854775807u64)]
    pub base_revision: u64,
    /// The revision after this delta; larger than `base_revision`.
    #[schema(minimum = 1, maximum = 9223372036854775807u64)]
    pub revision: u64,
    /// Forget everything of this peer first.
    #[serde(default)]
    pub reset: bool,
    /// Entries that are new, or other than before.
    #[serde(default)]
    #[schema(max_items = 10000)]
    pub put: Vec<CatalogPut>,
    /// Entries that are gone.
    #[serde(default)]
    #[schema(max_items = 10000)]
    pub remove: Vec<CatalogKey>,
}

/// A file that a peer holds, whole or in part. The same content under two names is two entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogPut {
    pub content_id: ContentId,
    /// What this holder calls it.
    #[schema(value_type = FileName)]
    pub name: String,
    /// Bytes: 4 TiB at most.
    #[schema(maximum = 4398046511104u64)]
    pub size: u64,
    /// What kind of file it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MediaType>)]
    pub media_type: Option<String>,
    /// Pieces of 1 MiB that it has. Fewer than the file has = a partial holder.
    #[schema(maximum = 4194304)]
    pub pieces_held: u32,
    /// Who may find and fetch it; the whole network where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
}

/// An entry of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogKey {
    pub content_id: ContentId,
    /// The name under which it was put.
    pub name: String,
}

/// The catalog after a delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogReply {
    /// The revision that the directory holds now.
    pub revision: u64,
}

/// The query of `GET /v1/search`, at the directory and at pclient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SearchQuery {
    /// Words in any order; each may be a prefix or a part of a word. At most 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 512)]
    pub q: Option<String>,
    /// `video/mp4`, or `video/*` for all of a kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<MediaTypes>, inline)]
    pub media_type: Option<String>,
    /// The least bytes; no more than `max_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 18446744073709551615u64)]
    pub min_size: Option<u64>,
    /// The most bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 18446744073709551615u64)]
    pub max_size: Option<u64>,
    /// A username: only what this user's peers hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub holder: Option<Username>,
    /// Only what somebody holds who is online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// The most items of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 4096, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
}

/// The query of a plain list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// The most items of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 4096, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
}

/// The query of `GET /v1/peers`, at the directory and at pclient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PeersQuery {
    /// Only the peers of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub username: Option<Username>,
    /// The most items of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 4096, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
}

/// One content that a search found, under the name that matched best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchItem {
    pub content_id: ContentId,
    /// The name that matched best.
    pub name: String,
    /// What most of the online holders say whose entries match. A hint: only the whole file proves its size.
    pub size: u64,
    /// What kind of file it is; null where nobody says.
    #[schema(required)]
    pub media_type: Option<String>,
    /// Peers that hold it, whole or in part.
    pub holders: u32,
    /// Those of them that are online.
    pub online: u32,
    /// Whether somebody who is online holds all of it.
    pub complete: bool,
}

/// Who holds a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Located {
    pub content_id: ContentId,
    /// What most holders that are online say. A hint: a content has one size, and only its proof says which.
    pub size: u64,
    /// What its holders call it.
    pub names: Vec<String>,
    /// Who has it, whole or in part.
    pub holders: Vec<Holder>,
}

/// A peer that has a content, whole or in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    pub peer_id: PeerId,
    pub username: Username,
    /// Where its pserver is reached, best first.
    #[schema(value_type = Vec<Endpoint>)]
    pub endpoints: Vec<String>,
    /// Whether its lease is held.
    pub online: bool,
    /// What this holder says the content's size is; nobody else's word changes it.
    pub size: u64,
    /// Pieces that it has, of a file of that size.
    pub pieces_held: u32,
    /// When it was heard of.
    pub last_seen: Timestamp,
    /// Its key for the relay; empty where its session was ended by force.
    #[schema(value_type = ListedKey)]
    pub sealing_key: String,
    /// Whether the network has a relay through which this peer can be asked.
    pub relay: bool,
}

/// Contents whose holders are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LocateRequest {
    /// 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    pub content_ids: Vec<ContentId>,
}

/// Those that were found, in the order asked. Each peer is described once; `holders` refers to it by position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocateReply {
    /// The contents.
    pub items: Vec<LocatedMany>,
    /// The peers that `holders` refer to.
    pub peers: Vec<PeerItem>,
}

/// A content of many, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocatedMany {
    pub content_id: ContentId,
    /// What most holders that are online say: a hint.
    pub size: u64,
    /// What a holder calls it.
    pub name: String,
    /// Who has it, whole or in part.
    pub holders: Vec<HolderRef>,
}

/// A holder of one of many contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HolderRef {
    /// Its position in `peers`.
    pub peer: u32,
    /// What this holder says the content's size is.
    pub size: u64,
    /// Pieces that it has, of a file of that size.
    pub pieces_held: u32,
}

/// What somebody found wrong with a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub peer_id: PeerId,
    pub kind: ReportKind,
}

/// `unreachable`: no connection could be made. `missing`: it answered that it does not have the file. `corrupt`: it
/// sent bytes that are not the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportKind {
    Unreachable,
    Missing,
    Corrupt,
}

/// A machine that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerItem {
    pub peer_id: PeerId,
    pub username: Username,
    /// Where its pserver is reached, best first.
    #[schema(value_type = Vec<Endpoint>)]
    pub endpoints: Vec<String>,
    /// Whether its lease is held.
    pub online: bool,
    /// When it was heard of.
    pub last_seen: Timestamp,
    /// Its key for the relay; empty where its session was ended by force.
    #[schema(value_type = ListedKey)]
    pub sealing_key: String,
    /// Whether the network has a relay through which it can be asked.
    pub relay: bool,
    /// Its program version.
    pub version: String,
    /// Entries of its catalog that the caller may see.
    pub files: u64,
}

/// A file that a peer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerFile {
    pub content_id: ContentId,
    /// What this peer calls it.
    pub name: String,
    /// What this peer says its size is, in bytes.
    pub size: u64,
    /// What kind of file it is; null where it is not said.
    #[schema(required)]
    pub media_type: Option<String>,
    /// Pieces that it has. Fewer than the file has = it has a part.
    pub pieces_held: u32,
}

/// An invite that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// How many accounts it may create.
    #[schema(minimum = 1, maximum = 10000)]
    pub uses: u32,
    /// Seconds until it ends: a year of 366 days at most.
    #[schema(minimum = 1, maximum = 31622400)]
    pub expires_in: u64,
}

/// A new invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InviteReply {
    /// What a new account is created with.
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
