//! The revoked on disk, so that a restart while the directory is away trusts nobody again who was refused before.
//!
//! Groups are not kept: until the directory says who is in one, nobody is.

use std::{fs::File, io::Read, path::Path};

use wire::rest::accounts::Revoked;

use super::MAX_REVOKED;
use crate::identity::write_private;

const MAX_FILE: u64 = 32 << 20;

/// Those whose certificates may still be valid. A file that cannot be read is as good as none.
pub(super) fn load(path: &Path, now: jiff::Timestamp) -> Vec<Revoked> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "who was refused before cannot be read");
            return Vec::new();
        }
    }
    let mut revoked: Vec<Revoked> = serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, "the list of who was refused before is broken");
        Vec::new()
    });
    revoked.retain(|one| one.until > now);
    revoked.truncate(MAX_REVOKED);
    revoked
}

/// Failing to save costs something only if a restart meets a directory that is away.
pub(super) fn save(path: &Path, revoked: &[Revoked]) {
    let json = serde_json::to_vec(revoked).map_err(std::io::Error::other);
    if let Err(error) = json.and_then(|json| write_private(path, &json)) {
        tracing::warn!(%error, "the list of who is refused cannot be saved");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn it_comes_back_as_far_as_it_still_matters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.json");
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(load(&path, now), []);
        let one = |until| Revoked { peer_id: None, username: "ana".parse().unwrap(), until };
        let later = Timestamp::from_second(1_800_000_001).unwrap();
        save(&path, &[one(now), one(later)]);
        assert_eq!(load(&path, now), [one(later)]);
        std::fs::write(&path, "[{").unwrap();
        assert_eq!(load(&path, now), []);
    }
}
