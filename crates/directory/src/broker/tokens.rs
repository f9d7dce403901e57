//! [`Signer`]: passwords for the broker, which it can check by itself. JSON Web Tokens, signed with RSA (RS256), because
//! that is what every RabbitMQ checks: 4.0 on Erlang 27 cannot read an Ed25519 key.
//!
//! The key is the broker's alone: `broker.key` (mode 0600) in the data folder, made at the first start, and `broker.pem`,
//! its public half. Whoever has the public half can check tokens and make none.
//!
//! A token lasts for [`LIFE`]. RS256 signs the same text always in the same way, so a token is a function of its user
//! and of the half-life that it was asked for in: a peer that renews its lease every few seconds is told the same
//! password until half of its life is over, without anything being remembered, by whichever directory it asks.

use std::{fmt, path::Path};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, SigningKey};
use serde::Serialize;
use serde_json::json;
use wire::PeerId;
use x509_parser::{prelude::FromDer, public_key::RSAPublicKey};

use super::rules::{AUDIENCE, User};
use crate::{files, secrets};

/// Seconds that a token lasts.
pub(crate) const LIFE: i64 = 15 * 60;
const HALF_LIFE: i64 = LIFE / 2;
/// The name of the key, in tokens and in the broker's configuration.
const KEY_ID: &str = "trueque";

/// Signs tokens.
pub(crate) struct Signer {
    key: KeyPair,
    head: String,
}

/// A token of a peer.
pub(crate) struct Token {
    pub(crate) text: String,
    /// Seconds.
    pub(crate) expires_in: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    aud: [&'a str; 1],
    scope: &'a str,
    iat: i64,
    exp: i64,
}

impl Signer {
    /// The signer of this data folder, made there if it has none.
    ///
    /// # Errors
    /// A folder that cannot be written, or a key in it that cannot be read. A damaged key is not replaced, because the
    /// broker would refuse everybody without a word about why.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let (key_file, public_file) = (folder.join("broker.key"), folder.join("broker.pem"));
        let key = match files::read_small(&key_file)? {
            Some(pem) => KeyPair::from_pem(&pem)
                .ok()
                .filter(|key| key.algorithm() == &PKCS_RSA_SHA256)
                .with_context(|| {
                    format!(
                        "{} is not an RSA key; where it is removed, the next start makes one, and the broker needs its \
                         public half",
                        key_file.display()
                    )
                })?,
            None => {
                let key = KeyPair::generate_for(&PKCS_RSA_SHA256).context("no key could be made")?;
                files::write_whole(&key_file, &key.serialize_pem())?;
                key
            }
        };
        let public = key.public_key_pem();
        if files::read_small(&public_file)?.as_ref() != Some(&public) {
            files::write_whole(&public_file, &public)?;
        }
        let head = encoded(&json!({ "alg": "RS256", "kid": KEY_ID, "typ": "JWT" }))?;
        Ok(Self { key, head })
    }

    /// The public half, as a PEM file.
    pub(crate) fn public_pem(&self) -> String {
        self.key.public_key_pem()
    }

    /// The public half, as a JSON Web Key Set.
    pub(crate) fn public_jwks(&self) -> anyhow::Result<serde_json::Value> {
        let (_, key) =
            RSAPublicKey::from_der(self.key.der_bytes()).context("the public half cannot be read")?;
        // As unsigned integers: DER puts a zero before those that look negative.
        let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes.strip_prefix(&[0]).unwrap_or(bytes));
        let (n, e) = (number(key.modulus), number(key.exponent));
        Ok(json!({ "keys": [{ "kty": "RSA", "n": n, "e": e, "kid": KEY_ID, "use": "sig", "alg": "RS256" }] }))
    }

    /// The token that `user` should use now; at least half of its life is left.
    pub(crate) fn token(&self, user: User, scopes: &str, now_millis: i64) -> anyhow::Result<Token> {
        let now = now_millis.div_euclid(1000);
        let begin = begin(user.peer, now);
        let text = self.signed(user, scopes, begin)?;
        Ok(Token { text, expires_in: u64::try_from(begin + LIFE - now).unwrap_or(0) })
    }

    /// Whether this is a token of `user` that holds now.
    pub(crate) fn is_token(
        &self,
        text: &str,
        user: User,
        scopes: &str,
        now_millis: i64,
    ) -> anyhow::Result<bool> {
        let begin = begin(user.peer, now_millis.div_euclid(1000));
        let newest = self.signed(user, scopes, begin)?;
        let one_before = self.signed(user, scopes, begin - HALF_LIFE)?;
        Ok(secrets::same(text, &newest) | secrets::same(text, &one_before))
    }

    fn signed(&self, user: User, scopes: &str, begin: i64) -> anyhow::Result<String> {
        let claims = encoded(&Claims {
            iss: AUDIENCE,
            sub: user.to_string(),
            aud: [AUDIENCE],
            scope: scopes,
            iat: begin,
            exp: begin + LIFE,
        })?;
        let signed = format!("{}.{claims}", self.head);
        let signature = self.key.sign(signed.as_bytes()).context("a token could not be signed")?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

/// When the half-life began that `now` is in. It is another moment for each peer, so that they do not all come for a new
/// token at once.
fn begin(peer: PeerId, now: i64) -> i64 {
    let [high, low, ..] = *peer.as_bytes();
    let shift = i64::from(u16::from_be_bytes([high, low])) % HALF_LIFE;
    now - (now + shift).rem_euclid(HALF_LIFE)
}

fn encoded(part: &impl Serialize) -> anyhow::Result<String> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(part)?))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
    use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
    use x509_parser::prelude::SubjectPublicKeyInfo;

    use super::*;

    const ANA: User = User::that_publishes(PeerId::from_bytes([0xa1; 16]));
    const NOW: i64 = 1_800_000_000_000;

    fn signer(folder: &tempfile::TempDir) -> Signer {
        Signer::open(folder.path()).unwrap()
    }

    fn decoded(part: &str) -> serde_json::Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_token_says_who_may_do_what_until_when() {
        let folder = tempfile::tempdir().unwrap();
        let token = signer(&folder).token(ANA, "one two", NOW).unwrap();
        let parts: Vec<&str> = token.text.split('.').collect();
        assert_eq!(decoded(parts[0]), json!({ "alg": "RS256", "kid": "trueque", "typ": "JWT" }));
        let claims = decoded(parts[1]);
        assert_eq!(claims["sub"], ANA.to_string());
        assert_eq!((&claims["aud"], &claims["scope"]), (&json!(["trueque"]), &json!("one two")));
        let (issued, ends) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert_eq!(ends - issued, LIFE);
        assert_eq!(ends - NOW / 1000, i64::try_from(token.expires_in).unwrap());
    }

    #[test]
    fn the_public_half_is_enough_to_check_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(&folder);
        let pem = std::fs::read_to_string(folder.path().join("broker.pem")).unwrap();
        assert_eq!(pem, signer.public_pem());
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).unwrap();
        let jwks = signer.public_jwks().unwrap();
        let number = |name| BASE64_URL_SAFE_NO_PAD.decode(jwks["keys"][0][name].as_str().unwrap()).unwrap();
        let (n, e) = (number("n"), number("e"));
        assert_eq!((n.len(), &e[..]), (2048 / 8, &[1, 0, 1][..]));

        let token = signer.token(ANA, "x", NOW).unwrap().text;
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let from_set = RsaPublicKeyComponents { n: &n, e: &e };
        let from_file = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &spki.subject_public_key.data);
        let forged = signed.replace('e', "f");
        for (signed, holds) in [(signed, true), (&forged, false)] {
            let by_set = from_set.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature);
            let by_file = from_file.verify(signed.as_bytes(), &signature);
            assert_eq!((by_set.is_ok(), by_file.is_ok()), (holds, holds));
        }
    }

    #[test]
    fn a_token_is_the_same_for_half_of_its_life_and_never_nearly_over() {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(&folder);
        let at = |second: i64| signer.token(ANA, "x", NOW + second * 1000).unwrap();
        let mut changes = 0;
        let mut before = at(0);
        for second in 1..=LIFE * 2 {
            let now = at(second);
            let half = u64::try_from(HALF_LIFE).unwrap();
            assert!(now.expires_in > half && now.expires_in <= 2 * half, "{}", now.expires_in);
            changes += i64::from(before.text != now.text);
            before = now;
        }
        assert_eq!(changes, 4);
        let beto = PeerId::from_bytes([0xbe; 16]);
        assert_ne!(begin(ANA.peer, NOW), begin(beto, NOW), "not all at once");
    }

    #[test]
    fn a_token_is_known_again_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(&folder);
        let token = signer.token(ANA, "x", NOW).unwrap();
        let holds = |user, seconds: u64, text: &str| {
            signer.is_token(text, user, "x", NOW + i64::try_from(seconds).unwrap() * 1000).unwrap()
        };
        assert!(holds(ANA, 0, &token.text) && holds(ANA, token.expires_in - 1, &token.text));
        assert!(!holds(ANA, token.expires_in, &token.text));
        assert!(!holds(User::that_publishes(PeerId::from_bytes([1; 16])), 0, &token.text));
        assert!(!holds(User::that_takes(ANA.peer), 0, &token.text));
        assert!(!holds(ANA, 0, &token.text[1..]) && !holds(ANA, 0, ""));
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        drop(signer(&folder));
        let path = folder.path().join("broker.key");
        for damaged in ["nonsense", &KeyPair::generate().unwrap().serialize_pem()] {
            std::fs::write(&path, damaged).unwrap();
            assert!(Signer::open(folder.path()).is_err());
        }
    }
}
