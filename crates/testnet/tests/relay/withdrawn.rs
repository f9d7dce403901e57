//! A name that is taken off the list, over the relay: answers that are under way, and those that wait for the broker.

use content::ContentId;
use serde_json::json;
use testnet::{Api, Network, Rabbit, RabbitOptions, until};
use wire::rest::pclient::{Download, DownloadState};

use super::{mail::on_the_relay, talk::relay_only};
use crate::{MIB, big};

async fn set_audience(peer: &Api, id: ContentId, audience: &[&str]) {
    let patch = peer.request(http::Method::PATCH, &format!("/v1/files/{id}"));
    let reply = Api::reply(patch.json(&json!({ "audience": audience }))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// How soon shows in what is still sent after it, at a limited rate: a second's worth at most.
async fn is_cut_off(receiver: &Api, download: &Download) {
    until("the transfer is cut off, and the receiver says so", async || {
        let now = receiver.download(&download.id).await;
        let said = now.note.as_ref().is_some_and(|note| note.starts_with("no longer shared with you by ben"));
        (now.state == DownloadState::Waiting && said).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_transfer_ends_when_its_receiver_is_taken_off_the_list() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| {
        relay_only(settings, &broker);
        settings.upload_limit = daemon::settings::ByteSize(2 * MIB as u64);
    });
    let ben = ben.await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let file = big(440, 24);
    let path = ben.put("for ana.bin", &file);
    let shared = ben.post("/v1/files", &json!({ "path": path, "audience": ["ana"] })).await;
    assert_eq!(shared.status, 201, "{shared:?}");
    let id = ContentId::of(&file);
    ana.found("for ana", id, 1).await;
    let download = ana.start(id).await;
    ana.wait(&download.id, "something came", |now| now.verified_bytes > 0).await;

    set_audience(&ben, id, &["ben"]).await;
    let sent = ben.sent();
    is_cut_off(&ana, &download).await;
    until("nobody shows it to ana any more", async || ana.holders(id).await.is_empty().then_some(())).await;
    assert!(ben.sent() <= sent + 2 * MIB as u64, "{} bytes went out afterwards", ben.sent() - sent);

    set_audience(&ben, id, &["ana"]).await;
    let before = ana.download(&download.id).await.verified_bytes;
    ana.wait(&download.id, "more came", |now| now.verified_bytes > before).await;
    assert_eq!(ben.delete(&format!("/v1/files/{id}")).await.status, 204);
    is_cut_off(&ana, &download).await;
    network.end([ana, ben]).await;
}

/// A broker that takes nothing for a while: what waits for it is taken back, and never published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_wait_for_the_broker_are_taken_back() {
    let rabbit = Rabbit::start(RabbitOptions::default()).await;
    let broker = rabbit.url();
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let ben = network.peer_with("ben", |settings| {
        relay_only(settings, &broker);
        settings.upload_limit = daemon::settings::ByteSize(MIB as u64);
    });
    let ben = ben.await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let file = big(441, 24);
    let path = ben.put("blocked.bin", &file);
    let shared = ben.post("/v1/files", &json!({ "path": path, "audience": ["ana"] })).await;
    assert_eq!(shared.status, 201, "{shared:?}");
    let id = ContentId::of(&file);
    ana.found("blocked", id, 1).await;
    let download = ana.start(id).await;
    ana.wait(&download.id, "something came", |now| now.verified_bytes > 0).await;

    rabbit.memory_alarm(true).await;
    until("ben is told that the broker is short of memory", async || {
        ben.status().await.relay.why.is_some().then_some(())
    })
    .await;
    set_audience(&ben, id, &["ben"]).await;
    let (sent, arrived) = (ben.sent(), ana.download(&download.id).await.verified_bytes);
    rabbit.memory_alarm(false).await;
    until("the relay takes messages again", async || ben.status().await.relay.why.is_none().then_some(()))
        .await;
    until("nobody shows it to ana any more", async || ana.holders(id).await.is_empty().then_some(())).await;
    let now = ana.state(&download.id, DownloadState::Waiting).await;
    // What the broker had taken before is all that came.
    assert!(now.verified_bytes <= arrived + 2 * MIB as u64, "{arrived} and then {}", now.verified_bytes);
    assert!(ben.sent() <= sent + 2 * MIB as u64, "{} bytes went out afterwards", ben.sent() - sent);
    network.end([ana, ben]).await;
}
