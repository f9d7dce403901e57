//! [`Throttle`]: a rate in bytes per second for the whole peer, shared by all that send or all that receive.

use std::{num::NonZeroU32, sync::Arc};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Bytes are counted in units of 1 KiB: the limiter divides a second by the rate, in whole nanoseconds.
const UNIT: u64 = 1024;
/// What may go at once; waits longer than this shape traffic in lumps.
const BURST_UNITS: u32 = 1024;

/// Clones share the rate.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Throttle {
    /// `bytes_per_second` of 0 means no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        let units = u32::try_from(bytes_per_second.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let limiter = NonZeroU32::new(units).map(|rate| {
            let burst = NonZeroU32::new(units.clamp(1, BURST_UNITS)).unwrap_or(NonZeroU32::MIN);
            Arc::new(RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)))
        });
        Self { limiter }
    }

    /// Waits until `bytes` may go.
    pub async fn take(&self, bytes: u64) {
        let Some(limiter) = &self.limiter else { return };
        let mut units = bytes.div_ceil(UNIT);
        while let Some(portion) = NonZeroU32::new(u32::try_from(units).unwrap_or(u32::MAX).min(BURST_UNITS)) {
            // A quota with a smaller burst than the portion takes it unit by unit.
            if limiter.until_n_ready(portion).await.is_err() {
                limiter.until_ready().await;
                units -= 1;
            } else {
                units -= u64::from(portion.get());
            }
        }
    }
}
