//! `peer get`: fetches one file, shows how it goes, and ends when it is whole.
//!
//! The download belongs to the peer, not to this command: ctrl-c pauses it, and asking again goes on where it stood.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use content::ContentId;
use http::Method;
use indicatif::ProgressBar;
use tokio::time::sleep;
use wire::rest::{
    directory::{SearchItem, SearchQuery},
    pclient::{Download, DownloadRequest, DownloadState, DownloadsQuery},
};

use super::{
    Exit, GetArgs, Stop,
    api::Api,
    as_content_id,
    lists::show_found,
    screen::{Screen, counted, duration, escaped, size},
};

/// A small file is there at once; a large one is not asked after all the time.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_millis(250);
/// Finished downloads that are looked through.
const REMEMBERED: usize = 10_000;
/// Names to choose from.
const CANDIDATES: usize = 50;

pub(super) async fn get(api: &Api, args: GetArgs, screen: &mut Screen) -> Result<(), Stop> {
    let id = match as_content_id(&args.what) {
        Some(id) => id,
        None => by_name(api, &args.what, screen).await?,
    };
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if let Some(output) = args.output.as_deref().filter(|_| !to_stdout) {
        check_output(output)?;
    }
    let download = match fetched_before(api, id).await? {
        Some(download) => download,
        None => follow(api, ask(api, id).await?, screen).await?,
    };
    match &args.output {
        Some(_) if to_stdout => pour(api, id, screen).await,
        Some(output) => {
            let path = copy_to(api, &download, output).await?;
            done(&download, Some(&path.display().to_string()), screen)
        }
        None => done(&download, download.path.as_deref(), screen),
    }
}

/// A download of this content that is done, and whose file is still where it was put.
async fn fetched_before(api: &Api, id: ContentId) -> Result<Option<Download>, Stop> {
    let query = DownloadsQuery { state: Some(DownloadState::Done), ..DownloadsQuery::default() };
    let done: Vec<Download> = api.all("/v1/downloads", &query, REMEMBERED).await?;
    let is_there = |download: &Download| {
        let found = download.path.as_ref().and_then(|path| std::fs::metadata(path).ok());
        found.is_some_and(|found| found.is_file() && Some(found.len()) == download.size)
    };
    Ok(done.into_iter().find(|download| download.content_id == id && api.is_here() && is_there(download)))
}

/// Begins the download, or goes on with it.
async fn ask(api: &Api, id: ContentId) -> Result<Download, Stop> {
    let request = DownloadRequest { content_id: id, name: None };
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

/// The one content of that name; with several, shows them and gives up.
async fn by_name(api: &Api, name: &str, screen: &mut Screen) -> Result<ContentId, Stop> {
    let query = SearchQuery { q: Some(name.to_owned()), ..SearchQuery::default() };
    let found: Vec<SearchItem> = api.all("/v1/search", &query, CANDIDATES).await?;
    match choose(name, &found) {
        Choice::One(id) => Ok(id),
        Choice::None => Err(Stop::new(Exit::NotFound, format!("nobody shares a file named `{name}`"))),
        Choice::Several => {
            if screen.json {
                screen.json(&found)?;
            } else {
                show_found(&found, screen)?;
            }
            Err(Stop::new(Exit::Usage, format!("several files match `{name}`: give the content id of one")))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    One(ContentId),
    Several,
    None,
}

/// A name that is exactly right wins over those that merely match.
fn choose(name: &str, found: &[SearchItem]) -> Choice {
    let last_part = |item: &&SearchItem| item.name.rsplit('/').next() == Some(name);
    let whole: Vec<_> = found.iter().filter(|item| item.name == name).collect();
    let part: Vec<_> = found.iter().filter(last_part).collect();
    for candidates in [whole, part, found.iter().collect()] {
        match candidates.as_slice() {
            [] => {}
            [one] => return Choice::One(one.content_id),
            _ => return Choice::Several,
        }
    }
    Choice::None
}

/// Looks until the download is whole, or cannot be.
async fn follow(api: &Api, mut download: Download, screen: &mut Screen) -> Result<Download, Stop> {
    let bar = screen.bar(download.size.unwrap_or(0), &download.name);
    let path = format!("/v1/downloads/{}", download.id);
    let mut look = FIRST_LOOK;
    let mut told_waiting = false;
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
            DownloadState::Waiting if !told_waiting && bar.is_hidden() => {
                told_waiting = true;
                screen.remark("waiting: no holder can be reached now");
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
        DownloadState::Waiting => "waiting for somebody who has it".to_owned(),
        DownloadState::Queued => "queued".to_owned(),
        DownloadState::Finishing => "finishing".to_owned(),
        _ => {
            let left = download.eta_seconds.map(|left| format!(", {} left", duration(left)));
            let sources = counted(download.sources.len(), "source");
            format!("{}/s from {sources}{}", size(download.rate_bps), left.unwrap_or_default())
        }
    });
}

/// Refuses before anything is fetched what could not be written after it.
fn check_output(output: &Path) -> Result<(), Stop> {
    if output.is_dir() {
        return Ok(());
    }
    if output.symlink_metadata().is_ok() {
        return Err(Stop::failed(format!("{} is there already", output.display())));
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(Stop::new(Exit::NotFound, format!("there is no folder for {}", output.display())));
    }
    Ok(())
}

/// Puts the file at `output`, or into it where it is a folder; nothing is overwritten. The path that it got.
async fn copy_to(api: &Api, download: &Download, output: &Path) -> Result<PathBuf, Stop> {
    let target = if output.is_dir() {
        // The peer has made this name safe; all the same only its last part chooses a file here.
        let name = download.name.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."));
        output.join(name.unwrap_or("download"))
    } else {
        output.to_owned()
    };
    let failed = |error: std::io::Error| Stop::failed(format!("{}: {error}", target.display()));
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut half = tempfile::Builder::new().prefix(".trueque-get-").tempfile_in(folder).map_err(failed)?;
    stream(api, download.content_id, &mut half).await?;
    half.as_file().sync_all().map_err(failed)?;
    half.persist_noclobber(&target).map_err(|error| failed(error.error))?;
    Ok(target)
}

async fn pour(api: &Api, id: ContentId, screen: &mut Screen) -> Result<(), Stop> {
    stream(api, id, screen.out()).await
}

async fn stream(api: &Api, id: ContentId, out: &mut (impl Write + ?Sized)) -> Result<(), Stop> {
    let mut response = api.send(api.request(Method::GET, &format!("/v1/content/{id}"))).await?;
    let broke = |error: reqwest::Error| Stop::failed(format!("the bytes broke off: {error}"));
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        out.write_all(&chunk)?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn item(n: u8, name: &str) -> SearchItem {
        SearchItem {
            content_id: ContentId::from_bytes([n; 32]),
            name: name.to_owned(),
            size: 1,
            media_type: None,
            holders: 1,
            online: 1,
            complete: true,
        }
    }

    #[test]
    fn the_exact_name_wins_over_those_that_match() {
        let found =
            [item(1, "talk.mp4"), item(2, "my talk.mp4"), item(3, "old/notes.txt"), item(4, "notes.txt.bak")];
        assert_eq!(choose("talk.mp4", &found), Choice::One(found[0].content_id));
        assert_eq!(choose("notes.txt", &found), Choice::One(found[2].content_id));
        assert_eq!(choose("talk", &found[..2]), Choice::Several);
        assert_eq!(choose("talk", &found[..1]), Choice::One(found[0].content_id));
        assert_eq!(choose("talk", &[]), Choice::None);
        assert_eq!(choose("a", &[item(1, "x/a"), item(2, "y/a")]), Choice::Several);
    }

    #[test]
    fn what_cannot_be_written_is_refused_before_it_is_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        std::fs::write(&there, "x").unwrap();
        assert_eq!(check_output(dir.path()), Ok(()));
        assert_eq!(check_output(&dir.path().join("new")), Ok(()));
        assert_eq!(check_output(&there).unwrap_err().exit, Exit::Failed);
        assert_eq!(check_output(&dir.path().join("no/new")).unwrap_err().exit, Exit::NotFound);
        assert_eq!(check_output(&dir.path().join("new/")).unwrap_err().exit, Exit::NotFound);
    }
}
