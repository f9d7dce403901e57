//! `-o`: a second copy of what was fetched, where the user wants it. Nothing is overwritten.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use content::{ContentId, SafeName};
use http::Method;
use wire::rest::pclient::Download;

use super::super::{Exit, Stop, api::Api};

/// Refuses before anything is fetched what could not be written after it.
pub(super) fn check(output: &Path) -> Result<(), Stop> {
    if output.is_dir() {
        return Ok(());
    }
    if output.symlink_metadata().is_ok() {
        return Err(is_there(output));
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(Stop::new(Exit::NotFound, format!("there is no folder for {}", output.display())));
    }
    Ok(())
}

/// Puts the file at `output`, or into it where it is a folder. The path that it got.
pub(super) async fn copy(api: &Api, download: &Download, output: &Path) -> Result<PathBuf, Stop> {
    if !output.is_dir() {
        write(api, download.content_id, output).await?;
        return Ok(output.to_owned());
    }
    // The peer has made this name safe; all the same only its last part chooses a file here.
    let name = download.name.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."));
    let target = output.join(name.unwrap_or("download"));
    write(api, download.content_id, &target).await?;
    Ok(target)
}

/// Puts the file into the folder `output`, with the folders of its own name. The path that it got.
pub(super) async fn copy_tree(api: &Api, download: &Download, output: &Path) -> Result<PathBuf, Stop> {
    let name = SafeName::new(&download.name).map_err(|error| Stop::failed(error.to_string()))?;
    let target = output.join(name.as_str());
    let folder = target.parent().unwrap_or(output);
    std::fs::create_dir_all(folder)
        .map_err(|error| Stop::failed(format!("{}: {error}", folder.display())))?;
    write(api, download.content_id, &target).await?;
    Ok(target)
}

/// The bytes of a content.
pub(super) async fn stream(api: &Api, id: ContentId, out: &mut (impl Write + ?Sized)) -> Result<(), Stop> {
    let mut response = api.send(api.request(Method::GET, &format!("/v1/content/{id}"))).await?;
    let broke = |error: reqwest::Error| Stop::failed(format!("the bytes broke off: {error}"));
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        out.write_all(&chunk)?;
    }
    Ok(out.flush()?)
}

async fn write(api: &Api, id: ContentId, target: &Path) -> Result<(), Stop> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(target),
        _ => Stop::failed(format!("{}: {error}", target.display())),
    };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut half = tempfile::Builder::new().prefix(".trueque-get-").tempfile_in(folder).map_err(failed)?;
    stream(api, id, &mut half).await?;
    half.as_file().sync_all().map_err(failed)?;
    half.persist_noclobber(target).map_err(|error| failed(error.error))?;
    Ok(())
}

fn is_there(target: &Path) -> Stop {
    Stop::failed(format!("{} is there already, and nothing is overwritten", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_refused_before_it_is_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        std::fs::write(&there, "x").unwrap();
        assert_eq!(check(dir.path()), Ok(()));
        assert_eq!(check(&dir.path().join("new")), Ok(()));
        assert_eq!(check(&there).unwrap_err().exit, Exit::Failed);
        assert_eq!(check(&dir.path().join("no/new")).unwrap_err().exit, Exit::NotFound);
        assert_eq!(check(&dir.path().join("new/")).unwrap_err().exit, Exit::NotFound);
    }
}
