//! `POST /v1/login`, `POST /v1/logout`.

use axum::{Json, extract::State};
use http::StatusCode;
use wire::{
    http::{JsonBody, Problem},
    rest::pclient::{LoginRequest, Status},
};

use super::{NoQuery, Pclient};

pub(super) async fn login(
    State(pclient): State<Pclient>,
    _: NoQuery,
    JsonBody(request): JsonBody<LoginRequest>,
) -> Result<Json<Status>, Problem> {
    pclient.session.login(request.username, request.password.into()).await?;
    Ok(Json(pclient.status()))
}

pub(super) async fn logout(State(pclient): State<Pclient>, _: NoQuery) -> Result<StatusCode, Problem> {
    pclient.session.logout().await?;
    Ok(StatusCode::NO_CONTENT)
}
