//! Files over the relay, between peers of which neither can dial the other.

use content::ContentId;
use peer::config::{AmqpSetting, PserverListen, Settings};
use testnet::{Network, Rabbit, read, sample, until};
use wire::rest::pclient::{Download, FetchPath, PeerPath, SourcePath};

use crate::{MIB, big};

/// On the relay, and nowhere else.
pub(crate) fn relay_only(settings: &mut Settings, url: &str) {
    settings.amqp = AmqpSetting::At(url.to_owned().into());
    settings.pserver_listen = PserverListen::Off;
}

fn only_from(download: &Download, holder: &str) {
    let [source] = &download.sources[..] else { panic!("{:?}", download.sources) };
    assert_eq!((source.username.as_str(), source.path), (holder, PeerPath::Relayed));
    assert_eq!(Some(source.bytes), download.size);
    assert_eq!(source.paths, [SourcePath { path: FetchPath::Relayed, bytes: source.bytes }]);
}

/// Bytes that came to the peers of this process by one way.
fn received(path: &str) -> u64 {
    let line = format!("trueque_received_bytes_total{{path=\"{path}\"}} ");
    let metrics = daemon::metrics::render();
    metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_over_the_relay_whole_and_verified() {
    daemon::metrics::init().unwrap();
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;

    let file = big(400, 64);
    let id = ben.share("over the relay.bin", &file).await;
    ana.found("over the relay", id, 1).await;
    until("ben is reached over the relay", async || {
        let holders = ana.holders(id).await;
        (holders.len() == 1 && holders[0].path == PeerPath::Relayed).then_some(())
    })
    .await;
    let why = "it takes no calls";
    assert_eq!(ana.holders(id).await[0].why.as_deref(), Some(why));
    let ben_id = ben.peer_id().await;
    let peers = ana.peers().await;
    let seen = peers.iter().find(|one| one.peer.peer_id == ben_id).unwrap();
    assert_eq!((seen.path, seen.why.as_deref()), (PeerPath::Relayed, Some(why)));
    let started = std::time::Instant::now();
    let download = ana.fetch(id).await;
    tracing::info!(took = ?started.elapsed(), "64 MiB over the relay");
    only_from(&download, "ben");
    assert_eq!(download.sources[0].why.as_deref(), Some(why));
    assert!(received("relayed") >= file.len() as u64);
    assert_eq!((received("direct"), received("reversed")), (0, 0));
    assert!(read(ana.download_dir().join("over the relay.bin")) == file);
    ben.audited(id, "ana", FetchPath::Relayed, file.len() as u64).await;

    // Every length that has something odd about it.
    for (seed, length) in [(401, 0), (402, 1), (403, MIB - 1), (404, MIB), (405, MIB + 1), (406, 9 * MIB + 7)]
    {
        let bytes = sample(seed, length);
        let name = format!("length {length}.bin");
        let id = ben.share(&name, &bytes).await;
        assert_eq!(id, ContentId::of(&bytes));
        ana.found(&format!("length {length}"), id, 1).await;
        ana.fetch(id).await;
        assert!(read(ana.download_dir().join(&name)) == bytes, "{length} bytes");
    }
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_no_calls_is_reached_over_the_relay_alone() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    // This one could be dialled.
    let ana =
        network.peer_with("ana", |settings| settings.amqp = AmqpSetting::At(broker.clone().into())).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    let id = ben.share("no calls.bin", &big(410, 24)).await;
    ana.found("no calls", id, 1).await;
    only_from(&ana.fetch(id).await, "ben");
    // It makes calls.
    let back = ana.share("calls.bin", &big(411, 4)).await;
    ben.found("calls.bin", back, 1).await;
    let sources = ben.fetch(back).await.sources;
    assert_eq!(sources[0].path, PeerPath::Direct);
    network.end([ana, ben]).await;
}
