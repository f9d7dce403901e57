//! Uploads: a file that was streamed into a shared folder under a name of ours gets its own.
//!
//! Nothing is ever overwritten: the move fails where the name is taken, and the next number is tried. The folders on
//! the way are opened one by one and never through a symlink, so a name cannot lead out of the shared folder even if
//! somebody plants one meanwhile.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use content::{ContentId, SafeName};
use rustix::io::Errno;
use wire::rest::Audience;

use super::{Inner, Landing, blocking, hash::Cancel, pass, refusal};
use crate::{
    Failure,
    library::{NewFile, SharedEntry},
    place::{By, bring, open_folder},
};

/// What the temporary names of uploads start with.
const TEMP: &str = ".trueque-upload-";
/// Names that are tried.
const NUMBERS: u32 = 10_000;

pub(super) async fn adopt(
    inner: &Arc<Inner>,
    temp: PathBuf,
    name: SafeName,
    audience: Option<Audience>,
) -> Result<Arc<SharedEntry>, Failure> {
    let guard = Temp(Some(temp.clone()));
    let size = {
        let temp = temp.clone();
        blocking(move || {
            let file = File::open(&temp).map_err(|error| Failure::storage(&error))?;
            file.sync_all().map_err(|error| Failure::storage(&error))?;
            Ok(file.metadata().map_err(|error| Failure::storage(&error))?.len())
        })
        .await?
    };
    let hashed = inner.hasher.hash(temp.clone(), size, Cancel::default()).await;
    let (outline, stamp) = hashed.map_err(|error| refusal(&temp, &error))?;

    let id = outline.id();
    if let Some(entry) = same(inner, &id, &name) {
        if let Some(audience) = audience {
            inner.library.set_audience(&id, audience).await?;
        }
        return inner.library.by_path(&entry.path).ok_or_else(|| Failure::not_found("the file is gone"));
    }

    let root = inner.roots.shared.first().cloned().ok_or_else(|| Failure::invalid("no shared folder"))?;
    let moving = inner.clone();
    // The watcher sees the file at its place before the library has it; in flight, it is not hashed again.
    let (path, name, cancel) = blocking(move || {
        let mut guard = guard;
        let cancel = Cancel::default();
        let on_its_way = |path: &Path| {
            moving.in_flight.lock().insert(path.to_owned(), (stamp, cancel.clone()));
        };
        let moved = place(&root, &temp, &name, on_its_way);
        let (path, name) = moved.map_err(|error| Failure::storage(&error))?;
        guard.0 = None;
        Ok((path, name, cancel))
    })
    .await?;
    let _landed = Landing { inner, path: &path, cancel: &cancel };
    let file = NewFile { audience, ..NewFile::new(path.clone(), name, stamp, outline) };
    inner.library.add(vec![file]).await?;
    inner.library.by_path(&path).ok_or_else(|| Failure::not_found("the file is gone"))
}

/// Removes what uploads that never ended have left.
pub(super) fn remove_leftovers(folders: &[PathBuf]) {
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMP)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(error = %error, "the rest of an upload cannot be removed");
            }
        }
    }
}

/// The same content under the same name in the first shared folder, if its file is still there.
fn same(inner: &Inner, id: &ContentId, name: &SafeName) -> Option<Arc<SharedEntry>> {
    let wanted = inner.roots.shared.first()?.join(name.as_str());
    let entry = inner.library.by_path(&wanted)?;
    (entry.content_id == *id && pass::is_still(&entry)).then_some(entry)
}

/// Moves `temp` to `name` beneath `root`, or to the next number that is free. `before` is told where, before it is there.
fn place(
    root: &Path,
    temp: &Path,
    name: &SafeName,
    before: impl Fn(&Path),
) -> io::Result<(PathBuf, SafeName)> {
    let folder = open_folder(root, name.folder())?;
    for number in 1..NUMBERS {
        let name = if number == 1 { name.clone() } else { name.numbered(number) };
        let path = root.join(name.as_str());
        if path.symlink_metadata().is_ok() {
            continue;
        }
        before(&path);
        match bring(temp, &folder, name.file_name(), By::Rename) {
            Ok(()) => {
                rustix::fs::fsync(&folder)?;
                return Ok((path, name));
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes the temporary file unless it has got its place.
struct Temp(Option<PathBuf>);

impl Drop for Temp {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(error = %error, "an upload that failed cannot be removed");
        }
    }
}
