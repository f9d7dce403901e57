//! Downloads: asked for, looked at, paused, resumed, cancelled.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use content::SafeName;
use http::{StatusCode, header};
use wire::{
    http::{JsonBody, Path, Problem, Query, page},
    rest::{
        Page,
        pclient::{BatchReply, BatchRequest, Download, DownloadRequest, DownloadsQuery, MAX_BATCH, Pieces},
    },
};

use super::{NoQuery, Pclient};

/// `GET /v1/downloads`.
pub(super) async fn list(
    State(pclient): State<Pclient>,
    Query(query): Query<DownloadsQuery>,
) -> Result<Json<Page<Download>>, Problem> {
    let limit = page::limit(query.limit)?;
    let after = page::decode_cursor(query.cursor.as_deref())?;
    // One more than asked for tells whether there is a next page.
    let mut items = pclient.downloads.page(query.state, after, limit + 1);
    let next_cursor = (items.len() > limit).then(|| {
        items.truncate(limit);
        items.last().map(|last| page::encode_cursor(&last.id)).unwrap_or_default()
    });
    Ok(Json(Page { items, next_cursor }))
}

/// `POST /v1/downloads`: 201, or 200 with the one that runs.
pub(super) async fn start(
    State(pclient): State<Pclient>,
    _: NoQuery,
    JsonBody(request): JsonBody<DownloadRequest>,
) -> Result<Response, Problem> {
    let name = safe_name(&request)?;
    let (download, created) = pclient.downloads.start(request.content_id, name).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(header::LOCATION, format!("/v1/downloads/{}", download.id))];
    Ok((status, location, Json(download)).into_response())
}

/// `POST /v1/downloads/batch`.
pub(super) async fn start_many(
    State(pclient): State<Pclient>,
    _: NoQuery,
    JsonBody(batch): JsonBody<BatchRequest>,
) -> Result<(StatusCode, Json<BatchReply>), Problem> {
    if batch.downloads.is_empty() || batch.downloads.len() > MAX_BATCH {
        return Err(Problem::invalid(format!("a batch has 1 to {MAX_BATCH} downloads")));
    }
    let named = |(at, request): (usize, &DownloadRequest)| {
        let name = safe_name(request).map_err(|problem| Problem {
            detail: format!("`downloads[{at}]`: {}", problem.detail),
            ..problem
        })?;
        Ok((request.content_id, name))
    };
    let wanted = batch.downloads.iter().enumerate().map(named).collect::<Result<_, Problem>>()?;
    let items = pclient.downloads.start_many(wanted).await?;
    Ok((StatusCode::CREATED, Json(BatchReply { items })))
}

/// `GET /v1/downloads/{id}`.
pub(super) async fn show(
    State(pclient): State<Pclient>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Download>, Problem> {
    let download = pclient.downloads.get(&id);
    download.map(Json).ok_or_else(|| Problem::not_found("there is no such download"))
}

/// `GET /v1/downloads/{id}/pieces`: which of them are here.
pub(super) async fn pieces(
    State(pclient): State<Pclient>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Pieces>, Problem> {
    let pieces = pclient.downloads.pieces(&id)?;
    Ok(Json(Pieces::from(&pieces)))
}

/// `POST /v1/downloads/{id}/pause`.
pub(super) async fn pause(
    State(pclient): State<Pclient>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Download>, Problem> {
    Ok(Json(pclient.downloads.pause(&id).await?))
}

/// `POST /v1/downloads/{id}/resume`.
pub(super) async fn resume(
    State(pclient): State<Pclient>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Download>, Problem> {
    Ok(Json(pclient.downloads.resume(&id).await?))
}

/// `DELETE /v1/downloads/{id}`: the part file goes; a finished file stays.
pub(super) async fn cancel(
    State(pclient): State<Pclient>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    pclient.downloads.cancel(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn safe_name(request: &DownloadRequest) -> Result<Option<SafeName>, Problem> {
    let name = request.name.as_deref().map(SafeName::new).transpose();
    name.map_err(|error| Problem::invalid(format!("`name`: {error}")))
}
