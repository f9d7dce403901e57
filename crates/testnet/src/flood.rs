//! [`Flood`]: a crowd that wants a directory to serve nobody else; and [`Honest`], who asks it something meanwhile.
//!
//! The crowd comes from addresses of this machine that are not the honest caller's, as many as it needs to be let in. It
//! is bounded: so many connections, each of which waits a little before it comes again, until [`Flood::end`].

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use daemon::Lifecycle;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// Connections from one address: fewer than a directory lets in.
const PER_ADDRESS: usize = 900;
/// Before a connection that was closed is made anew.
const PAUSE: Duration = Duration::from_millis(500);
/// Before a guesser who was refused tries again.
const BREATH: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(30);

/// How many there are of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Ask once and stay.
    pub idle: usize,
    /// Never say a whole head.
    pub half: usize,
    /// Send a body a byte at a time.
    pub slow: usize,
    /// Try passwords, one after the other.
    pub guessers: usize,
}

/// A crowd at work.
pub struct Flood {
    lifecycle: Lifecycle,
    counts: Arc<Counts>,
}

/// What became of it so far.
#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    guesses: AtomicU64,
    refused: AtomicU64,
}

impl Flood {
    /// Starts it, on the runtime of the caller.
    pub fn start(directory: SocketAddr, crowd: Crowd) -> Self {
        let flood = Self { lifecycle: Lifecycle::new(), counts: Arc::default() };
        let Crowd { idle, half, slow, guessers } = crowd;
        let body = login("somebody", "wrong");
        let kinds = [
            (idle, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), false),
            (half, "GET /healthz HTTP/1.1\r\nhost".to_owned(), false),
            (slow, post("/v1/sessions", "", &body)[..200].to_owned(), true),
        ];
        let addresses = (idle + half + slow).div_ceil(PER_ADDRESS);
        let all = kinds.into_iter().flat_map(|(count, says, drips)| vec![(says, drips); count]);
        for (n, (says, drips)) in all.enumerate() {
            let (counts, from) = (flood.counts.clone(), source(n % addresses));
            flood.lifecycle.spawn("crowd", async move {
                loop {
                    if let Ok(stream) = connect(from, directory).await {
                        counts.open.fetch_add(1, Relaxed);
                        stay(stream, &says, drips).await;
                        counts.open.fetch_sub(1, Relaxed);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        for n in 0..guessers {
            let counts = flood.counts.clone();
            flood.lifecycle.spawn("guesser", async move {
                for attempt in 0_u64.. {
                    let body = login(&format!("user{n}.{attempt}"), "wrong");
                    let caller = Honest { from: source(100 + n), directory, token: String::new() };
                    match caller.ask("POST", "/v1/sessions", &body).await {
                        Ok((401, _)) => counts.guesses.fetch_add(1, Relaxed),
                        _ => {
                            tokio::time::sleep(BREATH).await;
                            counts.refused.fetch_add(1, Relaxed)
                        }
                    };
                }
            });
        }
        flood
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.counts.open.load(Relaxed)
    }

    /// Passwords that were tried and found wrong, and tries that were refused.
    pub fn guesses(&self) -> (u64, u64) {
        (self.counts.guesses.load(Relaxed), self.counts.refused.load(Relaxed))
    }

    /// Everybody goes home.
    pub async fn end(self) {
        self.lifecycle.hard().cancel();
        self.lifecycle.finish().await;
    }
}

/// Keeps a connection for as long as the other side lets it.
async fn stay(mut stream: TcpStream, says: &str, drips: bool) {
    if stream.write_all(says.as_bytes()).await.is_err() {
        return;
    }
    let (mut read, mut write) = stream.split();
    let drip = async {
        if !drips {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if write.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    let listen = async {
        let mut heard = [0; 1024];
        while read.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
    };
    tokio::select! {
        () = drip => {}
        () = listen => {}
    }
}

/// Somebody with an account, who asks from an address of their own, each time on a new connection.
#[derive(Debug, Clone)]
pub struct Honest {
    from: Ipv4Addr,
    directory: SocketAddr,
    token: String,
}

/// Milliseconds that calls took: of half of them, of nearly all, and at most.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    pub calls: usize,
}

impl Honest {
    /// Makes an account, logs in, and announces a file, which is what is asked for then.
    ///
    /// # Errors
    /// What the directory refuses.
    pub async fn join(directory: SocketAddr, name: &str) -> Result<Self, String> {
        let mut caller = Self { from: Ipv4Addr::new(127, 0, 9, 9), directory, token: String::new() };
        let account = json!({ "username": name, "password": PASSWORD }).to_string();
        caller.expect("POST", "/v1/accounts", &account).await?;
        let session = caller.expect("POST", "/v1/sessions", &login(name, PASSWORD)).await?;
        caller.token = session["token"].as_str().unwrap_or_default().to_owned();
        let put = json!({ "content_id": FILE, "name": "the file.txt", "size": 7, "pieces_held": 1 });
        let delta = json!({ "base_revision": 0, "revision": 1, "put": [put] }).to_string();
        caller.expect("POST", "/v1/catalog", &delta).await?;
        Ok(caller)
    }

    /// Asks where the file is, searches for it, and renews the lease, again and again; how long each of them took.
    ///
    /// # Errors
    /// A call that is not answered as it should be.
    pub async fn asks(&self, within: Duration) -> Result<[(&'static str, Times); 3], String> {
        let calls = [
            ("locate", "GET", format!("/v1/files/{FILE}"), String::new()),
            ("search", "GET", "/v1/search?q=file".to_owned(), String::new()),
            ("renew", "PUT", "/v1/sessions/current".to_owned(), "{}".to_owned()),
        ];
        let mut times = [const { Vec::<f64>::new() }; 3];
        let end = Instant::now() + within;
        while Instant::now() < end {
            for ((_, method, path, body), times) in calls.iter().zip(&mut times) {
                let started = Instant::now();
                self.expect(method, path, body).await?;
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut names = calls.iter().map(|(name, ..)| *name);
        Ok(times.map(|times| (names.next().unwrap_or_default(), Times::of(times))))
    }

    async fn expect(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        match self.ask(method, path, body).await {
            Ok((200..300, answer)) => Ok(serde_json::from_str(&answer).unwrap_or_default()),
            Ok((status, answer)) => Err(format!("{method} {path}: {status} {answer}")),
            Err(error) => Err(format!("{method} {path}: {error}")),
        }
    }

    /// Status and body.
    async fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let asked = async {
            let mut stream = connect(self.from, self.directory).await?;
            stream.write_all(request(method, path, &self.token, body).as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
            let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
            Ok((status, body.unwrap_or_default()))
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(std::io::Error::other)?
    }
}

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        Self { p50: at(50), p99: at(99), max: times.last().copied().unwrap_or_default(), calls: times.len() }
    }
}

const PASSWORD: &str = "correct horse";
/// The BLAKE3 hash of something.
const FILE: &str = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f";

/// One of this machine's own addresses.
fn source(n: usize) -> Ipv4Addr {
    let [.., a, b] = (n + 1).to_be_bytes();
    Ipv4Addr::new(127, 1, a, b)
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let connected = tokio::time::timeout(PATIENCE, socket.connect(to)).await;
    connected.map_err(std::io::Error::other)?
}

fn post(path: &str, token: &str, body: &str) -> String {
    request("POST", path, token, body)
}

fn request(method: &str, path: &str, token: &str, body: &str) -> String {
    let authorization =
        if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body of a login that would be good with the right password: what is not well formed costs a directory nothing.
fn login(username: &str, password: &str) -> String {
    static CSR: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    });
    let session = json!({
        "username": username, "password": password, "csr_pem": *CSR, "sealing_key": "0".repeat(64),
        "endpoints": [], "version": "0",
    });
    session.to_string()
}
