//! One suite for both links: the same question gets the same answer over gRPC and over the relay, refusals included,
//! word for word.

use std::time::Duration;

use bytes::Bytes;
use content::{ContentId, Outline, PieceSet};
use futures::{StreamExt, TryStreamExt};
use peer::{
    Failure,
    config::{AmqpSetting, PserverListen},
    link::{Link, LinkError, Rung, Target},
};
use serde_json::json;
use testnet::{Network, PATIENCE, Peer, Rabbit, sample, until};
use tokio::time::timeout;
use wire::{
    ErrorCode,
    proto::{self, OfferAnswer},
};

use super::talk::relay_only;
use crate::{MIB, big};

/// What the holder has, and what it does not.
struct Ground {
    large: Held,
    empty: Held,
    /// Files of one piece; there is more than one portion of them.
    small: Vec<Held>,
    /// For the asker.
    granted: Held,
    /// For somebody else.
    hidden: ContentId,
    nowhere: ContentId,
    /// Arriving at the holder, and stuck.
    partial: ContentId,
}

struct Held {
    id: ContentId,
    bytes: Bytes,
}

impl Held {
    async fn at(peer: &Peer, name: &str, bytes: Bytes) -> Self {
        Self { id: peer.share(name, &bytes).await, bytes }
    }

    async fn only_for(peer: &Peer, name: &str, bytes: Bytes, user: &str) -> Self {
        let path = peer.put(name, &bytes);
        let shared = peer.post("/v1/files", &json!({ "path": path, "audience": [user] })).await;
        assert_eq!(shared.status, 201, "{shared:?}");
        Self { id: ContentId::of(&bytes), bytes }
    }
}

/// What was refused, in order: the question and the words.
type Refusals = Vec<(&'static str, Failure)>;

/// Asks everything that can be asked. What was refused comes back, to be compared.
async fn suite(link: &Link, ground: &Ground) -> Refusals {
    let mut refusals = Vec::new();
    describes(link, ground, &mut refusals).await;
    fetches(link, ground, &mut refusals).await;
    fetches_many(link, ground, &mut refusals).await;
    watches(link, ground, &mut refusals).await;
    lists(link, ground).await;
    offers(link, ground, &mut refusals).await;
    refusals
}

fn refused<T>(answer: Result<T, LinkError>, code: ErrorCode) -> Failure {
    match answer {
        Err(LinkError::Answered(failure)) if failure.code == code => failure,
        Err(other) => panic!("{code} is expected, not {other:?}"),
        Ok(_) => panic!("{code} is expected"),
    }
}

/// A refusal that comes with the question or with the first bytes.
async fn fetched(link: &Link, id: ContentId, range: std::ops::Range<u64>) -> Result<Vec<u8>, LinkError> {
    let mut chunks = link.fetch(id, range).await?;
    let mut bytes = Vec::new();
    while let Some(more) = timeout(PATIENCE, chunks.next()).await.expect("the answer goes on") {
        bytes.extend_from_slice(&more?);
    }
    Ok(bytes)
}

async fn describes(link: &Link, ground: &Ground, refusals: &mut Refusals) {
    let large = link.describe(ground.large.id, 0).await.unwrap();
    let size = ground.large.bytes.len() as u64;
    assert_eq!((large.size, large.restricted), (size, false));
    let (values, _) = large.chaining_values.as_chunks::<32>();
    let layout = content::Layout::new(size).unwrap();
    Outline::verify(ground.large.id, layout, values.to_vec()).unwrap();
    let from_two = link.describe(ground.large.id, 2).await.unwrap();
    assert_eq!(from_two.chaining_values, large.chaining_values.slice(64..));
    assert_eq!(link.describe(ground.large.id, u32::MAX).await.unwrap().chaining_values.len(), 0);
    assert!(link.describe(ground.granted.id, 0).await.unwrap().restricted);
    for (what, id) in [("describe nothing", ground.nowhere), ("describe hidden", ground.hidden)] {
        let failure = refused(link.describe(id, 0).await, ErrorCode::NotFound);
        assert_eq!(failure.detail, format!("no file {id} here"), "{what}");
        refusals.push((what, failure));
    }
}

async fn fetches(link: &Link, ground: &Ground, refusals: &mut Refusals) {
    let (id, bytes) = (ground.large.id, &ground.large.bytes);
    let (size, piece) = (bytes.len() as u64, MIB as u64);
    let last = size / piece * piece;
    for range in [0..size, 0..piece, piece..3 * piece, last..size, last - 5 * piece..size] {
        let wanted = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert!(fetched(link, id, range.clone()).await.unwrap() == wanted, "{range:?}");
    }
    assert_eq!(fetched(link, ground.empty.id, 0..0).await.unwrap(), b"");
    assert!(
        fetched(link, ground.granted.id, 0..ground.granted.bytes.len() as u64).await.unwrap()
            == ground.granted.bytes
    );

    for (what, id, range, code) in [
        ("fetch nothing", ground.nowhere, 0..piece, ErrorCode::NotFound),
        ("fetch hidden", ground.hidden, 0..piece, ErrorCode::NotFound),
        ("fetch no bytes", id, 0..0, ErrorCode::InvalidArgument),
        ("fetch from within a piece", id, 1..piece, ErrorCode::InvalidArgument),
        ("fetch to within a piece", id, 0..piece + 1, ErrorCode::InvalidArgument),
        ("fetch to within a late piece", id, 0..last - 1, ErrorCode::InvalidArgument),
        ("fetch beyond the end", id, 0..last + piece, ErrorCode::InvalidArgument),
        ("fetch far beyond the end", id, 1 << 41..1 << 42, ErrorCode::InvalidArgument),
    ] {
        refusals.push((what, refused(fetched(link, id, range).await, code)));
    }

    // Of a file that is arriving, what is there is served, and nothing else.
    let described = link.describe(ground.partial, 0).await.unwrap();
    let count = u32::try_from(described.size.div_ceil(piece)).unwrap();
    let pieces = PieceSet::from_bytes(count, &described.pieces.unwrap().bits).unwrap();
    let range = |index: u32| u64::from(index) * piece..(u64::from(index) + 1) * piece;
    let here = pieces.iter().next().expect("some pieces are here");
    assert_eq!(fetched(link, ground.partial, range(here)).await.unwrap().len(), MIB);
    let missing = pieces.missing().last().expect("some are not");
    let failure = refused(fetched(link, ground.partial, range(missing)).await, ErrorCode::Unprocessable);
    refusals.push(("fetch a piece that is not here", failure));
}

async fn fetches_many(link: &Link, ground: &Ground, refusals: &mut Refusals) {
    let mut ids: Vec<ContentId> = ground.small.iter().map(|held| held.id).collect();
    let odd = [
        (ground.nowhere, "not_found"),
        (ground.large.id, "too_large"),
        (ground.hidden, "not_found"),
        (ground.partial, "not_found"),
    ];
    ids.extend(odd.map(|(id, _)| id));
    ids.extend([ground.granted.id, ground.small[0].id]);
    let files: Vec<proto::FileChunk> = link.fetch_many(&ids).await.unwrap().try_collect().await.unwrap();
    let indices: Vec<u32> = files.iter().map(|file| file.index).collect();
    assert_eq!(indices, (0..).take(ids.len()).collect::<Vec<u32>>(), "each once, in the order asked");
    let (small, rest) = files.split_at(ground.small.len());
    for (file, held) in small.iter().zip(&ground.small) {
        assert!(file.data == held.bytes && file.error.is_empty() && !file.restricted);
    }
    for (file, (_, word)) in rest.iter().zip(odd) {
        assert_eq!((file.error.as_str(), file.data.len()), (word, 0));
    }
    let [granted, again] = &rest[odd.len()..] else { panic!("{}", rest.len()) };
    assert!(granted.data == ground.granted.bytes && granted.restricted);
    assert!(again.data == ground.small[0].bytes);

    assert_eq!(link.fetch_many(&[]).await.unwrap().count().await, 0);
    let most = vec![ground.nowhere; 1_000];
    assert_eq!(link.fetch_many(&most).await.unwrap().count().await, 1_000);
    let answer = link.fetch_many(&vec![ground.nowhere; 1_001]).await;
    refusals.push(("fetch too many", refused(answer, ErrorCode::InvalidArgument)));
}

async fn watches(link: &Link, ground: &Ground, refusals: &mut Refusals) {
    let mut states = link.watch(ground.large.id).await.unwrap();
    let state = timeout(PATIENCE, states.next()).await.expect("the state comes at once").unwrap().unwrap();
    assert_eq!((state.bits.len(), state.held, state.receivers.len()), (0, 10, 0));
    let partial = link.watch(ground.partial).await.unwrap().next().await.unwrap().unwrap();
    assert!(partial.held > 0 && !partial.bits.is_empty(), "{partial:?}");
    for (what, id) in [("watch nothing", ground.nowhere), ("watch hidden", ground.hidden)] {
        refusals.push((what, refused(link.watch(id).await, ErrorCode::NotFound)));
    }
}

async fn lists(link: &Link, ground: &Ground) {
    let files: Vec<proto::File> = link.list().await.unwrap().try_collect().await.unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert!(names.is_sorted() && names.contains(&"large.bin") && names.contains(&"granted.bin"), "{names:?}");
    assert!(!names.contains(&"hidden.bin"));
    let large = files.iter().find(|file| file.name == "large.bin").unwrap();
    assert_eq!(large.content_id.as_ref(), ground.large.id.as_bytes());
    assert_eq!((large.size, large.pieces_held), (ground.large.bytes.len() as u64, 10));
}

async fn offers(link: &Link, ground: &Ground, refusals: &mut Refusals) {
    let offer = |name: &str| proto::OfferRequest {
        offer_id: vec![7; 16].into(),
        content_id: ground.nowhere.as_bytes().to_vec().into(),
        name: name.to_owned(),
        size: 5,
    };
    // The same offer twice is one.
    for _ in 0..2 {
        assert_eq!(link.offer(offer("a gift.txt")).await.unwrap().answer(), OfferAnswer::Open);
    }
    let failure = refused(link.offer(offer("../a gift.txt")).await, ErrorCode::InvalidArgument);
    refusals.push(("offer what has no good name", failure));
}

/// The link by one way alone.
async fn link(asker: &Peer, holder: &Peer, rung: Rung) -> Link {
    let id = holder.peer_id().await;
    until("the way is open", async || {
        let peers = asker.peers().await;
        let mut target = Target::from(&peers.iter().find(|one| one.peer.peer_id == id)?.peer);
        if rung == Rung::Relayed {
            target.endpoints.clear();
        }
        asker.links().get(&target, 0).await.ok().filter(|link| link.rung() == rung)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_question_gets_the_same_answer_by_every_way() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben =
        network.peer_with("ben", |settings| settings.amqp = AmqpSetting::At(broker.clone().into())).await;
    // One user on two machines, each of which has one way only.
    let dialling = network
        .peer_with("carla", |settings| {
            settings.pserver_listen = PserverListen::Off;
            settings.amqp = AmqpSetting::Never;
        })
        .await;
    let relayed = network
        .peer_with("carla2", |settings| {
            (settings.username, settings.password) =
                (dialling.settings.username.clone(), dialling.settings.password.clone());
            relay_only(settings, &broker);
        })
        .await;

    let mut small = Vec::new();
    for seed in 0..12u32 {
        let length = if seed % 2 == 0 { MIB } else { 700 * seed as usize };
        small.push(Held::at(&ben, &format!("small {seed}.bin"), sample(seed.into(), length)).await);
    }
    let arriving = ana.share("arriving.bin", &big(500, 64)).await;
    let ground = Ground {
        large: Held::at(&ben, "large.bin", sample(501, 9 * MIB + 7)).await,
        empty: Held::at(&ben, "empty.bin", Bytes::new()).await,
        small,
        granted: Held::only_for(&ben, "granted.bin", sample(502, 5_000), "carla").await,
        hidden: Held::only_for(&ben, "hidden.bin", big(503, 2), "ana").await.id,
        nowhere: ContentId::of(b"nobody has it"),
        partial: arriving,
    };
    ben.found("arriving", arriving, 1).await;
    proxy.slow(8 << 20);
    let download = ben.start(arriving).await;
    ben.wait(&download.id, "some of it is here", |d| d.verified_bytes >= 4 * MIB as u64).await;
    proxy.silence();

    let over_grpc = suite(&link(&dialling, &ben, Rung::Direct).await, &ground).await;
    let over_relay = suite(&link(&relayed, &ben, Rung::Relayed).await, &ground).await;
    assert_eq!(over_relay, over_grpc);
    proxy.restore();
    proxy.slow(0);
    ben.done(&download.id).await;
    network.end([relayed, dialling, ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_without_a_place_says_so_and_a_fetch_does_not_crowd_itself_out() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ben = network
        .peer_with("ben", |settings| {
            settings.amqp = AmqpSetting::At(broker.clone().into());
            settings.max_uploads = 1;
        })
        .await;
    let dialling = network
        .peer_with("carla", |settings| {
            settings.pserver_listen = PserverListen::Off;
            settings.amqp = AmqpSetting::Never;
        })
        .await;
    let relayed = network.peer_with("daniel", |settings| relay_only(settings, &broker)).await;
    let file = big(510, 48);
    let id = ben.share("much.bin", &file).await;
    let size = file.len() as u64;
    let by_grpc = link(&dialling, &ben, Rung::Direct).await;
    let by_relay = link(&relayed, &ben, Rung::Relayed).await;

    // Whoever begins to fetch and does not go on keeps the one place.
    let mut stuck = by_grpc.fetch(id, 0..size).await.unwrap();
    stuck.next().await.unwrap().unwrap();
    let mut words = Vec::new();
    for link in [&by_grpc, &by_relay] {
        words.push(refused(fetched(link, id, 0..size).await, ErrorCode::RateLimited));
        words.push(refused(link.fetch_many(&[id]).await, ErrorCode::RateLimited));
    }
    assert_eq!(words[..2], words[2..]);
    drop(stuck);

    // A relayed fetch asks for several portions at once, and this peer answers one at a time.
    let mut bytes = Vec::new();
    until("the place is free again", async || {
        bytes = fetched(&by_relay, id, 0..size).await.ok()?;
        Some(())
    })
    .await;
    assert!(bytes == file);
    // Whoever holds a connection keeps it open.
    drop((by_grpc, by_relay));
    network.end([relayed, dialling, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_longer_than_an_answer_is_asked_for_in_portions() {
    const FILES: usize = 4_200;
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let folder = network.folder("ben").join("share");
    std::fs::create_dir_all(&folder).unwrap();
    for n in 0..FILES {
        // Every tenth is another content; the others differ by their names alone.
        let bytes = if n % 10 == 0 { n.to_string() } else { "the same".to_owned() };
        std::fs::write(folder.join(format!("{n:05}.txt")), bytes).unwrap();
    }
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    testnet::until_within(Duration::from_secs(60), "all are shared", async || {
        (ben.status().await.shared.files == FILES as u64).then_some(())
    })
    .await;
    let files: Vec<proto::File> =
        link(&ana, &ben, Rung::Relayed).await.list().await.unwrap().try_collect().await.unwrap();
    let names: Vec<String> = files.into_iter().map(|file| file.name).collect();
    let wanted: Vec<String> = (0..FILES).map(|n| format!("{n:05}.txt")).collect();
    assert!(names == wanted, "{} of {FILES}", names.len());
    network.end([ana, ben]).await;
}
