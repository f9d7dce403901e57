//! The session and the announcements, against a directory on a real socket that goes away, forgets and refuses.

use std::{path::Path, sync::Arc, time::Duration};

use content::{ContentId, Outline, SafeName};
use daemon::{Clock, Lifecycle};
use http::StatusCode;
use secrecy::SecretString;
use tokio::time::timeout;
use wire::{
    ErrorCode, Username,
    rest::directory::{ReportKind, SearchQuery},
};

use super::{
    DirectoryClient, LinkState, LinkStatus, Session,
    announce::{self, Held},
    fake::FakeDirectory,
    session::SessionParts,
};
use crate::{
    identity::Identity,
    library::{FileStamp, Library, NewFile},
    store::Store,
    tls::NetworkTls,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A peer's way to the directory, without the rest of the peer.
struct Peer {
    lifecycle: Lifecycle,
    client: DirectoryClient,
    session: Session,
    held: Held,
    tls: NetworkTls,
    clock: Clock,
}

impl Peer {
    fn start(dir: &Path, directory: &FakeDirectory, user: Option<(&str, &str)>) -> Self {
        let lifecycle = Lifecycle::new();
        let client = DirectoryClient::new(&[directory.url()], None).unwrap();
        let identity = Arc::new(Identity::open(dir).unwrap());
        let tls = NetworkTls::new(identity.clone());
        let held = Held::default();
        let clock = Clock::by_hand("2024-01-01T12:00:00Z".parse().unwrap());
        let parts = SessionParts {
            client: client.clone(),
            identity,
            tls: tls.clone(),
            clock: clock.clone(),
            held: held.clone(),
            endpoints: vec!["127.0.0.1:7".to_owned()],
            data_dir: dir.to_owned(),
            credentials: user.map(|(name, password)| (name.parse().unwrap(), password.to_owned().into())),
        };
        let session = Session::start(parts, &lifecycle);
        Self { lifecycle, client, session, held, tls, clock }
    }

    async fn becomes(&self, what: impl Fn(&LinkStatus) -> bool) -> LinkStatus {
        let mut watch = self.session.watch();
        let status = timeout(PATIENCE, watch.wait_for(|status| what(status))).await;
        status.unwrap_or_else(|_| panic!("it stays {:?}", self.session.status())).unwrap().clone()
    }

    async fn connects(&self) {
        self.becomes(|status| status.state == LinkState::Connected).await;
    }

    async fn login(&self, name: &str, password: &str) -> Result<(), ErrorCode> {
        let name: Username = name.parse().unwrap();
        self.session.login(name, SecretString::from(password), None).await.map_err(|failure| failure.code)
    }
}

/// Waits until something outside the watch channels is so.
async fn until(what: impl Fn() -> bool) {
    let looking = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap();
}

fn is_away(status: &LinkStatus) -> bool {
    matches!(status.state, LinkState::Disconnected { .. })
}

#[tokio::test]
async fn logs_in_at_start_and_creates_the_account() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    let peer = Peer::start(dir.path(), &directory, Some(("ana", "correct horse")));
    peer.connects().await;
    assert_eq!(peer.session.status().username, Some("ana".parse().unwrap()));
    assert!(peer.tls.present().is_some());
    assert_eq!(directory.known.lock().calls, ["POST /v1/sessions", "POST /v1/accounts", "POST /v1/sessions"]);
    assert_eq!(directory.known.lock().endpoints, ["127.0.0.1:7"]);

    // The stop in order says goodbye and forgets.
    peer.lifecycle.finish().await;
    assert_eq!(directory.calls("DELETE /v1/sessions/current"), 1);
    assert!(!dir.path().join("session.json").exists());
}

#[tokio::test]
async fn a_wrong_password_is_a_clear_error_and_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    directory.known.lock().accounts.insert("ana".to_owned(), "correct horse".to_owned());
    let peer = Peer::start(dir.path(), &directory, Some(("ana", "wrong horse")));
    let status = peer.becomes(|status| matches!(status.state, LinkState::LoggedOut { why: Some(_) })).await;
    assert_eq!(
        status.state,
        LinkState::LoggedOut { why: Some("the name or the password is wrong".to_owned()) }
    );

    assert_eq!(peer.login("ana", "wronger horse").await, Err(ErrorCode::Unauthenticated));
    assert_eq!(peer.login("ana", "correct horse").await, Ok(()));
    assert_eq!(peer.session.status().state, LinkState::Connected);
    // A mistake of somebody who is logged in changes nothing.
    assert_eq!(peer.login("ben", "").await, Ok(()), "the fake takes any password for a new account");
    directory.known.lock().registration_open = false;
    assert_eq!(peer.login("eve", "correct horse").await, Err(ErrorCode::Unauthenticated));
    assert_eq!(peer.session.status().username, Some("ben".parse().unwrap()));
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn an_account_that_is_closed_is_tried_until_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    let peer = Peer::start(dir.path(), &directory, Some(("ana", "correct horse")));
    peer.connects().await;
    {
        let mut known = directory.known.lock();
        (known.closed, known.token) = (true, None);
    }
    let _refused = peer.client.search(&SearchQuery::default()).await;
    let status = peer.becomes(|status| matches!(status.state, LinkState::LoggedOut { .. })).await;
    assert_eq!(status.state, LinkState::LoggedOut { why: Some("this account is disabled".to_owned()) });
    assert!(peer.tls.present().is_none());
    directory.known.lock().closed = false;
    peer.connects().await;

    // Whoever logs out stays out.
    directory.known.lock().closed = true;
    peer.session.logout().await.unwrap();
    directory.known.lock().closed = false;
    let logins = directory.calls("POST /v1/sessions");
    assert_eq!(peer.login("ben", "correct horse").await, Ok(()));
    assert_eq!(directory.calls("POST /v1/sessions"), logins + 2, "one to see that ben is new, and one after");
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn login_and_logout_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    let peer = Peer::start(dir.path(), &directory, None);
    assert_eq!(peer.session.status().state, LinkState::LoggedOut { why: None });
    let search = peer.client.search(&SearchQuery::default()).await;
    assert_eq!(search.unwrap_err().code, ErrorCode::Unauthenticated);
    assert!(directory.known.lock().calls.is_empty(), "nobody is asked without a token");

    assert_eq!(peer.login("ana", "correct horse").await, Ok(()));
    assert!(peer.client.search(&SearchQuery::default()).await.unwrap().items.is_empty());
    peer.session.logout().await.unwrap();
    assert_eq!(peer.session.status().state, LinkState::LoggedOut { why: None });
    assert!(peer.tls.present().is_none());
    assert!(!dir.path().join("session.json").exists());
    assert!(directory.known.lock().token.is_none());
    let own = Identity::open(dir.path()).unwrap().peer_id();
    let by_force = format!("DELETE /v1/sessions/{own}");
    assert_eq!(directory.calls(&by_force), 1, "the certificate is refused from then on");

    directory.go_down().await;
    assert_eq!(peer.login("ana", "correct horse").await, Err(ErrorCode::Unavailable));
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn a_logout_that_the_directory_does_not_hear_is_told_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    let peer = Peer::start(dir.path(), &directory, None);
    assert_eq!(peer.login("ana", "correct horse").await, Ok(()));
    directory.go_down().await;
    peer.session.logout().await.unwrap();
    assert!(peer.tls.present().is_none(), "this peer is nobody at once");
    let LinkState::LoggedOut { why: Some(why) } = peer.session.status().state else { panic!("it is said") };
    assert!(why.contains("has not heard of the logout"), "{why}");
    peer.session.logout().await.unwrap();
    assert_eq!(peer.session.status().state, LinkState::LoggedOut { why: Some(why) }, "also at a second one");

    // It is not forgotten by a restart, and takes nobody for logged in.
    peer.lifecycle.finish().await;
    let peer = Peer::start(dir.path(), &directory, None);
    peer.becomes(|status| matches!(&status.state, LinkState::LoggedOut { why: Some(_) })).await;
    assert!(directory.known.lock().token.is_some(), "the directory knows nothing of it");
    directory.come_up().await;
    peer.becomes(|status| status.state == LinkState::LoggedOut { why: None }).await;
    assert!(directory.known.lock().token.is_none());
    let own = Identity::open(dir.path()).unwrap().peer_id();
    assert_eq!(directory.calls(&format!("DELETE /v1/sessions/{own}")), 1);
    assert!(!dir.path().join("session.json").exists());

    // Whoever logs in again before that has nothing left to tell.
    assert_eq!(peer.login("ana", "correct horse").await, Ok(()));
    directory.go_down().await;
    peer.session.logout().await.unwrap();
    directory.come_up().await;
    assert_eq!(peer.login("ben", "correct horse").await, Ok(()));
    assert_eq!(peer.session.status().username, Some("ben".parse().unwrap()));
    peer.lifecycle.finish().await;
    assert_eq!(directory.calls("DELETE /v1/sessions/current"), 1, "the stop");
}

#[tokio::test]
async fn a_killed_peer_goes_on_without_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    let first = Peer::start(dir.path(), &directory, None);
    assert_eq!(first.login("ana", "correct horse").await, Ok(()));
    first.lifecycle.hard().cancel();

    directory.known.lock().endpoints.clear();
    let second = Peer::start(dir.path(), &directory, None);
    second.connects().await;
    assert_eq!(second.session.status().username, Some("ana".parse().unwrap()));
    assert!(second.tls.present().is_some());
    assert_eq!(directory.calls("POST /v1/sessions"), 2, "one refused, one after the account was made");
    assert_eq!(directory.known.lock().endpoints, ["127.0.0.1:7"], "the addresses are told again");
    second.lifecycle.hard().cancel();

    // The directory has forgotten: without a password nothing can be done, and it says so.
    directory.known.lock().token = None;
    let third = Peer::start(dir.path(), &directory, None);
    third.becomes(|status| matches!(&status.state, LinkState::LoggedOut { why: Some(_) })).await;
    assert!(!dir.path().join("session.json").exists());
    third.lifecycle.finish().await;
}

#[tokio::test]
async fn outlives_a_directory_that_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    directory.go_down().await;
    let peer = Peer::start(dir.path(), &directory, Some(("ana", "correct horse")));
    let status = peer
        .becomes(|s| matches!(&s.state, LinkState::Disconnected { why } if why.contains("cannot be reached")))
        .await;
    assert_eq!(status.username, Some("ana".parse().unwrap()));
    directory.come_up().await;
    peer.connects().await;

    directory.go_down().await;
    // A question that finds nobody raises the doubt long before the renewal is due.
    let search = peer.client.search(&SearchQuery::default()).await;
    assert_eq!(search.unwrap_err().code, ErrorCode::Unavailable);
    peer.becomes(is_away).await;
    directory.come_up().await;
    peer.connects().await;
    assert_eq!(directory.calls("POST /v1/sessions"), 2, "the session was kept");

    // Trouble on the other side is waited out too.
    directory.known.lock().broken = Some(ErrorCode::Internal);
    let search = peer.client.search(&SearchQuery::default()).await;
    assert_eq!(search.unwrap_err().code, ErrorCode::Internal);
    directory.known.lock().broken = None;
    peer.connects().await;
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn a_refused_token_leads_to_a_new_login() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    let peer = Peer::start(dir.path(), &directory, Some(("ana", "correct horse")));
    peer.connects().await;
    directory.known.lock().token = None;
    let search = peer.client.search(&SearchQuery::default()).await;
    assert_eq!(search.unwrap_err().code, ErrorCode::Unauthenticated);
    until(|| directory.known.lock().token.is_some()).await;
    peer.connects().await;
    assert!(peer.client.search(&SearchQuery::default()).await.is_ok());
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn renews_the_lease_and_the_certificate_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    directory.known.lock().lease_seconds = 1;
    let peer = Peer::start(dir.path(), &directory, Some(("ana", "correct horse")));
    peer.connects().await;
    let renewals = || directory.calls("PUT /v1/sessions/current");
    until(|| renewals() >= 2).await;
    let certificate = || std::fs::read_to_string(dir.path().join("session.json")).unwrap();
    let first = certificate();

    // It holds for three days, and two and a half are over.
    peer.clock.advance(Duration::from_secs(2 * 24 * 3600));
    until(|| certificate() != first).await;
    assert_eq!(peer.session.status().state, LinkState::Connected);
    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn another_directory_is_tried_when_one_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let (away, there) = (FakeDirectory::start().await, FakeDirectory::start().await);
    away.go_down().await;
    let client = DirectoryClient::new(&[away.url(), there.url()], None).unwrap();
    let name: Username = "ana".parse().unwrap();
    client.create_account(name.clone(), &"correct horse".to_owned().into(), None).await.unwrap();
    assert_eq!(client.url(), there.url().as_str().trim_end_matches('/'));

    // An answer is an answer, also a refusal.
    away.come_up().await;
    let twice = client.create_account(name, &"correct horse".to_owned().into(), None).await;
    assert_eq!(twice.unwrap_err().code, ErrorCode::AlreadyExists);
    assert!(away.known.lock().calls.is_empty());
    let id = ContentId::of(b"x");
    client.set_token(Some("not a token".to_owned().into()));
    let unknown = client.report(id, wire::PeerId::from_bytes([1; 16]), ReportKind::Corrupt).await;
    assert_eq!(unknown.unwrap_err().code, ErrorCode::NotFound, "the fake has no reports");
    drop(dir);
}

#[tokio::test]
async fn what_is_not_a_directory_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let lifecycle = Lifecycle::new();
    let serving = lifecycle.clone();
    let router = axum::Router::new().fallback(|| async { (StatusCode::NOT_FOUND, "<h1>nginx</h1>") });
    lifecycle.spawn("web", async move { daemon::serve::serve(listener, router, None, &serving).await });
    let client = DirectoryClient::new(&[url.parse().unwrap()], None).unwrap();
    let failure = client
        .create_account("ana".parse().unwrap(), &"correct horse".to_owned().into(), None)
        .await
        .unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unavailable);
    assert_eq!(failure.detail, format!("{url} answered 404 and not as a directory does"));
    lifecycle.finish().await;
}

async fn library(dir: &Path) -> Library {
    Library::open(Store::open(&dir.join("peer.db")).unwrap(), Clock::system()).await.unwrap()
}

fn file(n: u64) -> NewFile {
    let bytes = n.to_le_bytes();
    let layout = content::Layout::new(bytes.len() as u64).unwrap();
    let outline = Outline::verify(ContentId::of(&bytes), layout, Vec::new()).unwrap();
    let name = format!("file {n}");
    let stamp = FileStamp { size: bytes.len() as u64, mtime_ns: 1, ctime_ns: 1, inode: n };
    NewFile::new(format!("/share/{name}").into(), SafeName::new(&name).unwrap(), stamp, Arc::new(outline))
}

#[tokio::test]
async fn announces_what_changes_and_believes_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    directory.known.lock().lease_seconds = 1;
    let peer = Peer::start(dir.path(), &directory, Some(("ana", "correct horse")));
    let library = library(dir.path()).await;
    announce::start(peer.client.clone(), library.clone(), peer.held.clone(), &peer.lifecycle);
    let known = |n: usize| directory.known.lock().catalog.len() == n;
    let settled = || peer.held.is_settled(*library.changes().borrow());
    until(settled).await;

    library.add((0..3).map(file).collect()).await.unwrap();
    until(|| known(3)).await;
    until(settled).await;
    library.unshare(&file(0).content_id).await.unwrap();
    until(|| known(2)).await;

    // The directory was put back from an old copy: its renewal tells, and everything is announced anew.
    {
        let mut known = directory.known.lock();
        known.catalog.clear();
        known.revision = 7;
    }
    let resets = directory.known.lock().resets;
    until(|| known(2)).await;
    assert!(directory.known.lock().resets > resets);

    peer.lifecycle.finish().await;
}

#[tokio::test]
async fn announces_in_portions_that_the_directory_takes() {
    let dir = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start().await;
    directory.known.lock().max_entries = 100;
    let peer = Peer::start(dir.path(), &directory, None);
    let library = library(dir.path()).await;
    library.add((0..1_000).map(file).collect()).await.unwrap();
    announce::start(peer.client.clone(), library.clone(), peer.held.clone(), &peer.lifecycle);
    assert!(!peer.held.is_settled(*library.changes().borrow()), "nobody has been told");
    assert_eq!(peer.login("ana", "correct horse").await, Ok(()));
    let settled = || peer.held.is_settled(*library.changes().borrow());
    until(|| directory.known.lock().catalog.len() == 1_000).await;
    until(settled).await;

    // It was emptied long before the next renewal: the next change meets a conflict, and everything is told again.
    directory.known.lock().catalog.clear();
    directory.known.lock().revision = 0;
    library.add(vec![file(1_000)]).await.unwrap();
    until(|| directory.known.lock().catalog.len() == 1_001).await;
    until(settled).await;
    peer.lifecycle.finish().await;
}
