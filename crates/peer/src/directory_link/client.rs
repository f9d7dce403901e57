//! [`DirectoryClient`]: the directory's REST as typed functions.
//!
//! Every call has a deadline and a bound on the size of its answer. Another directory is tried only when one could not
//! be reached or did not answer in time, never because of what it answered. A refusal keeps the directory's own code
//! and words. Whoever learns here that the token is refused or the directory is gone raises a doubt, so that the
//! session's worker looks at once and not at the next renewal.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use content::ContentId;
use http::{Method, StatusCode, header};
use reqwest::Certificate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;
use tracing::{Instrument, Span};
use url::Url;
use wire::{
    ErrorCode, PeerId, Username,
    http::{ProblemDocument, page},
    rest::{
        Page,
        directory::{
            AccountReply, AccountRequest, CatalogDelta, CatalogReply, LocateReply, LocateRequest, Located,
            PageQuery, PeerFile, PeerItem, PeersQuery, RenewReply, RenewRequest, Report, ReportKind,
            SearchItem, SearchQuery, SessionReply, SessionRequest,
        },
    },
    trace,
};

use crate::Failure;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// A delta of thousands of entries is committed before it is answered.
const CATALOG_LIMIT: Duration = Duration::from_secs(60);
const MAX_ANSWER: usize = 16 << 20;
/// Machines of one account that are looked at.
const MAX_PEERS: usize = 1_000;
const MAX_CA_FILE: u64 = 1 << 20;

/// Speaks to the directory. Clones share token and connections.
#[derive(Clone)]
pub struct DirectoryClient(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) http: reqwest::Client,
    pub(super) bases: Vec<Url>,
    /// The one that answered last.
    current: AtomicUsize,
    token: ArcSwapOption<SecretString>,
    /// Why there is no session, where one is being sought.
    away: ArcSwapOption<String>,
    doubt: Notify,
}

/// What the directory says to a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    Accepted {
        revision: u64,
    },
    /// It holds another revision than the delta starts from.
    Conflict {
        revision: Option<u64>,
    },
}

/// One request, before a directory is chosen for it.
pub(super) struct Call {
    method: Method,
    path: String,
    body: Option<Bytes>,
    with_token: bool,
    /// One that is not the present session's.
    token: Option<Arc<SecretString>>,
    limit: Duration,
}

/// Why a call gave nothing, with the whole document where the directory sent one.
struct Refused {
    failure: Failure,
    document: Option<Box<ProblemDocument>>,
}

impl DirectoryClient {
    /// # Errors
    /// Where the file with further authorities cannot be used; the message names the setting.
    pub fn new(bases: &[Url], ca: Option<&Path>) -> anyhow::Result<Self> {
        install_crypto();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            .pool_idle_timeout(Duration::from_secs(60))
            .user_agent(concat!("trueque-peer/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // The directory is part of the network's own ground, not of the web.
            .no_proxy()
            // Until when its certificate holds is for the doctor to say.
            .tls_info(true);
        if let Some(path) = ca {
            let named = || format!("PEER_DIRECTORY_CA: {}", path.display());
            let certificates = read_ca(path).with_context(named)?;
            builder = builder.tls_certs_only(certificates);
        } else if bases.iter().all(|base| base.scheme() == "http") {
            // A machine without the system's authorities needs none for this.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().context("PEER_DIRECTORY_CA: the HTTPS client cannot be made")?;
        Ok(Self(Arc::new(Inner {
            http,
            bases: bases.to_vec(),
            current: AtomicUsize::new(0),
            token: ArcSwapOption::empty(),
            away: ArcSwapOption::empty(),
            doubt: Notify::new(),
        })))
    }

    /// The directory that answered last.
    pub fn url(&self) -> String {
        let at = self.0.current.load(Ordering::Relaxed);
        self.0.bases.get(at).map(|url| base_text(url).to_owned()).unwrap_or_default()
    }

    /// Resolves when a call learned that the token or the directory may be gone.
    pub(super) async fn doubt(&self) {
        self.0.doubt.notified().await;
    }

    pub(super) fn set_token(&self, token: Option<SecretString>) {
        self.0.token.store(token.map(Arc::new));
    }

    pub(super) fn set_away(&self, why: Option<String>) {
        self.0.away.store(why.map(Arc::new));
    }

    pub async fn create_account(
        &self,
        username: Username,
        password: &SecretString,
        invite: Option<&SecretString>,
    ) -> Result<AccountReply, Failure> {
        let password = password.expose_secret().to_owned().into();
        let invite = invite.map(|invite| invite.expose_secret().to_owned().into());
        let body = AccountRequest { username, password, invite };
        self.ask(Call::post("/v1/accounts", &body)?.without_token()).await
    }

    pub async fn open_session(&self, request: &SessionRequest) -> Result<SessionReply, Failure> {
        self.ask(Call::post("/v1/sessions", request)?.without_token()).await
    }

    pub async fn renew(&self, request: &RenewRequest) -> Result<RenewReply, Failure> {
        self.ask(Call::with_body(Method::PUT, "/v1/sessions/current", request)?).await
    }

    pub async fn close_session(&self) -> Result<(), Failure> {
        self.tell(Call::new(Method::DELETE, "/v1/sessions/current")).await
    }

    pub async fn announce(&self, delta: &CatalogDelta) -> Result<Announced, Failure> {
        let mut call = Call::post("/v1/catalog", delta)?;
        call.limit = CATALOG_LIMIT;
        match self.send(call).await {
            Ok(bytes) => parse::<CatalogReply>(&bytes).map(|r| Announced::Accepted { revision: r.revision }),
            Err(Refused { failure, document }) if failure.code == ErrorCode::Conflict => {
                let revision = document.and_then(|document| document.extra.get("revision")?.as_u64());
                Ok(Announced::Conflict { revision })
            }
            Err(refused) => Err(refused.failure),
        }
    }

    pub async fn search(&self, query: &SearchQuery) -> Result<Page<SearchItem>, Failure> {
        self.ask(Call::get("/v1/search", query)?).await
    }

    pub async fn locate(&self, id: ContentId) -> Result<Located, Failure> {
        self.ask(Call::new(Method::GET, format!("/v1/files/{id}"))).await
    }

    /// The holders of at most [`wire::rest::directory::MAX_LOCATE`] contents.
    pub async fn locate_many(&self, content_ids: Vec<ContentId>) -> Result<LocateReply, Failure> {
        self.ask(Call::post("/v1/files/locate", &LocateRequest { content_ids })?).await
    }

    pub async fn report(&self, id: ContentId, peer_id: PeerId, kind: ReportKind) -> Result<(), Failure> {
        let call = Call::post(format!("/v1/files/{id}/reports"), &Report { peer_id, kind })?;
        self.tell(call).await
    }

    pub async fn peers(&self, query: &PeersQuery) -> Result<Page<PeerItem>, Failure> {
        self.ask(Call::get("/v1/peers", query)?).await
    }

    /// All the peers of one account; none where nobody of that name ever logged in.
    pub async fn peers_of(&self, username: &Username) -> Result<Vec<PeerItem>, Failure> {
        let mut query =
            PeersQuery { username: Some(username.clone()), limit: Some(page::MAX_LIMIT), cursor: None };
        let mut peers = Vec::new();
        loop {
            let page = self.peers(&query).await?;
            peers.extend(page.items);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() || peers.len() >= MAX_PEERS {
                return Ok(peers);
            }
        }
    }

    pub async fn peer(&self, id: PeerId) -> Result<PeerItem, Failure> {
        self.ask(Call::new(Method::GET, format!("/v1/peers/{id}"))).await
    }

    pub async fn peer_files(&self, id: PeerId, query: &PageQuery) -> Result<Page<PeerFile>, Failure> {
        self.ask(Call::get(format!("/v1/peers/{id}/files"), query)?).await
    }

    pub(super) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, Failure> {
        let bytes = self.send(call).await.map_err(|refused| refused.failure)?;
        parse(&bytes)
    }

    /// A call whose answer says nothing but that it was done.
    pub(super) async fn tell(&self, call: Call) -> Result<(), Failure> {
        self.send(call).await.map(drop).map_err(|refused| refused.failure)
    }

    /// Asks the directories in turn, beginning with the one that answered last, until one answers.
    async fn send(&self, call: Call) -> Result<Bytes, Refused> {
        let inner = &*self.0;
        let token = call.token.clone().or_else(|| inner.token.load_full().filter(|_| call.with_token));
        if call.with_token
            && token.is_none()
            && let Some(why) = inner.away.load_full()
        {
            return Err(Failure::unavailable(why.as_str()).into());
        }
        if call.with_token && token.is_none() {
            return Err(Failure::new(
                ErrorCode::Unauthenticated,
                "this peer is not logged in at a directory",
            )
            .into());
        }
        let first = inner.current.load(Ordering::Relaxed);
        let mut last = Failure::unavailable("no directory is set");
        for step in 0..inner.bases.len() {
            let at = (first + step) % inner.bases.len();
            // Not the path: it holds what somebody searches for.
            let span =
                tracing::debug_span!("ask the directory", otel.kind = "client", http.method = %call.method);
            match self.send_to(&inner.bases[at], &call, token.as_deref()).instrument(span).await {
                Ok(answer) => {
                    inner.current.store(at, Ordering::Relaxed);
                    if call.with_token
                        && matches!(&answer, Err(r) if r.failure.code == ErrorCode::Unauthenticated)
                    {
                        inner.doubt.notify_one();
                    }
                    return answer;
                }
                Err(failure) => last = failure,
            }
        }
        if call.with_token {
            inner.doubt.notify_one();
        }
        Err(last.into())
    }

    /// The outer error: this directory gave no answer, so another may be asked.
    async fn send_to(
        &self,
        base: &Url,
        call: &Call,
        token: Option<&SecretString>,
    ) -> Result<Result<Bytes, Refused>, Failure> {
        let url = base_text(base);
        let mut request =
            self.0.http.request(call.method.clone(), format!("{url}{}", call.path)).timeout(call.limit);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(name) = trace::traceparent(&Span::current()) {
            request = request.header(trace::TRACEPARENT, name);
        }
        if let Some(body) = &call.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let unanswered = |error: reqwest::Error| unanswered(url, &error);
        let response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        let body = match read_bounded(response).await {
            Ok(body) => body,
            Err(Some(error)) => return Err(unanswered(error)),
            Err(None) => {
                return Ok(Err(
                    Failure::unavailable(format!("the directory at {url} answers too much")).into()
                ));
            }
        };
        Ok(if status.is_success() { Ok(body) } else { Err(refusal(url, status, &body)) })
    }
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, with_token: true, token: None, limit: ANSWER_LIMIT }
    }

    pub(super) fn with_body(
        method: Method,
        path: impl Into<String>,
        body: &impl Serialize,
    ) -> Result<Self, Failure> {
        let body = serde_json::to_vec(body).map_err(Failure::internal)?;
        Ok(Self { body: Some(body.into()), ..Self::new(method, path) })
    }

    pub(super) fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Failure> {
        Self::with_body(Method::POST, path, body)
    }

    pub(super) fn get(path: impl Into<String>, query: &impl Serialize) -> Result<Self, Failure> {
        let query = serde_urlencoded::to_string(query).map_err(Failure::internal)?;
        Ok(Self::new(Method::GET, format!("{}?{query}", path.into())))
    }

    /// With the token of another session than the present one.
    pub(super) fn of_session(self, token: SecretString) -> Self {
        Self { with_token: false, token: Some(Arc::new(token)), ..self }
    }

    fn without_token(self) -> Self {
        Self { with_token: false, ..self }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, document: None }
    }
}

impl std::fmt::Debug for DirectoryClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectoryClient").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// HTTPS needs a process-wide choice of cryptography; whoever comes second finds it made.
pub(crate) fn install_crypto() {
    let _already_made = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A base without its last slash, so that a path can be put behind it.
pub(super) fn base_text(base: &Url) -> &str {
    base.as_str().trim_end_matches('/')
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        tracing::warn!(%error, "the directory's answer could not be read");
        Failure::unavailable("the directory answered something that is not in the contract")
    })
}

/// The whole body; `None` as error where it is larger than any answer should be.
async fn read_bounded(mut response: reqwest::Response) -> Result<Bytes, Option<reqwest::Error>> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Some)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

pub(super) fn unanswered(url: &str, error: &reqwest::Error) -> Failure {
    tracing::debug!(directory.url = url, error = error_chain(error), "a directory did not answer");
    if error.is_timeout() {
        return Failure::unavailable(format!("the directory at {url} did not answer in time"));
    }
    Failure::unavailable(format!("the directory at {url} cannot be reached: {}", last_cause(error)))
}

/// The directory's own words where it sent them; a proxy in front of it may not.
fn refusal(url: &str, status: StatusCode, body: &[u8]) -> Refused {
    if let Ok(document) = serde_json::from_slice::<ProblemDocument>(body) {
        let failure = Failure::new(document.code, document.detail.clone());
        return Refused { failure, document: Some(Box::new(document)) };
    }
    Failure::unavailable(format!("{url} answered {} and not as a directory does", status.as_u16())).into()
}

fn last_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

fn read_ca(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    use std::io::Read;
    let mut pem = Vec::new();
    std::fs::File::open(path)?.take(MAX_CA_FILE).read_to_end(&mut pem)?;
    let certificates = Certificate::from_pem_bundle(&pem)?;
    anyhow::ensure!(!certificates.is_empty(), "holds no certificate");
    Ok(certificates)
}
