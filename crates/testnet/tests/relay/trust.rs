//! A peer whose session was ended, and that does not hear of it, gets nothing over the relay either.

use std::time::Duration;

use http::StatusCode;
use peer::link::{LinkError, Target};
use testnet::{Network, Rabbit, until_within};

use super::{mail::on_the_relay, talk::relay_only};

const ADMIN: &str = "admin-of-the-tests";
const HEARD: Duration = Duration::from_secs(6);

fn refused() -> u64 {
    let line = "trueque_relay_refused_total{reason=\"session ended\"} ";
    let metrics = daemon::metrics::render();
    metrics.lines().find_map(|text| text.strip_prefix(line)?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_ended_is_not_answered_over_the_relay() {
    daemon::metrics::init().unwrap();
    let broker = Rabbit::shared().await;
    let network = Network::with(|config| {
        config.lease = Duration::from_secs(3);
        config.admin_token = Some(ADMIN.to_owned().into());
    })
    .await;
    let proxy = network.proxy().await;
    let directory = network.url().socket_addrs(|| None).unwrap()[0];
    proxy.aim_at(directory);
    let ana = network.peer_with("ana", |settings| relay_only(settings, &broker)).await;
    let eve = network
        .peer_with("eve", |settings| {
            relay_only(settings, &broker);
            settings.directories = vec![format!("http://{}", proxy.endpoint()).parse().unwrap()];
        })
        .await;
    on_the_relay(&ana).await;
    on_the_relay(&eve).await;
    let id = ana.share("open.bin", b"for everybody").await;
    eve.found("open", id, 1).await;
    let peers = eve.peers().await;
    let holder = Target::from(&peers.iter().find(|one| one.peer.username.as_str() == "ana").unwrap().peer);
    let describe = async || eve.links().get(&holder, 0).await?.describe(id, 0).await;
    assert_eq!(describe().await.unwrap().size, 13);

    // From here on eve hears nothing of the directory, and goes on with what she has.
    proxy.cut();
    let url = network.url().join("/v1/accounts/eve/disable").unwrap();
    let http = reqwest::Client::builder().timeout(HEARD).no_proxy().build().unwrap();
    let said = http.post(url).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(said.status(), StatusCode::NO_CONTENT);
    // It keeps connections, and a task that looks after them.
    drop((said, http));
    until_within(HEARD * 3, "her questions are dropped, and counted", async || {
        let _unanswered = tokio::time::timeout(Duration::from_secs(1), describe()).await;
        (refused() > 0).then_some(())
    })
    .await;
    let answer = describe().await;
    assert!(matches!(answer, Err(LinkError::Silent | LinkError::Unreachable(_))), "{answer:?}");
    network.end([ana, eve]).await;
}
