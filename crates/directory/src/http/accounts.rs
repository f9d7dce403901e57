//! `/v1/accounts` and `/v1/invites`: who may take part.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use wire::{
    ErrorCode, Username,
    http::{JsonBody, NoQuery, Path, Problem},
    rest::directory::{AccountReply, AccountRequest, InviteReply, InviteRequest},
};

use super::{
    auth::{Address, Admin},
    problems,
};
use crate::{App, config::Registration, passwords, secrets};

const LONGEST_INVITE: u64 = 366 * 24 * 3600;

/// `POST /v1/accounts`.
pub(super) async fn register(
    State(app): State<Arc<App>>,
    Address(address): Address,
    _: NoQuery,
    JsonBody(request): JsonBody<AccountRequest>,
) -> Result<(StatusCode, Json<AccountReply>), Problem> {
    let AccountRequest { username, password, invite } = request;
    if app.registration == Registration::Closed {
        return Err(Problem::new(ErrorCode::PermissionDenied, "this directory creates no accounts"));
    }
    app.registrations.check(address, &username)?;
    let length = password.chars().count();
    if length < passwords::SHORTEST || password.len() > passwords::LONGEST {
        let (shortest, longest) = (passwords::SHORTEST, passwords::LONGEST);
        return Err(Problem::invalid(format!(
            "`password` has {length} characters; it needs at least {shortest}, and at most {longest} bytes"
        )));
    }
    let invite = match (app.registration, invite) {
        (Registration::Invite, None) => {
            return Err(Problem::new(
                ErrorCode::PermissionDenied,
                "this directory creates accounts by invite only",
            ));
        }
        (Registration::Invite, Some(invite)) => Some(
            secrets::digest(&invite)
                .ok_or_else(|| problems::of_catalog(crate::catalog::CatalogError::Invite))?,
        ),
        _ => None,
    };
    let hash = app.passwords.hash(password).await.map_err(problems::of_password)?;
    app.catalog
        .create_account(&username, hash, invite, app.clock.millis())
        .await
        .map_err(problems::of_catalog)?;
    tracing::info!(account = %username, "account created");
    Ok((StatusCode::CREATED, Json(AccountReply { username })))
}

/// `POST /v1/invites`.
pub(super) async fn invite(
    State(app): State<Arc<App>>,
    _: Admin,
    _: NoQuery,
    JsonBody(InviteRequest { uses, expires_in }): JsonBody<InviteRequest>,
) -> Result<(StatusCode, Json<InviteReply>), Problem> {
    if !(1..=10_000).contains(&uses) {
        return Err(Problem::invalid("`uses` goes from 1 to 10000"));
    }
    if !(1..=LONGEST_INVITE).contains(&expires_in) {
        return Err(Problem::invalid("`expires_in` goes from 1 second to a year"));
    }
    let invite = secrets::fresh();
    let digest = secrets::digest(&invite).ok_or_else(|| Problem::internal("a fresh secret has no digest"))?;
    let now = app.clock.millis();
    let expires_at = now.saturating_add(i64::try_from(expires_in * 1000).unwrap_or(i64::MAX));
    app.catalog.create_invite(digest, uses, expires_at, now).await.map_err(problems::of_catalog)?;
    Ok((StatusCode::CREATED, Json(InviteReply { invite })))
}

/// `POST /v1/accounts/{username}/disable`.
pub(super) async fn disable(
    State(app): State<Arc<App>>,
    _: Admin,
    _: NoQuery,
    Path(username): Path<Username>,
) -> Result<StatusCode, Problem> {
    app.catalog.disable_account(&username, app.clock.millis()).await.map_err(problems::of_catalog)?;
    tracing::info!(account = %username, "account disabled");
    Ok(StatusCode::NO_CONTENT)
}
