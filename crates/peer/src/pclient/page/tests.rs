//! The page as a browser gets it, and what its files promise to whoever reads them.

use std::path::{Path, PathBuf};

use http::{Method, StatusCode};

use super::{FILES, HEADERS};
use crate::pclient::rest::{
    guard::Guard,
    kit::{Answer, Peer},
};

async fn get(peer: &Peer, path: &str, headers: &[(&str, &str)]) -> Answer {
    peer.ask(Method::GET, path, headers, axum::body::Body::empty()).await
}

#[tokio::test]
async fn every_file_comes_with_its_kind_its_policy_and_a_tag_that_spares_the_next_time() {
    let peer = Peer::start().await;
    for (path, bytes) in FILES {
        let answer = get(&peer, path, &[]).await;
        assert_eq!((answer.status, answer.body.as_ref()), (StatusCode::OK, *bytes), "{path}");
        for (name, value) in HEADERS {
            assert_eq!(answer.header(name.as_str()), value, "{path}");
        }
        let kind = match path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), kind, "{path}");
        let known = get(&peer, path, &[("if-none-match", answer.header("etag"))]).await;
        assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
    }
    assert_eq!(get(&peer, "/app/gone.js", &[]).await.code(), (404, "not_found".to_owned()));
    assert_eq!(get(&peer, "/app/../Cargo.toml", &[]).await.status, StatusCode::NOT_FOUND);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn the_page_is_there_without_the_token_and_what_it_asks_is_not() {
    let token = Some("t0ken".to_owned().into());
    let peer = Peer::guarded(Guard { loopback: true, allowed_hosts: vec![], token }).await;
    assert_eq!(get(&peer, "/", &[]).await.status, StatusCode::OK);
    assert_eq!(get(&peer, "/app/main.js", &[("sec-fetch-site", "cross-site")]).await.status, StatusCode::OK);
    assert_eq!(get(&peer, "/", &[("host", "evil.example")]).await.code().0, 421);
    assert_eq!(get(&peer, "/v1/status", &[]).await.code().0, 401);
    peer.lifecycle.finish().await;
}

#[test]
fn every_file_of_the_folder_is_served_and_read_with_pleasure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pclient/page/assets");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (deeper, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
        folders.extend(deeper);
        found.extend(files.iter().map(|file| file.strip_prefix(&root).unwrap().display().to_string()));
    }
    let mut served: Vec<&str> = FILES.iter().map(|(path, _)| path.trim_start_matches("/app/")).collect();
    served.iter_mut().filter(|path| **path == "/").for_each(|path| *path = "index.html");
    found.sort();
    served.sort_unstable();
    assert_eq!(found, served);

    for (path, bytes) in FILES {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.lines().count() < 300, "{path} is too long");
        let first = text.trim_start_matches("<!doctype html>\n");
        assert!(["// ", "/* ", "<!-- "].iter().any(|opening| first.starts_with(opening)), "{path}: no story");
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="] {
            assert!(!text.contains(word), "{path} has {word}");
        }
    }
}
