//! Ways out on real sockets: what many callers of one peer cost that peer.

use std::{sync::Arc, time::Duration};

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
