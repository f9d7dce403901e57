//! The JSON of both REST APIs: snake_case, sizes in bytes, durations in seconds, times in RFC 3339 UTC, ids in hex.
//!
//! What a program *receives* refuses unknown fields; what it *answers* may grow, so readers of answers ignore what
//! they do not know.

pub mod directory;
pub mod pclient;
pub mod schema;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Username;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Give this as `cursor` for the next page; null on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Who may see and fetch a shared file: everybody on the network, written `"network"`, or the named users and the
/// owner, written as a list of usernames.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "AudienceText", into = "AudienceText")]
pub enum Audience {
    #[default]
    Network,
    Users(Vec<Username>),
}

/// The most usernames of an [`Audience`].
pub const MAX_AUDIENCE: usize = 1_000;

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "an audience is \"network\" or a list of usernames")]
enum AudienceText {
    Word(String),
    Users(Vec<Username>),
}

impl TryFrom<AudienceText> for Audience {
    type Error = String;

    fn try_from(text: AudienceText) -> Result<Self, String> {
        match text {
            AudienceText::Word(word) if word == "network" => Ok(Self::Network),
            AudienceText::Word(word) => {
                Err(format!("an audience is \"network\" or a list of usernames, not {word:?}"))
            }
            AudienceText::Users(users) if users.len() > MAX_AUDIENCE => {
                Err(format!("an audience has at most {MAX_AUDIENCE} usernames"))
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
