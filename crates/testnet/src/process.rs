//! [`Process`]: a real program in a process of its own, for what only a process can suffer.

use std::{
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use url::Url;

use crate::{Api, Network};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A peer's process. Dropping it kills it.
pub struct Process {
    /// None where it takes no calls.
    pub pserver: Option<SocketAddr>,
    program: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    api: Api,
    child: Child,
    _out: Lines<BufReader<ChildStdout>>,
}

impl Deref for Process {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Process {
    /// Starts the program `peer`, logged in as `name`, with further settings.
    pub async fn peer(
        network: &Network,
        program: impl AsRef<Path>,
        name: &str,
        more: &[(&str, &str)],
    ) -> Self {
        let (folder, environment) = Self::settings(network, name, more);
        Self::start(program.as_ref().to_owned(), folder, environment).await
    }

    /// Starts the program `peer` as [`Self::peer`] does, where it must not start. What it says.
    pub async fn refused(
        network: &Network,
        program: impl AsRef<Path>,
        name: &str,
        more: &[(&str, &str)],
    ) -> String {
        let (folder, environment) = Self::settings(network, name, more);
        let mut command = Self::command(program.as_ref(), &folder, &environment);
        let ended = tokio::time::timeout(START_LIMIT, command.stderr(Stdio::piped()).output()).await;
        let ended = ended.expect("the program ends in time").unwrap();
        assert!(!ended.status.success() && ended.stdout.is_empty(), "it started: {ended:?}");
        String::from_utf8(ended.stderr).unwrap()
    }

    fn settings(network: &Network, name: &str, more: &[(&str, &str)]) -> (PathBuf, Vec<(String, String)>) {
        let folder = network.folder(name);
        std::fs::create_dir_all(&folder).unwrap();
        let text = |path: &str| folder.join(path).display().to_string();
        let url: Url = network.url();
        let settings = [
            ("PEER_DIRECTORY", url.to_string()),
            ("PEER_USERNAME", name.to_owned()),
            ("PEER_PASSWORD", format!("password of {name}")),
            ("PSERVER_LISTEN", "127.0.0.1:0".to_owned()),
            ("PCLIENT_LISTEN", "127.0.0.1:0".to_owned()),
            ("PEER_DATA_DIR", text("data")),
            ("PEER_SHARE_DIR", text("share")),
            ("PEER_DOWNLOAD_DIR", text("downloads")),
            ("RUST_LOG", "warn".to_owned()),
        ];
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
        (folder, settings.chain(more).collect())
    }

    fn command(program: &Path, folder: &Path, environment: &[(String, String)]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(environment.iter().cloned()).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn start(program: PathBuf, folder: PathBuf, environment: Vec<(String, String)>) -> Self {
        let mut child = Self::command(&program, &folder, &environment).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut pserver, mut pclient) = (None, None);
        while pclient.is_none() {
            let line = tokio::time::timeout(START_LIMIT, out.next_line()).await;
            let line =
                line.expect("the program starts in time").unwrap().expect("the program says its ports");
            if let Some(address) = line.strip_prefix("pserver listening on ") {
                pserver = Some(address.parse().unwrap());
            } else if let Some(address) = line.strip_prefix("pclient listening on http://") {
                pclient = Some(address.parse().unwrap());
            }
        }
        let api = Api::new(pclient.unwrap(), folder.join("share"));
        api.connected().await;
        Self { pserver, program, folder, environment, api, child, _out: out }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> Killed {
        self.child.kill().await.unwrap();
        Killed { program: self.program, folder: self.folder, environment: self.environment }
    }

    /// SIGTERM; the program's exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let ended = tokio::time::timeout(Duration::from_secs(15), self.child.wait()).await;
        ended.expect("the program ends when asked to").unwrap().code()
    }
}

/// What is left of a process: its folders and settings.
pub struct Killed {
    program: PathBuf,
    pub folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Killed {
    pub async fn again(self) -> Process {
        Process::start(self.program, self.folder, self.environment).await
    }
}
