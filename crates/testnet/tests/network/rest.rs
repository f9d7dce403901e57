//! pclient's REST against whatever may arrive: every answer has a word, none is an accident, none hangs.

use std::time::Duration;

use http::StatusCode;
use reqwest::Method;
use testnet::{Api, Network};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const NOBODYS: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

/// Method, path, body, and the status that it must get.
const TABLE: &[(&str, &str, Option<&str>, u16)] = &[
    ("GET", "/nowhere", None, 404),
    ("GET", "/v1", None, 404),
    ("DELETE", "/v1/status", None, 405),
    ("PUT", "/v1/downloads", Some("{}"), 405),
    ("GET", "/v1/status?x=1", None, 400),
    ("GET", "/v1/search?q=a&nonsense=1", None, 400),
    ("GET", "/v1/search?q=%ff%fe", None, 400),
    ("GET", "/v1/search?limit=0", None, 400),
    ("GET", "/v1/search?limit=201", None, 400),
    ("GET", "/v1/search?limit=-1", None, 400),
    ("GET", "/v1/search?min_size=many", None, 400),
    ("GET", "/v1/search?cursor=%00%ff", None, 400),
    ("GET", "/v1/files?cursor=bm9uc2Vuc2U", None, 400),
    ("GET", "/v1/downloads?state=sleeping", None, 400),
    ("GET", "/v1/downloads?cursor=!!", None, 400),
    ("GET", "/v1/downloads/nonsense", None, 404),
    ("GET", "/v1/downloads/%2e%2e%2f%2e%2e", None, 404),
    ("DELETE", "/v1/downloads/18446744073709551616", None, 404),
    ("POST", "/v1/downloads/1/pause", None, 404),
    ("POST", "/v1/downloads/1/resume", None, 404),
    ("POST", "/v1/downloads", None, 400),
    ("POST", "/v1/downloads", Some(""), 400),
    ("POST", "/v1/downloads", Some("{"), 400),
    ("POST", "/v1/downloads", Some("null"), 400),
    ("POST", "/v1/downloads", Some("[]"), 400),
    ("POST", "/v1/downloads", Some("{\"content_id\": 7}"), 400),
    ("POST", "/v1/downloads", Some("{\"content_id\": \"abc\"}"), 400),
    (
        "POST",
        "/v1/downloads",
        Some("{\"content_id\": \"AF1349B9F5F9A1A6A0404DEA36DCC9499BCB25C9ADC112B7CC9A93CAE41F3262\"}"),
        400,
    ),
    (
        "POST",
        "/v1/downloads",
        Some(
            "{\"content_id\": \"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\", \"extra\": 1}",
        ),
        400,
    ),
    ("POST", "/v1/downloads/batch", Some("{\"downloads\": []}"), 400),
    ("POST", "/v1/downloads/batch", Some("{\"downloads\": [{}]}"), 400),
    ("POST", "/v1/files", Some("{}"), 400),
    ("POST", "/v1/files", Some("{\"path\": \"\"}"), 400),
    ("POST", "/v1/files", Some("{\"path\": \"a\\u0000b\"}"), 400),
    ("POST", "/v1/files", Some("{\"path\": \"/etc/passwd\"}"), 403),
    ("POST", "/v1/files", Some("{\"path\": \"x\", \"audience\": \"everybody\"}"), 400),
    ("DELETE", "/v1/files/af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", None, 404),
    ("DELETE", "/v1/files/xyz", None, 400),
    (
        "PATCH",
        "/v1/files/af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        Some("{\"audience\": \"network\"}"),
        404,
    ),
    ("GET", "/v1/files/af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262/holders", None, 404),
    ("GET", "/v1/content/af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", None, 404),
    ("GET", "/v1/content/short", None, 400),
    ("GET", "/v1/peers/00000000000000000000000000000000", None, 404),
    ("GET", "/v1/peers/xyz", None, 400),
    ("GET", "/v1/peers/00000000000000000000000000000000/files", None, 404),
    ("POST", "/v1/login", Some("{\"username\": \"A B\", \"password\": \"x\"}"), 400),
    ("POST", "/v1/login", Some("{\"username\": \"ana\"}"), 400),
    ("POST", "/v1/login", Some("{\"username\": \"ana\", \"password\": \"wrong password\"}"), 401),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_requests_get_the_word_that_fits() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let mut wrong = Vec::new();
    for (method, path, body, expected) in TABLE {
        let mut request = ana.request(method.parse().unwrap(), path).timeout(Duration::from_secs(20));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(*body);
        }
        let reply = Api::reply(request).await;
        let problem =
            reply.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
        if reply.status.as_u16() != *expected || !problem {
            wrong.push(format!(
                "{method} {path} {body:?}: {} instead of {expected}: {:?}",
                reply.status, reply.body
            ));
            continue;
        }
        let document = reply.json();
        for member in ["type", "title", "status", "detail", "code", "request_id"] {
            assert!(document.get(member).is_some(), "{method} {path}: no `{member}` in {document}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_deep_and_mistyped_bodies_are_refused() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let large = format!("{{\"content_id\": \"{}\"}}", "a".repeat(8 << 20));
    for (kind, body, statuses) in [
        ("application/json", deep, [400, 413]),
        ("application/json", large, [400, 413]),
        ("text/plain", format!("{{\"content_id\": \"{NOBODYS}\"}}"), [400, 415]),
        ("application/json", "\u{feff}{}".to_owned(), [400, 400]),
    ] {
        let request = ana.request(Method::POST, "/v1/downloads").header("content-type", kind).body(body);
        let Ok(answer) = request.send().await else { continue };
        assert!(statuses.contains(&answer.status().as_u16()), "{kind}: {}", answer.status());
    }
    let invalid = ana.request(Method::POST, "/v1/downloads").header("content-type", "application/json");
    assert_eq!(Api::reply(invalid.body(vec![0xff, 0xfe, 0x00])).await.status, StatusCode::BAD_REQUEST);

    // Forms: without a boundary, without a file, with two, broken off.
    for (kind, body) in [
        ("multipart/form-data", String::new()),
        ("multipart/form-data; boundary=x", String::new()),
        ("multipart/form-data; boundary=x", "--x--\r\n".to_owned()),
        ("multipart/form-data; boundary=x", form(&[("other", "a.txt")])),
        ("multipart/form-data; boundary=x", form(&[("file", "a.txt"), ("file", "b.txt")])),
        ("multipart/form-data; boundary=x", form(&[("file", "a.txt")]).replace("--x--", "")),
    ] {
        let request = ana.request(Method::POST, "/v1/files").header("content-type", kind).body(body.clone());
        let reply = Api::reply(request).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "invalid_argument"), "{body:?}");
    }
    assert_eq!(std::fs::read_dir(ana.share_dir()).unwrap().count(), 0, "nothing is left of them");
    network.end([ana]).await;
}

fn form(parts: &[(&str, &str)]) -> String {
    let part = |(name, file): &(&str, &str)| {
        format!(
            "--x\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\r\nbytes\r\n"
        )
    };
    parts.iter().map(part).collect::<String>() + "--x--\r\n"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_sites_and_raw_nonsense_get_nothing() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    for (name, value, expected) in [
        ("host", "evil.example", 421),
        ("origin", "https://evil.example", 403),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        let reply = Api::reply(ana.request(Method::GET, "/v1/status").header(name, value)).await;
        assert_eq!(reply.status.as_u16(), expected, "{name}: {value}");
    }
    for encoding in ["gzip", "zstd", "br", "deflate"] {
        for (path, kind) in
            [("/v1/files", "multipart/form-data; boundary=x"), ("/v1/login", "application/json")]
        {
            let request = ana.request(Method::POST, path).header("content-type", kind);
            let reply =
                Api::reply(request.header("content-encoding", encoding).body(form(&[("file", "a")]))).await;
            assert_eq!(
                (reply.status.as_u16(), reply.code().as_str()),
                (415, "unsupported_media_type"),
                "{path}"
            );
        }
    }
    for raw in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET /v1/status HTTP/1.1\r\n\r\n",
        "GET /v1/status HTTP/9.9\r\nhost: 127.0.0.1\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "GET /v1/content/\u{0}\u{1} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(ana.address()).await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{raw:?} hangs");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 2") && !answer.starts_with("HTTP/1.1 5"), "{raw:?}: {answer}");
    }
    assert_eq!(ana.get("/healthz").await.status, StatusCode::OK);
    network.end([ana]).await;
}
