//! Offers on one machine, through its REST API and as other peers tell them: what is taken in, refused, answered,
//! ended and remembered.

use axum::body::Body;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use wire::rest::{
    directory::PeerItem,
    pclient::{DownloadState, FetchPath},
};

use super::*;
use crate::pclient::rest::kit::{Answer, PATIENCE, Peer, field, file, form};

pub(super) fn sent_row() -> OfferRow {
    OfferRow {
        seq: 1,
        direction: OfferDirection::Sent,
        token: [7; 16],
        account: user("ana"),
        username: user("ben"),
        peer_id: None,
        content_id: ContentId::of(b"x"),
        name: "x.txt".parse().unwrap(),
        size: 1,
        state: OfferState::Waiting,
        offered_at: 0,
        why: None,
        download_id: None,
    }
}

fn user(name: &str) -> Username {
    name.parse().unwrap()
}

/// Who calls as this user, from the machine of this number.
fn caller(name: &str, machine: u8) -> Caller {
    Caller { peer_id: PeerId::from_bytes([machine; 16]), username: user(name), path: FetchPath::Direct }
}

/// The offer of this number: of a file whose bytes are its name.
fn offer(number: u8, name: &str) -> proto::OfferRequest {
    proto::OfferRequest {
        offer_id: vec![number; 16].into(),
        content_id: ContentId::of(name.as_bytes()).as_bytes().to_vec().into(),
        name: name.to_owned(),
        size: name.len() as u64,
    }
}

fn machine(name: &str, number: u8, online: bool) -> PeerItem {
    PeerItem {
        peer_id: PeerId::from_bytes([number; 16]),
        username: user(name),
        endpoints: vec![],
        online,
        last_seen: Timestamp::UNIX_EPOCH,
        sealing_key: String::new(),
        relay: false,
        version: "1".to_owned(),
        files: 0,
    }
}

impl Peer {
    /// Logged in as Ana.
    async fn of_ana() -> Self {
        let peer = Self::start().await;
        let login = peer.post("/v1/login", json!({"username": "ana", "password": "correct horse"})).await;
        assert_eq!(login.status, StatusCode::OK, "{}", login.text());
        peer
    }

    async fn takes(&self, from: &str, told: &proto::OfferRequest) -> Result<OfferAnswer, ErrorCode> {
        self.pclient.offers.receive(&caller(from, 9), told).await.map_err(|failure| failure.code)
    }

    async fn items(&self, uri: &str) -> Vec<Value> {
        self.get(uri).await.json()["items"].as_array().unwrap().clone()
    }

    async fn says(&self, id: &Value, verb: &str) -> Answer {
        let uri = format!("/v1/offers/{}/{verb}", id.as_str().unwrap());
        self.ask(Method::POST, &uri, &[], Body::empty()).await
    }

    async fn sends(&self, id: ContentId, to: &str) -> Answer {
        self.post("/v1/offers", json!({"content_id": id, "to": to})).await
    }

    /// Other offers beside those of this peer's API: with a clock, a store and settings of their own.
    fn offers_with(&self, store: &Store, clock: &Clock, accept_from: &[Offerer]) -> Offers {
        let pclient = &self.pclient;
        let parameters = Parameters {
            store: store.clone(),
            clock: clock.clone(),
            library: pclient.library.clone(),
            directory: pclient.directory.clone(),
            session: pclient.session.clone(),
            links: pclient.links.clone(),
            downloads: pclient.downloads.clone(),
            own_id: pclient.about.peer_id,
            mail: None,
            accept_from: accept_from.to_vec(),
            trust: crate::trust::Trust::default(),
        };
        Offers::start(parameters, None, &self.lifecycle)
    }

    fn other_store(&self) -> Store {
        Store::open(&self.dir.path().join("data/other.db")).unwrap()
    }
}

/// Waits until an offer is in this state.
async fn until_in(offers: &Offers, id: &str, state: OfferState) -> Offer {
    let looking = async {
        loop {
            let offer = offers.get(id).unwrap();
            if offer.state == state {
                return offer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap()
}

fn all(offers: &Offers, direction: OfferDirection) -> Vec<Offer> {
    offers.page(direction, None, None, 100).unwrap()
}

#[tokio::test]
async fn what_is_offered_is_seen_and_becomes_a_download() {
    let peer = Peer::of_ana().await;
    let mut events = peer.pclient.offers.subscribe();
    assert_eq!(peer.takes("ben", &offer(1, "trip/beach.jpg")).await, Ok(OfferAnswer::Open));
    let mut listed = peer.items("/v1/offers").await.remove(0);
    let id = listed["id"].clone();
    assert_eq!(events.recv().await.unwrap().id, id);
    listed["to"]["peer_id"] = "[own]".into();
    listed["offered_at"] = "[time]".into();
    insta::assert_json_snapshot!(listed, @r#"
    {
      "content_id": "07428eda8c2b7c3a28320dfff994fc96b47564b10cac503af825a9f5cfb75d52",
      "direction": "received",
      "download_id": null,
      "from": {
        "peer_id": "09090909090909090909090909090909",
        "username": "ben"
      },
      "id": "0000000000000001",
      "name": "trip/beach.jpg",
      "offered_at": "[time]",
      "size": 14,
      "state": "offered",
      "to": {
        "peer_id": "[own]",
        "username": "ana"
      }
    }
    "#);
    assert_eq!(peer.get(&format!("/v1/offers/{}", id.as_str().unwrap())).await.json()["state"], "offered");

    let accepted = peer.says(&id, "accept").await;
    assert_eq!((accepted.status, &accepted.json()["state"]), (StatusCode::OK, &json!("accepted")));
    let download = accepted.json()["download_id"].clone();
    let shown = peer.get(&format!("/v1/downloads/{}", download.as_str().unwrap())).await.json();
    assert_eq!((&shown["content_id"], &shown["name"]), (&listed["content_id"], &json!("trip/beach.jpg")));
    assert_eq!(events.recv().await.unwrap().state, OfferState::Accepted);

    let again = peer.says(&id, "accept").await;
    assert_eq!((again.status, &again.json()["download_id"]), (StatusCode::OK, &download));
    assert_eq!(peer.says(&id, "decline").await.code(), (409, "conflict".to_owned()));
    assert_eq!(peer.takes("ben", &offer(1, "trip/beach.jpg")).await, Ok(OfferAnswer::Accepted), "told again");
    assert_eq!(peer.items("/v1/downloads").await.len(), 1);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn what_was_declined_stays_so_until_it_is_offered_anew() {
    let peer = Peer::of_ana().await;
    peer.takes("ben", &offer(1, "a.txt")).await.unwrap();
    let id = peer.items("/v1/offers").await[0]["id"].clone();
    for _ in 0..2 {
        let declined = peer.says(&id, "decline").await;
        assert_eq!((declined.status, &declined.json()["state"]), (StatusCode::OK, &json!("declined")));
    }
    assert_eq!(peer.says(&id, "accept").await.code(), (409, "conflict".to_owned()));
    assert_eq!(peer.takes("ben", &offer(1, "a.txt")).await, Ok(OfferAnswer::Declined), "told again");
    assert_eq!(peer.takes("ben", &offer(2, "a.txt")).await, Ok(OfferAnswer::Open), "sent once more");
    assert_eq!(peer.items("/v1/offers").await.len(), 2);
    assert_eq!(peer.items("/v1/offers?state=declined").await[0]["id"], id);
    assert!(peer.items("/v1/downloads").await.is_empty());
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn the_same_told_twice_is_one_offer() {
    let peer = Peer::of_ana().await;
    for _ in 0..3 {
        assert_eq!(peer.takes("ben", &offer(1, "a.txt")).await, Ok(OfferAnswer::Open));
    }
    // Made anew, under another name: it takes the place of the former.
    let renamed = proto::OfferRequest { name: "b.txt".to_owned(), ..offer(2, "a.txt") };
    for _ in 0..2 {
        assert_eq!(peer.takes("ben", &renamed).await, Ok(OfferAnswer::Open));
    }
    let listed = peer.items("/v1/offers").await;
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &json!("b.txt")));
    // Somebody else may offer the same, by the same number too.
    peer.takes("eve", &offer(2, "a.txt")).await.unwrap();
    assert_eq!(peer.items("/v1/offers").await.len(), 2);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn pages_and_states() {
    let peer = Peer::of_ana().await;
    for number in 0..5 {
        peer.takes("ben", &offer(number, &format!("{number}.txt"))).await.unwrap();
    }
    let id = peer.items("/v1/offers?limit=1").await[0]["id"].clone();
    peer.says(&id, "decline").await;
    for (query, names) in [
        ("", vec!["4.txt", "3.txt", "2.txt", "1.txt", "0.txt"]),
        ("&state=offered", vec!["3.txt", "2.txt", "1.txt", "0.txt"]),
        ("&state=declined", vec!["4.txt"]),
        ("&direction=sent", vec![]),
    ] {
        let (mut seen, mut next) = (Vec::new(), format!("/v1/offers?limit=2{query}"));
        loop {
            let page = peer.get(&next).await.json();
            let names = page["items"].as_array().unwrap().iter();
            seen.extend(names.map(|item| item["name"].as_str().unwrap().to_owned()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            next = format!("/v1/offers?limit=2{query}&cursor={cursor}");
        }
        assert_eq!(seen, names, "{query}");
    }
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn what_no_catalog_would_hold_is_refused() {
    let peer = Peer::of_ana().await;
    let good = offer(1, "a.txt");
    for broken in [
        proto::OfferRequest::default(),
        proto::OfferRequest { offer_id: vec![1; 15].into(), ..good.clone() },
        proto::OfferRequest { content_id: vec![1; 31].into(), ..good.clone() },
        proto::OfferRequest { name: String::new(), ..good.clone() },
        proto::OfferRequest { name: "../a".to_owned(), ..good.clone() },
        proto::OfferRequest { name: "/etc/passwd".to_owned(), ..good.clone() },
        proto::OfferRequest { name: "a\u{1b}[2J".to_owned(), ..good.clone() },
        proto::OfferRequest { name: ".trueque-x.part".to_owned(), ..good.clone() },
        proto::OfferRequest { name: "a".repeat(2_000), ..good.clone() },
        proto::OfferRequest { size: u64::MAX, ..good.clone() },
    ] {
        assert_eq!(peer.takes("ben", &broken).await, Err(ErrorCode::InvalidArgument), "{broken:?}");
    }
    assert!(peer.items("/v1/offers").await.is_empty());
    peer.ask(Method::POST, "/v1/logout", &[], Body::empty()).await;
    assert_eq!(peer.takes("ben", &good).await, Err(ErrorCode::Unavailable), "nobody is logged in");
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn nobody_fills_the_list() {
    let peer = Peer::of_ana().await;
    let most = u8::try_from(MAX_OPEN_OF_ONE).unwrap();
    for number in 0..most {
        assert_eq!(peer.takes("eve", &offer(number, &number.to_string())).await, Ok(OfferAnswer::Open));
    }
    let one_more = offer(most, "one more");
    assert_eq!(peer.takes("eve", &one_more).await, Err(ErrorCode::RateLimited));
    assert_eq!(peer.takes("eve", &offer(0, "0")).await, Ok(OfferAnswer::Open), "it is there already");
    assert_eq!(peer.takes("ben", &offer(0, "a.txt")).await, Ok(OfferAnswer::Open), "others have room");
    let id = peer.items("/v1/offers?limit=200").await[7]["id"].clone();
    peer.says(&id, "decline").await;
    assert_eq!(peer.takes("eve", &one_more).await, Ok(OfferAnswer::Open), "an answer makes room");

    // All users together have a limit too; and so has what is remembered.
    let store = peer.other_store();
    let row = |name: &str, number: u8| OfferRow {
        direction: OfferDirection::Received,
        state: OfferState::Offered,
        username: user(name),
        token: [number; 16],
        content_id: ContentId::of(&[number]),
        ..sent_row()
    };
    let take = async |new: OfferRow, limits: Limits| {
        store.write(move |t| table::receive(t, &new, limits)).await.unwrap()
    };
    let limits = Limits { open_of_one: 2, open: 3, kept: 4 };
    for (name, number) in [("ben", 1), ("ben", 2), ("eve", 3)] {
        assert!(matches!(take(row(name, number), limits).await, Added::New(_)));
    }
    assert_eq!(take(row("ben", 4), limits).await, Added::Full("open offers of one user"));
    assert_eq!(take(row("eve", 4), limits).await, Added::Full("open offers"));
    let before = store.read(|c| table::get(c, 1)).unwrap().unwrap();
    let declined = OfferRow { state: OfferState::Declined, ..before.clone() };
    store.write(move |t| table::advance(t, &before, &declined)).await.unwrap().unwrap();
    assert!(matches!(take(row("eve", 4), limits).await, Added::New(_)));
    let other = Limits { open: 9, ..limits };
    assert_eq!(take(row("ben", 5), other).await, Added::Full("offers kept"));
    assert_eq!(store.write(|t| table::sweep(t, -1, 9, 0)).await.unwrap(), [], "what is over is forgotten");
    assert!(matches!(take(row("ben", 5), other).await, Added::New(_)));
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn after_seven_days_it_is_over() {
    let peer = Peer::of_ana().await;
    let (store, clock) = (peer.other_store(), Clock::by_hand("2026-07-01T12:00:00Z".parse().unwrap()));
    let offers = peer.offers_with(&store, &clock, &[]);
    offers.receive(&caller("ben", 9), &offer(1, "a.txt")).await.unwrap();
    peer.share("mine.txt", "mine").await;
    peer.directory.known.lock().peers = vec![machine("ben", 9, false)];
    let (sent, _) = offers.send(ContentId::of(b"mine"), user("ben")).await.unwrap();
    let received = all(&offers, OfferDirection::Received).remove(0);

    clock.advance(LIFETIME - Duration::from_millis(1));
    offers.sweep().await;
    assert_eq!(offers.get(&received.id).unwrap().state, OfferState::Offered);
    assert_eq!(offers.get(&sent.id).unwrap().state, OfferState::Waiting);
    let mut events = offers.subscribe();
    clock.advance(Duration::from_millis(1));
    offers.sweep().await;
    assert_eq!(events.recv().await.unwrap().state, OfferState::Expired);
    assert_eq!(offers.get(&received.id).unwrap().state, OfferState::Expired);
    assert_eq!(offers.get(&sent.id).unwrap().state, OfferState::Expired);
    assert_eq!(offers.accept(&received.id).await.unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(offers.decline(&received.id).await.unwrap_err().code, ErrorCode::Conflict);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn chosen_users_are_not_asked_about_and_nothing_is_forgotten() {
    let peer = Peer::of_ana().await;
    let (store, clock) = (peer.other_store(), Clock::system());
    let ben = [Offerer::User(user("ben"))];
    let offers = peer.offers_with(&store, &clock, &ben);
    let told = async |offers: &Offers, name: &str, number: u8| {
        offers.receive(&caller(name, 9), &offer(number, &number.to_string())).await.unwrap()
    };
    assert_eq!(told(&offers, "ben", 1).await, OfferAnswer::Accepted);
    assert_eq!(told(&offers, "eve", 2).await, OfferAnswer::Open);
    let [eve, of_ben] = <[Offer; 2]>::try_from(all(&offers, OfferDirection::Received)).unwrap();
    assert_eq!((eve.state, of_ben.state), (OfferState::Offered, OfferState::Accepted));
    assert!(peer.pclient.downloads.get(of_ben.download_id.as_ref().unwrap()).is_some());
    drop(offers);

    // The next run knows them, and goes by its own settings.
    let offers = peer.offers_with(&store, &clock, &[Offerer::Anybody]);
    let accepted = until_in(&offers, &eve.id, OfferState::Accepted).await;
    assert!(accepted.download_id.is_some());
    assert_eq!(offers.get(&of_ben.id).unwrap(), of_ben);
    assert_eq!(told(&offers, "carl", 3).await, OfferAnswer::Accepted);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn who_offers_does_not_learn_what_is_here() {
    let peer = Peer::of_ana().await;
    peer.share("here.txt", "hello").await;
    let lie = proto::OfferRequest { size: 4, ..offer(1, "hello") };
    peer.takes("ben", &lie).await.unwrap();
    let id = peer.items("/v1/offers").await[0]["id"].clone();
    let accepted = peer.says(&id, "accept").await.json();
    assert_eq!(
        (&accepted["state"], &accepted["why"]),
        (&json!("accepted"), &json!("the file has 5 bytes, and 4 were offered")),
        "the user is told"
    );
    assert_eq!(peer.takes("ben", &lie).await, Ok(OfferAnswer::Accepted), "as of what is not here");

    // One that is here already is done as soon as it is accepted.
    peer.takes("ben", &offer(2, "hello")).await.unwrap();
    let id = peer.items("/v1/offers").await[0]["id"].clone();
    let download = peer.says(&id, "accept").await.json()["download_id"].clone();
    let download = peer.pclient.downloads.get(download.as_str().unwrap()).unwrap();
    assert_eq!(download.state, DownloadState::Done);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn sending_looks_at_the_file_and_at_its_receiver() {
    let peer = Peer::of_ana().await;
    let own = PeerItem { peer_id: peer.pclient.about.peer_id, ..machine("ana", 1, true) };
    peer.directory.known.lock().peers = vec![own, machine("ben", 2, false), machine("eve", 3, false)];
    let id = peer.share("notes.txt", "notes").await;
    let secret = ContentId::of(b"secret");
    let form = form(&[field("audience", "ben"), file("secret.txt", "secret")]);
    assert_eq!(peer.upload(form).await.status, StatusCode::CREATED);

    assert_eq!(peer.sends(ContentId::of(b"?"), "ben").await.code(), (404, "not_found".to_owned()));
    assert_eq!(peer.sends(id, "nobody").await.code(), (404, "not_found".to_owned()));
    let not_for_eve = peer.sends(secret, "eve").await;
    assert_eq!(not_for_eve.code(), (403, "permission_denied".to_owned()));
    assert_eq!(
        not_for_eve.json()["detail"],
        "secret.txt is not shared with eve: put eve into its audience first"
    );
    let to_itself = peer.sends(id, "ana").await;
    assert_eq!(to_itself.code(), (422, "unprocessable".to_owned()));
    assert!(peer.items("/v1/offers?direction=sent").await.is_empty());

    let sent = peer.sends(secret, "ben").await;
    assert_eq!(sent.status, StatusCode::CREATED);
    let mut shown = sent.json();
    assert_eq!(sent.header("location"), format!("/v1/offers/{}", shown["id"].as_str().unwrap()));
    let offer_id = shown["id"].clone();
    shown["from"]["peer_id"] = "[own]".into();
    shown["offered_at"] = "[time]".into();
    insta::assert_json_snapshot!(shown, @r#"
    {
      "content_id": "5fbf08af2b116ab8f7f3c14b8ec01a46ce23d290e2ebc7a752d0982d54c054f2",
      "direction": "sent",
      "download_id": null,
      "from": {
        "peer_id": "[own]",
        "username": "ana"
      },
      "id": "0000000000000001",
      "name": "secret.txt",
      "offered_at": "[time]",
      "size": 6,
      "state": "waiting",
      "to": {
        "peer_id": null,
        "username": "ben"
      },
      "why": "ben is offline"
    }
    "#);
    let again = peer.sends(secret, "ben").await;
    assert_eq!((again.status, &again.json()["id"]), (StatusCode::OK, &offer_id), "it waits already");
    assert_eq!(peer.items("/v1/offers?direction=sent&state=waiting").await.len(), 1);
    assert!(peer.items("/v1/offers").await.is_empty(), "what others offered");
    for verb in ["accept", "decline"] {
        assert_eq!(peer.says(&offer_id, verb).await.code(), (422, "unprocessable".to_owned()), "{verb}");
    }

    // What is withdrawn from its receiver is not offered any more.
    let uri = format!("/v1/files/{secret}");
    assert_eq!(peer.ask(Method::DELETE, &uri, &[], Body::empty()).await.status, StatusCode::NO_CONTENT);
    let ended = until_in(&peer.pclient.offers, offer_id.as_str().unwrap(), OfferState::Expired).await;
    assert_eq!(ended.why.as_deref(), Some("this peer does not share such a file"));

    peer.directory.go_down().await;
    assert_eq!(peer.sends(id, "ben").await.code(), (503, "unavailable".to_owned()));
    peer.lifecycle.finish().await;
}
