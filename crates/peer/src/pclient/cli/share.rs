//! `peer share` and `peer unshare`.
//!
//! What lies in a shared folder is shared where it is. Everything else is sent to pclient, which keeps a copy in its
//! first shared folder; a folder is sent file by file, under its own name.

use std::path::{Path, PathBuf};

use content::SafeName;
use futures::TryStreamExt;
use http::{Method, StatusCode};
use indicatif::ProgressBar;
use reqwest::multipart::{Form, Part};
use serde::Serialize;
use tokio_util::io::ReaderStream;
use walkdir::WalkDir;
use wire::{
    ErrorCode,
    rest::{
        Audience,
        pclient::{FilesQuery, ShareFolderReply, ShareReply, ShareRequest, SharedFile},
    },
};

use super::{
    Exit, ShareArgs, Stop, UnshareArgs,
    api::{Api, read},
    as_content_id,
    screen::{Screen, counted, escaped, named, size},
};

const READ_AT_ONCE: usize = 256 << 10;

/// What became of one path.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    File(ShareReply),
    /// A folder inside a shared folder: its files follow.
    Folder(ShareFolderReply),
}

pub(super) async fn share(api: &Api, args: ShareArgs, screen: &mut Screen) -> Result<(), Stop> {
    let audience = (!args.to.is_empty()).then_some(Audience::Users(args.to));
    let mut outcomes = Vec::new();
    for path in &args.paths {
        let real = real_path(path)?;
        let before = outcomes.len();
        match in_place(api, &real, audience.clone()).await? {
            Some(outcome) => outcomes.push(outcome),
            None => copy(api, &real, audience.as_ref(), screen, &mut outcomes).await?,
        }
        if !screen.json {
            for outcome in &outcomes[before..] {
                screen.line(worded(outcome))?;
            }
        }
    }
    if screen.json {
        return screen.json(&outcomes);
    }
    Ok(())
}

pub(super) async fn unshare(api: &Api, args: UnshareArgs, screen: &mut Screen) -> Result<(), Stop> {
    let mut gone = Vec::new();
    for file in args.files {
        let ids = match as_content_id(&file) {
            Some(id) => vec![id],
            None => {
                let query = FilesQuery { q: Some(file.clone()), ..FilesQuery::default() };
                let found: Vec<SharedFile> = api.all("/v1/files", &query, usize::MAX).await?;
                found.into_iter().filter(|found| found.name == file).map(|found| found.content_id).collect()
            }
        };
        if ids.is_empty() {
            return Err(Stop::new(Exit::NotFound, format!("`{file}` is not shared here")));
        }
        for id in ids {
            api.tell(Method::DELETE, &format!("/v1/files/{id}")).await?;
            gone.push(id);
        }
    }
    if screen.json {
        return screen.json(&gone);
    }
    gone.iter().try_for_each(|id| screen.line(format!("{id} is not shared any more")))
}

/// Where a path really leads; there must be something.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, Stop> {
    let shown = path.display();
    std::fs::canonicalize(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Stop::new(Exit::NotFound, format!("there is no {shown}")),
        _ => Stop::failed(format!("{shown}: {error}")),
    })
}

/// Shares what lies in a shared folder; `None` where it does not, or pclient runs elsewhere and knows other paths.
pub(super) async fn in_place(
    api: &Api,
    path: &Path,
    audience: Option<Audience>,
) -> Result<Option<Outcome>, Stop> {
    let Some(text) = path.to_str().filter(|_| api.is_here()) else { return Ok(None) };
    let request = ShareRequest { path: text.to_owned(), audience };
    let response = match api.send(api.request(Method::POST, "/v1/files").json(&request)).await {
        Ok(response) => response,
        Err(stop) if stop.code == Some(ErrorCode::PermissionDenied) => return Ok(None),
        Err(stop) => return Err(stop),
    };
    let is_folder = response.status() == StatusCode::ACCEPTED;
    Ok(Some(if is_folder {
        Outcome::Folder(read(response).await?)
    } else {
        Outcome::File(read(response).await?)
    }))
}

/// Sends a file, or all the files of a folder.
async fn copy(
    api: &Api,
    path: &Path,
    audience: Option<&Audience>,
    screen: &mut Screen,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Stop> {
    let files = files_beneath(path)?;
    if files.is_empty() {
        return Err(Stop::new(Exit::NotFound, format!("{} has no files", path.display())));
    }
    for (file, name) in files {
        outcomes.push(Outcome::File(upload(api, &file, &name, audience, screen).await?));
    }
    Ok(())
}

/// The file itself, or the files of a folder, each with the name that it gets. Links are not followed.
pub(super) fn files_beneath(path: &Path) -> Result<Vec<(PathBuf, String)>, Stop> {
    let Some(above) = path.parent() else {
        return Err(Stop::failed("/ is everything on this machine: share a folder of it"));
    };
    let mut files = Vec::new();
    for entry in WalkDir::new(path).sort_by_file_name() {
        let entry = entry.map_err(|error| Stop::failed(error.to_string()))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let name = entry.path().strip_prefix(above).ok().and_then(Path::to_str).ok_or_else(|| {
            Stop::failed(format!("{}: the name is not UTF-8, and cannot be shared", entry.path().display()))
        })?;
        // Here, so that nothing is sent of a folder that cannot be shared whole, and the reason is the true one.
        SafeName::new(name)
            .map_err(|error| Stop::failed(format!("{} cannot be shared: {error}", entry.path().display())))?;
        files.push((entry.path().to_owned(), name.to_owned()));
    }
    Ok(files)
}

pub(super) async fn upload(
    api: &Api,
    path: &Path,
    name: &str,
    audience: Option<&Audience>,
    screen: &Screen,
) -> Result<ShareReply, Stop> {
    let failed = |error: std::io::Error| Stop::failed(format!("{}: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    let bar = screen.bar(length, name);
    let counting: ProgressBar = bar.clone();
    let bytes = ReaderStream::with_capacity(file, READ_AT_ONCE)
        .inspect_ok(move |chunk| counting.inc(chunk.len() as u64));
    let part = Part::stream_with_length(reqwest::Body::wrap_stream(bytes), length).file_name(name.to_owned());
    let mut form = Form::new();
    if let Some(Audience::Users(users)) = audience {
        form = form.text("audience", users.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    }
    let form = form.part("file", part);
    let reply = api.send(api.request(Method::POST, "/v1/files").multipart(form)).await;
    bar.finish_and_clear();
    read(reply?).await
}

fn worded(outcome: &Outcome) -> String {
    match outcome {
        Outcome::File(file) => {
            let whom = match &file.audience {
                Audience::Network => String::new(),
                few @ Audience::Users(_) => format!("  (for {})", named(few)),
            };
            format!("{}  {}  {}{whom}", file.content_id, size(file.size), escaped(&file.name))
        }
        Outcome::Folder(folder) => {
            let files = counted(usize::try_from(folder.files).unwrap_or(usize::MAX), "file");
            format!("{}: {files} will follow, each when it is hashed", escaped(&folder.path))
        }
    }
}
