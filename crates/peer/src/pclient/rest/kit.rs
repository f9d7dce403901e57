//! For tests: a peer with its REST API, and a directory that is not real.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use content::ContentId;
use daemon::{Clock, Lifecycle};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::{sync::watch, time::timeout};
use tower::ServiceExt;

use super::{About, Pclient, guard::Guard, router};
use crate::{
    audit::Audit,
    directory_link::{DirectoryClient, Session, announce::Held, fake::FakeDirectory, session::SessionParts},
    doctor::{self, Doctor},
    download::{self, Downloads, Parts},
    events::Events,
    identity::Identity,
    library::Library,
    link::{Links, Reversals},
    meter::Meter,
    offers::{self, Offers},
    relay::Limits,
    relay::broker::RelayState,
    shares::{self, Shares},
    store::Store,
    throttle::Throttle,
    tls::NetworkTls,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A peer with its REST API, and a directory that is not real.
pub(crate) struct Peer {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) directory: FakeDirectory,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) pclient: Pclient,
    pub(crate) router: Router,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        Self::guarded(Guard { loopback: true, allowed_hosts: vec![], token: None }).await
    }

    pub(crate) async fn guarded(guard: Guard) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let directory = FakeDirectory::start().await;
        let lifecycle = Lifecycle::new();
        let clock = Clock::system();
        let client = DirectoryClient::new(&[directory.url()], None).unwrap();
        let identity = Arc::new(Identity::open(&dir.path().join("data")).unwrap());
        let sealing_key = identity.sealing_public_hex();
        let tls = NetworkTls::new(identity.clone());
        let held = Held::default();
        let about = About { peer_id: identity.peer_id(), pserver_listen: None, advertise: vec![] };
        let parts = SessionParts {
            client: client.clone(),
            identity,
            tls: tls.clone(),
            clock: clock.clone(),
            held: held.clone(),
            endpoints: vec![],
            data_dir: dir.path().join("data"),
            credentials: None,
        };
        let session = Session::start(parts, &lifecycle);
        let store = Store::open(&dir.path().join("data/peer.db")).unwrap();
        let library = Library::open(store.clone(), clock.clone()).await.unwrap();
        let download_dir = dir.path().join("downloads");
        let data_dir = dir.path().join("data");
        let folders = shares::Settings {
            folders: vec![dir.path().join("share")],
            download_dir: download_dir.clone(),
            data_dir: data_dir.clone(),
        };
        let shares = Shares::start(&folders, library.clone(), clock.clone(), &lifecycle).unwrap();
        let links = Links::new(tls.clone(), None, Reversals::default(), &lifecycle);
        let doctor = Doctor::new(doctor::Parameters {
            clock: clock.clone(),
            directory: client.clone(),
            session: session.clone(),
            tls: tls.clone(),
            links: links.clone(),
            relay: None,
            own_id: about.peer_id,
            sealing_key,
            listens: false,
            advertise: vec![],
            data_dir: data_dir.clone(),
            download_dir: download_dir.clone(),
            share_dirs: folders.folders.clone(),
            shares: shares.clone(),
        });
        let (kept, noted) = (store.clone(), clock.clone());
        let parameters = download::Parameters {
            links: links.clone(),
            directory: client.clone(),
            library: library.clone(),
            parts: Parts::default(),
            store: store.clone(),
            download_limit: Throttle::new(0),
            relay_limits: Limits::default(),
            download_dir,
            data_dir,
            reshare: true,
            own_id: about.peer_id,
            mail: None,
        };
        let downloads = Downloads::restore(parameters, &lifecycle).await.unwrap();
        let offers = Offers::start(
            offers::Parameters {
                store,
                clock,
                library: library.clone(),
                directory: client.clone(),
                session: session.clone(),
                links: links.clone(),
                downloads: downloads.clone(),
                own_id: about.peer_id,
                mail: None,
                accept_from: vec![],
                trust: tls.trust().clone(),
            },
            None,
            &lifecycle,
        );
        let audit = Audit::start(kept, noted, Duration::from_secs(3600), &lifecycle);
        let (_, relay) = watch::channel(RelayState::Off { why: "no broker is set" });
        let pclient = Pclient {
            directory: client,
            session,
            held,
            library,
            shares,
            downloads,
            offers,
            audit,
            sent: Meter::default(),
            links,
            trust: tls.trust().clone(),
            doctor,
            events: Events::default(),
            about: Arc::new(about),
            relay,
            stop: lifecycle.soft(),
        };
        let router = router(pclient.clone(), guard);
        Self { dir, directory, lifecycle, pclient, router }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let answer = timeout(PATIENCE, self.router.clone().oneshot(request)).await.unwrap().unwrap();
        let (parts, body) = answer.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        self.send(request(method, uri, headers, body)).await
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.ask(Method::GET, uri, &[], Body::empty()).await
    }

    pub(crate) async fn post(&self, uri: &str, body: Value) -> Answer {
        let kind = [("content-type", "application/json")];
        self.ask(Method::POST, uri, &kind, body.to_string()).await
    }

    pub(crate) async fn upload(&self, body: impl Into<Body>) -> Answer {
        let kind = [("content-type", "multipart/form-data; boundary=X")];
        self.ask(Method::POST, "/v1/files", &kind, body).await
    }

    pub(crate) fn share_dir(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    pub(crate) async fn share(&self, name: &str, bytes: &str) -> ContentId {
        let answer = self.upload(form(&[file(name, bytes)])).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        ContentId::of(bytes.as_bytes())
    }

    pub(crate) fn uploads_left(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path().join("share")).unwrap();
        let name =
            |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        entries.map(name).filter(|name| name.starts_with(".trueque")).count()
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(crate) fn code(&self) -> (u16, String) {
        let problem = self.json();
        assert_eq!(
            self.headers["content-type"],
            "application/problem+json",
            "{}: {}",
            self.status,
            self.text()
        );
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(!problem["request_id"].as_str().unwrap().is_empty());
        (self.status.as_u16(), problem["code"].as_str().unwrap().to_owned())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn request(
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:5000");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

pub(crate) fn file(name: &str, bytes: &str) -> String {
    format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{bytes}\r\n")
}

pub(crate) fn field(name: &str, text: &str) -> String {
    format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
}

pub(crate) fn form(parts: &[String]) -> String {
    let parts: String = parts.iter().map(|part| format!("--X\r\n{part}")).collect();
    format!("{parts}--X--\r\n")
}
