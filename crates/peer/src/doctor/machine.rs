//! This machine: can the folders be written and read, is there room, may enough files be open.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use rustix::{
    fs::statvfs,
    process::{Resource, getrlimit},
};
use wire::rest::pclient::Check;

use super::{Parameters, failed, ok, warning};

const MIB: u64 = 1 << 20;
/// Less than this, and the next larger file may not fit.
const LITTLE: u64 = 1024 * MIB;
/// Less than this is full.
const FULL: u64 = 64 * MIB;
/// What is written to see whether it can be.
const SAMPLE: usize = 64 << 10;
/// A download from many holders and a hundred readers of files need some hundreds.
const FEW_FILES: u64 = 1_024;

pub(super) async fn look(parts: &Parameters) -> Vec<Check> {
    let written = [
        ("data_dir", "PEER_DATA_DIR", parts.data_dir.clone()),
        ("download_dir", "PEER_DOWNLOAD_DIR", parts.download_dir.clone()),
    ];
    let (shared, shares) = (parts.share_dirs.clone(), parts.shares.clone());
    // A disk that does not answer stops a thread, and neither this peer nor the other checks.
    let looking = tokio::task::spawn_blocking(move || {
        let mut checks: Vec<Check> =
            written.iter().map(|(name, setting, folder)| writable(name, setting, folder)).collect();
        checks.extend(shared.iter().map(|folder| readable(folder)));
        checks.extend(refused_files(shares.refused()));
        checks.push(open_files(getrlimit(Resource::Nofile).current, count_open()));
        checks
    });
    looking.await.unwrap_or_else(|error| {
        vec![failed("folders", format!("the check ended early: {error}"), "look at the log of this peer")]
    })
}

fn writable(name: &str, setting: &str, folder: &Path) -> Check {
    let shown = folder.display();
    if let Err(error) = write_some(folder) {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there".to_owned(),
            _ => format!("give this peer's user the right to write there, or set {setting}"),
        };
        return failed(name, format!("{shown} cannot be written: {error}"), advice);
    }
    room(name, setting, folder, free(folder))
}

fn room(name: &str, setting: &str, folder: &Path, free: io::Result<u64>) -> Check {
    let shown = folder.display();
    match free {
        Ok(free) if free < FULL => {
            let advice = format!("make room there, or set {setting} to a folder on another disk");
            failed(name, format!("{shown} has {} left", mib(free)), advice)
        }
        Ok(free) if free < LITTLE => {
            let advice = "make room before it is full";
            warning(name, format!("{shown} can be written, and has {} left", mib(free)), advice)
        }
        Ok(free) => ok(name, format!("{shown} can be written, and has {} left", mib(free))),
        Err(error) => {
            let advice = "look at the disk by hand: df";
            warning(
                name,
                format!("{shown} can be written; how much room is left is not known: {error}"),
                advice,
            )
        }
    }
}

/// Writes as a download does, and takes it away again. The name is one that no folder shares.
fn write_some(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".trueque-doctor-").tempfile_in(folder)?;
    file.write_all(&[0x5a; SAMPLE])?;
    file.as_file().sync_all()?;
    file.close()
}

/// What this user may still fill.
fn free(folder: &Path) -> io::Result<u64> {
    let found = statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn readable(folder: &Path) -> Check {
    let shown = folder.display();
    match fs::read_dir(folder).and_then(|mut entries| entries.next().transpose()) {
        Ok(_) => ok("share_dir", format!("{shown} can be read")),
        Err(error) => failed(
            "share_dir",
            format!("{shown} cannot be read: {error}"),
            "nothing in it is shared now; give this peer's user the right to read it, or set PEER_SHARE_DIR",
        ),
    }
}

/// Nothing where all can be shared.
fn refused_files(mut refused: Vec<(PathBuf, String)>) -> Option<Check> {
    refused.sort_unstable();
    let (path, detail) = refused.first()?;
    let (what, others) = match refused.len() - 1 {
        0 => ("a file in a shared folder is".to_owned(), String::new()),
        others => (format!("{} files in shared folders are", refused.len()), format!("; and {others} more")),
    };
    Some(warning(
        "refused_files",
        format!("{what} not shared: {}: {detail}{others}", path.display()),
        "give it another name, or the right to be read; the log of this peer has each of them",
    ))
}

fn open_files(limit: Option<u64>, open: Option<u64>) -> Check {
    let now = open.map(|open| format!(", {open} are open now")).unwrap_or_default();
    match limit {
        None => ok("open_files", format!("no limit{now}")),
        Some(limit) if limit < FEW_FILES || open.is_some_and(|open| open > limit / 10 * 9) => warning(
            "open_files",
            format!("{limit} may be open{now}"),
            "raise the hard limit: LimitNOFILE=65536 in the service, or ulimit -Hn",
        ),
        Some(limit) => ok("open_files", format!("{limit} may be open{now}")),
    }
}

/// Where the system tells.
fn count_open() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    // One of them is the reading itself.
    u64::try_from(entries.count()).ok()?.checked_sub(1)
}

fn mib(bytes: u64) -> String {
    match bytes / MIB {
        mib @ 10_240.. => format!("{} GiB", mib / 1_024),
        mib => format!("{mib} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::rest::pclient::CheckResult::{Failed, Ok as Fine, Warning};

    #[test]
    fn how_much_room_is_enough() {
        for (free, result, words) in [
            (0, Failed, "/d has 0 MiB left"),
            (FULL - 1, Failed, "/d has 63 MiB left"),
            (FULL, Warning, "/d can be written, and has 64 MiB left"),
            (LITTLE, Fine, "/d can be written, and has 1024 MiB left"),
            (20 * LITTLE, Fine, "/d can be written, and has 20 GiB left"),
        ] {
            let check = room("data_dir", "PEER_DATA_DIR", Path::new("/d"), Ok(free));
            assert_eq!((check.result, check.found.as_str()), (result, words));
        }
    }

    #[test]
    fn how_many_files_are_enough() {
        for (limit, open, result) in [
            (None, None, Fine),
            (Some(1_024), Some(30), Fine),
            (Some(256), Some(30), Warning),
            (Some(65_536), Some(65_000), Warning),
        ] {
            assert_eq!(open_files(limit, open).result, result, "{limit:?} {open:?}");
        }
    }

    #[test]
    fn folders_are_tried_and_left_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let fine = writable("data_dir", "PEER_DATA_DIR", folder.path());
        assert_ne!(fine.result, Failed, "{fine:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        assert_eq!(readable(folder.path()).result, Fine);
        let gone = folder.path().join("gone");
        let check = writable("download_dir", "PEER_DOWNLOAD_DIR", &gone);
        assert_eq!(check.result, Failed);
        assert!(check.advice.unwrap().contains("PEER_DOWNLOAD_DIR"));
        assert_eq!(readable(&gone).result, Failed);
    }
}
