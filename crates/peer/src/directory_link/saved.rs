//! The session on disk, so that a peer that was killed is logged in again without a password.
//!
//! It holds the token, so the file is private (mode 0600) like the keys beside it. A file that cannot be read is as
//! good as none: the worst that follows is a new login.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use serde::{Deserialize, Serialize};
use wire::{Username, rest::directory::Broker};

use crate::identity::{read_private, write_private};

/// What a restart needs to go on. `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedSession {
    pub(super) username: Username,
    pub(super) token: String,
    pub(super) lease_seconds: u64,
    pub(super) certificate_pem: String,
    pub(super) ca_pem: String,
    pub(super) broker: Option<Broker>,
    /// Its user has logged out, and no directory has heard of it yet.
    #[serde(default)]
    pub(super) ended: bool,
}

/// Where it is kept.
#[derive(Debug, Clone)]
pub(super) struct SessionFile(pub(super) PathBuf);

impl SessionFile {
    pub(super) fn load(&self) -> Option<SavedSession> {
        let bytes = match read_private(&self.0) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%error, "the saved session cannot be read, a new login is needed");
                return None;
            }
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.inspect_err(|_| tracing::warn!("the saved session is broken, a new login is needed")).ok()
    }

    /// Failing to save costs a login after the next crash, no more.
    pub(super) fn save(&self, session: &SavedSession) {
        self.empty_if_linked();
        let written = serde_json::to_vec(session)
            .map_err(io::Error::other)
            .and_then(|json| write_private(&self.0, &zeroize::Zeroizing::new(json)));
        if let Err(error) = written {
            tracing::warn!(%error, "the session cannot be saved; after a crash a new login is needed");
        }
    }

    /// The file is replaced and not changed, and then another name that it had would be the only one: no file of this
    /// folder any more, which might be shared. So that one is left with nothing in it.
    fn empty_if_linked(&self) {
        let linked = fs::symlink_metadata(&self.0).is_ok_and(|found| found.is_file() && found.nlink() > 1);
        if linked && let Err(error) = fs::OpenOptions::new().write(true).truncate(true).open(&self.0) {
            tracing::warn!(%error, "the saved session has another name, and cannot be emptied");
        }
    }

    pub(super) fn forget(&self) {
        self.empty_if_linked();
        match fs::remove_file(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the saved session cannot be removed"),
        }
    }
}

impl std::fmt::Debug for SavedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedSession").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn comes_back_is_private_and_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = SessionFile(dir.path().join("session.json"));
        assert_eq!(file.load(), None);
        let session = SavedSession {
            username: "ana".parse().unwrap(),
            token: "secret".to_owned(),
            lease_seconds: 30,
            certificate_pem: "c".to_owned(),
            ca_pem: "a".to_owned(),
            broker: None,
            ended: false,
        };
        file.save(&session);
        assert_eq!(file.load(), Some(session.clone()));
        assert_eq!(fs::metadata(&file.0).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{session:?}").contains("secret"));

        let link = dir.path().join("link");
        fs::hard_link(&file.0, &link).unwrap();
        file.save(&session);
        assert_eq!(
            (file.load(), fs::metadata(&link).unwrap().len()),
            (Some(session), 0),
            "no other name has it"
        );

        fs::write(&file.0, "{").unwrap();
        assert_eq!(file.load(), None, "a broken file is as good as none");
        file.forget();
        file.forget();
        assert!(!file.0.exists());
    }
}
