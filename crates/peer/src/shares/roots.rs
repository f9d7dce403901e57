//! [`Roots`]: the shared folders and the download folder, as real paths, and the name of a file beneath one.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use content::{NameError, SafeName};
use wire::ErrorCode;

use crate::{Failure, place::Ground};

/// What starts like this is ours, and not to be shared.
const OURS: &[u8] = b".trueque";

#[derive(Debug)]
pub(super) struct Roots {
    /// Canonical, none beneath another, in the order of the setting.
    pub(super) shared: Vec<PathBuf>,
    /// Canonical.
    pub(super) downloads: PathBuf,
    /// Canonical. The peer's own keys and memory: nothing in it is shared, wherever it lies.
    pub(super) data: PathBuf,
    /// The first shared folder.
    pub(super) uploads: Ground,
}

/// What a path is to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To be shared under this name.
    Shared(SafeName),
    /// In a shared folder, and cannot be shared.
    Refused(String),
    /// Ours, or not in a folder of ours, or the folder itself.
    Ignored,
    /// In the download folder: followed where the library knows it.
    Download,
}

impl Roots {
    /// Creates the folders that are missing.
    ///
    /// # Errors
    /// Where one cannot be used, or lies where it would be shared together with keys; the message names the setting.
    pub(super) fn open(shared: &[PathBuf], downloads: &Path, data: &Path) -> Result<Self, Failure> {
        let unusable = |setting: &str, path: &Path, why: &dyn std::fmt::Display| {
            Failure::new(ErrorCode::Unprocessable, format!("{setting}: {}: {why}", path.display()))
        };
        let real = |setting: &str, path: &Path| {
            let made = fs::create_dir_all(path).and_then(|()| path.canonicalize());
            made.map_err(|error| unusable(setting, path, &error))
        };
        let data = real("PEER_DATA_DIR", data)?;
        let outside = |setting: &str, path: &Path| {
            let real = real(setting, path)?;
            match real.starts_with(&data) {
                false => Ok(real),
                true => Err(unusable(setting, path, &"lies in PEER_DATA_DIR, whose keys are never shared")),
            }
        };
        let all = shared.iter().map(|path| outside("PEER_SHARE_DIR", path)).collect::<Result<Vec<_>, _>>()?;
        let mut shared: Vec<PathBuf> = Vec::with_capacity(all.len());
        for path in &all {
            // A folder within another is scanned with it; its files have their names from the outer one.
            let nested = all.iter().any(|other| other != path && path.starts_with(other));
            if !nested && !shared.contains(path) {
                shared.push(path.clone());
            }
        }
        let first = shared.first().ok_or_else(|| Failure::invalid("PEER_SHARE_DIR: names no folder"))?;
        let uploads = Ground::new(first, &data);
        Ok(Self { downloads: outside("PEER_DOWNLOAD_DIR", downloads)?, shared, data, uploads })
    }

    /// The folders to be watched.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let mut all = self.shared.clone();
        if self.folder_of(&self.downloads).is_none() {
            all.push(self.downloads.clone());
        }
        all
    }

    /// The shared folder that has `path` beneath it, or is it.
    pub(super) fn folder_of(&self, path: &Path) -> Option<&PathBuf> {
        self.shared.iter().find(|folder| path.starts_with(folder))
    }

    /// Says so where keys lie in a shared folder: its user may think that all of it is shared.
    pub(super) fn warn(&self) {
        if let Some(folder) = self.folder_of(&self.data) {
            tracing::warn!(
                folder = %folder.display(), data = %self.data.display(),
                "PEER_DATA_DIR lies in a shared folder (PEER_SHARE_DIR); nothing in it is shared"
            );
        }
    }

    /// Whether a path is the data folder's, or lies in it.
    pub(super) fn is_private(&self, path: &Path) -> bool {
        path.starts_with(&self.data)
    }

    pub(super) fn place(&self, path: &Path) -> Place {
        if self.is_private(path) {
            return Place::Ignored;
        }
        let Some(folder) = self.folder_of(path) else {
            let ours = path.starts_with(&self.downloads) && path != self.downloads;
            return if ours { Place::Download } else { Place::Ignored };
        };
        let Ok(relative) = path.strip_prefix(folder) else { return Place::Ignored };
        if relative.as_os_str().is_empty() {
            return Place::Ignored;
        }
        let Some(text) = relative.to_str() else {
            return Place::Refused("its name is not UTF-8".to_owned());
        };
        match SafeName::new(text) {
            Ok(name) => Place::Shared(name),
            Err(NameError::Reserved) => Place::Ignored,
            Err(error) => Place::Refused(error.to_string()),
        }
    }

    /// The real path of what somebody named, which must lie in a shared folder. A relative path is looked for in the
    /// shared folders, then in the working folder.
    pub(super) fn resolve(&self, path: &Path) -> Result<PathBuf, Failure> {
        let candidates = if path.is_relative() {
            self.shared.iter().map(|folder| folder.join(path)).chain([path.to_owned()]).collect()
        } else {
            vec![path.to_owned()]
        };
        let mut found = Err(io::Error::from(io::ErrorKind::NotFound));
        for candidate in candidates {
            found = candidate.canonicalize();
            if found.is_ok() {
                break;
            }
        }
        let shown = path.display();
        let unprocessable = |why: &str| Err(Failure::new(ErrorCode::Unprocessable, format!("{shown} {why}")));
        match found {
            Ok(real) if self.is_private(&real) => {
                unprocessable("lies in this peer's own data folder (PEER_DATA_DIR), which is never shared")
            }
            Ok(real) if self.folder_of(&real).is_none() && self.data.starts_with(&real) => unprocessable(
                "has this peer's own data folder (PEER_DATA_DIR) in it: share what is beside it",
            ),
            Ok(real) if self.shared.iter().any(|folder| folder != &real && folder.starts_with(&real)) => {
                unprocessable("has a shared folder (PEER_SHARE_DIR) in it: share what is beside or in that")
            }
            Ok(real) if self.folder_of(&real).is_some() => Ok(real),
            Ok(_) => Err(Failure::new(
                ErrorCode::PermissionDenied,
                format!("{shown} does not lie in a shared folder (PEER_SHARE_DIR)"),
            )),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Failure::new(
                ErrorCode::PermissionDenied,
                format!("{shown} cannot be read: permission denied"),
            )),
            Err(_) => Err(Failure::not_found(format!("there is no file or folder {shown}"))),
        }
    }
}

/// Whether a file or folder is one of ours, by its own name.
pub(super) fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(OURS))
}
