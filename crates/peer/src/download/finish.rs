//! The last step of a download: its part becomes a file of the user's, once, and is shared on.
//!
//! Order matters for a crash in between: the bytes are on disk, then the file has its name (a second name for the
//! part), then the store says so, then the part's own name goes. Started again at any point, it ends the same way.
//! Where a crash keeps the store from learning the file's last stamp, the file is read again when it is asked for.

use std::{fs, path::PathBuf, sync::Arc};

use content::SafeName;
use wire::ErrorCode;

use super::{Part, engine::Engine, entry::Entry};
use crate::{
    Failure,
    library::{FileStamp, NewFile},
    place::{Blocked, By, PlaceError},
    store::downloads::{self as table, DownloadRow, Kept},
};

/// What the entry should show now.
pub(super) struct Finished {
    pub(super) path: PathBuf,
    pub(super) name: SafeName,
    pub(super) stamp: Option<FileStamp>,
}

pub(super) async fn finish(
    engine: &Engine,
    entry: &Entry,
    part: &Arc<Part>,
    restricted: bool,
) -> Result<Finished, Failure> {
    let seq = entry.seq().ok_or_else(|| Failure::internal("a reader's job is never finished"))?;
    let view = entry.view();
    let wanted = SafeName::new(&view.name).map_err(|error| Failure::invalid(error.to_string()))?;

    let (part_, ground) = (part.clone(), engine.ground.clone());
    let span = tracing::debug_span!("sync and place", size_bytes = part.outline().layout().size());
    let placed = tokio::task::spawn_blocking(move || {
        let _span = span;
        ground.ensure().map_err(PlaceError::Io)?;
        part_.sync().map_err(PlaceError::Io)?;
        ground.place(part_.path(), &wanted, By::Link, Blocked::Number)
    });
    let (path, name) = placed.await.map_err(Failure::internal)?.map_err(|error| match error {
        PlaceError::Io(_) if !part.path().exists() => {
            let detail = "its part was taken out of the download folder; resumed, it is fetched again";
            Failure::new(ErrorCode::Unprocessable, detail)
        }
        error => error.into(),
    })?;

    let done = DownloadRow {
        seq,
        content_id: entry.content_id,
        name: name.clone(),
        named: entry.is_named(),
        state: Kept::Done,
        size: Some(part.outline().layout().size()),
        error: None,
        path: Some(path.clone()),
        stamp: None, // it moves when the part's own name goes
        sources: view.sources,
    };
    engine.store.write(move |t| table::set_done(t, &done)).await?;

    let (part_, path_) = (part.clone(), path.clone());
    let stamp = tokio::task::spawn_blocking(move || {
        part_.remove();
        fs::symlink_metadata(&path_).map(|metadata| FileStamp::of(&metadata))
    });
    let stamp = stamp.await.map_err(Failure::internal)?.ok();
    if let Some(stamp) = stamp {
        engine.store.write(move |t| table::set_stamp(t, seq, &stamp)).await?;
    }
    // A restricted file is served by its owner alone.
    if engine.reshare
        && !restricted
        && let Some(stamp) = stamp
    {
        let file = NewFile::new(path.clone(), name.clone(), stamp, part.outline().clone());
        engine.library.add(vec![file]).await?;
    }
    Ok(Finished { path, name, stamp })
}
