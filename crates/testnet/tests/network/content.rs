//! Reading a file over HTTP: from here, from the network, and while it arrives.

use std::time::{Duration, Instant};

use futures::StreamExt;
use http::StatusCode;
use reqwest::Method;
use testnet::Network;
use wire::rest::pclient::DownloadState;

use crate::{MIB, big};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_a_far_file_costs_a_few_pieces() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let file = big(30, 64);
    let id = ana.share("talk.mp4", &file).await;
    ben.found("talk", id, 1).await;
    let before = proxy.sent();
    let (from, to) = (40 * MIB - 100, 40 * MIB + 200_000);
    let part = ben.content(id, Some(&format!("bytes={from}-{to}"))).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers["content-range"], format!("bytes {from}-{to}/{}", file.len()));
    assert_eq!(part.headers["content-type"], "video/mp4");
    assert!(part.body == file[from..=to], "exactly those bytes");
    let tail = ben.content(id, Some("bytes=-10")).await;
    assert!(tail.body == file[file.len() - 10..]);
    let cost = proxy.sent() - before;
    println!("the ranges cost {:.1} MiB", cost as f64 / MIB as f64);
    assert!(cost < 12 * MIB as u64, "{cost} bytes for a part of two pieces and the last one");

    let beyond = ben.content(id, Some(&format!("bytes={}-", file.len()))).await;
    assert_eq!((beyond.status.as_u16(), beyond.code().as_str()), (416, "range_not_satisfiable"));
    let head = testnet::Api::reply(ben.request(Method::HEAD, &format!("/v1/content/{id}"))).await;
    assert_eq!(head.headers["content-length"], file.len().to_string());
    let unknown = ben.content(content::ContentId::of(b"nobody has this"), None).await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (404, "not_found"));
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_file_is_streamed_from_the_network_and_from_here() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    for (name, file) in
        [("large.bin", big(31, 20)), ("empty.bin", bytes::Bytes::new()), ("one.bin", big(32, 1))]
    {
        let id = ana.share(name, &file).await;
        ben.found(name, id, 1).await;
        for peer in [&ana, &ben] {
            let whole = peer.content(id, None).await;
            assert_eq!(whole.status, StatusCode::OK, "{name}");
            assert!(whole.body == file, "{name}");
            assert_eq!(whole.headers["x-content-type-options"], "nosniff");
            assert!(whole.headers["content-disposition"].to_str().unwrap().starts_with("attachment"));
        }
    }
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_first_while_the_file_is_downloaded() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let file = big(33, 32);
    let id = ana.share("film.mkv", &file).await;
    ben.found("film", id, 1).await;
    proxy.slow(8 << 20);
    let download = ben.start(id).await;
    ben.wait(&download.id, "it has begun", |download| download.verified_bytes > 0).await;
    let from = 20 * MIB;
    let part = ben.content(id, Some(&format!("bytes={from}-{}", from + 99))).await;
    assert!(part.body == file[from..from + 100]);
    // And all of it from the beginning, as a player would, while the rest still arrives.
    let request = ben.request(Method::GET, &format!("/v1/content/{id}"));
    let mut stream = request.send().await.unwrap().bytes_stream();
    let mut at = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        assert!(chunk == file[at..at + chunk.len()], "the bytes at {at}");
        at += chunk.len();
        proxy.slow(0);
    }
    assert_eq!(at, file.len());
    drop(stream);
    ben.done(&download.id).await;
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_leaves_nothing_behind() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let id = ana.share("film.mkv", &big(34, 32)).await;
    ben.found("film", id, 1).await;
    proxy.slow(4 << 20);
    let answer = ben.request(Method::GET, &format!("/v1/content/{id}")).send().await.unwrap();
    let mut stream = answer.bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    assert!(ben.get("/v1/downloads").await.json()["items"].as_array().unwrap().is_empty());
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_told_at_once_that_nobody_can_be_asked() {
    let network = Network::start().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let id = ana.share("talk.mp4", &big(34, 2)).await;
    let unknown = content::ContentId::of(b"nobody has this");
    ben.held_by(id, 1).await;
    ana.end().await;
    ben.held_by(id, 0).await;
    // A download waits for a holder; who reads the same content meanwhile does not.
    for id in [unknown, id] {
        ben.state(&ben.start(id).await.id, DownloadState::Waiting).await;
    }
    let told = async |id| {
        let asked = Instant::now();
        let answer = ben.content(id, Some("bytes=0-9")).await;
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}: {}", asked.elapsed(), answer.status);
        (answer.status.as_u16(), answer.code())
    };
    assert_eq!(told(unknown).await, (404, "not_found".to_owned()));
    assert_eq!(told(id).await, (503, "unavailable".to_owned()));
    assert_eq!(ben.post("/v1/logout", &()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(told(unknown).await, (401, "unauthenticated".to_owned()));
    assert_eq!(told(id).await, (401, "unauthenticated".to_owned()));
    network.end([ben]).await;
}
