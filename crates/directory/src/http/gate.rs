//! What every request passes before its handler runs: whose it is, whether that address has not asked too much, and
//! whether no stranger's page sent it.
//!
//! Pages: the directory has none, and gives away nothing without a token that no page of a stranger has, so any `Host`
//! will do. But a browser on its own machine would be taken for the broker that asks from there. So what a browser sends
//! for a page is refused; a link that is followed is not.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use daemon::serve::RemoteAddr;
use http::{HeaderMap, HeaderName, Method, header};
use wire::{
    ErrorCode,
    http::{Problem, site},
};

use super::auth::Address;
use crate::{App, limits};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The middleware.
pub(super) async fn admit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let address = caller(&app, &request);
    request.extensions_mut().insert(Address(address));
    if let Err(problem) = not_of_a_stranger(&request) {
        metrics::counter!("directory_refusals_total", "reason" => "another site").increment(1);
        return problem.into_response();
    }
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    match app.rates.begin(address, limits::weight(request.method().as_str(), route)) {
        Ok(_open) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Who asked; a proxy of ours says it in `X-Forwarded-For`.
fn caller(app: &App, request: &Request) -> Option<IpAddr> {
    let RemoteAddr(remote) = request.extensions().get::<RemoteAddr>()?;
    let forwarded: Vec<&str> =
        request.headers().get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or("")).collect();
    Some(app.proxies.caller(remote.ip(), forwarded.into_iter()))
}

fn not_of_a_stranger(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let is_link = matches!(*request.method(), Method::GET | Method::HEAD)
        && headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate")
        && !headers.contains_key(header::ORIGIN);
    match site::stranger(headers, host(request.uri(), headers)) {
        Some(why) if !is_link => {
            Err(Problem::new(ErrorCode::PermissionDenied, format!("the request is refused: {why}")))
        }
        _ => Ok(()),
    }
}

/// The name that was asked for; HTTP/2 has it in the URI.
fn host<'a>(uri: &'a http::Uri, headers: &'a HeaderMap) -> &'a str {
    let in_header = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(http::uri::Authority::as_str).or_else(in_header).unwrap_or("")
}
