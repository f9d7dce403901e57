//! [`Seen`]: which questions were asked, so that a copy of one is not answered again, however long somebody kept it.
//!
//! Ids cannot be kept for ever and no clock is trusted, so a question is good for an *epoch*: eight random bytes that the
//! receiver draws when it starts, and again after so many questions that their ids would take too much room. A question
//! that is not for the present epoch or the one before is answered with the present one and nothing else, and its asker
//! asks once more. The ids of the two epochs are remembered, all of them; a copy from before is not for one of them.
//! Source: the nonces that a server hands out to the clients that prove themselves to it, RFC 9449 (DPoP), 8 and 9.
//!
//! Only questions whose seal held get in here, so nobody fills it with ids that they invented.

use std::collections::HashSet;

use wire::PeerId;

use super::message::MessageId;

/// Names the time in which a question may be asked.
pub(crate) type Epoch = [u8; 8];

/// The present epoch ends when so many questions were noted in it; the ids of two take some 3 MiB.
const MOST: usize = 32_768;

/// The questions of the present epoch and of the one before.
#[derive(Debug)]
pub(crate) struct Seen {
    present: Noted,
    before: Noted,
}

#[derive(Debug)]
struct Noted {
    epoch: Epoch,
    ids: HashSet<(PeerId, MessageId)>,
}

/// What a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// It is asked for the first time.
    New,
    Copy,
    /// For an epoch that is over, of another process, or for none, where its asker knows none. This one counts now.
    OtherEpoch(Epoch),
}

impl Default for Seen {
    fn default() -> Self {
        Self { present: Noted::begin(), before: Noted::begin() }
    }
}

impl Noted {
    fn begin() -> Self {
        Self { epoch: rand::random(), ids: HashSet::new() }
    }
}

impl Seen {
    /// Notes a question that is for `epoch`.
    pub(crate) fn note(&mut self, epoch: &[u8], from: PeerId, id: MessageId) -> Asking {
        if self.present.ids.len() >= MOST {
            self.before = std::mem::replace(&mut self.present, Noted::begin());
        }
        let question = (from, id);
        if self.present.ids.contains(&question) || self.before.ids.contains(&question) {
            return Asking::Copy;
        }
        if epoch == self.before.epoch && self.before.ids.len() < 2 * MOST {
            self.before.ids.insert(question);
            return Asking::New;
        }
        // One for another epoch is noted as well: its copies are not told of the present one again and again.
        self.present.ids.insert(question);
        if epoch == self.present.epoch { Asking::New } else { Asking::OtherEpoch(self.present.epoch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: PeerId = PeerId::from_bytes([1; 16]);
    const BETO: PeerId = PeerId::from_bytes([2; 16]);

    fn id(n: usize) -> MessageId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        id
    }

    /// What a peer learns that does not know the epoch.
    fn learn(seen: &mut Seen, n: usize) -> Epoch {
        match seen.note(&[], ANA, id(n)) {
            Asking::OtherEpoch(epoch) => epoch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_copy_is_known() {
        let mut seen = Seen::default();
        let epoch = learn(&mut seen, 0);
        assert_eq!(seen.note(&[], ANA, id(0)), Asking::Copy, "nobody is told twice");
        assert_eq!(seen.note(&epoch, ANA, id(0)), Asking::Copy);
        assert_eq!(seen.note(&epoch, ANA, id(1)), Asking::New);
        assert_eq!(seen.note(&epoch, ANA, id(1)), Asking::Copy);
        assert_eq!(seen.note(&epoch, BETO, id(1)), Asking::New, "another's id is another id");
    }

    #[test]
    fn a_copy_from_another_process_is_for_no_epoch_of_this_one() {
        let old = learn(&mut Seen::default(), 0);
        let mut seen = Seen::default();
        let epoch = learn(&mut seen, 1);
        assert_ne!(old, epoch);
        assert_eq!(seen.note(&old, ANA, id(2)), Asking::OtherEpoch(epoch));
        assert_eq!(seen.note(&old, ANA, id(2)), Asking::Copy);
    }

    #[test]
    fn nothing_is_answered_twice_and_the_room_is_bounded_however_much_is_asked() {
        let mut seen = Seen::default();
        let first = learn(&mut seen, 0);
        let (mut epoch, mut epochs) = (first, 1);
        let total = 5 * MOST;
        for n in 1..total {
            match seen.note(&epoch, ANA, id(n)) {
                Asking::New => {}
                Asking::OtherEpoch(next) => (epoch, epochs) = (next, epochs + 1),
                Asking::Copy => panic!("{n} is new"),
            }
            assert!(seen.present.ids.len() <= MOST && seen.before.ids.len() <= 2 * MOST, "after {n}");
        }
        assert!((2..=4).contains(&epochs), "an asker learns of a new epoch now and then: {epochs}");
        for n in 0..total {
            assert_ne!(seen.note(&first, ANA, id(n)), Asking::New, "{n}");
        }
    }
}
