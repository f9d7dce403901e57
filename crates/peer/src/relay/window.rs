//! [`Window`]: how many pieces may be under way from one peer over the relay.
//!
//! The receiver asks for what it can take, so neither the broker nor the sender can flood it. It begins with four
//! pieces, takes one more for each piece that came in time, up to 32, and half as many after a deadline was missed or
//! the peer had no place. In time means that the queue on the way is short: a sender with a slow line is not asked for
//! more than it can send before anybody loses patience. Small windows also ask for smaller messages, so that a slow
//! line shows signs of life between the pieces.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::PeerId;

const FIRST: usize = 4;
const MOST: usize = 32;
/// Messages that follow each other this quickly are in time.
pub(crate) const TIMELY: Duration = Duration::from_secs(2);
/// Pieces under way from all peers together: this is what they may take of our memory.
const MOST_TOGETHER: usize = 128;
/// Peers whose window is remembered.
const MOST_PEERS: usize = 1_024;

/// The window of one peer. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    places: Arc<Semaphore>,
    size: Arc<Mutex<Size>>,
    together: Arc<Semaphore>,
}

/// Pure: what the size is, and which places have to go that are still taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    now: usize,
    debt: usize,
}

/// The right to have one piece under way.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    window: Window,
    _of_all: OwnedSemaphorePermit,
}

/// The windows of all peers.
#[derive(Debug)]
pub(crate) struct Windows {
    by_peer: Mutex<HashMap<PeerId, Window>>,
    together: Arc<Semaphore>,
}

impl Default for Windows {
    fn default() -> Self {
        Self { by_peer: Mutex::default(), together: Arc::new(Semaphore::new(MOST_TOGETHER)) }
    }
}

impl Windows {
    pub(crate) fn of(&self, peer: PeerId) -> Window {
        let mut by_peer = self.by_peer.lock();
        if by_peer.len() >= MOST_PEERS {
            by_peer.retain(|_, window| window.is_in_use());
        }
        by_peer.entry(peer).or_insert_with(|| Window::new(self.together.clone())).clone()
    }
}

impl Window {
    fn new(together: Arc<Semaphore>) -> Self {
        let size = Arc::new(Mutex::new(Size { now: FIRST, debt: 0 }));
        Self { places: Arc::new(Semaphore::new(FIRST)), size, together }
    }

    /// Waits for a place; those who wait longest come first.
    pub(crate) async fn place(&self) -> Option<Place> {
        let permit = self.places.clone().acquire_owned().await.ok()?;
        let of_all = self.together.clone().acquire_owned().await.ok()?;
        Some(self.placed(permit, of_all))
    }

    /// A place that is free now.
    pub(crate) fn try_place(&self) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        let of_all = self.together.clone().try_acquire_owned().ok()?;
        Some(self.placed(permit, of_all))
    }

    fn placed(&self, permit: OwnedSemaphorePermit, of_all: OwnedSemaphorePermit) -> Place {
        Place { permit: Some(permit), window: self.clone(), _of_all: of_all }
    }

    /// A piece came in time.
    pub(crate) fn grow(&self) {
        let mut size = self.size.lock();
        if size.grow() {
            self.places.add_permits(1);
        }
    }

    /// A deadline was missed, or the peer had no place.
    pub(crate) fn shrink(&self) {
        let mut size = self.size.lock();
        let surplus = size.shrink();
        // What is taken now goes when it is given back.
        size.debt += surplus - self.places.forget_permits(surplus);
    }

    /// Pieces that one question asks for: four questions fill the window.
    pub(crate) fn pieces_together(&self) -> usize {
        (self.size.lock().now / 4).max(1)
    }

    /// Bytes that an answer message should have at most.
    pub(crate) fn message_size(&self) -> u32 {
        match self.size.lock().now {
            0..4 => 64 << 10,
            4..8 => 256 << 10,
            _ => 1 << 20,
        }
    }

    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.size) > 1
    }
}

impl Size {
    /// Whether a place has to be added.
    fn grow(&mut self) -> bool {
        if self.now >= MOST {
            return false;
        }
        self.now += 1;
        if self.debt > 0 {
            self.debt -= 1;
            return false;
        }
        true
    }

    /// How many places have to go.
    fn shrink(&mut self) -> usize {
        let before = self.now;
        self.now = (before / 2).max(1);
        before - self.now
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut size = self.window.size.lock();
        if size.debt > 0
            && let Some(permit) = self.permit.take()
        {
            size.debt -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window() -> Window {
        Windows::default().of(PeerId::from_bytes([1; 16]))
    }

    fn take_all(window: &Window) -> Vec<Place> {
        std::iter::from_fn(|| window.try_place()).collect()
    }

    #[test]
    fn from_four_to_thirty_two_and_half_as_many_after_a_miss() {
        let window = window();
        assert_eq!((take_all(&window).len(), window.pieces_together()), (4, 1));
        assert_eq!(window.message_size(), 256 << 10);
        (0..100).for_each(|_| window.grow());
        assert_eq!((take_all(&window).len(), window.pieces_together()), (32, 8));
        assert_eq!(window.message_size(), 1 << 20);
        window.shrink();
        assert_eq!(take_all(&window).len(), 16);
        (0..10).for_each(|_| window.shrink());
        assert_eq!((take_all(&window).len(), window.pieces_together()), (1, 1), "never nothing");
        assert_eq!(window.message_size(), 64 << 10);
    }

    #[test]
    fn all_peers_together_have_a_bound() {
        let windows = Windows::default();
        let mut taken = Vec::new();
        for peer in 0..5 {
            let window = windows.of(PeerId::from_bytes([peer; 16]));
            (0..100).for_each(|_| window.grow());
            taken.extend(take_all(&window));
        }
        assert_eq!(taken.len(), MOST_TOGETHER);
        taken.pop();
        assert!(windows.of(PeerId::from_bytes([4; 16])).try_place().is_some());
    }

    #[test]
    fn places_that_are_taken_go_when_they_are_given_back() {
        let window = window();
        let mut taken = take_all(&window);
        window.shrink();
        taken.pop();
        assert!(window.try_place().is_none(), "the first two that come back are gone");
        taken.pop();
        assert!(window.try_place().is_none());
        taken.pop();
        assert!(window.try_place().is_some());
    }

    proptest! {
        /// Whatever happens, as many places as the window says can be taken in the end, and no more.
        #[test]
        fn places_and_size_agree(steps in prop::collection::vec(0..4u8, 0..200)) {
            let window = window();
            let mut taken = Vec::new();
            for step in steps {
                match step {
                    0 => window.grow(),
                    1 => window.shrink(),
                    2 => taken.extend(window.try_place()),
                    _ => drop(taken.pop()),
                }
                prop_assert!((1..=MOST).contains(&window.size.lock().now));
            }
            drop(taken);
            prop_assert_eq!(take_all(&window).len(), window.size.lock().now);
        }
    }
}
