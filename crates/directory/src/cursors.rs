//! Cursors that say nothing: where a page of a search or of a peer's files ended, sealed.
//!
//! Their keys are numbers of the catalog, in which contents have a place that not everybody may know of: written plainly
//! they would tell how many there are between two that one sees. The key to the seal is derived from the authority's, so
//! that all directories on one authority read each other's, and a restart ends no listing.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use wire::http::Problem;

const NONCE: usize = 12;
const MAX_CURSOR: usize = 4096;

/// Seals cursors and opens them.
pub(crate) struct Cursors {
    key: RandomizedNonceKey,
}

impl Cursors {
    /// # Errors
    /// None that is known: the secret has the length of a key.
    pub(crate) fn new(secret: &[u8; 32]) -> anyhow::Result<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, secret);
        Ok(Self { key: key.map_err(|_| anyhow::anyhow!("cursors cannot be sealed"))? })
    }

    /// The cursor of this call for the page after the item with this key.
    pub(crate) fn seal<K: Serialize>(&self, call: &str, key: &K) -> Result<String, Problem> {
        let mut sealed = serde_json::to_vec(key).map_err(Problem::internal)?;
        let nonce = self.key.seal_in_place_append_tag(Aad::from(call), &mut sealed);
        let nonce = nonce.map_err(|_| Problem::internal("a cursor cannot be sealed"))?;
        let mut cursor = nonce.as_ref().to_vec();
        cursor.append(&mut sealed);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(cursor))
    }

    /// Where the page starts: after this key.
    ///
    /// # Errors
    /// `invalid_argument` for a text that this call did not give out.
    pub(crate) fn open<K: DeserializeOwned>(
        &self,
        call: &str,
        cursor: Option<&str>,
    ) -> Result<Option<K>, Problem> {
        let Some(cursor) = cursor else { return Ok(None) };
        let opened = || {
            let cursor = Some(cursor).filter(|cursor| cursor.len() <= MAX_CURSOR)?;
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
            let nonce = Nonce::try_assume_unique_for_key(bytes.get(..NONCE)?).ok()?;
            let sealed = bytes.get_mut(NONCE..)?;
            let plain = self.key.open_in_place(nonce, Aad::from(call), sealed).ok()?;
            serde_json::from_slice(plain).ok()
        };
        opened().map(Some).ok_or_else(|| Problem::invalid("`cursor` is not one that an earlier page gave"))
    }
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursors").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_tell_nothing_and_are_of_one_call() {
        let cursors = Cursors::new(&[7; 32]).unwrap();
        let cursor = cursors.seal("search", &123_456_789_u64).unwrap();
        assert_eq!(cursors.open::<u64>("search", Some(&cursor)).unwrap(), Some(123_456_789));
        assert_eq!(cursors.open::<u64>("search", None).unwrap(), None);
        let next = cursors.seal("search", &123_456_790_u64).unwrap();
        assert_ne!(cursor[..20], next[..20], "neighbours are not alike");
        for (call, text) in [("files", cursor.as_str()), ("search", "e30"), ("search", ""), ("search", "!")] {
            assert!(cursors.open::<u64>(call, Some(text)).is_err(), "{call} {text}");
        }
        let other = Cursors::new(&[8; 32]).unwrap();
        assert!(other.open::<u64>("search", Some(&cursor)).is_err());
    }
}
