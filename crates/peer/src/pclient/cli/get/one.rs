//! One file, with a bar for its bytes.

use std::{path::Path, time::Duration};

use http::Method;
use indicatif::ProgressBar;
use tokio::time::sleep;
use wire::rest::pclient::{Download, DownloadRequest, DownloadState};

use super::{
    super::{
        Stop,
        api::Api,
        lists::ways,
        screen::{Screen, counted, duration, escaped, size},
    },
    Wanted, output,
};

/// A small file is there at once; a large one is not asked after all the time.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_millis(250);

pub(super) async fn get(
    api: &Api,
    file: &Wanted,
    output: Option<&Path>,
    screen: &mut Screen,
) -> Result<(), Stop> {
    let to_stdout = output == Some(Path::new("-"));
    if let Some(output) = output.filter(|_| !to_stdout) {
        output::check(output)?;
    }
    let download = follow(api, ask(api, file).await?, screen).await?;
    match output {
        Some(_) if to_stdout => output::stream(api, download.content_id, screen.out()).await,
        Some(output) => {
            let path = output::copy(api, &download, output).await?;
            done(&download, Some(&path.display().to_string()), screen)
        }
        None => done(&download, download.path.as_deref(), screen),
    }
}

/// Begins the download, or goes on with it. One that is done already is answered as it is.
async fn ask(api: &Api, file: &Wanted) -> Result<Download, Stop> {
    let request = DownloadRequest { content_id: file.id, name: file.name.clone() };
    let download: Download = api.post("/v1/downloads", &request).await?;
    if !matches!(download.state, DownloadState::Paused | DownloadState::Failed) {
        return Ok(download);
    }
    api.post(&format!("/v1/downloads/{}/resume", download.id), &()).await
}

fn done(download: &Download, path: Option<&str>, screen: &mut Screen) -> Result<(), Stop> {
    if screen.json {
        let mut download = download.clone();
        download.path = path.map(str::to_owned);
        return screen.json(&download);
    }
    screen.line(escaped(path.unwrap_or(&download.name)))
}

/// Looks until the download is whole, or cannot be.
async fn follow(api: &Api, mut download: Download, screen: &mut Screen) -> Result<Download, Stop> {
    let bar = screen.bar(download.size.unwrap_or(0), &download.name);
    let path = format!("/v1/downloads/{}", download.id);
    let mut look = FIRST_LOOK;
    let mut told = None;
    loop {
        show(&bar, &download);
        match download.state {
            DownloadState::Done => {
                bar.finish_and_clear();
                return Ok(download);
            }
            DownloadState::Failed => {
                bar.finish_and_clear();
                return Err(match download.error {
                    Some(error) => Stop::refused(error.code, error.detail),
                    None => Stop::failed("the download failed"),
                });
            }
            DownloadState::Paused => {
                bar.finish_and_clear();
                return Err(Stop::failed("the download was paused; the same command resumes it"));
            }
            DownloadState::Waiting if bar.is_hidden() => {
                let why = download.note.clone().unwrap_or_else(|| "no holder can be reached now".to_owned());
                if told.as_ref() != Some(&why) {
                    screen.remark(&format!("waiting: {why}"));
                    told = Some(why);
                }
            }
            _ => {}
        }
        tokio::select! {
            () = sleep(look) => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                bar.finish_and_clear();
                api.tell(Method::POST, &format!("{path}/pause")).await?;
                return Err(Stop::failed("paused; the same command resumes it"));
            }
        }
        look = (look * 2).min(LAST_LOOK);
        download = api.get(&path, &()).await?;
    }
}

fn show(bar: &ProgressBar, download: &Download) {
    if let Some(whole) = download.size {
        bar.set_length(whole);
    }
    bar.set_message(escaped(&download.name));
    bar.set_position(download.verified_bytes);
    bar.set_prefix(match download.state {
        DownloadState::Waiting => match &download.note {
            Some(note) => format!("waiting: {}", escaped(note)),
            None => "waiting for somebody who has it".to_owned(),
        },
        DownloadState::Queued => "queued".to_owned(),
        DownloadState::Finishing => "finishing".to_owned(),
        _ => {
            let left = download.eta_seconds.map(|left| format!(", {} left", duration(left)));
            let sources = counted(download.sources.len(), "source");
            let ways = ways(download);
            format!("{}/s from {sources} ({ways}){}", size(download.rate_bps), left.unwrap_or_default())
        }
    });
}
