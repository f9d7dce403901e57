//! Who calls: a session's token, or the admin's; and from where.

use std::{net::IpAddr, sync::Arc};

use axum::extract::{FromRequestParts, MatchedPath};
use http::{header, request::Parts};
use secrecy::ExposeSecret;
use wire::{ErrorCode, http::Problem};

use super::problems;
use crate::{App, catalog::Session, limits, secrets};

/// The session whose token the request carries.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Session);

/// The request carries the admin token.
#[derive(Debug)]
pub(super) struct Admin;

/// The request carries the admin token, or a session's.
#[derive(Debug)]
pub(super) enum AdminOrCaller {
    Admin,
    Caller(Session),
}

/// Who asks, as [`super::gate`] found it; None where the request did not come over a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address(pub(super) Option<IpAddr>);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let token =
            bearer(parts).ok_or_else(|| unauthenticated("this call needs `Authorization: Bearer TOKEN`"))?;
        let unknown = || unauthenticated("the session has ended, or never was; log in again");
        let digest = secrets::digest(token).ok_or_else(unknown)?;
        let session = app.catalog.session(&digest, app.clock.millis()).await.map_err(problems::of_catalog)?;
        let session = session.ok_or_else(unknown)?;
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        app.rates.charge(&session.username, limits::weight(parts.method.as_str(), route))?;
        Ok(Self(session))
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Some(admin) = &app.admin_token else {
            return Err(Problem::new(ErrorCode::PermissionDenied, "this directory has no admin token set"));
        };
        let token = bearer(parts).ok_or_else(|| unauthenticated("this call needs the admin token"))?;
        if secrets::same(token, admin.expose_secret()) {
            Ok(Self)
        } else {
            metrics::counter!("directory_refusals_total", "reason" => "admin_token").increment(1);
            Err(unauthenticated("this is not the admin token"))
        }
    }
}

impl FromRequestParts<Arc<App>> for AdminOrCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let is_admin =
            |token| app.admin_token.as_ref().is_some_and(|admin| secrets::same(token, admin.expose_secret()));
        if bearer(parts).is_some_and(is_admin) {
            return Ok(Self::Admin);
        }
        Caller::from_request_parts(parts, app).await.map(|Caller(session)| Self::Caller(session))
    }
}

impl<S: Sync> FromRequestParts<S> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().copied().unwrap_or(Self(None)))
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(ErrorCode::Unauthenticated, detail)
}
