//! `GET /v1/search`: the directory's answer, as it is.

use axum::{Json, extract::State};
use wire::{
    http::{Problem, Query, page},
    rest::{
        Page,
        directory::{SearchItem, SearchQuery},
    },
};

use super::Pclient;

pub(super) async fn search(
    State(pclient): State<Pclient>,
    Query(query): Query<SearchQuery>,
) -> Result<Json<Page<SearchItem>>, Problem> {
    page::limit(query.limit)?;
    Ok(Json(pclient.directory.search(&query).await?))
}
