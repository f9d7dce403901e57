//! [`Seen`]: which questions were answered lately, so that a copy of one is not answered again.
//!
//! Only questions whose seal held get in here, so nobody fills it with ids that they invented. A question lives in its
//! queue for half a minute; its id is remembered for twice as long. A copy that somebody kept for longer is answered
//! once more, for the one who asked it and under a fresh key: that costs work and tells nobody anything.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use wire::PeerId;

use super::message::MessageId;

const KEEP: Duration = Duration::from_secs(60);
const MOST: usize = 65_536;

/// The ids of the last minute, at most 65,536 of them.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    ids: HashSet<(PeerId, MessageId)>,
    in_order: VecDeque<(Instant, (PeerId, MessageId))>,
}

impl Seen {
    /// Notes the question; false where it is there already.
    pub(crate) fn is_new(&mut self, from: PeerId, id: MessageId, now: Instant) -> bool {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= KEEP;
        while self.in_order.front().is_some_and(|(at, _)| is_old(at)) {
            self.forget_oldest();
        }
        let new = self.ids.insert((from, id));
        if new {
            self.in_order.push_back((now, (from, id)));
        }
        if self.in_order.len() > MOST {
            self.forget_oldest();
        }
        new
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.in_order.pop_front() {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_known_for_a_minute() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let (ana, beto) = (PeerId::from_bytes([1; 16]), PeerId::from_bytes([2; 16]));
        assert!(seen.is_new(ana, [7; 16], start));
        assert!(!seen.is_new(ana, [7; 16], start + KEEP / 2));
        assert!(seen.is_new(beto, [7; 16], start), "another's id is another id");
        assert!(seen.is_new(ana, [7; 16], start + KEEP));
        assert_eq!(seen.ids.len(), 1, "the rest is forgotten");
    }

    #[test]
    fn it_is_bounded() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let ana = PeerId::from_bytes([1; 16]);
        let id = |n: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            id
        };
        for n in 0..MOST + 10 {
            assert!(seen.is_new(ana, id(n), now));
        }
        assert_eq!((seen.ids.len(), seen.in_order.len()), (MOST, MOST));
        assert!(!seen.is_new(ana, id(MOST + 9), now), "the newest stay");
        assert!(seen.is_new(ana, id(0), now), "the oldest went");
    }
}
