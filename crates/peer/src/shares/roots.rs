//! [`Roots`]: the shared folders and the download folder, as real paths, and the name of a file beneath one.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use content::{NameError, SafeName};
use wire::ErrorCode;

use crate::Failure;

/// What starts like this is ours, and not to be shared.
const OURS: &[u8] = b".trueque";

#[derive(Debug)]
pub(super) struct Roots {
    /// Canonical, none beneath another, in the order of the setting.
    pub(super) shared: Vec<PathBuf>,
    /// Canonical.
    pub(super) downloads: PathBuf,
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
    pub(super) fn open(shared: &[PathBuf], downloads: &Path) -> Result<Self, Failure> {
        let real = |path: &Path| {
            fs::create_dir_all(path).and_then(|()| path.canonicalize()).map_err(|error| {
                Failure::new(
                    ErrorCode::Unprocessable,
                    format!("the folder {} cannot be used: {error}", path.display()),
                )
            })
        };
        let all = shared.iter().map(|path| real(path)).collect::<Result<Vec<_>, _>>()?;
        let mut shared: Vec<PathBuf> = Vec::with_capacity(all.len());
        for path in &all {
            // A folder within another is scanned with it; its files have their names from the outer one.
            let nested = all.iter().any(|other| other != path && path.starts_with(other));
            if !nested && !shared.contains(path) {
                shared.push(path.clone());
            }
        }
        Ok(Self { shared, downloads: real(downloads)? })
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

    pub(super) fn place(&self, path: &Path) -> Place {
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
        match found {
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
