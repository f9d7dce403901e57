//! For watchdogs and Prometheus: alive, ready, numbers.

use axum::extract::State;
use http::{HeaderValue, header};
use wire::{ErrorCode, http::Problem};

use super::{NoQuery, Pclient};

type Text = ([(http::HeaderName, HeaderValue); 1], String);

/// `GET /healthz`: the process answers.
pub(super) async fn alive(_: NoQuery) -> &'static str {
    "alive\n"
}

/// `GET /readyz`: it takes work. Being logged out, or the directory being away, is not a reason not to.
pub(super) async fn ready(State(pclient): State<Pclient>, _: NoQuery) -> Result<&'static str, Problem> {
    if pclient.stop.is_cancelled() {
        return Err(Problem::new(ErrorCode::Unavailable, "the peer is stopping"));
    }
    Ok("ready\n")
}

/// `GET /metrics`.
pub(super) async fn metrics(State(pclient): State<Pclient>, _: NoQuery) -> Text {
    let (files, bytes) = pclient.library.totals();
    let (down, up) = pclient.rates();
    for (state, count) in pclient.downloads.by_state() {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metrics::gauge!("trueque_downloads", "state" => state).set(count);
    }
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
    let value = |count: u64| count as f64;
    metrics::gauge!("trueque_shared_files").set(value(files));
    metrics::gauge!("trueque_shared_bytes").set(value(bytes));
    metrics::gauge!("trueque_download_bytes_per_second").set(value(down));
    metrics::gauge!("trueque_upload_bytes_per_second").set(value(up));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], daemon::metrics::render())
}
