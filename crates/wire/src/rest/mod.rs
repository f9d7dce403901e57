//! The JSON of both REST APIs: snake_case, sizes in bytes, durations in seconds, times in RFC 3339 UTC, ids in hex.
//!
//! What a program *receives* refuses unknown fields; what it *answers* may grow, so readers of answers ignore what
//! they do not know.

pub mod accounts;
pub mod directory;
pub mod pclient;
pub mod schema;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{GroupName, Member, Username};

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Give this as `cursor` for the next page; null on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Who may see and fetch a shared file: everybody on the network, written `"network"`, or the named users, the members
/// of the named groups, and the owner, written as a list of `username` and `@group`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "AudienceText", into = "AudienceText")]
pub enum Audience {
    #[default]
    Network,
    Users(Vec<Member>),
}

/// The most entries of an [`Audience`].
pub const MAX_AUDIENCE: usize = 1_000;

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "an audience is \"network\" or a list of usernames and @groups")]
enum AudienceText {
    Word(String),
    Users(Vec<Member>),
}

impl Audience {
    /// Whether it names this user, not counting groups.
    pub fn names(&self, user: &Username) -> bool {
        match self {
            Self::Network => false,
            Self::Users(members) => {
                members.iter().any(|member| matches!(member, Member::User(it) if it == user))
            }
        }
    }

    /// The groups that it names.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.members().iter().filter_map(|member| match member {
            Member::Group(group) => Some(group),
            Member::User(_) => None,
        })
    }

    /// The users that it names.
    pub fn users(&self) -> impl Iterator<Item = &Username> {
        self.members().iter().filter_map(|member| match member {
            Member::User(user) => Some(user),
            Member::Group(_) => None,
        })
    }

    fn members(&self) -> &[Member] {
        match self {
            Self::Network => &[],
            Self::Users(members) => members,
        }
    }
}

impl TryFrom<AudienceText> for Audience {
    type Error = String;

    fn try_from(text: AudienceText) -> Result<Self, String> {
        match text {
            AudienceText::Word(word) if word == "network" => Ok(Self::Network),
            AudienceText::Word(word) => {
                Err(format!("an audience is \"network\" or a list of usernames and @groups, not {word:?}"))
            }
            AudienceText::Users(users) if users.len() > MAX_AUDIENCE => {
                Err(format!("an audience has at most {MAX_AUDIENCE} entries"))
            }
            AudienceText::Users(users) => Ok(Self::Users(users)),
        }
    }
}

impl From<Audience> for AudienceText {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Network => Self::Word("network".to_owned()),
            Audience::Users(users) => Self::Users(users),
        }
    }
}
