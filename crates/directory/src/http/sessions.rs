//! `/v1/sessions`: a peer logs in, is heard of, and leaves.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use wire::{
    ErrorCode, PeerId,
    http::{JsonBody, NoQuery, Path, Problem, Query, page},
    rest::{
        Page,
        accounts::SessionItem,
        directory::{Broker, PageQuery, RenewReply, RenewRequest, SessionReply, SessionRequest},
    },
};

use super::{
    auth::{Address, Caller},
    problems,
};
use crate::{
    App, authority,
    catalog::{CatalogError, Login, Renewal},
    passwords, secrets,
};

const MAX_ENDPOINTS: usize = 16;
const MAX_ENDPOINT: usize = 255;
const MAX_VERSION: usize = 64;

/// `POST /v1/sessions`.
pub(super) async fn login(
    State(app): State<Arc<App>>,
    Address(address): Address,
    _: NoQuery,
    JsonBody(request): JsonBody<SessionRequest>,
) -> Result<(StatusCode, Json<SessionReply>), Problem> {
    check(&request)?;
    let SessionRequest { username, password, csr_pem, sealing_key, endpoints, version } = request;
    app.logins.check(address, &username)?;
    if password.len() > passwords::LONGEST {
        return Err(wrong_password());
    }
    let csr = authority::Request::read(&csr_pem).map_err(problems::of_request)?;
    let account = app.catalog.account(&username).await.map_err(problems::of_catalog)?;
    let disabled = account.as_ref().is_some_and(|account| account.disabled);
    let hash = account.map(|account| account.password_hash);
    if !app.passwords.verify(password, hash.clone()).await.map_err(problems::of_password)? {
        metrics::counter!("directory_refusals_total", "reason" => "password").increment(1);
        return Err(wrong_password());
    }
    if disabled {
        return Err(disabled_account());
    }

    let token = secrets::fresh();
    let digest = secrets::digest(&token).ok_or_else(|| Problem::internal("a fresh secret has no digest"))?;
    let (now, lease_until) = app.lease_from_now();
    let certificate_pem = app.authority.issue(&csr, &username, now).map_err(Problem::internal)?;
    let peer_id = csr.peer_id;
    let login = Login {
        peer_id,
        username: username.clone(),
        // The right password of nobody is none.
        password_hash: hash.ok_or_else(wrong_password)?,
        token: digest,
        sealing_key,
        endpoints,
        version,
        now,
        lease_until,
    };
    let catalog_revision = app.catalog.login(login).await.map_err(|error| match error {
        // Meanwhile.
        CatalogError::NotFound(_) => wrong_password(),
        other => problems::of_catalog(other),
    })?;
    tracing::debug!(peer.id = %peer_id, account = %username, "logged in");
    let reply = SessionReply {
        token,
        peer_id,
        lease_seconds: app.lease.as_secs(),
        certificate_pem,
        ca_pem: app.authority.pem().to_owned(),
        catalog_revision,
        trust_revision: app.catalog.trust_revision(&username).await.map_err(problems::of_catalog)?,
        broker: broker_of(&app, peer_id, now)?,
    };
    Ok((StatusCode::CREATED, Json(reply)))
}

/// `PUT /v1/sessions/current`.
pub(super) async fn renew(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    _: NoQuery,
    JsonBody(RenewRequest { endpoints, csr_pem, sealing_key }): JsonBody<RenewRequest>,
) -> Result<Json<RenewReply>, Problem> {
    if let Some(endpoints) = &endpoints {
        check_endpoints(endpoints)?;
    }
    if let Some(key) = &sealing_key {
        check_sealing_key(key)?;
    }
    let (now, lease_until) = app.lease_from_now();
    let certificate_pem = match csr_pem {
        None => None,
        Some(csr_pem) => {
            let csr = authority::Request::read(&csr_pem).map_err(problems::of_request)?;
            if csr.peer_id != session.peer_id {
                return Err(Problem::invalid("`csr_pem` is of another key than this session's"));
            }
            Some(app.authority.issue(&csr, &session.username, now).map_err(Problem::internal)?)
        }
    };
    let renewal = Renewal { endpoints, sealing_key, now, lease_until };
    let renewed = app.catalog.renew(session.peer_id, renewal).await;
    let catalog_revision = renewed.map_err(|error| match error {
        CatalogError::NotFound(_) => {
            Problem::new(ErrorCode::Unauthenticated, "the session has ended; log in again")
        }
        other => problems::of_catalog(other),
    })?;
    Ok(Json(RenewReply {
        lease_seconds: app.lease.as_secs(),
        catalog_revision,
        trust_revision: app.catalog.trust_revision(&session.username).await.map_err(problems::of_catalog)?,
        certificate_pem,
        broker: broker_of(&app, session.peer_id, now)?,
    }))
}

/// `DELETE /v1/sessions/current`.
pub(super) async fn logout(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    app.catalog.logout(session.peer_id, app.clock.millis()).await.map_err(problems::of_catalog)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/sessions`: the machines on which the caller's account is logged in.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Query(PageQuery { limit, cursor }): Query<PageQuery>,
) -> Result<Json<Page<SessionItem>>, Problem> {
    let after: Option<PeerId> = page::decode_cursor(cursor.as_deref())?;
    let found = app.catalog.sessions(&session.username, after, page::limit(limit)?, app.clock.millis()).await;
    let found = found.map_err(problems::of_catalog)?;
    let mark = |item: SessionItem| SessionItem { current: item.peer_id == session.peer_id, ..item };
    let next_cursor = found.next.map(|key| page::encode_cursor(&key));
    Ok(Json(Page { items: found.items.into_iter().map(mark).collect(), next_cursor }))
}

/// `DELETE /v1/sessions/{peer_id}`: one of the caller's own, by force.
pub(super) async fn end(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path(peer): Path<PeerId>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let ended = app.catalog.end_session(&session.username, peer, app.clock.millis()).await;
    ended.map_err(problems::of_catalog)?;
    tracing::info!(peer.id = %peer, account = %session.username, "a session was ended by its owner");
    Ok(StatusCode::NO_CONTENT)
}

/// The broker as the session's peer is to use it.
fn broker_of(app: &App, peer: PeerId, now: i64) -> Result<Option<Broker>, Problem> {
    app.broker.as_ref().map(|broker| broker.of_peer(peer, now).map_err(Problem::internal)).transpose()
}

fn wrong_password() -> Problem {
    Problem::new(ErrorCode::Unauthenticated, "the username or the password is wrong")
}

fn disabled_account() -> Problem {
    Problem::new(ErrorCode::PermissionDenied, "this account is disabled")
}

/// What can be seen of a login without asking anybody, but for its certificate request.
pub(crate) fn check(request: &SessionRequest) -> Result<(), Problem> {
    check_endpoints(&request.endpoints)?;
    check_sealing_key(&request.sealing_key)?;
    if request.version.len() > MAX_VERSION || request.version.chars().any(char::is_control) {
        return Err(Problem::invalid(format!("`version` is at most {MAX_VERSION} plain characters")));
    }
    Ok(())
}

/// `host:port`, as others will dial it. The directory itself never does.
fn check_endpoints(endpoints: &[String]) -> Result<(), Problem> {
    if endpoints.len() > MAX_ENDPOINTS {
        return Err(Problem::invalid(format!("`endpoints` has more than {MAX_ENDPOINTS} entries")));
    }
    match endpoints.iter().position(|endpoint| !is_endpoint(endpoint)) {
        None => Ok(()),
        Some(at) => Err(Problem::invalid(format!(
            "`endpoints[{at}]` is not `host:port` of at most {MAX_ENDPOINT} characters"
        ))),
    }
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let port_is_good = !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port != 0);
    let host_is_good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    text.len() <= MAX_ENDPOINT && port_is_good && host_is_good
}

fn check_sealing_key(key: &str) -> Result<(), Problem> {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if key.len() == 64 && key.bytes().all(lower_hex) {
        Ok(())
    } else {
        Err(Problem::invalid("`sealing_key` is not 64 lower-case hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::is_endpoint;

    #[test]
    fn endpoints() {
        for good in ["127.0.0.1:50051", "[::1]:1", "host-1.example:65535", "peer_a:80"] {
            assert!(is_endpoint(good), "{good}");
        }
        let long = format!("{}:1", "a".repeat(254));
        for bad in [
            "",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:65536",
            "host:+1",
            "::1:80",
            "[x]:1",
            "a b:1",
            "a\n:1",
            "http://a:1",
            &long,
        ] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
