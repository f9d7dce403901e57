//! [`Identity`]: the two keys of this machine, made at its first start and kept for ever.
//!
//! An Ed25519 key proves who the peer is (its certificate is for that key, its id is the key's hash); an X25519 key
//! opens what is sealed for it. Both lie in the data folder, mode 0600, and never leave the machine.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, ensure};
use aws_lc_rs::agreement::{PrivateKey, X25519};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ED25519, PublicKeyData};
use sha2::{Digest, Sha256};
use wire::PeerId;
use zeroize::Zeroizing;

use crate::Failure;

/// The largest key file that is read; real ones have some hundred bytes.
const MAX_KEY_FILE: u64 = 16 << 10;

/// The keys of this machine. `Debug` shows only the id.
pub struct Identity {
    key: KeyPair,
    peer_id: PeerId,
    sealing_private: Zeroizing<[u8; 32]>,
    sealing_public: [u8; 32],
}

impl Identity {
    /// Reads the keys from the data folder, or makes folder and keys.
    ///
    /// # Errors
    /// Where they cannot be read, written, or understood; the message names the file.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        private_dir(data_dir)
            .with_context(|| format!("cannot make the data folder {}", data_dir.display()))?;

        let path = data_dir.join("identity.key");
        let named = || format!("the key file {}", path.display());
        let pem = match read_private(&path).with_context(named)? {
            Some(pem) => pem,
            None => {
                let pem = Zeroizing::new(KeyPair::generate_for(&PKCS_ED25519)?.serialize_pem().into_bytes());
                write_private(&path, &pem).with_context(named)?;
                pem
            }
        };
        let pem = std::str::from_utf8(&pem).with_context(named)?;
        let key = KeyPair::from_pem(pem).with_context(named)?;
        ensure!(key.is_compatible(&PKCS_ED25519), "{} does not hold an Ed25519 key", named());

        let (sealing_private, sealing_public) = sealing_key(&data_dir.join("sealing.key"))?;
        let peer_id = peer_id_of(&key.subject_public_key_info());
        Ok(Self { key, peer_id, sealing_private, sealing_public })
    }

    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The public half of the sealing key, 64 hex digits.
    pub fn sealing_public_hex(&self) -> String {
        hex::encode(self.sealing_public)
    }

    /// The private half, for what seals and opens.
    pub(crate) fn sealing_private(&self) -> &Zeroizing<[u8; 32]> {
        &self.sealing_private
    }

    /// A certificate signing request for the identity key.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn csr_pem(&self) -> Result<String, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&self.key).and_then(|request| request.pem()).map_err(Failure::internal)
    }

    /// The private key as PKCS #8, for the TLS library.
    pub(crate) fn private_key_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.key.serialize_der())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

/// The id of the peer whose public key is this SubjectPublicKeyInfo.
pub fn peer_id_of(spki_der: &[u8]) -> PeerId {
    let hash = Sha256::digest(spki_der);
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    PeerId::from_bytes(first)
}

/// Both halves of the X25519 key at `path`, which is made where it is missing.
fn sealing_key(path: &Path) -> anyhow::Result<(Zeroizing<[u8; 32]>, [u8; 32])> {
    let named = || format!("the key file {}", path.display());
    let private = match read_private(path).with_context(named)? {
        Some(private) => private,
        None => {
            let private = Zeroizing::new(rand::random::<[u8; 32]>().to_vec());
            write_private(path, &private).with_context(named)?;
            private
        }
    };
    let key = PrivateKey::from_private_key(&X25519, &private).ok().with_context(named)?;
    let public = key.compute_public_key().ok().with_context(named)?;
    let private = private.as_slice().try_into().with_context(named)?;
    Ok((Zeroizing::new(private), public.as_ref().try_into().with_context(named)?))
}

/// Makes a folder that only its owner may enter.
fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The file's bytes; `None` where there is no file.
pub(crate) fn read_private(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    match fs::File::open(path) {
        Ok(file) => {
            let mut bytes = Zeroizing::new(Vec::new());
            file.take(MAX_KEY_FILE).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a new file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_made_once_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Identity::open(&data).unwrap();
        let again = Identity::open(&data).unwrap();
        assert_eq!(first.peer_id(), again.peer_id());
        assert_eq!(first.sealing_public_hex(), again.sealing_public_hex());
        assert!(first.csr_pem().unwrap().contains("CERTIFICATE REQUEST"));
        for file in ["identity.key", "sealing.key"] {
            assert_eq!(fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_broken_key_file_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("identity.key"), "not a key").unwrap();
        let error = format!("{:#}", Identity::open(dir.path()).unwrap_err());
        assert!(error.contains("identity.key"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("identity.key")).unwrap(), "not a key");
    }
}
