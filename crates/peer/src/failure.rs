//! [`Failure`]: why the peer's core did not do what it was asked. Doors turn it into a status of theirs.

use wire::{ErrorCode, http::Problem};

/// A refusal or fault with its word from the code table, and a sentence for the one who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    pub code: ErrorCode,
    /// Lower case, no final dot; names the thing; holds no secret and no inner cause.
    pub detail: String,
}

impl Failure {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: wire::shortened(detail.into()) }
    }

    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, detail)
    }

    /// Logs the cause, once, and tells the outside only that something broke.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "something broke inside");
        Self::new(ErrorCode::Internal, "something broke here; the log says what")
    }

    /// What a disk said: full is an answer of its own, what its user can mend is said, everything else is internal.
    pub fn storage(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self::new(ErrorCode::StorageFull, "the disk is full")
            }
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::FileTooLarge => {
                tracing::warn!(error = %error, "a file could not be read or written");
                Self::new(ErrorCode::Unprocessable, format!("the file cannot be read or written: {error}"))
            }
            _ => Self::internal(error),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::new(failure.code, failure.detail)
    }
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        failure.code.to_status(failure.detail)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::new(ErrorCode::of_status(&status), status.message())
    }
}
