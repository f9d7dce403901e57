//! What needs no broker: one that says nothing, and one that is not there.

use std::time::{Duration, Instant};

use tokio::{io::AsyncReadExt, net::TcpListener};

use super::*;
use crate::directory_link::LinkState;

const ANA: PeerId = PeerId::from_bytes([0xa1; 16]);

fn start(url: &str, lifecycle: &Lifecycle) -> (Broker, Deliveries, watch::Sender<LinkStatus>) {
    let state = LinkState::LoggedOut { why: None };
    let (said, link) = watch::channel(LinkStatus { username: None, state, broker: None });
    let setting = AmqpSetting::At(url.to_owned().into());
    let (broker, deliveries) =
        Broker::start(BrokerParts { own_id: ANA, setting, link, clock: Clock::system() }, lifecycle);
    (broker, deliveries, said)
}

/// The client's threads, one for each connection.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "lapin-io-loop").count()
}

/// The client would keep a thread for each of these connections, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_leaves_nothing_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lifecycle = Lifecycle::new();
    let url = format!("amqp://{}", listener.local_addr().unwrap());
    let (broker, _deliveries, _said) = start(&url, &lifecycle);
    let (mut one, _) = listener.accept().await.unwrap();
    let (mut other, _) = listener.accept().await.unwrap();
    for socket in [&mut one, &mut other] {
        let mut greeting = [0; 8];
        socket.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, *b"AMQP\x00\x00\x09\x01");
    }
    assert_eq!(threads(), 2);
    let started = Instant::now();
    lifecycle.finish().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    for socket in [&mut one, &mut other] {
        assert_eq!(socket.read(&mut [0]).await.unwrap(), 0, "it is closed");
    }
    while threads() > 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "a thread is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*broker.state().borrow(), RelayState::Off { why: "the peer is stopping" });
}

#[tokio::test]
async fn one_that_is_off_says_why() {
    let (broker, mut deliveries) = Broker::off(ANA, "no reason");
    let message = Outgoing {
        to: ANA,
        route: super::super::message::Route::Live,
        message_id: [0; 16],
        correlation_id: None,
        answer_to: None,
        expires: None,
        trace: None,
        body: bytes::Bytes::new(),
    };
    let refused = broker.publish(message).await.unwrap_err();
    assert_eq!(refused, PublishError::NotConnected("no reason".to_owned()));
    assert!(deliveries.live.recv().await.is_none());
}
