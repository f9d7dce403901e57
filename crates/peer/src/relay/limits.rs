//! [`Limits`]: how much of itself this peer lets the relay carry: a rate each way, and the largest file.
//!
//! The broker is somebody else's machine, and often slower than any other way. The rate is for the bytes of files, mail
//! among them; questions and small answers pass, so that a peer that sends as fast as it may does not seem to be gone.

use std::time::Duration;

use tokio::time::Instant;

use crate::throttle::Throttle;

/// What is no larger is not held back.
const SMALL: usize = 16 << 10;
/// Less than this is no waiting.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Clones share the rates.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    sending: Throttle,
    receiving: Throttle,
    /// Bytes; 0 for no limit.
    max_file: u64,
}

impl Limits {
    /// `rate` is bytes per second, each way; `max_file` bytes. 0 means no limit.
    pub fn new(rate: u64, max_file: u64) -> Self {
        Self { sending: Throttle::new(rate), receiving: Throttle::new(rate), max_file }
    }

    /// Whether a file of this size may go over the relay.
    pub(crate) fn takes(&self, size: u64) -> bool {
        self.max_file == 0 || size <= self.max_file
    }

    /// The largest file, in bytes.
    pub(crate) fn max_file(&self) -> u64 {
        self.max_file
    }

    /// Waits until a message may be sent.
    pub(crate) async fn send(&self, bytes: usize) {
        pass(&self.sending, "sent", bytes).await;
    }

    /// Waits until what came may be taken, and more of it be asked for.
    pub(crate) async fn receive(&self, bytes: usize) {
        pass(&self.receiving, "received", bytes).await;
    }
}

async fn pass(throttle: &Throttle, direction: &'static str, bytes: usize) {
    if bytes <= SMALL {
        return;
    }
    let asked = Instant::now();
    throttle.take(bytes as u64).await;
    if asked.elapsed() >= AT_ONCE {
        metrics::counter!("trueque_relay_limited_total", "direction" => direction).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn small_messages_pass_and_large_ones_wait() {
        let limits = Limits::new(64 << 10, 0);
        let mut passed = 0;
        // The limiter has a clock of its own, so that what waits is seen by its not being done at once.
        for _ in 0..100 {
            limits.send(SMALL).await;
            passed += 1;
        }
        assert_eq!(passed, 100);
        limits.send(64 << 10).await;
        let next = tokio::time::timeout(Duration::from_millis(1), limits.send(64 << 10)).await;
        assert!(next.is_err(), "the second is not due");
        let other = tokio::time::timeout(Duration::from_millis(1), limits.receive(64 << 10)).await;
        assert!(other.is_ok(), "each way has its own");
    }

    #[test]
    fn the_largest_file() {
        let limits = Limits::new(0, 10);
        assert!(limits.takes(10) && !limits.takes(11));
        assert!(Limits::default().takes(u64::MAX), "no limit");
    }
}
