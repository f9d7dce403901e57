//! [`Unread`]: the body of a request that may be refused before all of it was read.
//!
//! Who closes a connection while the other side still sends cuts off its own last word: the system answers what comes
//! with a reset, and then the other side loses what it had received and not looked at. So the rest of a body that nobody
//! wants is read and forgotten for a moment, and a client that sends first and reads then learns why it was refused. One
//! that does not end in time is cut off after all.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};

use crate::Lifecycle;

/// How long the rest of a body is read.
const LIMIT: Duration = Duration::from_secs(5);

/// A body over HTTP/1; over HTTP/2 a request ends without its connection.
pub(super) struct Unread {
    body: Option<Incoming>,
    lifecycle: Lifecycle,
}

impl Unread {
    pub(super) fn of(
        request: hyper::Request<Incoming>,
        lifecycle: &Lifecycle,
    ) -> hyper::Request<axum::body::Body> {
        // Whoever asked whether to send, and was not told to, has sent nothing.
        let waits = request.headers().contains_key(http::header::EXPECT);
        if request.version() == hyper::Version::HTTP_2 || waits {
            return request.map(axum::body::Body::new);
        }
        request.map(|body| axum::body::Body::new(Self { body: Some(body), lifecycle: lifecycle.clone() }))
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.lifecycle.spawn("unread body", async move {
            let rest = async { while let Some(Ok(_)) = next(&mut body).await {} };
            let _in_time = tokio::time::timeout(LIMIT, rest).await;
        });
    }
}

async fn next(body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}
