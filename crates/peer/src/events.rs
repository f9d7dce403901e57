//! [`Events`]: what happens in the peer, numbered, for whoever listens at `GET /v1/events`.
//!
//! The last [`KEPT`] events are kept, so that a listener that comes back with the id of the last one it saw gets what
//! it missed. A listener that is too slow for the ring misses the oldest ones, which is counted; nothing waits for it.
//! Ids carry the run of the process, because numbers start again with each: an id of another run replays everything.

use std::{collections::VecDeque, sync::Arc};

use daemon::Lifecycle;
use futures::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use wire::rest::pclient::Event;

/// Events that are kept for those who come back.
pub const KEPT: usize = 1024;

/// Collects and hands out. Clones are the same.
#[derive(Debug, Clone)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Tells this run's ids from those of others.
    run: u32,
    ring: Mutex<VecDeque<Numbered>>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
}

/// An event with its place in the order of this run.
#[derive(Debug, Clone)]
pub struct Numbered {
    pub id: EventId,
    pub event: Arc<Event>,
}

/// `RUN-NUMBER`, as listeners give it back in `Last-Event-ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    run: u32,
    number: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self(Arc::new(Inner { run: rand::random(), ring: Mutex::default(), newest: watch::Sender::new(0) }))
    }
}

impl Events {
    pub fn publish(&self, event: Event) {
        let mut ring = self.0.ring.lock();
        let number = *self.0.newest.borrow() + 1;
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(Numbered { id: EventId { run: self.0.run, number }, event: Arc::new(event) });
        self.0.newest.send_replace(number);
    }

    /// Everything from now on; with the id of an event, everything after that one.
    pub fn listen(&self, after: Option<EventId>) -> impl Stream<Item = Numbered> + Send + use<> {
        let newest = self.0.newest.subscribe();
        let start = match after {
            None => *newest.borrow(),
            Some(id) if id.run == self.0.run => id.number,
            Some(_) => 0,
        };
        let state = (self.clone(), newest, start, VecDeque::new());
        stream::unfold(state, async |(events, mut newest, mut last, mut pending)| {
            loop {
                if let Some(next) = pending.pop_front() {
                    return Some((next, (events, newest, last, pending)));
                }
                newest.borrow_and_update();
                pending = events.after(&mut last);
                if pending.is_empty() {
                    newest.changed().await.ok()?;
                }
            }
        })
    }

    /// What is kept beyond `last`, which moves to the newest.
    fn after(&self, last: &mut u64) -> VecDeque<Numbered> {
        let ring = self.0.ring.lock();
        let oldest = ring.front().map_or(0, |first| first.id.number);
        let missed = oldest.saturating_sub(*last + 1);
        if *last > 0 && missed > 0 {
            metrics::counter!("trueque_events_missed_total").increment(missed);
        }
        let newer = ring.iter().filter(|kept| kept.id.number > *last).cloned().collect();
        *last = ring.back().map_or(*last, |newest| newest.id.number);
        newer
    }

    /// Publishes what arrives on a channel until it closes or the peer stops.
    pub fn forward<T, F>(&self, lifecycle: &Lifecycle, mut from: broadcast::Receiver<T>, mut to_event: F)
    where
        T: Clone + Send + 'static,
        F: FnMut(T) -> Event + Send + 'static,
    {
        let events = self.clone();
        let soft = lifecycle.soft();
        lifecycle.spawn("events", async move {
            loop {
                let received = tokio::select! {
                    () = soft.cancelled() => return,
                    received = from.recv() => received,
                };
                match received {
                    Ok(item) => events.publish(to_event(item)),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        metrics::counter!("trueque_events_missed_total").increment(missed);
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.number)
    }
}

/// A text that is not an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an event")]
pub struct EventIdError;

impl std::str::FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let (run, number) = text.split_once('-').ok_or(EventIdError)?;
        let run = u32::from_str_radix(run, 16).map_err(|_| EventIdError)?;
        let id = Self { run, number: number.parse().map_err(|_| EventIdError)? };
        // Numbers may be written in more ways than one, and ours are written in one.
        if id.to_string() == text { Ok(id) } else { Err(EventIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt};

    fn gone(n: usize) -> Event {
        Event::DownloadRemoved { id: n.to_string() }
    }

    #[tokio::test]
    async fn a_listener_gets_what_comes_and_what_it_missed() {
        let events = Events::default();
        events.publish(gone(1));
        let mut now = Box::pin(events.listen(None));
        assert!(now.next().now_or_never().is_none(), "what was before is not told again");
        events.publish(gone(2));
        let second = now.next().await.unwrap();
        assert_eq!(*second.event, gone(2));
        events.publish(gone(3));

        let text = second.id.to_string();
        let mut back = Box::pin(events.listen(Some(text.parse().unwrap())));
        assert_eq!(*back.next().await.unwrap().event, gone(3));
        assert!(back.next().now_or_never().is_none());

        let other_run = EventId { run: second.id.run ^ 1, number: 99 };
        let mut all = Box::pin(events.listen(Some(other_run)));
        assert_eq!(*all.next().await.unwrap().event, gone(1));
    }

    #[tokio::test]
    async fn the_ring_is_bounded_and_a_slow_listener_misses_the_oldest() {
        let events = Events::default();
        events.publish(gone(0));
        let mut slow = Box::pin(events.listen(None));
        for n in 1..=KEPT + 5 {
            events.publish(gone(n));
        }
        assert_eq!(*slow.next().await.unwrap().event, gone(6));
        assert_eq!(slow.by_ref().take(KEPT - 1).count().await, KEPT - 1);
        assert!(slow.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_listener_waits_and_wakes() {
        let events = Events::default();
        let mut listener = Box::pin(events.listen(None));
        let (got, ()) = tokio::join!(listener.next(), async {
            tokio::task::yield_now().await;
            events.publish(gone(7));
        });
        assert_eq!(*got.unwrap().event, gone(7));
    }

    #[test]
    fn ids_are_read_strictly() {
        for bad in ["", "7", "x-1", "1-x", "1--1"] {
            assert_eq!(bad.parse::<EventId>(), Err(EventIdError), "{bad}");
        }
    }
}
