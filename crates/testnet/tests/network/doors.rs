//! The door for other peers: who gets in, who does not, and what the usual gRPC tools find there.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use daemon::Lifecycle;
use futures::StreamExt;
use peer::link::{LinkError, Links, Reversals, Target};
use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ED25519, SanType, date_time_ymd};
use rustls::{ClientConfig, pki_types::ServerName};
use testnet::{Liar, Lie, Member, Network, Peer, grpc_channel, read, sample};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use wire::{
    ErrorCode, PeerId,
    proto::{self, files_client::FilesClient},
};

/// The HTTP/2 preface and an empty SETTINGS frame: what a server answers with its own settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Whether the door talks HTTP/2 to somebody who shows what `config` shows.
async fn is_let_in(address: SocketAddr, peer: PeerId, config: ClientConfig) -> bool {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(format!("{peer}.peer.trueque")).unwrap();
    let talk = async {
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        stream.write_all(HELLO).await.ok()?;
        let mut byte = [0];
        // In TLS 1.3 a client learns only here that its certificate was refused.
        stream.read_exact(&mut byte).await.ok()
    };
    tokio::time::timeout(Duration::from_secs(20), talk).await.expect("an answer, or a closed door").is_some()
}

/// A certificate as the authority would make it, but for what `change` changes.
fn forged(
    member: &Member,
    issuer: Option<&Issuer<'_, KeyPair>>,
    change: impl FnOnce(&mut CertificateParams),
) -> (String, String) {
    let key = if issuer.is_some() {
        KeyPair::from_pem(&member.key_pem).unwrap()
    } else {
        KeyPair::generate_for(&PKCS_ED25519).unwrap()
    };
    let mut params = CertificateParams::default();
    let names = [format!("{}.peer.trueque", member.peer_id), "mallory.user.trueque".to_owned()];
    params.subject_alt_names = names.map(|name| SanType::DnsName(name.try_into().unwrap())).to_vec();
    change(&mut params);
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_valid_certificate_of_this_network_opens_the_door() {
    let network = Network::start().await;
    let other = Network::start().await;
    let ana = network.peer("ana").await;
    let (door, owner) = (ana.pserver(), ana.peer_id().await);
    let member = Member::join(&network.url(), "mallory", &[]).await;
    let stranger = Member::join(&other.url(), "mallory", &[]).await;
    assert!(is_let_in(door, owner, member.client_config()).await, "a member");

    let none = ClientConfig::builder().with_root_certificates(member.roots()).with_no_client_auth();
    assert!(!is_let_in(door, owner, none).await, "no certificate");
    let foreign = member.client_config_with(&stranger.certificate_pem, &stranger.key_pem);
    assert!(!is_let_in(door, owner, foreign).await, "one of another authority");

    let (pem, key) = forged(&member, None, |_| {});
    assert!(!is_let_in(door, owner, member.client_config_with(&pem, &key)).await, "self-signed");

    // The network's own authority, whose key is in the directory's folder.
    let folder = network.folder("directory");
    let ca_key = String::from_utf8(read(folder.join("ca.key"))).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&member.ca_pem, KeyPair::from_pem(&ca_key).unwrap()).unwrap();
    let (pem, key) = forged(&member, Some(&issuer), |_| {});
    assert!(is_let_in(door, owner, member.client_config_with(&pem, &key)).await, "as the authority does it");
    let (pem, key) = forged(&member, Some(&issuer), |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
    });
    assert!(!is_let_in(door, owner, member.client_config_with(&pem, &key)).await, "expired");
    let (pem, key) = forged(&member, Some(&issuer), |params| {
        let name = format!("{owner}.peer.trueque").try_into().unwrap();
        params.subject_alt_names[0] = SanType::DnsName(name);
    });
    assert!(!is_let_in(door, owner, member.client_config_with(&pem, &key)).await, "a name of another key");
    let (pem, key) = forged(&member, Some(&issuer), |params| params.subject_alt_names.clear());
    assert!(!is_let_in(door, owner, member.client_config_with(&pem, &key)).await, "nobody's name");

    // After all of that it still serves.
    assert!(is_let_in(door, owner, member.client_config()).await);
    drop((member, stranger));
    other.stop().await;
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_peer_id_is_hung_up_on() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let liar = Liar::start(&network, "mallory", Lie::None, "x.bin", sample(70, 10)).await;
    let lifecycle = Lifecycle::new();
    let links = Links::new(liar.member.network_tls(), None, Reversals::default(), &lifecycle);
    let mut target = Target {
        peer_id: ana.peer_id().await,
        username: "ana".parse().unwrap(),
        endpoints: vec![ana.pserver().to_string()],
        sealing_key: String::new(),
    };
    links.get(&target, 0).await.unwrap();
    // The address of one, the id of another.
    target.peer_id = PeerId::from_bytes([7; 16]);
    let refused = links.get(&target, 0).await.unwrap_err();
    assert!(matches!(refused, LinkError::Unreachable(_)), "{refused:?}");
    drop(links);
    lifecycle.finish().await;

    // So a member that is listed under ana's address gets nothing of what was meant for it.
    liar.end().await;
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_reflection_and_files_answer_over_mutual_tls() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let file = sample(71, 3 << 20);
    let id = ana.share("a.bin", &file).await;
    let member = Member::join(&network.url(), "mallory", &[]).await;
    let channel = grpc_channel(ana.pserver(), ana.peer_id().await, member.client_config()).await.unwrap();

    let mut health = HealthClient::new(channel.clone());
    let reply = health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(reply.status(), ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(channel.clone());
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies =
        reflection.server_reflection_info(futures::stream::iter([question])).await.unwrap().into_inner();
    let reply = replies.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else {
        panic!("{reply:?}")
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"trueque.v1.Files") && names.contains(&"grpc.health.v1.Health"), "{names:?}");

    let mut files = FilesClient::new(channel.clone());
    let listed: Vec<proto::File> =
        files.list(proto::ListRequest {}).await.unwrap().into_inner().map(Result::unwrap).collect().await;
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "a.bin"));
    let content_id = bytes::Bytes::copy_from_slice(id.as_bytes());
    let fetch = |offset, length| proto::FetchRequest { content_id: content_id.clone(), offset, length };
    let chunks = files.fetch(fetch(1 << 20, 2 << 20)).await.unwrap().into_inner();
    let got: Vec<u8> = chunks.map(|chunk| chunk.unwrap().data.to_vec()).concat().await;
    assert!(got == file[1 << 20..]);

    // Questions that are wrong get the word that says so.
    let size = file.len() as u64;
    for (offset, length, word) in [
        (1, 1 << 20, ErrorCode::InvalidArgument),
        (0, 7, ErrorCode::InvalidArgument),
        (0, 0, ErrorCode::InvalidArgument),
        (0, size + 1, ErrorCode::InvalidArgument),
        (u64::MAX, u64::MAX, ErrorCode::InvalidArgument),
        (4 << 20, 1 << 20, ErrorCode::InvalidArgument),
    ] {
        let refused = files.fetch(fetch(offset, length)).await.unwrap_err();
        assert_eq!(ErrorCode::of_status(&refused), word, "{offset} {length}: {refused:?}");
    }
    let short = proto::DescribeRequest { content_id: vec![1; 31].into(), first_piece: 0 };
    assert_eq!(ErrorCode::of_status(&files.describe(short).await.unwrap_err()), ErrorCode::InvalidArgument);
    let unknown = proto::WatchRequest { content_id: vec![1; 32].into() };
    assert_eq!(ErrorCode::of_status(&files.watch(unknown).await.unwrap_err()), ErrorCode::NotFound);
    let beyond = proto::DescribeRequest { content_id: content_id.clone(), first_piece: u32::MAX };
    if let Ok(page) = files.describe(beyond).await {
        assert!(page.get_ref().chaining_values.is_empty());
    }
    let many = proto::FetchManyRequest { content_ids: vec![content_id.clone(); 1_001] };
    assert_eq!(ErrorCode::of_status(&files.fetch_many(many).await.unwrap_err()), ErrorCode::InvalidArgument);
    let mixed = proto::FetchManyRequest { content_ids: vec![content_id, vec![9; 32].into()] };
    let answers: Vec<proto::FileChunk> =
        files.fetch_many(mixed).await.unwrap().into_inner().map(Result::unwrap).collect().await;
    let errors: Vec<&str> = answers.iter().map(|answer| answer.error.as_str()).collect();
    assert_eq!(errors, ["too_large", "not_found"], "the reason, in words of the table");
    drop((health, reflection, replies, files, channel, member));
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_file_is_for_those_named_alone() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let (ben, cleo) = (network.peer("ben").await, network.peer("cleo").await);
    let file = sample(72, 100_000);
    let path = ana.put("secret.bin", &file);
    let shared = ana.post("/v1/files", &serde_json::json!({ "path": path, "audience": ["ben"] })).await;
    assert_eq!(shared.status, 201);
    let id = content::ContentId::of(&file);
    ben.found("secret", id, 1).await;
    assert!(cleo.search("secret").await.is_empty());
    assert!(cleo.holders(id).await.is_empty());
    assert_eq!(cleo.content(id, None).await.status, 404);
    // Who asks the peer itself gets no more than who asks the directory.
    let member = Member::join(&network.url(), "mallory", &[]).await;
    let channel = grpc_channel(ana.pserver(), ana.peer_id().await, member.client_config()).await.unwrap();
    let mut files = FilesClient::new(channel);
    let question =
        proto::DescribeRequest { content_id: bytes::Bytes::copy_from_slice(id.as_bytes()), first_piece: 0 };
    assert_eq!(ErrorCode::of_status(&files.describe(question).await.unwrap_err()), ErrorCode::NotFound);
    let listed: Vec<_> = files.list(proto::ListRequest {}).await.unwrap().into_inner().collect().await;
    assert!(listed.is_empty());
    ben.fetch(id).await;
    // Whoever got it does not pass it on, whichever way it came.
    let again = ben.start_many(&[(id, "again.bin".to_owned())]).await;
    ben.done(&again[0].id).await;
    ana.share("afterwards.bin", b"something else").await;
    let marker = ben.share("marker.bin", b"the directory has been told of everything before this").await;
    cleo.found("marker", marker, 1).await;
    assert_eq!(ben.holders(id).await.len(), 1);
    let own: Vec<String> = ben.files_of(ben.peer_id().await).await.into_iter().map(|f| f.name).collect();
    assert_eq!(own, ["marker.bin"]);
    drop((files, member));
    network.end([cleo, ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_file_stays_so_when_its_download_is_taken_up_again() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let file = sample(73, 16 << 20);
    let path = ana.put("secret.bin", &file);
    let shared = ana.post("/v1/files", &serde_json::json!({ "path": path, "audience": ["ben"] })).await;
    assert_eq!(shared.status, 201);
    let id = content::ContentId::of(&file);
    ben.found("secret", id, 1).await;
    proxy.slow(8 << 20);
    let download = ben.start(id).await;
    ben.wait(&download.id, "some is here", |download| download.verified_bytes > 2 << 20).await;
    let ben = Peer::again(ben.end().await).await;
    proxy.slow(0);
    ben.done(&download.id).await;
    let marker = ben.share("marker.bin", b"the directory has been told of everything before this").await;
    ana.found("marker", marker, 1).await;
    let own: Vec<String> = ben.files_of(ben.peer_id().await).await.into_iter().map(|f| f.name).collect();
    assert_eq!(own, ["marker.bin"]);
    network.end([ben, ana]).await;
}
