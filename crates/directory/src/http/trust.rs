//! `GET /v1/trust`: what a peer has to know beside certificates, which are believed for a day: who was ended since, and
//! who is in the groups that its files are for.

use std::sync::Arc;

use axum::{Json, extract::State};
use wire::{
    GroupName,
    http::{Problem, Query, page},
    rest::accounts::{MAX_TRUST_GROUPS, TrustQuery, TrustReply},
};

use super::{auth::Caller, problems};
use crate::{App, catalog::RevokedCursor};

pub(super) async fn trust(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Query(TrustQuery { groups, limit, cursor }): Query<TrustQuery>,
) -> Result<Json<TrustReply>, Problem> {
    let after: Option<RevokedCursor> = page::decode_cursor(cursor.as_deref())?;
    let limit = page::limit(limit)?;
    let names = groups.as_deref().map(read_names).transpose()?.unwrap_or_default();
    let (viewer, now) = (&session.username, app.clock.millis());
    // First: what changes while the rest is read is then news once more.
    let trust_revision = app.catalog.trust_revision(viewer).await.map_err(problems::of_catalog)?;
    let mut groups = Vec::new();
    for name in &names {
        groups.extend(app.catalog.group(name, viewer).await.map_err(problems::of_catalog)?);
    }
    let found = app.catalog.revoked(after, limit, now).await.map_err(problems::of_catalog)?;
    let next_cursor = found.next.map(|key| page::encode_cursor(&key));
    Ok(Json(TrustReply { trust_revision, items: found.items, groups, next_cursor }))
}

fn read_names(text: &str) -> Result<Vec<GroupName>, Problem> {
    let bad = || {
        Problem::invalid(format!("`groups` is not 1 to {MAX_TRUST_GROUPS} names of groups, comma separated"))
    };
    let names: Vec<&str> = text.split(',').take(MAX_TRUST_GROUPS + 1).collect();
    if names.len() > MAX_TRUST_GROUPS {
        return Err(bad());
    }
    names.iter().map(|name| name.parse().map_err(|_| bad())).collect()
}
