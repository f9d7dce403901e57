//! The certificate authority of the network: who a key belongs to.
//!
//! Made at the first start, in two files of the data folder: `ca.key` (mode 0600) and `ca.pem`. A peer proves that it
//! has its Ed25519 key by signing a request; the certificate binds that key to its peer id and to the account that
//! logged in, for 24 hours. What else a request asks for is not looked at: names come from the account, not from it.
//!
//! Where the key file is damaged the program does not start. It never makes a new authority over an old one, because
//! every certificate of the network would be worth nothing at once.

use std::{fmt, path::Path, time::Duration};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use sha2::{Digest, Sha256};
use wire::{PeerId, Username};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::files;

/// How long a peer's certificate is valid.
pub const VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// Certificates begin a little in the past, for peers whose clocks are slow.
const BACKDATED: Duration = Duration::from_secs(300);
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const MAX_CSR: usize = 8 << 10;
const ED25519: &str = "1.3.101.112";

/// Signs certificates with the network's key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A request that was signed by the key it names.
#[derive(Debug, Clone)]
pub struct Request {
    pub peer_id: PeerId,
    key: rcgen::PublicKey,
}

/// Why a certificate signing request is refused; for the caller to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("`csr_pem` is not a certificate signing request in PEM")]
    Unreadable,
    #[error("`csr_pem` is not signed by the key it names")]
    Signature,
    #[error("the key in `csr_pem` is not an Ed25519 key")]
    Algorithm,
}

impl Authority {
    /// The authority of this data folder, made there if it has none.
    ///
    /// # Errors
    /// A folder that cannot be written, or an authority in it that cannot be read.
    pub fn open(folder: &Path, now_millis: i64) -> anyhow::Result<Self> {
        files::make_private_folder(folder)?;
        let (key_file, cert_file) = (folder.join("ca.key"), folder.join("ca.pem"));
        let key = match files::read_small(&key_file)? {
            Some(pem) => {
                KeyPair::from_pem(&pem).with_context(|| format!("{} is not a key", key_file.display()))?
            }
            None if cert_file.exists() => bail!("{} is there and its key is not", cert_file.display()),
            None => {
                let key = KeyPair::generate().context("no key could be made")?;
                files::write_whole(&key_file, &key.serialize_pem())?;
                key
            }
        };
        let pem = match files::read_small(&cert_file)? {
            Some(pem) => pem,
            None => {
                let pem = ca_params(now_millis)?.self_signed(&key)?.pem();
                files::write_whole(&cert_file, &pem)?;
                pem
            }
        };
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .with_context(|| format!("{} is not a certificate", cert_file.display()))?;
        Ok(Self { issuer, pem })
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A secret for another purpose, derived from the authority's key: the same wherever that is.
    pub(crate) fn secret_for(&self, purpose: &str) -> [u8; 32] {
        let key = zeroize::Zeroizing::new(self.issuer.key().serialize_der());
        Sha256::new()
            .chain_update("trueque ")
            .chain_update(purpose)
            .chain_update([0])
            .chain_update(&*key)
            .finalize()
            .into()
    }

    /// A certificate for the key of `request`, in the name of `username`.
    ///
    /// # Errors
    /// Where signing fails, which it does not with a key that was read.
    pub fn issue(&self, request: &Request, username: &Username, now_millis: i64) -> anyhow::Result<String> {
        // The peer's name first: whoever dials looks for it, and not every username makes a valid host name.
        let names = vec![format!("{}.peer.trueque", request.peer_id), format!("{username}.user.trueque")];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, request.peer_id.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        valid(&mut params, now_millis, VALIDITY);
        Ok(params.signed_by(&request.key, &self.issuer)?.pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Request {
    /// Reads a request and checks that its key signed it.
    ///
    /// # Errors
    /// [`RequestError`], which says what is wrong with it.
    pub fn read(csr_pem: &str) -> Result<Self, RequestError> {
        if csr_pem.len() > MAX_CSR {
            return Err(RequestError::Unreadable);
        }
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(csr_pem.as_bytes()).map_err(|_| RequestError::Unreadable)?;
        let (_, csr) =
            X509CertificationRequest::from_der(&pem.contents).map_err(|_| RequestError::Unreadable)?;
        let key = &csr.certification_request_info.subject_pki;
        if key.algorithm.algorithm.to_id_string() != ED25519 {
            return Err(RequestError::Algorithm);
        }
        csr.verify_signature().map_err(|_| RequestError::Signature)?;
        let digest = Sha256::digest(key.raw);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        let verified = CertificateSigningRequestParams::from_der(&pem.contents.as_slice().into())
            .map_err(|_| RequestError::Unreadable)?;
        Ok(Self { peer_id: PeerId::from_bytes(id), key: verified.public_key })
    }
}

fn ca_params(now_millis: i64) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Trueque network");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    valid(&mut params, now_millis, CA_VALIDITY);
    Ok(params)
}

fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    // A serial number is a positive integer.
    bytes[0] = bytes[0] & 0x7f | 0x01;
    SerialNumber::from_slice(&bytes)
}

/// Sets when a certificate begins and ends, to the second.
fn valid(params: &mut CertificateParams, now_millis: i64, lasting: Duration) {
    let now =
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now_millis / 1000).unwrap_or(0));
    params.not_before = now - BACKDATED;
    params.not_after = now + lasting;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        server::WebPkiClientVerifier,
    };
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
    use x509_parser::prelude::{GeneralName, X509Certificate};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn rustls_believes_its_certificates_while_they_are_valid() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), (NOW * 1000) as i64).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let csr = CertificateParams::new(vec!["other.peer.trueque".to_owned()]).unwrap();
        let request = Request::read(&csr.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
        // A username that is no host name must not keep a certificate from being believed.
        let username = "a..b_".parse().unwrap();
        let pem = authority.issue(&request, &username, (NOW * 1000) as i64).unwrap();

        let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let (roots, provider) = (Arc::new(roots), Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let server =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
        let client = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
        let name = |name: String| ServerName::try_from(name).unwrap();
        let ours = name(format!("{}.peer.trueque", request.peer_id));
        let believed = |name: &ServerName<'_>, seconds| {
            server.verify_server_cert(&leaf, &[], name, &[], at(seconds)).is_ok()
        };
        for (seconds, valid) in
            [(NOW - 299, true), (NOW + 86_399, true), (NOW - 301, false), (NOW + 86_401, false)]
        {
            assert_eq!(believed(&ours, seconds), valid, "{seconds}");
            assert_eq!(client.verify_client_cert(&leaf, &[], at(seconds)).is_ok(), valid, "{seconds}");
        }
        assert!(!believed(&name("other.peer.trueque".to_owned()), NOW), "a request names nobody");

        let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
        let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
        let expected = [format!("{}.peer.trueque", request.peer_id), "a..b_.user.trueque".to_owned()];
        assert_eq!(names.as_slice(), expected.each_ref().map(|name| GeneralName::DNSName(name)));
        assert_eq!(parsed.subject().to_string(), format!("CN={}", request.peer_id));
    }

    #[test]
    fn a_damaged_authority_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path(), 0).unwrap();
        assert_eq!(Authority::open(folder.path(), 1).unwrap().pem(), first.pem());
        let key = folder.path().join("ca.key");
        std::fs::write(&key, "nonsense").unwrap();
        assert!(Authority::open(folder.path(), 2).is_err());
        std::fs::remove_file(&key).unwrap();
        assert!(Authority::open(folder.path(), 3).is_err());
    }
}
