//! Connection reversal: a peer that nobody can dial is asked over the relay to dial, and serves over what it opened at
//! full speed, as if it had been dialled.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Stdio,
    time::{Duration, Instant},
};

use content::ContentId;
use peer::{
    config::{AmqpSetting, PserverListen, Settings},
    link::CONNECT_TIMEOUT,
};
use serde_json::json;
use testnet::{Api, Network, Rabbit, until};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};
use wire::rest::pclient::{Download, FetchPath, PeerPath};

use crate::{big, mail::on_the_relay};

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

fn with_broker(settings: &mut Settings, url: &str) {
    settings.amqp = AmqpSetting::At(url.to_owned().into());
}

/// Waits until the next question to `holder` about the content would go over a reversed connection.
async fn is_reversed(asker: &Api, id: ContentId, holder: &str) {
    until("the holder is reached by a connection that it made", async || {
        let holders = asker.holders(id).await;
        let of_it = holders.into_iter().find(|one| one.holder.username.as_str() == holder);
        (of_it.unwrap().path == PeerPath::Reversed).then_some(())
    })
    .await;
}

fn only_from(download: &Download, holder: &str, path: PeerPath) {
    let [source] = &download.sources[..] else { panic!("{:?}", download.sources) };
    assert_eq!((source.username.as_str(), source.path), (holder, path));
    assert_eq!(Some(source.bytes), download.size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_address_leads_nowhere_serves_over_connections_that_it_makes() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| with_broker(settings, &broker)).await;
    let leading_nowhere = |settings: &mut Settings| {
        with_broker(settings, &broker);
        settings.pserver_advertise = vec![NOWHERE.to_owned()];
    };
    let ben = network.peer_with("ben", leading_nowhere).await;
    let id = ben.share("one way.bin", &big(300, 48)).await;
    ana.found("one way", id, 1).await;
    only_from(&ana.fetch(id).await, "ben", PeerPath::Reversed);
    is_reversed(&ana, id, "ben").await;
    // The first pieces may have come over the relay, before the connection stood.
    ben.audited(id, "ana", FetchPath::Reversed, 24 << 20).await;

    // Whom ben dialled is whom ben answers: what is for ana alone is there too, and for nobody else.
    let file = big(301, 8);
    let path = ben.put("for ana.bin", &file);
    let shared = ben.post("/v1/files", &json!({ "path": path, "audience": ["ana"] })).await;
    assert_eq!(shared.status, 201, "{shared:?}");
    let for_ana = ContentId::of(&file);
    ana.found("for ana", for_ana, 1).await;
    only_from(&ana.fetch(for_ana).await, "ben", PeerPath::Reversed);

    // The other way round needs nobody's help.
    let back = ana.share("the other.bin", &big(302, 8)).await;
    ben.found("the other", back, 1).await;
    only_from(&ben.fetch(back).await, "ana", PeerPath::Direct);
    network.end([ana, ben]).await;
}

/// The first question does not wait until the attempt at an address is over that answers nothing: the relay carries
/// meanwhile, and what it is asked to carry first is the question to dial back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_says_nothing_keeps_nobody_waiting() {
    let broker = Rabbit::shared().await;
    let network = Network::start().await;
    let silent = network.proxy().await;
    let ana = network.peer_with("ana", |settings| with_broker(settings, &broker)).await;
    let behind = |settings: &mut Settings| {
        with_broker(settings, &broker);
        settings.pserver_advertise = vec![silent.endpoint()];
    };
    let ben = network.peer_with("ben", behind).await;
    silent.aim_at(ben.pserver());
    silent.silence();
    for peer in [&ana, &ben] {
        on_the_relay(peer).await;
    }
    let id = ben.share("said nothing.bin", &big(303, 24)).await;
    ana.found("said nothing", id, 1).await;
    let begun = Instant::now();
    let done = ana.fetch(id).await;
    assert!(begun.elapsed() < CONNECT_TIMEOUT, "{:?}", begun.elapsed());
    let [source] = &done.sources[..] else { panic!("{:?}", done.sources) };
    assert!(source.paths.iter().all(|way| way.path != FetchPath::Direct), "{source:?}");
    until("the reason is shown", async || {
        let holder = ana.holders(id).await.remove(0);
        let why = holder.why.unwrap_or_default();
        let said = ["its address has not answered yet", "its address did not answer in time"];
        (holder.path == PeerPath::Reversed && said.iter().any(|said| why.starts_with(said))).then_some(())
    })
    .await;
    network.end([ana, ben]).await;
}

/// A machine of its own behind a wall, made of a network namespace and a packet filter: it reaches us, and whoever
/// knocks from outside hears nothing. It goes with the process that holds it, and that goes with the test.
struct Walled {
    holder: Child,
    /// Our end of the wire to it.
    outside: Ipv4Addr,
}

impl Walled {
    const WALL: &str = "table inet wall { chain door { type filter hook input priority 0; policy drop; \
                        ct state established,related accept; iif lo accept; }; }";

    async fn build() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("unshare (Debian: util-linux) is here");
        let said = BufReader::new(holder.stdout.take().unwrap()).lines().next_line().await.unwrap();
        said.expect("a network namespace can be made: this test needs to run as root");
        // The range for benchmarks, which nobody routes; four addresses for each wire.
        let first = 0xC612_0000 + 4 * rand::random_range(0..1 << 15);
        let [outside, inside] = [1, 2].map(|nth| Ipv4Addr::from_bits(first + nth));
        let walled = Self { holder, outside };
        let (wire, pid) = (format!("tq{:08x}", rand::random::<u32>()), walled.pid());
        for command in [
            format!("ip link add {wire} type veth peer name wire netns {pid}"),
            format!("ip address add {outside}/30 dev {wire}"),
            format!("ip link set {wire} up"),
        ] {
            run(Command::new("sh").args(["-c", &command])).await;
        }
        for command in [
            format!("ip address add {inside}/30 dev wire"),
            "ip link set wire up && ip link set lo up".to_owned(),
            format!("echo '{}' | nft -f -", Self::WALL),
        ] {
            run(walled.enter("sh").args(["-c", &command])).await;
        }
        walled
    }

    fn pid(&self) -> String {
        self.holder.id().expect("the namespace is held").to_string()
    }

    /// A program that runs in there.
    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(), "--net", "--", program]).stdin(Stdio::null());
        command
    }
}

async fn run(command: &mut Command) {
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {said}\nThis test needs root, iproute2 and nftables; script/test installs them."
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_behind_a_wall_is_asked_to_dial_and_serves_from_there() {
    let wall = Walled::build().await;
    let outside = IpAddr::from(wall.outside);
    let rabbit = Rabbit::shared().await;
    let network = Network::with(|directory| directory.listen = (outside, 0).into()).await;
    // RabbitMQ takes its guest from loopback only.
    let wire = network.proxy_at(outside).await;
    let (login, address) = rabbit.rsplit_once('@').unwrap();
    wire.aim_at(address.parse().unwrap());
    let broker = format!("{login}@{}", wire.endpoint());
    let ana = network
        .peer_with("ana", |settings| {
            with_broker(settings, &broker);
            settings.pserver_listen = PserverListen::At((outside, 0).into());
        })
        .await;

    let folder = network.folder("ben");
    std::fs::create_dir_all(folder.join("share")).unwrap();
    let file = big(310, 64);
    std::fs::write(folder.join("share/walled.bin"), &file).unwrap();
    let mut ben = wall.enter(env!("CARGO_BIN_EXE_testnet-peer"));
    let ben = ben
        .env_clear()
        .env("PEER_DIRECTORY", network.url().as_str())
        .env("PEER_USERNAME", "ben")
        .env("PEER_PASSWORD", "password of ben")
        .env("PEER_AMQP_URL", &broker)
        .env("PSERVER_LISTEN", "0.0.0.0:0")
        .env("PCLIENT_LISTEN", "127.0.0.1:0")
        .env("RUST_LOG", "warn")
        .current_dir(&folder)
        .kill_on_drop(true);
    let mut ben = ben.spawn().unwrap();

    let id = ContentId::of(&file);
    ana.found("walled", id, 1).await;
    let holders = ana.holders(id).await;
    let endpoint = holders[0].holder.endpoints[0].clone();
    let knocked = timeout(Duration::from_secs(1), TcpStream::connect(&endpoint)).await;
    assert!(knocked.is_err(), "the wall holds: {endpoint} {knocked:?}");

    only_from(&ana.fetch(id).await, "ben", PeerPath::Reversed);
    is_reversed(&ana, id, "ben").await;
    let relayed = wire.sent() + wire.received();
    assert!(relayed < file.len() as u64 / 2, "{relayed} bytes went over the broker");
    println!("{relayed} of {} bytes went over the broker", file.len());

    // It ends in order, its open connections too.
    let pid = ben.id().unwrap().to_string();
    run(Command::new("kill").args(["-s", "TERM", &pid])).await;
    let ended = timeout(Duration::from_secs(12), ben.wait()).await;
    assert!(ended.expect("ben ends when told to").unwrap().success());
    network.end([ana]).await;
}
