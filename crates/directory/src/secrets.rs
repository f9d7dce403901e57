//! Random words that stand for somebody: session tokens and invites. 256 random bits in base64url; only their SHA-256
//! is kept, so that who reads the database cannot use what is in it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The SHA-256 of a [`fresh`] secret, as it is stored.
pub type Digest256 = [u8; 32];

/// Characters of a secret.
const LENGTH: usize = 43;

/// A new secret.
pub fn fresh() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is stored of a secret; `None` for a text that cannot be one.
pub fn digest(secret: &str) -> Option<Digest256> {
    (secret.len() == LENGTH).then(|| Sha256::digest(secret.as_bytes()).into())
}

/// Whether two secrets are the same, in a time that does not depend on where they differ.
pub fn same(one: &str, other: &str) -> bool {
    let pairs = Sha256::digest(one.as_bytes()).into_iter().zip(Sha256::digest(other.as_bytes()));
    pairs.fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, other) = (fresh(), fresh());
        assert_ne!(one, other);
        assert!(digest(&one).is_some() && digest(&one) != digest(&other));
        assert_eq!(digest("short"), None);
        assert!(same(&one, &one.clone()) && !same(&one, &other));
    }
}
