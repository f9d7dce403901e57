//! How much of itself a peer lets the relay carry: PEER_RELAY_LIMIT and PEER_RELAY_MAX_FILE.

use std::time::{Duration, Instant};

use daemon::settings::ByteSize;
use peer::config::{PserverListen, Settings};
use testnet::{Network, Peer, Rabbit, read};
use wire::rest::pclient::{DownloadState, PeerPath};

use crate::{MIB, big, mail::on_the_relay, talk::relay_only};

/// Messages that waited for the rate, of all peers of this process.
fn limited(direction: &str) -> u64 {
    let line = format!("trueque_relay_limited_total{{direction=\"{direction}\"}} ");
    let metrics = daemon::metrics::render();
    metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_holds_each_way_and_for_the_relay_alone() {
    daemon::metrics::init().unwrap();
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let slow = |settings: &mut Settings| {
        relay_only(settings, &broker);
        settings.relay_limit = ByteSize(4 * MIB as u64);
    };
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", slow).await;
    for (asker, holder, direction, seed) in [(&ana, &ben, "sent", 900), (&ben, &ana, "received", 901)] {
        on_the_relay(asker).await;
        on_the_relay(holder).await;
        let file = big(seed, 9);
        let id = holder.share(&format!("{direction}.bin"), &file).await;
        asker.found(direction, id, 1).await;
        let begun = Instant::now();
        let done = asker.fetch(id).await;
        // One MiB may go at once.
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1_800), "{direction}: 9 MiB at 4 MiB/s took {took:?}");
        assert!(limited(direction) > 0, "{direction}");
        assert_eq!(read(done.path.unwrap()), file);
    }
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_waits_for_a_better_way_and_says_so() {
    daemon::metrics::init().unwrap();
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let small_files = |settings: &mut Settings| {
        relay_only(settings, &broker);
        settings.relay_max_file = ByteSize(MIB as u64);
    };
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", small_files).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;

    // The holder does not send it.
    let (small, large) = (big(910, 1), big(911, 3));
    let small_id = ben.share("small enough.bin", &small).await;
    let large_id = ben.share("far too large.bin", &large).await;
    ana.found("small enough", small_id, 1).await;
    ana.found("far too large", large_id, 1).await;
    assert_eq!(ana.fetch(small_id).await.sources[0].path, PeerPath::Relayed);
    let download = ana.start(large_id).await;
    let says = "ben: it sends no file of more than 1048576 bytes over the relay";
    ana.wait(&download.id, "it says what it waits for", |d| d.note.as_deref() == Some(says)).await;

    // Nor does the asker ask for it, of who is on and of who is off.
    let theirs = ana.share("theirs is too large.bin", &big(912, 2)).await;
    ben.found("theirs is too large", theirs, 1).await;
    let waits = ben.start(theirs).await;
    let seen = ben
        .wait(&waits.id, "its source says why", |d| {
            d.state == DownloadState::Waiting && d.sources.iter().any(|source| source.why.is_some())
        })
        .await;
    assert_eq!(seen.sources[0].path, PeerPath::Offline);
    let why = seen.sources[0].why.as_deref().unwrap();
    assert!(why.ends_with("files of more than 1048576 bytes are not fetched over the relay"), "{why}");
    let ana = ana.end().await;
    ben.wait(&waits.id, "it does not write either", |d| {
        d.note.as_deref().is_some_and(|note| note.contains("too large to be asked for over the relay"))
    })
    .await;
    assert_eq!(ben.download(&waits.id).await.verified_bytes, 0);

    // By another way both come.
    let ana =
        Peer::again(Settings { pserver_listen: PserverListen::At(([127, 0, 0, 1], 0).into()), ..ana }).await;
    let done = ben.done(&waits.id).await;
    assert_eq!(done.sources[0].path, PeerPath::Direct);
    let ben = Settings { pserver_listen: PserverListen::At(([127, 0, 0, 1], 0).into()), ..ben.end().await };
    let ben = Peer::again(ben).await;
    let done = ana.done(&download.id).await;
    assert_eq!(read(done.path.unwrap()), large);
    network.end([ana, ben]).await;
}
