//! Puts a finished file in its place beneath a folder: under its name or the next number that is free, never over
//! something, and never through a link.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use content::SafeName;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

/// ` (2)` to ` (9999)`: with more files of one name something else is wrong.
const NUMBERS: u32 = 10_000;

/// How a file gets to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The temporary name goes away.
    Rename,
    /// The temporary name stays, so that a crash before the next step can be told from one after it: a file that is
    /// in its place already is found there again.
    Link,
}

/// Brings `temp` to `name` beneath `root`. Blocks; the folders' entries are on disk when it returns.
///
/// # Errors
/// What the disk says; [`io::ErrorKind::AlreadyExists`] when there is no number left.
pub(crate) fn place(root: &Path, temp: &Path, name: &SafeName, by: By) -> io::Result<(PathBuf, SafeName)> {
    let folder = open_folder(root, name.folder())?;
    let (_, name) = place_in(&folder, temp, name, by)?;
    rustix::fs::fsync(&folder)?;
    Ok((root.join(name.as_str()), name))
}

/// As [`place`], in a folder that is open already and that the caller syncs.
pub(crate) fn place_in(
    folder: &OwnedFd,
    temp: &Path,
    name: &SafeName,
    by: By,
) -> io::Result<(u32, SafeName)> {
    for number in 1..NUMBERS {
        let name = if number == 1 { name.clone() } else { name.numbered(number) };
        match bring(temp, folder, name.file_name(), by) {
            Ok(()) => return Ok((number, name)),
            Err(Errno::EXIST) if by == By::Link && is_same(temp, folder, name.file_name()) => {
                return Ok((number, name));
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Opens a folder beneath `root`, making what is missing on the way.
///
/// # Errors
/// What the disk says; a link on the way is not followed.
pub(crate) fn open_folder(root: &Path, folder: Option<&str>) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // The root itself is the user's choice and may be a link.
    let mut at = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for part in folder.into_iter().flat_map(|folder| folder.split('/')) {
        match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o777)) {
            Ok(()) => rustix::fs::fsync(&at)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        at = rustix::fs::openat(&at, part, flags, Mode::empty())?;
    }
    Ok(at)
}

/// One attempt, at one name in an open folder; [`Errno::EXIST`] where something is there.
pub(crate) fn bring(temp: &Path, folder: &OwnedFd, name: &str, by: By) -> Result<(), Errno> {
    let answer = match by {
        By::Link => rustix::fs::linkat(CWD, temp, folder, name, AtFlags::empty()),
        By::Rename => rustix::fs::renameat_with(CWD, temp, folder, name, RenameFlags::NOREPLACE),
    };
    match (by, answer) {
        // File systems without the one have the other.
        (By::Rename, Err(Errno::INVAL | Errno::NOSYS)) => {
            rustix::fs::linkat(CWD, temp, folder, name, AtFlags::empty())?;
            rustix::fs::unlink(temp)
        }
        (By::Link, Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS)) => {
            rustix::fs::renameat_with(CWD, temp, folder, name, RenameFlags::NOREPLACE)
        }
        (_, answer) => answer,
    }
}

fn is_same(temp: &Path, folder: &OwnedFd, name: &str) -> bool {
    let there =
        rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let Ok(there) = there.map(File::from).and_then(|file| file.metadata().map_err(|_| Errno::IO)) else {
        return false;
    };
    temp.symlink_metadata().is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn name(text: &str) -> SafeName {
        SafeName::new(text).unwrap()
    }

    #[test]
    fn nothing_is_overwritten_and_the_tree_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for expected in ["a/b/c.txt", "a/b/c (2).txt", "a/b/c (3).txt"] {
            let temp = dir.path().join("temp");
            fs::write(&temp, expected).unwrap();
            let (path, _) = place(dir.path(), &temp, &name("a/b/c.txt"), By::Rename).unwrap();
            assert_eq!((path, temp.exists()), (dir.path().join(expected), false));
            assert_eq!(fs::read_to_string(dir.path().join(expected)).unwrap(), expected);
        }
    }

    #[test]
    fn a_link_that_was_made_before_a_crash_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let temp = dir.path().join("temp");
        fs::write(&temp, "x").unwrap();
        let first = place(dir.path(), &temp, &name("x"), By::Link).unwrap();
        assert!(temp.exists());
        assert_eq!(place(dir.path(), &temp, &name("x"), By::Link).unwrap(), first);
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("a")).unwrap();
        let temp = dir.path().join("temp");
        fs::write(&temp, "x").unwrap();
        assert!(place(dir.path(), &temp, &name("a/x"), By::Rename).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
