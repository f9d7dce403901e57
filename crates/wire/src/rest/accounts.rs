//! The REST of accounts' own affairs, alike at the directory and at pclient: groups, sessions, passwords; and what peers
//! are told of whom to trust.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::schema::Endpoint;
use crate::{GroupName, PeerId, Username};

/// The most names of a [`LookupRequest`].
pub const MAX_LOOKUP: usize = 1_000;
/// The most members of a [`Group`].
pub const MAX_MEMBERS: usize = 1_000;
/// The most groups of a [`TrustQuery`].
pub const MAX_TRUST_GROUPS: usize = 50;

/// Names of which somebody wants to know whether they are accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    pub usernames: Vec<Username>,
}

/// Who was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LookupReply {
    /// Those of the names that are accounts, in the order asked.
    #[schema(max_items = 1000)]
    pub usernames: Vec<Username>,
}

/// A group that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    pub name: GroupName,
    /// Who is in it, beside its owner.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub members: Vec<Username>,
}

/// A group of users. Its owner belongs to it too, and only they change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    pub name: GroupName,
    pub owner: Username,
    /// In alphabetical order.
    pub members: Vec<Username>,
}

/// A session of an account that is open: a machine that is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionItem {
    pub peer_id: PeerId,
    /// Where its pserver is reached, best first.
    #[schema(value_type = Vec<Endpoint>)]
    pub endpoints: Vec<String>,
    /// Its program version.
    pub version: String,
    /// When it logged in.
    pub created: Timestamp,
    /// When it was heard of.
    pub last_seen: Timestamp,
    /// Whether its lease is held.
    pub online: bool,
    /// Whether it is the session that asks.
    pub current: bool,
}

/// Who logs in, at pclient.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    pub username: Username,
    /// At least 8 characters, at most 1,024 bytes.
    #[schema(value_type = String, min_length = 8, max_length = 1024)]
    pub password: Zeroizing<String>,
    /// For an account that is not there yet, where the directory creates them by invite only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub invite: Option<Zeroizing<String>>,
}

/// Another password for an account.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The password until now. An admin leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 1024, nullable = false)]
    pub current: Option<Zeroizing<String>>,
    /// At least 8 characters, at most 1,024 bytes.
    #[schema(value_type = String, min_length = 8, max_length = 1024)]
    pub new: Zeroizing<String>,
}

/// The query of `GET /v1/trust`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TrustQuery {
    /// Names of groups, comma separated: at most 50. Those that the caller owns or belongs to are told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 1649, pattern = "^[a-z][a-z0-9._-]{2,31}(,[a-z][a-z0-9._-]{2,31}){0,49}$")]
    pub groups: Option<String>,
    /// The most items of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 4096, pattern = "^[A-Za-z0-9_-]+$")]
    pub cursor: Option<String>,
}

/// Who is not trusted any more, whatever their certificates say, and who is in which group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrustReply {
    /// The number that stands for this answer in logins and renewals.
    #[schema(maximum = 9007199254740991u64)]
    pub trust_revision: u64,
    /// A page of the revoked.
    pub items: Vec<Revoked>,
    /// Of the groups asked for, those that the caller owns or belongs to.
    #[schema(max_items = 50)]
    pub groups: Vec<Group>,
    /// Give this as `cursor` for the next page; null on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Somebody whose certificates are to be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// The machine whose session was ended; null for all of the account's.
    #[schema(required)]
    pub peer_id: Option<PeerId>,
    /// The account: the same machine under another account is somebody else.
    pub username: Username,
    /// No certificate from before is valid after this.
    pub until: Timestamp,
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginRequest").field("username", &self.username).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PasswordRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordRequest").finish_non_exhaustive()
    }
}
