//! [`Member`]: somebody with an account and a valid certificate of the network, and a program of their own.
//!
//! Whatever a stranger could do with the public contracts, a member does here by hand: questions to the directory
//! that no peer would ask, connections that no peer would open.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use content::ContentId;
use hyper_util::rt::TokioIo;
use peer::{identity::Identity, tls::NetworkTls};
use reqwest::{Client, Method};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use url::Url;
use wire::{
    PeerId,
    rest::directory::{Broker, CatalogDelta, CatalogPut, Located, SessionReply},
};

use crate::{Api, Reply, api::install_crypto, read};

/// Logged in, with keys in a folder of its own.
pub struct Member {
    pub peer_id: PeerId,
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
    /// As whom to log in at the relay's broker.
    pub broker: Option<Broker>,
    name: String,
    token: String,
    base: Url,
    http: Client,
    identity: Arc<Identity>,
    _folder: TempDir,
}

impl Member {
    /// Makes keys and an account, and logs in with these endpoints.
    pub async fn join(directory: &Url, name: &str, endpoints: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::open(folder.path()).unwrap());
        let key_pem = String::from_utf8(read(folder.path().join("identity.key"))).unwrap();
        install_crypto();
        let http =
            Client::builder().timeout(Duration::from_secs(30)).tls_certs_only([]).no_proxy().build().unwrap();
        let url = |path: &str| directory.join(path).unwrap();
        let password = format!("password of {name}");
        let account = json!({ "username": name, "password": password });
        Api::reply(http.post(url("/v1/accounts")).json(&account)).await.read::<Value>();
        let session = json!({
            "username": name,
            "password": password,
            "csr_pem": identity.csr_pem().unwrap(),
            "sealing_key": identity.sealing_public_hex(),
            "endpoints": endpoints,
            "version": "a test",
        });
        let session: SessionReply = Api::reply(http.post(url("/v1/sessions")).json(&session)).await.read();
        Self {
            peer_id: session.peer_id,
            ca_pem: session.ca_pem,
            certificate_pem: session.certificate_pem,
            key_pem,
            broker: session.broker,
            name: name.to_owned(),
            token: session.token,
            base: directory.clone(),
            http,
            identity,
            _folder: folder,
        }
    }

    /// Logs in again with the same key; a session that comes of it is this member's.
    pub async fn log_in(&mut self) -> Reply {
        let session = json!({
            "username": self.name,
            "password": format!("password of {}", self.name),
            "csr_pem": self.identity.csr_pem().unwrap(),
            "sealing_key": self.identity.sealing_public_hex(),
            "endpoints": [],
            "version": "a test",
        });
        let reply = Api::reply(self.http.post(self.base.join("/v1/sessions").unwrap()).json(&session)).await;
        if reply.status.is_success() {
            let session: SessionReply = reply.read();
            (self.token, self.certificate_pem) = (session.token, session.certificate_pem);
        }
        reply
    }

    /// Asks the directory.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let mut request = self.http.request(method, self.base.join(path).unwrap()).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        Api::reply(request).await
    }

    /// Tells the directory that this member has all of these, and nothing else.
    pub async fn announce(&self, files: &[(ContentId, &str, u64)]) -> Reply {
        let put = files.iter().map(|(id, name, size)| CatalogPut {
            content_id: *id,
            name: (*name).to_owned(),
            size: *size,
            media_type: None,
            pieces_held: content::Layout::new(*size).map_or(0, content::Layout::count),
            audience: None,
        });
        let delta = CatalogDelta { revision: 1, reset: true, put: put.collect(), ..CatalogDelta::default() };
        self.ask(Method::POST, "/v1/catalog", Some(&serde_json::to_value(delta).unwrap())).await
    }

    pub async fn locate(&self, id: ContentId) -> Located {
        self.ask(Method::GET, &format!("/v1/files/{id}"), None).await.read()
    }

    /// The real client's TLS, as this member.
    pub fn network_tls(&self) -> NetworkTls {
        let tls = NetworkTls::new(self.identity.clone());
        tls.install(&self.certificate_pem, &self.ca_pem).unwrap();
        tls
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        Arc::new(roots)
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder(self.roots()).build().unwrap();
        let (chain, key) = chain_and_key(&self.certificate_pem, &self.key_pem);
        let mut config =
            ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// TLS that shows this member's certificate.
    pub fn client_config(&self) -> ClientConfig {
        self.client_config_with(&self.certificate_pem, &self.key_pem)
    }

    /// TLS that trusts the network and shows another certificate.
    pub fn client_config_with(&self, certificate_pem: &str, key_pem: &str) -> ClientConfig {
        let (chain, key) = chain_and_key(certificate_pem, key_pem);
        let mut config = ClientConfig::builder()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

fn chain_and_key(
    certificate_pem: &str,
    key_pem: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap())
}

/// A gRPC channel to a peer over TLS as given, for any generated client.
///
/// # Errors
/// Where the connection or the handshake fails.
pub async fn grpc_channel(
    address: SocketAddr,
    peer: PeerId,
    config: ClientConfig,
) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(format!("{peer}.peer.trueque")).unwrap();
    let dial = tower::service_fn(move |_| {
        let (connector, name) = (connector.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("http://peer").connect_with_connector(dial).await
}
