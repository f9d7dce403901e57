//! [`Problem`]: the one error document of both REST APIs.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};

use crate::ErrorCode;

/// An error as a REST handler returns it. The request id is added by [`super::layers`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    pub code: ErrorCode,
    /// What was wrong with this very request, for a person. Holds no secret and no inner cause.
    pub detail: String,
    /// Seconds after which asking again may help.
    pub retry_after: Option<u64>,
    /// Further members of the document, such as the current `revision` of a conflict.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// Why a request was refused (RFC 9457). There may be further members, such as the `revision` of a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// Always `about:blank`: `code` says it.
    #[serde(rename = "type")]
    pub kind: String,
    /// What `code` means, for people.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What was wrong with this very request, for people.
    pub detail: String,
    pub code: ErrorCode,
    /// The id of the request in the log.
    #[serde(default)]
    #[schema(required)]
    pub request_id: String,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Problem {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        // RFC 9110 asks for Retry-After with 429 and 503; a second is the least that can be said.
        let retry_after = matches!(code, ErrorCode::RateLimited | ErrorCode::Unavailable).then_some(1);
        Self { code, detail: crate::shortened(detail.into()), retry_after, extra: serde_json::Map::new() }
    }

    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    /// Logs the cause, which the outside does not see, and says only that something broke.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request failed inside");
        Self::new(ErrorCode::Internal, "something broke here; the log says what, under this request id")
    }

    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// The document for the request with this id.
    pub fn document(&self, request_id: &str) -> ProblemDocument {
        ProblemDocument {
            kind: "about:blank".to_owned(),
            title: self.code.title().to_owned(),
            status: self.code.http_status().as_u16(),
            detail: self.detail.clone(),
            code: self.code,
            request_id: request_id.to_owned(),
            extra: self.extra.clone(),
        }
    }

    /// The whole answer for the request with this id.
    pub fn render(&self, request_id: &str) -> Response {
        let body = serde_json::to_vec(&self.document(request_id)).unwrap_or_default();
        let json = HeaderValue::from_static("application/problem+json");
        let mut response = (self.code.http_status(), [(header::CONTENT_TYPE, json)], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == ErrorCode::Unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render("");
        response.extensions_mut().insert(self);
        response
    }
}
