//! `GET /v1/audit`: who fetched what from this peer.

use axum::{Json, extract::State};
use wire::{
    http::{Problem, Query, page},
    rest::{
        Page,
        pclient::{AuditEntry, AuditQuery},
    },
};

use super::Pclient;

pub(super) async fn list(
    State(pclient): State<Pclient>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let limit = page::limit(query.limit)?;
    let after: Option<u64> = page::decode_cursor(query.cursor.as_deref())?;
    // One more than asked for tells whether there is a next page.
    let mut entries = pclient.audit.entries(query.content_id, query.username.as_ref(), after, limit + 1)?;
    let next_cursor = (entries.len() > limit).then(|| {
        entries.truncate(limit);
        entries.last().map(|(number, _)| page::encode_cursor(number)).unwrap_or_default()
    });
    let items = entries.into_iter().map(|(_, entry)| entry).collect();
    Ok(Json(Page { items, next_cursor }))
}
