//! The tasks of [`Shares`](super::Shares): one follows changes, one scans, one brings what was hashed to the library.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use content::Outline;
use daemon::Lifecycle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Inner, Place, hash::Cancel, pass, quiet::AFTER_MOVE};
use crate::library::{FileStamp, NewFile, Origin};

/// Files that the library gets in one transaction.
const BATCH: usize = 1024;
/// Between scans of folders that are watched.
const RESCAN: Duration = Duration::from_secs(60);
/// Between scans of folders that cannot be.
const POLL: Duration = Duration::from_secs(2);
/// Scans of folders that are watched, which see what the watcher missed, take at most one part in so many of the time,
/// as long as that makes them no rarer than this.
const SHARE_OF_TIME: u32 = 500;
const RAREST: Duration = Duration::from_secs(3_600);
/// Those of folders that are not.
const SHARE_OF_TIME_POLLED: u32 = 20;
/// After the watcher was overrun, so that what overran it is over.
const BREATH: Duration = Duration::from_millis(250);

/// A file that was hashed, on its way to the library.
pub(super) struct Finished {
    pub(super) path: PathBuf,
    pub(super) stamp: FileStamp,
    pub(super) outline: Arc<Outline>,
    pub(super) cancel: Cancel,
}

pub(super) fn spawn(inner: &Arc<Inner>, queue: mpsc::Receiver<Finished>, lifecycle: &Lifecycle) {
    let stop = lifecycle.soft();
    lifecycle.spawn_vital("shares-follow", follow(inner.clone(), stop.clone()));
    lifecycle.spawn_vital("shares-scan", scan(inner.clone(), stop.clone()));
    lifecycle.spawn_vital("shares-add", add(inner.clone(), queue, stop));
}

async fn follow(inner: Arc<Inner>, stop: CancellationToken) {
    while let Some(due) = stop.run_until_cancelled(inner.quiet.due()).await {
        let looking = inner.clone();
        on_disk(move || pass::look(&looking, &due)).await;
    }
    // Wakes a scan that waits for room in the queue, too.
    inner.hasher.close();
}

async fn scan(inner: Arc<Inner>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        inner.quiet.take_overflow();
        let began = Instant::now();
        let scanning = inner.clone();
        on_disk(move || pass::scan(&scanning)).await;
        let took = began.elapsed();
        metrics::histogram!("trueque_shares_scan_seconds").record(took);
        inner.scans.send_modify(|scans| *scans += 1);

        let pause = if inner.watch.lock().is_degraded() {
            POLL.max(took * SHARE_OF_TIME_POLLED)
        } else {
            RESCAN.max((took * SHARE_OF_TIME).min(RAREST))
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = overrun(&inner) => {}
        }
    }
}

async fn overrun(inner: &Inner) {
    while !inner.quiet.is_overflown() {
        inner.quiet.overflown().await;
    }
    tokio::time::sleep(BREATH).await;
}

async fn add(inner: Arc<Inner>, mut queue: mpsc::Receiver<Finished>, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        match stop.run_until_cancelled(queue.recv_many(&mut batch, BATCH)).await {
            None | Some(0) => return,
            Some(_) => add_batch(&inner, std::mem::take(&mut batch)).await,
        }
    }
}

async fn add_batch(inner: &Arc<Inner>, batch: Vec<Finished>) {
    let (mut files, mut changed) = (Vec::new(), Vec::new());
    for Finished { path, stamp, outline, .. } in &batch {
        let name = match inner.roots.place(path) {
            Place::Shared(name) => name,
            // Only what the library has is followed there, and only as what it was.
            Place::Download => match inner.library.by_path(path) {
                Some(entry) if entry.content_id == outline.id() => entry.name.clone(),
                _ => {
                    changed.push(path.clone());
                    continue;
                }
            },
            Place::Refused(_) | Place::Ignored => continue,
        };
        files.push(NewFile::new(path.clone(), name, *stamp, outline.clone()));
    }
    let added = inner.library.apply(files, changed, Origin::Found).await;
    let checking = inner.clone();
    on_disk(move || {
        let delay = added.as_ref().map_or_else(pass::after, |_| AFTER_MOVE);
        for finished in batch {
            checking.land(&finished.path, &finished.cancel);
            checking.forgive(&finished.path);
            // It may have gone between hashing and now, when the library did not know it and nobody withdrew it.
            let still = std::fs::symlink_metadata(&finished.path)
                .is_ok_and(|metadata| FileStamp::of(&metadata) == finished.stamp);
            if added.is_err() || !still {
                checking.quiet.touch(&finished.path, delay);
            }
        }
    })
    .await;
}

/// Runs what reads the disk where it may wait. A panic there was logged by its thread; the next round goes on.
async fn on_disk(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        metrics::counter!("trueque_shares_panics_total").increment(1);
        tracing::error!(error = %error, "following the shared folders failed once");
    }
}
