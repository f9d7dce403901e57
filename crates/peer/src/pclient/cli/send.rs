//! `peer send`: files to somebody, from wherever they lie.
//!
//! A file that this peer does not share yet is shared with its receivers alone: where it is, if it lies in a shared
//! folder, else as a copy in the first of them. One that is shared already keeps whoever may have it, and its receivers
//! come to them. Then it is offered.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use content::{ContentId, Layout, OutlineBuilder, PieceHasher};
use http::Method;
use indicatif::ProgressBar;
use wire::{
    ErrorCode, Member, Username,
    rest::{
        Audience, Page,
        directory::PeersQuery,
        pclient::{FilePatch, FilesQuery, Offer, OfferRequest, OfferState, PeerWithPath, SharedFile, Status},
    },
};

use super::{
    Exit, SendArgs, Stop,
    api::{Api, read},
    offers::worded,
    screen::{Screen, escaped},
    share::{Outcome, files_beneath, in_place, real_path, upload},
};

/// Files that are sent at once: as many offers as one user may leave open with another.
const MAX_FILES: usize = 100;
const READ_AT_ONCE: usize = 256 << 10;

pub(super) async fn send(api: &Api, args: SendArgs, screen: &mut Screen) -> Result<(), Stop> {
    let files = files_of(&args.paths)?;
    let status: Status = api.get("/v1/status", &()).await?;
    // Before gigabytes are read and copied.
    for user in &args.to {
        find(api, user, &status).await?;
    }
    let mut offers = Vec::new();
    for (path, name) in files {
        let content_id = shared(api, &path, &name, &args.to, &status, screen).await?;
        for user in &args.to {
            let request = OfferRequest { content_id, to: user.clone() };
            let offer: Offer = api.post("/v1/offers", &request).await?;
            if !screen.json {
                screen.line(worded(&offer))?;
            }
            offers.push(offer);
        }
    }
    if screen.json {
        screen.json(&offers)?;
    }
    match offers.iter().find(|offer| offer.state == OfferState::Declined) {
        Some(refused) => Err(Stop::failed(format!("{} does not take {}", refused.to.username, refused.name))),
        None => Ok(()),
    }
}

/// Every file that was named, and those of every folder, each with the name that a copy of it gets.
fn files_of(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, Stop> {
    let mut files = Vec::new();
    for path in paths {
        let found = files_beneath(&real_path(path)?)?;
        if found.is_empty() {
            return Err(Stop::new(Exit::NotFound, format!("{} has no files", path.display())));
        }
        files.extend(found);
    }
    if files.len() > MAX_FILES {
        let count = files.len();
        return Err(Stop::new(
            Exit::Usage,
            format!(
                "{count} files are too many to send, at most {MAX_FILES}: pack them into one, or `peer share` them"
            ),
        ));
    }
    Ok(files)
}

/// Whether there is somebody of that name, on another machine than this one.
async fn find(api: &Api, user: &Username, status: &Status) -> Result<(), Stop> {
    let query = PeersQuery { username: Some(user.clone()), limit: Some(2), cursor: None };
    let found: Page<PeerWithPath> = api.get("/v1/peers", &query).await?;
    if found.items.is_empty() {
        return Err(Stop::new(Exit::NotFound, format!("nobody called {user} has been on this network")));
    }
    if found.items.iter().all(|peer| peer.peer.peer_id == status.peer_id) {
        return Err(Stop::failed(format!("{user} has no other machine than this one")));
    }
    Ok(())
}

/// Makes sure that the receivers may have a file.
async fn shared(
    api: &Api,
    path: &Path,
    name: &str,
    to: &[Username],
    status: &Status,
    screen: &mut Screen,
) -> Result<ContentId, Stop> {
    if let Some(file) = find_shared(api, path, screen).await? {
        widen(api, &file, to, status, screen).await?;
        return Ok(file.content_id);
    }
    let audience = Audience::Users(to.iter().cloned().map(Member::User).collect());
    match in_place(api, path, Some(audience.clone())).await? {
        Some(Outcome::File(file)) => Ok(file.content_id),
        Some(Outcome::Folder(folder)) => Err(Stop::failed(format!("{} is a folder now", folder.path))),
        None => Ok(upload(api, path, name, Some(&audience), screen).await?.content_id),
    }
}

/// The file as this peer shares it: known by its path, else by its bytes.
async fn find_shared(api: &Api, path: &Path, screen: &Screen) -> Result<Option<SharedFile>, Stop> {
    let name = path.file_name().and_then(|name| name.to_str());
    if let Some(name) = name.filter(|_| api.is_here())
        && is_shared(api, path, name).await?
        // Shared anew as it is: if it has changed a moment ago, pclient looks at it now.
        && let Some(Outcome::File(file)) = in_place(api, path, None).await?
    {
        return api.get(&format!("/v1/files/{}", file.content_id), &()).await.map(Some);
    }
    let failed = |error: io::Error| Stop::failed(format!("{}: {error}", path.display()));
    let bar = screen.bar(path.metadata().map_err(failed)?.len(), name.unwrap_or_default());
    let (hashed, counting) = (path.to_owned(), bar.clone());
    let id = tokio::task::spawn_blocking(move || content_id_of(&hashed, &counting)).await;
    bar.finish_and_clear();
    let id = id.map_err(io::Error::other).flatten().map_err(failed)?;
    match api.get(&format!("/v1/files/{id}"), &()).await {
        Ok(file) => Ok(Some(file)),
        Err(stop) if stop.code == Some(ErrorCode::NotFound) => Ok(None),
        Err(stop) => Err(stop),
    }
}

/// Whether this very file is shared.
async fn is_shared(api: &Api, path: &Path, name: &str) -> Result<bool, Stop> {
    let query = FilesQuery { q: Some(name.to_owned()), ..FilesQuery::default() };
    let found: Vec<SharedFile> = api.all("/v1/files", &query, usize::MAX).await?;
    Ok(found.iter().any(|file| Path::new(&file.path) == path))
}

/// Puts the receivers to those who may have the file.
async fn widen(
    api: &Api,
    file: &SharedFile,
    to: &[Username],
    status: &Status,
    screen: &mut Screen,
) -> Result<(), Stop> {
    let Audience::Users(users) = &file.audience else { return Ok(()) };
    // The user's own machines may always.
    let lacks = |user: &&Username| !file.audience.names(user) && status.username.as_ref() != Some(user);
    let new: Vec<Username> = to.iter().filter(lacks).cloned().collect();
    if new.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = new.iter().map(Username::as_str).collect();
    screen.remark(&format!("{} is for {} too from now on", escaped(&file.name), names.join(", ")));
    let audience = Audience::Users(users.iter().cloned().chain(new.into_iter().map(Member::User)).collect());
    let request = api.request(Method::PATCH, &format!("/v1/files/{}", file.content_id));
    read::<SharedFile>(api.send(request.json(&FilePatch { audience })).await?).await.map(drop)
}

fn content_id_of(path: &Path, bar: &ProgressBar) -> io::Result<ContentId> {
    let changed = || io::Error::other("it changed while it was read");
    let mut file = File::open(path)?;
    let layout = Layout::new(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut builder = OutlineBuilder::new(layout);
    let mut portion = vec![0; READ_AT_ONCE];
    for index in 0..layout.count() {
        let mut piece = PieceHasher::new(layout, index);
        let mut left = layout.len(index);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(READ_AT_ONCE).min(READ_AT_ONCE);
            let count = file.read(&mut portion[..most])?;
            if count == 0 {
                return Err(changed());
            }
            piece.update(&portion[..count]);
            bar.inc(count as u64);
            left -= count as u64;
        }
        builder.set(index, piece.finish().ok_or_else(changed)?);
    }
    builder.finish().map(|outline| outline.id()).ok_or_else(changed)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_bytes_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, READ_AT_ONCE, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 7] {
            let bytes: Vec<u8> = (0..251).cycle().take(size).collect();
            std::fs::write(&path, &bytes).unwrap();
            let bar = ProgressBar::hidden();
            assert_eq!(content_id_of(&path, &bar).unwrap(), ContentId::of(&bytes), "{size}");
            assert_eq!(bar.position(), size as u64);
        }
    }
}
