//! Clients that take their time, or more than their share, on real sockets: each is hung up on and counted, and none is in
//! another's way.
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
    let limits = Limits { connections, per_address: connections, ..limits() };
    server_within(limits, router).await
}

fn limits() -> Limits {
    Limits { headers: HEADERS, idle: IDLE, ..Limits::default() }
}

async fn server_within(limits: Limits, router: Router) -> (SocketAddr, Lifecycle) {
    daemon::metrics::init().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lifecycle = Lifecycle::new();
    let serving = lifecycle.clone();
    lifecycle.spawn("server", async move {
        serve_within(listener, router, None, limits, &serving).await.unwrap();
    });
    (address, lifecycle)
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

/// How often something was refused for this reason.
fn refused(reason: &str) -> u64 {
    let line = format!("trueque_refusals_total{{reason=\"{reason}\"}} ");
    let metrics = daemon::metrics::render();
    metrics.lines().find_map(|text| text.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

/// A connection that comes from another address of this machine.
async fn connect_from(last: u8, address: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(address).await.unwrap()
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
    assert!(refused("headers") >= 3);
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
    daemon::metrics::init().unwrap();
    let (address, lifecycle) = server(MOST, hello()).await;
    let before = refused("connections");
    let mut silent = Vec::new();
    for _ in 0..MOST {
        silent.push(says(address, b"").await);
    }
    // Whoever is one too many is told at once, by a closed connection.
    let mut one_more = TcpStream::connect(address).await.unwrap();
    assert!(rest(&mut one_more).await.is_empty());
    assert!(refused("connections") > before);
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

#[tokio::test]
async fn one_address_takes_its_share_and_others_are_served() {
    let (address, lifecycle) = server_within(Limits { per_address: 5, ..limits() }, hello()).await;
    let mut greedy = Vec::new();
    for _ in 0..5 {
        greedy.push(says(address, b"").await);
    }
    let mut one_more = TcpStream::connect(address).await.unwrap();
    assert!(rest(&mut one_more).await.is_empty());
    assert!(refused("connections of one address") >= 1);
    let mut other = connect_from(2, address).await;
    other.write_all(REQUEST).await.unwrap();
    answer(&mut other).await;
    lifecycle.finish().await;
}

#[tokio::test]
async fn heads_are_bounded_in_size_and_in_number() {
    let (address, lifecycle) = server(100, hello()).await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(40 << 10));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(40 << 10));
    for (n, head) in [large, many, long].into_iter().enumerate() {
        let mut stream = says(address, head.as_bytes()).await;
        let got = String::from_utf8(rest(&mut stream).await).unwrap();
        // The bytes that nobody read may cost the client the answer.
        assert!(
            got.is_empty() || got.starts_with("HTTP/1.1 431") || got.starts_with("HTTP/1.1 414"),
            "{n}: {got}"
        );
    }
    assert!(refused("large headers") >= 3);
    lifecycle.finish().await;
}

#[tokio::test]
async fn who_reads_nothing_of_an_answer_is_hung_up_on() {
    let large = || async { "x".repeat(64 << 20) };
    let router = hello().route("/large", get(large));
    let (address, lifecycle) = server_within(Limits { stalled: HEADERS, ..limits() }, router).await;
    let mut stream = says(address, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    counted("stalled").await;
    assert!(rest(&mut stream).await.len() < 64 << 20);
    lifecycle.finish().await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up_where_it_has_a_limit() {
    let never = || std::future::pending::<&str>();
    let router = hello().route("/never", get(never));
    let (address, lifecycle) = server_within(Limits { answer: Some(HEADERS), ..limits() }, router).await;
    let mut stream = says(address, b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(rest(&mut stream).await.is_empty());
    assert!(refused("slow answer") >= 1);
    lifecycle.finish().await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `GET / HTTP/2`, of a host `x`.
const GET: &[u8] = b"\x82\x84\x86\x41\x01x";
const HEADERS_FRAME: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

/// Sends all of it, or what the server takes of it; back when it has hung up.
async fn floods(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut heard = Vec::new();
    let flood = async {
        let _cut_short = write.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = flood => {}
        read = tokio::time::timeout(PATIENCE, read.read_to_end(&mut heard)) => {
            let _how = read.expect("it should hang up");
        }
    }
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_are_a_flood() {
    let limits = Limits { idle: PATIENCE * 2, ..limits() };
    let (address, lifecycle) = server_within(limits, hello()).await;
    let mut flood = PREFACE.to_vec();
    for stream in (1..4_000).step_by(2) {
        flood.extend(frame(HEADERS_FRAME, 5, stream, GET));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    floods(address, &flood).await;
    assert!(refused("http2 flood") >= 1);
    lifecycle.finish().await;
}

#[tokio::test]
async fn a_head_without_end_is_a_flood() {
    let limits = Limits { headers: PATIENCE * 2, idle: PATIENCE * 2, ..limits() };
    let (address, lifecycle) = server_within(limits, hello()).await;
    let mut flood = PREFACE.to_vec();
    flood.extend(frame(HEADERS_FRAME, 1, 1, GET));
    let more = frame(CONTINUATION, 0, 1, b"\0\x01a\x01b");
    flood.extend(more.repeat(100_000));
    floods(address, &flood).await;
    assert!(refused("http2 flood") >= 1);
    lifecycle.finish().await;
}

/// Waits until something was refused for this reason.
async fn counted(reason: &str) {
    let patience = tokio::time::Instant::now() + PATIENCE;
    while refused(reason) == 0 {
        assert!(tokio::time::Instant::now() < patience, "{reason}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
