//! A directory for tests: the calls that a peer makes, on a real socket, with switches for what may go wrong.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    routing::{delete, get, post, put},
};
use daemon::Lifecycle;
use http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    PublicKeyData, SanType, date_time_ymd,
};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use url::Url;
use wire::{
    ErrorCode, PeerId,
    http::{Problem, Query, layers},
    rest::{
        Page,
        directory::{
            AccountReply, AccountRequest, CatalogDelta, CatalogReply, PeerItem, PeersQuery, RenewReply,
            RenewRequest, SearchItem, SessionReply, SessionRequest,
        },
    },
};

use crate::identity::peer_id_of;

/// Certificates hold from the first to the fourth of January 2024.
pub(crate) const CERTIFICATE_DAYS: u8 = 3;

/// What the fake knows; tests look into it and change it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) accounts: BTreeMap<String, String>,
    pub(crate) registration_open: bool,
    /// All accounts are closed.
    pub(crate) closed: bool,
    /// The token of the one session.
    pub(crate) token: Option<String>,
    pub(crate) lease_seconds: u64,
    pub(crate) revision: u64,
    /// Names by which contents are announced.
    pub(crate) catalog: BTreeMap<(String, String), u32>,
    pub(crate) resets: u32,
    /// The most entries of a delta; more are too large.
    pub(crate) max_entries: usize,
    pub(crate) found: Vec<SearchItem>,
    pub(crate) peers: Vec<PeerItem>,
    /// `METHOD path`, in order.
    pub(crate) calls: Vec<String>,
    pub(crate) endpoints: Vec<String>,
    pub(crate) broken: Option<ErrorCode>,
}

pub(crate) struct FakeDirectory {
    pub(crate) known: Arc<Mutex<Known>>,
    address: SocketAddr,
    authority: Arc<Authority>,
    serving: Mutex<Option<Lifecycle>>,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

#[derive(Clone)]
struct Shared {
    known: Arc<Mutex<Known>>,
    authority: Arc<Authority>,
}

impl FakeDirectory {
    pub(crate) async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            known: Arc::new(Mutex::new(Known {
                accounts: BTreeMap::new(),
                registration_open: true,
                closed: false,
                token: None,
                lease_seconds: 30,
                revision: 0,
                catalog: BTreeMap::new(),
                resets: 0,
                max_entries: usize::MAX,
                found: Vec::new(),
                peers: Vec::new(),
                calls: Vec::new(),
                endpoints: Vec::new(),
                broken: None,
            })),
            address: listener.local_addr().unwrap(),
            authority: Arc::new(Authority { issuer: Issuer::new(params, key), pem }),
            serving: Mutex::default(),
        };
        fake.serve(listener);
        fake
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// Nothing listens any more.
    pub(crate) async fn go_down(&self) {
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            serving.finish().await;
        }
    }

    pub(crate) async fn come_up(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    pub(crate) fn calls(&self, which: &str) -> usize {
        self.known.lock().calls.iter().filter(|call| *call == which).count()
    }

    fn serve(&self, listener: TcpListener) {
        let shared = Shared { known: self.known.clone(), authority: self.authority.clone() };
        let router = Router::new()
            .route("/readyz", get(async || "ready\n"))
            .route("/v1/accounts", post(account))
            .route("/v1/sessions", post(open))
            .route("/v1/sessions/current", put(renew).merge(delete(close)))
            .route("/v1/sessions/{peer_id}", delete(close))
            .route("/v1/catalog", post(announce))
            .route("/v1/search", get(search))
            .route("/v1/peers", get(peers))
            .with_state(shared);
        let lifecycle = Lifecycle::new();
        let serving = lifecycle.clone();
        lifecycle.spawn("fake directory", async move {
            daemon::serve::serve(listener, layers::wrap(router), None, &serving).await.unwrap();
        });
        *self.serving.lock() = Some(lifecycle);
    }
}

impl Shared {
    /// Notes the call; refuses it while broken, and without the token where it needs one.
    fn begin(&self, method: &Method, uri: &Uri, headers: Option<&HeaderMap>) -> Result<(), Problem> {
        let mut known = self.known.lock();
        known.calls.push(format!("{method} {}", uri.path()));
        if let Some(code) = known.broken {
            return Err(Problem::new(code, "broken on purpose"));
        }
        let Some(headers) = headers else { return Ok(()) };
        let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        match &known.token {
            Some(token) if given == format!("Bearer {token}") => Ok(()),
            _ => Err(Problem::new(ErrorCode::Unauthenticated, "the token is not known")),
        }
    }

    fn certificate(&self, csr_pem: &str, username: &str) -> (PeerId, String) {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let peer_id = peer_id_of(&request.public_key.subject_public_key_info());
        let names = [format!("{peer_id}.peer.trueque"), format!("{username}.user.trueque")];
        request.params.subject_alt_names =
            names.map(|name| SanType::DnsName(name.try_into().unwrap())).to_vec();
        request.params.not_before = date_time_ymd(2024, 1, 1);
        request.params.not_after = date_time_ymd(2024, 1, 1 + CERTIFICATE_DAYS);
        (peer_id, request.signed_by(&self.authority.issuer).unwrap().pem())
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}

async fn account(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Result<(StatusCode, Json<AccountReply>), Problem> {
    shared.begin(&method, &uri, None)?;
    let request: AccountRequest = read(&body)?;
    let mut known = shared.known.lock();
    if !known.registration_open {
        return Err(Problem::new(ErrorCode::PermissionDenied, "registration is closed"));
    }
    if known.accounts.contains_key(request.username.as_str()) {
        return Err(Problem::new(ErrorCode::AlreadyExists, "the name is taken"));
    }
    known.accounts.insert(request.username.to_string(), request.password.to_string());
    Ok((StatusCode::CREATED, Json(AccountReply { username: request.username })))
}

async fn open(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Result<(StatusCode, Json<SessionReply>), Problem> {
    shared.begin(&method, &uri, None)?;
    let request: SessionRequest = read(&body)?;
    let (peer_id, certificate_pem) = shared.certificate(&request.csr_pem, request.username.as_str());
    let mut known = shared.known.lock();
    if known.accounts.get(request.username.as_str()) != Some(&*request.password) {
        return Err(Problem::new(ErrorCode::Unauthenticated, "the name or the password is wrong"));
    }
    if known.closed {
        return Err(Problem::new(ErrorCode::PermissionDenied, "this account is disabled"));
    }
    let token = format!("token-{}", known.calls.len());
    known.token = Some(token.clone());
    known.endpoints = request.endpoints;
    let reply = SessionReply {
        token,
        peer_id,
        lease_seconds: known.lease_seconds,
        certificate_pem,
        ca_pem: shared.authority.pem.clone(),
        catalog_revision: known.revision,
        trust_revision: 0,
        broker: None,
    };
    Ok((StatusCode::CREATED, Json(reply)))
}

async fn renew(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<RenewReply>, Problem> {
    shared.begin(&method, &uri, Some(&headers))?;
    let request: RenewRequest = read(&body)?;
    let certificate_pem = request.csr_pem.map(|csr| shared.certificate(&csr, "ana").1);
    let mut known = shared.known.lock();
    if let Some(endpoints) = request.endpoints {
        known.endpoints = endpoints;
    }
    let (lease_seconds, catalog_revision) = (known.lease_seconds, known.revision);
    Ok(Json(RenewReply { lease_seconds, catalog_revision, trust_revision: 0, certificate_pem, broker: None }))
}

async fn close(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    shared.begin(&method, &uri, Some(&headers))?;
    shared.known.lock().token = None;
    Ok(StatusCode::NO_CONTENT)
}

async fn announce(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<CatalogReply>, Problem> {
    shared.begin(&method, &uri, Some(&headers))?;
    let delta: CatalogDelta = read(&body)?;
    let mut known = shared.known.lock();
    if delta.put.len() + delta.remove.len() > known.max_entries {
        return Err(Problem::new(ErrorCode::TooLarge, "too many entries"));
    }
    if delta.reset {
        known.catalog.clear();
        known.resets += 1;
    } else if delta.base_revision != known.revision {
        return Err(Problem::new(ErrorCode::Conflict, "another revision").with("revision", known.revision));
    }
    for key in delta.remove {
        known.catalog.remove(&(key.content_id.to_string(), key.name));
    }
    for put in delta.put {
        known.catalog.insert((put.content_id.to_string(), put.name), put.pieces_held);
    }
    known.revision = delta.revision;
    Ok(Json(CatalogReply { revision: delta.revision }))
}

async fn search(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Page<SearchItem>>, Problem> {
    shared.begin(&method, &uri, Some(&headers))?;
    Ok(Json(Page { items: shared.known.lock().found.clone(), next_cursor: None }))
}

async fn peers(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Query(query): Query<PeersQuery>,
) -> Result<Json<Page<PeerItem>>, Problem> {
    shared.begin(&method, &uri, Some(&headers))?;
    let mut items = shared.known.lock().peers.clone();
    items.retain(|peer| query.username.as_ref().is_none_or(|username| peer.username == *username));
    Ok(Json(Page { items, next_cursor: None }))
}
