//! The REST API through its real router: what each call answers, and what becomes of a request that is broken.

use axum::body::Body;
use bytes::Bytes;
use content::ContentId;
use futures::stream;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;
use wire::rest::directory::SearchItem;

use super::{
    guard::Guard,
    kit::{PATIENCE, Peer, field, file, form, request},
};

#[tokio::test]
async fn status_login_logout() {
    let peer = Peer::start().await;
    let mut status = peer.get("/v1/status").await.json();
    status["peer_id"] = "[peer]".into();
    status["directory"]["url"] = "[url]".into();
    status["version"] = "[version]".into();
    insta::assert_json_snapshot!(status, @r#"
    {
      "directory": {
        "connected": false,
        "url": "[url]"
      },
      "peer_id": "[peer]",
      "pserver": {
        "advertise": [],
        "listen": null
      },
      "relay": {
        "connected": false,
        "off": true,
        "why": "no broker is set"
      },
      "shared": {
        "announced": false,
        "bytes": 0,
        "files": 0,
        "hashing_bytes": 0,
        "hashing_files": 0
      },
      "transfers": {
        "down_bps": 0,
        "up_bps": 0
      },
      "username": null,
      "version": "[version]"
    }
    "#);

    let logged_in = peer.post("/v1/login", json!({"username": "ana", "password": "correct horse"})).await;
    assert_eq!((logged_in.status, &logged_in.json()["username"]), (StatusCode::OK, &json!("ana")));
    assert_eq!(logged_in.json()["directory"]["connected"], true);
    let wrong = peer.post("/v1/login", json!({"username": "ana", "password": "wrong"})).await;
    assert_eq!(wrong.code(), (401, "unauthenticated".to_owned()));
    let out = peer.ask(Method::POST, "/v1/logout", &[], Body::empty()).await;
    assert_eq!((out.status, out.body.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!(peer.get("/v1/status").await.json()["username"], Value::Null);

    peer.directory.go_down().await;
    let down = peer.post("/v1/login", json!({"username": "ana", "password": "correct horse"})).await;
    assert_eq!(down.code(), (503, "unavailable".to_owned()));
    assert_eq!(down.header("retry-after"), "1");
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn files_are_shared_listed_changed_and_withdrawn() {
    let peer = Peer::start().await;
    let answer = peer.upload(form(&[field("audience", "ben,ana"), file("notes.txt", "hello")])).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    insta::assert_json_snapshot!(answer.json(), @r#"
    {
      "audience": [
        "ben",
        "ana"
      ],
      "content_id": "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f",
      "name": "notes.txt",
      "size": 5
    }
    "#);
    let id = ContentId::of(b"hello");
    let path = peer.dir.path().join("share/notes.txt").canonicalize().unwrap();

    let listed = peer.get("/v1/files").await.json();
    assert_eq!(listed["items"][0]["path"], path.to_str().unwrap());
    assert_eq!(listed["items"][0]["audience"], json!(["ben", "ana"]));
    assert_eq!(listed["items"][0]["media_type"], "text/plain");

    std::fs::write(peer.dir.path().join("share/more.bin"), "more").unwrap();
    let by_path = peer.post("/v1/files", json!({"path": path.with_file_name("more.bin")})).await;
    assert_eq!(by_path.status, StatusCode::CREATED, "{}", by_path.text());
    let folder = peer.post("/v1/files", json!({"path": peer.dir.path().join("share")})).await;
    assert_eq!(folder.status, StatusCode::ACCEPTED);
    let outside = peer.post("/v1/files", json!({"path": "/etc/hostname"})).await;
    assert_eq!(outside.code().0, 403);

    let first = peer.get("/v1/files?limit=1").await.json();
    assert_eq!(first["items"][0]["name"], "more.bin");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = peer.get(&format!("/v1/files?limit=1&cursor={cursor}")).await.json();
    assert_eq!((&second["items"][0]["name"], &second["next_cursor"]), (&json!("notes.txt"), &Value::Null));
    assert_eq!(peer.get("/v1/files?q=NOTES").await.json()["items"].as_array().unwrap().len(), 1);

    // A copy under another name, for nobody named: nobody more may have it.
    let copy = peer.upload(form(&[file("a copy.txt", "hello")])).await;
    assert_eq!(copy.json()["audience"], json!(["ben", "ana"]));

    let uri = format!("/v1/files/{id}");
    let kind = [("content-type", "application/json")];
    let changed = peer.ask(Method::PATCH, &uri, &kind, r#"{"audience":"network"}"#).await;
    assert_eq!((changed.status, &changed.json()["audience"]), (StatusCode::OK, &json!("network")));
    let gone = peer.ask(Method::DELETE, &uri, &[], Body::empty()).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert!(path.exists(), "the file stays");
    assert_eq!(peer.ask(Method::DELETE, &uri, &[], Body::empty()).await.code().0, 404);
    let again = peer.ask(Method::PATCH, &uri, &kind, r#"{"audience":"network"}"#).await;
    assert_eq!(again.code().0, 404);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn broken_uploads_are_refused_and_leave_nothing() {
    let peer = Peer::start().await;
    let no_name = "Content-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n".to_owned();
    for (what, body, code) in [
        ("no file", form(&[field("audience", "network")]), "invalid_argument"),
        ("nothing", form(&[]), "invalid_argument"),
        ("no body", String::new(), "invalid_argument"),
        ("no file name", form(&[no_name]), "invalid_argument"),
        ("a name that leads elsewhere", form(&[file("../x", "x")]), "invalid_argument"),
        ("an absolute name", form(&[file("/etc/x", "x")]), "invalid_argument"),
        ("a name of our own", form(&[file(".trueque-upload-1", "x")]), "invalid_argument"),
        ("two files", form(&[file("a", "a"), file("b", "b")]), "invalid_argument"),
        ("an unknown field", form(&[file("a", "a"), field("x", "y")]), "invalid_argument"),
        ("a broken audience", form(&[file("a", "a"), field("audience", "Ana!")]), "invalid_argument"),
        ("an endless audience", form(&[field("audience", &"a".repeat(70_000))]), "too_large"),
        ("an end too early", format!("--X\r\n{}", file("a", "a")), "invalid_argument"),
    ] {
        let answer = peer.upload(body).await;
        assert_eq!(answer.code().1, code, "{what}: {}", answer.text());
        assert_eq!(peer.uploads_left(), 0, "{what}");
    }
    let kind = [("content-type", "multipart/form-data")];
    let no_boundary = peer.ask(Method::POST, "/v1/files", &kind, "x").await;
    assert_eq!(no_boundary.code().0, 400);
    assert_eq!(peer.pclient.library.totals(), (0, 0));
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let peer = Peer::start().await;
    let begin = Bytes::from(format!("--X\r\n{}", file("a", &"a".repeat(100_000))));

    let broken = [Ok(begin.clone()), Err(std::io::Error::other("gone"))];
    let answer = peer.upload(Body::from_stream(stream::iter(broken))).await;
    assert_eq!(answer.code().0, 400);
    assert_eq!(peer.uploads_left(), 0);

    // The connection is closed: the handler is dropped in the middle.
    let chunks = stream::once(async { Ok::<_, std::io::Error>(begin) });
    let endless = futures::StreamExt::chain(chunks, stream::pending());
    let kind = [("content-type", "multipart/form-data; boundary=X")];
    let upload = peer.ask(Method::POST, "/v1/files", &kind, Body::from_stream(endless));
    let begun = async {
        while peer.uploads_left() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = upload => panic!("it has no end"),
        () = begun => {}
    }
    // It may have been dropped while another thread made the file; that thread removes it then.
    while peer.uploads_left() > 0 {
        tokio::task::yield_now().await;
    }
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn a_large_upload_is_not_held_to_the_limit_of_json() {
    let peer = Peer::start().await;
    let bytes = "x".repeat(3 << 20);
    let id = peer.share("large", &bytes).await;
    assert_eq!(peer.get(&format!("/v1/content/{id}")).await.body.len(), bytes.len());
    let json = peer.post("/v1/files", json!({ "path": "x".repeat(70_000) })).await;
    assert_eq!(json.code(), (413, "too_large".to_owned()));
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn content_whole_and_in_part() {
    let peer = Peer::start().await;
    let id = peer.share("né.txt", "0123456789").await;
    let uri = format!("/v1/content/{id}");
    let etag = format!("\"{id}\"");

    let whole = peer.get(&uri).await;
    assert_eq!((whole.status, whole.text().as_str()), (StatusCode::OK, "0123456789"));
    assert_eq!(whole.header("content-length"), "10");
    assert_eq!(whole.header("content-type"), "text/plain");
    assert_eq!(whole.header("etag"), etag);
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert_eq!(whole.header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!(
        whole.header("content-disposition"),
        "attachment; filename=\"n_.txt\"; filename*=UTF-8''n%C3%A9.txt"
    );

    for (range, bytes, content_range) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=4-", "456789", "bytes 4-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
    ] {
        let part = peer.ask(Method::GET, &uri, &[("range", range)], Body::empty()).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!((part.text().as_str(), part.header("content-range")), (bytes, content_range));
        assert_eq!(part.header("content-length"), bytes.len().to_string());
    }
    let outside = peer.ask(Method::GET, &uri, &[("range", "bytes=10-")], Body::empty()).await;
    assert_eq!(outside.code(), (416, "range_not_satisfiable".to_owned()));
    assert_eq!(outside.header("content-range"), "bytes */10");

    let conditional = async |value: &str| {
        let headers = [("range", "bytes=0-0"), ("if-range", value)];
        peer.ask(Method::GET, &uri, &headers, Body::empty()).await.status
    };
    assert_eq!(conditional(&etag).await, StatusCode::PARTIAL_CONTENT);
    assert_eq!(conditional("\"other\"").await, StatusCode::OK);
    assert_eq!(conditional("Sun, 06 Nov 1994 08:49:37 GMT").await, StatusCode::OK);
    let known = peer.ask(Method::GET, &uri, &[("if-none-match", &etag)], Body::empty()).await;
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));

    let head = peer.ask(Method::HEAD, &uri, &[("range", "bytes=0-3")], Body::empty()).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::PARTIAL_CONTENT, 0));
    assert_eq!((head.header("content-length"), head.header("content-range")), ("4", "bytes 0-3/10"));

    let empty = peer.share("empty", "").await;
    let empty = peer.get(&format!("/v1/content/{empty}")).await;
    assert_eq!((empty.status, empty.body.len(), empty.header("content-length")), (StatusCode::OK, 0, "0"));
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn downloads() {
    let peer = Peer::start().await;
    let logged_in = peer.post("/v1/login", json!({"username": "ana", "password": "correct horse"})).await;
    assert_eq!(logged_in.status, StatusCode::OK);
    let id = ContentId::of(b"somewhere else");
    let begun = peer.post("/v1/downloads", json!({"content_id": id, "name": "x.txt"})).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{}", begun.text());
    let uri = begun.header("location").to_owned();
    assert_eq!(peer.post("/v1/downloads", json!({"content_id": id})).await.status, StatusCode::OK);
    let shown = peer.get(&uri).await.json();
    assert_eq!((&shown["content_id"], &shown["name"]), (&json!(id), &json!("x.txt")));

    let pieces = peer.get(&format!("{uri}/pieces")).await.json();
    assert_eq!(
        pieces,
        json!({"piece_size": 1 << 20, "count": 0, "held": 0, "bitmap": ""}),
        "no size is known"
    );

    let paused = peer.ask(Method::POST, &format!("{uri}/pause"), &[], Body::empty()).await;
    assert_eq!((paused.status, &paused.json()["state"]), (StatusCode::OK, &json!("paused")));
    assert_eq!(peer.get("/v1/downloads?state=paused").await.json()["items"].as_array().unwrap().len(), 1);
    let unread = peer.get(&format!("/v1/content/{id}")).await;
    assert_eq!(unread.code(), (404, "not_found".to_owned()), "a rest without a byte waits for no holder");
    assert_eq!(peer.get("/v1/downloads?state=done").await.json()["items"], json!([]));
    let resumed = peer.ask(Method::POST, &format!("{uri}/resume"), &[], Body::empty()).await;
    assert_eq!(resumed.status, StatusCode::OK);

    let batch: Vec<_> = (0..3u8).map(|n| json!({"content_id": ContentId::of(&[n])})).collect();
    let batch = peer.post("/v1/downloads/batch", json!({ "downloads": batch })).await;
    assert_eq!((batch.status, batch.json()["items"].as_array().unwrap().len()), (StatusCode::CREATED, 3));
    let mut seen = 0;
    let mut next = "/v1/downloads?limit=3".to_owned();
    loop {
        let page = peer.get(&next).await.json();
        seen += page["items"].as_array().unwrap().len();
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("/v1/downloads?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, 4);

    assert_eq!(peer.ask(Method::DELETE, &uri, &[], Body::empty()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(peer.get(&uri).await.code().0, 404);
    assert_eq!(peer.get(&format!("{uri}/pieces")).await.code().0, 404);

    let here = peer.share("here", &"x".repeat((1 << 20) + 1)).await;
    let done = peer.post("/v1/downloads", json!({"content_id": here})).await.json();
    let pieces = peer.get(&format!("/v1/downloads/{}/pieces", done["id"].as_str().unwrap())).await.json();
    assert_eq!(pieces, json!({"piece_size": 1 << 20, "count": 2, "held": 2, "bitmap": "Aw=="}));
    assert_eq!(peer.ask(Method::POST, &format!("{uri}/pause"), &[], Body::empty()).await.code().0, 404);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn a_ticket_stands_in_the_place_of_the_token() {
    let token = Some("t0ken".to_owned().into());
    let peer = Peer::guarded(Guard { loopback: true, allowed_hosts: vec![], token }).await;
    let authorized = [("authorization", "Bearer t0ken"), ("content-type", "application/json")];
    let shared = peer.dir.path().join("share/a.txt");
    std::fs::write(&shared, "0123456789").unwrap();
    let body = json!({"path": shared}).to_string();
    let shared = peer.ask(Method::POST, "/v1/files", &authorized, body).await.json();
    let uri = format!("/v1/content/{}", shared["content_id"].as_str().unwrap());
    let body = json!({"content_id": shared["content_id"]}).to_string();
    assert_eq!(peer.ask(Method::POST, "/v1/tickets", &authorized[1..], body.clone()).await.code().0, 401);
    let answer = peer.ask(Method::POST, "/v1/tickets", &authorized, body).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();

    assert_eq!(peer.get(&uri).await.code().0, 401);
    let with_ticket = format!("{uri}?ticket={ticket}");
    let read = peer.ask(Method::GET, &with_ticket, &[("range", "bytes=2-3")], Body::empty()).await;
    assert_eq!(read.text(), "23");
    assert_eq!(peer.get(&format!("/v1/files?ticket={ticket}")).await.code().0, 401);
    let elsewhere = format!("/v1/content/{}?ticket={ticket}", ContentId::of(b"other"));
    assert_eq!(peer.get(&elsewhere).await.code().0, 401);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn the_directory_is_asked_and_its_words_are_kept() {
    let peer = Peer::start().await;
    assert_eq!(peer.get("/v1/search?q=x").await.code(), (401, "unauthenticated".to_owned()));
    peer.post("/v1/login", json!({"username": "ana", "password": "correct horse"})).await;
    peer.directory.known.lock().found = vec![SearchItem {
        content_id: ContentId::of(b"x"),
        name: "x.txt".to_owned(),
        size: 1,
        media_type: None,
        holders: 2,
        online: 1,
        complete: true,
    }];
    let found = peer.get("/v1/search?q=x&online=true&limit=10").await;
    assert_eq!((found.status, &found.json()["items"][0]["holders"]), (StatusCode::OK, &json!(2)));
    peer.directory.known.lock().broken = Some(wire::ErrorCode::RateLimited);
    let limited = peer.get("/v1/search?q=x").await;
    assert_eq!(limited.code(), (429, "rate_limited".to_owned()));
    assert_eq!(limited.json()["detail"], "broken on purpose");
    peer.directory.go_down().await;
    assert_eq!(peer.get("/v1/peers").await.code(), (503, "unavailable".to_owned()));
    peer.lifecycle.finish().await;
}

/// Reads one event: its lines.
async fn frame(body: &mut Body) -> Option<String> {
    let frame = timeout(PATIENCE, body.frame()).await.unwrap()?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn events_come_and_come_again() {
    let peer = Peer::start().await;
    let listen = async |headers: &[(&str, &str)]| {
        let request = request(Method::GET, "/v1/events", headers, Body::empty());
        peer.router.clone().oneshot(request).await.unwrap()
    };
    let answer = listen(&[]).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut first = answer.into_body();
    assert!(frame(&mut first).await.unwrap().starts_with("event: status\n"));
    let gone = |n: u32| wire::rest::pclient::Event::DownloadRemoved { id: n.to_string() };
    peer.pclient.events.publish(gone(1));
    let told = frame(&mut first).await.unwrap();
    assert!(told.contains("event: download_removed\n") && told.contains("\"id\":\"1\""), "{told}");
    let id = told.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();

    peer.pclient.events.publish(gone(2));
    let mut back = listen(&[("last-event-id", id)]).await.into_body();
    assert!(frame(&mut back).await.unwrap().contains("\"id\":\"2\""));
    assert_eq!(listen(&[("last-event-id", "nonsense")]).await.status(), StatusCode::BAD_REQUEST);

    // The stop ends what has no end.
    peer.lifecycle.stop();
    assert!(frame(&mut back).await.is_none());
    assert_eq!(peer.get("/readyz").await.code().0, 503);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn every_broken_request_gets_the_right_problem() {
    let peer = Peer::start().await;
    let id = ContentId::of(b"x");
    let large = format!("{{\"username\":\"{}\"}}", "a".repeat(70_000));
    let many = json!({"downloads": vec![json!({"content_id": id}); 1001]}).to_string();
    let table: &[(&str, &str, &str, u16)] = &[
        ("GET", "/nowhere", "", 404),
        ("GET", "/v1/", "", 404),
        ("PUT", "/v1/status", "", 405),
        ("DELETE", "/v1/search", "", 405),
        ("GET", "/v1/status?x=1", "", 400),
        ("GET", "/v1/files?limit=0", "", 400),
        ("GET", "/v1/files?limit=201", "", 400),
        ("GET", "/v1/files?limit=many", "", 400),
        ("GET", "/v1/files?limit=-1", "", 400),
        ("GET", "/v1/files?cursor=nonsense", "", 400),
        ("GET", "/v1/files?cursor=e30", "", 400),
        ("GET", "/v1/files?unknown=1", "", 400),
        ("POST", "/v1/files", "{}", 400),
        ("POST", "/v1/files", "{\"path\":\"\"}", 400),
        ("POST", "/v1/files", "{\"path\":\"a\\u0000b\"}", 400),
        ("POST", "/v1/files", "{\"path\":\"/x\",\"extra\":1}", 400),
        ("POST", "/v1/files", "{\"path\":\"/x\",\"audience\":\"all\"}", 400),
        ("POST", "/v1/files", "{\"path\":\"/x\",\"audience\":[\"Not A Name\"]}", 400),
        ("PATCH", "/v1/files/xyz", "{\"audience\":\"network\"}", 400),
        ("PATCH", &format!("/v1/files/{id}"), "{}", 400),
        ("DELETE", "/v1/files/xyz", "", 400),
        ("DELETE", &format!("/v1/files/{id}"), "", 404),
        ("GET", "/v1/files/xyz/holders", "", 400),
        ("GET", "/v1/search?limit=0", "", 400),
        ("GET", "/v1/search?min_size=big", "", 400),
        ("GET", "/v1/search?online=maybe", "", 400),
        ("GET", "/v1/search?nonsense=1", "", 400),
        ("GET", "/v1/search?holder=A", "", 400),
        ("POST", "/v1/login", "", 400),
        ("POST", "/v1/login", "{", 400),
        ("POST", "/v1/login", "[]", 400),
        ("POST", "/v1/login", "\u{0}", 400),
        ("POST", "/v1/login", "{\"username\":\"ana\"}", 400),
        ("POST", "/v1/login", "{\"username\":\"A\",\"password\":\"x\"}", 400),
        ("POST", "/v1/login", "{\"username\":\"ana\",\"password\":7}", 400),
        ("POST", "/v1/login", &large, 413),
        ("POST", "/v1/downloads", "{}", 400),
        ("POST", "/v1/downloads", "{\"content_id\":\"ABC\"}", 400),
        ("POST", "/v1/downloads", &format!("{{\"content_id\":\"{id}\",\"name\":\"../x\"}}"), 400),
        ("POST", "/v1/downloads", &format!("{{\"content_id\":\"{id}\",\"name\":\"\"}}"), 400),
        ("POST", "/v1/downloads/batch", "{\"downloads\":[]}", 400),
        ("POST", "/v1/downloads/batch", &many, 400),
        ("GET", "/v1/downloads?state=unknown", "", 400),
        ("GET", "/v1/downloads?cursor=x", "", 400),
        ("GET", "/v1/downloads/nothing", "", 404),
        ("GET", "/v1/downloads/%FF", "", 400),
        ("POST", "/v1/downloads/nothing/pause", "", 404),
        ("POST", "/v1/downloads/nothing/resume", "", 404),
        ("DELETE", "/v1/downloads/nothing", "", 404),
        ("POST", "/v1/offers", "", 400),
        ("POST", "/v1/offers", "{}", 400),
        ("POST", "/v1/offers", &format!("{{\"content_id\":\"{id}\"}}"), 400),
        ("POST", "/v1/offers", &format!("{{\"content_id\":\"{id}\",\"to\":\"Ben!\"}}"), 400),
        ("POST", "/v1/offers", &format!("{{\"content_id\":\"{id}\",\"to\":\"ben\",\"widen\":true}}"), 400),
        ("POST", "/v1/offers", &format!("{{\"content_id\":\"{id}\",\"to\":\"ben\"}}"), 401),
        ("POST", "/v1/offers?to=ben", "{}", 400),
        ("GET", "/v1/offers?direction=up", "", 400),
        ("GET", "/v1/offers?state=running", "", 400),
        ("GET", "/v1/offers?limit=201", "", 400),
        ("GET", "/v1/offers?cursor=x", "", 400),
        ("GET", "/v1/offers?from=ben", "", 400),
        ("GET", "/v1/offers/nothing", "", 404),
        ("GET", "/v1/offers/0000000000000001", "", 404),
        ("POST", "/v1/offers/nothing/accept", "", 404),
        ("POST", "/v1/offers/0000000000000001/decline", "", 404),
        ("DELETE", "/v1/offers", "", 405),
        ("GET", "/v1/files/xyz", "", 400),
        ("GET", &format!("/v1/files/{id}"), "", 404),
        ("GET", "/v1/content/xyz", "", 400),
        ("GET", &format!("/v1/content/{}", id.to_string().to_uppercase()), "", 400),
        ("GET", "/v1/peers?limit=x", "", 400),
        ("GET", "/v1/peers/xyz", "", 400),
        ("GET", "/v1/peers/xyz/files", "", 400),
        ("GET", "/v1/peers/00000000000000000000000000000000/files?limit=0", "", 400),
    ];
    for (method, uri, body, status) in table {
        let method: Method = method.parse().unwrap();
        let kind = [("content-type", "application/json")];
        let answer = peer.ask(method.clone(), uri, &kind, (*body).to_owned()).await;
        assert_eq!(answer.code().0, *status, "{method} {uri} {body:.80}: {}", answer.text());
    }
    let no_type = peer.ask(Method::POST, "/v1/login", &[], "{}").await;
    assert_eq!(no_type.code().0, 400, "a form of another site has no JSON type");
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn strangers_are_kept_out_before_anything_happens() {
    let peer = Peer::start().await;
    let rebound = peer.ask(Method::GET, "/v1/status", &[("host", "evil.example")], Body::empty()).await;
    assert_eq!(rebound.code(), (421, "misdirected".to_owned()));
    let page = [("origin", "http://evil.example"), ("content-type", "application/json")];
    let forged = peer.ask(Method::POST, "/v1/login", &page, "{}").await;
    assert_eq!(forged.code(), (403, "permission_denied".to_owned()));
    for uri in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(peer.get(uri).await.status, StatusCode::OK, "{uri}");
    }
    peer.lifecycle.finish().await;

    let peer = Peer::guarded(Guard {
        loopback: false,
        allowed_hosts: vec![],
        token: Some("t0ken".to_owned().into()),
    })
    .await;
    let without = peer.get("/v1/status").await;
    assert_eq!(without.code(), (401, "unauthenticated".to_owned()));
    assert_eq!(without.header("www-authenticate"), "Bearer");
    let with = [("authorization", "Bearer t0ken")];
    assert_eq!(peer.ask(Method::GET, "/v1/status", &with, Body::empty()).await.status, StatusCode::OK);
    assert_eq!(peer.get("/healthz").await.status, StatusCode::OK);
    peer.lifecycle.finish().await;
}
