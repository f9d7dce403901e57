//! "Fetch this from me": from one person to another, also to one who is away, and never more than they asked for.

use std::time::{Duration, Instant};

use content::ContentId;
use futures::StreamExt;
use serde_json::{Value, json};
use testnet::{Api, Member, Network, Peer, Reply, grpc_channel, read, sample, until, until_within};
use tonic::transport::Channel;
use wire::{
    ErrorCode,
    proto::{self, OfferAnswer, files_client::FilesClient},
    rest::{
        Page,
        pclient::{Offer, OfferState},
    },
};

use crate::big;

const WAITS_HERE: &str =
    "ben is offline; it waits here until both are on: there is no relay (the directory names no broker)";

async fn send(api: &Api, id: ContentId, to: &str) -> Reply {
    api.post("/v1/offers", &json!({ "content_id": id, "to": to })).await
}

async fn answer(api: &Api, id: &str, verb: &str) -> Reply {
    api.post(&format!("/v1/offers/{id}/{verb}"), &()).await
}

async fn received(api: &Api) -> Vec<Offer> {
    api.get("/v1/offers?limit=200").await.read::<Page<Offer>>().items
}

async fn shown(api: &Api, id: &str) -> Offer {
    api.get(&format!("/v1/offers/{id}")).await.read()
}

/// Shares a file with these users only.
async fn share_with(api: &Api, name: &str, bytes: &[u8], audience: &[&str]) -> ContentId {
    let path = api.put(name, bytes);
    let shared = api.post("/v1/files", &json!({ "path": path, "audience": audience })).await;
    assert_eq!(shared.status, 201, "{shared:?}");
    ContentId::of(bytes)
}

/// What a peer's own program says to another peer, said by hand.
async fn door(ben: &Peer, member: &Member) -> FilesClient<Channel> {
    let channel = grpc_channel(ben.pserver(), ben.peer_id().await, member.client_config()).await.unwrap();
    FilesClient::new(channel)
}

fn offer(number: u8, id: ContentId, name: &str, size: u64) -> proto::OfferRequest {
    proto::OfferRequest {
        offer_id: vec![number; 16].into(),
        content_id: id.as_bytes().to_vec().into(),
        name: name.to_owned(),
        size,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_offered_accepted_and_arrives() {
    let network = Network::start().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let mut events = ben.request(reqwest::Method::GET, "/v1/events").send().await.unwrap().bytes_stream();
    let file = big(300, 5);
    let id = share_with(&ana, "trip/film.bin", &file, &["ben"]).await;
    let sent = send(&ana, id, "ben").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let sent: Offer = sent.read();
    assert_eq!((sent.state, sent.to.peer_id), (OfferState::Delivered, Some(ben.peer_id().await)));

    let [seen] = <[Offer; 1]>::try_from(received(&ben).await).unwrap();
    assert_eq!((seen.from.username.as_str(), seen.from.peer_id), ("ana", Some(ana.peer_id().await)));
    assert_eq!((seen.name.as_str(), seen.size), ("trip/film.bin", file.len() as u64));
    assert_eq!((seen.state, seen.content_id), (OfferState::Offered, id));
    let mut told = String::new();
    while !told.contains("event: offer\n") {
        let next = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
        told += std::str::from_utf8(&next.expect("an event in time").unwrap().unwrap()).unwrap();
    }

    let accepted = answer(&ben, &seen.id, "accept").await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    let download = accepted.read::<Offer>().download_id.unwrap();
    let done = ben.done(&download).await;
    assert!(done.path.as_deref().unwrap().ends_with("downloads/trip/film.bin"), "{:?}", done.path);
    assert_eq!(done.sources[0].username.as_str(), "ana");
    let again = answer(&ben, &seen.id, "accept").await;
    assert_eq!((again.status.as_u16(), again.read::<Offer>().download_id), (200, Some(download)));
    assert_eq!(answer(&ben, &seen.id, "decline").await.code(), "conflict");

    // What ben has passed on with the offer is nothing: the file is for him alone.
    assert_eq!(ana.holders(id).await.len(), 1);
    drop(events);
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_is_an_answer_too() {
    let network = Network::start().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let id = ana.share("a.txt", b"not for me").await;
    assert_eq!(send(&ana, id, "ben").await.status, 201);
    let seen = received(&ben).await.remove(0);
    assert_eq!(answer(&ben, &seen.id, "decline").await.read::<Offer>().state, OfferState::Declined);
    assert_eq!(answer(&ben, &seen.id, "accept").await.code(), "conflict");
    assert!(ben.get("/v1/downloads").await.json()["items"].as_array().unwrap().is_empty());
    // Asked for once more, it is another offer.
    assert_eq!(send(&ana, id, "ben").await.status, 201);
    let states: Vec<OfferState> = received(&ben).await.iter().map(|offer| offer.state).collect();
    assert_eq!(states, [OfferState::Offered, OfferState::Declined]);
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_chosen_users_offer_is_fetched_at_once() {
    let network = Network::start().await;
    let (ana, eve) = (network.peer("ana").await, network.peer("eve").await);
    let chosen = |settings: &mut peer::config::Settings| {
        settings.accept_offers_from = vec!["ana".parse().unwrap()];
    };
    let ben = network.peer_with("ben", chosen).await;
    let (file, other) = (sample(301, 100_000), sample(302, 1_000));
    let (id, of_eve) = (ana.share("from ana.bin", &file).await, eve.share("from eve.bin", &other).await);
    let sent: Offer = send(&ana, id, "ben").await.read();
    assert_eq!(sent.state, OfferState::Accepted, "the sender learns it with the delivery");
    assert_eq!(send(&eve, of_eve, "ben").await.read::<Offer>().state, OfferState::Delivered);
    let [second, first] = <[Offer; 2]>::try_from(received(&ben).await).unwrap();
    assert_eq!((first.state, second.state), (OfferState::Accepted, OfferState::Offered));
    ben.done(&first.download_id.unwrap()).await;
    assert_eq!(read(ben.download_dir().join("from ana.bin")), file);
    network.end([ben, ana, eve]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_waits_for_a_peer_that_is_off() {
    let network = Network::start().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let ben = ben.end().await;
    let id = share_with(&ana, "later.bin", &big(303, 2), &["ben"]).await;
    let sent = send(&ana, id, "ben").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let sent: Offer = sent.read();
    assert_eq!((sent.state, sent.why.as_deref()), (OfferState::Waiting, Some(WAITS_HERE)));
    assert_eq!(send(&ana, id, "ben").await.read::<Offer>().id, sent.id, "it waits already");

    // The sender's peer is started again meanwhile, and has not forgotten.
    let ana = Peer::again(ana.end().await).await;
    assert_eq!(shown(&ana, &sent.id).await.state, OfferState::Waiting);
    let ben = Peer::again(ben).await;
    let back = Instant::now();
    let seen = until_within(Duration::from_secs(5), "the offer is delivered after the return", async || {
        received(&ben).await.pop()
    })
    .await;
    println!("delivered {:?} after the receiver's return", back.elapsed());
    assert_eq!((seen.from.username.as_str(), seen.name.as_str()), ("ana", "later.bin"));
    until("the sender knows", async || {
        (shown(&ana, &sent.id).await.state == OfferState::Delivered).then_some(())
    })
    .await;

    // And the receiver does not forget either.
    let ben = Peer::again(ben.end().await).await;
    assert_eq!(received(&ben).await, std::slice::from_ref(&seen));
    let accepted: Offer = answer(&ben, &seen.id, "accept").await.read();
    let ben = Peer::again(ben.end().await).await;
    assert_eq!(shown(&ben, &seen.id).await.state, OfferState::Accepted);
    ben.done(&accepted.download_id.unwrap()).await;
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_online_and_cannot_be_reached_hears_of_it_when_it_can() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ben = network.peer_behind(&proxy, "ben").await;
    let ana = network.peer("ana").await;
    let id = ana.share("a.txt", b"through thick and thin").await;
    proxy.cut();
    let sent: Offer = send(&ana, id, "ben").await.read();
    let why = "ben is online and cannot be reached; it waits here until both are on: there is no relay (the directory names no broker)";
    assert_eq!((sent.state, sent.why.as_deref()), (OfferState::Waiting, Some(why)));
    proxy.restore();
    until_within(Duration::from_secs(20), "it is delivered", async || received(&ben).await.pop()).await;
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_machine_of_the_receiver_that_is_online_sees_it() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let as_ben = |settings: &mut peer::config::Settings| {
        settings.username = Some("ben".parse().unwrap());
        settings.password = Some("password of ben".to_owned().into());
    };
    let (desk, lap) = (network.peer("ben").await, network.peer_with("lap", as_ben).await);
    let id = ana.share("a.txt", b"for both").await;
    assert_eq!(send(&ana, id, "ben").await.read::<Offer>().state, OfferState::Delivered);
    for machine in [&desk, &lap] {
        assert_eq!(received(machine).await.len(), 1);
    }

    // To one's own other machine, also what is for nobody else.
    let secret = share_with(&desk, "secret.txt", b"for nobody else", &[]).await;
    let sent: Offer = send(&desk, secret, "ben").await.read();
    assert_eq!((sent.state, sent.to.peer_id), (OfferState::Delivered, Some(lap.peer_id().await)));
    let [own, _] = <[Offer; 2]>::try_from(received(&lap).await).unwrap();
    assert_eq!(received(&desk).await.len(), 1, "not to itself");
    let accepted: Offer = answer(&lap, &own.id, "accept").await.read();
    lap.done(&accepted.download_id.unwrap()).await;
    network.end([desk, lap, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_receiver_may_have_is_offered() {
    let network = Network::start().await;
    let (ana, ben, cleo) = (network.peer("ana").await, network.peer("ben").await, network.peer("cleo").await);
    let file = sample(304, 50_000);
    let id = share_with(&ana, "secret.bin", &file, &["ben"]).await;
    let refused = send(&ana, id, "cleo").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "permission_denied"));
    let unknown = send(&ana, id, "nobody").await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (403, "permission_denied"));
    let public = ana.share("public.bin", b"for all").await;
    let unknown = send(&ana, public, "nobody").await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (404, "not_found"));
    let to_itself = send(&ana, public, "ana").await;
    assert_eq!((to_itself.status.as_u16(), to_itself.code().as_str()), (422, "unprocessable"));
    assert_eq!(send(&ana, ContentId::of(b"?"), "ben").await.status, 404);

    assert_eq!(send(&ana, id, "ben").await.read::<Offer>().state, OfferState::Delivered);
    assert!(received(&cleo).await.is_empty());
    let seen = received(&ben).await.remove(0);
    let accepted: Offer = answer(&ben, &seen.id, "accept").await.read();
    ben.done(&accepted.download_id.unwrap()).await;
    // Whoever tells of an offer that was not made to them gets no more by it.
    let member = Member::join(&network.url(), "mallory", &[]).await;
    let mut files = door(&cleo, &member).await;
    let told = files.offer(offer(1, id, "secret.bin", file.len() as u64)).await.unwrap();
    assert_eq!(told.get_ref().answer(), OfferAnswer::Open);
    let seen = received(&cleo).await.remove(0);
    let accepted: Offer = answer(&cleo, &seen.id, "accept").await.read();
    let download = accepted.download_id.unwrap();
    let waits = wire::rest::pclient::DownloadState::Waiting;
    assert_eq!(cleo.state(&download, waits).await.verified_bytes, 0);
    drop((files, member));
    network.end([cleo, ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_can_neither_flood_nor_fool() {
    let network = Network::start().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let mallory = Member::join(&network.url(), "mallory", &[]).await;
    let mut files = door(&ben, &mallory).await;
    let id = ContentId::of(b"nothing");
    for broken in [
        proto::OfferRequest::default(),
        offer(1, id, "../../.ssh/authorized_keys", 7),
        offer(1, id, "a\u{1b}[2J", 7),
        offer(1, id, "a", u64::MAX),
    ] {
        let refused = files.offer(broken).await.unwrap_err();
        assert_eq!(ErrorCode::of_status(&refused), ErrorCode::InvalidArgument, "{refused:?}");
    }
    for number in 0..100 {
        let told = files.offer(offer(number, ContentId::of(&[number]), "a.txt", 1)).await.unwrap();
        assert_eq!(told.get_ref().answer(), OfferAnswer::Open);
    }
    let refused = files.offer(offer(100, ContentId::of(&[100]), "a.txt", 1)).await.unwrap_err();
    assert_eq!(ErrorCode::of_status(&refused), ErrorCode::RateLimited);
    assert!(files.offer(offer(7, ContentId::of(&[7]), "a.txt", 1)).await.is_ok(), "told again");
    assert_eq!(received(&ben).await.len(), 100);

    // Others are not in their way.
    let note = ana.share("note.txt", b"a note").await;
    assert_eq!(send(&ana, note, "ben").await.read::<Offer>().state, OfferState::Delivered);

    // Who says yes to a note does not get a film.
    let film = ana.share("film.bin", &big(305, 24)).await;
    ben.found("film", film, 1).await;
    let first = received(&ben).await.pop().unwrap();
    answer(&ben, &first.id, "decline").await;
    files.offer(offer(101, film, "note too.txt", 7)).await.unwrap();
    let lie = received(&ben).await.remove(0);
    assert_eq!((lie.from.username.as_str(), lie.size), ("mallory", 7));
    let accepted: Offer = answer(&ben, &lie.id, "accept").await.read();
    let ended = until("the download of another size ends", async || {
        let offer = shown(&ben, &lie.id).await;
        (offer.state == OfferState::Declined).then_some(offer)
    })
    .await;
    let why = format!("the file has {} bytes, and 7 were offered", 24 << 20);
    assert_eq!(ended.why, Some(why));
    let gone = ben.get(&format!("/v1/downloads/{}", accepted.download_id.unwrap())).await;
    assert_eq!(gone.status, 404);
    drop((files, mallory));
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_says_who_offers_what() {
    let network = Network::start().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    for number in 0..3u8 {
        let id = ana.share(&format!("{number}.txt"), &[number]).await;
        assert_eq!(send(&ana, id, "ben").await.status, 201);
    }
    let first: Value = ben.get("/v1/offers?limit=2").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second: Value = ben.get(&format!("/v1/offers?limit=2&cursor={cursor}")).await.json();
    let names: Vec<&str> = [&first, &second]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["2.txt", "1.txt", "0.txt"], "the newest first");
    assert!(second["next_cursor"].is_null());
    let sent: Page<Offer> = ana.get("/v1/offers?direction=sent&state=delivered").await.read();
    assert_eq!(sent.items.len(), 3);
    assert_eq!(
        (sent.items[0].from.peer_id, sent.items[0].to.username.as_str()),
        (Some(ana.peer_id().await), "ben")
    );
    network.end([ben, ana]).await;
}
