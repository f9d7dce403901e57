//! Connections in both directions, on real sockets, between peers of a small authority: who serves whom, as whom, and
//! what is hung up on.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::BytesMut;
use content::{ContentId, Layout, OutlineBuilder, PIECE_SIZE, PieceHasher, SafeName};
use daemon::Clock;
use futures::{StreamExt, TryStreamExt};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use wire::{ErrorCode, PeerId, proto, rest::Audience};

use super::*;
use crate::{
    Failure,
    audit::Audit,
    connection::MAX_ENDPOINTS,
    directory_link::DirectoryClient,
    download::Parts,
    identity::Identity,
    library::{FileStamp, Library, NewFile},
    link::LinkError,
    service,
    store::Store,
    throttle::Throttle,
    tls::tests::Authority,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A peer without a directory: its doors, and what it shares.
struct Peer {
    id: PeerId,
    identity: Arc<Identity>,
    tls: NetworkTls,
    reversals: Reversals,
    dial_backs: DialBacks,
    library: Library,
    door: SocketAddr,
    lifecycle: Lifecycle,
    dir: TempDir,
}

impl Peer {
    async fn start(authority: &Authority, user: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::open(dir.path()).unwrap());
        let tls = NetworkTls::new(identity.clone());
        let store = Store::open(&dir.path().join("peer.db")).unwrap();
        let library = Library::open(store.clone(), Clock::system()).await.unwrap();
        let lifecycle = Lifecycle::new();
        let audit = Audit::start(store, Clock::system(), Duration::from_secs(3600), &lifecycle);
        let service = Service::new(service::Parameters {
            library: library.clone(),
            parts: Parts::default(),
            max_uploads: 8,
            upload_limit: Throttle::new(0),
            on_changed: Arc::new(|_| {}),
            audit,
            trust: tls.trust().clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = listener.local_addr().unwrap();
        let reversals = Reversals::new(vec![door.to_string()]);
        let server = Pserver::new(service, tls.clone(), reversals.clone(), &lifecycle).unwrap();
        lifecycle.spawn("pserver", server.clone().listen(listener));
        // Nobody answers there: what it would say is an argument here.
        let directory = DirectoryClient::new(&["http://127.0.0.1:9".parse().unwrap()], None).unwrap();
        let dial_backs = DialBacks::new(server, directory);
        let id = identity.peer_id();
        let peer = Self { id, identity, tls, reversals, dial_backs, library, door, lifecycle, dir };
        peer.log_in(authority, user);
        peer
    }

    fn log_in(&self, authority: &Authority, user: &str) {
        self.tls.install(&authority.issue(&self.identity, self.id, user), &authority.pem).unwrap();
    }

    async fn share(&self, name: &str, bytes: &[u8], audience: Audience) -> ContentId {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let file = hashed(&path, name, bytes);
        let id = ContentId::of(bytes);
        self.library.add(vec![file]).await.unwrap();
        self.library.set_audience(&id, audience).await.unwrap();
        id
    }

    /// What `ask` does, with the relay left out: `other` is told to dial this peer.
    async fn is_dialled_by(&self, other: &Self) -> GrpcLink {
        let (token, arrival) = self.reversals.expect(other.id, Instant::now()).unwrap();
        let named = [self.door.to_string()];
        other.is_asked(self.id, &named, &named, token.as_bytes()).await.unwrap();
        timeout(PATIENCE, arrival).await.unwrap().unwrap()
    }

    async fn is_asked(
        &self,
        by: PeerId,
        listed: &[String],
        named: &[String],
        token: &[u8],
    ) -> Result<(), Failure> {
        let listed = async { Ok(listed.to_vec()) };
        timeout(PATIENCE, self.dial_backs.dial_listed(by, listed, named, token)).await.unwrap()
    }

    /// An ordinary way out to another peer.
    async fn dials(&self, other: &Self) -> GrpcLink {
        let connection = self.connects_to(other, Purpose::Calls).await;
        GrpcLink::over(connection, &self.lifecycle).await.unwrap()
    }

    async fn connects_to(&self, other: &Self, purpose: Purpose) -> Connection {
        connection::dial(other.id, &[other.door.to_string()], purpose, &self.tls).await.unwrap()
    }

    async fn end(self) {
        self.lifecycle.finish().await;
    }
}

fn hashed(path: &Path, name: &str, bytes: &[u8]) -> NewFile {
    let layout = Layout::new(bytes.len() as u64).unwrap();
    let mut builder = OutlineBuilder::new(layout);
    for (index, piece) in (0..).zip(bytes.chunks(usize::try_from(PIECE_SIZE).unwrap())) {
        let mut hasher = PieceHasher::new(layout, index);
        hasher.update(piece);
        builder.set(index, hasher.finish().unwrap());
    }
    let stamp = FileStamp::of(&std::fs::metadata(path).unwrap());
    NewFile::new(path.into(), SafeName::new(name).unwrap(), stamp, Arc::new(builder.finish().unwrap()))
}

fn some_bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * at / 251).to_le_bytes()[0]).collect()
}

/// Everything that a peer says when it is asked.
#[derive(Debug, PartialEq)]
struct Answers {
    listed: Vec<proto::File>,
    described: Result<proto::Description, LinkError>,
    bytes: Result<BytesMut, LinkError>,
    together: Vec<proto::FileChunk>,
    watched: Option<proto::PieceSet>,
    no_such: Result<proto::Description, LinkError>,
}

async fn answers(link: &GrpcLink, id: ContentId, size: u64) -> Answers {
    let asking = async {
        Answers {
            listed: link.list().await.unwrap().try_collect().await.unwrap(),
            described: link.describe(id, 0).await,
            bytes: fetched(link, id, size).await,
            together: link.fetch_many(&[id]).await.unwrap().try_collect().await.unwrap(),
            watched: match link.watch(id).await {
                Ok(mut states) => Some(states.next().await.unwrap().unwrap()),
                Err(_) => None,
            },
            no_such: link.describe(ContentId::of(b"nothing"), 0).await,
        }
    };
    timeout(PATIENCE, asking).await.unwrap()
}

async fn fetched(link: &GrpcLink, id: ContentId, size: u64) -> Result<BytesMut, LinkError> {
    let mut chunks = link.fetch(id, 0..size).await?;
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// Waits until the other end has hung up, and has sent nothing before.
async fn is_hung_up_on(mut connection: Connection) {
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, connection.stream.read_to_end(&mut rest)).await;
    // Whether in order or not is the other side's business.
    let _how = ended.expect("the other side hangs up");
    assert!(rest.is_empty(), "it said {rest:?}");
}

#[tokio::test]
async fn a_reversed_connection_answers_as_a_direct_one_does() {
    let authority = Authority::new();
    let [ana, ben, carla] =
        [Peer::start(&authority, "ana"), Peer::start(&authority, "ben"), Peer::start(&authority, "carla")];
    let (ana, ben, carla) = tokio::join!(ana, ben, carla);
    let file = some_bytes((2 << 20) + 12_345);
    let size = file.len() as u64;
    let id = ben.share("for ana.bin", &file, Audience::Users(vec!["ana".parse().unwrap()])).await;

    let reversed = answers(&ana.is_dialled_by(&ben).await, id, size).await;
    assert_eq!(reversed.bytes.as_deref(), Ok(&file[..]));
    assert_eq!(reversed.listed.len(), 1);
    assert!(reversed.watched.is_some());
    assert_eq!(reversed, answers(&ana.dials(&ben).await, id, size).await);

    // The same question of somebody who may not know the file: whom ben dials is whom ben answers.
    let reversed = answers(&carla.is_dialled_by(&ben).await, id, size).await;
    let refused =
        |error: &LinkError| matches!(error, LinkError::Answered(f) if f.code == ErrorCode::NotFound);
    assert!(reversed.bytes.as_ref().is_err_and(refused), "{:?}", reversed.bytes);
    assert_eq!(reversed.listed, []);
    assert_eq!(reversed, answers(&carla.dials(&ben).await, id, size).await);

    for peer in [ana, ben, carla] {
        peer.end().await;
    }
}

#[tokio::test]
async fn only_the_connection_that_was_asked_for_is_taken() {
    let authority = Authority::new();
    let (ana, ben, carla) = tokio::join!(
        Peer::start(&authority, "ana"),
        Peer::start(&authority, "ben"),
        Peer::start(&authority, "carla")
    );
    let (token, mut arrival) = ana.reversals.expect(ben.id, Instant::now()).unwrap();
    let says = async |peer: &Peer, purpose, bytes: &[u8]| {
        let mut connection = peer.connects_to(&ana, purpose).await;
        connection.stream.write_all(bytes).await.unwrap();
        connection.stream.flush().await.unwrap();
        connection
    };
    is_hung_up_on(says(&ben, Purpose::Reversal, &[0; Token::LENGTH]).await).await;
    is_hung_up_on(says(&carla, Purpose::Reversal, token.as_bytes()).await).await;

    // On a connection for calls a token is no HTTP/2, and nothing else.
    let mut connection = says(&ben, Purpose::Calls, &[token.as_bytes(), &[0; 8]].concat()).await;
    let mut said = Vec::new();
    let _how = timeout(PATIENCE, connection.stream.read_to_end(&mut said)).await.expect("ana hangs up");
    assert!(arrival.try_recv().is_err());

    // None of that has used the token up; its own use does.
    let open = says(&ben, Purpose::Reversal, token.as_bytes()).await;
    let link = timeout(PATIENCE, arrival).await.unwrap().unwrap();
    assert!(link.is_open());
    is_hung_up_on(says(&ben, Purpose::Reversal, token.as_bytes()).await).await;

    // And a purpose that nobody knows does not get through the handshake.
    let mut unknown = (*ben.tls.present().unwrap().client(Purpose::Calls)).clone();
    unknown.alpn_protocols = vec![b"trueque-something".to_vec()];
    let stream = TcpStream::connect(ana.door).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(unknown));
    let refused = timeout(PATIENCE, connector.connect(crate::tls::server_name(ana.id).unwrap(), stream));
    assert!(refused.await.unwrap().is_err());
    drop((open, link));

    for peer in [ana, ben, carla] {
        peer.end().await;
    }
}

#[tokio::test]
async fn who_says_no_token_in_time_is_hung_up_on() {
    let authority = Authority::new();
    let (ana, ben) = tokio::join!(Peer::start(&authority, "ana"), Peer::start(&authority, "ben"));
    let (token, _arrival) = ana.reversals.expect(ben.id, Instant::now()).unwrap();
    let begun = Instant::now();
    let mut connection = ben.connects_to(&ana, Purpose::Reversal).await;
    connection.stream.write_all(&token.as_bytes()[..Token::LENGTH - 1]).await.unwrap();
    connection.stream.flush().await.unwrap();
    is_hung_up_on(connection).await;
    let took = begun.elapsed();
    assert!(took >= HANDSHAKE_TIMEOUT - Duration::from_millis(500), "it took only {took:?}");
    ana.end().await;
    ben.end().await;
}

#[tokio::test]
async fn a_peer_dials_only_where_the_directory_finds_who_asked() {
    let authority = Authority::new();
    let (ana, ben, carla) = tokio::join!(
        Peer::start(&authority, "ana"),
        Peer::start(&authority, "ben"),
        Peer::start(&authority, "carla")
    );
    let token = [7; Token::LENGTH];
    let [at_ana, at_carla] = [&ana, &carla].map(|peer| vec![peer.door.to_string()]);
    // Each asker has its pace, so each question here has an asker of its own.
    let asker = |n| PeerId::from_bytes([n; 16]);
    let code = |answer: Result<(), Failure>| answer.unwrap_err().code;

    let unlisted = ben.is_asked(asker(1), &at_carla, &at_ana, &token).await;
    assert_eq!(code(unlisted), ErrorCode::InvalidArgument, "ana's door is not what is listed");
    let short = ben.is_asked(asker(2), &at_ana, &at_ana, &token[1..]).await;
    assert_eq!(code(short), ErrorCode::InvalidArgument);
    let many = vec!["127.0.0.1:1".to_owned(); MAX_ENDPOINTS + 1];
    assert_eq!(code(ben.is_asked(asker(3), &at_ana, &many, &token).await), ErrorCode::InvalidArgument);

    // Somebody else is there: the token is not for them, and they get no connection to ask over.
    let (known, mut arrival) = carla.reversals.expect(ben.id, Instant::now()).unwrap();
    let other = ben.is_asked(ana.id, &at_carla, &at_carla, known.as_bytes()).await.unwrap_err();
    assert_eq!(other.code, ErrorCode::Unavailable);
    assert!(arrival.try_recv().is_err());
    // Nobody is there; the words are the same.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nowhere = vec![closed.to_string()];
    assert_eq!(ben.is_asked(asker(4), &nowhere, &nowhere, &token).await.unwrap_err(), other);

    // The good one of several is found, and the silent one before it costs little.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let several = vec![nowhere[0].clone(), silent.local_addr().unwrap().to_string(), at_ana[0].clone()];
    let (token, arrival) = ana.reversals.expect(ben.id, Instant::now()).unwrap();
    ben.is_asked(ana.id, &several, &several, token.as_bytes()).await.unwrap();
    assert!(timeout(PATIENCE, arrival).await.unwrap().unwrap().is_open());

    for peer in [ana, ben, carla] {
        peer.end().await;
    }
}

#[tokio::test]
async fn few_are_dialled_at_a_time_and_each_asker_seldom() {
    let authority = Authority::new();
    let (ana, ben) = tokio::join!(Peer::start(&authority, "ana"), Peer::start(&authority, "ben"));
    let at_ana = [ana.door.to_string()];
    let token = [7; Token::LENGTH];
    let code = |answer: Result<(), Failure>| answer.map_err(|failure| failure.code);
    for _lane in 0..2 {
        assert_eq!(code(ben.is_asked(ana.id, &at_ana, &at_ana, &token).await), Ok(()));
    }
    let third = ben.is_asked(ana.id, &at_ana, &at_ana, &token).await;
    assert_eq!(code(third), Err(ErrorCode::RateLimited));

    // A directory that does not answer keeps as many busy as there may be, and not one more.
    let never = || std::future::pending::<Result<Vec<String>, Failure>>();
    let asker = |n| PeerId::from_bytes([n; 16]);
    let busy = futures::future::join_all(
        (1..=5).map(|n| ben.dial_backs.dial_listed(asker(n), never(), &at_ana, &token)),
    );
    let mut codes: Vec<_> = timeout(PATIENCE, busy).await.unwrap().into_iter().map(code).collect();
    let last = codes.pop();
    assert_eq!(last, Some(Err(ErrorCode::RateLimited)));
    assert_eq!(codes, [Err(ErrorCode::Unavailable); 4], "and each ends in time");
    ana.end().await;
    ben.end().await;
}

#[tokio::test]
async fn nothing_outlives_the_identity_under_which_it_was_opened() {
    let authority = Authority::new();
    let (ana, ben) = tokio::join!(Peer::start(&authority, "ana"), Peer::start(&authority, "ben"));
    let gone = async |link: &GrpcLink| {
        let waiting = async {
            while link.is_open() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the connection ends");
    };
    let id = ben.share("a.bin", &some_bytes(10), Audience::Network).await;

    let (reversed, direct) = (ana.is_dialled_by(&ben).await, ana.dials(&ben).await);
    let mut following = reversed.watch(id).await.unwrap();
    following.next().await.unwrap().unwrap();
    // A renewed certificate of either changes nothing.
    ana.log_in(&authority, "ana");
    ben.log_in(&authority, "ben");
    assert!(reversed.describe(id, 0).await.is_ok() && direct.describe(id, 0).await.is_ok());
    // Who serves logs out: nobody is answered any more, and what is under way breaks off.
    ben.tls.clear();
    gone(&reversed).await;
    gone(&direct).await;
    assert!(timeout(PATIENCE, following.next()).await.unwrap().is_none_or(|state| state.is_err()));
    let at_ana = [ana.door.to_string()];
    // Of somebody else, because each has a pace.
    let refused = ben.is_asked(PeerId::from_bytes([9; 16]), &at_ana, &at_ana, &[7; Token::LENGTH]).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Unavailable);

    // Who asks comes back as another user: nothing may go out as the first one.
    ben.log_in(&authority, "ben");
    let (reversed, direct) = (ana.is_dialled_by(&ben).await, ana.dials(&ben).await);
    let mut following = reversed.watch(id).await.unwrap();
    following.next().await.unwrap().unwrap();
    ana.log_in(&authority, "anastasia");
    gone(&reversed).await;
    gone(&direct).await;
    assert!(timeout(PATIENCE, following.next()).await.unwrap().is_none_or(|state| state.is_err()));
    ana.end().await;
    ben.end().await;
}

#[tokio::test]
async fn at_a_soft_stop_a_reversed_connection_ends_in_order() {
    let authority = Authority::new();
    let (ana, ben) = tokio::join!(Peer::start(&authority, "ana"), Peer::start(&authority, "ben"));
    let file = some_bytes(3 << 20);
    let id = ben.share("a.bin", &file, Audience::Network).await;
    let link = ana.is_dialled_by(&ben).await;
    let mut chunks = link.fetch(id, 0..file.len() as u64).await.unwrap();
    let mut bytes = BytesMut::from(&chunks.next().await.unwrap().unwrap()[..]);
    ben.lifecycle.stop();
    while let Some(chunk) = timeout(PATIENCE, chunks.next()).await.unwrap() {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    assert!(bytes == file, "what was begun is finished");
    drop(chunks);
    ben.end().await;
    assert!(!link.is_open());
    ana.end().await;
}

#[tokio::test]
async fn what_is_being_given_ends_when_it_may_not_be_had_any_more() {
    let authority = Authority::new();
    let (ana, ben) = tokio::join!(Peer::start(&authority, "ana"), Peer::start(&authority, "ben"));
    let file = some_bytes(24 << 20);
    let size = file.len() as u64;
    let list = |names: &[&str]| Audience::Users(names.iter().map(|name| name.parse().unwrap()).collect());
    let id = ben.share("for ana.bin", &file, list(&["ana"])).await;
    let everybodys = ben.share("for all.bin", b"all", Audience::Network).await;
    let link = ana.dials(&ben).await;
    // Far more than the windows take in: the rest waits for a reader.
    let mut chunks = link.fetch(id, 0..size).await.unwrap();
    let mut bytes = chunks.next().await.unwrap().unwrap().len() as u64;
    let (mut watched, mut others) = (link.watch(id).await.unwrap(), link.watch(everybodys).await.unwrap());
    watched.next().await.unwrap().unwrap();
    others.next().await.unwrap().unwrap();

    // The bell alone ends nothing.
    ben.library.bell().send_replace(());
    ben.library.set_audience(&id, list(&["carla"])).await.unwrap();
    let not_found =
        |error: &LinkError| matches!(error, LinkError::Answered(f) if f.code == ErrorCode::NotFound);
    let ended = timeout(PATIENCE, watched.next()).await.unwrap().unwrap().map_err(crate::link::link_error);
    assert!(ended.as_ref().is_err_and(not_found), "{ended:?}");
    let ended = loop {
        match timeout(PATIENCE, chunks.next()).await.unwrap() {
            Some(Ok(chunk)) => bytes += chunk.len() as u64,
            other => break other,
        }
    };
    assert!(ended.as_ref().is_some_and(|end| end.as_ref().is_err_and(not_found)), "{ended:?}");
    assert!(bytes < size / 2, "{bytes} of {size} bytes came all the same");
    assert!(link.describe(everybodys, 0).await.is_ok());
    assert!(futures::FutureExt::now_or_never(others.next()).is_none(), "what others may have goes on");
    drop((chunks, watched, others));
    ana.end().await;
    ben.end().await;
}

#[tokio::test]
async fn nothing_is_dialled_that_the_operator_does_not_allow() {
    let authority = Authority::new();
    let (ana, ben) = tokio::join!(Peer::start(&authority, "ana"), Peer::start(&authority, "ben"));
    let inner_door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = [inner_door.local_addr().unwrap().to_string()];
    let only = |list: &[&str]| {
        let allowed = list.iter().map(|entry| entry.parse().unwrap()).collect();
        ana.tls.clone().dialling_only(crate::allowed::AllowedEndpoints::only(allowed))
    };
    let elsewhere = only(&["10.0.0.0/8", "::1"]);
    for purpose in [Purpose::Calls, Purpose::Reversal] {
        let refused = connection::dial(ben.id, &endpoints, purpose, &elsewhere).await.unwrap_err();
        assert!(format!("{refused:#}").contains("PEER_ALLOWED_ENDPOINTS"), "{refused:#}");
    }
    assert!(futures::FutureExt::now_or_never(inner_door.accept()).is_none(), "nobody knocked");
    let endpoints = [ben.door.to_string()];
    connection::dial(ben.id, &endpoints, Purpose::Calls, &only(&["127.0.0.0/8"])).await.unwrap();
    ana.end().await;
    ben.end().await;
}
