//! `POST /v1/catalog`: what changed in a peer's catalog.

use std::sync::Arc;

use axum::{
    Json,
    body::HttpBody,
    extract::{FromRequest, Request, State},
};
use content::{Layout, SafeName};
use wire::{
    ErrorCode,
    http::{JsonBody, NoQuery, Problem},
    rest::directory::{CatalogDelta, CatalogPut, CatalogReply, MAX_DELTA_ENTRIES},
};

use super::{DELTA_LIMIT, auth::Caller, problems};
use crate::App;

const MAX_MEDIA_TYPE: usize = 127;

/// Entries of a delta that cost as much as one lookup.
const ENTRIES_PER_LOOKUP: usize = 4;

/// The body is read only once there is room for it in memory. One that does not say how large it is may be of any size.
pub(super) async fn apply(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    _: NoQuery,
    request: Request,
) -> Result<Json<CatalogReply>, Problem> {
    let bytes = request.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.unwrap_or(DELTA_LIMIT).min(DELTA_LIMIT);
    let Ok(_room) = app.deltas.try_acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX)) else {
        metrics::counter!("directory_refusals_total", "reason" => "deltas_busy").increment(1);
        return Err(Problem::new(ErrorCode::Unavailable, "too many catalogs change at once"));
    };
    let JsonBody(mut delta) = JsonBody::<CatalogDelta>::from_request(request, &app).await?;
    check(&mut delta)?;
    let entries = (delta.put.len() + delta.remove.len()) / ENTRIES_PER_LOOKUP;
    app.rates.charge(&session.username, u32::try_from(entries).unwrap_or(u32::MAX))?;
    let revision = app.catalog.apply(session.peer_id, delta).await.map_err(problems::of_catalog)?;
    Ok(Json(CatalogReply { revision }))
}

pub(crate) fn check(delta: &mut CatalogDelta) -> Result<(), Problem> {
    let entries = delta.put.len() + delta.remove.len();
    if entries > MAX_DELTA_ENTRIES {
        return Err(Problem::new(
            ErrorCode::TooLarge,
            format!("a delta has at most {MAX_DELTA_ENTRIES} entries, this one has {entries}"),
        ));
    }
    if delta.revision == 0 || i64::try_from(delta.revision).is_err() {
        return Err(Problem::invalid("`revision` goes from 1 to 2^63 - 1"));
    }
    if !delta.reset && delta.revision <= delta.base_revision {
        return Err(Problem::invalid("`revision` must be larger than `base_revision`"));
    }
    for (at, put) in delta.put.iter_mut().enumerate() {
        check_put(put)
            .map_err(|why| Problem::invalid(format!("`put[{at}]` ({:?}): {why}", shortened(&put.name))))?;
    }
    Ok(())
}

fn check_put(put: &mut CatalogPut) -> Result<(), String> {
    SafeName::new(&put.name).map_err(|error| error.to_string())?;
    let layout = Layout::new(put.size).map_err(|error| error.to_string())?;
    if put.pieces_held > layout.count() {
        return Err(format!("`pieces_held` is {}, of a file of {} pieces", put.pieces_held, layout.count()));
    }
    if let Some(media_type) = &mut put.media_type {
        media_type.make_ascii_lowercase();
        if !is_media_type(media_type) {
            return Err(format!("`media_type` is not `type/subtype` of at most {MAX_MEDIA_TYPE} characters"));
        }
    }
    Ok(())
}

/// `type/subtype` in the characters that RFC 6838 allows, without parameters.
pub(super) fn is_media_type(text: &str) -> bool {
    let part = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && part.bytes().all(plain)
    };
    text.len() <= MAX_MEDIA_TYPE
        && text.split_once('/').is_some_and(|(kind, subtype)| part(kind) && part(subtype))
}

/// A name may be as long as a body.
fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::is_media_type;

    #[test]
    fn media_types() {
        for good in ["video/mp4", "application/vnd.oasis.opendocument.text", "image/svg+xml"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in
            ["", "video", "video/", "/mp4", "a/b/c", "text/html; charset=utf-8", "video/*", &"a/".repeat(80)]
        {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}
