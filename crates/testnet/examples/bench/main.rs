//! The data path measured as its user would: real programs, one process each, RAM disk to RAM disk.
//!
//! Machines are noisy, so every table prints what else this machine does with the same bytes in the same run. CPU is
//! the sum over all processes that took part, in seconds.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]

mod files;
mod flood;
mod others;
mod program;
mod relay;

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use self::program::Program;

const MIB: u64 = 1 << 20;
const RUNS: usize = 3;
/// MiB: the most that one measured stretch writes, and what it needs beside.
const WARM: u64 = 2560;
const DEADLINE: Duration = Duration::from_secs(300);

fn main() -> anyhow::Result<()> {
    let mut programs = PathBuf::from("target/release");
    let mut wanted = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--programs" => programs = args.next().context("--programs FOLDER")?.into(),
            _ => wanted.push(arg),
        }
    }
    let all = wanted.is_empty();
    let wants = |what: &str| all || wanted.iter().any(|one| one == what);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _only_once = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
    let bench = Bench { programs, root: ram_disk()?, runtime, client };
    if wants("one") {
        bench.one()?;
    }
    if wants("swarm") {
        bench.swarm()?;
    }
    if wants("three") {
        bench.three()?;
    }
    if wants("small") {
        bench.small()?;
    }
    if wants("memory") {
        bench.memory()?;
    }
    if wants("relay") {
        bench.relay()?;
    }
    if wants("reversed") {
        bench.reversed()?;
    }
    if wants("hash") {
        run(Command::new(bench.programs.join("examples/bench_hash")))?;
    }
    if wants("directory") {
        run(Command::new(bench.programs.join("examples/bench_directory")))?;
    }
    if wants("flood") {
        bench.flood()?;
    }
    fs::remove_dir_all(&bench.root)?;
    Ok(())
}

struct Bench {
    programs: PathBuf,
    root: PathBuf,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

/// What a measured stretch took.
struct Cost {
    seconds: f64,
    cpu: f64,
}

fn ram_disk() -> anyhow::Result<PathBuf> {
    let root = Path::new("/dev/shm").join(format!("trueque-bench-{}", std::process::id()));
    fs::create_dir_all(&root).context("the benchmark wants /dev/shm")?;
    Ok(root)
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

impl Bench {
    fn directory(&self) -> anyhow::Result<Program> {
        let settings = [("DIRECTORY_LISTEN", "127.0.0.1:0".to_owned())];
        Program::start(
            &self.programs.canonicalize()?.join("directory"),
            &self.root.join("directory"),
            &settings,
            1,
        )
    }

    fn peer(&self, directory: &Program, name: &str) -> anyhow::Result<Program> {
        self.peer_with(directory, name, &[])
    }

    /// A peer with settings of its own, which come before the usual ones.
    fn peer_with(&self, directory: &Program, name: &str, own: &[(&str, String)]) -> anyhow::Result<Program> {
        let mut settings = vec![
            ("PEER_DIRECTORY", directory.urls[0].clone()),
            ("PEER_USERNAME", name.to_owned()),
            ("PEER_PASSWORD", "a long password".to_owned()),
            ("PSERVER_LISTEN", "127.0.0.1:0".to_owned()),
            ("PCLIENT_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        settings.extend_from_slice(own);
        let takes_calls = !own.contains(&("PSERVER_LISTEN", "off".to_owned()));
        let folder = self.root.join(name);
        fs::create_dir_all(folder.join("share"))?;
        let peer = Program::start(
            &self.programs.canonicalize()?.join("peer"),
            &folder,
            &settings,
            1 + usize::from(takes_calls),
        )?;
        self.wait("a login", || Ok(self.get(&peer, "/v1/status")?["directory"]["connected"] == true))?;
        Ok(peer)
    }

    fn call(&self, method: &str, url: String, body: Option<Value>) -> anyhow::Result<Value> {
        self.runtime.block_on(async {
            let mut request = self.client.request(method.parse()?, url);
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let text = request.send().await?.text().await?;
            Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
        })
    }

    fn get(&self, peer: &Program, path: &str) -> anyhow::Result<Value> {
        self.call("GET", format!("{}{path}", peer.pclient()), None)
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let end = Instant::now() + DEADLINE;
        while !is_so()? {
            ensure!(Instant::now() < end, "still waiting for {what}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits until the directory knows everything that the peer shares.
    fn announced(&self, peer: &Program, files: u64) -> anyhow::Result<()> {
        self.wait("an announcement", || {
            let status = self.get(peer, "/v1/status")?;
            let shared = &status["shared"];
            Ok(shared["files"].as_u64() >= Some(files) && shared["announced"] == true)
        })
    }

    fn fetch(&self, peer: &Program, id: &str) -> anyhow::Result<String> {
        let body = json!({ "content_id": id });
        let download = self.call("POST", format!("{}/v1/downloads", peer.pclient()), Some(body))?;
        download["id"].as_str().map(str::to_owned).with_context(|| download.to_string())
    }

    fn done(&self, peer: &Program, id: &str) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        self.wait("a download", || {
            last = self.get(peer, &format!("/v1/downloads/{id}"))?;
            if last["state"] == "failed" {
                bail!("{last}");
            }
            Ok(last["state"] == "done")
        })?;
        Ok(last)
    }

    /// Fills and frees as much of the RAM disk as the work will write. A virtual machine is given its memory when it is
    /// first touched, at a third of the speed of writing: without this the host is measured.
    fn warm(&self, mib: u64) -> anyhow::Result<()> {
        let path = self.root.join("warm.bin");
        std::io::copy(&mut std::io::repeat(1).take(mib * MIB), &mut File::create(&path)?)?;
        Ok(fs::remove_file(path)?)
    }

    fn measured(
        &self,
        programs: &[&Program],
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Cost> {
        let cpu = || programs.iter().map(|program| program.cpu()).sum::<anyhow::Result<f64>>();
        let before = cpu()?;
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Cost { seconds, cpu: cpu()? - before })
    }

    fn sample(&self, owner: &Program, name: &str, mib: u64) -> anyhow::Result<(PathBuf, String)> {
        let path = owner.folder.join("share").join(name);
        random_file(&path, mib)?;
        Ok((path, self.shared(owner, name)?))
    }

    /// Waits until a file is shared and announced, and says under which content id.
    fn shared(&self, owner: &Program, name: &str) -> anyhow::Result<String> {
        let mut id = String::new();
        self.wait("the sample to be shared", || {
            let files = self.get(owner, &format!("/v1/files?q={name}"))?;
            id = files["items"][0]["content_id"].as_str().unwrap_or_default().to_owned();
            Ok(!id.is_empty() && self.get(owner, "/v1/status")?["shared"]["announced"] == true)
        })?;
        Ok(id)
    }

    fn clear(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.root)?;
        fs::create_dir_all(&self.root)?;
        Ok(())
    }
}

fn random_file(path: &Path, mib: u64) -> anyhow::Result<()> {
    // Outside the shared folder until it is whole, so that it is hashed once.
    let half = path.parent().and_then(Path::parent).context("no folder")?.join("half.bin");
    let mut file = File::create(&half)?;
    std::io::copy(&mut File::open("/dev/urandom")?.take(mib * MIB), &mut file)?;
    fs::rename(half, path)?;
    Ok(())
}

fn row(name: &str, bytes: u64, seconds: f64, cpu: f64, what: &str) {
    let cpu = if cpu > 0.0 { format!("{cpu:.1}") } else { "–".to_owned() };
    println!("{name:<34} {:>6.0}   {cpu:>5}   {what}", bytes as f64 / 1e6 / seconds);
}
