//! Offers: made to others, looked at, accepted, declined.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use wire::{
    http::{JsonBody, Path, Problem, Query, page},
    rest::{
        Page,
        pclient::{Offer, OfferDirection, OfferRequest, OffersQuery},
    },
};

use super::{NoQuery, Pclient};

/// `GET /v1/offers`: what others offered; with `direction=sent`, what was offered to them.
pub(super) async fn list(
    State(pclient): State<Pclient>,
    Query(query): Query<OffersQuery>,
) -> Result<Json<Page<Offer>>, Problem> {
    let limit = page::limit(query.limit)?;
    let after: Option<String> = page::decode_cursor(query.cursor.as_deref())?;
    let direction = query.direction.unwrap_or(OfferDirection::Received);
    // One more than asked for tells whether there is a next page.
    let mut items = pclient.offers.page(direction, query.state, after.as_deref(), limit + 1)?;
    let next_cursor = (items.len() > limit).then(|| {
        items.truncate(limit);
        items.last().map(|last| page::encode_cursor(&last.id)).unwrap_or_default()
    });
    Ok(Json(Page { items, next_cursor }))
}

/// `POST /v1/offers`: 201, or 200 with the one that waits already.
pub(super) async fn send(
    State(pclient): State<Pclient>,
    _: NoQuery,
    JsonBody(OfferRequest { content_id, to }): JsonBody<OfferRequest>,
) -> Result<Response, Problem> {
    let (offer, created) = pclient.offers.send(content_id, to).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(header::LOCATION, format!("/v1/offers/{}", offer.id))];
    Ok((status, location, Json(offer)).into_response())
}

/// `GET /v1/offers/{id}`.
pub(super) async fn show(
    State(pclient): State<Pclient>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Offer>, Problem> {
    Ok(Json(pclient.offers.get(&id)?))
}

/// `POST /v1/offers/{id}/accept`.
pub(super) async fn accept(
    State(pclient): State<Pclient>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Offer>, Problem> {
    Ok(Json(pclient.offers.accept(&id).await?))
}

/// `POST /v1/offers/{id}/decline`.
pub(super) async fn decline(
    State(pclient): State<Pclient>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Offer>, Problem> {
    Ok(Json(pclient.offers.decline(&id).await?))
}
