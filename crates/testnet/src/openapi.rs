//! The OpenAPI documents of both APIs, as they are kept in `docs/openapi`.

/// Each document's file and text.
pub fn documents() -> [(&'static str, String); 2] {
    let text = |document: utoipa::openapi::OpenApi| format!("{}\n", document.to_pretty_json().unwrap());
    [
        ("directory.json", text(directory::http::openapi::document())),
        ("pclient.json", text(peer::pclient::rest::openapi::document())),
    ]
}
