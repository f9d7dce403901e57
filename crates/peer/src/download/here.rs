//! What is asked for and is here already: finished before, or shared by this peer. Nothing is fetched then.
//!
//! A finished file is its user's, who may change it. While its stamp is the one that it was put there with, it is
//! believed; else it is read again before anything is fetched, and fetched anew, beside it, where it is not right.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use content::{ContentId, SafeName};
use tokio_util::sync::CancellationToken;
use wire::rest::pclient::DownloadState;

use super::{
    Downloads,
    engine::Engine,
    entry::{Entry, Stage},
    finish::Finished,
    job::{End, tell},
    prepare::interrupted,
};
use crate::{
    Failure,
    library::{FileStamp, SharedEntry},
    shares::read_again,
    store::downloads::{self as table, DownloadRow, Kept},
};

/// What is left of a download that is done.
pub(super) enum Before {
    /// Its file, as it was put there.
    Right(Arc<Entry>),
    /// A file that was touched since, and the name that it had.
    Doubtful(PathBuf, Option<SafeName>),
    Nothing,
}

impl Downloads {
    /// What the last download that fetched this content has left.
    pub(super) fn before(&self, id: &ContentId) -> Before {
        let Some(entry) = self.registry.lock().finished.get(id).cloned() else { return Before::Nothing };
        let view = entry.view();
        let Some(path) = view.path.map(PathBuf::from) else { return Before::Nothing };
        let Some(now) = stamp_of(&path).filter(|now| Some(now.size) == view.size) else {
            return Before::Nothing;
        };
        match entry.stamp() {
            Some(stamp) if stamp == now => Before::Right(entry),
            _ => Before::Doubtful(path, SafeName::new(&view.name).ok()),
        }
    }

    /// The file that this peer shares, if it is still what was hashed.
    pub(super) fn shared(&self, id: &ContentId) -> Option<Arc<SharedEntry>> {
        let entries = self.engine.library.entries(id);
        entries.into_iter().find(|entry| stamp_of(&entry.path).is_some_and(|stamp| stamp == entry.stamp))
    }

    /// Ends new downloads at once whose file is shared here.
    pub(super) async fn settle_shared(
        &self,
        entries: Vec<(Arc<Entry>, Arc<SharedEntry>)>,
    ) -> Result<(), Failure> {
        let rows: Vec<DownloadRow> = entries
            .iter()
            .filter_map(|(entry, shared)| {
                Some(DownloadRow {
                    seq: entry.seq()?,
                    content_id: entry.content_id,
                    name: shared.name.clone(),
                    named: entry.is_named(),
                    state: Kept::Done,
                    size: Some(shared.size),
                    error: None,
                    path: Some(shared.path.clone()),
                    stamp: Some(shared.stamp),
                    sources: Vec::new(),
                })
            })
            .collect();
        self.engine.store.write(move |t| rows.iter().try_for_each(|row| table::set_done(t, row))).await?;
        for (entry, shared) in entries {
            entry.set_stamp(Some(shared.stamp));
            entry.update(|view| {
                view.name = shared.name.to_string();
                view.size = Some(shared.size);
                view.verified_bytes = shared.size;
                view.path = Some(shared.path.display().to_string());
                view.state = DownloadState::Done;
            });
            self.forget_alive(&entry);
        }
        Ok(())
    }
}

/// Reads the file of an earlier download again, where there is one that was touched. `None`: it must be fetched.
pub(super) async fn look_again(engine: &Arc<Engine>, entry: &Entry, soft: &CancellationToken) -> Option<End> {
    let path = entry.take_doubtful()?;
    entry.update(|view| {
        view.note = Some("its file was touched since it was fetched; it is being read".to_owned())
    });
    tell(engine, entry);
    let (reading, cancel) = (path.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stop = cancel.clone();
    let read = tokio::task::spawn_blocking(move || read_again(&reading, &stop));
    let read = tokio::select! {
        read = read => read,
        end = interrupted(entry, soft) => {
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
            return Some(end);
        }
    };
    entry.update(|view| view.note = None);
    let (id, stamp) = read.ok()?.inspect_err(|error| tracing::debug!(%error, "it could not be read")).ok()?;
    if id != entry.content_id {
        tracing::info!(file.path = %path.display(), "a finished file has other bytes now; it is fetched again");
        return None;
    }
    let finished = settle_again(engine, entry, path, stamp).await;
    Some(finished.map_or_else(End::Failed, End::Done))
}

async fn settle_again(
    engine: &Engine,
    entry: &Entry,
    path: PathBuf,
    stamp: FileStamp,
) -> Result<Finished, Failure> {
    let seq = entry.seq().ok_or_else(|| Failure::internal("a reader's job is never finished"))?;
    let name = SafeName::new(&entry.name()).map_err(|error| Failure::invalid(error.to_string()))?;
    let row = DownloadRow {
        seq,
        content_id: entry.content_id,
        name: name.clone(),
        named: entry.is_named(),
        state: Kept::Done,
        size: Some(stamp.size),
        error: None,
        path: Some(path.clone()),
        stamp: Some(stamp),
        sources: Vec::new(),
    };
    engine.store.write(move |t| table::set_done(t, &row)).await?;
    entry.update(|view| view.size = Some(stamp.size));
    // Who came to read meanwhile comes again, and finds the file.
    entry.stage().send_replace(Stage::Over(Failure::unavailable("the file is here now")));
    Ok(Finished { path, name, stamp: Some(stamp) })
}

/// The stamp of the regular file at a path.
fn stamp_of(path: &Path) -> Option<FileStamp> {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(FileStamp::of(&found))
}
