//! The document tells of every route, of no other, and of who may ask.

mod common;

use std::collections::BTreeSet;

use common::{TestApp, app, app_with, id};
use directory::{config::Config, http::openapi::document};
use http::{StatusCode, header};
use wire::http::openapi::calls;

/// The map of all routes.
const MAP: &str = include_str!("../src/http/mod.rs");
/// What anybody may ask, and what the broker asks: that is another matter than a token.
const PUBLIC: [&str; 13] = [
    "GET /healthz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /readyz",
    "GET /v1/broker/jwks.json",
    "GET /v1/broker/key.pem",
    "GET /v1/ca.pem",
    "POST /v1/accounts",
    "POST /v1/broker/resource",
    "POST /v1/broker/topic",
    "POST /v1/broker/user",
    "POST /v1/broker/vhost",
    "POST /v1/sessions",
];

fn exact(path: &str) -> String {
    path.replace("{username}", "bob")
        .replace("{name}", "lab")
        .replace("{content_id}", &id("film"))
        .replace("{peer_id}", &"ab".repeat(16))
}

fn app_with_broker() -> TestApp {
    let broker = "amqps://broker:5671?auth=directory".to_owned();
    app_with(|config| Config { amqp_url: Some(broker.into()), ..config })
}

#[tokio::test]
async fn the_document_and_the_router_have_the_same_calls() {
    let app = app();
    let document = document();
    let mapped: BTreeSet<&str> =
        MAP.split(".route(\"").skip(1).map(|route| route.split('"').next().unwrap()).collect();
    let told: BTreeSet<&str> = calls(&document).into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(told, mapped);

    for path in told {
        // The router names the methods of a path to whoever asks with another one.
        let answer = app.call("TRACE", &exact(path), "", None).await;
        assert_eq!(answer.problem(), "405 method_not_allowed", "{path}");
        let allowed = answer.headers[header::ALLOW].to_str().unwrap();
        let allowed: BTreeSet<&str> =
            allowed.split(',').map(str::trim).filter(|method| *method != "HEAD").collect();
        let calls = calls(&document);
        let told: BTreeSet<&str> =
            calls.iter().filter(|(_, there, _)| *there == path).map(|(method, ..)| method.as_str()).collect();
        assert_eq!(told, allowed, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_public_needs_a_token_and_the_document_says_so() {
    let app = app_with_broker();
    let mut open = BTreeSet::new();
    for (method, path, call) in calls(&document()) {
        let requirements = serde_json::to_value(&call.security).unwrap();
        let by_token =
            requirements.to_string().contains("session") || requirements.to_string().contains("admin");
        for token in ["", "of-nobody"] {
            let answer = app.call(method.as_str(), &exact(path), token, None).await;
            let refused = answer.status == StatusCode::UNAUTHORIZED;
            assert_eq!(refused, by_token, "{method} {path}: {} {}", answer.status, answer.text);
        }
        if !by_token {
            open.insert(format!("{method} {path}"));
        }
    }
    assert_eq!(open, PUBLIC.map(str::to_owned).into());
}

#[tokio::test]
async fn the_document_is_served() {
    let answer = app().get("/openapi.json", "").await;
    assert_eq!(
        (answer.status, &answer.headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    assert_eq!(answer.json(), serde_json::to_value(document()).unwrap());
}
