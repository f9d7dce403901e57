//! Metrics in Prometheus' text format.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::Lifecycle;

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Bounds of every latency histogram, in seconds.
const SECONDS: &[f64] = &[0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Starts collecting. A second call in one process (a test's network) shares the first one's registry.
///
/// # Errors
/// Where the recorder cannot be built.
pub fn init() -> Result<(), BuildError> {
    let recorder = PrometheusBuilder::new().set_buckets(SECONDS)?.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        let _first = HANDLE.set(handle);
    }
    Ok(())
}

/// Puts what histograms recorded into their buckets from time to time. Until then each value takes memory of its own,
/// so a process whose metrics nobody reads would grow with every request.
pub fn keep_tidy(lifecycle: &Lifecycle) {
    let soft = lifecycle.soft();
    lifecycle.spawn("metrics", async move {
        while soft.run_until_cancelled(tokio::time::sleep(TIDY_EVERY)).await.is_some() {
            if let Some(handle) = HANDLE.get() {
                handle.run_upkeep();
            }
        }
    });
}

/// Everything collected so far, as Prometheus reads it.
pub fn render() -> String {
    HANDLE
        .get()
        .map(|handle| {
            handle.run_upkeep();
            handle.render()
        })
        .unwrap_or_default()
}
