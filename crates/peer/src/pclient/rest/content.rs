//! `GET /v1/content/{content_id}`: the bytes of a file, from here or from the network while they arrive.
//!
//! The bytes come from other people, so an answer is always a download: `attachment`, no sniffing, and a sandbox for a
//! browser that shows it all the same. A content id names the very bytes, so it is the ETag, and answers never go
//! stale. Nothing is read ahead of the client: it takes the next chunk when it has room.

use std::time::Duration;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use content::ContentId;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use wire::{
    ErrorCode,
    http::{Path, Problem, Query},
};

use super::{
    Pclient, disposition,
    range::{self, Wanted},
    tickets::WithTicket,
};

/// How long finding the first holder may take.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
const FOR_EVER: &str = "private, max-age=31536000, immutable";

pub(super) async fn show(
    State(pclient): State<Pclient>,
    method: Method,
    Path(id): Path<ContentId>,
    _: Query<WithTicket>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let etag = format!("\"{id}\"");
    if names(&headers, header::IF_NONE_MATCH, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let opened = tokio::time::timeout(OPEN_LIMIT, pclient.downloads.open(id)).await;
    let content = opened.map_err(|_| Problem::new(ErrorCode::Timeout, "no holder answered in time"))??;
    let size = content.size();

    let may_be_part = !headers.contains_key(header::IF_RANGE) || names(&headers, header::IF_RANGE, &etag);
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).filter(|_| may_be_part);
    let (status, bytes) = match range::wanted(asked, size) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Unsatisfiable => {
            let problem = Problem::new(
                ErrorCode::RangeNotSatisfiable,
                format!("the file has {size} bytes, and the range lies outside"),
            );
            return Ok(([(header::CONTENT_RANGE, format!("bytes */{size}"))], problem).into_response());
        }
    };

    let length = bytes.end - bytes.start;
    let content_range = format!("bytes {}-{}/{size}", bytes.start, bytes.end.saturating_sub(1));
    let kind = content.media_type().and_then(|kind| HeaderValue::try_from(kind).ok());
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
    let disposition = disposition::attachment(content.name().file_name());
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        content.begin(&bytes).await?;
        Body::from_stream(content.stream(bytes))
    };

    let mut response = (status, body).into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, kind);
    answer.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    answer.insert(header::CONTENT_DISPOSITION, disposition);
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(FOR_EVER));
    answer.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        answer.insert(header::ETAG, etag);
    }
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::try_from(content_range)
    {
        answer.insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// Whether a conditional header lists this very ETag, or says `*`.
fn names(headers: &HeaderMap, condition: header::HeaderName, etag: &str) -> bool {
    let values = headers.get_all(condition);
    values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one == etag
    })
}
