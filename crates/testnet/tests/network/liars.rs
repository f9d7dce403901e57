//! Peers with a valid certificate whose answers are wrong: nobody gets a wrong byte, and the file still arrives.

use std::time::Duration;

use bytes::Bytes;
use testnet::{Liar, Lie, Network, sample};
use wire::rest::pclient::DownloadState;

use crate::big;

/// A liar and, after it, an honest holder of the same file; the receiver meets both.
async fn file_arrives_beside(lie: Lie, file: Bytes) -> (u64, bool) {
    let network = Network::start().await;
    let liar = Liar::start(&network, "mallory", lie, "wanted.bin", file.clone()).await;
    let ben = network.peer("ben").await;
    // Only the liar has it: nothing that it says may end as a file.
    let id = liar.id();
    ben.found("wanted", id, 1).await;
    let download = ben.start(id).await;
    testnet::until("the liar was asked", async || (liar.asked() > 0).then_some(())).await;

    let ana = network.peer("ana").await;
    ana.share("wanted.bin", &file).await;
    let done = ben.done(&download.id).await;
    let from_liar = done.sources.iter().filter(|source| source.peer_id == liar.peer_id());
    let bytes = from_liar.map(|source| source.bytes).sum();
    let is_reported = {
        let holders = liar.member.locate(id).await.holders;
        holders.last().is_some_and(|last| last.peer_id == liar.peer_id())
    };
    liar.end().await;
    network.end([ben, ana]).await;
    (bytes, is_reported)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_ban_and_report_the_liar() {
    let network = Network::start().await;
    let file = big(20, 12);
    let liar = Liar::start(&network, "mallory", Lie::FlippedBit, "wanted.bin", file.clone()).await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let id = ana.share("wanted.bin", &file).await;
    ben.held_by(id, 2).await;
    let done = ben.fetch(id).await;
    let honest: u64 = done.sources.iter().filter(|s| s.peer_id != liar.peer_id()).map(|s| s.bytes).sum();
    let lied: u64 = done.sources.iter().filter(|s| s.peer_id == liar.peer_id()).map(|s| s.bytes).sum();
    // A span of several pieces may have true ones before the wrong one; a wrong one counts for nothing.
    assert_eq!(honest + lied, file.len() as u64);
    assert!(honest > 0);
    liar.reported().await;
    liar.end().await;
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_alone_gives_no_file_and_no_byte() {
    let network = Network::start().await;
    let file = sample(21, 700_000);
    let liar = Liar::start(&network, "mallory", Lie::FlippedBit, "wanted.bin", file).await;
    let ben = network.peer("ben").await;
    let id = liar.id();
    ben.found("wanted", id, 1).await;
    let download = ben.start(id).await;
    testnet::until("the liar was asked", async || (liar.asked() > 0).then_some(())).await;
    ben.state(&download.id, DownloadState::Waiting).await;
    let seen = ben.download(&download.id).await;
    assert_eq!((seen.verified_bytes, seen.path), (0, None));
    assert_eq!(std::fs::read_dir(ben.download_dir()).unwrap().flatten().filter(visible).count(), 0);
    // Whoever reads it meanwhile gets an error or nothing, never the wrong bytes.
    let reader =
        ben.request(reqwest::Method::GET, &format!("/v1/content/{id}")).timeout(Duration::from_secs(3));
    if let Ok(answer) = reader.send().await {
        let got = answer.bytes().await.unwrap_or_default();
        assert!(got.is_empty() || got.starts_with(b"{"), "{} bytes came", got.len());
    }
    assert_eq!(ben.delete(&format!("/v1/downloads/{}", download.id)).await.status, 204);
    liar.end().await;
    network.end([ben]).await;
}

fn visible(entry: &std::fs::DirEntry) -> bool {
    !entry.file_name().to_string_lossy().starts_with(".trueque")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_proof_is_no_proof() {
    for lie in [Lie::WrongProof, Lie::LongProof, Lie::WrongSize] {
        let (bytes, _) = file_arrives_beside(lie, big(22, 3)).await;
        println!("{lie:?}: {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_an_end_are_cut_off() {
    let (bytes, is_reported) = file_arrives_beside(Lie::Endless, big(23, 3)).await;
    assert_eq!(bytes, 0);
    assert!(is_reported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_and_long_answers_and_broken_promises_end_well() {
    for lie in [Lie::TooMuch, Lie::TooLittle, Lie::Missing, Lie::WrongPieces] {
        let (bytes, is_reported) = file_arrives_beside(lie, big(24, 3)).await;
        println!("{lie:?}: {bytes} bytes, reported: {is_reported}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_says_nothing_is_given_up() {
    let (bytes, _) = file_arrives_beside(Lie::Silent, big(25, 2)).await;
    assert_eq!(bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_files_from_a_liar_are_not_taken_either() {
    for lie in [Lie::FlippedBit, Lie::TooMuch, Lie::TooLittle, Lie::Endless] {
        let network = Network::start().await;
        let file = sample(26, 5_000);
        let liar = Liar::start(&network, "mallory", lie, "tiny.bin", file.clone()).await;
        let ana = network.peer("ana").await;
        let ben = network.peer("ben").await;
        let id = ana.share("tiny.bin", &file).await;
        let others = [ana.share("b.bin", &sample(27, 100)).await, ana.share("c.bin", &sample(28, 0)).await];
        ben.held_by(id, 2).await;
        ben.held_by(others[1], 1).await;
        let wanted = [(id, "x.bin"), (others[0], "y.bin"), (others[1], "z.bin")];
        let wanted = wanted.map(|(id, name)| (id, name.to_owned()));
        for download in ben.start_many(&wanted).await {
            ben.done(&download.id).await;
        }
        liar.end().await;
        network.end([ben, ana]).await;
    }
}
