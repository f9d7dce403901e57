//! `/v1/peers`: who takes part, and what each has.

use std::sync::Arc;

use axum::{Json, extract::State};
use wire::{
    PeerId,
    http::{NoQuery, Path, Problem, Query, page},
    rest::{
        Page,
        directory::{PageQuery, PeerFile, PeerItem, PeersQuery},
    },
};

use super::{auth::Caller, problems};
use crate::{App, catalog::FilesCursor};

/// `GET /v1/peers`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Query(PeersQuery { username, limit, cursor }): Query<PeersQuery>,
) -> Result<Json<Page<PeerItem>>, Problem> {
    let after: Option<PeerId> = page::decode_cursor(cursor.as_deref())?;
    let limit = page::limit(limit)?;
    let (viewer, now) = (&session.username, app.clock.millis());
    let found = match &username {
        Some(username) => app.catalog.peers_of(username, after, limit, viewer, now).await,
        None => app.catalog.peers(after, limit, viewer, now).await,
    };
    let found = found.map_err(problems::of_catalog)?;
    let next_cursor = found.next.map(|key| page::encode_cursor(&key));
    let items = found.items.into_iter().map(|peer| PeerItem { relay: app.relay(), ..peer }).collect();
    Ok(Json(Page { items, next_cursor }))
}

/// `GET /v1/peers/{peer_id}`.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path(peer): Path<PeerId>,
    _: NoQuery,
) -> Result<Json<PeerItem>, Problem> {
    let found =
        app.catalog.peer(peer, &session.username, app.clock.millis()).await.map_err(problems::of_catalog)?;
    let peer = found.ok_or_else(|| Problem::not_found("there is no such peer"))?;
    Ok(Json(PeerItem { relay: app.relay(), ..peer }))
}

/// `GET /v1/peers/{peer_id}/files`.
pub(super) async fn files(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path(peer): Path<PeerId>,
    Query(PageQuery { limit, cursor }): Query<PageQuery>,
) -> Result<Json<Page<PeerFile>>, Problem> {
    let call = format!("files of {peer}");
    let after: Option<FilesCursor> = app.cursors.open(&call, cursor.as_deref())?;
    let limit = page::limit(limit)?;
    let found =
        app.catalog.peer_files(peer, after, limit, &session.username).await.map_err(problems::of_catalog)?;
    let next_cursor = found.next.map(|key| app.cursors.seal(&call, &key)).transpose()?;
    Ok(Json(Page { items: found.items, next_cursor }))
}
