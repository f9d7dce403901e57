//! `kill -9`, of a receiver and of the directory, in the middle of a download.

use std::time::Duration;

use testnet::{Network, Process, until};
use wire::rest::pclient::DownloadState;

use crate::{MIB, big};

const PEER: &str = env!("CARGO_BIN_EXE_testnet-peer");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_receiver_goes_on_by_itself_and_fetches_almost_nothing_twice() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let file = big(10, 96);
    let id = ana.share("long.bin", &file).await;
    let ben = Process::peer(&network, PEER, "ben", &[]).await;
    ben.found("long", id, 1).await;
    proxy.slow(16 << 20);
    let download = ben.start(id).await;
    ben.wait(&download.id, "half of it is here", |download| download.verified_bytes > file.len() as u64 / 2)
        .await;
    let ben = ben.kill().await.again().await;
    proxy.slow(0);
    let done = ben.done(&download.id).await;
    assert_eq!(done.content_id, id);
    let twice = proxy.sent().saturating_sub(file.len() as u64);
    println!("fetched again: {:.1} MiB", twice as f64 / MIB as f64);
    assert!(twice <= 16 << 20, "{twice} bytes were fetched twice");
    assert_eq!(ben.terminate().await, Some(0), "a stop in order is a success");
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_does_not_need_the_directory_and_the_directory_forgets_nothing() {
    let mut network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let id = ana.share("held.bin", &big(11, 24)).await;
    ben.found("held", id, 1).await;
    proxy.slow(8 << 20);
    let download = ben.start(id).await;
    ben.wait(&download.id, "it has begun", |download| download.verified_bytes > 0).await;
    network.directory.kill().await;
    ben.done(&download.id).await;
    let refused = ben.get("/v1/search?q=held").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "unavailable"));

    network.directory.up().await;
    // Nobody logs in again: the sessions of before are good, and so is the catalog.
    let found = ben.found("held", id, 2).await;
    assert_eq!(found.name, "held.bin");
    ana.connected().await;
    ben.connected().await;
    let member = testnet::Member::join(&network.url(), "cleo", &[]).await;
    let account = serde_json::json!({ "username": "ana", "password": "another password" });
    let taken = member.ask(reqwest::Method::POST, "/v1/accounts", Some(&account)).await;
    assert_eq!(taken.code(), "already_exists");
    drop(member);
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_file_survives_and_so_does_what_was_paused() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let (small, large) = (big(12, 2), big(13, 24));
    let small_id = ana.share("small.bin", &small).await;
    let large_id = ana.share("large.bin", &large).await;
    let ben = Process::peer(&network, PEER, "ben", &[]).await;
    ben.found("large", large_id, 1).await;
    ben.found("small", small_id, 1).await;
    let done = ben.fetch(small_id).await;
    proxy.slow(8 << 20);
    let paused = ben.start(large_id).await;
    ben.wait(&paused.id, "some of it is here", |download| download.verified_bytes > 4 * MIB as u64).await;
    assert_eq!(ben.pause(&paused.id).await.status, 200);
    let had = ben.state(&paused.id, DownloadState::Paused).await.verified_bytes;

    let ben = ben.kill().await.again().await;
    assert_eq!(ben.download(&done.id).await.state, DownloadState::Done);
    ben.done(&done.id).await;
    let still = ben.download(&paused.id).await;
    assert_eq!((still.state, still.verified_bytes), (DownloadState::Paused, had));
    // The file that was finished is shared again, as it was.
    ana.held_by(small_id, 2).await;
    proxy.slow(0);
    let before = proxy.sent();
    assert_eq!(ben.resume(&paused.id).await.status, 200);
    ben.done(&paused.id).await;
    let fetched = proxy.sent() - before;
    assert!(fetched < large.len() as u64 - had + 2 * MIB as u64, "{fetched} bytes after {had}");
    assert_eq!(ben.terminate().await, Some(0));
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_signal_is_not_needed_while_somebody_fetches() {
    let network = Network::start().await;
    let ben = network.peer("ben").await;
    let ana = Process::peer(&network, PEER, "ana", &[("PEER_UPLOAD_LIMIT", "2MiB")]).await;
    let id = ana.share("slow.bin", &big(14, 64)).await;
    ben.found("slow", id, 1).await;
    let download = ben.start(id).await;
    ben.wait(&download.id, "it runs", |download| download.verified_bytes > 0).await;
    assert_eq!(ana.terminate().await, Some(0));
    // Logged out at once, not when its lease ends.
    testnet::until_within(Duration::from_secs(5), "the peer is offline", async || {
        ben.holders(id)
            .await
            .iter()
            .all(|h| h.holder.username.as_str() != "ana" || !h.holder.online)
            .then_some(())
    })
    .await;
    until("the download waits", async || {
        (ben.download(&download.id).await.state == DownloadState::Waiting).then_some(())
    })
    .await;
    network.end([ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_is_held_by_one_process_and_let_go_by_its_death() {
    let network = Network::start().await;
    let ana = Process::peer(&network, PEER, "ana", &[]).await;
    let id = ana.share("mine.txt", b"mine").await;
    // A second one, under other ports and folders but with the same keys, ends before it listens.
    let second = Process::refused(&network, PEER, "ana", &[("PEER_SHARE_DIR", "elsewhere")]).await;
    assert!(second.starts_with("peer: PEER_DATA_DIR: ") && second.contains("another peer"), "{second}");
    ana.held_by(id, 1).await;
    // The system takes the lock back from whoever is killed.
    let ana = ana.kill().await.again().await;
    ana.held_by(id, 1).await;
    assert_eq!(ana.terminate().await, Some(0));
    network.end([]).await;
}
