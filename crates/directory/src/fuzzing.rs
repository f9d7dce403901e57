//! How the directory reads outside bytes, for the fuzz targets alone: what the handlers call, under public names.

use wire::{
    http::{Problem, read_json, read_query},
    rest::directory::{CatalogDelta, SessionRequest},
};

use crate::{
    catalog::Search,
    cursors::Cursors,
    http::{catalog, search, sessions},
};

/// The body of `POST /v1/catalog`, as it goes to the catalog.
///
/// # Errors
/// What the caller would be told.
pub fn catalog_delta(body: &[u8]) -> Result<CatalogDelta, Problem> {
    let mut delta = read_json(body)?;
    catalog::check(&mut delta)?;
    Ok(delta)
}

/// The body of `POST /v1/sessions`; its certificate request is [`crate::authority::Request`]'s.
///
/// # Errors
/// What the caller would be told.
pub fn session(body: &[u8]) -> Result<SessionRequest, Problem> {
    let request = read_json(body)?;
    sessions::check(&request)?;
    Ok(request)
}

/// The query of `GET /v1/search`, as it goes to the catalog.
///
/// # Errors
/// What the caller would be told.
pub fn search(uri: &http::Uri) -> Result<Search, Problem> {
    let cursors = Cursors::new(&[7; 32]).map_err(Problem::internal)?;
    search::read(&cursors, read_query(uri)?)
}
