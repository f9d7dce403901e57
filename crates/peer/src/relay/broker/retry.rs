//! How long to wait before the next attempt at a broker. Pure: time and chance are arguments.
//!
//! Full jitter: any time up to a ceiling, so that the peers of a network do not all come at once when its broker is
//! back. A broker that is not there is looked for often, however long it has been away: that costs nobody anything, and
//! whoever waits for bytes gets them soon after it returns. One that is there and does not take us is left alone: in the
//! first minute the ceiling stays low, because most are being restarted; after that it doubles up to half a minute.

use std::time::{Duration, Instant};

use super::connection::Trouble;

const CEILINGS_MS: [u64; 4] = [200, 400, 800, 1_500];
const PATIENT_AFTER: Duration = Duration::from_secs(60);
const LAST_CEILING: Duration = Duration::from_secs(30);
/// Below this the jitter would be a second attempt at once.
const SHORTEST: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Retry {
    /// When the first attempt failed.
    since: Option<Instant>,
    attempts: usize,
    /// How often the broker did not take us, after the first minute.
    late: u32,
}

impl Retry {
    /// An attempt has failed, or what came of it. `chance` is from 0 to 1.
    pub(super) fn pause(&mut self, now: Instant, trouble: &Trouble, chance: f64) -> Duration {
        let since = *self.since.get_or_insert(now);
        let mut ceiling = Duration::from_millis(CEILINGS_MS[self.attempts.min(CEILINGS_MS.len() - 1)]);
        self.attempts += 1;
        let is_there = match trouble {
            Trouble::Lost(_) => false,
            Trouble::Refused { .. } | Trouble::Late(_) => true,
        };
        if is_there && now.duration_since(since) >= PATIENT_AFTER {
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

    fn refused() -> Trouble {
        Trouble::Refused { code: 403, text: "no".to_owned() }
    }

    #[test]
    fn one_that_does_not_take_us_is_asked_often_for_a_minute_and_seldom_after() {
        let start = Instant::now();
        let mut now = start;
        let mut retry = Retry::default();
        let mut early = Vec::new();
        while now - start < PATIENT_AFTER {
            let pause = retry.pause(now, &refused(), 1.0);
            early.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(early[..5], [200, 400, 800, 1_500, 1_500]);
        assert_eq!(early.iter().max(), Some(&1_500));
        let late: Vec<u64> = (0..6)
            .map(|_| {
                let pause = retry.pause(now, &Trouble::Late("connecting"), 1.0);
                now += pause;
                pause.as_secs()
            })
            .collect();
        assert_eq!(late, [3, 6, 12, 24, 30, 30]);
        retry.succeeded();
        assert_eq!(retry.pause(now, &refused(), 1.0), Duration::from_millis(200));
    }

    #[test]
    fn one_that_is_not_there_is_looked_for_often_however_long_it_is_away() {
        let gone = Trouble::Lost("connection refused".to_owned());
        let (mut now, mut retry) = (Instant::now(), Retry::default());
        for _ in 0..1_000 {
            let pause = retry.pause(now, &gone, 1.0);
            assert!(pause <= Duration::from_millis(1_500), "{pause:?}");
            now += pause;
        }
        // It is there now, and is not ready for us.
        assert_eq!(retry.pause(now, &refused(), 1.0), Duration::from_secs(3));
        assert_eq!(retry.pause(now, &gone, 1.0), Duration::from_millis(1_500));
    }

    #[test]
    fn chance_takes_any_time_up_to_the_ceiling() {
        let now = Instant::now();
        assert_eq!(Retry::default().pause(now, &refused(), 0.5), Duration::from_millis(100));
        assert_eq!(Retry::default().pause(now, &refused(), 0.0), SHORTEST);
    }
}
