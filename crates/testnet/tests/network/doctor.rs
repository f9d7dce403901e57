//! `peer doctor` as a user runs it: the real program asks a peer that is well, and one to which things happen.

use peer::config::Settings;
use serde_json::Value;
use testnet::{Network, Peer, until};

use crate::{
    cli::{Ran, run},
    waiting::SmallDisk,
};

/// The findings of one name, as JSON.
fn found(ran: &Ran, name: &str) -> Vec<Value> {
    let examination: Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let checks = examination["checks"].as_array().unwrap();
    checks.iter().filter(|check| check["name"] == name).cloned().collect()
}

fn result(ran: &Ran, name: &str) -> String {
    let [check] = &found(ran, name)[..] else { panic!("not one check of {name}: {}", ran.out) };
    check["result"].as_str().unwrap().to_owned()
}

async fn doctor(peer: &Peer) -> Ran {
    run(peer, &["doctor", "--json"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_well() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ran = run(&ana, &["doctor"]).await;
    assert_eq!(ran.code, Some(0), "{} {}", ran.out, ran.err);
    let endpoint = ana.pserver();
    for line in [
        format!("pclient       http://{} answers, version ", ana.address()),
        format!("directory     {} answers in ", network.url().as_str().trim_end_matches('/')),
        "session       logged in as ana; others see this peer".to_owned(),
        "clock         agrees with the directory's".to_owned(),
        format!("pserver       {endpoint} leads here, by mutual TLS, in "),
        "certificate   holds for ".to_owned(),
        "relay         off: the directory names no broker".to_owned(),
        format!("share_dir     {} can be read", ana.share_dir().display()),
    ] {
        assert!(
            ran.out.lines().any(|one| one.starts_with(&format!("ok       {line}"))),
            "{line}\n{}",
            ran.out
        );
    }
    assert!(!ran.out.lines().any(|line| line.starts_with("failed")), "{}", ran.out);
    for folder in [&ana.settings.data_dir, &ana.settings.download_dir] {
        let left = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(
            left.into_iter().all(|name| !name.to_string_lossy().contains("doctor")),
            "nothing is left there"
        );
    }
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_leads_nowhere_and_one_that_leads_to_another() {
    let network = Network::start().await;
    let ben = network.peer("ben").await;
    let of_ben = ben.pserver().to_string();
    let proxy = network.proxy().await;
    let advertised = vec![proxy.endpoint(), of_ben.clone()];
    let wrong = |settings: &mut Settings| settings.pserver_advertise = advertised;
    let ana = network.peer_with("ana", wrong).await;
    proxy.aim_at(ana.pserver());
    let ran = doctor(&ana).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let [good, bad] = &found(&ran, "pserver")[..] else { panic!("{}", ran.out) };
    assert_eq!((good["result"].as_str(), bad["result"].as_str()), (Some("ok"), Some("failed")));
    assert!(bad["found"].as_str().unwrap().starts_with(&of_ben), "{bad}");
    assert!(bad["advice"].as_str().unwrap().contains("PSERVER_ADVERTISE"), "{bad}");

    proxy.cut();
    let ran = doctor(&ana).await;
    assert!(found(&ran, "pserver").iter().all(|check| check["result"] == "failed"), "{}", ran.out);
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_directory_and_without_a_peer() {
    let mut network = Network::start().await;
    let ana = network.peer("ana").await;
    network.directory.kill().await;
    until("the peer notices", async || (!ana.status().await.directory.connected).then_some(())).await;
    let ran = doctor(&ana).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!((result(&ran, "directory").as_str(), result(&ran, "session").as_str()), ("failed", "failed"));
    assert_eq!(result(&ran, "pserver"), "ok", "other peers still come in");
    assert_eq!(found(&ran, "clock"), Vec::<Value>::new(), "there is none to compare with");
    assert!(ran.err.contains("2 checks failed"), "{}", ran.err);
    network.directory.up().await;
    ana.connected().await;
    assert_eq!(doctor(&ana).await.code, Some(0));

    let (url, settings) = (format!("http://{}", ana.address()), ana.end().await);
    let ran = crate::cli::run_at(&url, &["doctor"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    drop(settings);
    network.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_and_folders_that_are_gone() {
    let network = Network::start().await;
    let place = network.folder("small disk");
    let disk = SmallDisk::mount(&place, 2);
    let downloads = place.join("downloads");
    let ana = network.peer_with("ana", |settings| settings.download_dir = downloads.clone()).await;
    let ran = doctor(&ana).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(result(&ran, "download_dir"), "failed");
    assert!(found(&ran, "download_dir")[0]["found"].as_str().unwrap().ends_with("MiB left"), "{}", ran.out);

    std::fs::write(place.join("all of it"), vec![1; 4 << 20]).unwrap_err();
    let ran = doctor(&ana).await;
    let full = found(&ran, "download_dir").pop().unwrap();
    assert!(full["found"].as_str().unwrap().contains("cannot be written"), "{full}");
    assert_eq!(full["advice"], "make room there");

    std::fs::remove_dir_all(ana.share_dir()).unwrap();
    std::fs::remove_file(place.join("all of it")).unwrap();
    std::fs::remove_dir_all(&downloads).unwrap();
    let ran = doctor(&ana).await;
    assert_eq!(
        (result(&ran, "share_dir").as_str(), result(&ran, "download_dir").as_str()),
        ("failed", "failed")
    );
    assert_eq!(result(&ran, "data_dir"), "ok", "and the rest is as it is: {}", ran.out);
    network.end([ana]).await;
    drop(disk);
}
