//! Measures the directory against its targets, over HTTP on loopback, and prints a table.
//!
//! Builds a catalog of a million holdings through `POST /v1/catalog` (durable, batches of a thousand), then asks
//! `GET /v1/files/{id}` over many keep-alive connections beside a bare axum handler that answers the same bytes, then
//! searches. Client and server share the cores, so quote ratios.
//!
//! `cargo run --release -p directory --example bench_directory -- [ROWS] [FOLDER]`

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a benchmark prints, and its numbers are small"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use content::ContentId;
use daemon::{Clock, Lifecycle};
use directory::{
    App,
    config::{Bounds, Config},
    passwords::Passwords,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 1_000;
const PEERS: usize = 8;
const MEASURED: Duration = Duration::from_millis(500);

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let rows: usize = args.next().map_or(Ok(1_000_000), |rows| rows.parse())?;
    let folder = args.next().map_or_else(|| tempfile_in(&std::env::temp_dir()), std::path::PathBuf::from);
    daemon::metrics::init()?;
    let lifecycle = Lifecycle::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(bench(rows, &folder, &lifecycle));
    runtime.block_on(lifecycle.finish());
    std::fs::remove_dir_all(&folder)?;
    result
}

fn tempfile_in(parent: &std::path::Path) -> std::path::PathBuf {
    parent.join(format!("bench-directory-{:08x}", rand::random::<u32>()))
}

async fn bench(rows: usize, folder: &std::path::Path, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    daemon::metrics::keep_tidy(lifecycle);
    // Counted as always, and refused never.
    let bounds = Bounds { rate_limit: 1_000_000_000, address_rate_limit: 1_000_000_000, ..Bounds::default() };
    let config = Config { lease: Duration::from_secs(24 * 3600), bounds, ..Config::in_folder(folder) };
    let app = App::open(&config, Clock::system(), Passwords::cheap_for_tests()?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = lifecycle.clone();
    lifecycle.spawn("rest", async move { directory::serve(listener, &config, app, &serving).await });

    let mut tokens = Vec::new();
    for n in 0..PEERS {
        tokens.push(log_in(address, n).await?);
    }
    let mut names = Names::new();
    let batches: Vec<Vec<(ContentId, String)>> = (0..rows.div_ceil(BATCH))
        .map(|_| (0..BATCH).map(|_| (ContentId::from_bytes(names.random.random()), names.next())).collect())
        .collect();
    let ids: Arc<[ContentId]> = batches.iter().flatten().map(|(id, _)| *id).collect();

    println!("{:<44} {:>14}", "announce, batches of 1,000, durable", "rows/s");
    announce(address, &tokens, &batches, lifecycle).await?;
    println!("  {:<42} {:>14}", "bytes on disk per row", folder_bytes(folder)? / rows.max(1) as u64);

    // The index is tidied while nobody writes; that is not what is measured next.
    tokio::time::sleep(Duration::from_secs(10)).await;

    let one = Client::connect(address).await?.get(&format!("/v1/files/{}", ids[0]), &tokens[0]).await?;
    let bare = TcpListener::bind("127.0.0.1:0").await?;
    let bare_address = bare.local_addr()?;
    let body = axum::body::Bytes::from(one);
    let handler = move || {
        let body = body.clone();
        async move { ([(http::header::CONTENT_TYPE, "application/json")], body) }
    };
    let router = Router::new().route("/v1/files/{id}", get(handler));
    let serving = lifecycle.clone();
    lifecycle.spawn("bare", async move { daemon::serve::serve(bare, router, None, &serving).await });

    println!(
        "\n{:<24} {:>14} {:>14} {:>8} {:>22}",
        "locate, connections", "requests/s", "bare axum", "ratio", "CPU µs, client too"
    );
    for connections in [16, 64] {
        // In short turns, because the machine is not equally fast all the time; the middle of each is what counts.
        let mut rounds: Vec<(f64, Load, Load)> = Vec::new();
        for _ in 0..9 {
            let theirs = load(bare_address, &tokens[0], &ids, connections, lifecycle).await?;
            let ours = load(address, &tokens[0], &ids, connections, lifecycle).await?;
            rounds.push((ours.per_second / theirs.per_second, ours, theirs));
        }
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, ours, theirs) = rounds[rounds.len() / 2];
        let (rate, bare) = (ours.per_second, theirs.per_second);
        let (cpu, bare_cpu) = (ours.cpu_micros, theirs.cpu_micros);
        println!("  {connections:<22} {rate:>14.0} {bare:>14.0} {ratio:>8.2} {cpu:>12.1} / {bare_cpu:>6.1}");
    }

    let mut client = Client::connect(address).await?;
    let many =
        json!({ "content_ids": ids.iter().step_by((rows / 1000).max(1)).take(1000).collect::<Vec<_>>() })
            .to_string();
    let (p50, p99, _) =
        times(100, &mut client, |_| ("POST", "/v1/files/locate".to_owned(), many.clone()), &tokens[0])
            .await?;
    println!("\n{:<32} {:>10} {:>10} {:>8}", "one request", "p50 ms", "p99 ms", "found");
    println!("  {:<30} {p50:>10.2} {p99:>10.2} {:>8}", "locate 1,000 ids at once", "");
    let mut random = SmallRng::seed_from_u64(7);
    let mut pick = move |words: &[String]| words[random.random_range(0..words.len())].clone();
    let rare: Vec<String> = names.words[2_000..].to_vec();
    let middle: Vec<String> = names.words[100..1_500].to_vec();
    type Make<'a> = Box<dyn FnMut() -> String + 'a>;
    let kinds: Vec<(&str, Make<'_>)> = vec![
        (
            "rare word",
            Box::new({
                let mut pick = pick.clone();
                let rare = rare.clone();
                move || pick(&rare)
            }),
        ),
        (
            "two words",
            Box::new({
                let mut pick = pick.clone();
                let middle = middle.clone();
                move || format!("{}+{}", pick(&middle), pick(&middle))
            }),
        ),
        (
            "substring",
            Box::new({
                let mut pick = pick.clone();
                let middle = middle.clone();
                move || {
                    let w = pick(&middle);
                    w[1..w.len().min(6)].to_owned()
                }
            }),
        ),
        ("two common words", Box::new(|| "lib+photo".to_owned())),
        ("common word `lib`", Box::new(|| "lib".to_owned())),
        (
            "two letters",
            Box::new({
                let mut pick = pick.clone();
                let rare = rare.clone();
                move || pick(&rare)[1..3].to_owned()
            }),
        ),
        ("one letter", Box::new(move || pick(&rare)[..1].to_owned())),
        ("word and filters", Box::new(|| "lib&media_type=video/*&min_size=1048576&online=true".to_owned())),
        ("word and a holder", Box::new(|| "lib&holder=bench3".to_owned())),
        ("nothing: the best held", Box::new(String::new)),
    ];
    for (kind, mut make) in kinds {
        let query = |_| ("GET", format!("/v1/search?q={}", make()), String::new());
        let (p50, p99, found) = times(400, &mut client, query, &tokens[0]).await?;
        println!("  {kind:<30} {p50:>10.2} {p99:>10.2} {found:>8.1}");
    }
    Ok(())
}

async fn announce(
    address: std::net::SocketAddr,
    tokens: &[String],
    batches: &[Vec<(ContentId, String)>],
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    // Ready-made bodies: what is measured is the directory, not this client.
    let mut random = SmallRng::seed_from_u64(3);
    let mut bodies: Vec<Vec<String>> = vec![Vec::new(); tokens.len()];
    for (n, batch) in batches.iter().enumerate() {
        let of_peer = &mut bodies[n % tokens.len()];
        let put: Vec<Value> = batch
            .iter()
            .map(|(id, name)| {
                let media_type = mime(name);
                let size: u64 = 1 << random.random_range(8..34);
                let size = size + random.random_range(0..size);
                let pieces = content::Layout::new(size).map_or(1, content::Layout::count);
                json!({ "content_id": id, "name": name, "size": size, "media_type": media_type, "pieces_held": pieces })
            })
            .collect();
        let base = of_peer.len();
        of_peer.push(
            json!({ "base_revision": base, "revision": base + 1, "put": put, "remove": [] }).to_string(),
        );
    }
    let quarter = (batches.len() / 4).max(1);
    let (done, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = Vec::new();
    for (token, bodies) in tokens.iter().cloned().zip(bodies) {
        let done = done.clone();
        tasks.push(lifecycle.spawn("announcer", async move {
            let mut client = Client::connect(address).await?;
            for body in bodies {
                client.call("POST", "/v1/catalog", &token, &body).await?;
                let batches = done.fetch_add(1, Relaxed) + 1;
                if (batches as usize).is_multiple_of(quarter) {
                    let rows = batches as usize * BATCH;
                    println!(
                        "  {:<42} {:>14.0}",
                        format!("the first {rows}"),
                        rows as f64 / started.elapsed().as_secs_f64()
                    );
                }
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await?.unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// What so many connections get done.
async fn load(
    address: std::net::SocketAddr,
    token: &str,
    ids: &Arc<[ContentId]>,
    connections: usize,
    lifecycle: &Lifecycle,
) -> anyhow::Result<Load> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for n in 0..connections {
        let (stop, ids, token) = (stop.clone(), ids.clone(), token.to_owned());
        tasks.push(lifecycle.spawn("asker", async move {
            let mut client = Client::connect(address).await?;
            let mut random = SmallRng::seed_from_u64(n as u64);
            let mut requests = 0_u64;
            while !stop.load(Relaxed) {
                let id = ids[random.random_range(0..ids.len())];
                client.get(&format!("/v1/files/{id}"), &token).await?;
                requests += 1;
            }
            anyhow::Ok(requests)
        }));
    }
    let (started, cpu) = (Instant::now(), cpu_seconds()?);
    tokio::time::sleep(MEASURED).await;
    stop.store(true, Relaxed);
    let mut requests = 0;
    for task in tasks {
        requests += task.await?.unwrap_or(Ok(0))?;
    }
    Ok(Load {
        per_second: requests as f64 / started.elapsed().as_secs_f64(),
        cpu_micros: (cpu_seconds()? - cpu) * 1e6 / requests as f64,
    })
}

#[derive(Clone, Copy)]
struct Load {
    per_second: f64,
    /// Of the whole process, for each request. Hardly moves when the machine has other work.
    cpu_micros: f64,
}

/// User and system time of this process, as Linux tells it, in hundredths.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// Milliseconds of `count` requests one after the other: half, nearly all, and the mean number of items.
async fn times(
    count: usize,
    client: &mut Client,
    mut make: impl FnMut(usize) -> (&'static str, String, String),
    token: &str,
) -> anyhow::Result<(f64, f64, f64)> {
    let mut times = Vec::new();
    let mut found = 0;
    for n in 0..count {
        let (method, path, body) = make(n);
        let started = Instant::now();
        let answer = client.call(method, &path, token, &body).await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        let answer: Value = serde_json::from_slice(&answer)?;
        found += answer["items"].as_array().map_or(0, Vec::len);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[count / 2], times[count * 99 / 100], found as f64 / count as f64))
}

async fn log_in(address: std::net::SocketAddr, n: usize) -> anyhow::Result<String> {
    let mut client = Client::connect(address).await?;
    let username = format!("bench{n}");
    let account = json!({ "username": username, "password": "correct horse" }).to_string();
    client.call("POST", "/v1/accounts", "", &account).await?;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let csr = rcgen::CertificateParams::new(Vec::new())?.serialize_request(&key)?.pem()?;
    let session = json!({
        "username": username, "password": "correct horse", "csr_pem": csr, "sealing_key": "0".repeat(64),
        "endpoints": ["127.0.0.1:50051"], "version": "0",
    });
    let reply = client.call("POST", "/v1/sessions", "", &session.to_string()).await?;
    let reply: Value = serde_json::from_slice(&reply)?;
    Ok(reply["token"].as_str().unwrap_or_default().to_owned())
}

/// HTTP/1.1 with keep-alive, and no more than that: it costs next to nothing beside the server.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    async fn get(&mut self, path: &str, token: &str) -> anyhow::Result<Vec<u8>> {
        self.call("GET", path, token, "").await
    }

    async fn call(&mut self, method: &str, path: &str, token: &str, body: &str) -> anyhow::Result<Vec<u8>> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        if !body.is_empty() {
            self.stream.write_all(body.as_bytes()).await?;
        }
        self.buffer.clear();
        let head_end = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                anyhow::bail!("the connection ended");
            }
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).to_ascii_lowercase();
        let length: usize = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(Ok(0), |length| length.trim().parse())?;
        while self.buffer.len() < head_end + length {
            self.stream.read_buf(&mut self.buffer).await?;
        }
        let answer = self.buffer[head_end..].to_vec();
        if !head.starts_with("http/1.1 2") {
            anyhow::bail!("{method} {path}: {head} {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }
}

/// Names as they lie on disks: folders, words that are common and rare, numbers, extensions.
struct Names {
    random: SmallRng,
    words: Vec<String>,
    n: u64,
}

impl Names {
    fn new() -> Self {
        let mut random = SmallRng::seed_from_u64(42);
        let common = ["lib", "photo", "data", "test", "report", "video", "song", "backup", "final", "draft"];
        let syllables = [
            "ba", "ler", "to", "min", "ka", "sor", "ve", "nit", "du", "pal", "ro", "gen", "fi", "stra", "mo",
            "chi", "lu", "ten", "ja", "wer", "co", "dra", "ple", "xi", "hon", "que", "sta", "bri", "zo",
            "yan",
        ];
        let mut words: Vec<String> = common.iter().map(|word| (*word).to_owned()).collect();
        while words.len() < 20_000 {
            let parts = random.random_range(2..5);
            words.push((0..parts).map(|_| syllables[random.random_range(0..syllables.len())]).collect());
        }
        Self { random, words, n: 0 }
    }

    /// Some words are much more common than others.
    fn word(&mut self) -> String {
        let skew: f64 = self.random.random();
        let at = (skew.powi(4) * self.words.len() as f64) as usize;
        self.words[at.min(self.words.len() - 1)].clone()
    }

    fn next(&mut self) -> String {
        self.n += 1;
        let extension =
            ["mp4", "jpg", "pdf", "tar.gz", "so", "txt", "flac", "csv"][self.random.random_range(0..8)];
        let year = self.random.random_range(1990..2027);
        let (a, b, c) = (self.word(), self.word(), self.word());
        match self.n % 4 {
            0 => format!("{a}/{b}_{c}_{:06}.{extension}", self.n),
            1 => format!("{a} {b} ({year}) {:05}.{extension}", self.n % 100_000),
            2 => format!("{a}/{year}/IMG_{:07}.{extension}", self.n),
            _ => format!("lib{a}-{b}-{}.{}.{}.{extension}", self.n % 7, self.n % 31, self.n),
        }
    }
}

fn mime(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next()? {
        "mp4" => "video/mp4",
        "jpg" => "image/jpeg",
        "pdf" => "application/pdf",
        "gz" => "application/gzip",
        "txt" => "text/plain",
        "flac" => "audio/flac",
        "csv" => "text/csv",
        _ => return None,
    })
}

fn folder_bytes(folder: &std::path::Path) -> anyhow::Result<u64> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}
