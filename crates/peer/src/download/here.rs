//! What is asked for and is here already: finished before, or shared by this peer. Nothing is fetched then.

use std::{fs, path::Path, sync::Arc};

use content::ContentId;
use wire::rest::pclient::{Download, DownloadState};

use super::{Downloads, entry::Entry};
use crate::{
    Failure,
    library::{FileStamp, SharedEntry},
    store::downloads::{self as table, DownloadRow, Kept},
};

impl Downloads {
    /// The download that fetched this content, if its file still lies where it was put.
    pub(super) fn finished(&self, id: &ContentId) -> Option<Arc<Entry>> {
        let entry = self.registry.lock().finished.get(id).cloned()?;
        let view = entry.view();
        is_there(&view).then_some(entry)
    }

    /// The file that this peer shares, if it is still what was hashed.
    pub(super) fn shared(&self, id: &ContentId) -> Option<Arc<SharedEntry>> {
        let entries = self.engine.library.entries(id);
        entries.into_iter().find(|entry| {
            fs::symlink_metadata(&entry.path).is_ok_and(|metadata| FileStamp::of(&metadata) == entry.stamp)
        })
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
                    sources: Vec::new(),
                })
            })
            .collect();
        self.engine.store.write(move |t| rows.iter().try_for_each(|row| table::set_done(t, row))).await?;
        for (entry, shared) in entries {
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

fn is_there(view: &Download) -> bool {
    let metadata = view.path.as_ref().map(|path| fs::symlink_metadata(Path::new(path)));
    metadata.is_some_and(|found| found.is_ok_and(|found| found.is_file() && Some(found.len()) == view.size))
}
