//! Many files at once, with one bar for all of them: asked for in batches, and looked after page by page.
//!
//! Only some batches are under way at a time, so that a look at them stays small and ctrl-c has little to pause.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use content::ContentId;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use indicatif::ProgressBar;
use tokio::time::sleep;
use wire::{
    ErrorCode,
    rest::pclient::{
        BatchReply, BatchRequest, Download, DownloadRequest, DownloadState, DownloadsQuery, MAX_BATCH, Status,
    },
};

use super::{
    super::{
        Stop,
        api::Api,
        screen::{Screen, counted, escaped, size},
    },
    Found, Wanted, output, without_twins,
};

/// A next batch is asked for when fewer downloads than this are under way.
const UNDER_WAY: usize = MAX_BATCH;
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_millis(250);
/// Calls of pclient at a time, where there are many to make.
const AT_ONCE: usize = 8;
/// So few are asked for one by one: they may be old, and far back among the others.
const FEW: usize = 32;
/// Failures that are shown.
const SHOWN: usize = 20;

pub(super) async fn get(
    api: &Api,
    found: Vec<Found>,
    output: Option<&Path>,
    screen: &mut Screen,
) -> Result<(), Stop> {
    let files = found.iter().flat_map(|found| match found {
        Found::File(file) => std::slice::from_ref(file),
        Found::Folder(_, files) => files,
    });
    let (files, twins) = without_twins(files.cloned().collect());
    if twins > 0 {
        screen.remark(&format!("{} with the same bytes as others are kept once", counted(twins, "file")));
    }
    let bar = screen.bar_of_files(files.len() as u64);
    let mut run = Run { api, bar, pending: HashMap::new(), done: HashMap::new(), failed: Vec::new() };
    let followed = tokio::select! {
        followed = run.follow(files, screen) => followed,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => run.pause().await.and(Err(Stop::failed("paused; the same command resumes it"))),
            Err(error) => Err(error.into()),
        },
    };
    run.bar.finish_and_clear();
    followed?;
    let Run { mut done, failed, .. } = run;
    if let Some(output) = output {
        let copies = done.values_mut().map(|download| async move {
            let path = output::copy_tree(api, download, output).await?;
            download.path = Some(path.display().to_string());
            Ok::<_, Stop>(())
        });
        stream::iter(copies).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    }
    tell(&found, &done, screen)?;
    conclude(failed, screen)
}

/// Downloads being looked after.
struct Run<'a> {
    api: &'a Api,
    bar: ProgressBar,
    /// By their ids, with the name for messages.
    pending: HashMap<String, String>,
    /// By content.
    done: HashMap<ContentId, Download>,
    /// What could not be fetched, and why.
    failed: Vec<(String, Stop)>,
}

impl Run<'_> {
    async fn follow(&mut self, files: Vec<Wanted>, screen: &mut Screen) -> Result<(), Stop> {
        let mut files = files.into_iter().peekable();
        let mut look = FIRST_LOOK;
        let mut told_waiting = false;
        loop {
            while files.peek().is_some() && self.pending.len() < UNDER_WAY {
                let batch: Vec<Wanted> = files.by_ref().take(MAX_BATCH).collect();
                self.ask(batch).await?;
                look = FIRST_LOOK;
            }
            self.show().await?;
            if self.pending.is_empty() {
                return Ok(());
            }
            sleep(look).await;
            look = (look * 2).min(LAST_LOOK);
            let waiting = self.look().await?;
            if waiting && !told_waiting && self.bar.is_hidden() {
                told_waiting = true;
                screen.remark("waiting: no holder of what is left can be reached now");
            }
        }
    }

    async fn ask(&mut self, files: Vec<Wanted>) -> Result<(), Stop> {
        let downloads =
            files.into_iter().map(|file| DownloadRequest { content_id: file.id, name: file.name });
        let request = BatchRequest { downloads: downloads.collect() };
        let reply: BatchReply = self.api.post("/v1/downloads/batch", &request).await?;
        for download in reply.items {
            let download = match download.state {
                DownloadState::Paused | DownloadState::Failed => {
                    self.api.post(&format!("/v1/downloads/{}/resume", download.id), &()).await?
                }
                _ => download,
            };
            self.pending.insert(download.id.clone(), download.name.clone());
            self.take(download);
        }
        Ok(())
    }

    /// Looks at what is under way. Whether all that is left waits.
    async fn look(&mut self) -> Result<bool, Stop> {
        let seen = if self.pending.len() <= FEW { self.each().await? } else { self.newest().await? };
        let there: HashSet<&str> = seen.iter().map(|download| download.id.as_str()).collect();
        let gone: Vec<String> =
            self.pending.keys().filter(|id| !there.contains(id.as_str())).cloned().collect();
        for id in gone {
            if let Some(name) = self.pending.remove(&id) {
                self.failed.push((name, Stop::failed("the download was cancelled")));
            }
        }
        let waiting = seen.iter().all(|download| download.state == DownloadState::Waiting);
        seen.into_iter().for_each(|download| self.take(download));
        Ok(waiting && !self.pending.is_empty())
    }

    /// Those under way, asked for one by one.
    async fn each(&self) -> Result<Vec<Download>, Stop> {
        let ask = |id: &String| {
            let path = format!("/v1/downloads/{id}");
            async move {
                match self.api.get::<Download>(&path, &()).await {
                    Err(stop) if stop.code == Some(ErrorCode::NotFound) => Ok(None),
                    answer => answer.map(Some),
                }
            }
        };
        let asked = stream::iter(self.pending.keys().map(ask)).buffer_unordered(AT_ONCE);
        Ok(asked.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
    }

    /// Those under way, among the newest downloads and as far back as the oldest of them.
    async fn newest(&self) -> Result<Vec<Download>, Stop> {
        let oldest = self.pending.keys().min().cloned().unwrap_or_default();
        let mut seen = Vec::new();
        // Ids grow, and the newest come first.
        let look = |page: Vec<Download>| {
            let is_over = page.last().is_none_or(|last| last.id <= oldest);
            seen.extend(page.into_iter().filter(|download| self.pending.contains_key(&download.id)));
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.api.each_page("/v1/downloads", &DownloadsQuery::default(), look).await?;
        Ok(seen)
    }

    /// Notes how a download stands; one that is over is no longer under way.
    fn take(&mut self, download: Download) {
        let stop = match download.state {
            DownloadState::Done => {
                self.pending.remove(&download.id);
                self.done.insert(download.content_id, download);
                return;
            }
            DownloadState::Failed => match &download.error {
                Some(error) => Stop::refused(error.code, error.detail.clone()),
                None => Stop::failed("the download failed"),
            },
            DownloadState::Paused => Stop::failed("the download was paused; the same command resumes it"),
            DownloadState::Queued
            | DownloadState::Waiting
            | DownloadState::Running
            | DownloadState::Finishing => return,
        };
        self.pending.remove(&download.id);
        self.failed.push((download.name, stop));
    }

    async fn show(&self) -> Result<(), Stop> {
        if self.bar.is_hidden() {
            return Ok(());
        }
        let status: Status = self.api.get("/v1/status", &()).await?;
        self.bar.set_position((self.done.len() + self.failed.len()) as u64);
        self.bar.set_prefix(format!("{}/s", size(status.transfers.down_bps)));
        Ok(())
    }

    async fn pause(&self) -> Result<(), Stop> {
        let pause = |id: &String| {
            let path = format!("/v1/downloads/{id}/pause");
            async move {
                // One that has ended meanwhile cannot be paused, and need not be.
                let _over = self.api.tell(Method::POST, &path).await;
            }
        };
        stream::iter(self.pending.keys().map(pause)).buffer_unordered(AT_ONCE).collect::<()>().await;
        Ok(())
    }
}

/// Says where it all is: each file that was named, and each folder in a line.
fn tell(found: &[Found], done: &HashMap<ContentId, Download>, screen: &mut Screen) -> Result<(), Stop> {
    let downloads_of = |files: &[Wanted]| -> Vec<Download> {
        files.iter().filter_map(|file| done.get(&file.id).cloned()).collect()
    };
    if screen.json {
        let all = found.iter().flat_map(|found| match found {
            Found::File(file) => downloads_of(std::slice::from_ref(file)),
            Found::Folder(_, files) => downloads_of(files),
        });
        return screen.json(&all.collect::<Vec<_>>());
    }
    for found in found {
        match found {
            Found::File(file) => {
                for download in downloads_of(std::slice::from_ref(file)) {
                    screen.line(escaped(download.path.as_deref().unwrap_or(&download.name)))?;
                }
            }
            Found::Folder(folder, files) => {
                let downloads = downloads_of(files);
                let bytes: u64 = downloads.iter().filter_map(|download| download.size).sum();
                let place = downloads.iter().find_map(|download| place_of(folder, download));
                let place = place.map_or_else(|| folder.clone(), |place| place.display().to_string());
                screen.line(format!(
                    "{}: {}, {}",
                    escaped(&place),
                    counted(downloads.len(), "file"),
                    size(bytes)
                ))?;
            }
        }
    }
    Ok(())
}

/// Where a folder came to lie, by one of its files: as many parts above it as the file's name has below the folder.
fn place_of(folder: &str, download: &Download) -> Option<PathBuf> {
    if !download.name.starts_with(folder) {
        return None; // it was here already, somewhere else
    }
    let below = download.name.split('/').count().checked_sub(folder.split('/').count() - 1)?;
    Path::new(download.path.as_deref()?).ancestors().nth(below).map(Path::to_owned)
}

/// Ends as the first failure does, having told of all.
fn conclude(failed: Vec<(String, Stop)>, screen: &mut Screen) -> Result<(), Stop> {
    let count = failed.len();
    for (name, stop) in failed.iter().take(SHOWN) {
        screen.remark(&format!("{name}: {}", stop.message));
    }
    if count > SHOWN {
        screen.remark(&format!("and {} more", count - SHOWN));
    }
    match failed.into_iter().next() {
        None => Ok(()),
        Some((_, first)) => {
            Err(Stop { message: format!("{} could not be fetched", counted(count, "file")), ..first })
        }
    }
}
