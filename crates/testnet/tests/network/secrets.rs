//! Secrets show nowhere: both programs log all that they can, go through logging in, a wrong password, an invite, a broker
//! and a reading, and then everything they said is searched for every secret that was in play.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use testnet::{read, until};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};

const DIRECTORY: &str = env!("CARGO_BIN_EXE_testnet-directory");
const PEER: &str = env!("CARGO_BIN_EXE_testnet-peer");

const PASSWORD: &str = "Password-of-the-account";
const WRONG: &str = "Password-that-is-wrong";
const OTHER: &str = "Password-of-another-account";
const ADMIN: &str = "Token-of-the-admin-0123456789";
const PCLIENT: &str = "Token-of-pclient-0123456789";
const RELAY: &str = "Password-of-the-relay";
const OF_BROKER: &str = "Password-of-the-brokers-user";

/// A program, all that it says, and the address it says last.
struct Talker {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    program: &'static str,
    child: Child,
    url: String,
    said: Vec<String>,
}

impl Talker {
    async fn start(
        program: &'static str,
        folder: PathBuf,
        lines: usize,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let mut child = command(program, &folder, &environment).stderr(log).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        for _ in 0..lines {
            said.push(out.next_line().await.unwrap().unwrap());
        }
        let url = said.last().unwrap().rsplit(' ').next().unwrap().to_owned();
        Self { folder, environment, program, child, url, said }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&read(self.folder.join("log"))).into_owned()
    }

    /// Asks with a bearer token; what is answered is kept, unless it is the answer's business to be secret.
    async fn ask(&mut self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let text = self.ask_in_secret(method, path, token, body).await;
        let value = serde_json::from_str(&text).unwrap_or_default();
        self.said.push(text);
        value
    }

    async fn ask_in_secret(&self, method: &str, path: &str, token: &str, body: &Value) -> String {
        let _already_made = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client =
            reqwest::Client::builder().timeout(Duration::from_secs(30)).tls_certs_only([]).no_proxy();
        let request = client.build().unwrap().request(method.parse().unwrap(), format!("{}{path}", self.url));
        let request = if body.is_null() { request } else { request.json(body) };
        request.bearer_auth(token).send().await.unwrap().text().await.unwrap()
    }

    /// Stops it; everything it said, its help with the same settings among it.
    async fn end(mut self) -> String {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        self.child.wait().await.unwrap();
        for args in [&["--help"][..], &["--version"], &["--no-such-flag"]] {
            let ended =
                command(self.program, &self.folder, &self.environment).args(args).output().await.unwrap();
            self.said.extend([ended.stdout, ended.stderr].map(|said| String::from_utf8(said).unwrap()));
        }
        self.said.push(self.log());
        self.said.join("\n")
    }
}

fn command(program: &str, folder: &Path, environment: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.iter().cloned()).env("RUST_LOG", "trace").current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a broker says first, and then the client says its password: whether it did.
async fn broker(listener: TcpListener, password: &'static str) -> bool {
    let arguments = b"\0\x0a\0\x0a\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US";
    let mut start = vec![1, 0, 0];
    start.extend(u32::try_from(arguments.len()).unwrap().to_be_bytes());
    start.extend(arguments);
    start.push(0xCE);
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    stream.write_all(&start).await.unwrap();
    let mut said = Vec::new();
    while !said.windows(password.len()).any(|part| part == password.as_bytes()) {
        if stream.read_buf(&mut said).await.unwrap() == 0 {
            return false;
        }
    }
    true
}

/// The lines of a PEM file that are its secret, and the words of another one.
fn of_file(path: PathBuf) -> Vec<String> {
    let text = String::from_utf8_lossy(&read(path)).into_owned();
    text.lines().filter(|line| line.len() >= 16 && !line.starts_with("-----")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_show_nowhere_however_much_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut directory = Talker::start(
        DIRECTORY,
        folder.path().join("directory"),
        1,
        vec![
            ("DIRECTORY_LISTEN", "127.0.0.1:0".to_owned()),
            ("DIRECTORY_ADMIN_TOKEN", ADMIN.to_owned()),
            ("DIRECTORY_AMQP_URL", format!("amqp://everybody:{OF_BROKER}@127.0.0.1:{port}")),
            ("LOG_FORMAT", "json".to_owned()),
        ],
    )
    .await;
    let mut peer = Talker::start(
        PEER,
        folder.path().join("peer"),
        2,
        vec![
            ("PEER_DIRECTORY", directory.url.clone()),
            ("PEER_USERNAME", "ana".to_owned()),
            ("PEER_PASSWORD", PASSWORD.to_owned()),
            ("PEER_AMQP_URL", format!("amqp://ana:{RELAY}@127.0.0.1:{port}")),
            ("PSERVER_LISTEN", "127.0.0.1:0".to_owned()),
            ("PCLIENT_LISTEN", "127.0.0.1:0".to_owned()),
            ("PCLIENT_TOKEN", PCLIENT.to_owned()),
        ],
    )
    .await;
    assert!(broker(listener, RELAY).await, "the broker is told the password");
    until("the peer is logged in", async || {
        let status = peer.ask_in_secret("GET", "/v1/status", PCLIENT, &Value::Null).await;
        status.contains("\"connected\":true").then_some(())
    })
    .await;
    let saved = until("the session is saved", async || session_file(&peer.folder)).await;
    let token: Value = serde_json::from_slice(&read(saved)).unwrap();
    let mut secrets = [PASSWORD, WRONG, OTHER, ADMIN, PCLIENT, RELAY, OF_BROKER].map(str::to_owned).to_vec();
    secrets.push(token["token"].as_str().unwrap().to_owned());

    let login = |username: &str, password: &str| json!({ "username": username, "password": password });
    peer.ask("POST", "/v1/login", PCLIENT, &login("ana", WRONG)).await;
    peer.ask("POST", "/v1/login", WRONG, &login("ana", PASSWORD)).await;
    peer.ask("POST", "/v1/login", PCLIENT, &json!({ "username": "ana", "password": WRONG, "more": 1 })).await;
    std::fs::write(peer.folder.join("share/film.mp4"), "a film").unwrap();
    let path = peer.folder.join("share/film.mp4");
    let shared = peer.ask("POST", "/v1/files", PCLIENT, &json!({ "path": path })).await;
    let ticket = json!({ "content_id": shared["content_id"] });
    let ticket: Value =
        serde_json::from_str(&peer.ask_in_secret("POST", "/v1/tickets", PCLIENT, &ticket).await).unwrap();
    let ticket = ticket["ticket"].as_str().unwrap().to_owned();
    let content = format!("/v1/content/{}?ticket={ticket}", shared["content_id"].as_str().unwrap());
    assert_eq!(peer.ask_in_secret("GET", &content, "", &Value::Null).await, "a film");
    secrets.push(ticket);
    peer.ask("GET", "/v1/doctor", PCLIENT, &Value::Null).await;
    peer.ask("POST", "/v1/doctor", PCLIENT, &Value::Null).await;
    peer.ask("GET", "/metrics", PCLIENT, &Value::Null).await;
    peer.ask("GET", "/v1/status", PCLIENT, &Value::Null).await;

    let invite = json!({ "uses": 1, "expires_in": 60 });
    directory.ask("POST", "/v1/invites", WRONG, &invite).await;
    let invite = directory.ask_in_secret("POST", "/v1/invites", ADMIN, &invite).await;
    let invite: Value = serde_json::from_str(&invite).unwrap();
    let invite = invite["invite"].as_str().unwrap().to_owned();
    let mut account = login("ben", OTHER);
    account["invite"] = json!(invite);
    directory.ask("POST", "/v1/accounts", "", &account).await;
    directory.ask("POST", "/v1/accounts", "", &account).await;
    peer.ask(
        "POST",
        "/v1/login",
        PCLIENT,
        &json!({ "username": "eve", "password": OTHER, "invite": invite }),
    )
    .await;
    secrets.push(invite);
    directory.ask("POST", "/v1/accounts", "", &login("Ben!", OTHER)).await;
    directory.ask("POST", "/v1/accounts", "", &json!({ "password": OTHER, "username": 7 })).await;
    directory.ask("GET", "/metrics", ADMIN, &Value::Null).await;

    for (file, of) in [("ca.key", &directory), ("identity.key", &peer), ("sealing.key", &peer)] {
        secrets.extend(of_file(find(&of.folder, file)));
    }
    assert!(secrets.len() >= 12, "the keys are no longer found: {}", secrets.len());
    for said in [directory.end().await, peer.end().await] {
        assert!(said.contains("TRACE"), "everything is logged");
        for secret in &secrets {
            let line = said.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{secret}");
        }
    }
}

fn session_file(folder: &Path) -> Option<PathBuf> {
    let data = folder.join("data/peer");
    let mut files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().is_some_and(|name| name == "session.json"))
}

fn find(folder: &Path, name: &str) -> PathBuf {
    let data = folder.join("data");
    let programs = ["peer", "directory"].map(|program| data.join(program).join(name));
    programs.into_iter().find(|path| path.exists()).unwrap()
}
