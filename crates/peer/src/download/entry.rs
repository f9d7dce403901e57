//! [`Entry`]: what others see of one download, and how they talk to the task that runs it.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

use content::{ContentId, SafeName};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use wire::rest::pclient::{Download, DownloadState};

use super::{Part, plan::Scope};
use crate::{
    Failure,
    library::FileStamp,
    store::downloads::{DownloadRow, Kept},
};

/// Why a task should end before its file is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Pause,
    Cancel,
}

/// What a reader can expect of a download.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Its size is not known yet.
    Preparing,
    Open(Arc<Part>),
    Over(Failure),
}

pub(super) struct Entry {
    pub(super) content_id: ContentId,
    view: Mutex<Download>,
    control: Mutex<Control>,
    changed: Notify,
    stage: watch::Sender<Stage>,
    running: watch::Sender<bool>,
}

#[derive(Default)]
struct Control {
    /// The row in the store; `None` for a job that only serves readers.
    seq: Option<u64>,
    named: bool,
    stop: Option<Stop>,
    /// Of the finished file, when it was put there.
    stamp: Option<FileStamp>,
    /// An earlier download's file, which may still be right though it was touched.
    doubtful: Option<PathBuf>,
    readers: BTreeMap<u64, Range<u32>>,
    next_reader: u64,
}

impl Entry {
    /// A job that nobody asked for but readers.
    pub(super) fn for_readers(id: ContentId) -> Self {
        let view = Download {
            id: String::new(),
            content_id: id,
            name: id.to_string(),
            size: None,
            verified_bytes: 0,
            state: DownloadState::Queued,
            rate_bps: 0,
            eta_seconds: None,
            sources: Vec::new(),
            error: None,
            note: None,
            path: None,
        };
        Self {
            content_id: id,
            view: Mutex::new(view),
            control: Mutex::default(),
            changed: Notify::new(),
            stage: watch::Sender::new(Stage::Preparing),
            running: watch::Sender::new(false),
        }
    }

    /// As an earlier run left it.
    pub(super) fn restored(row: &DownloadRow) -> Self {
        let entry = Self::for_readers(row.content_id);
        entry.adopt(row.seq, &row.name, row.named);
        entry.set_stamp(row.stamp);
        entry.update(|view| {
            view.size = row.size;
            view.sources = row.sources.clone();
            view.error = row.error.clone();
            view.path = row.path.as_ref().map(|path| path.display().to_string());
            view.state = match row.state {
                Kept::Active => DownloadState::Queued,
                Kept::Paused => DownloadState::Paused,
                Kept::Failed => DownloadState::Failed,
                Kept::Done => DownloadState::Done,
            };
            if row.state == Kept::Done {
                view.verified_bytes = row.size.unwrap_or(0);
            }
        });
        entry
    }

    /// Makes it a download that was asked for, under this number and name.
    pub(super) fn adopt(&self, seq: u64, name: &SafeName, named: bool) {
        {
            let mut control = self.control.lock();
            control.seq = Some(seq);
            control.named = named;
        }
        self.update(|view| {
            view.id = format!("{seq:016x}");
            if named || view.name == view.content_id.to_string() {
                view.name = name.to_string();
            }
        });
        self.changed.notify_one();
    }

    pub(super) fn seq(&self) -> Option<u64> {
        self.control.lock().seq
    }

    /// As others name it; empty for a job that only serves readers.
    pub(super) fn id(&self) -> String {
        self.view.lock().id.clone()
    }

    /// Whether a user chose the name.
    pub(super) fn is_named(&self) -> bool {
        self.control.lock().named
    }

    pub(super) fn stamp(&self) -> Option<FileStamp> {
        self.control.lock().stamp
    }

    pub(super) fn set_stamp(&self, stamp: Option<FileStamp>) {
        self.control.lock().stamp = stamp;
    }

    /// Has a file looked at before anything is fetched.
    pub(super) fn doubt(&self, path: PathBuf) {
        self.control.lock().doubtful = Some(path);
    }

    pub(super) fn take_doubtful(&self) -> Option<PathBuf> {
        self.control.lock().doubtful.take()
    }

    pub(super) fn scope(&self) -> Scope {
        if self.seq().is_some() { Scope::Everything } else { Scope::Wanted }
    }

    /// Whether a restart, or a resume, goes on with its part.
    pub(super) fn has_part(&self) -> bool {
        self.view.lock().state != DownloadState::Done
    }

    pub(super) fn view(&self) -> Download {
        self.view.lock().clone()
    }

    pub(super) fn state(&self) -> DownloadState {
        self.view.lock().state
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Download)) {
        change(&mut self.view.lock());
    }

    pub(super) fn name(&self) -> String {
        self.view.lock().name.clone()
    }

    pub(super) fn stage(&self) -> &watch::Sender<Stage> {
        &self.stage
    }

    /// Wakes the task when something was asked of it.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn stop_asked(&self) -> Option<Stop> {
        self.control.lock().stop
    }

    /// Takes back that it should rest. What was cancelled stays so.
    pub(super) fn allow(&self) {
        self.control.lock().stop.take_if(|stop| *stop == Stop::Pause);
    }

    /// Takes the right to run; false where it runs already, or was cancelled. One that was paused before it began sees so
    /// when it runs.
    pub(super) fn begin(&self) -> bool {
        // Held over both, so that who stops it sees it run, or it sees that it is stopped.
        let control = self.control.lock();
        let begun = control.stop != Some(Stop::Cancel)
            && self.running.send_if_modified(|running| !std::mem::replace(running, true));
        drop(control);
        if begun {
            self.stage.send_replace(Stage::Preparing);
        }
        begun
    }

    pub(super) fn ended(&self) {
        self.running.send_replace(false);
    }

    pub(super) fn is_running(&self) -> bool {
        *self.running.borrow()
    }

    /// Ends the task, if one runs, and waits until it has ended.
    pub(super) async fn stop(&self, stop: Stop) {
        let mut running = self.running.subscribe();
        self.control.lock().stop = Some(stop);
        self.changed.notify_one();
        let _sender_is_here = running.wait_for(|running| !running).await;
    }

    /// A reader waits for these pieces; the number names it.
    pub(super) fn read(&self, reader: Option<u64>, window: Range<u32>) -> u64 {
        let mut control = self.control.lock();
        let reader = reader.unwrap_or_else(|| {
            control.next_reader += 1;
            control.next_reader
        });
        let before = control.readers.insert(reader, window.clone());
        drop(control);
        if before != Some(window) {
            self.changed.notify_one();
        }
        reader
    }

    pub(super) fn reader_left(&self, reader: u64) {
        self.control.lock().readers.remove(&reader);
        self.changed.notify_one();
    }

    /// What readers wait for; the one that came last first.
    pub(super) fn wanted(&self) -> Vec<Range<u32>> {
        self.control.lock().readers.values().rev().cloned().collect()
    }

    pub(super) fn has_readers(&self) -> bool {
        !self.control.lock().readers.is_empty()
    }
}

/// The number behind a download's id.
pub(super) fn seq_of(id: &str) -> Option<u64> {
    (id.len() == 16).then(|| u64::from_str_radix(id, 16).ok()).flatten()
}
