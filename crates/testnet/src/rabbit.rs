//! [`Rabbit`]: a real RabbitMQ for one test, or one for all of them.
//!
//! ```text
//! let url = Rabbit::shared().await;                          // amqp://guest:guest@127.0.0.1:PORT, whoever started it
//!
//! let mut rabbit = Rabbit::start(RabbitOptions::default()).await;
//! let mut rabbit = Rabbit::start(RabbitOptions { plugins: vec!["rabbitmq_auth_backend_cache"],
//!                                                config: vec!["max_message_size = 16777216".into()] }).await;
//! rabbit.url()              // amqp://guest:guest@127.0.0.1:PORT      rabbit.address()   // 127.0.0.1:PORT
//! rabbit.stop().await;      // in order                               rabbit.kill().await;          // kill -9
//! rabbit.start_again().await;                                         // the same port, the same data
//! rabbit.freeze().await;    // SIGSTOP: silent, but the sockets stay  rabbit.thaw().await;          // SIGCONT
//! rabbit.ctl(&["list_queues", "name", "messages"]).await;             // rabbitmqctl -q; what it printed
//! rabbit.memory_alarm(true).await;                                    // returns when the alarm is up, or gone
//! rabbit.settle().await;    // before a kill: see there
//! rabbit.memory_bytes()     // resident                               rabbit.log()       // all it has logged
//!
//! let mut nodes = Rabbit::cluster(3, RabbitOptions::default()).await; // joined; the methods of each as above
//! ```
//!
//! `shared` takes the broker that the variable `TRUEQUE_TEST_AMQP` names (`script/test` starts one for all tests) and
//! otherwise starts one that lives as long as this process: use names of your own in it, and leave its alarms alone. A
//! node takes about four seconds to start, a cluster ten, `ctl` half a second.
//!
//! Nothing outside of a temporary folder is read or written: node names, cookie, configuration, data and the port mapper
//! (epmd) are its own, everything listens on 127.0.0.1, root and ordinary users may do it alike. Each process is the
//! child of a small shell, the [`Keeper`], which kills it when the pipe to the test closes: on drop, on panic, and also
//! when the test itself is killed.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use rand::RngExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OnceCell,
};

use crate::{until, until_within};

/// Names a broker that runs already.
const SHARED: &str = "TRUEQUE_TEST_AMQP";
/// Names the folder of the programs to use.
const PROGRAMS: &str = "TRUEQUE_TEST_RABBITMQ";
/// Below the ports that systems give to those who ask for any, so that nobody gets ours while a node starts.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
const START_LIMIT: Duration = Duration::from_secs(90);
const CTL_LIMIT: Duration = Duration::from_secs(60);
/// A few schedulers are enough for tests, and two start faster than one.
const ERL_ARGS: &str = "+S 2:2 +P 65536 +sbwt none";
const LOCAL: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

/// What a node has beyond the ordinary.
#[derive(Clone, Default)]
pub struct RabbitOptions {
    pub plugins: Vec<&'static str>,
    /// Lines of `rabbitmq.conf`.
    pub config: Vec<String>,
}

/// One node, running or not. Dropping it kills it.
pub struct Rabbit {
    /// While it runs. It stands before the ground, so that it goes first.
    vm: Option<Keeper>,
    ground: Arc<Ground>,
    ports: Ports,
}

impl Rabbit {
    /// The URL of a broker for everybody.
    pub async fn shared() -> String {
        static SHARED_HERE: OnceCell<Rabbit> = OnceCell::const_new();
        #[expect(clippy::disallowed_methods, reason = "a word among the scripts, no setting of a program")]
        match std::env::var(SHARED) {
            Ok(url) if !url.is_empty() => url,
            _ => SHARED_HERE.get_or_init(|| Self::start(RabbitOptions::default())).await.url(),
        }
    }

    pub async fn start(options: RabbitOptions) -> Self {
        let mut nodes = Self::cluster(1, options).await;
        nodes.pop().unwrap()
    }

    /// As many nodes, joined.
    pub async fn cluster(count: usize, options: RabbitOptions) -> Vec<Self> {
        for tries_left in [2, 1, 0] {
            match Self::try_cluster(count, &options).await {
                Ok(nodes) => return nodes,
                // Somebody took a port just before us.
                Err(why) if tries_left > 0 && why.contains("eaddrinuse") => {}
                Err(why) => panic!("RabbitMQ did not start: {why}"),
            }
        }
        unreachable!("the last try returns or panics")
    }

    async fn try_cluster(count: usize, options: &RabbitOptions) -> Result<Vec<Self>, String> {
        let ground = Arc::new(Ground::new());
        let all: Vec<Ports> = (0..count).map(|_| Ports::free()).collect();
        for ports in &all {
            ground.write(*ports, &all, options);
        }
        let mut nodes: Vec<Self> =
            all.iter().map(|ports| Self { vm: None, ground: ground.clone(), ports: *ports }).collect();
        // RabbitMQ 4 waits for all that are to join.
        for node in join_all(nodes.iter_mut().map(Self::try_start)).await {
            node?;
        }
        until_within(START_LIMIT, "the nodes have joined", async || {
            (count == 1 || nodes[0].running().await == count).then_some(())
        })
        .await;
        Ok(nodes)
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.amqp).into()
    }

    /// Of the user `guest`, who may do everything.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}", self.address())
    }

    /// SIGTERM, which it takes as `rabbitmqctl stop`; returns when it has ended.
    pub async fn stop(&mut self) {
        let vm = self.vm.take().expect("the node runs");
        signal("TERM", vm.pid).await;
        vm.ended().await;
    }

    /// Has it write down which quorum queues there are. RabbitMQ does that half a second after a queue was declared, so
    /// that one that is younger when it is killed is known afterwards and answers nobody; its messages are safe earlier.
    pub async fn settle(&self) {
        self.ctl(&["eval", "[ok = dets:sync(Table) || Table <- dets:all()]."]).await;
    }

    /// `kill -9`; returns when it has ended.
    pub async fn kill(&mut self) {
        let mut vm = self.vm.take().expect("the node runs");
        vm.kill();
        vm.ended().await;
    }

    /// After [`Self::stop`] or [`Self::kill`]: on the same port, with the same data; returns when it answers. Of a
    /// cluster of which all nodes were stopped, start all at once: each waits for others.
    pub async fn start_again(&mut self) {
        self.try_start().await.unwrap_or_else(|why| panic!("RabbitMQ did not start again: {why}"));
    }

    /// From now on it does nothing, and nothing is closed.
    pub async fn freeze(&self) {
        signal("STOP", self.pid()).await;
    }

    pub async fn thaw(&self) {
        signal("CONT", self.pid()).await;
    }

    /// Raises the memory alarm, or ends it.
    pub async fn memory_alarm(&self, on: bool) {
        let watermark = if on { "0.0001" } else { "0.4" };
        self.ctl(&["set_vm_memory_high_watermark", watermark]).await;
        let up = format!("(rabbit_alarm:get_alarms() =/= []) =:= {on}.");
        until("the alarm is as it should be", async || {
            (self.ctl(&["eval", &up]).await.trim() == "true").then_some(())
        })
        .await;
    }

    /// What `rabbitmqctl -q` prints, asked for this.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::from(self.command("rabbitmqctl"));
        command.arg("-q").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(CTL_LIMIT, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("rabbitmqctl {arguments:?}: no answer")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, complaints) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {out}{complaints}");
        out
    }

    /// How many nodes of its cluster run, as far as it knows.
    async fn running(&self) -> usize {
        let status = self.ctl(&["cluster_status", "--formatter", "json"]).await;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["running_nodes"].as_array().unwrap().len()
    }

    /// How much memory its process holds.
    pub fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the node runs");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }

    /// All that it has logged since it was made.
    pub fn log(&self) -> String {
        fs::read_to_string(self.ground.of(self.ports).join("log")).unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.vm.as_ref().expect("the node runs").pid
    }

    async fn try_start(&mut self) -> Result<(), String> {
        assert!(self.vm.is_none(), "the node runs already");
        let mut command = self.command("rabbitmq-server");
        // Otherwise the script stays between us and the program, and takes the signals.
        command.env("RUNNING_UNDER_SYSTEMD", "true");
        let vm = self.vm.insert(Keeper::start(&command, &self.ground.of(self.ports).join("log"), None));
        let address = (Ipv4Addr::LOCALHOST, self.ports.amqp).into();
        let starting = until_within(2 * START_LIMIT, "RabbitMQ answers", async || {
            if vm.has_ended() {
                return Some(Err("it ended at once"));
            }
            answers(address).await.then_some(Ok(()))
        });
        let started = tokio::time::timeout(START_LIMIT, starting).await;
        started.unwrap_or(Err("it does not answer")).map_err(|why| {
            self.vm = None;
            format!("{why}\n{}", self.log())
        })
    }

    /// A program of RabbitMQ, with all that is this node's own.
    fn command(&self, program: &str) -> Command {
        let folder = self.ground.of(self.ports);
        let mut command = Command::new(installed(program));
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.ground.folder.as_path())
            .env("LC_ALL", "C.UTF-8")
            .env("ERL_EPMD_PORT", self.ground.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", self.ports.node())
            .env("RABBITMQ_DIST_PORT", self.ports.dist.to_string())
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", folder.join("generated"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", &folder)
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_SERVER_ERL_ARGS", ERL_ARGS)
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", LOCAL)
            .env("RABBITMQ_CTL_ERL_ARGS", LOCAL)
            // Any port: the default has room for eleven at a time on a machine.
            .env("RABBITMQ_CTL_DIST_PORT_MIN", "0")
            .env("RABBITMQ_CTL_DIST_PORT_MAX", "0");
        command
    }
}

/// The doors of one node.
#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    dist: u16,
}

impl Ports {
    fn free() -> Self {
        Self { amqp: free_port(), dist: free_port() }
    }

    fn node(self) -> String {
        format!("trueque-{}@localhost", self.amqp)
    }
}

/// What the nodes of a cluster have in common: a folder, a cookie, a port mapper.
struct Ground {
    folder: PathBuf,
    epmd_port: u16,
    /// Removes the folder at its end, which is the end of the last node.
    _epmd: Keeper,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("trueque-rabbit-").tempdir().unwrap().keep();
        let cookie = folder.join(".erlang.cookie");
        fs::write(&cookie, format!("{:032x}", rand::random::<u128>())).unwrap();
        fs::set_permissions(&cookie, Permissions::from_mode(0o400)).unwrap();
        let epmd_port = free_port();
        let mut epmd = Command::new("epmd");
        epmd.args(["-address", "127.0.0.1", "-port", &epmd_port.to_string()]);
        let epmd = Keeper::start(&epmd, &folder.join("epmd.log"), Some(&folder));
        Self { folder, epmd_port, _epmd: epmd }
    }

    /// The folder of a node.
    fn of(&self, ports: Ports) -> PathBuf {
        self.folder.join(ports.amqp.to_string())
    }

    fn write(&self, ports: Ports, all: &[Ports], options: &RabbitOptions) {
        let folder = self.of(ports);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("enabled_plugins"), format!("[{}].\n", options.plugins.join(","))).unwrap();
        let mut lines = vec![format!("listeners.tcp.1 = 127.0.0.1:{}", ports.amqp)];
        if all.len() > 1 {
            lines.push("cluster_formation.peer_discovery_backend = classic_config".to_owned());
            let name = |(at, ports): (usize, &Ports)| {
                format!("cluster_formation.classic_config.nodes.{} = {}", at + 1, ports.node())
            };
            lines.extend(all.iter().enumerate().map(name));
        }
        lines.extend(options.config.iter().cloned());
        fs::write(folder.join("rabbitmq.conf"), lines.join("\n") + "\n").unwrap();
    }
}

/// A shell between us and a program. It says the program's pid, kills the program when its input closes, ends with it,
/// and removes a folder at the end, if it was given one.
struct Keeper {
    shell: Child,
    pid: u32,
    input: Option<ChildStdin>,
}

impl Keeper {
    const SCRIPT: &str = r#"
        log=$1 folder=$2
        shift 2
        exec 3<&0 2>>"$log"
        "$@" </dev/null >>"$log" 3<&- &
        kept=$!
        echo $kept
        { read -r _ <&3; kill -KILL $kept; } >/dev/null &
        wait $kept
        kill $!
        [ -z "$folder" ] || rm -rf "$folder" || rm -rf "$folder"
    "#;

    fn start(command: &Command, log: &Path, folder: Option<&Path>) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", Self::SCRIPT, "keeper"]).arg(log).arg(folder.unwrap_or(Path::new("")));
        shell.arg(command.get_program()).args(command.get_args());
        if command.get_envs().next().is_some() {
            shell.env_clear();
            shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        // In a group of its own, a signal that is meant for the test does not reach it.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let input = shell.stdin.take();
        Self { shell, pid: line.trim().parse().expect("the keeper says whom it keeps"), input }
    }

    fn kill(&mut self) {
        self.input = None;
    }

    fn has_ended(&mut self) -> bool {
        self.shell.try_wait().unwrap().is_some()
    }

    async fn ended(mut self) {
        until("it has ended", async || self.has_ended().then_some(())).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
        let _ended = self.shell.wait();
    }
}

/// Whether somebody there speaks AMQP.
async fn answers(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_u8().await
    };
    const METHOD_FRAME: u8 = 1;
    matches!(tokio::time::timeout(Duration::from_secs(5), ask).await, Ok(Ok(METHOD_FRAME)))
}

async fn signal(name: &str, pid: u32) {
    let status = tokio::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status().await;
    assert!(status.unwrap().success(), "SIG{name} to {pid}");
}

fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The program itself: what Debian puts into the PATH is a script that changes the user. `script/test-brokers` names the
/// folder of another RabbitMQ's.
fn installed(program: &str) -> PathBuf {
    const FOLDERS: [&str; 4] =
        ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"];
    #[expect(clippy::disallowed_methods, reason = "a word among the scripts, no setting of a program")]
    let folders = std::env::var(PROGRAMS).map_or(FOLDERS.map(PathBuf::from).to_vec(), |one| vec![one.into()]);
    let found =
        folders.into_iter().map(|folder| folder.join(program)).find(|place| File::open(place).is_ok());
    found
        .unwrap_or_else(|| panic!("there is no {program} here: install rabbitmq-server, as script/test does"))
}
