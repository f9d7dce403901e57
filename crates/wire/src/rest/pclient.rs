//! pclient's REST: what a person, a page or a program asks of the peer on its own machine.

use base64::{Engine, prelude::BASE64_STANDARD};
use content::{ContentId, PIECE_SIZE, PieceSet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Audience, directory};
use crate::{ErrorCode, PeerId, Username};

/// The most items of a [`BatchRequest`].
pub const MAX_BATCH: usize = 1_000;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub peer_id: PeerId,
    /// Null while logged out.
    pub username: Option<Username>,
    pub version: String,
    pub directory: DirectoryStatus,
    pub pserver: PserverStatus,
    pub relay: RelayStatus,
    pub shared: SharedStatus,
    pub transfers: TransferStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryStatus {
    pub url: String,
    /// Whether the lease is held now.
    pub connected: bool,
    /// Why not, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PserverStatus {
    /// Null where `PSERVER_LISTEN=off`.
    pub listen: Option<String>,
    pub advertise: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    pub connected: bool,
    /// The broker, where it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Why it is not connected, or what slows it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedStatus {
    pub files: u64,
    pub bytes: u64,
    /// Files found in the shared folders and not hashed yet.
    pub hashing_files: u64,
    pub hashing_bytes: u64,
    /// Whether the directory has been told of everything shared.
    pub announced: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferStatus {
    pub down_bps: u64,
    pub up_bps: u64,
}

/// `POST /v1/doctor`: what works, what does not, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// The version of the peer that was examined.
    pub version: String,
    /// Whether nothing has failed.
    pub healthy: bool,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: `directory`, `clock`, `relay`. Several checks may have one name.
    pub name: String,
    pub result: CheckResult,
    /// In words, with figures.
    pub found: String,
    /// What to do about it; null where there is nothing to do.
    pub advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// It works, or is off because somebody wants it to be.
    Ok,
    /// It works, and not as well as it should, or not for long.
    Warning,
    Failed,
}

/// `POST /v1/login`. `Debug` shows no password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    pub username: Username,
    pub password: String,
}

/// One of this peer's own shared files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    pub content_id: ContentId,
    pub name: String,
    pub size: u64,
    pub media_type: Option<String>,
    /// Where it lies on this machine.
    pub path: String,
    pub audience: Audience,
    pub shared_at: Timestamp,
}

/// The query of `GET /v1/files`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesQuery {
    /// A part of the name, case ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `POST /v1/files` as JSON: a file or folder that lies inside a shared folder already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareRequest {
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
}

/// The answer for one file: 201.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareReply {
    pub content_id: ContentId,
    pub name: String,
    pub size: u64,
}

/// The answer for a folder: 202; its files follow as events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareFolderReply {
    pub path: String,
    /// Files found in it.
    pub files: u64,
}

/// `PATCH /v1/files/{content_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePatch {
    pub audience: Audience,
}

/// A holder and the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderWithPath {
    #[serde(flatten)]
    pub holder: directory::Holder,
    pub path: PeerPath,
    /// Why it is no better one, where that is known: what was tried, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A peer and the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerWithPath {
    #[serde(flatten)]
    pub peer: directory::PeerItem,
    pub path: PeerPath,
    /// Why it is no better one, where that is known: what was tried, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerPath {
    /// gRPC to an address of the peer.
    Direct,
    /// gRPC over a connection that the peer opened to us.
    Reversed,
    /// Messages over the broker.
    Relayed,
    Offline,
}

impl PeerPath {
    /// As JSON has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Reversed => "reversed",
            Self::Relayed => "relayed",
            Self::Offline => "offline",
        }
    }
}

/// `POST /v1/downloads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownloadRequest {
    pub content_id: ContentId,
    /// The name to store it under; without it, the one that its holders give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /v1/downloads/batch`: many at once, as for a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 1,000.
    pub downloads: Vec<DownloadRequest>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchReply {
    /// One for each requested, in order.
    pub items: Vec<Download>,
}

/// `GET /v1/downloads/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Download {
    pub id: String,
    pub content_id: ContentId,
    pub name: String,
    /// Null until a holder or the directory has told it.
    pub size: Option<u64>,
    pub verified_bytes: u64,
    pub state: DownloadState,
    pub rate_bps: u64,
    pub eta_seconds: Option<u64>,
    pub sources: Vec<Source>,
    pub error: Option<DownloadError>,
    /// What there is to say while it waits, such as who was asked through the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Where the finished file lies on this machine.
    pub path: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub peer_id: PeerId,
    pub username: Username,
    pub path: PeerPath,
    /// Why it is no better one, where that is known: what was tried, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Verified bytes that came from it.
    pub bytes: u64,
    pub rate_bps: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadError {
    pub code: ErrorCode,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DownloadState {
    /// It has not begun: others go first.
    Queued,
    /// No holder can be reached now.
    Waiting,
    Running,
    Paused,
    /// All pieces are here; the file is put in its place.
    Finishing,
    Done,
    /// See `error`.
    Failed,
}

/// `GET /v1/downloads/{id}/pieces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// Bytes in each piece but the last.
    pub piece_size: u64,
    /// 0 until the size is known.
    pub count: u32,
    pub held: u32,
    /// A bit for each piece, in base64: piece 0 is the lowest bit of the first byte.
    pub bitmap: String,
}

impl From<&PieceSet> for Pieces {
    fn from(set: &PieceSet) -> Self {
        let mut bytes = vec![0u8; set.count().div_ceil(8) as usize];
        for piece in set.iter() {
            bytes[piece as usize / 8] |= 1 << (piece % 8);
        }
        let bitmap = BASE64_STANDARD.encode(bytes);
        Self { piece_size: PIECE_SIZE, count: set.count(), held: set.held(), bitmap }
    }
}

/// The query of `GET /v1/downloads`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownloadsQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DownloadState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `POST /v1/tickets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    pub content_id: ContentId,
}

/// What stands in the place of the token in the address of that one content: `/v1/content/{content_id}?ticket=…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub ticket: String,
    /// Seconds.
    pub expires_in: u64,
}

/// `POST /v1/offers`: to send a file to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferRequest {
    /// A file that this peer shares, at least with them.
    pub content_id: ContentId,
    pub to: Username,
}

/// `GET /v1/offers/{id}`: a file that somebody sends, ours to them or theirs to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub id: String,
    pub direction: OfferDirection,
    pub from: OfferParty,
    pub to: OfferParty,
    pub content_id: ContentId,
    pub name: String,
    pub size: u64,
    pub state: OfferState,
    pub offered_at: Timestamp,
    /// The download that began when it was accepted.
    pub download_id: Option<String>,
    /// Why it waits, or what ended it otherwise than by the user's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferParty {
    /// Null as long as no machine of theirs has been told.
    pub peer_id: Option<PeerId>,
    pub username: Username,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferDirection {
    /// Others offer it to us.
    Received,
    /// We offer it to others.
    Sent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferState {
    /// Sent: no machine of theirs could be told yet.
    Waiting,
    /// Received: nobody has said anything to it yet.
    Offered,
    /// Sent: they see it.
    Delivered,
    Accepted,
    Declined,
    /// Seven days went by, or it is no longer to be had.
    Expired,
}

/// The query of `GET /v1/offers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffersQuery {
    /// Received ones where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<OfferDirection>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<OfferState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The data of an SSE event; its `event:` is the variant's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A download changed.
    Download(Box<Download>),
    /// A download was cancelled and is gone.
    DownloadRemoved {
        id: String,
    },
    File(FileEvent),
    /// An offer came, went out, or changed.
    Offer(Box<Offer>),
    Peer {
        peer_id: PeerId,
        path: PeerPath,
    },
    Status(Box<Status>),
}

/// Something happened to a shared file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FileEvent {
    Hashing {
        path: String,
        size: u64,
    },
    Shared(SharedFile),
    Unshared {
        content_id: ContentId,
        name: String,
    },
    /// It lies in a shared folder and cannot be shared.
    Refused {
        path: String,
        detail: String,
    },
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginRequest").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bits_lowest_first() {
        let mut set = PieceSet::empty(10);
        set.insert_range(0..3);
        set.insert(9);
        assert_eq!(Pieces::from(&set).bitmap, BASE64_STANDARD.encode([0b0000_0111, 0b0000_0010]));
        let full = Pieces::from(&PieceSet::full(10));
        assert_eq!(full.bitmap, BASE64_STANDARD.encode([0b1111_1111, 0b0000_0011]), "a full set too");
        assert_eq!((full.count, full.held), (10, 10));
        assert_eq!(Pieces::from(&PieceSet::empty(0)).bitmap, "");
    }
}
