//! [`ContentId`]: the name of a file's bytes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

/// The plain BLAKE3 hash of a whole file: 32 bytes, written as 64 lower-case hex digits. `b3sum FILE` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId([u8; 32]);

/// A text or byte string that is not a [`ContentId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    #[error("a content id has 64 lower-case hex digits, not {0} characters")]
    Length(usize),
    #[error("a content id has only the digits 0-9 and a-f")]
    Digit,
}

impl ContentId {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id of `bytes`, all of the file at once.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl TryFrom<&[u8]> for ContentId {
    type Error = ParseIdError;

    /// Takes exactly 32 bytes, as they stand in a gRPC message.
    fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
        bytes.try_into().map(Self).map_err(|_| ParseIdError::Length(bytes.len().saturating_mul(2)))
    }
}

impl FromStr for ContentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != 64 {
            return Err(ParseIdError::Length(text.chars().count()));
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseIdError::Digit);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError::Digit)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.pad(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl Serialize for ContentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ContentId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content id of 64 lower-case hex digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ContentId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl PartialSchema for ContentId {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The BLAKE3 hash of a file's bytes, in hex, as `b3sum` prints it."))
            .min_length(Some(64))
            .max_length(Some(64))
            .pattern(Some("^[0-9a-f]{64}$"))
            .examples(["c59c9cd55a807e3137dba841f0e9680244f73a615071bd5ce8810f8cd0cb1378"]);
        text.into()
    }
}

impl ToSchema for ContentId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = ContentId::of(b"trueque");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(ContentId::try_from(id.as_bytes().as_slice()), Ok(id));
        assert_eq!(id.to_string(), blake3::hash(b"trueque").to_hex().as_str());
    }

    #[test]
    fn what_is_not_an_id_says_why() {
        assert_eq!("".parse::<ContentId>(), Err(ParseIdError::Length(0)));
        assert_eq!("é".repeat(32).parse::<ContentId>(), Err(ParseIdError::Digit));
        assert_eq!("g".repeat(64).parse::<ContentId>(), Err(ParseIdError::Digit));
        assert_eq!("A".repeat(64).parse::<ContentId>(), Err(ParseIdError::Digit));
        assert_eq!("a".repeat(65).parse::<ContentId>(), Err(ParseIdError::Length(65)));
    }
}
