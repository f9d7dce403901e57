//! The page at `GET /`: what a person does with this peer, in any browser, out of this very program.
//!
//! Its files lie in `assets`, as they were written: HTML, CSS and JavaScript modules that a browser reads as they are,
//! without a step of building. The page is one more client of the REST API beside it; nothing here knows anything that
//! the API does not say.
//!
//! Names of files come from strangers, so the page makes text of everything and the browser is told to hold it to that:
//! nothing but these files runs, nothing is loaded from elsewhere, and no text can become markup (`POLICY`). Every file
//! has the hash of its bytes as its `ETag`, and browsers ask whether it changed: a peer that was updated shows its new
//! page at once.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use content::ContentId;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use wire::http::Problem;

/// Where each file is found, and its bytes.
const FILES: &[(&str, &[u8])] = &[
    ("/", include_bytes!("assets/index.html")),
    ("/app/icon.svg", include_bytes!("assets/icon.svg")),
    ("/app/frame.js", include_bytes!("assets/frame.js")),
    ("/app/main.js", include_bytes!("assets/main.js")),
    ("/app/css/base.css", include_bytes!("assets/css/base.css")),
    ("/app/css/content.css", include_bytes!("assets/css/content.css")),
    ("/app/css/fields.css", include_bytes!("assets/css/fields.css")),
    ("/app/css/lists.css", include_bytes!("assets/css/lists.css")),
    ("/app/css/parts.css", include_bytes!("assets/css/parts.css")),
    ("/app/css/shell.css", include_bytes!("assets/css/shell.css")),
    ("/app/css/views.css", include_bytes!("assets/css/views.css")),
    ("/app/lib/api.js", include_bytes!("assets/lib/api.js")),
    ("/app/lib/cell.js", include_bytes!("assets/lib/cell.js")),
    ("/app/lib/content.js", include_bytes!("assets/lib/content.js")),
    ("/app/lib/dialogs.js", include_bytes!("assets/lib/dialogs.js")),
    ("/app/lib/dom.js", include_bytes!("assets/lib/dom.js")),
    ("/app/lib/downloads.js", include_bytes!("assets/lib/downloads.js")),
    ("/app/lib/drop.js", include_bytes!("assets/lib/drop.js")),
    ("/app/lib/events.js", include_bytes!("assets/lib/events.js")),
    ("/app/lib/format.js", include_bytes!("assets/lib/format.js")),
    ("/app/lib/graph.js", include_bytes!("assets/lib/graph.js")),
    ("/app/lib/icons.js", include_bytes!("assets/lib/icons.js")),
    ("/app/lib/list.js", include_bytes!("assets/lib/list.js")),
    ("/app/lib/notices.js", include_bytes!("assets/lib/notices.js")),
    ("/app/lib/router.js", include_bytes!("assets/lib/router.js")),
    ("/app/lib/session.js", include_bytes!("assets/lib/session.js")),
    ("/app/lib/shortcuts.js", include_bytes!("assets/lib/shortcuts.js")),
    ("/app/lib/strip.js", include_bytes!("assets/lib/strip.js")),
    ("/app/lib/uploads.js", include_bytes!("assets/lib/uploads.js")),
    ("/app/views/account.js", include_bytes!("assets/views/account.js")),
    ("/app/views/content.js", include_bytes!("assets/views/content.js")),
    ("/app/views/files.js", include_bytes!("assets/views/files.js")),
    ("/app/views/found.js", include_bytes!("assets/views/found.js")),
    ("/app/views/groups.js", include_bytes!("assets/views/groups.js")),
    ("/app/views/hashing.js", include_bytes!("assets/views/hashing.js")),
    ("/app/views/login.js", include_bytes!("assets/views/login.js")),
    ("/app/views/offers.js", include_bytes!("assets/views/offers.js")),
    ("/app/views/parts.js", include_bytes!("assets/views/parts.js")),
    ("/app/views/peer.js", include_bytes!("assets/views/peer.js")),
    ("/app/views/peers.js", include_bytes!("assets/views/peers.js")),
    ("/app/views/search.js", include_bytes!("assets/views/search.js")),
    ("/app/views/status.js", include_bytes!("assets/views/status.js")),
    ("/app/views/token.js", include_bytes!("assets/views/token.js")),
    ("/app/views/transfer.js", include_bytes!("assets/views/transfer.js")),
    ("/app/views/transfers.js", include_bytes!("assets/views/transfers.js")),
    ("/app/views/uploads.js", include_bytes!("assets/views/uploads.js")),
];

/// What the browser lets the page do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The files by their paths, with the ETag of each.
type Assets = &'static HashMap<&'static str, (HeaderValue, &'static [u8])>;

/// The routes of the page.
pub(super) fn routes() -> Router {
    let files = FILES.iter().filter_map(|(path, bytes)| {
        let tag = HeaderValue::try_from(format!("\"{}\"", ContentId::of(bytes))).ok()?;
        Some((*path, (tag, *bytes)))
    });
    let assets: Assets = Box::leak(Box::new(files.collect()));
    Router::new().route("/", get(show)).route("/app/{*path}", get(show)).with_state(assets)
}

/// Whether the path is one of the page's files.
pub(super) fn has(path: &str) -> bool {
    FILES.iter().any(|(known, _)| *known == path)
}

async fn show(State(assets): State<Assets>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let path = uri.path();
    let (tag, bytes) = assets.get(path).ok_or_else(|| Problem::not_found("the page has no such file"))?;
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, kind(path))], Bytes::from_static(bytes)).into_response()
    };
    let answer = response.headers_mut();
    answer.insert(header::ETAG, tag.clone());
    for (name, value) in HEADERS {
        answer.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    }
}
