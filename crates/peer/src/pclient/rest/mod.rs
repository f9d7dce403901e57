//! pclient's REST: the whole map of routes on one screen, one file per resource.
//!
//! Handlers read a request, call the core ([`Pclient`] holds its parts) and word the answer; they decide nothing. Who
//! may ask at all is [`guard`]'s business, before any of them runs.

mod audit;
mod content;
pub(crate) mod disposition;
mod doctor;
#[cfg(test)]
mod documented;
mod downloads;
mod events;
mod files;
mod groups;
pub mod guard;
mod health;
#[cfg(test)]
pub(crate) mod kit;
mod offers;
pub mod openapi;
mod peers;
pub(crate) mod range;
mod search;
mod session;
mod status;
#[cfg(test)]
mod strict;
#[cfg(test)]
mod tests;
mod tickets;
pub(crate) mod upload;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{delete, get, patch, post, put},
};
use daemon::serve::Limits;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::{
    PeerId,
    http::{NoQuery, layers},
};

use self::{guard::Guard, tickets::Tickets};
use super::page;
use crate::{
    audit::Audit,
    directory_link::{DirectoryClient, Session, announce::Held},
    doctor::Doctor,
    download::Downloads,
    events::Events,
    library::Library,
    link::Links,
    meter::Meter,
    offers::Offers,
    relay::broker::RelayState,
    shares::Shares,
    trust::Trust,
};

/// A batch of a thousand names and ids.
const BATCH_LIMIT: usize = 4 << 20;

/// The parts of the core that handlers call.
#[derive(Clone)]
pub struct Pclient {
    pub directory: DirectoryClient,
    pub session: Session,
    pub held: Held,
    pub library: Library,
    pub shares: Shares,
    pub downloads: Downloads,
    pub offers: Offers,
    pub audit: Audit,
    /// Bytes sent to other peers.
    pub sent: Meter,
    pub links: Links,
    /// Whom the directory says not to deal with, and who is in which group.
    pub trust: Trust,
    pub doctor: Doctor,
    pub events: Events,
    pub about: Arc<About>,
    /// Whether the broker is connected.
    pub relay: watch::Receiver<RelayState>,
    /// Fires when no new work should begin; answers without an end do end then.
    pub stop: CancellationToken,
}

/// What does not change while the peer runs.
#[derive(Debug, Clone)]
pub struct About {
    pub peer_id: PeerId,
    /// None where it takes no calls.
    pub pserver_listen: Option<SocketAddr>,
    pub advertise: Vec<String>,
}

/// What clients of this API may take: it serves one person, who may stop reading a film for a while.
pub fn limits() -> Limits {
    Limits { stalled: Duration::from_secs(3600), connections: 2_000, per_address: 500, ..Limits::default() }
}

/// The whole API.
pub fn router(pclient: Pclient, guard: Guard) -> Router {
    let tickets = Tickets::default();
    let api = Router::new()
        .route("/v1/status", get(status::show))
        .route("/v1/doctor", post(doctor::examine))
        .route("/v1/login", post(session::login))
        .route("/v1/logout", post(session::logout))
        .route("/v1/accounts/{username}/password", put(session::set_password))
        .route("/v1/sessions", get(session::list))
        .route("/v1/sessions/{peer_id}", delete(session::end))
        .route("/v1/groups", get(groups::list).merge(post(groups::create)))
        .route("/v1/groups/{name}", get(groups::show).merge(delete(groups::remove)))
        .route(
            "/v1/groups/{name}/members/{username}",
            put(groups::add_member).merge(delete(groups::remove_member)),
        )
        .route("/v1/files", get(files::list).merge(post(files::share)))
        .route(
            "/v1/files/{content_id}",
            get(files::show).merge(patch(files::change)).merge(delete(files::unshare)),
        )
        .route("/v1/files/{content_id}/holders", get(peers::holders))
        .route("/v1/search", get(search::search))
        .route("/v1/downloads", get(downloads::list).merge(post(downloads::start)))
        .route("/v1/downloads/batch", post(downloads::start_many).layer(DefaultBodyLimit::max(BATCH_LIMIT)))
        .route("/v1/downloads/{id}", get(downloads::show).merge(delete(downloads::cancel)))
        .route("/v1/downloads/{id}/pieces", get(downloads::pieces))
        .route("/v1/downloads/{id}/pause", post(downloads::pause))
        .route("/v1/downloads/{id}/resume", post(downloads::resume))
        .route("/v1/content/{content_id}", get(content::show))
        .route("/v1/tickets", post(tickets::issue).with_state(tickets.clone()))
        .route("/v1/offers", get(offers::list).merge(post(offers::send)))
        .route("/v1/offers/{id}", get(offers::show))
        .route("/v1/offers/{id}/accept", post(offers::accept))
        .route("/v1/offers/{id}/decline", post(offers::decline))
        .route("/v1/audit", get(audit::list))
        .route("/v1/peers", get(peers::list))
        .route("/v1/peers/{peer_id}", get(peers::show))
        .route("/v1/peers/{peer_id}/files", get(peers::files))
        .route("/v1/events", get(events::listen))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::serve))
        .with_state(pclient)
        .merge(page::routes())
        .layer(middleware::from_fn_with_state((Arc::new(guard), tickets), guard::check));
    layers::wrap(api)
}

impl std::fmt::Debug for Pclient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pclient").field("about", &self.about).finish_non_exhaustive()
    }
}
