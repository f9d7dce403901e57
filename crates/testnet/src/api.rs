//! [`Api`]: pclient's REST, asked as a user's program asks it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use content::ContentId;
use http::StatusCode;
use reqwest::{Client, Method, Response, multipart};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use wire::{
    PeerId,
    rest::{
        Page,
        directory::{PeerFile, SearchItem},
        pclient::{
            AuditEntry, BatchReply, Download, DownloadState, FetchPath, HolderWithPath, PeerWithPath,
            ShareReply, Status,
        },
    },
};

use crate::{read, until};

/// One peer's REST.
#[derive(Clone)]
pub struct Api {
    base: String,
    http: Client,
    share_dir: PathBuf,
}

/// An answer, whatever it says.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The machine word of an error.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn read<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{}: {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A client wants a process-wide choice of cryptography even where it speaks no TLS; each test may be a process of its
/// own, and not all begin with a peer in it.
pub(crate) fn install_crypto() {
    let _already_made = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

impl Api {
    pub(crate) fn new(pclient: SocketAddr, share_dir: PathBuf) -> Self {
        install_crypto();
        let http = Client::builder()
            .timeout(Duration::from_secs(120))
            .connect_timeout(Duration::from_secs(10))
            .tls_certs_only([])
            .no_proxy()
            .build()
            .unwrap();
        Self { base: format!("http://{pclient}"), http, share_dir }
    }

    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// A request that the caller finishes.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn reply(request: reqwest::RequestBuilder) -> Reply {
        let response: Response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        Self::reply(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &impl Serialize) -> Reply {
        Self::reply(self.request(Method::POST, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        Self::reply(self.request(Method::DELETE, path)).await
    }

    pub async fn status(&self) -> Status {
        self.get("/v1/status").await.read()
    }

    pub async fn peer_id(&self) -> PeerId {
        self.status().await.peer_id
    }

    /// Waits until the directory has been reached.
    pub async fn connected(&self) {
        until("the peer is logged in", async || self.status().await.directory.connected.then_some(())).await;
    }

    /// Writes a file into the shared folder without a word to the peer.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.share_dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Shares a file with these bytes; back when it is hashed.
    pub async fn share(&self, name: &str, bytes: &[u8]) -> ContentId {
        let path = self.put(name, bytes);
        let reply = self.post("/v1/files", &json!({ "path": path })).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&reply.body));
        let shared: ShareReply = reply.read();
        assert_eq!(shared.content_id, ContentId::of(bytes), "the content id is the BLAKE3 hash of the bytes");
        assert_eq!(shared.size, bytes.len() as u64);
        shared.content_id
    }

    /// Sends a file as a form.
    pub async fn upload(&self, name: &str, bytes: Bytes) -> Reply {
        let part = multipart::Part::stream(bytes).file_name(name.to_owned());
        let form = multipart::Form::new().part("file", part);
        Self::reply(self.request(Method::POST, "/v1/files").multipart(form)).await
    }

    pub async fn search(&self, words: &str) -> Vec<SearchItem> {
        let reply = Self::reply(self.request(Method::GET, "/v1/search").query(&[("q", words)])).await;
        reply.read::<Page<SearchItem>>().items
    }

    /// Waits until a search shows the content, held by so many who are online.
    pub async fn found(&self, words: &str, id: ContentId, online: u32) -> SearchItem {
        until(&format!("a search for {words:?} shows {online} online"), async || {
            let items = self.search(words).await;
            items.into_iter().find(|item| item.content_id == id && item.online == online)
        })
        .await
    }

    /// Who holds a content; nobody where the directory does not know it.
    pub async fn holders(&self, id: ContentId) -> Vec<HolderWithPath> {
        let reply = self.get(&format!("/v1/files/{id}/holders")).await;
        match reply.status {
            StatusCode::NOT_FOUND => Vec::new(),
            _ => reply.read::<Page<HolderWithPath>>().items,
        }
    }

    /// Waits until so many are online that hold all of it.
    pub async fn held_by(&self, id: ContentId, count: usize) {
        until(&format!("{count} hold {id}"), async || {
            let holders = self.holders(id).await;
            (holders.iter().filter(|holder| holder.holder.online).count() == count).then_some(())
        })
        .await;
    }

    pub async fn peers(&self) -> Vec<PeerWithPath> {
        self.get("/v1/peers?limit=200").await.read::<Page<PeerWithPath>>().items
    }

    /// Everything that a peer holds, page by page.
    pub async fn files_of(&self, peer: PeerId) -> Vec<PeerFile> {
        let (mut files, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("limit", "200".to_owned())];
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let path = format!("/v1/peers/{peer}/files");
            let page = Self::reply(self.request(Method::GET, &path).query(&query)).await;
            let page: Page<PeerFile> = page.read();
            files.extend(page.items);
            match page.next_cursor {
                None => return files,
                next => cursor = next,
            }
        }
    }

    /// Waits until the peer has written down that somebody fetched all of a content, over this path.
    pub async fn audited(&self, id: ContentId, user: &str, path: FetchPath, bytes: u64) {
        until("what went out is written down", async || {
            let query = format!("/v1/audit?content_id={id}&username={user}");
            let entries = self.get(&query).await.read::<Page<AuditEntry>>().items;
            let sent = entries.iter().filter(|entry| entry.path == path).map(|entry| entry.bytes);
            (sent.sum::<u64>() >= bytes).then_some(())
        })
        .await;
    }

    /// Asks for a content.
    pub async fn start(&self, id: ContentId) -> Download {
        self.post("/v1/downloads", &json!({ "content_id": id })).await.read()
    }

    /// Asks for a content under a name.
    pub async fn start_as(&self, id: ContentId, name: &str) -> Download {
        self.post("/v1/downloads", &json!({ "content_id": id, "name": name })).await.read()
    }

    /// Asks for many at once.
    pub async fn start_many(&self, wanted: &[(ContentId, String)]) -> Vec<Download> {
        let downloads: Vec<Value> =
            wanted.iter().map(|(id, name)| json!({ "content_id": id, "name": name })).collect();
        self.post("/v1/downloads/batch", &json!({ "downloads": downloads })).await.read::<BatchReply>().items
    }

    pub async fn download(&self, id: &str) -> Download {
        self.get(&format!("/v1/downloads/{id}")).await.read()
    }

    pub async fn pause(&self, id: &str) -> Reply {
        self.post(&format!("/v1/downloads/{id}/pause"), &()).await
    }

    pub async fn resume(&self, id: &str) -> Reply {
        self.post(&format!("/v1/downloads/{id}/resume"), &()).await
    }

    /// Waits for a download to be as `wanted`; whoever waits for something else than failure hears of it at once.
    pub async fn wait(&self, id: &str, what: &str, wanted: impl Fn(&Download) -> bool) -> Download {
        until(&format!("download {id}: {what}"), async || {
            let download = self.download(id).await;
            if wanted(&download) {
                return Some(download);
            }
            assert_ne!(download.state, DownloadState::Failed, "{what}: {:?}", download.error);
            None
        })
        .await
    }

    pub async fn state(&self, id: &str, state: DownloadState) -> Download {
        self.wait(id, &format!("{state:?}"), |download| download.state == state).await
    }

    /// Waits for the end, and looks whether what lies there has the bytes that were asked for.
    pub async fn done(&self, id: &str) -> Download {
        let download = self.state(id, DownloadState::Done).await;
        let path = download.path.as_deref().unwrap();
        assert_eq!(ContentId::of(&read(path)), download.content_id, "{path} has the wrong bytes");
        assert_eq!(Some(download.verified_bytes), download.size);
        download
    }

    /// Asks for a content and waits for the file.
    pub async fn fetch(&self, id: ContentId) -> Download {
        let started = self.start(id).await;
        self.done(&started.id).await
    }

    /// The bytes of a content, or some of them, from wherever they are.
    pub async fn content(&self, id: ContentId, range: Option<&str>) -> Reply {
        let mut request = self.request(Method::GET, &format!("/v1/content/{id}"));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        Self::reply(request).await
    }
}
