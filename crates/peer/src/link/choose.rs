//! Which way to a peer: the ladder, and the breaker of each of its rungs. Pure: time and chance are arguments.
//!
//! Direct is better than reversed, reversed better than relayed. Each rung has a breaker: two failures to reach the peer
//! open it, and it half-opens after 1 s, 2 s, 4 s … 60 s, each ± 20 %: one attempt is let through, and its outcome
//! closes it or opens it for longer. Answers, refusals among them, are successes here: only "could not be reached" and
//! "no answer in time" are failures.
//!
//! While a lower rung carries, a better one that has failed before is tried beside it, not in its place: whoever wants
//! bytes does not wait for a connection that likely fails, and the next question after a success goes the better way.
//! One that has not failed yet has a moment's head start; when that is over it is tried beside the lower one, too.

use std::time::{Duration, Instant};

const FAILURES_TO_OPEN: u32 = 2;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Several questions were under way when a breaker opened: those that fail so soon after are no further failures.
const TOGETHER: Duration = Duration::from_millis(250);
const SPREAD: f64 = 0.2;

/// Whether one peer should be tried, by one path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Breaker {
    failures: u32,
    closed_until: Option<Instant>,
    opened: Option<Instant>,
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

    fn has_failed(&self) -> bool {
        self.failures > 0
    }

    fn is_open(&self) -> bool {
        self.closed_until.is_some()
    }

    /// Lets one attempt through now.
    fn half_open(&mut self, now: Instant) {
        self.closed_until = self.closed_until.map(|until| until.min(now));
    }

    /// The peer answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// There is a connection, and no answer yet: it may be used, but past failures are not forgotten. A peer that lets
    /// itself be dialled and then says nothing is tried less and less often, too.
    fn connected(&mut self) {
        self.closed_until = None;
    }

    /// The peer could not be reached, or did not answer in time. `chance` is from 0 to 1.
    pub fn failed(&mut self, now: Instant, chance: f64) {
        if self.opened.is_some_and(|at| now.saturating_duration_since(at) < TOGETHER) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_TO_OPEN {
            self.opened = Some(now);
            self.closed_until = Some(now + self.pause().mul_f64(1.0 - SPREAD + 2.0 * SPREAD * chance));
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(FAILURES_TO_OPEN).min(6);
        (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE)
    }
}

/// A way to a peer, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    Direct,
    Reversed,
    Relayed,
}

impl Rung {
    /// The word for it, as in REST and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Reversed => "reversed",
            Self::Relayed => "relayed",
        }
    }
}

const RUNGS: [Rung; 3] = [Rung::Direct, Rung::Reversed, Rung::Relayed];

/// Something for each rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerRung<T> {
    pub direct: T,
    pub reversed: T,
    pub relayed: T,
}

/// How one rung stands, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// There is no such way: no address, no relay.
    #[default]
    Missing,
    /// It could be tried.
    Possible,
    /// It is being tried, and that takes long.
    Slow,
    /// A connection is open, or none is needed.
    Open,
}

/// What to do now for somebody who wants to ask a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub step: Step,
    /// Better ways, to be tried beside it.
    pub probes: Vec<Rung>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Use what is open.
    Use(Rung),
    /// Connect, and choose again where that fails.
    Try(Rung),
    /// Connect, and choose again where that fails or takes long: something else carries.
    TryForAMoment(Rung),
    /// Nothing can be tried now.
    Wait,
}

/// The breakers of the ways to one peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ladder {
    breakers: PerRung<Breaker>,
    /// When the peer was last heard by the relay although it had not been reached by it.
    heard: Option<Instant>,
}

impl Ladder {
    /// The best that can be done now.
    pub fn choose(&mut self, standing: PerRung<Standing>, now: Instant) -> Choice {
        let mut probes = Vec::new();
        for rung in RUNGS {
            match standing[rung] {
                Standing::Missing => {}
                Standing::Open if self.is_closed(rung, now) => {
                    return Choice { step: Step::Use(rung), probes };
                }
                Standing::Slow if self.is_carried_below(rung, standing, now) => {}
                Standing::Open | Standing::Possible | Standing::Slow => {
                    let doubtful = rung == Rung::Reversed || self.breakers[rung].has_failed();
                    let carried = self.is_carried_below(rung, standing, now);
                    if !self.breakers[rung].may_try(now) {
                        continue;
                    }
                    match (carried, doubtful) {
                        (true, true) => probes.push(rung),
                        (true, false) => return Choice { step: Step::TryForAMoment(rung), probes },
                        (false, _) => return Choice { step: Step::Try(rung), probes },
                    }
                }
            }
        }
        Choice { step: Step::Wait, probes }
    }

    /// The way that a question would take now, without trying anything.
    pub fn likely(&self, standing: PerRung<Standing>, now: Instant) -> Option<Rung> {
        let closed = |rung: &Rung| standing[*rung] != Standing::Missing && self.is_closed(*rung, now);
        let open = |rung: &Rung| standing[*rung] == Standing::Open;
        // What has failed, or takes long, is only tried beside what carries.
        let beside = |rung: Rung| {
            (self.breakers[rung].has_failed() || standing[rung] == Standing::Slow)
                && self.is_carried_below(rung, standing, now)
        };
        let fresh = |rung: &Rung| *rung != Rung::Reversed && !beside(*rung);
        RUNGS.into_iter().find(|rung| closed(rung) && (open(rung) || fresh(rung)))
    }

    /// The peer answered by this way.
    pub fn succeeded(&mut self, rung: Rung) {
        self.breakers[rung].succeeded();
    }

    /// There is a connection by this way.
    pub fn connected(&mut self, rung: Rung) {
        self.breakers[rung].connected();
    }

    /// The peer could not be reached by this way. `chance` is from 0 to 1.
    pub fn failed(&mut self, rung: Rung, now: Instant, chance: f64) {
        self.breakers[rung].failed(now, chance);
    }

    /// An open way fell silent. Where a lower one carries, nobody waits for a second failure.
    pub fn fell_silent(&mut self, rung: Rung, standing: PerRung<Standing>, now: Instant, chance: f64) {
        self.breakers[rung].failed(now, chance);
        if self.is_carried_below(rung, standing, now) && !self.breakers[rung].is_open() {
            self.breakers[rung].failed(now, chance);
        }
    }

    /// The peer was heard of: each way may be tried at once.
    pub fn heard_of(&mut self, now: Instant) {
        RUNGS.into_iter().for_each(|rung| self.breakers[rung].half_open(now));
    }

    /// The relay takes messages again: what failed by it while it did not says nothing about the peer.
    pub fn relay_is_back(&mut self) {
        self.breakers.reversed = Breaker::default();
        self.breakers.relayed = Breaker::default();
    }

    /// The peer itself asks by the relay. Whether that changes anything: one that asks and cannot be asked does not make
    /// us try for each of its questions.
    pub fn heard_by_relay(&mut self, now: Instant) -> bool {
        let lately = self.heard.is_some_and(|at| now.saturating_duration_since(at) < FIRST_PAUSE);
        if lately || !self.breakers.relayed.has_failed() {
            return false;
        }
        self.heard = Some(now);
        self.relay_is_back();
        true
    }

    fn is_carried_below(&self, rung: Rung, standing: PerRung<Standing>, now: Instant) -> bool {
        let carries = |lower: Rung| standing[lower] == Standing::Open && self.is_closed(lower, now);
        RUNGS.into_iter().any(|lower| lower > rung && carries(lower))
    }

    fn is_closed(&self, rung: Rung, now: Instant) -> bool {
        self.breakers[rung].next_try().is_none_or(|at| at <= now)
    }
}

impl<T> std::ops::Index<Rung> for PerRung<T> {
    type Output = T;

    fn index(&self, rung: Rung) -> &T {
        match rung {
            Rung::Direct => &self.direct,
            Rung::Reversed => &self.reversed,
            Rung::Relayed => &self.relayed,
        }
    }
}

impl<T> std::ops::IndexMut<Rung> for PerRung<T> {
    fn index_mut(&mut self, rung: Rung) -> &mut T {
        match rung {
            Rung::Direct => &mut self.direct,
            Rung::Reversed => &mut self.reversed,
            Rung::Relayed => &mut self.relayed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Missing, Open, Possible, Slow};

    const fn standing(direct: Standing, reversed: Standing, relayed: Standing) -> PerRung<Standing> {
        PerRung { direct, reversed, relayed }
    }

    fn choice(step: Step, probes: &[Rung]) -> Choice {
        Choice { step, probes: probes.to_vec() }
    }

    #[test]
    fn the_best_way_that_is_there() {
        let now = Instant::now();
        for (standing, step, probes) in [
            (standing(Missing, Missing, Missing), Step::Wait, &[][..]),
            (standing(Possible, Missing, Missing), Step::Try(Rung::Direct), &[]),
            (standing(Open, Possible, Open), Step::Use(Rung::Direct), &[]),
            (standing(Missing, Possible, Open), Step::Use(Rung::Relayed), &[Rung::Reversed]),
            (standing(Missing, Open, Open), Step::Use(Rung::Reversed), &[]),
            (standing(Missing, Missing, Open), Step::Use(Rung::Relayed), &[]),
            // Never failed: likely to work, so it is worth waiting for, a moment.
            (standing(Possible, Possible, Open), Step::TryForAMoment(Rung::Direct), &[]),
            (standing(Slow, Possible, Open), Step::Use(Rung::Relayed), &[Rung::Reversed]),
            (standing(Slow, Slow, Open), Step::Use(Rung::Relayed), &[]),
            (standing(Slow, Open, Open), Step::Use(Rung::Reversed), &[]),
            // Nothing else carries.
            (standing(Slow, Missing, Missing), Step::Try(Rung::Direct), &[]),
        ] {
            assert_eq!(Ladder::default().choose(standing, now), choice(step, probes), "{standing:?}");
        }
    }

    #[test]
    fn down_when_it_fails_and_up_again_beside_the_work() {
        let mut now = Instant::now();
        let mut ladder = Ladder::default();
        let all = standing(Possible, Missing, Open);
        ladder.fell_silent(Rung::Direct, all, now, 0.5);
        assert_eq!(ladder.choose(all, now), choice(Step::Use(Rung::Relayed), &[]), "at once");
        assert_eq!(ladder.likely(all, now), Some(Rung::Relayed));
        now += Duration::from_secs(1);
        assert_eq!(ladder.choose(all, now), choice(Step::Use(Rung::Relayed), &[Rung::Direct]));
        assert_eq!(ladder.choose(all, now), choice(Step::Use(Rung::Relayed), &[]), "one probe at a time");
        ladder.succeeded(Rung::Direct);
        let up = standing(Open, Missing, Open);
        assert_eq!(ladder.choose(up, now), choice(Step::Use(Rung::Direct), &[]));
        assert_eq!(ladder.likely(up, now), Some(Rung::Direct));
    }

    #[test]
    fn what_has_failed_once_is_not_shown_while_another_way_carries() {
        let now = Instant::now();
        let mut ladder = Ladder::default();
        let reversed = standing(Possible, Open, Open);
        assert_eq!(ladder.likely(reversed, now), Some(Rung::Direct), "it is worth waiting for");
        ladder.failed(Rung::Direct, now, 0.5);
        assert_eq!(ladder.choose(reversed, now), choice(Step::Use(Rung::Reversed), &[Rung::Direct]));
        assert_eq!(ladder.likely(reversed, now), Some(Rung::Reversed));
        assert_eq!(Ladder::default().likely(standing(Slow, Possible, Open), now), Some(Rung::Relayed));
        assert_eq!(Ladder::default().likely(standing(Slow, Missing, Missing), now), Some(Rung::Direct));
        assert_eq!(ladder.likely(standing(Possible, Missing, Missing), now), Some(Rung::Direct));
    }

    #[test]
    fn a_peer_that_connects_and_never_answers_is_tried_less_and_less_often() {
        let mut now = Instant::now();
        let mut ladder = Ladder::default();
        let all = standing(Open, Missing, Open);
        for seconds in [1, 2, 4, 8] {
            ladder.connected(Rung::Direct);
            assert_eq!(ladder.choose(all, now), choice(Step::Use(Rung::Direct), &[]));
            ladder.fell_silent(Rung::Direct, all, now, 0.5);
            let pause = Duration::from_secs(seconds);
            let still = now + pause - Duration::from_millis(1);
            assert_eq!(ladder.choose(all, still), choice(Step::Use(Rung::Relayed), &[]));
            now += pause;
        }
        ladder.connected(Rung::Direct);
        ladder.succeeded(Rung::Direct);
        assert_eq!(ladder, Ladder::default(), "an answer makes it good");
    }

    #[test]
    fn without_another_way_the_failed_one_is_waited_for() {
        let now = Instant::now();
        let mut ladder = Ladder::default();
        let direct = standing(Possible, Missing, Missing);
        ladder.failed(Rung::Direct, now, 0.5);
        assert_eq!(
            ladder.choose(direct, now),
            choice(Step::Try(Rung::Direct), &[]),
            "one failure is nothing"
        );
        ladder.failed(Rung::Direct, now, 0.5);
        assert_eq!(ladder.choose(direct, now), choice(Step::Wait, &[]));
        assert_eq!(ladder.likely(direct, now), None);
        ladder.heard_of(now);
        assert_eq!(ladder.choose(direct, now), choice(Step::Try(Rung::Direct), &[]));
        assert_eq!(ladder.choose(direct, now), choice(Step::Wait, &[]), "and the pause is as long as it was");
    }

    #[test]
    fn a_relay_that_is_back_is_asked_at_once_and_its_next_failure_is_the_first() {
        let now = Instant::now();
        let mut ladder = Ladder::default();
        let relayed = standing(Missing, Missing, Open);
        for _ in 0..5 {
            ladder.failed(Rung::Relayed, now, 0.5);
        }
        assert_eq!(ladder.choose(relayed, now), choice(Step::Wait, &[]));
        ladder.relay_is_back();
        assert_eq!(ladder.choose(relayed, now), choice(Step::Use(Rung::Relayed), &[]));
        // The peer itself may be back a moment later.
        ladder.failed(Rung::Relayed, now, 0.5);
        assert_eq!(ladder.choose(relayed, now), choice(Step::Use(Rung::Relayed), &[]));
        ladder.failed(Rung::Relayed, now, 0.5);
        let soon = now + FIRST_PAUSE;
        assert_eq!(ladder.choose(relayed, now), choice(Step::Wait, &[]));
        assert_eq!(ladder.choose(relayed, soon), choice(Step::Use(Rung::Relayed), &[]));
    }

    #[test]
    fn who_asks_by_the_relay_may_be_asked_by_it() {
        let now = Instant::now();
        let mut ladder = Ladder::default();
        let relayed = standing(Missing, Missing, Open);
        assert!(!ladder.heard_by_relay(now), "it was thought to be there");
        ladder.failed(Rung::Relayed, now, 0.5);
        ladder.failed(Rung::Relayed, now + TOGETHER, 0.5);
        assert_eq!(ladder.choose(relayed, now), choice(Step::Wait, &[]));
        assert!(ladder.heard_by_relay(now));
        assert_eq!(ladder.choose(relayed, now), choice(Step::Use(Rung::Relayed), &[]));
        assert!(!ladder.heard_by_relay(now));
        ladder.failed(Rung::Relayed, now, 0.5);
        assert!(!ladder.heard_by_relay(now + TOGETHER), "not for each of its questions");
        assert!(ladder.heard_by_relay(now + FIRST_PAUSE));
    }

    #[test]
    fn what_fails_together_is_one_failure() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..6 {
            breaker.failed(start, 0.5);
        }
        assert_eq!(breaker.next_try(), Some(start + FIRST_PAUSE));
        breaker.failed(start + FIRST_PAUSE, 0.5);
        assert_eq!(breaker.next_try(), Some(start + 3 * FIRST_PAUSE));
    }

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
