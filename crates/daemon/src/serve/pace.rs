//! [`Pace`]: how long a connection may say nothing. It looks at bytes and requests from outside, because HTTP/1 and
//! HTTP/2 each know only a part of it, and the time before the first byte belongs to neither.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::Limits;

/// The time of one connection. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    headers: Duration,
    idle: Duration,
    stalled: Duration,
    answer: Option<Duration>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// When each of the requests was read that are being answered, by its number, the oldest first. There are as many
    /// at most as the protocol lets a client have at once.
    open: VecDeque<(u64, Instant)>,
    /// The number of the next one.
    next: u64,
    /// Since when the client takes nothing of what there is for it.
    blocked: Option<Instant>,
    /// The last answer's end.
    since: Instant,
    /// When the head of the next request began to come; for the first one, when the connection was made.
    head: Option<Instant>,
    /// HTTP/2, where bytes that come need not be a request's.
    multiplexed: bool,
}

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    Headers,
    Idle,
    Stalled,
    Answer,
}

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        let state = State {
            open: VecDeque::new(),
            next: 0,
            blocked: None,
            since: now,
            head: Some(now),
            multiplexed: false,
        };
        let Limits { headers, idle, stalled, answer, .. } = *limits;
        Self { headers, idle, stalled, answer, state: Arc::new(Mutex::new(state)) }
    }

    /// A request was read. It lasts for as long as what is answered lives.
    pub(super) fn begin(&self, multiplexed: bool) -> Open {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.open.push_back((number, Instant::now()));
        state.head = None;
        state.multiplexed = multiplexed;
        drop(state);
        Open { pace: self.clone(), number }
    }

    fn heard(&self) {
        let mut state = self.state.lock();
        if state.open.is_empty() && state.head.is_none() && !state.multiplexed {
            state.head = Some(Instant::now());
        }
    }

    /// Whether there are bytes for the client that it does not take.
    fn blocked(&self, is_so: bool) {
        let mut state = self.state.lock();
        state.blocked = is_so.then(|| state.blocked.unwrap_or_else(Instant::now));
    }

    /// Ends when the connection has taken too long.
    pub(super) async fn ended(&self) -> Late {
        loop {
            let now = Instant::now();
            let (until, why) = {
                let state = self.state.lock();
                let stalled = state.blocked.map(|since| (since + self.stalled, Late::Stalled));
                let asked = match (state.open.front(), state.head) {
                    (Some((_, began)), _) => self.answer.map(|limit| (*began + limit, Late::Answer)),
                    (None, Some(began)) => Some((began + self.headers, Late::Headers)),
                    (None, None) => Some((state.since + self.idle, Late::Idle)),
                };
                let first = stalled.into_iter().chain(asked).min_by_key(|(until, _)| *until);
                first.unwrap_or((now + self.headers, Late::Idle))
            };
            if until <= now {
                return why;
            }
            // Nobody tells when the next head begins: a part of its time is the price of asking.
            tokio::time::sleep_until(until.min(now + self.headers / 4)).await;
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Open {
    pace: Pace,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.pace.state.lock();
        state.open.retain(|(number, _)| *number != self.number);
        state.since = Instant::now();
    }
}

/// An answer, and that it is not over.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) _open: Open,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that tells when something came, and when nothing more can be sent.
#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    pace: Pace,
    /// What was told last.
    blocked: bool,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, pace: Pace) -> Self {
        Self { stream, pace, blocked: false }
    }

    fn told<T>(&mut self, sent: Poll<T>) -> Poll<T> {
        if sent.is_pending() != self.blocked {
            self.blocked = sent.is_pending();
            self.pace.blocked(self.blocked);
        }
        sent
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pace.heard();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.told(sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(cx);
        self.told(sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.told(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(&Limits {
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            ..Limits::default()
        })
    }

    /// Seconds until it ends, and why.
    async fn ends(pace: &Pace) -> (u64, Late) {
        let started = Instant::now();
        let why = pace.ended().await;
        (started.elapsed().as_secs(), why)
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_says_a_whole_request_is_given_up() {
        let pace = pace();
        assert_eq!(ends(&pace).await, (10, Late::Headers), "nothing");
        let dripping = self::pace();
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                dripping.heard();
            }
        };
        tokio::select! {
            ended = ends(&dripping) => assert_eq!(ended, (10, Late::Headers)),
            () = drip => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_its_time_and_then_there_is_more_of_it() {
        let pace = pace();
        let open = pace.begin(false);
        let second = pace.begin(false);
        drop(open);
        assert!(tokio::time::timeout(Duration::from_secs(3_600), pace.ended()).await.is_err());
        drop(second);
        assert_eq!(ends(&pace).await, (75, Late::Idle));
        // The next request begins, and does not go on.
        let again = self::pace();
        drop(again.begin(false));
        tokio::time::sleep(Duration::from_secs(50)).await;
        again.heard();
        assert_eq!(ends(&again).await, (10, Late::Headers));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_given_up() {
        let pace = pace();
        let _open = pace.begin(false);
        pace.blocked(true);
        tokio::time::sleep(Duration::from_secs(50)).await;
        pace.blocked(true);
        assert_eq!(ends(&pace).await, (10, Late::Stalled), "of a minute");
        pace.blocked(false);
        assert!(tokio::time::timeout(Duration::from_secs(3_600), pace.ended()).await.is_err(), "it goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_have_a_limit_for_each_request() {
        let pace = Pace::new(&Limits { answer: Some(Duration::from_secs(30)), ..Limits::default() });
        let quick = pace.begin(true);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let slow = pace.begin(true);
        drop(quick);
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(pace.begin(true));
        assert_eq!(ends(&pace).await, (10, Late::Answer));
        drop(slow);
        assert_eq!(ends(&pace).await, (75, Late::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_are_no_requests() {
        let pace = pace();
        drop(pace.begin(true));
        tokio::time::sleep(Duration::from_secs(20)).await;
        pace.heard();
        assert_eq!(ends(&pace).await, (55, Late::Idle));
    }
}
