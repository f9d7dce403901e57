//! [`Reorder`]: numbered answers, put in order. Pure.
//!
//! The answering side publishes on several channels at once, so a later message may overtake an earlier one. What came
//! too early waits here; there are never more than were asked for.

use std::collections::BTreeMap;

use super::refused::Refused;

/// Puts the messages of one answer in order.
#[derive(Debug)]
pub(crate) struct Reorder<T> {
    /// The number that comes next.
    next: u32,
    /// One beyond the highest number that may come.
    limit: u32,
    last: Option<u32>,
    early: BTreeMap<u32, T>,
}

impl<T> Reorder<T> {
    /// For an answer of at most `limit` messages.
    pub(crate) fn new(limit: u32) -> Self {
        Self { next: 0, limit, last: None, early: BTreeMap::new() }
    }

    /// Takes a message in.
    ///
    /// # Errors
    /// Gives it back, with [`Refused::Duplicate`] or [`Refused::TooMany`], or with [`Refused::Forged`] where it
    /// disagrees with what came before about which one is the last.
    pub(crate) fn push(&mut self, number: u32, last: bool, item: T) -> Result<(), (Refused, T)> {
        match self.fits(number, last) {
            Ok(()) => {
                self.last = self.last.or(last.then_some(number));
                self.early.insert(number, item);
                Ok(())
            }
            Err(refused) => Err((refused, item)),
        }
    }

    fn fits(&self, number: u32, last: bool) -> Result<(), Refused> {
        if number < self.next || self.early.contains_key(&number) {
            return Err(Refused::Duplicate);
        }
        if number >= self.limit {
            return Err(Refused::TooMany);
        }
        let beyond = self.last.is_some_and(|end| number >= end);
        let before_others = last && self.early.last_key_value().is_some_and(|(highest, _)| *highest > number);
        if beyond || before_others { Err(Refused::Forged) } else { Ok(()) }
    }

    /// The message that is due, once it is here.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.early.remove(&self.next)?;
        self.next += 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut order = Reorder::new(4);
        order.push(2, false, 2).unwrap();
        assert_eq!(order.push(2, false, 2), Err((Refused::Duplicate, 2)));
        assert_eq!(order.push(4, true, 4), Err((Refused::TooMany, 4)));
        assert_eq!(order.push(1, true, 1), Err((Refused::Forged, 1)), "there is a later one already");
        order.push(3, true, 3).unwrap();
        assert_eq!(order.pop(), None, "the first is missing");
        order.push(0, false, 0).unwrap();
        assert_eq!(order.pop(), Some(0));
        assert_eq!(order.push(0, false, 0), Err((Refused::Duplicate, 0)));
        order.push(1, false, 1).unwrap();
        assert_eq!([order.pop(), order.pop(), order.pop(), order.pop()], [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn nothing_comes_after_the_last() {
        let mut order = Reorder::new(4);
        order.push(1, true, 1).unwrap();
        assert_eq!(order.push(2, false, 2), Err((Refused::Forged, 2)));
        assert_eq!(order.push(3, true, 3), Err((Refused::Forged, 3)));
    }

    proptest! {
        /// In whatever order they come, and however often, they go out once each and in order.
        #[test]
        fn in_order_and_once(count in 1u32..40, shuffle in prop::collection::vec(any::<prop::sample::Index>(), 0..120)) {
            let mut coming: Vec<u32> = (0..count).collect();
            for (at, index) in shuffle.iter().enumerate() {
                let len = coming.len();
                coming.swap(at % len, index.index(len));
            }
            coming.extend(shuffle.iter().map(|index| u32::try_from(index.index(count as usize)).unwrap()));
            let mut order = Reorder::new(count);
            let mut gone = Vec::new();
            for number in coming {
                let _copies = order.push(number, number + 1 == count, number);
                while let Some(item) = order.pop() {
                    gone.push(item);
                }
            }
            prop_assert_eq!(gone, (0..count).collect::<Vec<_>>());
        }
    }
}
