//! What happens to files on a disk: names that are taken, changes, and downloads that are paused and cancelled.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use content::ContentId;
use http::StatusCode;
use testnet::{Network, Peer, read, sample, until, until_within};
use wire::rest::pclient::DownloadState;

use crate::{MIB, big};

/// How soon the directory knows what changed in a shared folder.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_overwritten() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    fs::write(ben.download_dir().join("report.pdf"), "mine").unwrap();
    let (one, two) = (ana.share("a/report.pdf", b"one").await, ana.share("b/report.pdf", b"two").await);
    ben.held_by(one, 1).await;
    ben.held_by(two, 1).await;
    let mut names = Vec::new();
    for id in [one, two] {
        let started = ben.start_as(id, "report.pdf").await;
        names.push(ben.done(&started.id).await.name);
    }
    assert_eq!(names, ["report (2).pdf", "report (3).pdf"]);
    assert_eq!(read(ben.download_dir().join("report.pdf")), b"mine");
    // The same bytes again: the user asked for a file, and has one.
    let again = ben.start_as(one, "report.pdf").await;
    ben.done(&again.id).await;
    // Uploads of the same name do not meet either.
    for (bytes, name) in [("x", "up.txt"), ("y", "up (2).txt"), ("x", "up.txt")] {
        let reply = ben.upload("up.txt", bytes.into()).await;
        assert_eq!((reply.status, reply.json()["name"].as_str()), (StatusCode::CREATED, Some(name)));
    }
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_resume_and_cancel() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let file = big(80, 24);
    let id = ana.share("big.bin", &file).await;
    ben.found("big", id, 1).await;
    proxy.slow(8 << 20);
    let first = ben.post("/v1/downloads", &serde_json::json!({ "content_id": id })).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let download = first.json()["id"].as_str().unwrap().to_owned();
    let second = ben.post("/v1/downloads", &serde_json::json!({ "content_id": id })).await;
    assert_eq!((second.status, second.json()["id"].as_str()), (StatusCode::OK, Some(download.as_str())));

    ben.wait(&download, "some is here", |d| d.verified_bytes > 4 * MIB as u64).await;
    assert_eq!(ben.pause(&download).await.status, StatusCode::OK);
    let paused = ben.state(&download, DownloadState::Paused).await;
    // What was on its way has arrived or is dropped; then nothing moves.
    let mut still = proxy.sent();
    until("the line is quiet", async || {
        let before = std::mem::replace(&mut still, proxy.sent());
        tokio::time::sleep(Duration::from_millis(100)).await;
        (before == still).then_some(())
    })
    .await;
    assert_eq!(ben.download(&download).await.verified_bytes, paused.verified_bytes);
    assert!(ben.part(id).exists());
    assert_eq!(ben.resume(&download).await.status, StatusCode::OK);
    ben.wait(&download, "it goes on", |d| d.verified_bytes > paused.verified_bytes).await;

    assert_eq!(ben.delete(&format!("/v1/downloads/{download}")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ben.get(&format!("/v1/downloads/{download}")).await.status, StatusCode::NOT_FOUND);
    assert!(!ben.part(id).exists(), "the part goes");
    ana.held_by(id, 1).await;

    // And a new request begins anew.
    proxy.slow(0);
    let done = ben.fetch(id).await;
    for refused in [ben.pause(&done.id).await, ben.resume(&done.id).await] {
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (422, "unprocessable"));
    }
    assert_eq!(ben.delete(&format!("/v1/downloads/{}", done.id)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ContentId::of(&read(done.path.unwrap())), id, "a finished file stays");
    // Asked for again it is there, under an id that somebody can ask for.
    let again = ben.start(id).await;
    assert_ne!(again.id, done.id);
    ben.done(&again.id).await;
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_has_one_download_whoever_asks_and_cancels_at_once() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let (large, small) = (ana.share("big.bin", &big(81, 24)).await, ana.share("small.bin", b"small").await);
    ben.found("big", large, 1).await;
    ben.found("small", small, 1).await;
    proxy.slow(1 << 20);
    let rounds = (0..12).map(async |round| {
        for _ in 0..6 {
            let id = match round % 3 {
                0 => {
                    ben.start_many(&[(large, "big.bin".to_owned()), (small, "small.bin".to_owned())])
                        .await
                        .remove(0)
                        .id
                }
                _ => ben.start(large).await.id,
            };
            // Somebody else may have been faster.
            let status = match round % 4 {
                0 => ben.pause(&id).await.status,
                1 => ben.resume(&id).await.status,
                _ => ben.delete(&format!("/v1/downloads/{id}")).await.status,
            };
            assert!(status.is_success() || [404, 422].contains(&status.as_u16()), "{status}");
        }
    });
    futures::future::join_all(rounds).await;

    let page = ben.get("/v1/downloads?limit=200").await.json();
    let ids: Vec<String> =
        page["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    for id in &ids {
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{ids:?}");
        let shown = ben.get(&format!("/v1/downloads/{id}")).await;
        assert_eq!(shown.status, StatusCode::OK, "what is listed can be asked for: {id}");
        if shown.json()["content_id"] == large.to_string() {
            assert_eq!(ben.delete(&format!("/v1/downloads/{id}")).await.status, StatusCode::NO_CONTENT);
        }
    }
    assert!(!ben.part(large).exists(), "nothing goes on with it");
    proxy.slow(0);
    let done = ben.fetch(large).await;
    assert_eq!(done.name, "big.bin", "there is no other one");
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_follows_what_happens_in_a_shared_folder() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    // Nobody tells the peer of any of this.
    let path = ana.put("notes.txt", b"first");
    let first = ContentId::of(b"first");
    until_within(SOON, "a new file is found", async || {
        ben.search("notes").await.iter().any(|item| item.content_id == first).then_some(())
    })
    .await;
    fs::rename(&path, path.with_file_name("renamed.txt")).unwrap();
    until_within(SOON, "a renamed file is found by its new name alone", async || {
        let (old, new) = (ben.search("notes").await, ben.search("renamed").await);
        (old.is_empty() && new.iter().any(|item| item.content_id == first)).then_some(())
    })
    .await;
    ana.put("renamed.txt", b"second, and longer");
    let second = ContentId::of(b"second, and longer");
    until_within(SOON, "a changed file is another content", async || {
        let items = ben.search("renamed").await;
        (items.len() == 1 && items[0].content_id == second).then_some(())
    })
    .await;
    fs::remove_file(path.with_file_name("renamed.txt")).unwrap();
    until_within(SOON, "a deleted file is gone", async || {
        ben.search("renamed").await.is_empty().then_some(())
    })
    .await;
    assert!(ben.holders(second).await.is_empty());

    // Withdrawn, but not deleted.
    let id = ana.share("kept.txt", b"kept").await;
    ben.found("kept", id, 1).await;
    assert_eq!(ana.delete(&format!("/v1/files/{id}")).await.status, StatusCode::NO_CONTENT);
    until_within(SOON, "a withdrawn file is gone", async || {
        ben.search("kept").await.is_empty().then_some(())
    })
    .await;
    assert!(ana.share_dir().join("kept.txt").exists());
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_while_it_is_served_gives_no_wrong_byte() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let file = big(81, 32);
    let id = ana.share("live.bin", &file).await;
    ben.found("live", id, 1).await;
    proxy.slow(8 << 20);
    let download = ben.start(id).await;
    ben.wait(&download.id, "some is here", |d| d.verified_bytes > 2 * MIB as u64).await;
    let other = sample(82, file.len());
    ana.put("live.bin", &other);
    proxy.slow(0);
    until("the catalog follows", async || {
        let holders = ben.holders(ContentId::of(&other)).await;
        let old = ben.holders(id).await;
        let ana_left = old.iter().all(|h| h.holder.username.as_str() != "ana");
        (holders.len() == 1 && ana_left).then_some(())
    })
    .await;
    let waiting = ben.state(&download.id, DownloadState::Waiting).await;
    assert!(waiting.verified_bytes < file.len() as u64);
    // What it has are true pieces: with the old bytes back under another name it ends, and only the rest is fetched.
    ana.share("old.bin", &file).await;
    ben.done(&download.id).await;
    network.end([ben, ana]).await;
}

/// Writes other bytes of the same length into a file, and puts its old time back, as some tools do.
fn change_in_secret(path: impl AsRef<Path>, bytes: &[u8]) {
    let before = fs::metadata(&path).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.len(), after.modified().unwrap()), (before.len(), before.modified().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_file_that_was_changed_is_fetched_again_beside_it() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer_with("ben", |settings| settings.reshare = false).await;
    let files =
        [("small.txt", sample(83, 2_000)), ("large.bin", big(84, 3)), ("batch.txt", sample(85, 3_000))];
    for (name, bytes) in &files {
        let id = ana.share(name, bytes).await;
        ben.held_by(id, 1).await;
        let ask = async || match *name {
            "batch.txt" => ben.start_many(&[(id, (*name).to_owned())]).await.remove(0),
            _ => ben.start(id).await,
        };
        let first = ben.done(&ask().await.id).await;
        let path = first.path.clone().unwrap();
        let sent = ana.sent();
        assert_eq!(ben.done(&ask().await.id).await.id, first.id, "asked again, it is the answer");

        // Touched, but still right: it is read again, and not fetched.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(ben.done(&ask().await.id).await.path.unwrap(), path);
        assert_eq!(ben.content(id, None).await.body, *bytes, "its bytes are read from there");
        assert_eq!(ana.sent(), sent, "{name}");

        // Other bytes under the same size and time.
        change_in_secret(&path, b"damage");
        assert_eq!(ben.content(id, None).await.body, *bytes, "not the ones that lie there now");
        let again = ben.done(&ask().await.id).await;
        assert_ne!(again.path.unwrap(), path, "{name}");
        assert_eq!(&read(&path)[..6], b"damage", "what the user has there stays");
    }
    // Over a restart too.
    let settings = ben.end().await;
    change_in_secret(settings.download_dir.join("small (2).txt"), b"damage");
    let ben = Peer::again(settings).await;
    let id = ContentId::of(&files[0].1);
    assert_eq!(ben.fetch(id).await.name, "small (2) (2).txt");
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_changed_in_secret_are_given_to_nobody() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let (small, large) = (sample(86, 2_000), big(87, 3));
    for (name, bytes) in [("small.txt", &small), ("large.bin", &large)] {
        let id = ana.share(name, bytes).await;
        ben.held_by(id, 1).await;
        change_in_secret(ana.share_dir().join(name), b"damage");
        // At once, before anybody has looked at the file again.
        let local = ana.content(id, None).await;
        assert!(!local.status.is_success(), "{name}: {}", local.status);
        let part = ana.content(id, Some("bytes=0-9")).await;
        assert!(!part.status.is_success(), "{name}: {}", part.status);
        let download = ben.start(id).await;
        let waiting = ben.state(&download.id, DownloadState::Waiting).await;
        assert!(waiting.verified_bytes < bytes.len() as u64);
        until("the directory knows the file as it is", async || {
            let left = ben.holders(id).await;
            left.iter().all(|holder| holder.holder.username.as_str() != "ana").then_some(())
        })
        .await;
        assert_eq!(
            ben.delete(&format!("/v1/downloads/{}", download.id)).await.status,
            StatusCode::NO_CONTENT
        );
    }
    network.end([ben, ana]).await;
}
