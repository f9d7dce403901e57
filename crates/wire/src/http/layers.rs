//! The stack of middleware that both routers wear: request id, log line, metric, panic → 500, a problem document for what
//! axum refuses by itself (unknown route, wrong method, a body over its limit), and what a browser may do with an answer:
//! nothing but read it, here and now.
//!
//! Nothing is packed or unpacked: a body that would have to be is refused before it is read, so that a small one cannot
//! become a large one.

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

/// What a browser is told of every answer that does not say otherwise. Answers are about people and their files: nobody
/// keeps them, no page of another site shows them, and nothing in them runs.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

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
    let response = if is_packed(request.headers()) {
        metrics::counter!("trueque_refusals_total", "reason" => "packed body").increment(1);
        Problem::new(ErrorCode::UnsupportedMediaType, "a body is taken as it is, without `Content-Encoding`")
            .into_response()
    } else {
        next.run(request).instrument(span.clone()).await
    };
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
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// Whether the body would have to be unpacked.
fn is_packed(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|how| !how.as_bytes().eq_ignore_ascii_case(b"identity"))
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

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        routing::{get, post},
    };
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::http::JsonBody;

    fn router() -> Router {
        let cached = || async { ([(header::CACHE_CONTROL, "no-cache")], "kept") };
        let panics =
            get(async || -> &'static str { panic!("at /home/ana/secret, SELECT password FROM accounts") });
        let taken = post(async |JsonBody::<serde_json::Value>(_)| "taken");
        let cached = get(cached);
        wrap(Router::new().route("/", taken).route("/kept", cached).route("/panics", panics))
    }

    async fn ask(request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let (head, body) = router().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_would_have_to_be_unpacked_is_refused() {
        for (encoding, status) in [
            ("gzip", 415),
            ("zstd", 415),
            ("br", 415),
            ("deflate", 415),
            ("GZIP", 415),
            ("identity, gzip", 415),
            ("x-of-our-own", 415),
            ("", 415),
            ("identity", 200),
        ] {
            let request = Request::post("/").header("content-type", "application/json");
            let request = request.header("content-encoding", encoding).body(Body::from("{}")).unwrap();
            let (got, _, body) = ask(request).await;
            assert_eq!(got, status, "{encoding:?}: {body}");
            assert_eq!(body.contains("unsupported_media_type"), status == 415, "{body}");
        }
    }

    #[tokio::test]
    async fn answers_are_not_packed_and_say_what_a_browser_may_do() {
        let request = |path| {
            Request::get(path).header("accept-encoding", "gzip, zstd, br").body(Body::empty()).unwrap()
        };
        for path in ["/", "/kept", "/panics", "/nowhere"] {
            let (_, headers, _) = ask(request(path)).await;
            assert!(!headers.contains_key(header::CONTENT_ENCODING), "{path}");
            let cached = if path == "/kept" { "no-cache" } else { "no-store" };
            assert_eq!(headers[header::CACHE_CONTROL], cached, "what an answer says itself counts: {path}");
            for (name, value) in HEADERS.iter().filter(|(name, _)| name != header::CACHE_CONTROL) {
                assert_eq!(&headers[name], value, "{path}");
            }
            assert!(!headers.contains_key("access-control-allow-origin"), "{path}");
            assert!(!headers["x-request-id"].is_empty(), "{path}");
        }
    }

    #[tokio::test]
    async fn what_broke_is_not_told() {
        let (status, _, body) = ask(Request::get("/panics").body(Body::empty()).unwrap()).await;
        assert_eq!(status, 500);
        assert!(!body.contains("/home") && !body.contains("SELECT"), "{body}");
    }
}
