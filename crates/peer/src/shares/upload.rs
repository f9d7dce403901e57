//! Uploads: a file that was streamed into a shared folder under a name of ours gets its own.
//!
//! Nothing is ever overwritten: the move fails where the name is taken, and the next number is tried. The folders on
//! the way are opened one by one and never through a symlink, so a name cannot lead out of the shared folder even if
//! somebody plants one meanwhile.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use content::{ContentId, SafeName};
use wire::rest::Audience;

use super::{
    Inner, Landing, blocking,
    hash::{Cancel, HashError},
    pass,
    quiet::AFTER_WRITE,
    refusal, refuse_withheld,
};
use crate::{
    Failure,
    library::{FileStamp, NewFile, SharedEntry},
    place::{Blocked, By, PlaceError},
};

/// What the temporary names of uploads start with.
const TEMP: &str = ".trueque-upload-";

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

    refuse_withheld(inner, &id)?;
    let moving = inner.clone();
    // The watcher sees the file at its place before the library has it; in flight, it is not hashed again.
    let (path, name, moved, cancel) = blocking(move || {
        let mut guard = guard;
        let cancel = Cancel::default();
        let on_its_way = |path: &Path| {
            moving.in_flight.lock().insert(path.to_owned(), (stamp, cancel.clone()));
        };
        let (path, name) = place(&moving, &temp, &name, on_its_way)?;
        guard.0 = None;
        // Its new name has moved the ctime.
        let now = fs::symlink_metadata(&path).map_err(|error| Failure::storage(&error))?;
        Ok((path, name, FileStamp::of(&now), cancel))
    })
    .await?;
    let _landed = Landing { inner, path: &path, cancel: &cancel };
    if !moved.is_like(&stamp) {
        inner.quiet.touch(&path, AFTER_WRITE);
        return Err(refusal(&path, &HashError::Changed));
    }
    let file = NewFile { audience, ..NewFile::new(path.clone(), name, moved, outline) };
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

/// Moves `temp` to `name` in the first shared folder, or to the next number that is free. `before` is told where,
/// before it is there.
fn place(
    inner: &Inner,
    temp: &Path,
    name: &SafeName,
    before: impl Fn(&Path),
) -> Result<(PathBuf, SafeName), PlaceError> {
    let ground = &inner.roots.uploads;
    let folder = ground.open(name.folder(), Blocked::Refuse)?;
    let at = |name: &SafeName| ground.root().join(name.as_str());
    let name = folder.place_telling(temp, name, By::Rename, |name| {
        let path = at(name);
        // What is there already is told to nobody as on its way.
        if path.symlink_metadata().is_err() {
            before(&path);
        }
    })?;
    folder.sync()?;
    Ok((at(&name), name))
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
