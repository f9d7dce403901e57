//! Share, search, download: from one, from two at once, and from each other.

use testnet::{Network, until};

use crate::{MIB, big};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_shares_others_find_and_fetch_from_all_who_have_it() {
    let network = Network::start().await;
    let (near, far) = (network.proxy().await, network.proxy().await);
    let ana = network.peer_behind(&near, "ana").await;
    let ben = network.peer_behind(&far, "ben").await;
    let cleo = network.peer("cleo").await;
    let file = big(1, 64);
    let id = ana.share("holiday film (final).mp4", &file).await;

    let found = ben.found("FILM holi", id, 1).await;
    assert_eq!(found.name, "holiday film (final).mp4");
    assert_eq!((found.size, found.holders, found.complete), (file.len() as u64, 1, true));
    let first = ben.fetch(id).await;
    assert_eq!(first.name, "holiday film (final).mp4");
    assert_eq!(first.sources.len(), 1);

    cleo.found("film", id, 2).await;
    // So slow that one alone is not through before the other has begun.
    near.slow(24 << 20);
    far.slow(24 << 20);
    let second = cleo.fetch(id).await;
    assert_eq!(second.sources.len(), 2, "{:?}", second.sources);
    for source in &second.sources {
        assert!(source.bytes > 0, "everybody who has it sends some: {:?}", second.sources);
    }
    assert_eq!(second.sources.iter().map(|source| source.bytes).sum::<u64>(), file.len() as u64);
    network.end([cleo, ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_receivers_at_once_trade_and_spare_the_origin() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let others = [network.peer("ben").await, network.peer("cleo").await, network.peer("dora").await];
    let file = big(2, 64);
    let id = ana.share("set.bin", &file).await;
    others[0].found("set", id, 1).await;
    // The origin's line is what is scarce.
    proxy.slow(24 << 20);
    let mut running = Vec::new();
    for peer in &others {
        running.push((peer, peer.start(id).await));
    }
    for (peer, download) in &running {
        peer.done(&download.id).await;
    }
    let sent = proxy.sent();
    let copies = sent as f64 / file.len() as f64;
    println!("the origin sent {copies:.2} copies");
    // Without any trade it would be three. How little it comes to on a quiet machine is measured by `script/bench`.
    assert!(copies < 2.0, "the origin sent {copies:.2} copies to three receivers");
    drop(running);
    network.end(others.into_iter().chain([ana])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_sources_vanishes_in_the_middle_and_the_other_brings_the_rest() {
    let network = Network::start().await;
    let (first, second) = (network.proxy().await, network.proxy().await);
    let ana = network.peer_behind(&first, "ana").await;
    let ben = network.peer_behind(&second, "ben").await;
    let cleo = network.peer("cleo").await;
    let file = big(3, 48);
    let id = ana.share("a.bin", &file).await;
    assert_eq!(ben.share("b.bin", &file).await, id);
    cleo.held_by(id, 2).await;
    first.slow(12 << 20);
    second.slow(12 << 20);
    let download = cleo.start(id).await;
    cleo.wait(&download.id, "both have sent something", |download| {
        download.sources.len() == 2 && download.sources.iter().all(|source| source.bytes > 0)
    })
    .await;
    first.cut();
    let ana = ana.kill().await;
    second.slow(0);
    let done = cleo.done(&download.id).await;
    assert_eq!(done.error, None);
    drop(ana);
    network.end([cleo, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_is_passed_on_while_it_arrives() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let cleo = network.peer("cleo").await;
    let id = ana.share("slow.bin", &big(4, 24)).await;
    ben.found("slow", id, 1).await;
    proxy.slow(8 << 20);
    let download = ben.start(id).await;
    ben.wait(&download.id, "some of it is here", |download| download.verified_bytes > 8 * MIB as u64).await;
    until("the directory knows the partial holder", async || {
        cleo.holders(id).await.iter().any(|h| h.holder.username.as_str() == "ben").then_some(())
    })
    .await;
    let got = cleo.fetch(id).await;
    let from_ben = got.sources.iter().find(|source| source.username.as_str() == "ben");
    assert!(from_ben.is_some_and(|ben| ben.bytes > 0), "{:?}", got.sources);
    ben.done(&download.id).await;
    network.end([cleo, ben, ana]).await;
}
