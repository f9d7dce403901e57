//! The broker behind TLS: who is not vouched for by the system's authorities is not spoken to.

use std::{net::TcpListener, path::Path};

use peer::config::AmqpSetting;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use testnet::{Network, Process, Rabbit, RabbitOptions, until};

use crate::station::{Station, anybody};

const PEER: &str = env!("CARGO_BIN_EXE_testnet-peer");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_believed_only_with_a_certificate_of_the_systems_authorities() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let _rabbit = Rabbit::start(RabbitOptions {
        plugins: Vec::new(),
        config: vec![
            format!("listeners.ssl.1 = 127.0.0.1:{port}"),
            format!("ssl_options.cacertfile = {}", path("ca.pem")),
            format!("ssl_options.certfile = {}", path("cert.pem")),
            format!("ssl_options.keyfile = {}", path("key.pem")),
            "ssl_options.verify = verify_none".to_owned(),
        ],
    })
    .await;
    let url = format!("amqps://guest:guest@localhost:{port}");

    let stranger = Station::of(anybody(), AmqpSetting::At(url.as_str().into()));
    let why = stranger.away_for("certificate").await;
    println!("{why}");
    assert!(why.starts_with(&format!("localhost:{port}: ")), "{why}");
    stranger.stop().await;

    // The system's authorities, as this process is told, are what signed it.
    let network = Network::start().await;
    let authorities = path("ca.pem");
    let more = [("PEER_AMQP_URL", url.as_str()), ("SSL_CERT_FILE", authorities.as_str())];
    let ana = Process::peer(&network, PEER, "ana", &more).await;
    until("ana is on the relay", async || ana.status().await.relay.connected.then_some(())).await;
    assert_eq!(ana.terminate().await, Some(0));
    network.stop().await;
}

/// An authority, and a certificate of it for `localhost`.
fn certificates(folder: &Path) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, pem) in [("ca.pem", root.pem()), ("cert.pem", leaf.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(folder.join(name), pem).unwrap();
    }
}
