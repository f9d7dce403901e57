//! Waiting for a condition, with a deadline that a loaded machine keeps too.

use std::time::{Duration, Instant};

/// Nothing in a test takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(15);

/// Looks until there is something to see. Panics, naming `what`, when there is not.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look).await
}

/// As [`until`], for a promise with a time in it.
pub async fn until_within<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(PACE).await;
    }
}
