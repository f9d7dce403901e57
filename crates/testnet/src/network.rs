//! [`Network`]: a directory and the ground that its peers stand on.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Once,
    time::{Duration, Instant},
};

use daemon::Lifecycle;
use parking_lot::Mutex;
use peer::config::Settings;
use tempfile::TempDir;
use url::Url;

use crate::{Directory, Peer, Proxy, until_within};

/// A stop in order takes less than the ten seconds after which it would be forced.
const STOP_LIMIT: Duration = Duration::from_secs(9);

/// A network of its own, under a temporary folder that goes with it.
pub struct Network {
    pub directory: Directory,
    folder: TempDir,
    /// What the tests put between the peers; it ends after them.
    tools: Mutex<Vec<Lifecycle>>,
}

impl Network {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings for the directory.
    pub async fn with(change: impl FnOnce(&mut directory::config::Config)) -> Self {
        log_to_the_test();
        let folder = tempfile::tempdir().unwrap();
        let mut config = directory::config::Config::in_folder(folder.path().join("directory"));
        change(&mut config);
        Self { directory: Directory::start(config).await, folder, tools: Mutex::default() }
    }

    pub fn url(&self) -> Url {
        self.directory.url()
    }

    /// A folder of this network.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A peer, logged in as a user of the same name.
    pub async fn peer(&self, name: &str) -> Peer {
        self.peer_with(name, |_| {}).await
    }

    /// With other settings for the peer.
    pub async fn peer_with(&self, name: &str, change: impl FnOnce(&mut Settings)) -> Peer {
        let mut settings = self.settings(name);
        change(&mut settings);
        Peer::start(settings).await
    }

    /// A peer that is not waited for until it is logged in.
    pub async fn peer_unconnected(&self, name: &str) -> Peer {
        self.peer_unconnected_with(name, |_| {}).await
    }

    /// The same, with other settings: one that wants a token cannot be asked whether it is logged in.
    pub async fn peer_unconnected_with(&self, name: &str, change: impl FnOnce(&mut Settings)) -> Peer {
        let mut settings = self.settings(name);
        change(&mut settings);
        Peer::begin(settings).await
    }

    fn settings(&self, name: &str) -> Settings {
        let mut settings = Settings::defaults();
        let folder = self.folder(name);
        settings.directories = vec![self.url()];
        settings.username = Some(name.parse().unwrap());
        settings.password = Some(format!("password of {name}").into());
        settings.pserver_listen = "127.0.0.1:0".parse().unwrap();
        settings.pclient_listen = "127.0.0.1:0".parse().unwrap();
        settings.data_dir = folder.join("data");
        settings.share_dirs = vec![folder.join("share")];
        settings.download_dir = folder.join("downloads");
        settings
    }

    /// A wire that ends with the network.
    pub async fn proxy(&self) -> Proxy {
        self.proxy_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// The same, at another address of this machine.
    pub async fn proxy_at(&self, address: IpAddr) -> Proxy {
        let proxy = Proxy::start(address).await;
        self.tools.lock().push(proxy.lifecycle());
        proxy
    }

    /// A peer that others reach only through the proxy.
    pub async fn peer_behind(&self, proxy: &Proxy, name: &str) -> Peer {
        let peer = self.peer_with(name, |settings| settings.pserver_advertise = vec![proxy.endpoint()]).await;
        proxy.aim_at(peer.pserver());
        peer
    }

    /// Stops a second network of a test, which has no peers; [`Self::end`] of the first one looks for what is left.
    pub async fn stop(mut self) {
        self.directory.stop().await;
    }

    /// Stops the peers and the directory, in order and in time, and looks for tasks that are left.
    pub async fn end(mut self, peers: impl IntoIterator<Item = Peer>) {
        for peer in peers {
            peer.end().await;
        }
        let started = Instant::now();
        self.directory.stop().await;
        assert!(started.elapsed() < STOP_LIMIT, "the directory took {:?} to stop", started.elapsed());
        for tool in self.tools.into_inner() {
            tool.hard().cancel();
            tool.finish().await;
        }
        let metrics = tokio::runtime::Handle::current().metrics();
        until_within(Duration::from_secs(10), "no task is left running", async || {
            (metrics.num_alive_tasks() == 0).then_some(())
        })
        .await;
    }
}

/// What the programs log goes to the test's own output: `RUST_LOG=debug` shows it where a test fails.
fn log_to_the_test() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _already = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    });
}
