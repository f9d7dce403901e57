//! `/v1/accounts` and `/v1/invites`: who may take part, and with which password.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use wire::{
    ErrorCode, Username,
    http::{JsonBody, NoQuery, Path, Problem},
    rest::{
        accounts::{LookupReply, LookupRequest, MAX_LOOKUP, PasswordRequest},
        directory::{AccountReply, AccountRequest, InviteReply, InviteRequest},
    },
};

use super::{
    auth::{Address, Admin, AdminOrCaller, Caller},
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
    check_length("password", &password)?;
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

/// `POST /v1/accounts/lookup`.
pub(super) async fn lookup(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    _: NoQuery,
    JsonBody(LookupRequest { usernames }): JsonBody<LookupRequest>,
) -> Result<Json<LookupReply>, Problem> {
    if usernames.len() > MAX_LOOKUP {
        let detail = format!("`usernames` has more than {MAX_LOOKUP} entries");
        return Err(Problem::new(ErrorCode::TooLarge, detail));
    }
    if usernames.is_empty() {
        return Err(Problem::invalid("`usernames` is empty"));
    }
    app.rates.charge(&session.username, u32::try_from(usernames.len()).unwrap_or(u32::MAX))?;
    let mut known = Vec::with_capacity(usernames.len());
    for username in usernames {
        if app.catalog.account(&username).await.map_err(problems::of_catalog)?.is_some() {
            known.push(username);
        }
    }
    Ok(Json(LookupReply { usernames: known }))
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

/// `POST /v1/accounts/{username}/enable`.
pub(super) async fn enable(
    State(app): State<Arc<App>>,
    _: Admin,
    _: NoQuery,
    Path(username): Path<Username>,
) -> Result<StatusCode, Problem> {
    app.catalog.enable_account(&username).await.map_err(problems::of_catalog)?;
    tracing::info!(account = %username, "account enabled");
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1/accounts/{username}/password`: by the account itself, which knows the one until now, or by the admin.
pub(super) async fn set_password(
    State(app): State<Arc<App>>,
    caller: AdminOrCaller,
    Address(address): Address,
    _: NoQuery,
    Path(username): Path<Username>,
    JsonBody(PasswordRequest { current, new }): JsonBody<PasswordRequest>,
) -> Result<StatusCode, Problem> {
    let keep = match caller {
        AdminOrCaller::Admin => None,
        AdminOrCaller::Caller(session) if session.username == username => Some(session.peer_id),
        AdminOrCaller::Caller(_) => {
            return Err(Problem::new(ErrorCode::PermissionDenied, "this is somebody else's account"));
        }
    };
    check_length("new", &new)?;
    if keep.is_some() {
        let current = current.ok_or_else(|| Problem::invalid("`current` is missing"))?;
        // A guess is a guess, whoever's session it comes from.
        app.logins.check(address, &username)?;
        let account = app.catalog.account(&username).await.map_err(problems::of_catalog)?;
        let hash = account.map(|account| account.password_hash);
        let right = current.len() <= passwords::LONGEST
            && app.passwords.verify(current, hash).await.map_err(problems::of_password)?;
        if !right {
            metrics::counter!("directory_refusals_total", "reason" => "password").increment(1);
            return Err(Problem::new(ErrorCode::PermissionDenied, "`current` is not the password"));
        }
    } else if current.is_some() {
        return Err(Problem::invalid("the admin sets a password without `current`"));
    }
    let hash = app.passwords.hash(new).await.map_err(problems::of_password)?;
    let set = app.catalog.set_password(&username, hash, keep, app.clock.millis()).await;
    set.map_err(problems::of_catalog)?;
    tracing::info!(account = %username, by_admin = keep.is_none(), "password changed");
    Ok(StatusCode::NO_CONTENT)
}

fn check_length(field: &str, password: &str) -> Result<(), Problem> {
    let length = password.chars().count();
    if length >= passwords::SHORTEST && password.len() <= passwords::LONGEST {
        return Ok(());
    }
    let (shortest, longest) = (passwords::SHORTEST, passwords::LONGEST);
    Err(Problem::invalid(format!(
        "`{field}` has {length} characters; it needs at least {shortest}, and at most {longest} bytes"
    )))
}
