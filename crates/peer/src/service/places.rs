//! [`Places`]: so many at once for all callers, and never all of them for one while others wait.
//!
//! A caller is a *user*: one may have many machines, and an account costs more than a key. Whoever asks alone gets all
//! the places there are, so a single receiver is as fast as it can be. When they are all taken and somebody asks who has
//! at least two fewer than the one with the most, the oldest place of that one goes over to them: its answer ends with
//! `rate_limited`, and its caller comes again. So places even out to within one, whatever a greedy caller does, and an
//! answer that nobody reads keeps nobody waiting.
//!
//! What was taken from a caller still counts for it until its answer has ended: the memory behind it is not free yet.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use wire::{ErrorCode, Username};

use crate::Failure;

/// What the refusals of one kind of place are called, in the metric too.
#[derive(Debug)]
pub struct Words {
    pub all: &'static str,
    pub own: &'static str,
    pub given: &'static str,
}

/// Clones are the same places.
#[derive(Debug, Clone)]
pub struct Places {
    most: usize,
    words: &'static Words,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Places that were not taken away.
    held: usize,
    by_user: HashMap<Username, Vec<Slot>>,
    next: u64,
}

/// One place of one user, the oldest first.
#[derive(Debug)]
struct Slot {
    number: u64,
    revoked: CancellationToken,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    home: Places,
    user: Username,
    number: u64,
    revoked: CancellationToken,
}

impl Places {
    pub fn new(most: usize, words: &'static Words) -> Self {
        Self { most, words, taken: Arc::default() }
    }

    /// Takes a place for an answer to this user.
    ///
    /// # Errors
    /// `rate_limited` where there is none for them.
    pub fn take(&self, user: &Username) -> Result<Place, Failure> {
        let mut taken = self.taken.lock();
        let (own, own_held) = taken.of(user);
        // Whoever has all of them hears what everybody hears.
        if taken.held >= self.most && (own >= self.most || !taken.give_up_for(own_held, self.words)) {
            return Err(refused(self.words.all));
        }
        if own >= self.most {
            return Err(refused(self.words.own));
        }
        taken.held += 1;
        taken.next += 1;
        let (number, revoked) = (taken.next, CancellationToken::new());
        let slot = Slot { number, revoked: revoked.clone() };
        taken.by_user.entry(user.clone()).or_default().push(slot);
        Ok(Place { home: self.clone(), user: user.clone(), number, revoked })
    }

    pub fn free(&self) -> usize {
        self.most.saturating_sub(self.taken.lock().held)
    }
}

impl Taken {
    /// All places of a user, and those that were not taken away.
    fn of(&self, user: &Username) -> (usize, usize) {
        self.by_user.get(user).map_or((0, 0), |slots| (slots.len(), held(slots)))
    }

    /// Takes a place from whoever has most, for somebody who has so many.
    fn give_up_for(&mut self, own: usize, words: &Words) -> bool {
        let most = self.by_user.values().max_by_key(|slots| held(slots));
        let Some(slots) = most.filter(|slots| held(slots) >= own + 2) else { return false };
        let Some(oldest) = slots.iter().find(|slot| !slot.revoked.is_cancelled()) else { return false };
        oldest.revoked.cancel();
        self.held -= 1;
        metrics::counter!("trueque_refusals_total", "reason" => words.given).increment(1);
        true
    }
}

fn held(slots: &[Slot]) -> usize {
    slots.iter().filter(|slot| !slot.revoked.is_cancelled()).count()
}

impl Place {
    /// Whether it was given to somebody else.
    ///
    /// # Errors
    /// `rate_limited`, to be told to the caller.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.revoked.is_cancelled() { Err(given_away()) } else { Ok(()) }
    }

    /// Waits until it is.
    pub(crate) async fn revoked(&self) -> Failure {
        self.revoked.cancelled().await;
        given_away()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.home.taken.lock();
        // Nobody takes it away any more, once this is locked.
        if !self.revoked.is_cancelled() {
            taken.held -= 1;
        }
        if let Some(slots) = taken.by_user.get_mut(&self.user) {
            slots.retain(|slot| slot.number != self.number);
            if slots.is_empty() {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

fn given_away() -> Failure {
    Failure::new(ErrorCode::RateLimited, "others wait for this place; try again later")
}

/// Counts a refusal for a time, and words it.
pub(crate) fn refused(why: &'static str) -> Failure {
    metrics::counter!("trueque_refusals_total", "reason" => why).increment(1);
    Failure::new(ErrorCode::RateLimited, format!("{why}; try again later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = Words { all: "all", own: "own", given: "given" };

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    #[test]
    fn who_is_alone_has_all_places_and_gives_half_of_them_up() {
        let places = Places::new(8, &WORDS);
        let (ana, ben) = (user("ana"), user("ben"));
        let anas: Vec<Place> = (0..8).map(|_| places.take(&ana).unwrap()).collect();
        assert_eq!(places.take(&ana).unwrap_err().code, ErrorCode::RateLimited);
        let bens: Vec<Place> = (0..4).map(|_| places.take(&ben).unwrap()).collect();
        assert!(anas[..4].iter().all(|place| place.check().is_err()), "the oldest are given up");
        assert!(anas[4..].iter().chain(&bens).all(|place| place.check().is_ok()));
        assert!(places.take(&ben).is_err(), "they are even");
        assert!(places.take(&ana).is_err(), "and what was taken away counts until it is over");
        drop(anas);
        assert_eq!(places.free(), 4);
        let more: Vec<Place> = (0..4).map(|_| places.take(&ben).unwrap()).collect();
        drop((bens, more));
        assert_eq!((places.free(), places.taken.lock().by_user.len()), (8, 0));
    }

    #[test]
    fn one_more_or_less_is_even() {
        let places = Places::new(3, &WORDS);
        let (ana, ben, eva) = (user("ana"), user("ben"), user("eva"));
        let _anas = [places.take(&ana).unwrap(), places.take(&ana).unwrap()];
        let _bens = places.take(&ben).unwrap();
        assert!(places.take(&ben).is_err(), "two and one are even");
        let _evas = places.take(&eva).unwrap();
        assert!(places.take(&eva).is_err());
        let one = Places::new(1, &WORDS);
        let _only = one.take(&ana).unwrap();
        assert!(one.take(&ben).is_err(), "one place cannot be shared");
    }
}
