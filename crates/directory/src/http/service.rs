//! What anybody may ask: is it alive, does it work, how is it doing, whom does it trust.

use std::sync::Arc;

use axum::{extract::State, response::IntoResponse};
use http::header;
use wire::{
    ErrorCode,
    http::{NoQuery, Problem},
};

use crate::App;

pub(super) async fn healthz(_: NoQuery) -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(app): State<Arc<App>>, _: NoQuery) -> Result<&'static str, Problem> {
    match app.catalog.ready().await {
        Ok(()) => Ok("ready\n"),
        Err(error) => {
            tracing::warn!(%error, "the catalog does not answer");
            Err(Problem::new(ErrorCode::Unavailable, "the catalog does not answer"))
        }
    }
}

pub(super) async fn metrics(State(app): State<Arc<App>>, _: NoQuery) -> impl IntoResponse {
    if let Ok(online) = app.catalog.online(app.clock.millis()).await {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
        metrics::gauge!("directory_leases_online").set(online as f64);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], daemon::metrics::render())
}

pub(super) async fn ca(State(app): State<Arc<App>>, _: NoQuery) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], app.authority.pem().to_owned())
}
