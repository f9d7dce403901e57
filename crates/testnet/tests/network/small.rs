//! Many small files: a folder of them, and every size around a piece.

use std::collections::BTreeMap;

use content::{ContentId, PIECE_SIZE};
use serde_json::json;
use testnet::{Network, read, sample, until};
use wire::rest::pclient::{Download, DownloadState};

const FILES: u64 = 2_000;
const EACH: usize = 16 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_thousands_is_announced_paged_and_fetched_in_batches() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let mut wanted = BTreeMap::new();
    for n in 0..FILES {
        let name = format!("set/{:02}/{n:04}.bin", n % 40);
        let bytes = sample(1_000_000 + n, EACH);
        ana.put(&name, &bytes);
        wanted.insert(ContentId::of(&bytes), name);
    }
    let folder = ana.share_dir().join("set");
    assert_eq!(ana.post("/v1/files", &json!({ "path": folder })).await.status, 202);
    let owner = ana.peer_id().await;
    until("all files are announced", async || {
        let peers = ben.peers().await;
        peers.iter().any(|p| p.peer.peer_id == owner && p.peer.files == FILES).then_some(())
    })
    .await;
    let listed: BTreeMap<ContentId, String> =
        ben.files_of(owner).await.into_iter().map(|file| (file.content_id, file.name)).collect();
    assert_eq!(listed, wanted);

    let wanted: Vec<(ContentId, String)> = wanted.into_iter().collect();
    let mut started: Vec<Download> = Vec::new();
    for batch in wanted.chunks(1_000) {
        started.extend(ben.start_many(batch).await);
    }
    assert_eq!(started.len(), wanted.len());
    assert!(started.iter().zip(&wanted).all(|(download, (id, _))| download.content_id == *id), "in order");
    until("all are done", async || {
        let path = "/v1/downloads?limit=1&state=";
        for state in ["queued", "running", "waiting", "finishing", "failed"] {
            let page = ben.get(&format!("{path}{state}")).await.json();
            if !page["items"].as_array().unwrap().is_empty() {
                assert_ne!(state, "failed", "{page}");
                return None;
            }
        }
        Some(())
    })
    .await;
    for (id, name) in &wanted {
        let bytes = read(ben.download_dir().join(name));
        assert_eq!(ContentId::of(&bytes), *id, "{name}");
    }
    let one = ben.download(&started[7].id).await;
    assert_eq!((one.state, one.verified_bytes), (DownloadState::Done, EACH as u64));
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_around_a_piece_arrives() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let (ben, cleo) = (network.peer("ben").await, network.peer("cleo").await);
    let piece = usize::try_from(PIECE_SIZE).unwrap();
    let mut wanted = Vec::new();
    for (n, size) in [0, 1, piece - 1, piece, piece + 1, 2 * piece, 3 * piece + 7].into_iter().enumerate() {
        let bytes = sample(40 + n as u64, size);
        wanted.push((ana.share(&format!("size {size}.bin"), &bytes).await, format!("size {size}.bin"), size));
    }
    for (id, name, size) in &wanted {
        ben.held_by(*id, 1).await;
        let done = ben.fetch(*id).await;
        assert_eq!((done.size, done.name.as_str()), (Some(*size as u64), name.as_str()));
        assert_eq!(std::fs::metadata(done.path.unwrap()).unwrap().len(), *size as u64);
    }
    // And all of them together, from two.
    for (id, ..) in &wanted {
        cleo.held_by(*id, 2).await;
    }
    let batch: Vec<_> = wanted.iter().map(|(id, name, _)| (*id, name.clone())).collect();
    for download in cleo.start_many(&batch).await {
        cleo.done(&download.id).await;
    }
    network.end([cleo, ben, ana]).await;
}
