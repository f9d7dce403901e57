//! HTTP/2 as both ends of a peer connection set it up.
//!
//! The defaults (64 KiB windows, 16 KiB frames) are made for web pages. Measured for pieces of 1 MiB on loopback:
//! defaults 461 MB/s, these windows and frames about twice that. Windows bound what a sender may have under way, so
//! they are also the memory that one connection can take.

use std::{future::Future, time::Duration};

use daemon::Lifecycle;
use tokio_util::sync::CancellationToken;

use crate::{tls::Caller, trust::Trust};

pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 8 << 20;
/// What a caller may have under way towards us: questions are short, and what it sends beyond them would be kept in
/// memory on thousands of streams.
pub(crate) const QUESTION_WINDOW: u32 = 64 << 10;
pub(crate) const QUESTIONS_WINDOW: u32 = 256 << 10;
pub(crate) const MAX_FRAME: u32 = 256 << 10;
pub(crate) const SEND_BUFFER: usize = 1 << 20;
pub(crate) const MAX_STREAMS: u32 = 256;
pub(crate) const MAX_HEADERS: u32 = 16 << 10;
/// Streams that a caller opened and took back before we looked at them; one more and it is hung up on (CVE-2023-44487).
pub(crate) const MAX_RESETS: usize = 32;
/// Streams that we took back because of a caller's mistakes, likewise.
pub(crate) const MAX_OWN_RESETS: usize = 256;
/// A connection on which nothing comes for this and [`PING_TIMEOUT`] is dead. Whoever waits for an answer finds out
/// soon, because there may be another way; pings go out only while nothing else comes in.
pub(crate) const PING_EVERY: Duration = Duration::from_millis(1500);
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for those who answer, who only want to get rid of the dead.
pub(crate) const PING_CALLER_EVERY: Duration = Duration::from_secs(10);
pub(crate) const PING_CALLER_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs what a connection starts as tasks of the process's lifecycle, until the connection's own end is called for:
/// because we are somebody else, or the other is not trusted any more.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) ended: CancellationToken,
    pub(crate) trust: Trust,
    pub(crate) other: Caller,
}

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let Self { ended, trust, other, .. } = self.clone();
        self.lifecycle.spawn("http/2 stream", async move {
            tokio::select! {
                _ = task => {}
                () = trust.over(&ended, &other) => {}
            }
        });
    }
}
