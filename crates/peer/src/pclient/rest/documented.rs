//! The document tells of every route, of no other, and of who may ask.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, StatusCode};
use wire::http::openapi::calls;

use super::{guard::Guard, kit::Peer, openapi::document};

/// The map of all routes.
const MAP: &str = include_str!("mod.rs");
/// What tells nothing and changes nothing.
const PUBLIC: [&str; 2] = ["GET /healthz", "GET /readyz"];

fn exact(path: &str) -> String {
    path.replace("{content_id}", &"ab".repeat(32))
        .replace("{peer_id}", &"ab".repeat(16))
        .replace("{id}", "0000000000000001")
        .replace("{name}", "lab")
        .replace("{username}", "ana")
}

#[tokio::test]
async fn the_document_and_the_router_have_the_same_calls() {
    let peer = Peer::start().await;
    let document = document();
    let mapped: BTreeSet<&str> =
        MAP.split(".route(").skip(1).map(|route| route.split('"').nth(1).unwrap()).collect();
    let told: BTreeSet<&str> = calls(&document).into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(told, mapped);

    for path in told {
        // The router names the methods of a path to whoever asks with another one.
        let answer = peer.ask(Method::TRACE, &exact(path), &[], Body::empty()).await;
        assert_eq!(answer.code(), (405, "method_not_allowed".to_owned()), "{path}");
        let allowed: BTreeSet<&str> =
            answer.header("allow").split(',').map(str::trim).filter(|method| *method != "HEAD").collect();
        let calls = calls(&document);
        let told: BTreeSet<&str> =
            calls.iter().filter(|(_, there, _)| *there == path).map(|(method, ..)| method.as_str()).collect();
        assert_eq!(told, allowed, "{path}");
    }
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn what_is_not_public_needs_the_token_and_the_document_says_so() {
    let token = Some("a-token-of-tests".to_owned().into());
    let peer = Peer::guarded(Guard { loopback: true, allowed_hosts: vec![], token }).await;
    let mut open = BTreeSet::new();
    for (method, path, call) in calls(&document()) {
        let answer = peer.ask(method.clone(), &exact(path), &[], Body::empty()).await;
        let call_needs_it = call.security.is_some();
        assert_eq!(answer.status == StatusCode::UNAUTHORIZED, call_needs_it, "{method} {path}");
        if !call_needs_it {
            open.insert(format!("{method} {path}"));
        }
    }
    assert_eq!(open, PUBLIC.map(str::to_owned).into());
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn the_document_is_served() {
    let peer = Peer::start().await;
    let answer = peer.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"));
    assert_eq!(answer.json(), serde_json::to_value(document()).unwrap());
    peer.lifecycle.finish().await;
}
