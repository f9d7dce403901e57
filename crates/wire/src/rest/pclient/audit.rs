//! Who fetched what from this peer.

use content::ContentId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{PeerId, Username};

/// What somebody fetched from this peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When the first byte went out.
    pub started_at: Timestamp,
    /// When the last one did, so far.
    pub ended_at: Timestamp,
    pub username: Username,
    /// The machine.
    pub peer_id: PeerId,
    pub content_id: ContentId,
    /// Under which name it was shared then; null where it was itself still being fetched.
    #[schema(required)]
    pub name: Option<String>,
    /// Bytes of the file that went out; pieces that were sent twice count twice.
    pub bytes: u64,
    /// The way they took.
    pub path: FetchPath,
}

/// The way that bytes took. `direct`: over a connection that the other peer made. `reversed`: over one that this peer
/// made, because it was asked to. `relayed`: as messages over the broker. `mailed`: left at the broker for a peer that was
/// off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FetchPath {
    Direct,
    Reversed,
    Relayed,
    Mailed,
}

/// The query of `GET /v1/audit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Only fetches of this content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_id: Option<ContentId>,
    /// Only fetches by this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
