//! What the doctor says through pclient, with a directory that is not real and one that is gone.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::json;

use super::*;
use crate::pclient::rest::kit::{Answer, Peer};

async fn ask(peer: &Peer) -> Answer {
    peer.ask(Method::POST, "/v1/doctor", &[], Body::empty()).await
}

async fn examined(peer: &Peer) -> Examination {
    let answer = ask(peer).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let examination: Examination = serde_json::from_slice(&answer.body).unwrap();
    for check in &examination.checks {
        assert_eq!(check.advice.is_none(), check.result == CheckResult::Ok, "{check:?}");
        assert!(!check.found.is_empty(), "{check:?}");
    }
    examination
}

/// The results by name, without those that depend on this machine.
fn results(examination: &Examination) -> Vec<(&str, CheckResult)> {
    let of_any_machine =
        |check: &&Check| !matches!(check.name.as_str(), "data_dir" | "download_dir" | "open_files");
    examination
        .checks
        .iter()
        .filter(of_any_machine)
        .map(|check| (check.name.as_str(), check.result))
        .collect()
}

#[tokio::test]
async fn files_that_cannot_be_shared_are_named_with_the_reason() {
    let peer = Peer::start().await;
    let bad = peer.share_dir().join("two\u{202e}faced.txt");
    std::fs::write(&bad, "hidden").unwrap();
    std::fs::write(peer.share_dir().join("back\\slash.txt"), "hidden").unwrap();
    let share = peer.post("/v1/files", json!({ "path": peer.share_dir() })).await;
    assert!(share.status.is_success(), "{}", share.text());
    let found = async |wanted: &str| {
        let looking = async {
            loop {
                let checks = examined(&peer).await.checks;
                let check = checks.into_iter().find(|check| check.name == "refused_files");
                if check.as_ref().is_some_and(|check| check.found.starts_with(wanted)) {
                    return check.unwrap();
                }
            }
        };
        tokio::time::timeout(LIMIT, looking).await.unwrap_or_else(|_| panic!("it does not say {wanted:?}"))
    };
    let check = found("2 files in shared folders are not shared: ").await;
    assert_eq!(check.result, CheckResult::Warning);
    assert!(check.found.contains("U+005C") && check.found.ends_with("; and 1 more"), "{}", check.found);
    std::fs::remove_file(&bad).unwrap();
    found("a file in a shared folder is not shared: ").await;
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn what_is_missing_is_said_and_what_is_off_is_no_failure() {
    use CheckResult::{Failed, Ok, Warning};
    let peer = Peer::start().await;
    let logged_out = examined(&peer).await;
    assert!(!logged_out.healthy);
    assert_eq!(
        results(&logged_out),
        [
            ("directory", Ok),
            ("session", Failed),
            ("clock", Ok),
            ("share_dir", Ok),
            ("pserver", Warning),
            ("relay", Ok)
        ]
    );

    let login = peer.post("/v1/login", json!({"username": "ana", "password": "correct horse"})).await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.text());
    let logged_in = examined(&peer).await;
    assert_eq!(
        results(&logged_in),
        [
            ("directory", Ok),
            ("session", Ok),
            ("clock", Ok),
            ("share_dir", Ok),
            // This directory has given the same one since 2024.
            ("certificate", Failed),
            // It takes no calls here, and there is no relay.
            ("pserver", Warning),
            ("relay", Ok)
        ]
    );

    peer.directory.go_down().await;
    let without = examined(&peer).await;
    assert!(!without.healthy);
    assert_eq!(results(&without)[0], ("directory", Failed));
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn one_examination_at_a_time() {
    let peer = Peer::start().await;
    let at_work = peer.pclient.doctor.at_work.clone().lock_owned().await;
    assert_eq!(ask(&peer).await.code(), (429, "rate_limited".to_owned()));
    drop(at_work);
    examined(&peer).await;
    peer.lifecycle.finish().await;
}

#[test]
fn times_for_people() {
    assert_eq!(took(Duration::from_micros(300)), "less than 1 ms");
    assert_eq!(took(Duration::from_millis(12)), "12 ms");
    assert_eq!(took(Duration::from_millis(3_240)), "3.2 s");
    assert_eq!(span(119), "119 seconds");
    assert_eq!(span(120), "2 minutes");
    assert_eq!(span(26 * 3_600), "26 hours");
    assert_eq!(span(90 * 86_400), "90 days");
}
