//! One table of what can go wrong, with its HTTP status, gRPC code, relay word and whether asking again may help.
//!
//! Domain code says an [`ErrorCode`]; only the doors turn it into a status, and back.

use std::{fmt, str::FromStr};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tonic::Code;

/// The metadata key under which a gRPC error carries its exact [`ErrorCode`], because several share a gRPC code.
pub const CODE_METADATA: &str = "trueque-code";

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It will be refused again.
    No,
    /// After reading the present state again.
    AfterReading,
    /// Soon.
    Yes,
    /// When somebody has made room.
    Later,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $status:ident, $grpc:ident, $retry:ident, $title:literal;)*) => {
        /// A stable machine word for what went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word, as it stands in problem documents, gRPC metadata and relay answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            pub const fn http_status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            pub const fn grpc_code(self) -> Code {
                match self { $(Self::$variant => Code::$grpc,)* }
            }

            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)* }
            }

            /// What it means, for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

error_codes! {
    InvalidArgument = "invalid_argument", BAD_REQUEST, InvalidArgument, No, "The request is not well formed";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, Unauthenticated, No, "Who you are is not known";
    PermissionDenied = "permission_denied", FORBIDDEN, PermissionDenied, No, "This is not for you";
    NotFound = "not_found", NOT_FOUND, NotFound, No, "There is no such thing";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Unimplemented, No, "This cannot be done to it";
    Conflict = "conflict", CONFLICT, Aborted, AfterReading, "The state has moved on";
    AlreadyExists = "already_exists", CONFLICT, AlreadyExists, No, "It is there already";
    /// The body is packed, or says that it is.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, InvalidArgument, No, "A body of this kind is not taken";
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, OutOfRange, No, "It is too large";
    RangeNotSatisfiable = "range_not_satisfiable", RANGE_NOT_SATISFIABLE, OutOfRange, No, "The range lies outside the file";
    /// The request reached a `Host` that this server does not answer for.
    Misdirected = "misdirected", MISDIRECTED_REQUEST, InvalidArgument, No, "The request was meant for somebody else";
    Unprocessable = "unprocessable", UNPROCESSABLE_ENTITY, FailedPrecondition, No, "It cannot be done as things are";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, ResourceExhausted, Yes, "Too much at once";
    StorageFull = "storage_full", INSUFFICIENT_STORAGE, ResourceExhausted, Later, "There is no room left";
    Internal = "internal", INTERNAL_SERVER_ERROR, Internal, No, "Something broke here";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, Unavailable, Yes, "It cannot be reached now";
    Timeout = "timeout", GATEWAY_TIMEOUT, DeadlineExceeded, Yes, "It took too long";
}

impl ErrorCode {
    /// The code behind a gRPC status that does not carry the exact word: other programs', or a proxy's.
    pub const fn from_grpc(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::NotFound,
            Code::Aborted => Self::Conflict,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::OutOfRange => Self::TooLarge,
            Code::FailedPrecondition => Self::Unprocessable,
            Code::ResourceExhausted => Self::RateLimited,
            Code::Unimplemented => Self::MethodNotAllowed,
            Code::Unavailable | Code::Cancelled => Self::Unavailable,
            Code::DeadlineExceeded => Self::Timeout,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Internal,
        }
    }

    /// The code of a received gRPC status: the exact word where it carries one, else the nearest.
    pub fn of_status(status: &tonic::Status) -> Self {
        let word = status.metadata().get(CODE_METADATA).and_then(|value| value.to_str().ok());
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| Self::from_grpc(status.code()))
    }

    /// A gRPC status that carries the exact word.
    pub fn to_status(self, detail: impl Into<String>) -> tonic::Status {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.insert(CODE_METADATA, tonic::metadata::MetadataValue::from_static(self.as_str()));
        tonic::Status::with_metadata(self.grpc_code(), detail, metadata)
    }
}

/// A word that is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known error code")]
pub struct UnknownCode;

impl FromStr for ErrorCode {
    type Err = UnknownCode;

    fn from_str(word: &str) -> Result<Self, UnknownCode> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word).ok_or(UnknownCode)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_over_grpc_and_json() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::of_status(&code.to_status("x")), code);
            assert_eq!(code.as_str().parse(), Ok(code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn a_status_of_another_program_gets_a_code_with_the_same_grpc_code() {
        for &code in ErrorCode::ALL {
            let foreign = tonic::Status::new(code.grpc_code(), "x");
            assert_eq!(ErrorCode::of_status(&foreign).grpc_code(), code.grpc_code());
        }
    }
}
