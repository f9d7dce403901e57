//! `GET /v1/search`.

use std::sync::Arc;

use axum::{Json, extract::State};
use wire::{
    http::{Problem, Query, page},
    rest::{
        Page,
        directory::{SearchItem, SearchQuery},
    },
};

use super::{auth::Caller, catalog::is_media_type, problems};
use crate::{App, catalog::Search, cursors::Cursors, words};

/// Whose cursors these are.
const CALL: &str = "search";

pub(super) async fn search(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Query(query): Query<SearchQuery>,
) -> Result<Json<Page<SearchItem>>, Problem> {
    let search = read(&app.cursors, query)?;
    let found = app
        .catalog
        .search(&search, &session.username, app.clock.millis())
        .await
        .map_err(problems::of_catalog)?;
    let next_cursor = found.next.map(|key| app.cursors.seal(CALL, &key)).transpose()?;
    Ok(Json(Page { items: found.items, next_cursor }))
}

pub(crate) fn read(cursors: &Cursors, query: SearchQuery) -> Result<Search, Problem> {
    let SearchQuery { q, media_type, min_size, max_size, holder, online, limit, cursor } = query;
    if q.as_ref().is_some_and(|q| q.len() > words::MAX_QUERY) {
        return Err(Problem::invalid(format!("`q` is longer than {} bytes", words::MAX_QUERY)));
    }
    let media_type = media_type.map(|text| text.to_ascii_lowercase());
    if let Some(wanted) = &media_type {
        let whole_kind = wanted.strip_suffix("/*").map(|kind| format!("{kind}/x"));
        if !is_media_type(whole_kind.as_deref().unwrap_or(wanted)) {
            return Err(Problem::invalid("`media_type` is not `type/subtype` or `type/*`"));
        }
    }
    let (min_size, max_size) = (min_size.unwrap_or(0), max_size.unwrap_or(u64::MAX));
    if min_size > max_size {
        return Err(Problem::invalid("`min_size` is larger than `max_size`"));
    }
    let after: Option<i64> = cursors.open(CALL, cursor.as_deref())?;
    Ok(Search {
        words: q.filter(|q| !q.trim().is_empty()).map(|q| words::Query::new(&q)),
        media_type,
        min_size,
        max_size,
        holder,
        online: online.unwrap_or(false),
        limit: page::limit(limit)?,
        after,
    })
}
