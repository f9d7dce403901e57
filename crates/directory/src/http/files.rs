//! `/v1/files`: who holds a content, and what others found wrong with a holder.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use content::ContentId;
use http::StatusCode;
use wire::{
    ErrorCode,
    http::{JsonBody, NoQuery, Path, Problem},
    rest::directory::{LocateRequest, MAX_LOCATE, Report, ReportKind},
};

use super::{auth::Caller, json, problems};
use crate::App;

/// `GET /v1/files/{content_id}`.
pub(super) async fn locate(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path(id): Path<ContentId>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let found =
        app.catalog.locate(&id, &session.username, app.clock.millis()).await.map_err(problems::of_catalog)?;
    let mut located = found.ok_or_else(|| Problem::not_found("nobody holds this content"))?;
    located.holders.iter_mut().for_each(|holder| holder.relay = app.relay());
    json(&located)
}

/// `POST /v1/files/locate`.
pub(super) async fn locate_many(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    _: NoQuery,
    JsonBody(LocateRequest { content_ids }): JsonBody<LocateRequest>,
) -> Result<Response, Problem> {
    if content_ids.len() > MAX_LOCATE {
        return Err(Problem::new(
            ErrorCode::TooLarge,
            format!("`content_ids` has more than {MAX_LOCATE} entries"),
        ));
    }
    if content_ids.is_empty() {
        return Err(Problem::invalid("`content_ids` is empty"));
    }
    app.rates.charge(&session.username, u32::try_from(content_ids.len()).unwrap_or(u32::MAX))?;
    let now = app.clock.millis();
    let mut reply =
        app.catalog.locate_many(&content_ids, &session.username, now).await.map_err(problems::of_catalog)?;
    reply.peers.iter_mut().for_each(|peer| peer.relay = app.relay());
    json(&reply)
}

/// `POST /v1/files/{content_id}/reports`.
pub(super) async fn report(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path(id): Path<ContentId>,
    _: NoQuery,
    JsonBody(Report { peer_id, kind }): JsonBody<Report>,
) -> Result<StatusCode, Problem> {
    let word = match kind {
        ReportKind::Unreachable => "unreachable",
        ReportKind::Missing => "missing",
        ReportKind::Corrupt => "corrupt",
    };
    app.catalog.report(&id, peer_id, kind, &session.username).await.map_err(problems::of_catalog)?;
    metrics::counter!("directory_reports_total", "kind" => word).increment(1);
    Ok(StatusCode::NO_CONTENT)
}
