//! Offers to peers that are off: they lie at the broker, are found when their receiver comes, and are one offer however
//! often and by whatever way they come.

use content::ContentId;
use peer::config::{AmqpSetting, Settings};
use serde_json::json;
use testnet::{Api, Network, Peer, Rabbit, RabbitOptions, read, sample, until};
use wire::rest::{
    Page,
    pclient::{DownloadState, Offer, OfferState, PeerPath},
};

use super::{
    big,
    mail::{on_the_relay, waiting},
    talk::relay_only,
};

pub(crate) const AT_THE_RELAY: &str = "ben is offline; it waits for them at the relay";

pub(crate) async fn send(api: &Api, id: ContentId, to: &str) -> Offer {
    let reply = api.post("/v1/offers", &json!({ "content_id": id, "to": to })).await;
    assert!(reply.status.is_success(), "{reply:?}");
    reply.read()
}

pub(crate) async fn offers(api: &Api, direction: &str) -> Vec<Offer> {
    api.get(&format!("/v1/offers?limit=200&direction={direction}")).await.read::<Page<Offer>>().items
}

/// Waits for the one offer that a peer was made.
pub(crate) async fn received(api: &Api) -> Offer {
    let found = until("the offer is there", async || offers(api, "received").await.pop()).await;
    assert_eq!(offers(api, "received").await.len(), 1, "it is one offer");
    found
}

async fn accept(api: &Api, offer: &Offer) -> Offer {
    api.post(&format!("/v1/offers/{}/accept", offer.id), &()).await.read()
}

/// Waits until an offer that was made is as wanted.
async fn sent(api: &Api, what: &str, wanted: impl Fn(&Offer) -> bool) -> Offer {
    until(what, async || offers(api, "sent").await.pop().filter(|offer| wanted(offer))).await
}

fn by_both_ways(settings: &mut Settings, url: &str) {
    settings.amqp = AmqpSetting::At(url.to_owned().into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_found_while_its_sender_is_off() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| by_both_ways(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| by_both_ways(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let ben_id = ben.peer_id().await;
    let ben = ben.end().await;
    let file = big(700, 5);
    let id = ana.share("for later.bin", &file).await;
    // Made by many at once, it is one offer and one letter.
    for made in futures::future::join_all((0..8).map(|_| send(&ana, id, "ben"))).await {
        assert_eq!((made.state, made.why.as_deref()), (OfferState::Waiting, Some(AT_THE_RELAY)));
    }
    assert_eq!(waiting(&broker, ben_id, "wants").await, 1);
    // Whoever looks again finds that it lies there, also after a restart.
    let ana = Peer::again(ana.end().await).await;
    on_the_relay(&ana).await;
    sent(&ana, "it still waits", |offer| offer.why.as_deref() == Some(AT_THE_RELAY)).await;
    assert_eq!(waiting(&broker, ben_id, "wants").await, 1);
    let ana = ana.end().await;

    let ben = Peer::again(ben).await;
    let found = received(&ben).await;
    assert_eq!((found.from.username.as_str(), found.name.as_str()), ("ana", "for later.bin"));
    let accepted = accept(&ben, &found).await;
    let download = accepted.download_id.unwrap();
    ben.state(&download, DownloadState::Waiting).await;

    let ana = Peer::again(ana).await;
    let done = ben.done(&download).await;
    assert_eq!(read(done.path.unwrap()), file);
    sent(&ana, "the sender knows that it is there", |offer| {
        matches!(offer.state, OfferState::Delivered | OfferState::Accepted)
    })
    .await;
    received(&ben).await;
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_sent_between_two_that_are_never_on_together() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let (ana_id, ben_id) = (ana.peer_id().await, ben.peer_id().await);
    let ben = ben.end().await;
    let file = big(701, 3);
    let id = ana.share("by mail.bin", &file).await;
    until("the directory knows of it", async || ana.status().await.shared.announced.then_some(())).await;
    assert_eq!(send(&ana, id, "ben").await.why.as_deref(), Some(AT_THE_RELAY));
    let ana = ana.end().await;

    let ben = Peer::again(ben).await;
    let accepted = accept(&ben, &received(&ben).await).await;
    let download = accepted.download_id.unwrap();
    ben.wait(&download, "it says whom it asked", |download| {
        download.note.as_deref().is_some_and(|note| note.contains("ana"))
    })
    .await;
    // What ben said to the offer, and what ben wants of it.
    assert_eq!((waiting(&broker, ana_id, "mailbox").await, waiting(&broker, ana_id, "wants").await), (1, 1));
    let ben = ben.end().await;

    let ana = Peer::again(ana).await;
    let delivered = sent(&ana, "the answer is heard", |offer| offer.state == OfferState::Delivered).await;
    assert_eq!((delivered.to.peer_id, delivered.why), (Some(ben_id), None));
    until("the proof, the pieces and the end are in the mailbox", async || {
        (waiting(&broker, ben_id, "mailbox").await == 5).then_some(())
    })
    .await;
    let ana = ana.end().await;

    let ben = Peer::again(ben).await;
    let done = ben.done(&download).await;
    assert_eq!(read(done.path.unwrap()), file);
    drop(ana);
    network.end([ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_calls_is_offered_a_file_and_fetches_it() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let file = big(702, 4);
    let id = ana.share("now.bin", &file).await;
    assert_eq!(send(&ana, id, "ben").await.state, OfferState::Delivered);
    let accepted = accept(&ben, &received(&ben).await).await;
    let done = ben.done(&accepted.download_id.unwrap()).await;
    let [source] = &done.sources[..] else { panic!("{:?}", done.sources) };
    assert_eq!((source.username.as_str(), source.path), ("ana", PeerPath::Relayed));
    assert_eq!(read(done.path.unwrap()), file);
    network.end([ana, ben]).await;
}

/// A queue of one letter, a broker that goes away, and too many offers for a user: each is said, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_relay_does_not_take_waits_with_its_sender_and_says_why() {
    let mut rabbit = Rabbit::start(RabbitOptions::default()).await;
    let one = json!({ "max-length": 1 }).to_string();
    rabbit.ctl(&["set_policy", "one", "^trueque\\..*\\.wants", &one, "--apply-to", "queues"]).await;
    let url = rabbit.url();
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| by_both_ways(settings, &url)).await;
    let ben = network.peer_with("ben", |settings| by_both_ways(settings, &url)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let ben_id = ben.peer_id().await;
    let ben = ben.end().await;

    // Quorum queues overshoot their limit by a few.
    let mut made = 0_u64;
    let why = loop {
        made += 1;
        let id = ana.share(&format!("{made}.bin"), &sample(710 + made, 1_000)).await;
        let offer = send(&ana, id, "ben").await;
        assert_eq!(offer.state, OfferState::Waiting);
        let why = offer.why.unwrap();
        if why != AT_THE_RELAY {
            break why;
        }
        assert!(made < 10, "a queue of one takes {made}");
    };
    assert_eq!(why, "ben is offline; it waits here until both are on: the peer's queue at the relay is full");
    let lying = waiting(&url, ben_id, "wants").await;
    assert_eq!(u64::from(lying), made - 1);

    rabbit.stop().await;
    until("the relay is away", async || (!ana.status().await.relay.connected).then_some(())).await;
    let id = ana.share("without a relay.bin", b"without a relay").await;
    let offer = send(&ana, id, "ben").await;
    let why = "ben is offline; it waits here until both are on: the relay is not connected";
    assert_eq!((offer.state, offer.why.as_deref()), (OfferState::Waiting, Some(why)));
    rabbit.start_again().await;
    on_the_relay(&ana).await;

    // All of them arrive, each once: some find their way twice.
    let ben = Peer::again(ben).await;
    until("all are there", async || (offers(&ben, "received").await.len() as u64 == made + 1).then_some(()))
        .await;
    until("the queue is empty", async || (waiting(&url, ben_id, "wants").await == 0).then_some(())).await;
    until("and the sender knows", async || {
        offers(&ana, "sent").await.iter().all(|offer| offer.state == OfferState::Delivered).then_some(())
    })
    .await;
    assert_eq!(offers(&ben, "received").await.len() as u64, made + 1);
    network.end([ana, ben]).await;
}

/// What waits can wait for the directory, too: nobody's word is dropped because it cannot be asked now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_comes_before_the_directory_is_kept() {
    let broker = Rabbit::shared().await;
    let mut network = Network::start().await;
    let ana = network.peer_with("ana", |settings| by_both_ways(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| by_both_ways(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let ben_id = ben.peer_id().await;
    let ben = ben.end().await;
    let id = ana.share("patience.txt", b"patience").await;
    assert_eq!(send(&ana, id, "ben").await.why.as_deref(), Some(AT_THE_RELAY));
    let ana = ana.end().await;

    network.directory.kill().await;
    let ben = Peer::again_unconnected(ben).await;
    on_the_relay(&ben).await;
    until("the letter is in hand", async || (waiting(&broker, ben_id, "wants").await == 0).then_some(()))
        .await;
    assert_eq!(offers(&ben, "received").await, []);
    network.directory.up().await;
    assert_eq!(received(&ben).await.name, "patience.txt");
    drop(ana);
    network.end([ben]).await;
}
