//! Clients that take their time, on real sockets: each is hung up on, and none is in another's way.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what goes wrong should end the test, there")]

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use daemon::{
    Lifecycle,
    serve::{Limits, serve_within},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const HEADERS: Duration = Duration::from_millis(400);
const IDLE: Duration = Duration::from_millis(1_200);
const PATIENCE: Duration = Duration::from_secs(20);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

async fn server(connections: usize, router: Router) -> (SocketAddr, Lifecycle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lifecycle = Lifecycle::new();
    let serving = lifecycle.clone();
    let limits = Limits { headers: HEADERS, idle: IDLE, connections };
    lifecycle.spawn("server", async move {
        serve_within(listener, router, None, limits, &serving).await.unwrap();
    });
    (address, lifecycle)
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

async fn says(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Everything that is still to come, until the other side hangs up.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // A reset is an end too.
    let _how = read.expect("it should hang up");
    all
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    while !all.ends_with(b"hello") {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut all)).await.expect("an answer");
        assert_ne!(read.unwrap(), 0, "{}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn half_a_request_is_not_waited_for() {
    let (address, lifecycle) = server(100, hello()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    for half in [b"".as_slice(), b"GET /hea", b"GET / HTTP/1.1\r\nhost: x\r\n", preface, &preface[..9]] {
        let mut stream = says(address, half).await;
        let got = rest(&mut stream).await;
        // An HTTP/2 server speaks first.
        assert!(got.is_empty() || half.starts_with(b"PRI"), "{}", String::from_utf8_lossy(&got));
    }
    // Also where an answer came before it.
    let mut stream = says(address, REQUEST).await;
    answer(&mut stream).await;
    stream.write_all(b"GET /again").await.unwrap();
    assert!(rest(&mut stream).await.is_empty());
    lifecycle.finish().await;
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request_and_not_for_ever() {
    let slow = || async {
        tokio::time::sleep(IDLE * 2).await;
        "hello"
    };
    let (address, lifecycle) = server(100, hello().route("/slow", get(slow))).await;
    let mut stream = says(address, REQUEST).await;
    answer(&mut stream).await;
    // Longer than a head may take: none has begun.
    tokio::time::sleep(HEADERS * 2).await;
    stream.write_all(REQUEST).await.unwrap();
    answer(&mut stream).await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"), "an answer has its own time");
    assert!(rest(&mut stream).await.is_empty());
    lifecycle.finish().await;
}

#[tokio::test]
async fn connections_are_bounded_and_silent_ones_make_room() {
    const MOST: usize = 8;
    let (address, lifecycle) = server(MOST, hello()).await;
    let mut silent = Vec::new();
    for _ in 0..MOST {
        silent.push(says(address, b"").await);
    }
    // Whoever is one too many is told at once, by a closed connection.
    let mut refused = TcpStream::connect(address).await.unwrap();
    assert!(rest(&mut refused).await.is_empty());
    for stream in &mut silent {
        rest(stream).await;
    }
    let mut stream = says(address, REQUEST).await;
    answer(&mut stream).await;
    lifecycle.finish().await;
}

#[tokio::test]
async fn many_silent_connections_are_in_nobodys_way() {
    let (address, lifecycle) = server(2_000, hello()).await;
    let mut silent = Vec::new();
    for _ in 0..1_500 {
        silent.push(says(address, b"").await);
    }
    let mut stream = says(address, REQUEST).await;
    answer(&mut stream).await;
    drop(silent);
    lifecycle.finish().await;
}
