//! pclient's REST: what a person, a page or a program asks of the peer on its own machine.

mod audit;

use base64::{Engine, prelude::BASE64_STANDARD};
use content::{ContentId, PIECE_SIZE, PieceSet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use self::audit::{AuditEntry, AuditQuery, FetchPath};
use super::{
    Audience, directory,
    schema::{FileName, Number},
};
use crate::{ErrorCode, PeerId, Username};

/// The most items of a [`BatchRequest`].
pub const MAX_BATCH: usize = 1_000;

/// How the peer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub peer_id: PeerId,
    /// Null while logged out.
    #[schema(required)]
    pub username: Option<Username>,
    /// The program's version.
    pub version: String,
    pub directory: DirectoryStatus,
    pub pserver: PserverStatus,
    pub relay: RelayStatus,
    pub shared: SharedStatus,
    pub transfers: TransferStatus,
}

/// The directory, and how this peer stands with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirectoryStatus {
    /// The one that answered last.
    pub url: String,
    /// Whether the lease is held now.
    pub connected: bool,
    /// Why not, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
}

/// The door for other peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PserverStatus {
    /// The address that it listens on; null where `PSERVER_LISTEN=off`.
    #[schema(required)]
    pub listen: Option<String>,
    /// Where others are told to reach it.
    pub advertise: Vec<String>,
}

/// The way to peers that cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayStatus {
    /// Whether the broker is connected.
    pub connected: bool,
    /// The broker, where it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub server: Option<String>,
    /// There is none to connect to.
    #[serde(default)]
    pub off: bool,
    /// Why it is not connected, or what slows it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub why: Option<String>,
}

/// What this peer shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedStatus {
    /// Entries: one for each name.
    pub files: u64,
    /// The bytes of all of them.
    pub bytes: u64,
    /// Files found in the shared folders and not hashed yet.
    pub hashing_files: u64,
    /// The bytes of those.
    pub hashing_bytes: u64,
    /// Whether the directory has been told of everything shared.
    pub announced: bool,
}

/// What comes in and goes out now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransferStatus {
    /// Bytes per second that come in.
    pub down_bps: u64,
    /// Bytes per second that go out.
    pub up_bps: u64,
}

/// What works, what does not, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Examination {
    /// The version of the peer that was examined.
    pub version: String,
    /// Whether nothing has failed.
    pub healthy: bool,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was looked at: `directory`, `clock`, `relay`. Several checks may have one name.
    pub name: String,
    pub result: CheckResult,
    /// In words, with figures.
    pub found: String,
    /// What to do about it; null where there is nothing to do.
    #[schema(required)]
    pub advice: Option<String>,
}

/// What came of it. `ok`: it works, or is off because somebody wants it to be. `warning`: it works, and not as well as
/// it should, or not for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    Ok,
    Warning,
    Failed,
}

/// One of this peer's own shared files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedFile {
    pub content_id: ContentId,
    /// What others see it under: its path in the shared folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What kind of file its name says it is; null where it does not say.
    #[schema(required)]
    pub media_type: Option<String>,
    /// Where it lies on this machine.
    pub path: String,
    /// Who may find and fetch it.
    pub audience: Audience,
    /// Since when it is shared.
    pub shared_at: Timestamp,
}

/// The query of `GET /v1/files`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FilesQuery {
    /// A part of the name, case ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// The most items of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 4096, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
}

/// A file or folder that lies inside a shared folder already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareRequest {
    /// Where it lies: from the root of this machine, or in the first shared folder that has it.
    #[schema(min_length = 1, pattern = r"^[^\x00]+$")]
    pub path: String,
    /// Who may find and fetch it; where it is not said, who may already; of what is new, those
    /// of its folder, or everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub audience: Option<Audience>,
}

/// A file that is shared now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareReply {
    pub content_id: ContentId,
    /// What others see it under.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Who may find and fetch it. It belongs to the content: who shares a copy and names nobody leaves it as it was.
    pub audience: Audience,
}

/// A folder whose files are hashed and shared one after the other; each is told of as an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareFolderReply {
    /// The folder.
    pub path: String,
    /// Files found in it.
    pub files: u64,
}

/// What is to change in a shared file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePatch {
    /// Who may find and fetch it from now on.
    pub audience: Audience,
}

/// A holder and the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HolderWithPath {
    #[serde(flatten)]
    pub holder: directory::Holder,
    /// The way to it.
    pub path: PeerPath,
    /// Why it is no better one, where that is known: what was tried, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub why: Option<String>,
}

/// A peer and the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerWithPath {
    #[serde(flatten)]
    pub peer: directory::PeerItem,
    /// The way to it.
    pub path: PeerPath,
    /// Why it is no better one, where that is known: what was tried, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub why: Option<String>,
}

/// The way to a peer. `direct`: gRPC to an address of it. `reversed`: gRPC over a connection that it opened to us.
/// `relayed`: messages over the broker. `offline`: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerPath {
    Direct,
    Reversed,
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

/// A download that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DownloadRequest {
    pub content_id: ContentId,
    /// The name to store it under; without it, the one that its holders give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FileName>)]
    pub name: Option<String>,
}

/// Many downloads at once, as for a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    pub downloads: Vec<DownloadRequest>,
}

/// The downloads that were asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchReply {
    /// One for each requested, in order.
    pub items: Vec<Download>,
}

/// A file that is fetched, or was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Download {
    #[schema(value_type = Number)]
    pub id: String,
    pub content_id: ContentId,
    /// What it is stored under.
    pub name: String,
    /// Bytes; null until a holder or the directory has told it.
    #[schema(required)]
    pub size: Option<u64>,
    /// Bytes that are here and right.
    pub verified_bytes: u64,
    pub state: DownloadState,
    /// Bytes per second that come in.
    pub rate_bps: u64,
    /// Seconds that the rest takes at this rate; null where that cannot be said.
    #[schema(required)]
    pub eta_seconds: Option<u64>,
    /// Who sends it, or has sent some of it.
    pub sources: Vec<Source>,
    /// Why it failed; null where it has not.
    #[schema(required)]
    pub error: Option<DownloadError>,
    /// What there is to say while it waits, such as who was asked through the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub note: Option<String>,
    /// Where the finished file lies on this machine; null before.
    #[schema(required)]
    pub path: Option<String>,
}

/// Somebody who sends a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    pub peer_id: PeerId,
    pub username: Username,
    pub path: PeerPath,
    /// Why it is no better one, where that is known: what was tried, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub why: Option<String>,
    /// Verified bytes that came from it.
    pub bytes: u64,
    /// The same bytes, by the ways they came; `path` is the way of now.
    #[serde(default)]
    #[schema(required)]
    pub paths: Vec<SourcePath>,
    /// Bytes per second that come from it.
    pub rate_bps: u64,
}

/// What came by one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourcePath {
    pub path: FetchPath,
    /// Verified bytes.
    pub bytes: u64,
}

/// Why a download failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DownloadError {
    pub code: ErrorCode,
    /// The same, for people.
    pub detail: String,
}

/// `queued`: it has not begun, others go first. `waiting`: no holder can be reached now. `running`. `paused`.
/// `finishing`: all pieces are here, and the file is put in its place. `done`. `failed`: see `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DownloadState {
    Queued,
    Waiting,
    Running,
    Paused,
    Finishing,
    Done,
    Failed,
}

/// Which pieces of a file are here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pieces {
    /// Bytes in each piece but the last.
    pub piece_size: u64,
    /// Pieces of the file; 0 until the size is known.
    pub count: u32,
    /// Pieces that are here.
    pub held: u32,
    /// A bit for each piece, in base64: piece 0 is the lowest bit of the first byte.
    #[schema(content_encoding = "base64")]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DownloadsQuery {
    /// Only downloads in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<DownloadState>,
    /// The most items of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 4096, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
}

/// What a ticket is wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    pub content_id: ContentId,
}

/// What stands in the place of the token in the address of one content: `/v1/content/{content_id}?ticket=…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// The ticket.
    pub ticket: String,
    /// Seconds for which it is good.
    pub expires_in: u64,
}

/// A file that is to be sent to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferRequest {
    /// A file that this peer shares, at least with them.
    pub content_id: ContentId,
    /// Who is to have it.
    pub to: Username,
}

/// A file that somebody sends: ours to them, or theirs to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offer {
    #[schema(value_type = Number)]
    pub id: String,
    pub direction: OfferDirection,
    /// Who sends it.
    pub from: OfferParty,
    /// Who is to have it.
    pub to: OfferParty,
    pub content_id: ContentId,
    /// What its sender calls it.
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub state: OfferState,
    /// Since when it is offered.
    pub offered_at: Timestamp,
    /// The download that began when it was accepted; null where none did.
    #[schema(value_type = Option<Number>, required)]
    pub download_id: Option<String>,
    /// Why it waits, or what ended it otherwise than by the user's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub why: Option<String>,
}

/// One side of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferParty {
    /// Null as long as no machine of theirs has been told.
    #[schema(required)]
    pub peer_id: Option<PeerId>,
    pub username: Username,
}

/// `received`: others offer it to us. `sent`: we offer it to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfferDirection {
    Received,
    Sent,
}

/// `waiting`: sent, and no machine of theirs could be told yet. `offered`: received, and nobody has said anything to it
/// yet. `delivered`: sent, and they see it. `accepted`. `declined`. `expired`: seven days went by, or it is no longer to
/// be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfferState {
    Waiting,
    Offered,
    Delivered,
    Accepted,
    Declined,
    Expired,
}

/// The query of `GET /v1/offers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct OffersQuery {
    /// Received ones where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub direction: Option<OfferDirection>,
    /// Only offers in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<OfferState>,
    /// The most items of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 4096, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
}

/// The data of an SSE event; its `event:` is the variant's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A download changed.
    Download(Box<Download>),
    /// A download was cancelled and is gone.
    DownloadRemoved {
        #[schema(value_type = Number)]
        id: String,
    },
    /// Something happened to a shared file.
    File(FileEvent),
    /// An offer came, went out, or changed.
    Offer(Box<Offer>),
    /// The way to a peer changed.
    Peer { peer_id: PeerId, path: PeerPath },
    /// How the peer stands, as far as it changed.
    Status(Box<Status>),
}

/// Something happened to a shared file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FileEvent {
    /// It was found, and is read.
    Hashing {
        /// Where it lies on this machine.
        path: String,
        /// Bytes.
        size: u64,
    },
    /// It is shared now.
    Shared(SharedFile),
    /// It is no longer shared.
    Unshared {
        content_id: ContentId,
        /// What others saw it under.
        name: String,
    },
    /// It lies in a shared folder and cannot be shared.
    Refused {
        /// Where it lies on this machine.
        path: String,
        /// Why.
        detail: String,
    },
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
