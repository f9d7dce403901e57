//! Ways out on real sockets: what many callers of one peer cost that peer.

use std::{io, sync::Arc, time::Duration};

use daemon::Lifecycle;
use tokio::{net::TcpListener, time::timeout};
use wire::PeerId;

use super::*;
use crate::{identity::Identity, tls::tests::Authority};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn many_who_wait_for_one_peer_do_not_each_try_it() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Arc::new(Identity::open(dir.path()).unwrap());
    let authority = Authority::new();
    let tls = NetworkTls::new(identity.clone());
    tls.install(&authority.issue(&identity, identity.peer_id(), "ana"), &authority.pem).unwrap();
    let lifecycle = Lifecycle::new();
    let links = Links::new(tls, None, Reversals::default(), &lifecycle);

    // Somebody who hangs up on everybody.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = vec![listener.local_addr().unwrap().to_string()];
    let target = Target {
        peer_id: PeerId::from_bytes([7; 16]),
        username: "ben".parse().unwrap(),
        endpoints,
        sealing_key: String::new(),
    };
    let hanging_up = async {
        let mut connections = 0;
        while listener.accept().await.is_ok() {
            connections += 1;
            if connections > 2 {
                break;
            }
        }
        connections
    };
    let asking = futures::future::join_all((0..20).map(|_| links.get(&target, 0)));
    let asked = tokio::select! {
        connections = hanging_up => panic!("it was tried {connections} times"),
        asked = timeout(PATIENCE, asking) => asked.unwrap(),
    };
    assert!(asked.iter().all(|link| matches!(link, Err(LinkError::Unreachable(_)))), "{asked:?}");
    drop(links);
    lifecycle.finish().await;
}

/// What the log says.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_way_that_ends_is_told_with_its_reason_and_the_log_has_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Arc::new(Identity::open(dir.path()).unwrap());
    let authority = Authority::new();
    let tls = NetworkTls::new(identity.clone());
    tls.install(&authority.issue(&identity, identity.peer_id(), "ana"), &authority.pem).unwrap();
    let lifecycle = Lifecycle::new();
    let links = Links::new(tls, None, Reversals::default(), &lifecycle);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let target = Target {
        peer_id: PeerId::from_bytes([7; 16]),
        username: "ben".parse().unwrap(),
        endpoints: vec![nobody.clone()],
        sealing_key: String::new(),
    };
    assert_eq!(links.way(&target, true), (PeerPath::Direct, None), "until it was tried");
    assert_eq!(links.way(&target, false), (PeerPath::Offline, None));

    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let told = |links: &Links| links.lines(target.peer_id).told.lock().replace(PeerPath::Direct);
    assert_eq!(told(&links), None);
    for _ in 0..2 {
        assert!(links.get(&target, 0).await.is_err());
    }
    let (path, why) = links.way(&target, true);
    assert_eq!(path, PeerPath::Offline);
    let why = why.unwrap();
    assert!(why.starts_with(&format!("its address could not be reached ({nobody}: ")), "{why}");
    assert!(why.ends_with("; there is no relay"), "{why}");
    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let [line] =
        text.lines().filter(|line| line.contains("another way leads to a peer")).collect::<Vec<_>>()[..]
    else {
        panic!("not one line: {text}")
    };
    assert!(line.contains("INFO") && line.contains("path=\"offline\""), "{line}");
    assert!(line.contains("reason=\"it could not be reached\""), "{line}");
    assert!(!text.contains(&nobody), "{text}");
    drop(links);
    lifecycle.finish().await;
}
