//! The data path measured as its user would: real programs, one process each, RAM disk to RAM disk.
//!
//! Machines are noisy, so every table prints what else this machine does with the same bytes in the same run. CPU is
//! the sum over all processes that took part, in seconds.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

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
    if wants("hash") {
        run(Command::new(bench.programs.join("examples/bench_hash")))?;
    }
    if wants("directory") {
        run(Command::new(bench.programs.join("examples/bench_directory")))?;
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

/// A directory or peer that runs. Killed when dropped.
struct Program {
    child: Child,
    urls: Vec<String>,
    folder: PathBuf,
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

impl Program {
    fn start(
        program: &Path,
        folder: &Path,
        settings: &[(&str, String)],
        lines: usize,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let log = File::create(folder.join("log"))?;
        let mut child = Command::new(program)
            .current_dir(folder)
            .env_clear()
            .env("RUST_LOG", "warn")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let mut out = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut urls = Vec::new();
        for _ in 0..lines {
            let mut line = String::new();
            out.read_line(&mut line)?;
            urls.push(line.trim().rsplit(' ').next().unwrap_or_default().to_owned());
        }
        Ok(Self { child, urls, folder: folder.to_owned() })
    }

    fn cpu(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        Ok((ticks(11) + ticks(12)) / 100.0)
    }

    /// `VmRSS` or `VmHWM`, in MiB.
    fn memory(&self, what: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(what)).context("no such line in /proc")?;
        Ok(line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
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
        let settings = [
            ("PEER_DIRECTORY", directory.urls[0].clone()),
            ("PEER_USERNAME", name.to_owned()),
            ("PEER_PASSWORD", "a long password".to_owned()),
            ("PSERVER_LISTEN", "127.0.0.1:0".to_owned()),
            ("PCLIENT_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        let folder = self.root.join(name);
        fs::create_dir_all(folder.join("share"))?;
        let peer = Program::start(&self.programs.canonicalize()?.join("peer"), &folder, &settings, 2)?;
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
        self.call("GET", format!("{}{path}", peer.urls[1]), None)
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
        let download = self.call("POST", format!("{}/v1/downloads", peer.urls[1]), Some(body))?;
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
        self.announced(owner, 1)?;
        let mut id = String::new();
        self.wait("the sample to be shared", || {
            let files = self.get(owner, &format!("/v1/files?q={name}"))?;
            id = files["items"][0]["content_id"].as_str().unwrap_or_default().to_owned();
            Ok(!id.is_empty() && self.get(owner, "/v1/status")?["shared"]["announced"] == true)
        })?;
        Ok((path, id))
    }

    fn one(&self) -> anyhow::Result<()> {
        println!("\none 1 GiB file, 1 → 1              MB/s   CPU s   verified  encrypted");
        let bytes = 1024 * MIB;
        let mut rows = Vec::new();
        for round in 0..RUNS {
            let directory = self.directory()?;
            let ana = self.peer(&directory, "ana")?;
            let beto = self.peer(&directory, "beto")?;
            let (path, id) = self.sample(&ana, "one.bin", 1024)?;
            if round == 0 {
                self.others(&path)?;
            }
            self.warm(WARM)?;
            let cost = self.measured(&[&ana, &beto], || {
                let download = self.fetch(&beto, &id)?;
                self.done(&beto, &download).map(|_| ())
            })?;
            rows.push(cost);
            drop((ana, beto, directory));
            self.clear()?;
        }
        rows.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let median = &rows[RUNS / 2];
        row("trueque", bytes, median.seconds, median.cpu, "yes       yes");
        Ok(())
    }

    fn swarm(&self) -> anyhow::Result<()> {
        println!("\none 512 MiB file, 1 → 3 at once      MB/s in all   CPU s   origin sent × file");
        for _ in 0..RUNS {
            let directory = self.directory()?;
            let ana = self.peer(&directory, "ana")?;
            let others: Vec<Program> = ["beto", "carla", "dora"]
                .iter()
                .map(|name| self.peer(&directory, name))
                .collect::<Result<_, _>>()?;
            let (_, id) = self.sample(&ana, "swarm.bin", 512)?;
            let everybody: Vec<&Program> = others.iter().chain([&ana]).collect();
            let mut from_origin = 0;
            self.warm(WARM)?;
            let cost = self.measured(&everybody, || {
                let ids: Vec<String> =
                    others.iter().map(|peer| self.fetch(peer, &id)).collect::<Result<_, _>>()?;
                for (peer, download) in others.iter().zip(&ids) {
                    let done = self.done(peer, download)?;
                    let sources = done["sources"].as_array().cloned().unwrap_or_default();
                    let origin = sources.iter().filter(|source| source["username"] == "ana");
                    from_origin += origin.filter_map(|source| source["bytes"].as_u64()).sum::<u64>();
                }
                Ok(())
            })?;
            let bytes = 3 * 512 * MIB;
            println!(
                "trueque                              {:>8.0}   {:>8.1}   {:>8.2}",
                bytes as f64 / 1e6 / cost.seconds,
                cost.cpu,
                from_origin as f64 / (512 * MIB) as f64
            );
            drop((others, ana, directory));
            self.clear()?;
        }
        Ok(())
    }

    fn three(&self) -> anyhow::Result<()> {
        println!("\none 1 GiB file from 3 sources        MB/s   CPU s");
        for _ in 0..RUNS {
            let directory = self.directory()?;
            let names = ["ana", "beto", "carla"];
            let sources: Vec<Program> =
                names.iter().map(|name| self.peer(&directory, name)).collect::<Result<_, _>>()?;
            let (path, id) = self.sample(&sources[0], "three.bin", 1024)?;
            for source in &sources[1..] {
                fs::copy(&path, source.folder.join("share/three.bin"))?;
                self.announced(source, 1)?;
            }
            let dora = self.peer(&directory, "dora")?;
            let everybody: Vec<&Program> = sources.iter().chain([&dora]).collect();
            let mut done = Value::Null;
            self.warm(WARM)?;
            let cost = self.measured(&everybody, || {
                let download = self.fetch(&dora, &id)?;
                done = self.done(&dora, &download)?;
                Ok(())
            })?;
            let shares: Vec<u64> = done["sources"]
                .as_array()
                .map(|all| {
                    all.iter().filter_map(|source| source["bytes"].as_u64()).map(|b| b / MIB).collect()
                })
                .unwrap_or_default();
            row("trueque", 1024 * MIB, cost.seconds, cost.cpu, &format!("{shares:?} MiB"));
            drop((sources, dora, directory));
            self.clear()?;
        }
        Ok(())
    }

    fn small(&self) -> anyhow::Result<()> {
        println!("\n5,000 files of 16 KiB, 1 → 1         files/s   CPU s");
        for _ in 0..RUNS {
            let directory = self.directory()?;
            let ana = self.peer(&directory, "ana")?;
            let beto = self.peer(&directory, "beto")?;
            let folder = ana.folder.join("share/small");
            fs::create_dir_all(&folder)?;
            let mut random = File::open("/dev/urandom")?;
            let mut bytes = vec![0; 16 << 10];
            for number in 0..5000 {
                random.read_exact(&mut bytes)?;
                fs::write(folder.join(format!("file {number:05}.bin")), &bytes)?;
            }
            self.announced(&ana, 5000)?;
            let mut wanted = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = self.get(&ana, &format!("/v1/files?limit=200{cursor}"))?;
                let items = page["items"].as_array().cloned().unwrap_or_default();
                wanted.extend(items.iter().map(|item| json!({ "content_id": item["content_id"] })));
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            self.warm(WARM)?;
            let cost = self.measured(&[&ana, &beto], || {
                for batch in wanted.chunks(1000) {
                    let body = json!({ "downloads": batch });
                    self.call("POST", format!("{}/v1/downloads/batch", beto.urls[1]), Some(body))?;
                }
                self.wait("small files", || {
                    let open = ["queued", "running", "waiting", "finishing"].map(|state| {
                        self.get(&beto, &format!("/v1/downloads?limit=1&state={state}"))
                            .is_ok_and(|page| page["items"].as_array().is_some_and(Vec::is_empty))
                    });
                    Ok(open.iter().all(|none| *none))
                })
            })?;
            let here = fs::read_dir(beto.folder.join("downloads/small"))?.count();
            ensure!(here == 5000, "{here} files arrived");
            println!(
                "trueque                              {:>7.0}   {:>5.1}",
                5000.0 / cost.seconds,
                cost.cpu
            );
            drop((ana, beto, directory));
            self.clear()?;
        }
        Ok(())
    }

    fn memory(&self) -> anyhow::Result<()> {
        println!("\nresident memory while 10 GiB move    sender MiB   receiver MiB   (every GiB)");
        let directory = self.directory()?;
        let ana = self.peer(&directory, "ana")?;
        let beto = self.peer(&directory, "beto")?;
        // Ten files of 1 GiB, one after the other, removed when they have arrived: memory counts, not the RAM disk.
        for number in 0..10 {
            let name = format!("memory-{number}.bin");
            let (path, id) = self.sample(&ana, &name, 1024)?;
            let download = self.fetch(&beto, &id)?;
            let done = self.done(&beto, &download)?;
            println!(
                "trueque                              {:>10}   {:>12}",
                ana.memory("VmHWM")?,
                beto.memory("VmHWM")?
            );
            fs::remove_file(path)?;
            fs::remove_file(done["path"].as_str().context("no path")?)?;
        }
        drop((ana, beto, directory));
        self.clear()
    }

    /// What else this machine does with the same file.
    fn others(&self, path: &Path) -> anyhow::Result<()> {
        let bytes = fs::metadata(path)?.len();
        let copy = self.root.join("copy.bin");
        let timed = |command: &mut Command| -> anyhow::Result<f64> {
            let mut times = Vec::new();
            for _ in 0..RUNS {
                let _fresh = fs::remove_file(&copy);
                self.warm(WARM)?;
                let start = Instant::now();
                let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
                ensure!(status.success(), "{command:?}: {status}");
                times.push(start.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            Ok(times[RUNS / 2])
        };
        let show = |name: &str, seconds: anyhow::Result<f64>, what: &str| match seconds {
            Ok(seconds) => row(name, bytes, seconds, 0.0, what),
            Err(error) => println!("{name:<34} not measured: {error}"),
        };
        show("cp", timed(Command::new("cp").arg(path).arg(&copy)), "no        no");
        show("b3sum, one thread", timed(Command::new("b3sum").args(["--num-threads", "1"]).arg(path)), "");
        show("b3sum", timed(Command::new("b3sum").arg(path)), "");
        match self.https(path) {
            Ok((server, url, ca)) => {
                let mut curl = Command::new("curl");
                curl.args(["-sf", "--cacert"]).arg(ca).arg("-o").arg(&copy).arg(url);
                show("curl from nginx, TLS", timed(&mut curl), "no        yes");
                drop(server);
            }
            Err(error) => println!("{:<34} not measured: {error}", "curl from nginx, TLS"),
        }
        let _gone = fs::remove_file(&copy);
        Ok(())
    }

    /// An nginx of our own with a certificate of its own, on a free port.
    fn https(&self, path: &Path) -> anyhow::Result<(Program, String, PathBuf)> {
        let folder = self.root.join("nginx");
        fs::create_dir_all(&folder)?;
        let (key, cert) = (folder.join("key.pem"), folder.join("cert.pem"));
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "1",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .stderr(Stdio::null());
        run(openssl)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let shown = |path: &Path| path.display().to_string();
        let mut config = File::create(folder.join("nginx.conf"))?;
        write!(
            config,
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}}\n\
             http {{ access_log off; sendfile on; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; \
             fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; \
             ssl_protocols TLSv1.3; root {root}; }} }}\nuser root;\n",
            dir = shown(&folder),
            cert = shown(&cert),
            key = shown(&key),
            root = shown(path.parent().context("no folder")?),
        )?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Program { child, urls: Vec::new(), folder };
        self.wait("nginx", || Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()))?;
        let name = path.file_name().and_then(|name| name.to_str()).context("no name")?;
        Ok((server, format!("https://127.0.0.1:{port}/{name}"), cert))
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
