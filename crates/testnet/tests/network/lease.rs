//! Who is online: a lease that runs out, a logout, and a return.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use testnet::{Network, Peer, read, until, until_within};
use wire::rest::{directory::CatalogDelta, pclient::PeerPath};

const LEASE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_vanishes_is_offline_when_its_lease_ends() {
    let network = Network::with(|config| config.lease = LEASE).await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let id = ana.share("here.txt", b"here").await;
    ben.found("here", id, 1).await;
    let owner = ana.peer_id().await;
    let ana = ana.kill().await;
    until_within(LEASE + Duration::from_secs(3), "the lease runs out", async || {
        (ben.search("here").await[0].online == 0).then_some(())
    })
    .await;
    let found = ben.search("here").await;
    assert_eq!((found[0].holders, found[0].online, found[0].complete), (1, 0, false));
    let holders = ben.holders(id).await;
    assert!(!holders[0].holder.online && holders[0].path == PeerPath::Offline);
    let peers = ben.peers().await;
    assert!(peers.iter().all(|peer| peer.peer.online == (peer.peer.peer_id != owner)), "{peers:?}");
    let shown = ben.get(&format!("/v1/peers/{owner}")).await.json();
    assert_eq!((&shown["online"], &shown["path"]), (&json!(false), &json!("offline")));
    let only_online = ben.get("/v1/search?q=here&online=true").await.json();
    assert_eq!(only_online["items"].as_array().unwrap().len(), 0);

    // Leases are renewed by those who are there.
    until("the other one is there for two leases more", {
        let started = std::time::Instant::now();
        async move || (started.elapsed() > 2 * LEASE).then_some(())
    })
    .await;
    let own = ben.peer_id().await;
    assert!(ben.peers().await.iter().any(|peer| peer.peer.peer_id == own && peer.peer.online));

    let ana = Peer::again(ana).await;
    ben.found("here", id, 1).await;
    assert_eq!(ana.peer_id().await, owner, "the same machine, the same id");
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_logs_out_is_offline_at_once_and_serves_nobody() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let id = ana.share("here.txt", b"here").await;
    ben.found("here", id, 1).await;
    assert_eq!(ana.post("/v1/logout", &()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ben.search("here").await[0].online, 0);
    let status = ana.status().await;
    assert!(status.username.is_none() && !status.directory.connected);
    for path in ["/v1/search?q=here", "/v1/peers"] {
        assert_eq!(ana.get(path).await.code(), "unauthenticated", "{path}");
    }
    let wrong = ana.post("/v1/login", &json!({ "username": "ana", "password": "not the right one" })).await;
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (401, "unauthenticated"));
    let login = json!({ "username": "ana", "password": "password of ana" });
    assert_eq!(ana.post("/v1/login", &login).await.status, StatusCode::OK);
    ben.found("here", id, 1).await;
    ben.fetch(id).await;
    // A stop in order says goodbye too.
    ana.end().await;
    let holders = ben.holders(id).await;
    assert!(holders.iter().any(|h| h.holder.username.as_str() == "ana" && !h.holder.online), "{holders:?}");
    network.end([ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_somebody_else_changed_is_put_right_at_the_next_renewal() {
    let network = Network::with(|config| config.lease = LEASE).await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let id = ana.share("here.txt", b"here").await;
    ben.found("here", id, 1).await;
    // As another program with ana's keys would: it empties the catalog, under revisions that say nothing to ana.
    let session: Value = serde_json::from_slice(&read(ana.settings.data_dir.join("session.json"))).unwrap();
    for revision in [1_u64 << 52, 1] {
        let delta = CatalogDelta { revision, reset: true, ..CatalogDelta::default() };
        let url = network.url().join("/v1/catalog").unwrap();
        let foreign = reqwest::Client::builder().timeout(LEASE).no_proxy().build().unwrap().post(url);
        let told = foreign.bearer_auth(session["token"].as_str().unwrap()).json(&delta).send().await.unwrap();
        assert_eq!(told.status(), StatusCode::OK);
        assert!(ben.search("here").await.is_empty());
        until_within(2 * LEASE, "it is announced again", async || {
            (!ben.search("here").await.is_empty()).then_some(())
        })
        .await;
    }
    network.end([ben, ana]).await;
}
