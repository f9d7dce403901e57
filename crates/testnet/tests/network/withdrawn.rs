//! A name that is taken off the list: what is under way to it stops, at once and over every path, and the receiver says
//! so.

use content::ContentId;
use daemon::settings::ByteSize;
use serde_json::json;
use testnet::{Api, Network, until};
use wire::rest::pclient::{Download, DownloadState};

use crate::{MIB, big};

/// A second's worth at the limit that these tests set: how soon a transfer ends shows in what is sent after it.
const RATE: u64 = 2 * MIB as u64;

async fn share_with(peer: &Api, name: &str, bytes: &[u8], audience: &[&str]) -> ContentId {
    let path = peer.put(name, bytes);
    let shared = peer.post("/v1/files", &json!({ "path": path, "audience": audience })).await;
    assert_eq!(shared.status, 201, "{shared:?}");
    ContentId::of(bytes)
}

async fn set_audience(peer: &Api, id: ContentId, audience: &[&str]) {
    let patch = peer.request(http::Method::PATCH, &format!("/v1/files/{id}"));
    let reply = Api::reply(patch.json(&json!({ "audience": audience }))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

async fn begins(peer: &Api, id: ContentId) -> Download {
    let download = peer.start(id).await;
    peer.wait(&download.id, "something came", |now| now.verified_bytes > 0).await
}

/// Waits until the download says that it gets no more, and why.
async fn is_cut_off(receiver: &Api, download: &Download, by: &str) -> Download {
    let cut = until("the transfer is cut off, and the receiver says so", async || {
        let now = receiver.download(&download.id).await;
        let said =
            now.note.as_ref().is_some_and(|note| note == &format!("no longer shared with you by {by}"));
        (now.state == DownloadState::Waiting && said).then_some(now)
    })
    .await;
    assert!(cut.verified_bytes < cut.size.unwrap(), "{cut:?}");
    cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_transfer_ends_when_its_receiver_is_taken_off_the_list() {
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| settings.upload_limit = ByteSize(RATE)).await;
    let ben = network.peer("ben").await;
    let id = share_with(&ana, "for ben.bin", &big(720, 24), &["ben"]).await;
    ben.found("for ben", id, 1).await;
    let download = begins(&ben, id).await;

    set_audience(&ana, id, &["ana"]).await;
    let sent = ana.sent();
    is_cut_off(&ben, &download, "ana").await;
    until("nobody shows it to ben any more", async || ben.holders(id).await.is_empty().then_some(())).await;
    // What was read from the disk already may have been on its way out.
    assert!(ana.sent() <= sent + RATE, "{} bytes went out afterwards", ana.sent() - sent);
    let after = ben.download(&download.id).await.verified_bytes;
    assert_eq!(ben.start(id).await.id, download.id, "asking again does not help");
    assert_eq!(ben.download(&download.id).await.verified_bytes, after);

    // A change of mind goes on where it stopped.
    set_audience(&ana, id, &["ana", "ben"]).await;
    ben.wait(&download.id, "more came", |now| now.verified_bytes > after).await;

    // And so does no longer sharing it at all.
    assert_eq!(ana.delete(&format!("/v1/files/{id}")).await.status, 204);
    is_cut_off(&ben, &download, "ana").await;
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_leaves_the_folder_stops_going_out() {
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| settings.upload_limit = ByteSize(RATE)).await;
    let ben = network.peer("ben").await;
    let id = ana.share("leaves.bin", &big(721, 24)).await;
    ben.found("leaves", id, 1).await;
    let download = begins(&ben, id).await;
    std::fs::rename(ana.share_dir().join("leaves.bin"), network.folder("elsewhere.bin")).unwrap();
    let sent = ana.sent();
    ben.state(&download.id, DownloadState::Waiting).await;
    // That the file is gone has to be noticed first.
    assert!(ana.sent() <= sent + 2 * RATE, "{} bytes went out afterwards", ana.sent() - sent);
    network.end([ana, ben]).await;
}

/// Whoever got a file that only some may have serves none of it, neither while it comes nor afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_some_may_have_is_served_by_its_owner_alone() {
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| settings.upload_limit = ByteSize(4 * MIB as u64)).await;
    let ben = network.peer("ben").await;
    let carla = network.peer("carla").await;
    let id = share_with(&ana, "for two.bin", &big(722, 8), &["ben", "carla"]).await;
    ben.found("for two", id, 1).await;
    let download = begins(&ben, id).await;
    assert_eq!(carla.holders(id).await.len(), 1, "the part is announced to nobody");
    ben.done(&download.id).await;
    carla.fetch(id).await;
    assert_eq!((ben.sent(), carla.sent()), (0, 0));
    assert_eq!(carla.holders(id).await.len(), 1);
    network.end([ana, ben, carla]).await;
}
