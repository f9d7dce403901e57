//! [`Watch`]: what the system tells of changes in the folders, put into [`Quiet`].
//!
//! It is a hint and never the truth: the kernel drops events when it is asked too late, network file systems tell
//! none, and the number of watched folders has a limit. Whatever is missed, the next scan finds; when the limit is
//! reached, scans come so often that they take the watcher's place.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use notify::{
    Config, ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::{
    quiet::{AFTER_MOVE, AFTER_WRITE, Quiet},
    roots::is_ours,
};

pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// The folders, each with the inode that it had when it was last put under watch.
    folders: Vec<(PathBuf, Option<u64>)>,
    marks: Arc<Marks>,
}

/// What the watcher's thread has noticed about itself.
#[derive(Default)]
struct Marks {
    /// Not every folder can be watched.
    degraded: AtomicBool,
    /// A shared folder itself has gone, and its watch with it, even if another one has its place and its inode.
    lost: AtomicBool,
}

impl Watch {
    /// What happens in `private` is nobody's business.
    pub(super) fn new(folders: Vec<PathBuf>, private: PathBuf, quiet: Arc<Quiet>) -> Self {
        let marks = Arc::new(Marks::default());
        let handler = {
            let (marks, roots) = (marks.clone(), folders.clone());
            move |event| hear(event, &quiet, &marks, &roots, &private)
        };
        let config = Config::default().with_follow_symlinks(false);
        let watcher = match RecommendedWatcher::new(handler, config) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                degrade(&marks, &error);
                None
            }
        };
        Self { watcher, folders: folders.into_iter().map(|folder| (folder, None)).collect(), marks }
    }

    /// Puts every folder under watch that is not, or was replaced. Walks them, so it may take a while.
    pub(super) fn ensure(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        if self.marks.lost.swap(false, Ordering::Relaxed) {
            self.folders.iter_mut().for_each(|(_, watched)| *watched = None);
        }
        for (folder, watched) in &mut self.folders {
            let inode = std::fs::metadata(&*folder).ok().map(|metadata| metadata.ino());
            if inode == *watched {
                continue;
            }
            let _was_not_watched = watcher.unwatch(folder);
            *watched = None;
            if inode.is_none() {
                continue;
            }
            match watcher.watch(folder, RecursiveMode::Recursive) {
                Ok(()) => *watched = inode,
                Err(error) => degrade(&self.marks, &error),
            }
        }
    }

    /// Whether some folder is not watched as it should be, so that scans must take over.
    pub(super) fn is_degraded(&self) -> bool {
        self.marks.degraded.load(Ordering::Relaxed)
            || self.folders.iter().any(|(_, watched)| watched.is_none())
    }
}

fn hear(
    event: notify::Result<notify::Event>,
    quiet: &Quiet,
    marks: &Marks,
    roots: &[PathBuf],
    private: &Path,
) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            if matches!(error.kind, ErrorKind::MaxFilesWatch) {
                degrade(marks, &error);
            } else {
                tracing::debug!(error = %error, "the folder watcher missed something");
            }
            return quiet.overflow();
        }
    };
    if event.need_rescan() {
        tracing::debug!("the folder watcher was overrun, everything is looked at again");
        return quiet.overflow();
    }
    let delay = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => AFTER_WRITE,
        EventKind::Access(_) => return,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => AFTER_MOVE,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => AFTER_WRITE,
    };
    if delay == AFTER_MOVE && event.paths.iter().any(|path| roots.contains(path)) {
        marks.lost.store(true, Ordering::Relaxed);
        quiet.overflow();
    }
    for path in event.paths.iter().filter(|path| !is_ours(path) && !path.starts_with(private)) {
        quiet.touch(path, delay);
    }
}

fn degrade(marks: &Marks, error: &notify::Error) {
    if marks.degraded.swap(true, Ordering::Relaxed) {
        return;
    }
    metrics::gauge!("trueque_shares_polling").set(1.0);
    tracing::warn!(
        error = %error,
        "not every shared folder can be watched, so they are scanned often instead; \
         on Linux, fs.inotify.max_user_watches may be too low"
    );
}
