//! Files from peers that are off: two that are never on together, a mailbox that is too small, and what nobody may have.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use serde_json::json;
use testnet::{Network, Peer, Rabbit, read, until, until_within};
use wire::{
    PeerId,
    rest::pclient::{DownloadState, FetchPath, PeerPath, SourcePath},
};

use super::talk::relay_only;
use crate::{MIB, big};

/// Messages that wait in a durable queue of a peer. Asked in a runtime of its own: what the broker's client leaves running
/// there is not counted as ours.
pub(crate) async fn waiting(url: &str, peer: PeerId, queue: &str) -> u32 {
    let (url, name) = (url.to_owned(), format!("trueque.{peer}.{queue}.v1"));
    let looking = move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = channel.queue_declare(name.into(), passive, FieldTable::default()).await.unwrap();
            queue.message_count()
        })
    };
    tokio::task::spawn_blocking(looking).await.unwrap()
}

pub(crate) async fn until_offline(asker: &Peer, words: &str) {
    until("the directory says that the holder is off", async || {
        let found = asker.search(words).await;
        found.iter().any(|item| item.online == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_are_never_on_together() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let (ana_id, ben_id) = (ana.peer_id().await, ben.peer_id().await);
    let file = big(400, 64);
    let id = ben.share("for later.bin", &file).await;
    ana.found("for later", id, 1).await;
    let ben = ben.end().await;
    until_offline(&ana, "for later").await;

    let download = ana.start(id).await;
    let asked = ana.wait(&download.id, "it says whom it asked", |d| d.note.is_some()).await;
    assert_eq!(asked.state, DownloadState::Waiting);
    assert!(asked.note.unwrap().contains("ben"));
    assert_eq!(waiting(&broker, ben_id, "wants").await, 1);
    let ana = ana.end().await;

    // The proof, 64 pieces, and that this is all.
    let ben = Peer::again(ben).await;
    until("all of it is in the mailbox", async || {
        (waiting(&broker, ana_id, "mailbox").await >= 66).then_some(())
    })
    .await;
    assert_eq!(waiting(&broker, ben_id, "wants").await, 0);
    ben.audited(id, "ana", FetchPath::Mailed, file.len() as u64).await;
    let ben = ben.end().await;

    let ana = Peer::again(ana).await;
    let done = ana.done(&download.id).await;
    assert_eq!(done.name, "for later.bin", "known since it was asked for, through a restart");
    assert_eq!(read(done.path.unwrap()), file);
    let [source] = &done.sources[..] else { panic!("{:?}", done.sources) };
    assert_eq!((source.username.as_str(), source.path), ("ben", PeerPath::Relayed));
    assert_eq!(source.bytes, file.len() as u64);
    assert_eq!(source.paths, [SourcePath { path: FetchPath::Mailed, bytes: source.bytes }]);
    until("the mailbox is empty", async || (waiting(&broker, ana_id, "mailbox").await == 0).then_some(()))
        .await;
    drop(ben);
    network.end([ana]).await;
}

/// Until its lease ends the directory has it for online; whoever asks it knows better.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_crashed_is_written_to_before_its_lease_ends() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let ben_id = ben.peer_id().await;
    let file = big(401, 8);
    let id = ben.share("of a crash.bin", &file).await;
    ana.found("of a crash", id, 1).await;
    let ben = ben.kill().await;
    let download = ana.start(id).await;
    until_within(Duration::from_secs(10), "the want is left", async || {
        (waiting(&broker, ben_id, "wants").await == 1).then_some(())
    })
    .await;
    assert!(ana.holders(id).await[0].holder.online, "as far as the directory knows");
    let ana = ana.end().await;

    let ben = Peer::again(ben).await;
    ben.audited(id, "ana", FetchPath::Mailed, file.len() as u64).await;
    let ben = ben.end().await;
    let ana = Peer::again(ana).await;
    assert_eq!(read(ana.done(&download.id).await.path.unwrap()), file);
    drop(ben);
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_may_not_have_does_not_come_by_mail_either() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let (ana_id, ben_id) = (ana.peer_id().await, ben.peer_id().await);
    let path = ben.put("not any more.bin", &big(401, 2));
    let shared = ben.post("/v1/files", &json!({ "path": path, "audience": ["ana"] })).await;
    assert_eq!(shared.status, 201, "{shared:?}");
    let id = content::ContentId::of(&big(401, 2));
    ana.found("not any more", id, 1).await;
    let ben = ben.end().await;
    until_offline(&ana, "not any more").await;
    let download = ana.start(id).await;
    ana.wait(&download.id, "it says whom it asked", |d| d.note.is_some()).await;
    let ana = ana.end().await;
    assert_eq!(waiting(&broker, ben_id, "wants").await, 1);

    // The want is answered by what holds when it is answered.
    let mut without_files = ben.clone();
    std::fs::remove_file(without_files.share_dirs[0].join("not any more.bin")).unwrap();
    without_files.reshare = false;
    let ben = Peer::again(without_files).await;
    until("ana is told that nothing comes", async || {
        (waiting(&broker, ana_id, "mailbox").await == 1).then_some(())
    })
    .await;
    let ana = Peer::again(ana).await;
    until("the refusal is taken in", async || (waiting(&broker, ana_id, "mailbox").await == 0).then_some(()))
        .await;
    let refused = ana.download(&download.id).await;
    assert_eq!((refused.state, refused.verified_bytes), (DownloadState::Waiting, 0));
    network.end([ana, ben]).await;
}

/// Waits until a peer's queues are there.
pub(crate) async fn on_the_relay(peer: &Peer) {
    until("the peer is on the relay", async || peer.status().await.relay.connected.then_some(())).await;
}

/// A mailbox that the broker gives less room than a file needs: what does not fit comes when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_that_is_too_small_is_filled_more_than_once() {
    let rabbit = Rabbit::start(testnet::RabbitOptions::default()).await;
    let small = json!({ "max-length-bytes": 6 * MIB }).to_string();
    rabbit.ctl(&["set_policy", "small", "^trueque\\..*\\.mailbox", &small, "--apply-to", "queues"]).await;
    let broker = rabbit.url();
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let ana_id = ana.peer_id().await;
    let file = big(402, 16);
    let id = ben.share("in portions.bin", &file).await;
    ana.found("in portions", id, 1).await;
    let ben = ben.end().await;
    until_offline(&ana, "in portions").await;
    let download = ana.start(id).await;
    ana.wait(&download.id, "it says whom it asked", |d| d.note.is_some()).await;
    let (mut ana, mut ben) = (ana.end().await, ben);
    let (mut turns, mut verified) = (0, 0);
    loop {
        let sender = Peer::again(ben).await;
        // Full, or all that was left.
        let full = until("the mailbox fills", async || {
            (waiting(&broker, ana_id, "mailbox").await >= 5).then_some(())
        });
        let _all_that_was_left = tokio::time::timeout(Duration::from_secs(3), full).await;
        ben = sender.end().await;
        let asker = Peer::again(ana).await;
        until("the mailbox is emptied", async || {
            (waiting(&broker, ana_id, "mailbox").await == 0).then_some(())
        })
        .await;
        turns += 1;
        let before = verified;
        verified = asker
            .wait(&download.id, "it counts what came", |d| d.verified_bytes > before)
            .await
            .verified_bytes;
        if verified == file.len() as u64 {
            let done = asker.done(&download.id).await;
            assert_eq!(read(done.path.unwrap()), file);
            assert!(turns > 1, "a mailbox of 6 MiB took 16 MiB at once");
            network.end([asker]).await;
            return;
        }
        assert!(turns < 10, "{verified} of {} bytes after {turns} turns", file.len());
        ana = asker.end().await;
    }
}
