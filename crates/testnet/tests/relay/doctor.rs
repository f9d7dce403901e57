//! What the doctor sees of the relay: a round trip through a real broker, its queues, and what happens to it.

use std::time::Duration;

use serde_json::json;
use testnet::{Api, Network, Rabbit, RabbitOptions, until};
use wire::rest::pclient::{Check, CheckResult, Examination};

use super::{mail::on_the_relay, station::Station, talk::relay_only};

async fn examined(api: &Api) -> Examination {
    api.post("/v1/doctor", &()).await.read()
}

fn check<'a>(examination: &'a Examination, name: &str) -> &'a Check {
    let found = examination.checks.iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("no check of {name}: {examination:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_is_tried_and_what_happens_to_it_is_said() {
    let mut rabbit = Rabbit::start(RabbitOptions::default()).await;
    let url = rabbit.url().replace("guest:guest", "keeper:a%20secret");
    rabbit.ctl(&["add_user", "keeper", "a secret"]).await;
    rabbit.ctl(&["set_permissions", "keeper", ".*", ".*", ".*"]).await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &url)).await;
    on_the_relay(&ana).await;

    let well = examined(&ana).await;
    assert!(well.healthy, "{well:?}");
    let server = rabbit.address().to_string();
    assert_eq!(check(&well, "relay").found, format!("connected to {server}"));
    assert_eq!(ana.status().await.relay.server, Some(server));
    assert!(check(&well, "relay_round_trip").found.starts_with("a sealed question to itself came back in "));
    assert_eq!(check(&well, "relay_queues").found, "for this peer: 0 to be taken, 0 in the mailbox");
    assert_eq!(check(&well, "relay_dead_letters").found, "none");
    assert_eq!(check(&well, "pserver").result, CheckResult::Ok, "it takes no calls, and needs none");
    let text = serde_json::to_string(&well).unwrap();
    assert!(!text.contains("keeper") && !text.contains("secret"), "the login is nobody's business: {text}");

    dead_letter(&rabbit).await;
    until("the dead letter is seen", async || {
        let dead = examined(&ana).await;
        let dead = check(&dead, "relay_dead_letters").clone();
        (dead.result == CheckResult::Warning && dead.found.starts_with("1, of all peers")).then_some(())
    })
    .await;

    rabbit.memory_alarm(true).await;
    // A broker says that it takes nothing when somebody sends something, as the first look does.
    let short = until("the broker takes nothing", async || {
        let seen = examined(&ana).await;
        (check(&seen, "relay").result == CheckResult::Warning).then_some(seen)
    })
    .await;
    assert_eq!(check(&short, "relay_round_trip").result, CheckResult::Failed);
    assert!(!short.healthy);
    rabbit.memory_alarm(false).await;
    until("it is well again", async || examined(&ana).await.healthy.then_some(())).await;

    rabbit.kill().await;
    until("the peer notices", async || (!ana.status().await.relay.connected).then_some(())).await;
    let asked = std::time::Instant::now();
    let without = examined(&ana).await;
    assert!(asked.elapsed() < Duration::from_secs(16), "{:?}", asked.elapsed());
    assert_eq!(check(&without, "relay").result, CheckResult::Failed);
    assert!(check(&without, "relay").found.starts_with("not connected: "), "{without:?}");
    assert_eq!(check(&without, "pserver").result, CheckResult::Warning, "nobody can reach it now");
    assert_eq!(check(&without, "session").result, CheckResult::Ok);
    assert!(!without.healthy);
    network.end([ana]).await;
}

/// Puts one there as the broker does: a letter with a life of its own that ends.
async fn dead_letter(rabbit: &Rabbit) {
    let one = json!({ "message-ttl": 1 }).to_string();
    let off = Station::at(&rabbit.url()).await;
    let id = off.id;
    off.stop().await;
    rabbit
        .ctl(&["set_policy", "short", &format!("^trueque\\.{id}\\.wants"), &one, "--apply-to", "queues"])
        .await;
    let sender = Station::at(&rabbit.url()).await;
    sender.send_at_last(id, peer::relay::message::Route::Want, "too late").await;
    sender.stop().await;
}
