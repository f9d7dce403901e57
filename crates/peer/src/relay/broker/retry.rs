//! How long to wait before the next attempt at a broker. Pure: time and chance are arguments.
//!
//! Full jitter: any time up to a ceiling, so that the peers of a network do not all come at once when its broker is
//! back. In the first minute the ceiling stays low, because most brokers that go away are being restarted; after that
//! it doubles up to half a minute.

use std::time::{Duration, Instant};

const FIRST_CEILINGS_MS: [u64; 5] = [200, 400, 800, 1_500, 2_000];
const PATIENT_AFTER: Duration = Duration::from_secs(60);
const LAST_CEILING: Duration = Duration::from_secs(30);
/// Below this the jitter would be a second attempt at once.
const SHORTEST: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Retry {
    /// When the first attempt failed.
    since: Option<Instant>,
    attempts: usize,
    /// Of these, those after the first minute.
    late: u32,
}

impl Retry {
    /// An attempt has failed. `chance` is from 0 to 1.
    pub(super) fn pause(&mut self, now: Instant, chance: f64) -> Duration {
        let since = *self.since.get_or_insert(now);
        let early = FIRST_CEILINGS_MS[self.attempts.min(FIRST_CEILINGS_MS.len() - 1)];
        let mut ceiling = Duration::from_millis(early);
        self.attempts += 1;
        if now.duration_since(since) >= PATIENT_AFTER {
            self.late = self.late.saturating_add(1);
            ceiling = ceiling.saturating_mul(2u32.saturating_pow(self.late)).min(LAST_CEILING);
        }
        ceiling.mul_f64(chance).max(SHORTEST)
    }

    /// A connection has held.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_quick_for_a_minute_and_patient_after() {
        let start = Instant::now();
        let mut now = start;
        let mut retry = Retry::default();
        let mut early = Vec::new();
        while now - start < PATIENT_AFTER {
            let pause = retry.pause(now, 1.0);
            early.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(early[..6], [200, 400, 800, 1_500, 2_000, 2_000]);
        assert_eq!(early.iter().max(), Some(&2_000));
        let late: Vec<u64> = (0..6)
            .map(|_| {
                let pause = retry.pause(now, 1.0);
                now += pause;
                pause.as_secs()
            })
            .collect();
        assert_eq!(late, [4, 8, 16, 30, 30, 30]);
        retry.succeeded();
        assert_eq!(retry.pause(now, 1.0), Duration::from_millis(200));
    }

    #[test]
    fn chance_takes_any_time_up_to_the_ceiling() {
        let now = Instant::now();
        assert_eq!(Retry::default().pause(now, 0.5), Duration::from_millis(100));
        assert_eq!(Retry::default().pause(now, 0.0), SHORTEST);
    }
}
