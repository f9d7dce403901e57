//! What happens to the broker, and to the way past it, in the middle of a transfer: each download ends right, and
//! nothing is fetched twice but what was under way.

use std::time::{Duration, Instant};

use content::ContentId;
use daemon::settings::ByteSize;
use peer::config::{AmqpSetting, PserverListen, Settings};
use testnet::{Api, Network, Peer, Rabbit, RabbitOptions, read, until, until_within};
use wire::rest::pclient::{Download, DownloadState, FetchPath, PeerPath};

use crate::{MIB, big};

/// Slow enough that something can happen in the middle.
const RATE: u64 = 12 << 20;
/// And slow enough that `rabbitmqctl` starts on a busy machine before all has come.
const SLOWER: u64 = 8 << 20;

fn relay_only(settings: &mut Settings, url: &str) {
    settings.amqp = AmqpSetting::At(url.to_owned().into());
    settings.pserver_listen = PserverListen::Off;
}

async fn pair(network: &Network, url: &str, rate: u64) -> (Peer, Peer) {
    let ana = network.peer_with("ana", |settings| relay_only(settings, url)).await;
    let slow = |settings: &mut Settings| {
        relay_only(settings, url);
        settings.upload_limit = ByteSize(rate);
    };
    let ben = network.peer_with("ben", slow).await;
    for peer in [&ana, &ben] {
        until("the peer is on the relay", async || peer.status().await.relay.connected.then_some(())).await;
    }
    (ana, ben)
}

/// Waits until some more of a download has come.
async fn more(asker: &Api, download: &Download, mebibytes: u64) {
    let now = asker.download(&download.id).await;
    let wanted = now.verified_bytes + mebibytes * MIB as u64;
    assert!(now.size.is_none_or(|size| wanted <= size), "too far along to see it go on: {now:?}");
    asker.wait(&download.id, "it goes on", |d| d.verified_bytes >= wanted).await;
}

async fn ends_right(asker: &Api, download: &Download, file: &[u8]) -> Download {
    let done = asker.done(&download.id).await;
    assert_eq!(read(done.path.clone().unwrap()), file);
    let [source] = &done.sources[..] else { panic!("{:?}", done.sources) };
    assert_eq!((source.path, source.bytes), (PeerPath::Relayed, file.len() as u64));
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stops_dies_and_runs_short_of_memory() {
    let mut rabbit = Rabbit::start(RabbitOptions::default()).await;
    let network = Network::start().await;
    let (ana, ben) = pair(&network, &rabbit.url(), SLOWER).await;
    let file = big(500, 160);
    let id = ben.share("through it all.bin", &file).await;
    ana.found("through it all", id, 1).await;
    let download = ana.start(id).await;
    more(&ana, &download, 8).await;

    rabbit.stop().await;
    ana.state(&download.id, DownloadState::Waiting).await;
    until("the status says why", async || {
        let relay = ana.status().await.relay;
        (!relay.connected && relay.why.is_some()).then_some(())
    })
    .await;
    rabbit.start_again().await;
    more(&ana, &download, 8).await;

    rabbit.kill().await;
    rabbit.start_again().await;
    more(&ana, &download, 8).await;

    rabbit.memory_alarm(true).await;
    until("the status says that the broker is short of memory", async || {
        let relay = ben.status().await.relay;
        (relay.connected && relay.why.is_some()).then_some(())
    })
    .await;
    let short = "the relay's broker takes nothing now: low on memory";
    let says_so =
        |d: &Download| d.sources.iter().any(|s| s.why.as_ref().is_some_and(|why| why.ends_with(short)));
    let held = ana.wait(&download.id, "it says what it waits for", says_so).await;
    assert!(held.verified_bytes < file.len() as u64, "it ended before the alarm: {held:?}");
    rabbit.memory_alarm(false).await;
    ends_right(&ana, &download, &file).await;
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_of_three_that_loses_its_leader() {
    let mut nodes = Rabbit::cluster(3, RabbitOptions::default()).await;
    let urls: Vec<String> = nodes.iter().map(Rabbit::url).collect();
    let network = Network::start().await;
    let (ana, ben) = pair(&network, &urls.join(","), RATE).await;
    let file = big(501, 96);
    let id = ben.share("of three.bin", &file).await;
    ana.found("of three", id, 1).await;
    let download = ana.start(id).await;
    more(&ana, &download, 8).await;
    // The first of the list: both talk to it, and it leads the queues that they declared there.
    nodes[0].kill().await;
    more(&ana, &download, 16).await;
    ends_right(&ana, &download, &file).await;
    network.end([ana, ben]).await;
}

/// Once in three quarters of a second, on average, the broker is looked for.
const MANY_LOOKS: u64 = 14;

/// Neither waits for the pause that the questions in vain have earned it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_goes_on_as_soon_as_both_are_back_at_the_broker() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let wires = [network.proxy().await, network.proxy().await];
    let urls = wires.each_ref().map(|wire| {
        let (login, server) = broker.rsplit_once('@').unwrap();
        wire.aim_at(server.trim_end_matches('/').parse().unwrap());
        format!("{login}@{}", wire.endpoint())
    });
    let ana = network.peer_with("ana", |settings| relay_only(settings, &urls[0])).await;
    let slow = |settings: &mut Settings| {
        relay_only(settings, &urls[1]);
        settings.upload_limit = ByteSize(SLOWER);
    };
    let ben = network.peer_with("ben", slow).await;
    for peer in [&ana, &ben] {
        until("the peer is on the relay", async || peer.status().await.relay.connected.then_some(())).await;
    }
    let file = big(503, 96);
    let id = ben.share("there and back.bin", &file).await;
    ana.found("there and back", id, 1).await;
    let download = ana.start(id).await;
    more(&ana, &download, 8).await;
    for (who, wire) in ["the one who asks", "the one who answers"].into_iter().zip(&wires) {
        wire.cut();
        ana.state(&download.id, DownloadState::Waiting).await;
        let before = wire.calls();
        let looked = async || (wire.calls() >= before + MANY_LOOKS).then_some(());
        until("the broker was looked for often", looked).await;
        let had = ana.download(&download.id).await.verified_bytes;
        wire.restore();
        until_within(Duration::from_secs(4), &format!("{who} is back, and bytes come"), async || {
            (ana.download(&download.id).await.verified_bytes > had).then_some(())
        })
        .await;
        more(&ana, &download, 8).await;
    }
    // So short that nobody missed it: what ana had asked lay in a queue that is gone, and is not waited for.
    wires[1].cut();
    until("ben notices", async || (!ben.status().await.relay.connected).then_some(())).await;
    wires[1].restore();
    let wanted = ana.download(&download.id).await.verified_bytes + 8 * MIB as u64;
    until_within(Duration::from_secs(5), "what was lost is asked again", async || {
        (ana.download(&download.id).await.verified_bytes >= wanted).then_some(())
    })
    .await;
    ends_right(&ana, &download, &file).await;
    network.end([ana, ben]).await;
}

/// The way that a source is taken now.
async fn path_of(asker: &Api, id: ContentId) -> PeerPath {
    asker.holders(id).await[0].path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_direct_way_is_cut_and_comes_back() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let proxy = network.proxy().await;
    // Nobody can dial ana, so that nothing is between direct and relayed.
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let behind = |settings: &mut Settings| {
        settings.amqp = AmqpSetting::At(broker.clone().into());
        settings.pserver_advertise = vec![proxy.endpoint()];
        settings.upload_limit = ByteSize(RATE);
    };
    let ben = network.peer_with("ben", behind).await;
    proxy.aim_at(ben.pserver());
    for peer in [&ana, &ben] {
        until("the peer is on the relay", async || peer.status().await.relay.connected.then_some(())).await;
    }
    let file = big(502, 200);
    let id = ben.share("either way.bin", &file).await;
    ana.found("either way", id, 1).await;
    let download = ana.start(id).await;
    more(&ana, &download, 8).await;
    assert_eq!(path_of(&ana, id).await, PeerPath::Direct);

    // A silent cut is the worst one: nothing says that the line is dead.
    proxy.silence();
    let cut = Instant::now();
    let before = ana.download(&download.id).await.verified_bytes;
    until_within(Duration::from_secs(15), "bytes come over the relay", async || {
        let now = ana.download(&download.id).await;
        (now.verified_bytes > before + 4 * MIB as u64).then_some(())
    })
    .await;
    tracing::info!(seconds = cut.elapsed().as_secs_f64(), "from the cut to bytes over the relay");
    let holder = ana.holders(id).await.remove(0);
    assert_eq!(holder.path, PeerPath::Relayed);
    let why = holder.why.as_deref().unwrap_or_default();
    assert!(why.starts_with("its address did not answer in time"), "{why}");
    let now = ana.download(&download.id).await;
    assert_eq!(now.sources[0].path, PeerPath::Relayed, "{:?}", now.sources);
    assert!(now.sources[0].why.is_some(), "{:?}", now.sources);

    proxy.restore();
    until_within(Duration::from_secs(60), "they come directly again", async || {
        (path_of(&ana, id).await == PeerPath::Direct).then_some(())
    })
    .await;
    assert_eq!(ana.holders(id).await[0].why, None);
    let done = ana.done(&download.id).await;
    assert_eq!(read(done.path.unwrap()), file);
    let [source] = &done.sources[..] else { panic!("{:?}", done.sources) };
    let ways: Vec<_> = source.paths.iter().map(|way| way.path).collect();
    assert_eq!(ways, [FetchPath::Direct, FetchPath::Relayed], "each has its bytes");
    assert_eq!(source.paths.iter().map(|way| way.bytes).sum::<u64>(), file.len() as u64);
    let sent = ben.sent();
    let twice = sent - file.len() as u64;
    assert!(twice <= 64 * MIB as u64, "{twice} bytes were sent twice");
    network.end([ana, ben]).await;
}
