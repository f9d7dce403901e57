//! [`Clock`]: the wall clock, as a value that tests can move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

/// Tells the time. The system's in a program; in tests one that stands still until it is moved.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Milliseconds since 1970 of a clock that is moved by hand.
    by_hand: Option<Arc<AtomicI64>>,
}

impl Clock {
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows `start` until [`Self::advance`].
    pub fn by_hand(start: Timestamp) -> Self {
        Self { by_hand: Some(Arc::new(AtomicI64::new(start.as_millisecond()))) }
    }

    /// Milliseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn millis(&self) -> i64 {
        match &self.by_hand {
            Some(millis) => millis.load(Ordering::SeqCst),
            None => Timestamp::now().as_millisecond(),
        }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.millis()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Moves a clock made by [`Self::by_hand`]; the system's does not move.
    pub fn advance(&self, by: Duration) {
        if let Some(millis) = &self.by_hand {
            millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}
