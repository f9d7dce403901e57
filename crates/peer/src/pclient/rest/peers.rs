//! Other peers: who is there, what each has, who holds a content, and the path to each.

use axum::{Json, extract::State};
use content::ContentId;
use wire::{
    PeerId,
    http::{Path, Problem, Query, page},
    rest::{
        Page,
        directory::{PageQuery, PeerFile, PeersQuery},
        pclient::{HolderWithPath, PeerWithPath},
    },
};

use super::{NoQuery, Pclient};
use crate::link::Target;

/// `GET /v1/files/{content_id}/holders`.
pub(super) async fn holders(
    State(pclient): State<Pclient>,
    Path(id): Path<ContentId>,
    _: NoQuery,
) -> Result<Json<Page<HolderWithPath>>, Problem> {
    let located = pclient.directory.locate(id).await?;
    let with_path = |holder: wire::rest::directory::Holder| {
        let target = Target::from(&holder);
        let (path, why) = pclient.links.way(&target, holder.online);
        HolderWithPath { holder, path, why }
    };
    // All of them: there is no next page.
    Ok(Json(Page { items: located.holders.into_iter().map(with_path).collect(), next_cursor: None }))
}

/// `GET /v1/peers`.
pub(super) async fn list(
    State(pclient): State<Pclient>,
    Query(query): Query<PeersQuery>,
) -> Result<Json<Page<PeerWithPath>>, Problem> {
    page::limit(query.limit)?;
    let found = pclient.directory.peers(&query).await?;
    let items = found.items.into_iter().map(|peer| pclient.with_path(peer)).collect();
    Ok(Json(Page { items, next_cursor: found.next_cursor }))
}

/// `GET /v1/peers/{peer_id}`.
pub(super) async fn show(
    State(pclient): State<Pclient>,
    Path(id): Path<PeerId>,
    _: NoQuery,
) -> Result<Json<PeerWithPath>, Problem> {
    let peer = pclient.directory.peer(id).await?;
    Ok(Json(pclient.with_path(peer)))
}

/// `GET /v1/peers/{peer_id}/files`.
pub(super) async fn files(
    State(pclient): State<Pclient>,
    Path(id): Path<PeerId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<PeerFile>>, Problem> {
    page::limit(query.limit)?;
    Ok(Json(pclient.directory.peer_files(id, &query).await?))
}

impl Pclient {
    fn with_path(&self, peer: wire::rest::directory::PeerItem) -> PeerWithPath {
        let target = Target::from(&peer);
        let (path, why) = self.links.way(&target, peer.online);
        PeerWithPath { peer, path, why }
    }
}
