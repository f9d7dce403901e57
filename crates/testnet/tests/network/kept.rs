//! What a peer keeps to itself, wherever it lies: what was given to it alone, and its own keys.

use std::{fs, path::PathBuf};

use content::ContentId;
use http::StatusCode;
use serde_json::json;
use testnet::{Network, Peer, sample, until};

use crate::big;

/// Shares with one user.
async fn share_with(peer: &Peer, name: &str, bytes: &[u8], user: &str) -> ContentId {
    let path = peer.put(name, bytes);
    let reply = peer.post("/v1/files", &json!({ "path": path, "audience": [user] })).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&reply.body));
    ContentId::of(bytes)
}

/// The names of all that a peer shares, once it has looked at everything that lies there now: a file that comes later
/// is shared after what came before.
async fn shared_by(peer: &Peer, marker: &str) -> Vec<String> {
    peer.put(marker, marker.as_bytes());
    until("the folder was looked at", async || {
        let names: Vec<String> = peer.get("/v1/files?limit=200").await.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["name"].as_str().unwrap().to_owned())
            .collect();
        let waits = peer.status().await.shared.hashing_files > 0;
        (names.iter().any(|name| name == marker) && !waits).then_some(names)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_to_one_alone_is_not_passed_on_whatever_folder_it_lies_in() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    // One of the worst places: the download folder is a shared folder.
    let gema =
        network.peer_with("gema", |settings| settings.download_dir = settings.share_dirs[0].clone()).await;
    let bytes = [sample(300, 8), sample(301, 2_000), big(302, 3)];
    let mut ids = Vec::new();
    for (n, bytes) in bytes.iter().enumerate() {
        ids.push(share_with(&ana, &format!("secret {n}.bin"), bytes, "gema").await);
    }
    for id in &ids {
        gema.held_by(*id, 1).await;
    }
    // One by itself, and the others in a batch, which goes another way.
    gema.fetch(ids[0]).await;
    let wanted: Vec<_> = ids[1..].iter().map(|id| (*id, format!("got {id}.bin"))).collect();
    for download in gema.start_many(&wanted).await {
        gema.done(&download.id).await;
    }
    assert_eq!(shared_by(&gema, "first").await, ["first"]);

    // Renamed, copied, and copied again while nobody looks.
    let folder = gema.share_dir().to_owned();
    fs::rename(folder.join("secret 0.bin"), folder.join("renamed.bin")).unwrap();
    fs::copy(folder.join(format!("got {}.bin", ids[2])), folder.join("copied.bin")).unwrap();
    assert_eq!(shared_by(&gema, "second").await, ["first", "second"]);
    let settings = gema.end().await;
    fs::copy(folder.join("renamed.bin"), folder.join("copied while off.bin")).unwrap();
    fs::rename(folder.join("copied.bin"), folder.join("renamed while off.bin")).unwrap();
    let gema = Peer::again(settings).await;
    assert_eq!(shared_by(&gema, "third").await, ["first", "second", "third"]);

    // Not even when somebody asks for it, by its path, with its folder, or as bytes.
    for path in ["renamed.bin", "renamed while off.bin"] {
        let reply = gema.post("/v1/files", &json!({ "path": folder.join(path) })).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (422, "unprocessable"), "{path}");
    }
    let reply = gema.post("/v1/files", &json!({ "path": folder })).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED);
    let upload = gema.upload("mine.bin", bytes[1].clone()).await;
    assert_eq!((upload.status.as_u16(), upload.code().as_str()), (422, "unprocessable"));
    assert_eq!(shared_by(&gema, "fourth").await.len(), 4);

    // And nobody else ever heard of it.
    for id in &ids {
        let holders = gema.holders(*id).await;
        assert!(holders.iter().all(|holder| holder.holder.username.as_str() == "ana"), "{holders:?}");
        assert!(ben.holders(*id).await.is_empty());
    }
    assert!(ben.search("secret").await.is_empty() && ben.search("copied").await.is_empty());

    // When its owner opens it to everybody, fetching it again lifts it.
    let open = ana.request(reqwest::Method::PATCH, &format!("/v1/files/{}", ids[1]));
    let reply = testnet::Api::reply(open.json(&json!({ "audience": "network" }))).await;
    assert_eq!(reply.status, StatusCode::OK);
    ben.held_by(ids[1], 1).await;
    fs::remove_file(folder.join(format!("got {}.bin", ids[1]))).unwrap();
    gema.fetch(ids[1]).await;
    ben.held_by(ids[1], 2).await;
    network.end([gema, ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peers_own_keys_are_never_shared_nor_written_over() {
    let network = Network::start().await;
    let ben = network.peer("ben").await;
    // The data folder lies in the shared folder, and the download folder is the same.
    let ana = network
        .peer_with("ana", |settings| {
            settings.data_dir = settings.share_dirs[0].join("data");
            settings.download_dir = settings.share_dirs[0].clone();
        })
        .await;
    let share = ana.share_dir().to_owned();
    let data = share.join("data");
    let listing = || {
        let mut names: Vec<PathBuf> =
            fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    assert_eq!(shared_by(&ana, "marker").await, ["marker"]);
    for path in ["data/identity.key", "data", "data/peer.db"] {
        let reply = ana.post("/v1/files", &json!({ "path": share.join(path) })).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (422, "unprocessable"), "{path}");
        assert!(reply.json()["detail"].as_str().unwrap().contains("PEER_DATA_DIR"), "{path}");
    }
    // The folder around it is shared without it.
    let around = ana.post("/v1/files", &json!({ "path": share })).await;
    assert_eq!(around.status, StatusCode::ACCEPTED);
    assert_eq!(shared_by(&ana, "marker 2").await, ["marker", "marker 2"]);

    // What others send or name does not get in there either.
    let before = listing();
    let upload = ana.upload("data/peer.db-journal", "evil".into()).await;
    assert_eq!((upload.status.as_u16(), upload.code().as_str()), (409, "conflict"));
    let id = ben.share("data/peer.db-journal", b"evil").await;
    ana.held_by(id, 1).await;
    let done = ana.fetch(id).await;
    assert_eq!(done.name, "data (2)/peer.db-journal");
    let many = ana.start_many(&[(id, "data/session.json".to_owned())]).await;
    ana.done(&many[0].id).await;
    assert_eq!(listing(), before);
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_way_of_a_folder_is_gone_around() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let ids = [
        ana.share("f/one", b"one").await,
        ana.share("f/two", b"two").await,
        ana.share("big", &big(310, 2)).await,
    ];
    for id in ids {
        ben.held_by(id, 1).await;
    }
    let outside = network.folder("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(ben.download_dir().join("f"), "a file of mine").unwrap();
    std::os::unix::fs::symlink(&outside, ben.download_dir().join("lnk")).unwrap();

    // One file by itself, small ones in a batch, one of several pieces.
    let single = ben.fetch(ids[0]).await;
    assert_eq!(single.name, "f (2)/one");
    let many = ben.start_many(&[(ids[1], "f/two".to_owned())]).await;
    assert_eq!(ben.done(&many[0].id).await.name, "f (2)/two");
    let large = ben.start_as(ids[2], "lnk/deep/big").await;
    assert_eq!(ben.done(&large.id).await.name, "lnk (2)/deep/big");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

    // An upload can choose another name, so it is told.
    ben.put("g", b"a file");
    let upload = ben.upload("g/x", "bytes".into()).await;
    assert_eq!((upload.status.as_u16(), upload.code().as_str()), (409, "conflict"));
    assert!(upload.json()["detail"].as_str().unwrap().contains("`g`"));

    // The download folder goes while the peer runs: it is made again.
    fs::remove_dir_all(ben.download_dir()).unwrap();
    let again = [ana.share("late small", b"small").await, ana.share("late big", &big(311, 2)).await];
    for id in again {
        ben.held_by(id, 1).await;
        assert!(ben.fetch(id).await.path.unwrap().starts_with(&ben.download_dir().display().to_string()));
    }
    network.end([ben, ana]).await;
}
