//! The programs, each in a process of its own: one process has one way for its spans.

use std::{path::Path, process::Stdio, time::Duration};

use testnet::{Api, Network, Process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

pub(crate) const PEER: &str = env!("CARGO_BIN_EXE_testnet-peer");
const DIRECTORY: &str = env!("CARGO_BIN_EXE_testnet-directory");
const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const SETTING: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// A directory's process. Dropping it kills it.
pub(crate) struct Directory {
    pub(crate) url: String,
    child: Child,
}

impl Directory {
    pub(crate) fn metrics(&self) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().timeout(LIMIT).tls_certs_only([]).no_proxy().build().unwrap();
        client.get(format!("{}/metrics", self.url))
    }

    /// Starts it; it traces to `collector`, where that is an address.
    pub(crate) async fn start(folder: &Path, collector: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut child = Command::new(DIRECTORY)
            .env_clear()
            .envs([("DIRECTORY_LISTEN", "127.0.0.1:0"), ("RUST_LOG", "warn"), (SETTING, collector)])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
        let url = line.strip_prefix("directory listening on ").unwrap_or_else(|| panic!("{line:?}"));
        Self { url: url.to_owned(), child }
    }

    /// SIGTERM; the program's exit code.
    pub(crate) async fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        tokio::time::timeout(LIMIT, self.child.wait()).await.unwrap().unwrap().code()
    }
}

/// A peer of that directory.
pub(crate) async fn peer(
    network: &Network,
    directory: &Directory,
    name: &str,
    collector: &str,
    more: &[(&str, &str)],
) -> Process {
    let settings = [("PEER_DIRECTORY", directory.url.as_str()), (SETTING, collector)];
    Process::peer(network, PEER, name, &[&settings, more].concat()).await
}

/// What a program counts under this name, and these labels where it has some.
pub(crate) async fn figure(from: reqwest::RequestBuilder, name: &str) -> f64 {
    let metrics = String::from_utf8(Api::reply(from).await.body.to_vec()).unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().unwrap()
}
