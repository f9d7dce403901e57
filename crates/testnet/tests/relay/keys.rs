//! Sealing keys that are replaced: in the middle of a transfer, on either side, and while letters wait.

use std::path::Path;

use daemon::settings::ByteSize;
use testnet::{Network, Peer, Rabbit, read, until};
use wire::rest::pclient::PeerPath;

use super::{
    big,
    mail::{on_the_relay, until_offline, waiting},
    offers::{AT_THE_RELAY, offers, received, send},
    talk::relay_only,
};
use crate::MIB;

/// The next start on this folder makes another key.
fn lose_key(data_dir: &Path) {
    std::fs::remove_file(data_dir.join("sealing.key")).unwrap();
}

/// Neither logs in anew: the key is told to the directory by the renewal of the session that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_with_new_keys_of_either_side() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let slow = |settings: &mut peer::config::Settings| {
        relay_only(settings, &broker);
        settings.upload_limit = ByteSize(8 << 20);
    };
    let ben = network.peer_with("ben", slow).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let (ana_id, ben_id) = (ana.peer_id().await, ben.peer_id().await);
    let key_of = async |asker: &Peer, id| {
        let peers = asker.peers().await;
        peers.iter().find(|one| one.peer.peer_id == id).unwrap().peer.sealing_key.clone()
    };
    let (of_ana, of_ben) = (key_of(&ana, ana_id).await, key_of(&ana, ben_id).await);
    let file = big(720, 64);
    let id = ben.share("with new keys.bin", &file).await;
    ana.found("with new keys", id, 1).await;
    let download = ana.start(id).await;
    let more = async |asker: &Peer, mebibytes: usize| {
        let now = asker.download(&download.id).await.verified_bytes;
        asker.wait(&download.id, "it goes on", |d| d.verified_bytes >= now + (mebibytes * MIB) as u64).await;
    };
    more(&ana, 4).await;

    let mut settings = ben.kill().await;
    lose_key(&settings.data_dir);
    (settings.username, settings.password) = (None, None);
    let ben = Peer::again(settings).await;
    ben.connected().await;
    assert_ne!(key_of(&ana, ben_id).await, of_ben);
    more(&ana, 4).await;

    let mut settings = ana.kill().await;
    lose_key(&settings.data_dir);
    (settings.username, settings.password) = (None, None);
    let ana = Peer::again(settings).await;
    ana.connected().await;
    assert_ne!(key_of(&ana, ana_id).await, of_ana);
    let done = ana.done(&download.id).await;
    assert_eq!(read(done.path.unwrap()), file);
    assert!(done.sources.iter().all(|source| source.path == PeerPath::Relayed), "{:?}", done.sources);
    network.end([ana, ben]).await;
}

/// What was refused so far, by all peers of this process.
fn refused() -> u64 {
    let metrics = daemon::metrics::render();
    let lines = metrics.lines().filter(|line| line.starts_with("trueque_relay_refused_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_to_a_key_that_was_replaced_are_left_again() {
    daemon::metrics::init().unwrap();
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let ben_id = ben.peer_id().await;
    let theirs = big(703, 2);
    let wanted = ben.share("of ben.bin", &theirs).await;
    ana.found("of ben", wanted, 1).await;
    let ben = ben.end().await;
    until_offline(&ana, "of ben").await;
    let download = ana.start(wanted).await;
    ana.wait(&download.id, "it is asked for", |download| download.note.is_some()).await;
    let id = ana.share("of ana.txt", b"of ana").await;
    assert_eq!(send(&ana, id, "ben").await.why.as_deref(), Some(AT_THE_RELAY));
    assert_eq!(waiting(&broker, ben_id, "wants").await, 2);
    let ana = ana.end().await;

    // Ben comes with another key: nobody can open what lies there.
    let before = refused();
    lose_key(&ben.data_dir);
    let ben = Peer::again(ben).await;
    until("both are taken out, and refused", async || (refused() >= before + 2).then_some(())).await;
    until("they are gone", async || (waiting(&broker, ben_id, "wants").await == 0).then_some(())).await;
    assert_eq!(offers(&ben, "received").await, []);
    let ben = ben.end().await;

    // Ana sees at the directory that they were lost, and leaves both once more.
    let ana = Peer::again(ana).await;
    until("both lie there again", async || (waiting(&broker, ben_id, "wants").await == 2).then_some(()))
        .await;
    let ana = ana.end().await;
    let ben = Peer::again(ben).await;
    assert_eq!(received(&ben).await.name, "of ana.txt");
    until("the want is taken", async || (waiting(&broker, ben_id, "wants").await == 0).then_some(())).await;
    let ana = Peer::again(ana).await;
    assert_eq!(read(ana.done(&download.id).await.path.unwrap()), theirs);
    network.end([ana, ben]).await;
}
