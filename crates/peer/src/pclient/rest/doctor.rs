//! `POST /v1/doctor`: what works, what does not, and what to do. A POST, because it writes, dials and sends to find out.

use axum::{Json, extract::State};
use wire::{http::Problem, rest::pclient::Examination};

use super::{NoQuery, Pclient};

pub(super) async fn examine(
    State(pclient): State<Pclient>,
    _: NoQuery,
) -> Result<Json<Examination>, Problem> {
    Ok(Json(pclient.doctor.examine().await?))
}
