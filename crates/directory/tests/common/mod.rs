//! A directory in a folder of its own, asked through its router, with a clock that stands still.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "help for tests, of which each binary uses some"
)]
#![allow(clippy::allow_attributes, reason = "an expectation would not hold in every binary")]

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use daemon::Clock;
use directory::{App, config::Config, passwords::Passwords};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

pub const PASSWORD: &str = "correct horse";
pub const ADMIN: &str = "the-admin-token-of-tests";

pub struct TestApp {
    pub router: Router,
    pub clock: Clock,
    pub config: Config,
    pub folder: Arc<tempfile::TempDir>,
    pub passwords: Passwords,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Status and problem code, such as `409 conflict`.
    pub fn problem(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text);
        let document = self.json();
        assert_eq!(document["status"], self.status.as_u16());
        assert!(document["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{document}");
        format!("{} {}", self.status.as_u16(), document["code"].as_str().unwrap())
    }
}

/// A peer that is logged in.
pub struct Peer {
    pub key: rcgen::KeyPair,
    pub id: String,
    pub token: String,
    pub session: Value,
    revision: std::cell::Cell<u64>,
}

pub fn app() -> TestApp {
    app_with(|config| config)
}

pub fn app_with(change: impl FnOnce(Config) -> Config) -> TestApp {
    let folder = tempfile::tempdir().unwrap();
    let config =
        change(Config { admin_token: Some(ADMIN.to_owned().into()), ..Config::in_folder(folder.path()) });
    let clock = Clock::by_hand("2026-11-22T12:00:00Z".parse().unwrap());
    let passwords = Passwords::cheap_for_tests().unwrap();
    let app = App::open(&config, clock.clone(), passwords.clone()).unwrap();
    TestApp { router: directory::http::router(app), clock, config, folder: Arc::new(folder), passwords }
}

pub fn open(config: &Config, clock: &Clock) -> Arc<App> {
    App::open(config, clock.clone(), Passwords::cheap_for_tests().unwrap()).unwrap()
}

impl TestApp {
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        if !parts.status.is_success() {
            // Whatever went wrong, it is not told where and how things are kept.
            let folder = self.folder.path().display().to_string();
            for inner in [folder.as_str(), "sqlite", "SELECT ", "INSERT ", "panicked", ".rs:"] {
                assert!(!text.contains(inner), "{inner}: {text}");
            }
        }
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub async fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, token, None).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call("POST", path, token, Some(body)).await
    }

    pub async fn register(&self, username: &str) -> Answer {
        self.post("/v1/accounts", "", json!({ "username": username, "password": PASSWORD })).await
    }

    /// A new account, and a new peer of it.
    pub async fn join(&self, username: &str) -> Peer {
        assert_eq!(self.register(username).await.status, StatusCode::CREATED);
        self.peer_of(username).await
    }

    /// A new peer of an account.
    pub async fn peer_of(&self, username: &str) -> Peer {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let answer = self.post("/v1/sessions", "", session(username, &csr(&key))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let session = answer.json();
        let text = |member: &str| session[member].as_str().unwrap().to_owned();
        Peer { key, id: text("peer_id"), token: text("token"), revision: 0.into(), session }
    }

    /// Announces further entries of a peer.
    pub async fn announce(&self, peer: &Peer, put: Value) {
        let base = peer.revision.get();
        let delta = json!({ "base_revision": base, "revision": base + 1, "put": put });
        let answer = self.post("/v1/catalog", &peer.token, delta).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        peer.revision.set(base + 1);
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

pub fn csr(key: &rcgen::KeyPair) -> String {
    rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(key).unwrap().pem().unwrap()
}

pub fn session(username: &str, csr_pem: &str) -> Value {
    json!({
        "username": username, "password": PASSWORD, "csr_pem": csr_pem, "sealing_key": "ab".repeat(32),
        "endpoints": ["127.0.0.1:50051"], "version": "0.1.0",
    })
}

/// A whole file of one piece, whose content is its name.
pub fn file(name: &str) -> Value {
    json!({ "content_id": id(name), "name": name, "size": 7, "pieces_held": 1 })
}

pub fn id(content: &str) -> String {
    content::ContentId::of(content.as_bytes()).to_string()
}
