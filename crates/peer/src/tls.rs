//! [`NetworkTls`]: mutual TLS 1.3 between the peers of one network, with certificates that are swapped while running.
//!
//! The network's own authority is the only root, on both sides, always. A server is asked for by the name
//! `<peer id>.peer.trueque`, so that the library's ordinary name check is the check of the peer id; a client's peer
//! id and username are read from the names in its verified certificate. Nothing here can be switched off.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use wire::{PeerId, Username};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{Failure, identity::Identity};

const PEER_DOMAIN: &str = ".peer.trueque";
const USER_DOMAIN: &str = ".user.trueque";
/// ALPN of ordinary calls.
const ALPN_H2: &[u8] = b"h2";

/// Who is at the other end of a connection, by its verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub peer_id: PeerId,
    pub username: Username,
}

/// The TLS of this peer, as it stands now. Clones are the same.
#[derive(Clone)]
pub struct NetworkTls {
    identity: Arc<Identity>,
    present: Arc<ArcSwapOption<Configs>>,
}

struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl NetworkTls {
    /// Without a certificate yet: nobody can be served or called.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, present: Arc::default() }
    }

    /// Takes a new certificate for this peer's key. Connections that are open go on; new ones use it.
    ///
    /// # Errors
    /// Where the certificate is not one for this peer's key, or the authority's cannot be read.
    pub fn install(&self, certificate_pem: &str, ca_pem: &str) -> Result<(), Failure> {
        let bad =
            |error: &dyn std::fmt::Display| Failure::invalid(format!("the directory's certificate: {error}"));
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| bad(&e))?;
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(authority.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
        }
        let roots = Arc::new(roots);
        let leaf = chain.first().ok_or_else(|| bad(&"it is empty"))?;
        let holder = caller_of(leaf).ok_or_else(|| bad(&"it names no peer"))?;
        if holder.peer_id != self.identity.peer_id() {
            return Err(bad(&"it is for another peer"));
        }

        let key = || PrivatePkcs8KeyDer::from(self.identity.private_key_der().to_vec());
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| bad(&e))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(Failure::internal)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key().into())
            .map_err(|e| bad(&e))?;
        server.alpn_protocols = vec![ALPN_H2.to_vec()];
        // No tickets: a resumed session would outlive the certificate that it was opened with.
        server.send_tls13_tickets = 0;

        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(Failure::internal)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key().into())
            .map_err(|e| bad(&e))?;
        client.alpn_protocols = vec![ALPN_H2.to_vec()];
        client.resumption = Resumption::disabled();

        self.present.store(Some(Arc::new(Configs { server: Arc::new(server), client: Arc::new(client) })));
        Ok(())
    }

    /// Forgets the certificate, as at logout.
    pub fn clear(&self) {
        self.present.store(None);
    }

    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.present.load().as_ref().map(|configs| configs.server.clone())
    }

    pub(crate) fn client(&self) -> Option<Arc<ClientConfig>> {
        self.present.load().as_ref().map(|configs| configs.client.clone())
    }
}

impl std::fmt::Debug for NetworkTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkTls")
            .field("peer_id", &self.identity.peer_id())
            .field("ready", &self.present.load().is_some())
            .finish()
    }
}

/// The name under which a peer's certificate is checked.
pub(crate) fn server_name(peer: PeerId) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(format!("{peer}{PEER_DOMAIN}")).map_err(Failure::internal)
}

/// Who called, once the handshake is done.
pub(crate) fn caller(connection: &ServerConnection) -> Option<Caller> {
    connection.peer_certificates()?.first().and_then(caller_of)
}

/// The peer and user that a certificate names. The authority puts exactly one of each.
fn caller_of(certificate: &CertificateDer<'_>) -> Option<Caller> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let peer_id: PeerId = dns.clone().find_map(|name| name.strip_suffix(PEER_DOMAIN))?.parse().ok()?;
    let username: Username = dns.find_map(|name| name.strip_suffix(USER_DOMAIN))?.parse().ok()?;
    // The authority binds name and key; that they still belong together costs one hash, so it is looked at.
    let key_matches = crate::identity::peer_id_of(parsed.public_key().raw) == peer_id;
    key_matches.then_some(Caller { peer_id, username })
}

/// AES-128-GCM first: the cheapest cipher where the processor has instructions for it, and as strong as the keys here.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType,
    };

    /// An authority for tests: the directory's own lives in another crate.
    pub(crate) struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pub(crate) pem: String,
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            Self { issuer: Issuer::new(params, key), pem }
        }

        pub(crate) fn issue(&self, identity: &Identity, peer: PeerId, user: &str) -> String {
            let mut request =
                CertificateSigningRequestParams::from_pem(&identity.csr_pem().unwrap()).unwrap();
            let names = [format!("{peer}{PEER_DOMAIN}"), format!("{user}{USER_DOMAIN}")];
            request.params.subject_alt_names =
                names.map(|name| SanType::DnsName(name.try_into().unwrap())).to_vec();
            request.signed_by(&self.issuer).unwrap().pem()
        }
    }

    #[test]
    fn only_a_certificate_for_this_peer_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::open(dir.path()).unwrap());
        let authority = Authority::new();
        let tls = NetworkTls::new(identity.clone());
        assert!(tls.server().is_none());

        let own = authority.issue(&identity, identity.peer_id(), "ana");
        tls.install(&own, &authority.pem).unwrap();
        assert!(tls.server().is_some() && tls.client().is_some());

        let other = authority.issue(&identity, PeerId::from_bytes([7; 16]), "ana");
        assert!(tls.install(&other, &authority.pem).is_err(), "names another peer");
        assert!(tls.install("", &authority.pem).is_err());
        assert!(tls.install(&own, "nonsense").is_err());
        tls.clear();
        assert!(tls.client().is_none());
    }

    #[test]
    fn who_calls_is_read_from_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::open(dir.path()).unwrap();
        let authority = Authority::new();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let caller = caller_of(&der(&authority.issue(&identity, identity.peer_id(), "ana"))).unwrap();
        assert_eq!((caller.peer_id, caller.username.as_str()), (identity.peer_id(), "ana"));
        let foreign = authority.issue(&identity, PeerId::from_bytes([7; 16]), "ana");
        assert_eq!(caller_of(&der(&foreign)), None, "a key that does not hash to the peer id");
    }
}
