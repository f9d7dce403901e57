//! `grpc-timeout`: a caller's deadline, honoured for the whole answer and not only for its start.
//!
//! Source: the gRPC over HTTP/2 protocol, "Timeout": at most eight digits and a unit of H, M, S, m, u or n.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;
use wire::ErrorCode;

use super::refuse;
use crate::service::Portion;

/// The time that a caller has for its question.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);

/// What an answer holds until it is sent.
#[derive(Debug, Clone)]
pub(super) struct Held(Arc<Option<Portion>>);

impl Held {
    pub(super) fn new(portion: Option<Portion>) -> Self {
        Self(Arc::new(portion))
    }
}

/// Ends answers that take longer than their caller allows, and questions that take longer than any needs.
pub(super) async fn layer(request: Request, next: Next) -> Response {
    let timeout = timeout_of(request.headers());
    let asked_by = Instant::now() + QUESTION_LIMIT;
    let request = request.map(|body| asked_until(body, asked_by));
    let Some(timeout) = timeout else { return holding(next.run(request).await) };
    let deadline = Instant::now() + timeout;
    match tokio::time::timeout_at(deadline, next.run(request)).await {
        Ok(response) => holding(response).map(|body| until(body, deadline)),
        Err(_) => status().into_http::<Body>().into_response(),
    }
}

/// Whatever the answer holds goes with its body.
fn holding(mut response: Response) -> Response {
    match response.extensions_mut().remove::<Held>() {
        Some(Held(held)) if held.is_some() => response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _until_the_body_is_dropped = &held;
                frame
            }))
        }),
        _ => response,
    }
}

/// A question that is not complete by then is broken off: every question here is short.
fn asked_until(body: Body, deadline: Instant) -> Body {
    let frames = futures::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(frame) => frame.map(|frame| (frame, Some(body))),
            Err(_) => {
                refuse("slow question");
                Some((Err(axum::Error::new(std::io::Error::from(std::io::ErrorKind::TimedOut))), None))
            }
        }
    });
    Body::new(StreamBody::new(frames))
}

fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// The body, cut off with a status at the deadline.
fn until(body: Body, deadline: Instant) -> Body {
    let frames = futures::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(None) => None,
            Ok(Some(frame)) => Some((frame, Some(body))),
            Err(_) => {
                let mut trailers = HeaderMap::new();
                let _always_fits = status().add_header(&mut trailers);
                Some((Ok::<Frame<Bytes>, axum::Error>(Frame::trailers(trailers)), None))
            }
        }
    });
    Body::new(StreamBody::new(frames))
}

fn status() -> tonic::Status {
    ErrorCode::Timeout.to_status("the caller's deadline has passed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5s", None),
            ("-5S", None),
            ("5é", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
            assert_eq!(timeout_of(&headers), expected, "{text}");
        }
    }
}
