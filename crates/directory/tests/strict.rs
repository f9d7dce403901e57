//! What a call does not take is refused, on every route: parameters, fields, and bodies of another shape.

mod common;

use std::collections::BTreeSet;

use common::{ADMIN, PASSWORD, app, app_with, csr, id, session};
use directory::config::Config;
use http::StatusCode;
use serde_json::{Value, json};

/// The map of all routes, to see that none is left out here.
const MAP: &str = include_str!("../src/http/mod.rs");

fn routes_of_the_map() -> BTreeSet<&'static str> {
    let named = MAP.split(".route(\"").skip(1);
    named.map(|rest| rest.split('"').next().unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_query_that_a_call_does_not_take_is_refused_on_every_route() {
    let broker = "amqps://broker:5671?auth=directory".to_owned();
    let app = app_with(|config| Config { amqp_url: Some(broker.into()), ..config });
    let ana = app.join("ana").await;
    let (other, third) = (app.peer_of("ana").await, app.peer_of("ana").await);
    app.announce(&ana, json!([common::file("film")])).await;
    let (peer, film) = (ana.id.clone(), id("film"));
    let delta = json!({ "base_revision": 1, "revision": 2 });
    // Each call is a good one but for its query.
    let calls: [(&str, &str, &str, Option<Value>); 36] = [
        ("GET", "/healthz", "", None),
        ("GET", "/readyz", "", None),
        ("GET", "/metrics", "", None),
        ("GET", "/openapi.json", "", None),
        ("GET", "/v1/ca.pem", "", None),
        ("GET", "/v1/broker/key.pem", "", None),
        ("GET", "/v1/broker/jwks.json", "", None),
        ("POST", "/v1/broker/user", "", None),
        ("POST", "/v1/broker/vhost", "", None),
        ("POST", "/v1/broker/resource", "", None),
        ("POST", "/v1/broker/topic", "", None),
        ("POST", "/v1/accounts", "", Some(json!({ "username": "bob", "password": PASSWORD }))),
        ("POST", "/v1/accounts/lookup", &ana.token, Some(json!({ "usernames": ["bob"] }))),
        ("POST", "/v1/accounts/{username}/disable", ADMIN, None),
        ("POST", "/v1/accounts/{username}/enable", ADMIN, None),
        ("PUT", "/v1/accounts/{username}/password", ADMIN, Some(json!({ "new": PASSWORD }))),
        ("GET", "/v1/sessions", &ana.token, None),
        ("POST", "/v1/groups", &ana.token, Some(json!({ "name": "lab" }))),
        ("GET", "/v1/groups/{name}", &ana.token, None),
        ("PUT", "/v1/groups/{name}/members/{username}", &ana.token, None),
        ("DELETE", "/v1/groups/{name}", &ana.token, None),
        ("GET", "/v1/trust", &ana.token, None),
        ("POST", "/v1/invites", ADMIN, Some(json!({ "uses": 1, "expires_in": 60 }))),
        ("POST", "/v1/sessions", "", Some(session("ana", &csr(&other.key)))),
        ("PUT", "/v1/sessions/current", &ana.token, Some(json!({}))),
        ("POST", "/v1/catalog", &ana.token, Some(delta)),
        ("GET", "/v1/search", &ana.token, None),
        ("POST", "/v1/files/locate", &ana.token, Some(json!({ "content_ids": [film] }))),
        ("GET", "/v1/files/{content_id}", &ana.token, None),
        (
            "POST",
            "/v1/files/{content_id}/reports",
            &ana.token,
            Some(json!({ "peer_id": peer, "kind": "missing" })),
        ),
        ("GET", "/v1/peers", &ana.token, None),
        ("GET", "/v1/peers/{peer_id}", &ana.token, None),
        ("GET", "/v1/peers/{peer_id}/files", &ana.token, None),
        ("HEAD", "/healthz", "", None),
        ("DELETE", "/v1/sessions/current", &ana.token, None),
        ("DELETE", "/v1/sessions/{peer_id}", &third.token, None),
    ];
    let tried: BTreeSet<&str> = calls.iter().map(|(_, path, ..)| *path).collect();
    assert_eq!(tried, routes_of_the_map(), "every route is tried here");

    for (method, path, token, body) in calls {
        let path = path
            .replace("{username}", "bob")
            .replace("{name}", "lab")
            .replace("{content_id}", &film)
            .replace("{peer_id}", &peer);
        for query in ["zzz=1", "zzz", "=", "a=%zz", "%ff=1", "limit=5&limit=6"] {
            let answer = app.call(method, &format!("{path}?{query}"), token, body.clone()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{method} {path}?{query}: {}", answer.text);
            if method != "HEAD" {
                assert_eq!(answer.problem(), "400 invalid_argument");
            }
        }
        // It was the query that was wrong. The broker's questions are forms, and asked elsewhere.
        if !(path.starts_with("/v1/broker/") && method == "POST") {
            let answer = app.call(method, &path, token, body).await;
            assert!(answer.status.is_success(), "{method} {path}: {} {}", answer.status, answer.text);
        }
    }
}

#[tokio::test]
async fn a_body_is_an_object() {
    let app = app();
    let ana = app.join("ana").await;
    for body in [json!([]), json!([null, null, null]), json!(null), json!("x"), json!(1)] {
        let answer = app.call("PUT", "/v1/sessions/current", &ana.token, Some(body.clone())).await;
        assert_eq!(answer.problem(), "400 invalid_argument", "{body}");
    }
    let as_a_list = json!([1, 2, true, [], []]);
    assert_eq!(app.post("/v1/catalog", &ana.token, as_a_list).await.problem(), "400 invalid_argument");
    assert_eq!(
        app.post("/v1/accounts", "", json!(["bob", PASSWORD, null])).await.problem(),
        "400 invalid_argument"
    );
}
