//! Requests that are wrong in every way that could be thought of: each gets a problem document that says so, and none
//! gets a 500.

mod common;

use axum::body::Body;
use common::{app, file, id};
use http::{Request, header};
use serde_json::{Value, json};

#[tokio::test]
async fn each_gets_its_problem() {
    let app = app();
    let ana = app.join("ana").await;
    let token = ana.token.as_str();
    let (locate, peer) = (format!("/v1/files/{}", id("x")), format!("/v1/peers/{}", ana.id));
    let long = "a".repeat(5000);
    for (method, path, token, problem) in [
        ("GET", "/", "", "404 not_found"),
        ("GET", "/v2/search", token, "404 not_found"),
        ("GET", "/v1/accounts", "", "405 method_not_allowed"),
        ("DELETE", "/v1/search", token, "405 method_not_allowed"),
        ("PATCH", locate.as_str(), token, "405 method_not_allowed"),
        ("GET", "/v1/search", "", "401 unauthenticated"),
        ("GET", "/v1/search", "short", "401 unauthenticated"),
        ("GET", "/v1/search", &long, "401 unauthenticated"),
        ("GET", "/v1/search", &"A".repeat(43), "401 unauthenticated"),
        ("POST", "/v1/catalog", "", "401 unauthenticated"),
        ("GET", locate.as_str(), "", "401 unauthenticated"),
        ("GET", locate.as_str(), token, "404 not_found"),
        ("GET", "/v1/files/xyz", token, "400 invalid_argument"),
        ("GET", &format!("/v1/files/{}", id("x").to_uppercase()), token, "400 invalid_argument"),
        ("GET", "/v1/files/%ff", token, "400 invalid_argument"),
        ("GET", "/v1/peers/xyz", token, "400 invalid_argument"),
        ("GET", &format!("/v1/peers/{}", "0".repeat(32)), token, "404 not_found"),
        ("GET", &format!("/v1/peers/{}/files", "0".repeat(32)), token, "404 not_found"),
        ("GET", &format!("{peer}?x=1"), token, "400 invalid_argument"),
        ("GET", "/v1/search?unknown=1", token, "400 invalid_argument"),
        ("GET", "/v1/search?q=a&q=b", token, "400 invalid_argument"),
        ("GET", "/v1/search?limit=0", token, "400 invalid_argument"),
        ("GET", "/v1/search?limit=201", token, "400 invalid_argument"),
        ("GET", "/v1/search?limit=-1", token, "400 invalid_argument"),
        ("GET", "/v1/search?cursor=!", token, "400 invalid_argument"),
        ("GET", "/v1/search?cursor=e30", token, "400 invalid_argument"),
        ("GET", "/v1/search?cursor=LTE", token, "400 invalid_argument"),
        ("GET", &format!("/v1/search?cursor={long}"), token, "400 invalid_argument"),
        ("GET", &format!("/v1/search?q={}", "a".repeat(513)), token, "400 invalid_argument"),
        ("GET", "/v1/search?media_type=video", token, "400 invalid_argument"),
        ("GET", "/v1/search?media_type=*", token, "400 invalid_argument"),
        ("GET", "/v1/search?media_type=*/*", token, "400 invalid_argument"),
        ("GET", "/v1/search?min_size=-1", token, "400 invalid_argument"),
        ("GET", "/v1/search?min_size=2&max_size=1", token, "400 invalid_argument"),
        ("GET", "/v1/search?max_size=99999999999999999999", token, "400 invalid_argument"),
        ("GET", "/v1/search?holder=X", token, "400 invalid_argument"),
        ("GET", "/v1/search?online=maybe", token, "400 invalid_argument"),
        ("GET", "/v1/search?q=%ff%fe", token, "400 invalid_argument"),
        ("GET", "/v1/search?q=%00", token, "200"),
        ("GET", "/v1/search?q=%22%20OR%20%22%20*%20NEAR(a%20b)%20-c%20%F0%9F%A6%80", token, "200"),
        ("GET", "/v1/search?min_size=18446744073709551615", token, "200"),
        ("GET", "/v1/peers?cursor=e30", token, "400 invalid_argument"),
        ("GET", "/v1/peers?limit=x", token, "400 invalid_argument"),
        ("GET", &format!("{peer}/files?cursor=MQ"), token, "400 invalid_argument"),
        ("GET", &format!("{peer}/files?unknown=MQ"), token, "400 invalid_argument"),
    ] {
        let answer = app.call(method, path, token, None).await;
        let got =
            if answer.status.is_success() { answer.status.as_u16().to_string() } else { answer.problem() };
        assert_eq!(got, problem, "{method} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn bodies() {
    let app = app();
    let ana = app.join("ana").await;
    let whole = json!({ "base_revision": 0, "revision": 1, "put": [file("x")], "remove": [] });
    let with = |member: &str, value: Value| {
        let mut delta = whole.clone();
        delta[member] = value;
        delta.to_string()
    };
    let mut unknown_inside = file("x");
    unknown_inside["colour"] = json!("red");
    let mut bad_audience = file("x");
    bad_audience["audience"] = json!("everybody");
    let locate = |ids: Value| json!({ "content_ids": ids }).to_string();
    let (catalog, many) = ("/v1/catalog", "/v1/files/locate");
    for (path, body, problem) in [
        (catalog, String::new(), "400 invalid_argument"),
        (catalog, "{".to_owned(), "400 invalid_argument"),
        (catalog, "null".to_owned(), "400 invalid_argument"),
        (catalog, "[]".to_owned(), "400 invalid_argument"),
        (catalog, "[".repeat(100_000), "400 invalid_argument"),
        (catalog, "\u{0}".to_owned(), "400 invalid_argument"),
        (catalog, with("colour", json!("red")), "400 invalid_argument"),
        (catalog, with("put", json!([unknown_inside])), "400 invalid_argument"),
        (catalog, with("put", json!([bad_audience])), "400 invalid_argument"),
        (catalog, with("put", json!({})), "400 invalid_argument"),
        (catalog, with("put", json!([{ "name": "x" }])), "400 invalid_argument"),
        (catalog, with("revision", json!(-1)), "400 invalid_argument"),
        (catalog, with("revision", json!("1")), "400 invalid_argument"),
        (catalog, with("revision", json!(0)), "400 invalid_argument"),
        (catalog, with("revision", json!(u64::MAX)), "400 invalid_argument"),
        (catalog, with("base_revision", json!(1)), "400 invalid_argument"),
        (catalog, " ".repeat((16 << 20) + 1), "413 too_large"),
        (many, locate(json!([])), "400 invalid_argument"),
        (many, locate(json!(["x"])), "400 invalid_argument"),
        (many, locate(json!(vec![id("x"); 1001])), "413 too_large"),
        (many, " ".repeat(200 << 10), "413 too_large"),
        ("/v1/accounts", " ".repeat(65 << 10), "413 too_large"),
        (
            "/v1/accounts",
            json!({ "username": "bob", "password": 12_345_678 }).to_string(),
            "400 invalid_argument",
        ),
        ("/v1/accounts", json!({ "username": "bob" }).to_string(), "400 invalid_argument"),
        (
            "/v1/accounts",
            json!({ "username": "b\u{0}b", "password": "12345678" }).to_string(),
            "400 invalid_argument",
        ),
        ("/v1/sessions", json!({ "username": "ana" }).to_string(), "400 invalid_argument"),
    ] {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", ana.token))
            .body(Body::from(body.clone()))
            .unwrap();
        let answer = app.send(request).await;
        assert_eq!(answer.problem(), problem, "{path} {:.80}", body);
    }
    let text = Request::post("/v1/catalog")
        .header(header::AUTHORIZATION, format!("bearer {}", ana.token))
        .body(Body::from(whole.to_string()))
        .unwrap();
    assert_eq!(app.send(text).await.problem(), "400 invalid_argument", "no content type");
    let basic =
        Request::get("/v1/search").header(header::AUTHORIZATION, "Basic YTpi").body(Body::empty()).unwrap();
    assert_eq!(app.send(basic).await.problem(), "401 unauthenticated");
}
