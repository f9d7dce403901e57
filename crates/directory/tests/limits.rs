//! What one caller may take: calls, files, peers; who is counted as one; and what a stranger's page gets.

#![expect(clippy::unwrap_used, reason = "help for tests")]

mod common;

use axum::body::Body;
use common::{Answer, PASSWORD, TestApp, app, app_with, csr, file, id, session};
use daemon::serve::RemoteAddr;
use directory::config::{Bounds, Config};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

fn within(bounds: Bounds) -> TestApp {
    app_with(|config| Config { bounds, ..config })
}

/// A request that comes over a socket from there.
fn from(address: &str, method: &str, path: &str) -> http::request::Builder {
    let remote = RemoteAddr(format!("{address}:4711").parse().unwrap());
    Request::builder().method(method).uri(path).extension(remote)
}

fn retry_after(answer: &Answer) -> u64 {
    answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_account_has_an_allowance_and_others_have_theirs() {
    let app = within(Bounds { rate_limit: 110, ..Bounds::default() });
    let (ana, ben) = (app.join("ana").await, app.join("ben").await);
    assert_eq!(app.get("/v1/search", &ana.token).await.status, StatusCode::OK);
    let refused = app.get("/v1/search", &ana.token).await;
    assert_eq!(refused.problem(), "429 rate_limited");
    assert_eq!(retry_after(&refused), 1);
    assert_eq!(app.get("/v1/search", &ben.token).await.status, StatusCode::OK);
    // A batch costs by its size.
    let batch = json!({ "content_ids": vec![id("x"); 200] });
    assert_eq!(app.post("/v1/files/locate", &ben.token, batch).await.problem(), "429 rate_limited");
    let ana = app.peer_of("ana").await;
    let put: Vec<Value> = (0..1_000).map(|n| file(&n.to_string())).collect();
    let delta = json!({ "base_revision": 0, "revision": 1, "put": put });
    assert_eq!(app.post("/v1/catalog", &ana.token, delta).await.problem(), "429 rate_limited");
}

#[tokio::test]
async fn what_peers_do_at_full_speed_is_not_in_the_way() {
    let app = app();
    let ana = app.join("ana").await;
    for revision in 1..=5 {
        let put: Vec<Value> = (0..10_000).map(|n| file(&format!("{revision} {n}"))).collect();
        let delta = json!({ "base_revision": revision - 1, "revision": revision, "put": put });
        let answer = app.post("/v1/catalog", &ana.token, delta).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    for _ in 0..200 {
        assert_eq!(app.get("/v1/search?q=7", &ana.token).await.status, StatusCode::OK, "as somebody types");
    }
}

#[tokio::test]
async fn an_address_has_an_allowance_whoever_asks_from_there() {
    let app = within(Bounds { address_rate_limit: 1, ..Bounds::default() });
    let asks = async |address: &str, path: &str| {
        app.send(from(address, "GET", path).body(Body::empty()).unwrap()).await.status
    };
    assert_eq!(asks("192.0.2.1", "/v1/ca.pem").await, StatusCode::OK);
    assert_eq!(asks("192.0.2.1", "/v1/ca.pem").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(asks("192.0.2.1", "/v1/files/x").await, StatusCode::TOO_MANY_REQUESTS, "before who it is");
    assert_eq!(
        asks("192.0.2.1", "/healthz").await,
        StatusCode::OK,
        "a watchdog is not told that all is lost"
    );
    assert_eq!(asks("192.0.2.2", "/v1/ca.pem").await, StatusCode::OK);
}

#[tokio::test]
async fn a_proxy_is_believed_where_it_is_trusted_and_nowhere_else() {
    let proxies = "10.0.0.1".parse().unwrap();
    let app = within(Bounds { address_rate_limit: 1, trusted_proxies: proxies, ..Bounds::default() });
    let asks = async |address: &str, forwarded: &str| {
        let request = from(address, "GET", "/v1/ca.pem").header("x-forwarded-for", forwarded);
        app.send(request.body(Body::empty()).unwrap()).await.status
    };
    assert_eq!(asks("10.0.0.1", "192.0.2.1").await, StatusCode::OK);
    assert_eq!(asks("10.0.0.1", "192.0.2.2").await, StatusCode::OK);
    assert_eq!(asks("10.0.0.1", "192.0.2.2").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(asks("10.0.0.1", "made up, 192.0.2.2").await, StatusCode::TOO_MANY_REQUESTS);
    // Somebody else's word makes nobody of them.
    assert_eq!(asks("10.0.0.2", "192.0.2.3").await, StatusCode::OK);
    assert_eq!(asks("10.0.0.2", "192.0.2.4").await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn one_address_tries_names_slowly_whatever_they_are() {
    let app = app();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let csr = csr(&key);
    let attempt = |path: &str, n: u32| {
        let body = match path {
            "/v1/sessions" => session(&format!("user{n}"), &csr),
            _ => json!({ "username": format!("ana{n}"), "password": PASSWORD }),
        };
        let request = from("192.0.2.1", "POST", path).header("content-type", "application/json");
        request.body(Body::from(body.to_string())).unwrap()
    };
    for (path, answered) in [("/v1/sessions", 401), ("/v1/accounts", 201)] {
        let started = std::time::Instant::now();
        let mut refused = Vec::new();
        for n in 0..150 {
            let answer = app.send(attempt(path, n)).await;
            match answer.status.as_u16() {
                429 => refused.push(answer),
                status => assert_eq!(status, answered, "{}", answer.text),
            }
        }
        // A hundred at once, and five in each second.
        let allowed = 101 + started.elapsed().as_millis() / 200;
        assert!(150 - refused.len() as u128 <= allowed, "{path}: {} refused", refused.len());
        let first = refused.first().unwrap();
        assert_eq!((first.problem().as_str(), retry_after(first)), ("429 rate_limited", 1));
    }
}

#[tokio::test]
async fn files_are_bounded_by_peer_and_by_account() {
    let app = within(Bounds { max_files_per_peer: 3, max_files_per_account: 5, ..Bounds::default() });
    let (one, two) = (app.join("ana").await, app.peer_of("ana").await);
    app.announce(&one, json!([file("a"), file("b"), file("c")])).await;
    let more = json!({ "base_revision": 1, "revision": 2, "put": [file("d")] });
    let refused = app.post("/v1/catalog", &one.token, more).await;
    assert_eq!(refused.problem(), "507 storage_full");
    assert!(refused.text.contains("DIRECTORY_MAX_FILES_PER_PEER"), "{}", refused.text);
    // Nothing of it was taken, and what takes no room is.
    assert_eq!(app.get("/v1/search?q=d", &one.token).await.json()["items"], json!([]));
    let renamed = json!([{ "content_id": id("c"), "name": "c" }]);
    let exchanged = json!({ "base_revision": 1, "revision": 2, "put": [file("d")], "remove": renamed });
    assert_eq!(app.post("/v1/catalog", &one.token, exchanged).await.status, StatusCode::OK);

    app.announce(&two, json!([file("e"), file("f")])).await;
    let more = json!({ "base_revision": 1, "revision": 2, "put": [file("g")] });
    let refused = app.post("/v1/catalog", &two.token, more).await;
    assert_eq!(refused.problem(), "507 storage_full");
    assert!(refused.text.contains("DIRECTORY_MAX_FILES_PER_ACCOUNT"), "{}", refused.text);
    let anew =
        json!({ "base_revision": 0, "revision": 9, "reset": true, "put": [file("e"), file("f"), file("g")] });
    assert_eq!(app.post("/v1/catalog", &two.token, anew).await.problem(), "507 storage_full");
    app.announce(&app.join("ben").await, json!([file("g")])).await;
}

#[tokio::test]
async fn peers_are_bounded_by_account() {
    let app = within(Bounds { max_peers_per_account: 2, ..Bounds::default() });
    let first = app.join("ana").await;
    app.peer_of("ana").await;
    let third = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let refused = app.post("/v1/sessions", "", session("ana", &csr(&third))).await;
    assert_eq!(refused.problem(), "422 unprocessable");
    assert!(refused.text.contains("DIRECTORY_MAX_PEERS_PER_ACCOUNT"), "{}", refused.text);
    let again = app.post("/v1/sessions", "", session("ana", &csr(&first.key))).await;
    assert_eq!(again.status, StatusCode::CREATED, "one that is there already");
    app.join("ben").await;
}

#[tokio::test]
async fn a_page_of_a_stranger_gets_nothing_even_where_the_broker_would() {
    let broker = "amqps://broker:5671?auth=directory".to_owned();
    let app = app_with(|config| Config { amqp_url: Some(broker.into()), ..config });
    let ana = app.join("ana").await;
    let form = format!("username={}&vhost=%2F", ana.id);
    let asks = async |headers: &[(&str, &str)]| {
        let mut request = from("127.0.0.1", "POST", "/v1/broker/vhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        app.send(request.body(Body::from(form.clone())).unwrap()).await.status
    };
    let plain = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(asks(&[plain, ("host", "localhost:3000")]).await, StatusCode::OK, "the broker itself");
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let asked = asks(&[plain, ("host", "localhost:3000"), (name, value)]).await;
        assert_eq!(asked, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    // A name of a stranger that leads here gets nothing private either: the browser has no token for it.
    let rebound = from("127.0.0.1", "GET", "/v1/peers").header("host", "evil.example:3000");
    let rebound = rebound.header("sec-fetch-site", "same-origin").body(Body::empty()).unwrap();
    assert_eq!(app.send(rebound).await.status, StatusCode::UNAUTHORIZED);
    // Somebody may follow a link, and nobody may read an answer from elsewhere.
    let link = from("127.0.0.1", "GET", "/openapi.json").header("sec-fetch-site", "cross-site");
    let answer = app.send(link.header("sec-fetch-mode", "navigate").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    let preflight = from("127.0.0.1", "OPTIONS", "/v1/search").header("origin", "http://evil.example");
    let answer = app.send(preflight.body(Body::empty()).unwrap()).await;
    assert!(!answer.status.is_success() && !answer.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn nothing_is_unpacked() {
    let app = app();
    let ana = app.join("ana").await;
    for path in ["/v1/catalog", "/v1/accounts", "/v1/sessions", "/v1/files/locate"] {
        for encoding in ["gzip", "zstd", "br", "deflate"] {
            let request = from("192.0.2.1", "POST", path)
                .header("content-type", "application/json")
                .header("content-encoding", encoding)
                .header("authorization", format!("Bearer {}", ana.token));
            let answer = app.send(request.body(Body::from("{}")).unwrap()).await;
            assert_eq!(answer.problem(), "415 unsupported_media_type", "{path} {encoding}");
        }
    }
}

#[tokio::test]
async fn what_callers_make_up_is_no_label_of_a_metric() {
    daemon::metrics::init().unwrap();
    let app = app();
    for (method, path) in
        [("MADEUP", "/v1/search"), ("GET", "/v1/madeup"), ("GET", "/v1/files/madeup?madeup=1")]
    {
        let request =
            from("192.0.2.1", method, path).header("user-agent", "madeup").header("x-request-id", "madeup");
        app.send(request.body(Body::empty()).unwrap()).await;
    }
    let metrics = app.get("/metrics", "").await.text;
    assert!(
        metrics.contains("trueque_http_requests_total{method=\"other\",route=\"/v1/search\""),
        "{metrics}"
    );
    assert!(!metrics.to_lowercase().contains("madeup"), "{metrics}");
}

#[tokio::test]
async fn there_is_no_account_and_no_secret_before_somebody_makes_one() {
    let broker = || "amqps://broker:5671?auth=directory".to_owned();
    let fresh = || app_with(|config| Config { amqp_url: Some(broker().into()), admin_token: None, ..config });
    let (one, two) = (fresh(), fresh());
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (name, password) in
        [("admin", "adminadmin"), ("admin", "password"), ("guest", "guestguest"), ("root", "trueque!")]
    {
        let mut attempt = session(name, &csr(&key));
        attempt["password"] = json!(password);
        assert_eq!(one.post("/v1/sessions", "", attempt).await.problem(), "401 unauthenticated", "{name}");
    }
    for token in ["", "admin", "adminadminadmin", "DIRECTORY_ADMIN_TOKEN"] {
        let invite = one.post("/v1/invites", token, json!({ "uses": 1, "expires_in": 60 })).await;
        assert!([401, 403].contains(&invite.status.as_u16()), "{token:?}: {}", invite.text);
    }
    // What is secret was made at the first start, for this directory alone, and nobody else reads it.
    for file in ["ca.key", "broker.key", "broker.secret"] {
        let read = |app: &TestApp| std::fs::read_to_string(app.folder.path().join(file)).unwrap();
        assert_ne!(read(&one), read(&two), "{file}");
        let metadata = std::fs::metadata(one.folder.path().join(file)).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600, "{file}");
    }
}
