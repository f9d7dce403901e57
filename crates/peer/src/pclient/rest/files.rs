//! The files that this peer shares: listed, shared, given another audience, withdrawn.

use std::path::Path as FilePath;

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use content::ContentId;
use http::{StatusCode, header};
use wire::{
    http::{JsonBody, Path, Problem, Query, page},
    rest::{
        Page,
        pclient::{FilePatch, FilesQuery, ShareFolderReply, ShareReply, ShareRequest, SharedFile},
    },
};

use super::{NoQuery, Pclient, upload};
use crate::{library::SharedEntry, shares::Shared};

/// `GET /v1/files`, by name.
pub(super) async fn list(
    State(pclient): State<Pclient>,
    Query(query): Query<FilesQuery>,
) -> Result<Json<Page<SharedFile>>, Problem> {
    let limit = page::limit(query.limit)?;
    let after: Option<(String, ContentId)> = page::decode_cursor(query.cursor.as_deref())?;
    // One more than asked for tells whether there is a next page.
    let mut entries = pclient.library.page(query.q.as_deref(), after, limit + 1);
    let next_cursor = (entries.len() > limit).then(|| {
        entries.truncate(limit);
        let key =
            |last: &std::sync::Arc<SharedEntry>| page::encode_cursor(&(last.name.as_str(), last.content_id));
        entries.last().map(key).unwrap_or_default()
    });
    Ok(Json(Page { items: entries.iter().map(|entry| entry.to_rest()).collect(), next_cursor }))
}

/// `POST /v1/files`: a path in a shared folder as JSON, or the bytes themselves as a form.
pub(super) async fn share(
    State(pclient): State<Pclient>,
    _: NoQuery,
    request: Request,
) -> Result<Response, Problem> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    if kind.to_ascii_lowercase().starts_with(b"multipart/form-data") {
        let entry = upload::receive(&pclient, request).await?;
        return Ok(shared(&entry));
    }
    let JsonBody(ShareRequest { path, audience }) = JsonBody::from_request(request, &()).await?;
    if path.is_empty() || path.contains('\0') {
        return Err(Problem::invalid("`path` is not a path"));
    }
    pclient.check_audience(audience.as_ref()).await?;
    let shared_now = pclient.shares.share(FilePath::new(&path), audience.clone()).await?;
    pclient.learn_groups(audience.as_ref()).await;
    match shared_now {
        Shared::File(entry) => Ok(shared(&entry)),
        Shared::Folder { path, files } => {
            let reply = ShareFolderReply { path: path.display().to_string(), files };
            Ok((StatusCode::ACCEPTED, Json(reply)).into_response())
        }
    }
}

/// `GET /v1/files/{content_id}`: one that this peer shares.
pub(super) async fn show(
    State(pclient): State<Pclient>,
    Path(id): Path<ContentId>,
    _: NoQuery,
) -> Result<Json<SharedFile>, Problem> {
    pclient.library.get(&id).map(|entry| Json(entry.to_rest())).ok_or_else(not_shared)
}

/// `PATCH /v1/files/{content_id}`: who may have it from now on.
pub(super) async fn change(
    State(pclient): State<Pclient>,
    Path(id): Path<ContentId>,
    _: NoQuery,
    JsonBody(FilePatch { audience }): JsonBody<FilePatch>,
) -> Result<Json<SharedFile>, Problem> {
    pclient.check_audience(Some(&audience)).await?;
    pclient.library.set_audience(&id, audience.clone()).await?;
    pclient.learn_groups(Some(&audience)).await;
    pclient.library.get(&id).map(|entry| Json(entry.to_rest())).ok_or_else(not_shared)
}

/// `DELETE /v1/files/{content_id}`: no longer shared; the file stays.
pub(super) async fn unshare(
    State(pclient): State<Pclient>,
    Path(id): Path<ContentId>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    match pclient.library.unshare(&id).await? {
        0 => Err(not_shared()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

fn shared(entry: &SharedEntry) -> Response {
    let reply = ShareReply {
        content_id: entry.content_id,
        name: entry.name.to_string(),
        size: entry.size,
        audience: entry.audience.clone(),
    };
    (StatusCode::CREATED, Json(reply)).into_response()
}

fn not_shared() -> Problem {
    Problem::not_found("this peer does not share such a file")
}
