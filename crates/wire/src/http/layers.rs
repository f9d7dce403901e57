//! The stack of middleware that both routers wear: request id, log line, metric, panic → 500, and a problem document
//! for what axum refuses by itself (unknown route, wrong method, a body over its limit).

use std::{any::Any, cell::RefCell, collections::HashSet, time::Instant};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use super::Problem;
use crate::{ErrorCode, trace};

/// The largest JSON body where a route does not say otherwise: 64 KiB.
pub const JSON_LIMIT: usize = 64 << 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the common stack around a whole API. Call it last.
pub fn wrap(router: Router) -> Router {
    router
        .fallback(|| async { Problem::not_found("there is no such path in this API") })
        .method_not_allowed_fallback(|| async {
            Problem::new(ErrorCode::MethodNotAllowed, "this path does not take that method")
        })
        .layer(DefaultBodyLimit::max(JSON_LIMIT))
        .layer(CatchPanicLayer::custom(on_panic))
        .layer(middleware::from_fn(observe))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that the layer asks for")]
fn on_panic(cause: Box<dyn Any + Send + 'static>) -> Response {
    let text =
        cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    Problem::internal(format!("a handler panicked: {}", text.unwrap_or("no message"))).into_response()
}

/// Gives the request an id, measures it, and words every refusal as a problem document with that id.
async fn observe(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = request.method().clone();
    // The route, never the path itself: a metric label per content id would grow without bound.
    let route = request.extensions().get::<MatchedPath>().map_or("none", |route| lasting(route.as_str()));
    let started = Instant::now();

    // On every line that it logs, whatever is filtered: an internal error is found by the id that its caller was told.
    let span = tracing::error_span!("request", request.id = %id, http.method = %method, http.route = %route);
    trace::follow_headers(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    let mut response = worded(response, &id);

    let status = response.status();
    let labels = [("method", known(&method)), ("route", route), ("status", lasting(status.as_str()))];
    metrics::counter!("trueque_http_requests_total", &labels).increment(1);
    metrics::histogram!("trueque_http_request_seconds", &labels[..2]).record(started.elapsed().as_secs_f64());
    trace::note(&span, "http.status", status.as_u16().into());
    if status.is_server_error() {
        trace::failed(&span, lasting(status.as_str()));
    }
    span.in_scope(|| tracing::debug!(http.status = status.as_u16(), "answered"));

    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The method as a label. Callers can make up methods, and a label for each would grow without bound.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The same text for the rest of the process's life, so that labels need no copies. Routes and statuses only: there are
/// few of them.
fn lasting(text: &str) -> &'static str {
    thread_local! {
        static TEXTS: RefCell<HashSet<&'static str>> = RefCell::default();
    }
    TEXTS.with_borrow_mut(|texts| {
        texts.get(text).copied().unwrap_or_else(|| {
            let kept: &'static str = Box::leak(text.into());
            texts.insert(kept);
            kept
        })
    })
}

/// The caller's own id where it is a short plain word, so that it can be followed across services; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    given.map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned)
}

fn worded(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let mut again = problem.render(id);
        // What a handler or axum added beside the document, such as `Allow` or `Content-Range`, stays.
        for (name, value) in response.headers() {
            if !again.headers().contains_key(name) && name != header::CONTENT_LENGTH {
                again.headers_mut().append(name, value.clone());
            }
        }
        return again;
    }
    let is_json =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
    match response.status() {
        StatusCode::PAYLOAD_TOO_LARGE if !is_json => {
            Problem::new(ErrorCode::TooLarge, "the body is larger than this call takes").render(id)
        }
        _ => response,
    }
}
