//! Extractors that refuse with a [`Problem`] naming what was wrong, where axum's own answer in plain text.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request, path::ErrorKind, rejection},
};
use http::{StatusCode, Uri, header, request::Parts};
use serde::de::DeserializeOwned;

use super::{Problem, pace};
use crate::ErrorCode;

/// A JSON object as the body. Needs `content-type: application/json`; a body over the route's limit is `too_large`.
#[derive(Debug, Clone, Copy)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if essence != "application/json"
            && !(essence.starts_with("application/") && essence.ends_with("+json"))
        {
            return Err(Problem::invalid(format!("the body must be application/json, not {kind:?}")));
        }
        read_json(&read_body(request, state).await?).map(Self)
    }
}

/// What a JSON object says, as [`JsonBody`] takes it.
///
/// # Errors
/// `invalid_argument` for what is no object, or has a member that `T` does not.
pub fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Otherwise a list of the members' values would do as well.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid("the body is not a JSON object"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid(format!("the body is not what this call takes: {error}")))
}

/// The whole body, within the route's limit and in time.
///
/// # Errors
/// `too_large`; `timeout` for one that comes too slowly, whose connection then ends with the answer; `invalid_argument`
/// for one that breaks off.
pub async fn read_body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let paced = request.map(|body| Body::new(pace::Paced::new(body)));
    Bytes::from_request(paced, state).await.map_err(|rejection| {
        if pace::is_late(&rejection) {
            metrics::counter!("trueque_refusals_total", "reason" => "slow body").increment(1);
            return Problem::new(ErrorCode::Timeout, "the body comes too slowly");
        }
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(ErrorCode::TooLarge, "the body is larger than this call takes")
            }
            _ => Problem::invalid("the body ended too early or could not be read"),
        }
    })
}

/// Query parameters. Unknown ones are refused where `T` denies unknown fields.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read_query(&parts.uri).map(Self)
    }
}

/// What the query of an address says, as [`Query`] takes it.
///
/// # Errors
/// `invalid_argument` for what is not UTF-8, or has a parameter that `T` does not.
pub fn read_query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    // The decoder behind would put replacement characters in the place of what it cannot read.
    let query = uri.query().unwrap_or_default();
    if percent_encoding::percent_decode_str(query).decode_utf8().is_err() {
        return Err(Problem::invalid("the query is not UTF-8"));
    }
    axum::extract::Query::try_from_uri(uri).map(|axum::extract::Query(query)| query).map_err(|rejection| {
        Problem::invalid(format!("the query is not what this call takes: {}", inner(&rejection)))
    })
}

/// The query of a call that takes none: anything in it is refused.
pub type NoQuery = Query<Nothing>;

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The last cause: axum's own words around it say nothing to the caller.
fn inner(error: &dyn std::error::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Parts of the path. One that cannot be read as what it stands for is an invalid argument.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection::PathRejection::FailedToDeserializePathParams(error)) => {
                Err(match error.into_kind() {
                    ErrorKind::InvalidUtf8InPathParam { key } => {
                        Problem::invalid(format!("`{key}` in the path is not UTF-8"))
                    }
                    ErrorKind::DeserializeError { key, message, .. } => {
                        Problem::invalid(format!("`{key}` in the path: {message}"))
                    }
                    kind => Problem::invalid(format!("the path: {kind}")),
                })
            }
            Err(other) => Err(Problem::internal(other)),
        }
    }
}
