//! Who may ask pclient at all.
//!
//! pclient acts for the person at this machine, and a browser there runs pages of strangers. Three checks keep those
//! out: the `Host` must be a name of this machine (a stranger's name that is made to point at 127.0.0.1 is not), the
//! `Origin` must be our own, and the browser's own word on where a request comes from must not be another site. On any
//! other address than loopback a token is needed besides, and settings without one are refused at start.

use std::{net::IpAddr, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Uri, header};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use wire::{
    ErrorCode,
    http::{Problem, site},
};

use super::tickets::Tickets;
use crate::pclient::page;

/// What tells nothing and changes nothing: a watchdog has no token.
const WITHOUT_TOKEN: [&str; 2] = ["/healthz", "/readyz"];

/// The rules for one listener.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Whether it listens on loopback alone; then names that are not this machine's are refused.
    pub loopback: bool,
    /// Further names, in lower case and without ports.
    pub allowed_hosts: Vec<String>,
    pub token: Option<SecretString>,
}

/// The middleware.
pub(super) async fn check(
    State((guard, tickets)): State<(Arc<Guard>, Tickets)>,
    request: Request,
    next: Next,
) -> Response {
    match guard.admit(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        // The token is the last that is looked at: this request lacks nothing else, and may have a ticket in its place.
        Err(problem)
            if problem.code == ErrorCode::Unauthenticated
                && tickets.open(request.method(), request.uri(), Instant::now()) =>
        {
            next.run(request).await
        }
        Err(problem) => {
            metrics::counter!("trueque_pclient_refused_total", "code" => problem.code.as_str()).increment(1);
            problem.into_response()
        }
    }
}

impl Guard {
    fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let mut named = headers.get_all(header::HOST).iter();
        let (in_header, second) = (named.next(), named.next());
        if second.is_some() {
            return Err(Problem::invalid("the request has more than one `Host`"));
        }
        let unusable = || Problem::invalid("the request has no usable `Host`");
        let in_header = in_header.map(http::HeaderValue::to_str).transpose().map_err(|_| unusable())?;
        // HTTP/2 has the host in the URI, and so has a request that is meant for a proxy: that one counts.
        let in_uri = uri.authority().map(http::uri::Authority::as_str);
        let host = in_uri.or(in_header).ok_or_else(unusable)?;
        if self.loopback && [in_header, in_uri].into_iter().flatten().any(|host| !self.is_ours(host)) {
            return Err(Problem::new(
                ErrorCode::Misdirected,
                "pclient does not answer for this `Host`; PCLIENT_ALLOWED_HOSTS can add names",
            ));
        }
        // The page is the same for everybody, says nothing and does nothing by itself: a link from anywhere may lead
        // to it, and it asks for the token.
        if page::has(uri.path()) {
            return Ok(());
        }
        if let Some(why) = site::stranger(headers, host) {
            let refused = format!("the request is refused: {why}");
            return Err(Problem::new(ErrorCode::PermissionDenied, refused));
        }
        match &self.token {
            Some(token) if !WITHOUT_TOKEN.contains(&uri.path()) => with_token(headers, token),
            _ => Ok(()),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost"
            || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            || self.allowed_hosts.contains(&name)
    }
}

/// `HOST`, `HOST:PORT` or `[V6]:PORT` without the port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() =>
        {
            // A bare v6 address has colons too; it has no place in a `Host`, so what is cut off does no harm.
            name
        }
        _ => host,
    }
}

fn with_token(headers: &HeaderMap, token: &SecretString) -> Result<(), Problem> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let matches = given.is_some_and(|(_, given)| {
        bool::from(given.trim().as_bytes().ct_eq(token.expose_secret().as_bytes()))
    });
    if matches {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::Unauthenticated,
        "this pclient wants its token: `Authorization: Bearer TOKEN`",
    ))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn admit(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> Result<(), ErrorCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        guard.admit(&path.parse().unwrap(), &map).map_err(|problem| problem.code)
    }

    #[test]
    fn on_loopback_only_names_of_this_machine() {
        let guard = Guard { loopback: true, allowed_hosts: vec!["peer.lan".to_owned()], token: None };
        for host in [
            "localhost",
            "LOCALHOST:5000",
            "127.0.0.1:5000",
            "127.8.9.1",
            "[::1]:5000",
            "[::1]",
            "peer.lan:80",
        ] {
            assert_eq!(admit(&guard, "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:5000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.0.2:5000",
            "[2001:db8::1]:5000",
            "",
            ":5000",
            "peer.lan.evil.example",
        ] {
            assert_eq!(admit(&guard, "/", &[("host", host)]), Err(ErrorCode::Misdirected), "{host}");
        }
        assert_eq!(admit(&guard, "/", &[]), Err(ErrorCode::InvalidArgument), "no host");
        assert_eq!(admit(&guard, "http://localhost:1/", &[]), Ok(()), "HTTP/2");
        let (ours, theirs) = (("host", "localhost"), ("host", "evil.example"));
        assert_eq!(admit(&guard, "/", &[ours, ours]), Err(ErrorCode::InvalidArgument), "twice");
        assert_eq!(admit(&guard, "/", &[ours, theirs]), Err(ErrorCode::InvalidArgument));
        assert_eq!(admit(&guard, "http://localhost/", &[ours]), Ok(()));
        assert_eq!(admit(&guard, "http://evil.example/", &[ours]), Err(ErrorCode::Misdirected));
        assert_eq!(admit(&guard, "http://localhost/", &[theirs]), Err(ErrorCode::Misdirected));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let guard = Guard { loopback: true, allowed_hosts: vec![], token: None };
        let with = |name, value| admit(&guard, "/v1/status", &[("host", "localhost:5000"), (name, value)]);
        assert_eq!(with("origin", "http://localhost:5000"), Ok(()));
        assert_eq!(with("sec-fetch-site", "same-origin"), Ok(()));
        assert_eq!(with("sec-fetch-site", "none"), Ok(()));
        for origin in
            ["null", "http://evil.example", "http://localhost:5001", "http://localhost", "localhost:5000"]
        {
            assert_eq!(with("origin", origin), Err(ErrorCode::PermissionDenied), "{origin}");
        }
        for site in ["cross-site", "same-site", "anything"] {
            assert_eq!(with("sec-fetch-site", site), Err(ErrorCode::PermissionDenied), "{site}");
        }
    }

    #[test]
    fn the_page_is_there_for_everybody_under_a_name_of_this_machine() {
        let token = Some("t0ken".to_owned().into());
        let guard = Guard { loopback: true, allowed_hosts: vec![], token };
        let from_a_link = [("host", "localhost:5000"), ("sec-fetch-site", "cross-site")];
        assert_eq!(admit(&guard, "/", &from_a_link), Ok(()));
        assert_eq!(admit(&guard, "/app/main.js", &from_a_link), Ok(()));
        assert_eq!(admit(&guard, "/v1/status", &from_a_link), Err(ErrorCode::PermissionDenied));
        assert_eq!(admit(&guard, "/app/../v1/status", &from_a_link), Err(ErrorCode::PermissionDenied));
        assert_eq!(admit(&guard, "/", &[("host", "evil.example")]), Err(ErrorCode::Misdirected));
    }

    #[test]
    fn with_a_token_every_call_but_the_watchdogs_carries_it() {
        let guard = Guard { loopback: false, allowed_hosts: vec![], token: Some("t0ken".to_owned().into()) };
        let with = |path: &str, value: &str| {
            admit(&guard, path, &[("host", "10.0.0.7:5000"), ("authorization", value)])
        };
        assert_eq!(with("/v1/status", "Bearer t0ken"), Ok(()));
        assert_eq!(with("/v1/status", "bearer  t0ken"), Ok(()));
        for bad in ["Bearer t0ke", "Bearer t0ken2", "Basic t0ken", "t0ken", "Bearer", ""] {
            assert_eq!(with("/v1/status", bad), Err(ErrorCode::Unauthenticated), "{bad}");
            assert_eq!(with("/metrics", bad), Err(ErrorCode::Unauthenticated), "{bad}");
            assert_eq!(with("/healthz", bad), Ok(()));
            assert_eq!(with("/readyz", bad), Ok(()));
        }
    }
}
