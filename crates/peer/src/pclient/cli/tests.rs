//! The command line against a pclient on a real socket: what it prints, and the code it exits with.

use std::{
    ffi::OsString,
    io::{self, Write},
    sync::Arc,
};

use clap::error::ErrorKind;
use content::ContentId;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use wire::{
    PeerId,
    rest::{
        Audience,
        directory::{PeerItem, SearchItem},
        pclient::FetchPath,
    },
};

use super::{Exit, Word, dispatch, screen::Screen};
use crate::{
    config::Cli,
    pclient::rest::{guard::Guard, kit::Peer},
    tls::Caller,
};

/// A peer whose pclient listens.
struct Running {
    peer: Peer,
    url: String,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    exit: Option<Exit>,
    out: String,
    /// The complaint.
    err: String,
}

impl Running {
    async fn start() -> Self {
        Self::guarded(Guard { loopback: true, allowed_hosts: vec![], token: None }).await
    }

    async fn guarded(guard: Guard) -> Self {
        let peer = Peer::guarded(guard).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (router, serving) = (peer.router.clone(), peer.lifecycle.clone());
        peer.lifecycle.spawn("pclient", async move {
            daemon::serve::serve(listener, router, None, &serving).await.unwrap();
        });
        Self { peer, url }
    }

    async fn run(&self, args: &[&str]) -> Ran {
        run(args, &self.url, &[("PEER_PASSWORD", "correct horse")]).await
    }
}

async fn run(args: &[&str], url: &str, environment: &[(&str, &str)]) -> Ran {
    let lookup = |name: &str| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    let tail = ["--pclient", url];
    let args = ["peer"].iter().chain(args).chain(&tail);
    let cli = Cli::read(args, lookup).unwrap_or_else(|error| panic!("{error}"));
    let Some(Word::Ask(command)) = cli.command else { panic!("{:?}", cli.command) };
    let (out, err) = (Buffer::default(), Buffer::default());
    let mut screen = Screen::into(Box::new(out.clone()), Box::new(err.clone()), command.common().json);
    let stop = dispatch(command, &cli.settings, &mut screen).await.err();
    if let Some(stop) = &stop {
        screen.complain(&stop.message);
    }
    let text = |buffer: Buffer| String::from_utf8(buffer.0.lock().clone()).unwrap();
    Ran { exit: stop.map(|stop| stop.exit), out: text(out), err: text(err) }
}

fn usage(args: &[&str]) -> ErrorKind {
    let error = Cli::read(["peer"].iter().chain(args), |_| None).unwrap_err();
    assert_eq!(error.exit_code(), i32::from(!matches!(error.kind(), ErrorKind::DisplayHelp)) * 2);
    error.kind()
}

#[test]
fn what_cannot_be_read_is_usage() {
    assert_eq!(usage(&["dance"]), ErrorKind::InvalidSubcommand);
    assert_eq!(usage(&["share"]), ErrorKind::MissingRequiredArgument);
    assert_eq!(usage(&["status", "--unknown"]), ErrorKind::UnknownArgument);
    assert_eq!(usage(&["send", "a.txt"]), ErrorKind::MissingRequiredArgument);
    assert_eq!(usage(&["send", "--to", "ben"]), ErrorKind::MissingRequiredArgument);
    assert_eq!(usage(&["offers", "accept"]), ErrorKind::MissingRequiredArgument);
    assert_eq!(usage(&["login", "Ana!"]), ErrorKind::ValueValidation);
    assert_eq!(usage(&["search", "x", "--min-size", "big"]), ErrorKind::ValueValidation);
    assert_eq!(usage(&["status", "--pclient", "nonsense"]), ErrorKind::ValueValidation);
    assert_eq!(usage(&["--pclient-listen", "nonsense"]), ErrorKind::ValueValidation);
    assert_eq!(usage(&["get", "--help"]), ErrorKind::DisplayHelp);
}

#[tokio::test]
async fn without_a_peer_it_is_unreachable() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}");
    for args in [
        &["status"][..],
        &["search", "x"],
        &["get", "x"],
        &["share", "/etc/hostname"],
        &["logout"],
        &["health"],
    ] {
        let ran = run(args, &url, &[]).await;
        assert_eq!(ran.exit, Some(Exit::Unreachable), "{args:?}: {}", ran.err);
        assert!(ran.err.contains("no peer answers at"), "{}", ran.err);
    }
    let ran = run(&["status"], "ftp://x", &[]).await;
    assert_eq!(ran.exit, Some(Exit::Usage));
}

#[tokio::test]
async fn health() {
    let running = Running::start().await;
    let ran = running.run(&["health"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (None, "ready\n"), "{}", ran.err);
    let ran = running.run(&["health", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), serde_json::json!({ "ready": true }));

    running.peer.lifecycle.stop();
    let ran = running.run(&["health"]).await;
    assert_eq!(ran.exit, Some(Exit::Unreachable), "it stops: {}", ran.out);
}

#[tokio::test]
async fn login_status_logout() {
    let running = Running::start().await;
    let ran = running.run(&["search", "x"]).await;
    assert_eq!(ran.exit, Some(Exit::Failed), "logged out: {}", ran.err);

    let ran = running.run(&["login", "ana"]).await;
    assert_eq!(ran.exit, None, "{}", ran.err);
    let directory = running.peer.directory.url();
    assert_eq!(
        ran.out.trim_end(),
        format!("logged in as ana at {}", directory.as_str().trim_end_matches('/'))
    );

    let ran = running.run(&["status"]).await;
    assert!(ran.out.contains("logged in as ana") && ran.out.contains(": connected\n"), "{}", ran.out);
    let ran = running.run(&["status", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["username"], "ana");

    assert_eq!(running.run(&["logout"]).await.out, "logged out\n");
    running.peer.directory.go_down().await;
    assert_eq!(running.run(&["login", "ana"]).await.exit, Some(Exit::Unreachable));
    assert_eq!(running.run(&["login"]).await.exit, Some(Exit::Usage), "who?");
    running.peer.lifecycle.finish().await;
}

#[tokio::test]
async fn shares_what_lies_inside_and_sends_what_lies_outside() {
    let running = Running::start().await;
    let share = running.peer.dir.path().join("share");
    std::fs::write(share.join("inside.txt"), "inside").unwrap();
    let ran = running.run(&["share", share.join("inside.txt").to_str().unwrap()]).await;
    let id = ContentId::of(b"inside");
    assert_eq!((ran.exit, ran.out), (None, format!("{id}  6 B  inside.txt\n")));

    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("album");
    std::fs::create_dir_all(folder.join("two")).unwrap();
    std::fs::write(folder.join("1.txt"), "one").unwrap();
    std::fs::write(folder.join("two/2.txt"), "two").unwrap();
    let ran = running.run(&["share", folder.to_str().unwrap(), "--to", "ben", "eve", "--json"]).await;
    assert_eq!(ran.exit, None, "{}", ran.err);
    let shared: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shared[0]["name"], "album/1.txt");
    assert_eq!(shared[1]["name"], "album/two/2.txt");
    // A copy of one of them, for nobody named: it is said whom it is for.
    let copy = share.join("copy.txt");
    std::fs::write(&copy, "two").unwrap();
    let ran = running.run(&["share", copy.to_str().unwrap()]).await;
    assert!(ran.out.ends_with("  3 B  copy.txt  (for ben,eve)\n"), "{}", ran.out);
    assert_eq!(running.run(&["unshare", "copy.txt"]).await.exit, None);

    let ran = running.run(&["files", "album/1"]).await;
    let one = ContentId::of(b"one").to_string();
    insta::assert_snapshot!(ran.out.replace(&one, &"1".repeat(64)).trim_end(), @r"
    CONTENT ID                                                        SIZE  FOR      NAME
    1111111111111111111111111111111111111111111111111111111111111111   3 B  ben,eve  album/1.txt
    ");

    assert_eq!(running.run(&["unshare", "album/1.txt", &id.to_string()]).await.exit, None);
    assert_eq!(running.run(&["unshare", "album/1.txt"]).await.exit, Some(Exit::NotFound));
    let left = running.run(&["files", "--json"]).await.out;
    assert_eq!(left.trim(), "[]");
    assert_eq!(running.run(&["share", "/no/such/file"]).await.exit, Some(Exit::NotFound));
    running.peer.lifecycle.finish().await;
}

fn item(bytes: &[u8], name: &str) -> SearchItem {
    SearchItem {
        content_id: ContentId::of(bytes),
        name: name.to_owned(),
        size: bytes.len() as u64,
        media_type: None,
        holders: 2,
        online: 1,
        complete: false,
    }
}

#[tokio::test]
async fn searches_and_picks() {
    let running = Running::start().await;
    running.run(&["login", "ana"]).await;
    let ran = running.run(&["get", "nothing"]).await;
    assert_eq!(ran.exit, Some(Exit::NotFound), "{}", ran.err);

    running.peer.directory.known.lock().found =
        vec![item(b"x", "a \u{1b}[31m talk.mp4"), SearchItem { online: 0, ..item(b"y", "another talk.mp4") }];
    let ran = running.run(&["search", "talk", "--online", "--min-size", "1KiB"]).await;
    assert!(ran.out.contains("a \\u{1b}[31m talk.mp4") && !ran.out.contains('\u{1b}'), "{}", ran.out);
    assert!(ran.out.contains("1 of 2 online, in part"), "{}", ran.out);
    let off = ran.out.lines().find(|line| line.contains("another talk")).unwrap();
    assert!(off.contains("0 of 2 online  "), "{off}");
    let ran = running.run(&["get", "talk"]).await;
    assert_eq!(ran.exit, Some(Exit::Usage));
    assert!(ran.out.is_empty(), "what is no answer does not look like one: {ran:?}");
    assert!(ran.err.contains("another talk.mp4") && ran.err.contains("several"), "{ran:?}");
    assert!(!ran.err.contains('\u{1b}'), "{}", ran.err);
    assert_eq!(running.run(&["downloads", "--state", "odd"]).await.exit, Some(Exit::Usage));
    assert_eq!(running.run(&["downloads", "--cancel", "a/b"]).await.exit, Some(Exit::NotFound));

    running.peer.directory.go_down().await;
    assert_eq!(running.run(&["search", "talk"]).await.exit, Some(Exit::Unreachable));
    assert_eq!(running.run(&["peers"]).await.exit, Some(Exit::Unreachable));
    running.peer.lifecycle.finish().await;
}

#[tokio::test]
async fn the_token_is_asked_for_and_used() {
    let guard = Guard { loopback: true, allowed_hosts: vec![], token: Some("t0ken".to_owned().into()) };
    let running = Running::guarded(guard).await;
    let ran = run(&["status"], &running.url, &[]).await;
    assert_eq!(ran.exit, Some(Exit::Failed));
    assert!(ran.err.contains("PCLIENT_TOKEN"), "{}", ran.err);
    let ran = run(&["status"], &running.url, &[("PCLIENT_TOKEN", "t0ken")]).await;
    assert_eq!(ran.exit, None, "{}", ran.err);
    running.peer.lifecycle.finish().await;
}

fn member(name: &str, number: u8) -> PeerItem {
    PeerItem {
        peer_id: PeerId::from_bytes([number; 16]),
        username: name.parse().unwrap(),
        endpoints: vec![],
        online: false,
        last_seen: jiff::Timestamp::UNIX_EPOCH,
        sealing_key: String::new(),
        relay: false,
        version: "1".to_owned(),
        files: 0,
    }
}

#[tokio::test]
async fn sends_from_anywhere_and_takes_nothing_from_anybody() {
    let running = Running::start().await;
    running.run(&["login", "ana"]).await;
    let own = PeerItem { peer_id: running.peer.pclient.about.peer_id, ..member("ana", 1) };
    running.peer.directory.known.lock().peers = vec![own, member("ben", 2), member("eve", 3)];
    let outside = tempfile::tempdir().unwrap();
    let note = outside.path().join("note.txt");
    std::fs::write(&note, "a note").unwrap();
    let note = note.to_str().unwrap();

    assert_eq!(running.run(&["send", note, "--to", "nobody"]).await.exit, Some(Exit::NotFound));
    assert_eq!(
        running.run(&["send", note, "--to", "ana"]).await.exit,
        Some(Exit::Failed),
        "to this very machine"
    );
    assert_eq!(running.run(&["send", "/no/such/file", "--to", "ben"]).await.exit, Some(Exit::NotFound));
    assert_eq!(running.peer.pclient.library.totals(), (0, 0), "nothing is shared for nobody");

    let ran = running.run(&["send", note, "--to", "ben"]).await;
    let waits = "note.txt  6 B  to ben  waiting: ben is offline\n";
    assert_eq!((ran.exit, ran.out.as_str()), (None, waits), "{}", ran.err);
    let audience = |id: ContentId| running.peer.pclient.library.get(&id).unwrap().audience.clone();
    let users = |names: &[&str]| Audience::Users(names.iter().map(|name| name.parse().unwrap()).collect());
    let id = ContentId::of(b"a note");
    assert_eq!(audience(id), users(&["ben"]));
    // To somebody else, by the same bytes under another name: ben keeps it, and there is no second copy.
    let copy = outside.path().join("copy.txt");
    std::fs::write(&copy, "a note").unwrap();
    let ran = running.run(&["send", copy.to_str().unwrap(), "--to", "ben,eve"]).await;
    assert_eq!((ran.exit, ran.err.as_str()), (None, "note.txt is for eve too from now on\n"));
    assert_eq!(ran.out.lines().count(), 2);
    assert_eq!(audience(id), users(&["ben", "eve"]));
    assert_eq!(running.peer.pclient.library.totals().0, 1);

    // What everybody may have stays so; what lies in a shared folder is sent from there.
    let inside = running.peer.dir.path().join("share/open.txt");
    std::fs::write(&inside, "open").unwrap();
    let inside = inside.to_str().unwrap();
    running.run(&["share", inside]).await;
    running.run(&["send", inside, "--to", "ben"]).await;
    assert_eq!(audience(ContentId::of(b"open")), Audience::Network);

    let sent = running.run(&["offers", "--sent", "--json"]).await.out;
    let sent: Value = serde_json::from_str(&sent).unwrap();
    let names: Vec<&str> =
        sent.as_array().unwrap().iter().map(|offer| offer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["open.txt", "note.txt", "note.txt"]);

    let many = outside.path().join("many");
    std::fs::create_dir(&many).unwrap();
    for number in 0..101 {
        std::fs::write(many.join(number.to_string()), [number]).unwrap();
    }
    let ran = running.run(&["send", many.to_str().unwrap(), "--to", "ben"]).await;
    assert_eq!(ran.exit, Some(Exit::Usage), "{}", ran.err);
    assert!(ran.err.contains("101 files"), "{}", ran.err);
    running.peer.directory.go_down().await;
    assert_eq!(running.run(&["send", note, "--to", "ben"]).await.exit, Some(Exit::Unreachable));
    running.peer.lifecycle.finish().await;
}

#[tokio::test]
async fn offers_are_listed_and_answered() {
    let running = Running::start().await;
    running.run(&["login", "ana"]).await;
    for (number, name) in [(1, "film.mp4"), (2, "trip/beach.jpg")] {
        let (peer_id, username) = (PeerId::from_bytes([9; 16]), "ben".parse().unwrap());
        let caller = Caller { peer_id, username, path: FetchPath::Direct };
        let offer = wire::proto::OfferRequest {
            offer_id: vec![number; 16].into(),
            content_id: ContentId::of(name.as_bytes()).as_bytes().to_vec().into(),
            name: name.to_owned(),
            size: 3 << 20,
        };
        running.peer.pclient.offers.receive(&caller, &offer).await.unwrap();
    }
    let ran = running.run(&["offers"]).await;
    insta::assert_snapshot!(ran.out.trim_end(), @r"
    ID                STATE    FROM      SIZE  NAME            WHY
    0000000000000002  offered  ben   3.00 MiB  trip/beach.jpg
    0000000000000001  offered  ben   3.00 MiB  film.mp4
    ");
    let ran = running.run(&["offers", "accept", "0000000000000001"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (None, "film.mp4: download 0000000000000001\n"), "{}", ran.err);
    let ran = running.run(&["offers", "decline", "0000000000000002", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()[0]["state"], "declined");
    assert_eq!(running.run(&["offers", "accept", "0000000000000002"]).await.exit, Some(Exit::Failed));
    assert_eq!(running.run(&["offers", "accept", "nothing"]).await.exit, Some(Exit::NotFound));
    let left = running.run(&["offers", "--state", "declined", "--json"]).await.out;
    assert_eq!(serde_json::from_str::<Value>(&left).unwrap().as_array().unwrap().len(), 1);
    assert_eq!(running.run(&["offers", "--state", "odd"]).await.exit, Some(Exit::Usage));
    running.peer.lifecycle.finish().await;
}
