//! [`Paced`]: a body that has to come at some pace. A client that sends one byte now and then would otherwise hold its
//! place for ever.

use std::{
    error::Error,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// What every body has, however slow its client is: enough for a small one over any line.
const GRACE: Duration = Duration::from_secs(15);
/// Bytes in a second that earn more time.
const RATE: u64 = 16 << 10;

/// A body that ends with an error where it comes too slowly.
pub(super) struct Paced {
    body: Body,
    started: Instant,
    bytes: u64,
    late: Pin<Box<Sleep>>,
}

/// The body came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body comes too slowly")]
struct Late;

/// Whether this is behind an error that somebody else worded.
pub(super) fn is_late(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<Late>())
}

impl Paced {
    pub(super) fn new(body: Body) -> Self {
        let started = Instant::now();
        Self { body, started, bytes: 0, late: Box::pin(sleep_until(started + GRACE)) }
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match pin!(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                let earned = Duration::from_secs(this.bytes / RATE);
                this.late.as_mut().reset(this.started + GRACE + earned);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => Poll::Ready(end.map(|result| result.map_err(Into::into))),
            Poll::Pending => this.late.as_mut().poll(cx).map(|()| Some(Err(Late.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl std::fmt::Debug for Paced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paced").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::Request, routing::post};
    use futures::stream;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::http::{JsonBody, layers};

    /// A body that sends `portion` each second, so many times; its end does not come.
    fn drip(portion: &'static str, times: usize) -> Body {
        let portions = stream::unfold(0, move |sent| async move {
            if sent == times {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(portion.as_bytes())), sent + 1))
        });
        Body::from_stream(portions)
    }

    /// The answer, and the seconds until it came.
    async fn send(body: Body) -> (String, u64) {
        let router = Router::new().route("/", post(async |JsonBody::<serde_json::Value>(_)| "taken"));
        let request = Request::post("/").header("content-type", "application/json").body(body).unwrap();
        let started = Instant::now();
        let answer = layers::wrap(router).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let code =
            serde_json::from_slice::<serde_json::Value>(&body).ok().map(|body| body["code"].to_string());
        (format!("{status} {}", code.unwrap_or_default()), started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        assert_eq!(send(Body::from("{}")).await, ("200 ".to_owned(), 0));
        assert_eq!(send(drip("", 0)).await, ("504 \"timeout\"".to_owned(), 15), "nothing");
        assert_eq!(send(drip(" ", usize::MAX)).await, ("504 \"timeout\"".to_owned(), 15), "a drip");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_steadily_may_come_slowly() {
        static PORTION: [u8; 20 << 10] = [b' '; 20 << 10];
        let mut paced = Paced::new(drip(std::str::from_utf8(&PORTION).unwrap(), 1_000));
        let mut portions = 0;
        let started = Instant::now();
        let end = loop {
            match paced.frame().await.unwrap() {
                Ok(_) => portions += 1,
                Err(error) => break error,
            }
        };
        assert!(is_late(&*end));
        assert_eq!(portions, 1_000, "faster than it has to be");
        // What it was ahead of the pace is its own when it stops.
        assert_eq!(started.elapsed().as_secs(), 15 + 1_000 * 20 / 16);
    }
}
