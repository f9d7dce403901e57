//! How the refusals of the catalog and of its neighbours are worded outside.

use wire::{ErrorCode, http::Problem};

use crate::{
    authority::RequestError,
    catalog::CatalogError,
    passwords::{self, PasswordError},
};

pub(super) fn of_catalog(error: CatalogError) -> Problem {
    let detail = error.to_string();
    match error {
        CatalogError::Taken | CatalogError::GroupTaken => Problem::new(ErrorCode::AlreadyExists, detail),
        CatalogError::Invite | CatalogError::NotYours => Problem::new(ErrorCode::PermissionDenied, detail),
        CatalogError::NotFound(_) => Problem::not_found(detail),
        CatalogError::Conflict { revision } => {
            Problem::new(ErrorCode::Conflict, detail).with("revision", revision)
        }
        CatalogError::Limit(_) => Problem::new(ErrorCode::Unprocessable, detail),
        CatalogError::Full(_) => Problem::new(ErrorCode::StorageFull, detail),
        CatalogError::Busy => Problem::new(ErrorCode::Unavailable, detail),
        CatalogError::StorageFull => Problem::new(ErrorCode::StorageFull, detail),
        CatalogError::Broken(cause) => Problem::internal(cause),
    }
}

pub(super) fn of_password(error: PasswordError) -> Problem {
    match error {
        PasswordError::Busy => Problem::new(ErrorCode::Unavailable, error.to_string())
            .retry_after(passwords::LONGEST_WAIT.as_secs()),
        PasswordError::Broken(cause) => Problem::internal(cause),
    }
}

pub(super) fn of_request(error: RequestError) -> Problem {
    Problem::invalid(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_inside_is_not_told() {
        let cause = "near SELECT: no such table accounts in /var/lib/trueque/catalog.sqlite";
        for problem in [
            of_catalog(CatalogError::Broken(cause.to_owned())),
            of_password(PasswordError::Broken(cause.to_owned())),
        ] {
            assert_eq!(problem.code, ErrorCode::Internal);
            let said = serde_json::to_string(&problem.document("id")).unwrap();
            for secret in ["SELECT", "accounts", "/var/lib", "sqlite"] {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
}
