//! [`NetworkTls`]: mutual TLS 1.3 between the peers of one network, with certificates that are swapped while running.
//!
//! The network's own authority is the only root, on both sides, always. A server is asked for by the name
//! `<peer id>.peer.trueque`, so that the library's ordinary name check is the check of the peer id; a client's peer
//! id and username are read from the names in its verified certificate. Nothing here can be switched off.
//!
//! A certificate holds for a day, and its session may be ended before: whoever is revoked by then ([`Trust`]) has no
//! connection either.
//!
//! A renewed certificate is for new connections; those that are open go on. Logging out, or in as somebody else, ends
//! the identity itself, and with it every connection that was opened under it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::{
    ClientConfig, CommonState, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use tokio_util::sync::CancellationToken;
use wire::{PeerId, Username, rest::pclient::FetchPath};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{Failure, allowed::AllowedEndpoints, identity::Identity, trust::Trust};

const PEER_DOMAIN: &str = ".peer.trueque";
const USER_DOMAIN: &str = ".user.trueque";

/// What a connection is for, agreed in its handshake (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Who dialled asks.
    Calls,
    /// Who was dialled asks: it could not dial itself, and had asked for this connection.
    Reversal,
}

impl Purpose {
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Calls => b"h2",
            Self::Reversal => b"trueque-reverse",
        }
    }
}

/// Who is at the other end of a connection, by its verified certificate, and how they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub peer_id: PeerId,
    pub username: Username,
    pub path: FetchPath,
}

/// The TLS of this peer, as it stands now. Clones are the same.
#[derive(Clone)]
pub struct NetworkTls {
    identity: Arc<Identity>,
    trust: Trust,
    present: Arc<ArcSwapOption<Credentials>>,
    allowed: AllowedEndpoints,
}

/// What this peer shows and trusts, for as long as it is logged in as one user with one certificate.
pub(crate) struct Credentials {
    server: Arc<ServerConfig>,
    calls: Arc<ClientConfig>,
    reversal: Arc<ClientConfig>,
    user: Username,
    /// Unix seconds.
    valid_until: i64,
    ended: CancellationToken,
}

impl Credentials {
    /// For taking connections of either purpose.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For making a connection.
    pub(crate) fn client(&self, purpose: Purpose) -> Arc<ClientConfig> {
        match purpose {
            Purpose::Calls => self.calls.clone(),
            Purpose::Reversal => self.reversal.clone(),
        }
    }

    /// When the certificate ends, in Unix seconds.
    pub(crate) fn valid_until(&self) -> i64 {
        self.valid_until
    }

    /// Fires when this peer is nobody, or another user; a renewed certificate is the same user's.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }
}

impl NetworkTls {
    /// Without a certificate yet: nobody can be served or called.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity,
            trust: Trust::default(),
            present: Arc::default(),
            allowed: AllowedEndpoints::default(),
        }
    }

    /// Dials nothing but these.
    pub fn dialling_only(self, allowed: AllowedEndpoints) -> Self {
        Self { allowed, ..self }
    }

    pub(crate) fn allowed(&self) -> &AllowedEndpoints {
        &self.allowed
    }

    /// Who is refused whatever their certificate says.
    pub fn trust(&self) -> &Trust {
        &self.trust
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
        let valid_until = end_of(leaf).ok_or_else(|| bad(&"it cannot be read"))?;
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
        server.alpn_protocols = [Purpose::Calls, Purpose::Reversal].map(|it| it.alpn().to_vec()).to_vec();
        // No tickets: a resumed session would outlive the certificate that it was opened with.
        server.send_tls13_tickets = 0;

        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(Failure::internal)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key().into())
            .map_err(|e| bad(&e))?;
        client.resumption = Resumption::disabled();
        let client = |purpose: Purpose| {
            let mut client = client.clone();
            client.alpn_protocols = vec![purpose.alpn().to_vec()];
            Arc::new(client)
        };

        let earlier = self.present.load_full();
        let goes_on = earlier.as_ref().filter(|earlier| earlier.user == holder.username);
        self.present.store(Some(Arc::new(Credentials {
            server: Arc::new(server),
            calls: client(Purpose::Calls),
            reversal: client(Purpose::Reversal),
            ended: goes_on.map(|same| same.ended()).unwrap_or_default(),
            user: holder.username,
            valid_until,
        })));
        if let (Some(earlier), None) = (&earlier, goes_on) {
            earlier.ended.cancel();
        }
        Ok(())
    }

    /// Forgets the certificate, as at logout, and hangs up on everybody.
    pub fn clear(&self) {
        if let Some(earlier) = self.present.swap(None) {
            earlier.ended.cancel();
        }
    }

    /// `None` while logged out.
    pub(crate) fn present(&self) -> Option<Arc<Credentials>> {
        self.present.load_full()
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

/// Who is at the other end, once the handshake is done.
pub(crate) fn other_end(connection: &CommonState) -> Option<Caller> {
    connection.peer_certificates()?.first().and_then(caller_of)
}

/// When a certificate ends, in Unix seconds.
pub(crate) fn end_of(der: &[u8]) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// The peer and user that a certificate names. The authority puts exactly one of each.
pub(crate) fn caller_of(certificate: &CertificateDer<'_>) -> Option<Caller> {
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
    key_matches.then_some(Caller { peer_id, username, path: FetchPath::Direct })
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
        assert!(tls.present().is_none());

        let own = authority.issue(&identity, identity.peer_id(), "ana");
        tls.install(&own, &authority.pem).unwrap();
        assert!(tls.present().is_some());

        let other = authority.issue(&identity, PeerId::from_bytes([7; 16]), "ana");
        assert!(tls.install(&other, &authority.pem).is_err(), "names another peer");
        assert!(tls.install("", &authority.pem).is_err());
        assert!(tls.install(&own, "nonsense").is_err());
        tls.clear();
        assert!(tls.present().is_none());
    }

    #[test]
    fn an_identity_ends_with_the_logout_or_the_next_user_and_not_with_a_renewal() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::open(dir.path()).unwrap());
        let authority = Authority::new();
        let tls = NetworkTls::new(identity.clone());
        let log_in = |user: &str| {
            tls.install(&authority.issue(&identity, identity.peer_id(), user), &authority.pem).unwrap();
            tls.present().unwrap().ended()
        };
        let first = log_in("ana");
        let renewed = log_in("ana");
        assert!(!first.is_cancelled());
        let other = log_in("ben");
        assert!(first.is_cancelled() && renewed.is_cancelled() && !other.is_cancelled());
        tls.clear();
        assert!(other.is_cancelled());
        assert!(!log_in("ben").is_cancelled(), "a new login is a new identity");
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
