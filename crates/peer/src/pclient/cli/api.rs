//! [`Api`]: pclient's REST, asked from outside.

use std::{net::IpAddr, ops::ControlFlow, time::Duration};

use http::{Method, StatusCode, header};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;
use wire::{
    ErrorCode,
    http::ProblemDocument,
    rest::{Page, directory::PageQuery},
};

use super::{Exit, Stop};
use crate::{
    config::{Settings, is_loopback},
    directory_link::client::install_crypto,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// For calls that only look something up; a directory behind pclient may use up its own ten seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const PAGE: u32 = 200;

/// Asks one pclient.
pub(super) struct Api {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
}

impl Api {
    pub(super) fn new(pclient: Option<&Url>, settings: &Settings) -> Result<Self, Stop> {
        let base = match pclient {
            Some(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url.clone(),
            Some(_) => return Err(Stop::new(Exit::Usage, "--pclient: write it as http://HOST:PORT")),
            None => default_base(settings)?,
        };
        install_crypto();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if base.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| Stop::failed(error.to_string()))?;
        Ok(Self { http, base, token: settings.pclient_token.clone() })
    }

    /// Whether pclient runs on this machine, so that paths mean the same there.
    pub(super) fn is_here(&self) -> bool {
        is_loopback(&self.base)
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, Stop> {
        let request = self.request(Method::GET, path).query(query).timeout(ANSWER_LIMIT);
        read(self.send(request).await?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Stop> {
        read(self.send(self.request(Method::POST, path).json(body).timeout(ANSWER_LIMIT)).await?).await
    }

    /// A PUT whose answer does not matter.
    pub(super) async fn put(&self, path: &str, body: &impl Serialize) -> Result<(), Stop> {
        self.send(self.request(Method::PUT, path).json(body).timeout(ANSWER_LIMIT)).await.map(drop)
    }

    /// A POST without a body.
    pub(super) async fn ask_nothing<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, Stop> {
        read(self.send(self.request(method, path).timeout(ANSWER_LIMIT)).await?).await
    }

    /// Where it is asked.
    pub(super) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A POST or DELETE without a body, whose answer does not matter.
    pub(super) async fn tell(&self, method: Method, path: &str) -> Result<(), Stop> {
        self.send(self.request(method, path).timeout(ANSWER_LIMIT)).await.map(drop)
    }

    /// All the items of a list, page by page, up to `limit`.
    pub(super) async fn all<T, Q>(&self, path: &str, query: &Q, limit: usize) -> Result<Vec<T>, Stop>
    where
        T: DeserializeOwned,
        Q: Serialize,
    {
        self.some(path, query, limit).await.map(|(items, _)| items)
    }

    /// The first `limit` items of a list, and whether there are more.
    pub(super) async fn some<T, Q>(&self, path: &str, query: &Q, limit: usize) -> Result<(Vec<T>, bool), Stop>
    where
        T: DeserializeOwned,
        Q: Serialize,
    {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let left = u32::try_from(limit - items.len()).unwrap_or(PAGE).min(PAGE);
            let page: Page<T> = self.page(path, query, left, cursor).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() || items.len() >= limit {
                return Ok((items, cursor.is_some()));
            }
        }
    }

    /// Goes through a list page by page, until its end or `look` has seen enough.
    pub(super) async fn each_page<T, Q>(
        &self,
        path: &str,
        query: &Q,
        mut look: impl FnMut(Vec<T>) -> ControlFlow<()>,
    ) -> Result<(), Stop>
    where
        T: DeserializeOwned,
        Q: Serialize,
    {
        let mut cursor = None;
        loop {
            let page: Page<T> = self.page(path, query, PAGE, cursor).await?;
            cursor = page.next_cursor;
            if look(page.items).is_break() || cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn page<T, Q>(
        &self,
        path: &str,
        query: &Q,
        limit: u32,
        cursor: Option<String>,
    ) -> Result<Page<T>, Stop>
    where
        T: DeserializeOwned,
        Q: Serialize,
    {
        let page = PageQuery { limit: Some(limit), cursor };
        let request = self.request(Method::GET, path).query(query).query(&page).timeout(ANSWER_LIMIT);
        read(self.send(request).await?).await
    }

    /// A request without a limit on its time, for what moves files.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// The answer, if it is one; what was refused in pclient's own words.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response, Stop> {
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<ProblemDocument>(&body) {
            Ok(problem) if problem.code == ErrorCode::Unauthenticated && self.lacks_token(&problem) => {
                Err(Stop::failed("this pclient wants its token: set PCLIENT_TOKEN"))
            }
            Ok(problem) => Err(Stop::refused(problem.code, problem.detail)),
            Err(_) => Err(not_a_pclient(&self.base, status)),
        }
    }

    fn lacks_token(&self, problem: &ProblemDocument) -> bool {
        self.token.is_none() && problem.detail.contains("token")
    }

    fn unanswered(&self, error: &reqwest::Error) -> Stop {
        if error.is_timeout() {
            return Stop::new(Exit::Unreachable, format!("the peer at {} did not answer in time", self.base));
        }
        if error.is_connect() {
            return Stop::new(
                Exit::Unreachable,
                format!(
                    "no peer answers at {}; start it with `peer`, or say where with --pclient",
                    self.base
                ),
            );
        }
        Stop::new(Exit::Unreachable, format!("the connection to the peer at {} broke: {error}", self.base))
    }
}

/// Reads JSON.
pub(super) async fn read<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, Stop> {
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return Err(not_a_pclient(response.url(), response.status()));
    }
    response.json().await.map_err(|error| Stop::failed(format!("the answer cannot be read: {error}")))
}

fn not_a_pclient(url: &Url, status: StatusCode) -> Stop {
    Stop::new(Exit::Unreachable, format!("what answers at {url} is not a pclient ({status})"))
}

/// Where the peer of these settings listens, as seen from this machine.
fn default_base(settings: &Settings) -> Result<Url, Stop> {
    let mut address = settings.pclient_listen;
    if address.port() == 0 {
        return Err(Stop::new(Exit::Usage, "PCLIENT_LISTEN has port 0: say where pclient is with --pclient"));
    }
    if address.ip().is_unspecified() {
        let loopback: IpAddr = match address.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    Url::parse(&format!("http://{address}")).map_err(|error| Stop::failed(error.to_string()))
}
