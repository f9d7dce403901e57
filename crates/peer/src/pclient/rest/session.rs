//! `POST /v1/login`, `POST /v1/logout`; the account's password, and where else it is logged in.

use axum::{Json, extract::State};
use http::StatusCode;
use wire::{
    PeerId, Username,
    http::{JsonBody, Path, Problem, Query, page},
    rest::{
        Page,
        accounts::{LoginRequest, PasswordRequest, SessionItem},
        directory::PageQuery,
        pclient::Status,
    },
};

use super::{NoQuery, Pclient};

pub(super) async fn login(
    State(pclient): State<Pclient>,
    _: NoQuery,
    JsonBody(request): JsonBody<LoginRequest>,
) -> Result<Json<Status>, Problem> {
    let LoginRequest { username, password, invite } = request;
    pclient
        .session
        .login(username, password.as_str().into(), invite.map(|invite| invite.as_str().into()))
        .await?;
    Ok(Json(pclient.status()))
}

pub(super) async fn logout(State(pclient): State<Pclient>, _: NoQuery) -> Result<StatusCode, Problem> {
    pclient.session.logout().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1/accounts/{username}/password`.
pub(super) async fn set_password(
    State(pclient): State<Pclient>,
    Path(username): Path<Username>,
    _: NoQuery,
    JsonBody(PasswordRequest { current, new }): JsonBody<PasswordRequest>,
) -> Result<StatusCode, Problem> {
    let current = current.ok_or_else(|| Problem::invalid("`current` is missing"))?;
    pclient.session.set_password(username, current.as_str().into(), new.as_str().into()).await?;
    pclient.trust.refresh().await;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/sessions`.
pub(super) async fn list(
    State(pclient): State<Pclient>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<SessionItem>>, Problem> {
    page::limit(query.limit)?;
    Ok(Json(pclient.directory.sessions(&query).await?))
}

/// `DELETE /v1/sessions/{peer_id}`.
pub(super) async fn end(
    State(pclient): State<Pclient>,
    Path(peer): Path<PeerId>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    pclient.directory.end_session(peer).await?;
    if peer != pclient.about.peer_id {
        pclient.trust.refresh().await;
    }
    Ok(StatusCode::NO_CONTENT)
}
