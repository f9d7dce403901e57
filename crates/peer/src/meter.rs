//! [`Meter`]: how many bytes went by, and how fast they go now.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Shorter looks at the clock would show the size of a block, not a rate.
const TICK: Duration = Duration::from_millis(250);
/// Weight of a tick in the rate: about the last second counts.
const WEIGHT: f64 = 0.3;
/// After so long without a byte nothing flows any more, whatever the smoothing has left.
const SILENCE: Duration = Duration::from_secs(3);

/// Counts bytes. Clones count into the same meter.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    total: Arc<AtomicU64>,
    rate: Arc<Mutex<Rate>>,
}

#[derive(Debug, Default)]
struct Rate {
    last: Option<(Instant, u64)>,
    /// When there was something new.
    heard: Option<Instant>,
    bytes_per_second: f64,
}

impl Meter {
    pub fn add(&self, bytes: u64) {
        self.add_at(bytes, Instant::now());
    }

    fn add_at(&self, bytes: u64, now: Instant) {
        let total = self.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // While bytes flow they keep the rate themselves; whoever asks later sees no average over a pause.
        if let Some(mut rate) = self.rate.try_lock() {
            rate.tick(total, now);
        }
    }

    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes per second, smoothed over about a second.
    pub fn rate(&self, now: Instant) -> u64 {
        let mut rate = self.rate.lock();
        // What came since the last tick came right after it: later bytes would have made one of their own.
        if let Some((at, _)) = rate.last
            && now.saturating_duration_since(at) > 2 * TICK
        {
            rate.tick(self.total(), at + TICK);
        }
        rate.tick(self.total(), now);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is neither negative nor near 2^64"
        )]
        let whole = rate.bytes_per_second.round() as u64;
        whole
    }
}

impl Rate {
    fn tick(&mut self, total: u64, now: Instant) {
        let Some((at, before)) = self.last else {
            self.last = Some((now, total));
            return;
        };
        let elapsed = now.saturating_duration_since(at);
        if elapsed >= TICK {
            let seconds = elapsed.as_secs_f64();
            let fresh = total.saturating_sub(before) as f64 / seconds;
            // A long silence is one long tick.
            let weight = 1.0 - (1.0 - WEIGHT).powf(seconds / TICK.as_secs_f64());
            self.bytes_per_second += weight * (fresh - self.bytes_per_second);
            if total > before {
                self.heard = Some(now);
            } else if self.heard.is_none_or(|heard| now.saturating_duration_since(heard) >= SILENCE) {
                self.bytes_per_second = 0.0;
            }
            self.last = Some((now, total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_bytes() {
        let meter = Meter::default();
        let start = Instant::now();
        assert_eq!(meter.rate(start), 0);
        // Nobody asks meanwhile.
        for tick in 1..=20 {
            meter.add_at(250_000, start + TICK * tick);
        }
        let rate = meter.rate(start + TICK * 20);
        assert!((950_000..=1_000_000).contains(&rate), "{rate}");
        assert!(meter.rate(start + TICK * 28) < rate / 2, "it falls when nothing comes");
        assert_eq!(meter.rate(start + TICK * 36), 0, "and does not fade for ever");
        assert_eq!(meter.total(), 5_000_000);
        // The last bytes of a transfer, and nobody asks for minutes.
        meter.add_at(50_000_000, start + TICK * 60 + TICK / 2);
        assert_eq!(meter.rate(start + TICK * 800), 0, "a silence is not an average over it");
    }
}
