//! What a call does not take is refused, on every route: the map itself says which there are.

use http::Method;
use serde_json::json;

use super::kit::Peer;

const MAP: &str = include_str!("mod.rs");

/// Method and path of every route of the map.
fn routes() -> Vec<(Method, String)> {
    let methods = [
        ("get(", Method::GET),
        ("post(", Method::POST),
        ("put(", Method::PUT),
        ("patch(", Method::PATCH),
        ("delete(", Method::DELETE),
    ];
    let mut routes = Vec::new();
    for route in MAP.split(".route(").skip(1) {
        let route = route.split(".with_state(pclient)").next().unwrap();
        let path = route.split('"').nth(1).unwrap();
        let path = path
            .replace("{content_id}", &"ab".repeat(32))
            .replace("{peer_id}", &"ab".repeat(16))
            .replace("{id}", "0000000000000001")
            .replace("{username}", "ana")
            .replace("{name}", "lab");
        let named = methods.iter().filter(|(word, _)| route.contains(word));
        routes.extend(named.map(|(_, method)| (method.clone(), path.clone())));
    }
    routes
}

#[tokio::test]
async fn a_query_that_a_call_does_not_take_is_refused_on_every_route() {
    let peer = Peer::start().await;
    let routes = routes();
    assert!(routes.len() > 25, "{routes:?}");
    let kind = [("content-type", "application/json")];
    for (method, path) in routes {
        for query in ["zzz=1", "zzz", "=", "a=%zz", "%ff=1", "limit=5&limit=6"] {
            let uri = format!("{path}?{query}");
            let answer = peer.ask(method.clone(), &uri, &kind, json!({}).to_string()).await;
            assert_eq!(answer.code(), (400, "invalid_argument".to_owned()), "{method} {uri}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.starts_with("the query is not"), "{method} {uri}: {detail}");
        }
    }
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn a_body_is_an_object() {
    let peer = Peer::start().await;
    for (path, list) in [
        ("/v1/login", json!(["ana", "correct horse"])),
        ("/v1/downloads", json!(["ab".repeat(32), null])),
        ("/v1/files", json!(["x", null])),
        ("/v1/downloads/batch", json!([[]])),
    ] {
        assert_eq!(peer.post(path, list).await.code(), (400, "invalid_argument".to_owned()), "{path}");
    }
    peer.lifecycle.finish().await;
}
