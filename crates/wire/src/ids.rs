//! Who somebody is: [`PeerId`] for a machine, [`Username`] for a person, [`GroupName`] for a group of persons.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, de};

/// The first 16 bytes of the SHA-256 of a peer's public key (SubjectPublicKeyInfo), written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 16]);

/// A text that is not a peer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a peer id is 32 lower-case hex digits")]
pub struct IdError;

impl PeerId {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for PeerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 16];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(IdError);
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<&[u8]> for PeerId {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.pad(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

/// The name of an account: 3 to 32 of `a-z0-9._-`, a letter first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(Arc<str>);

/// A text that is not a username.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a username has 3 to 32 of the characters a-z, 0-9, `.`, `_` and `-`, and starts with a letter")]
pub struct UsernameError;

impl Username {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Username {
    type Err = UsernameError;

    fn from_str(text: &str) -> Result<Self, UsernameError> {
        let first = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if (3..=32).contains(&text.len()) && first && rest {
            Ok(Self(text.into()))
        } else {
            Err(UsernameError)
        }
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Username({self})")
    }
}

/// The name of a group of users, in the form of a [`Username`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Hash, order and equality are those of the text.
impl Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = UsernameError;

    fn from_str(text: &str) -> Result<Self, UsernameError> {
        text.parse::<Username>().map(|name| Self(name.0))
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupName({self})")
    }
}

/// Somebody that an audience names: a user, or a group of users, written `@name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    User(Username),
    Group(GroupName),
}

impl From<Username> for Member {
    fn from(user: Username) -> Self {
        Self::User(user)
    }
}

impl FromStr for Member {
    type Err = UsernameError;

    fn from_str(text: &str) -> Result<Self, UsernameError> {
        match text.strip_prefix('@') {
            Some(group) => group.parse().map(Self::Group),
            None => text.parse().map(Self::User),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "{user}"),
            Self::Group(group) => write!(f, "@{group}"),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({self})")
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(PeerId, Username, GroupName, Member);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids() {
        let id = PeerId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "AB", "zz", &"a".repeat(31), &"A".repeat(32)] {
            assert_eq!(bad.parse::<PeerId>(), Err(IdError), "{bad}");
        }
    }

    #[test]
    fn members_are_users_or_groups() {
        assert_eq!("ana".parse(), Ok(Member::User("ana".parse().unwrap())));
        assert_eq!("@lab".parse(), Ok(Member::Group("lab".parse().unwrap())));
        for text in ["ana", "@lab"] {
            assert_eq!(text.parse::<Member>().unwrap().to_string(), text);
        }
        for bad in ["@", "@ab", "@@lab", "@Lab", "lab@", "@la b"] {
            assert_eq!(bad.parse::<Member>(), Err(UsernameError), "{bad}");
        }
    }

    #[test]
    fn usernames() {
        for good in ["ana", "a.b-c_9", &"z".repeat(32)] {
            assert!(good.parse::<Username>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "Ana", "9ana", ".ana", "a b", "añá", &"z".repeat(33)] {
            assert_eq!(bad.parse::<Username>(), Err(UsernameError), "{bad}");
        }
    }
}
