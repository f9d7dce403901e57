//! The directory's REST: a file for each resource; here, the map of them.
//!
//! Handlers read, ask [`crate::catalog::Catalog`] and word the answer. They decide nothing about what is held.

mod accounts;
mod auth;
mod broker;
pub(crate) mod catalog;
mod files;
mod gate;
mod groups;
pub mod openapi;
mod peers;
mod problems;
pub(crate) mod search;
mod service;
pub(crate) mod sessions;
mod trust;

use std::sync::Arc;

use ::http::{HeaderValue, header};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use wire::http::{Problem, layers};

use crate::App;

/// The largest catalog delta: 10,000 entries with names of 1 KiB fit.
const DELTA_LIMIT: usize = 16 << 20;
/// A thousand content ids, and room for spaces.
const LOCATE_LIMIT: usize = 128 << 10;

/// A JSON answer whose buffer begins with room for what most answers need, so that it is not moved as it grows.
fn json<T: serde::Serialize>(answer: &T) -> Result<Response, Problem> {
    let mut body = Vec::with_capacity(1 << 10);
    serde_json::to_writer(&mut body, answer).map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

/// All routes, in their middleware.
pub fn router(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/healthz", get(service::healthz))
        .route("/readyz", get(service::readyz))
        .route("/metrics", get(service::metrics))
        .route("/openapi.json", get(openapi::serve))
        .route("/v1/ca.pem", get(service::ca))
        .route("/v1/accounts", post(accounts::register))
        .route("/v1/accounts/lookup", post(accounts::lookup))
        .route("/v1/accounts/{username}/disable", post(accounts::disable))
        .route("/v1/accounts/{username}/enable", post(accounts::enable))
        .route("/v1/accounts/{username}/password", put(accounts::set_password))
        .route("/v1/invites", post(accounts::invite))
        .route("/v1/sessions", post(sessions::login).get(sessions::list))
        .route("/v1/sessions/current", put(sessions::renew).delete(sessions::logout))
        .route("/v1/sessions/{peer_id}", delete(sessions::end))
        .route("/v1/groups", post(groups::create).get(groups::list))
        .route("/v1/groups/{name}", get(groups::get).delete(groups::delete))
        .route("/v1/groups/{name}/members/{username}", put(groups::add).delete(groups::remove))
        .route("/v1/trust", get(trust::trust))
        .route("/v1/catalog", post(catalog::apply).layer(DefaultBodyLimit::max(DELTA_LIMIT)))
        .route("/v1/search", get(search::search))
        .route("/v1/files/locate", post(files::locate_many).layer(DefaultBodyLimit::max(LOCATE_LIMIT)))
        .route("/v1/files/{content_id}", get(files::locate))
        .route("/v1/files/{content_id}/reports", post(files::report))
        .route("/v1/peers", get(peers::list))
        .route("/v1/peers/{peer_id}", get(peers::get))
        .route("/v1/peers/{peer_id}/files", get(peers::files))
        .route("/v1/broker/key.pem", get(broker::key_pem))
        .route("/v1/broker/jwks.json", get(broker::jwks))
        .merge(of_the_broker())
        .layer(middleware::from_fn_with_state(app.clone(), gate::admit))
        .with_state(app);
    layers::wrap(routes)
}

/// What RabbitMQ asks.
fn of_the_broker() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/broker/user", post(broker::user))
        .route("/v1/broker/vhost", post(broker::vhost))
        .route("/v1/broker/resource", post(broker::resource))
        .route("/v1/broker/topic", post(broker::topic))
        .layer(DefaultBodyLimit::max(broker::QUESTION_LIMIT))
}
