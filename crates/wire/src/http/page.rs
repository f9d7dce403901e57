//! Lists in pages: `limit` from 1 to 200, and a `cursor` that is opaque to clients.
//!
//! A cursor is the sort key of the last item seen, as JSON in base64url. It is not signed: it holds nothing that the
//! caller may not know, and whoever changes it only asks for another page.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use super::Problem;

pub const DEFAULT_LIMIT: u32 = 50;
pub const MAX_LIMIT: u32 = 200;
const MAX_CURSOR: usize = 4096;

/// The number of items asked for.
///
/// # Errors
/// `invalid_argument` outside 1 to 200.
pub fn limit(asked: Option<u32>) -> Result<usize, Problem> {
    match asked.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit as usize),
        other => Err(Problem::invalid(format!("`limit` is {other}; it goes from 1 to {MAX_LIMIT}"))),
    }
}

/// Where the page starts: after this key.
///
/// # Errors
/// `invalid_argument` for a text that this API did not give out.
pub fn decode_cursor<K: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<K>, Problem> {
    let bad = || Problem::invalid("`cursor` is not one that an earlier page gave");
    let Some(cursor) = cursor else { return Ok(None) };
    if cursor.len() > MAX_CURSOR {
        return Err(bad());
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|_| bad())
}

/// The cursor for the page after the item with this key.
pub fn encode_cursor<K: Serialize>(key: &K) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_and_foreign_ones_are_refused() {
        let key = ("name".to_owned(), 7u64);
        assert_eq!(decode_cursor(Some(&encode_cursor(&key))), Ok(Some(key)));
        assert_eq!(decode_cursor::<u64>(None), Ok(None));
        for bad in ["", "!", "e30", &"a".repeat(5000)] {
            assert!(decode_cursor::<u64>(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits() {
        assert_eq!(limit(None).unwrap(), 50);
        assert_eq!(limit(Some(200)).unwrap(), 200);
        assert!(limit(Some(0)).is_err() && limit(Some(201)).is_err());
    }
}
