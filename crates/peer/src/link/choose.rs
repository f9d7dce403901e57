//! When to try a peer again: the breaker. Pure: time and chance are arguments.
//!
//! Two failures to reach a peer open it. It half-opens after 1 s, 2 s, 4 s … 60 s, each ± 20 %: one attempt is let
//! through, and its outcome closes it or opens it for longer. Answers, refusals among them, are successes here: only
//! "could not be reached" and "no answer in time" are failures.

use std::time::{Duration, Instant};

const FAILURES_TO_OPEN: u32 = 2;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const SPREAD: f64 = 0.2;

/// Whether one peer should be tried, by one path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Breaker {
    failures: u32,
    closed_until: Option<Instant>,
}

impl Breaker {
    /// Whether to try now. Where a pause has just ended, this lets one attempt through: until its outcome is told,
    /// the next one has to wait as long again.
    pub fn may_try(&mut self, now: Instant) -> bool {
        match self.closed_until {
            Some(until) if now < until => false,
            Some(_) => {
                self.closed_until = Some(now + self.pause());
                true
            }
            None => true,
        }
    }

    /// When [`Self::may_try`] will be true again; `None` for now.
    pub fn next_try(&self) -> Option<Instant> {
        self.closed_until
    }

    /// The peer answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The peer could not be reached, or did not answer in time. `chance` is from 0 to 1.
    pub fn failed(&mut self, now: Instant, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_TO_OPEN {
            self.closed_until = Some(now + self.pause().mul_f64(1.0 - SPREAD + 2.0 * SPREAD * chance));
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(FAILURES_TO_OPEN).min(6);
        (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_two_failures_and_pauses_longer_each_time() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(start, 0.5);
        assert!(breaker.may_try(start), "one failure is nothing");
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            breaker.failed(now, 0.5);
            let pause = Duration::from_secs(seconds);
            assert_eq!(breaker.next_try(), Some(now + pause));
            assert!(!breaker.may_try(now + pause - Duration::from_millis(1)));
            now += pause;
            assert!(breaker.may_try(now));
            assert!(!breaker.may_try(now), "one attempt at a time");
        }
        breaker.succeeded();
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn pauses_are_spread_by_a_fifth() {
        let start = Instant::now();
        for (chance, millis) in [(0.0, 800), (0.5, 1000), (1.0, 1200)] {
            let mut breaker = Breaker::default();
            breaker.failed(start, 0.5);
            breaker.failed(start, chance);
            assert_eq!(breaker.next_try(), Some(start + Duration::from_millis(millis)));
        }
    }
}
