//! Puts a finished file in its place beneath a folder: under its name or the next number that is free, never over
//! something, never through a link, and never into the peer's own data folder.
//!
//! A name may have folders in it, and something else may have the name of one: a file, a link, the data folder. A
//! download then goes into a folder with the next free number, as a file would; an upload is refused, because whoever
//! sends it can choose another name.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use content::SafeName;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};
use wire::ErrorCode;

use crate::Failure;

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

/// What is done where something that is no folder has the name of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The folder gets the next number that is free.
    Number,
    Refuse,
}

/// Why a file did not get to a place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Something that is no folder has the name of one.
    #[error("`{0}` is there and is no folder to put files into")]
    Blocked(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A folder beneath which files are put.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    root: PathBuf,
    /// The peer's own data folder, which may lie beneath it.
    keep_out: Option<(u64, u64)>,
}

/// A folder that is open, and its name beneath the ground as it came to be; none for the ground itself.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    name: Option<String>,
}

impl Ground {
    /// `data_dir` is the folder into which nothing is ever put.
    pub(crate) fn new(root: &Path, data_dir: &Path) -> Self {
        let keep_out = fs::metadata(data_dir).ok().map(|found| (found.dev(), found.ino()));
        Self { root: root.to_owned(), keep_out }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the ground itself, where it was removed meanwhile.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn ensure(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)
    }

    /// Brings `temp` to `name` beneath the ground. Blocks; the folders' entries are on disk when it returns.
    ///
    /// # Errors
    /// [`PlaceError::Blocked`], or what the disk says; [`io::ErrorKind::AlreadyExists`] when there is no number left.
    pub(crate) fn place(
        &self,
        temp: &Path,
        name: &SafeName,
        by: By,
        blocked: Blocked,
    ) -> Result<(PathBuf, SafeName), PlaceError> {
        let folder = self.open(name.folder(), blocked)?;
        let name = folder.place(temp, name, by)?;
        folder.sync()?;
        Ok((self.root.join(name.as_str()), name))
    }

    /// Opens a folder beneath the ground, making what is missing on the way.
    ///
    /// # Errors
    /// [`PlaceError::Blocked`], or what the disk says; a link on the way is not followed.
    pub(crate) fn open(&self, folder: Option<&str>, blocked: Blocked) -> Result<Folder, PlaceError> {
        // The ground itself is the user's choice and may be a link.
        let mut at = rustix::fs::open(&self.root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)?;
        let mut name: Option<String> = None;
        for part in folder.into_iter().flat_map(|folder| folder.split('/')) {
            let (fd, part) = self.enter(&at, part, blocked)?;
            at = fd;
            name = Some(name.map_or_else(|| part.clone(), |above| format!("{above}/{part}")));
        }
        Ok(Folder { fd: at, name })
    }

    /// The folder `part`, or where something else has that name, the first with a number that is one or can be made.
    fn enter(&self, at: &OwnedFd, part: &str, blocked: Blocked) -> Result<(OwnedFd, String), PlaceError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let wanted = SafeName::new(part).map_err(io::Error::other)?;
        for number in 1..NUMBERS {
            let numbered = if number == 1 { Some(wanted.clone()) } else { wanted.numbered(number) };
            let Some(name) = numbered else { break };
            match rustix::fs::mkdirat(at, name.as_str(), Mode::RWXU) {
                Ok(()) => rustix::fs::fsync(at).map_err(io::Error::from)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(PlaceError::Io(errno.into())),
            }
            match rustix::fs::openat(at, name.as_str(), flags, Mode::empty()) {
                Ok(fd) if !self.is_kept_out(&fd)? => return Ok((fd, name.to_string())),
                // ENOTDIR for a file; for a link, Linux says it too where a folder is asked for, others ELOOP.
                Ok(_) | Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(PlaceError::Io(errno.into())),
            }
            if blocked == Blocked::Refuse {
                return Err(PlaceError::Blocked(name.to_string()));
            }
        }
        Err(PlaceError::Blocked(part.to_owned()))
    }

    fn is_kept_out(&self, folder: &OwnedFd) -> io::Result<bool> {
        let Some(keep_out) = self.keep_out else { return Ok(false) };
        let found = rustix::fs::fstat(folder)?;
        Ok((found.st_dev, found.st_ino) == keep_out)
    }
}

impl Folder {
    /// Brings `temp` to the last part of `name` in this folder, or to the next number that is free. The name that it
    /// got, folder and all. The caller syncs.
    ///
    /// # Errors
    /// What the disk says; [`io::ErrorKind::AlreadyExists`] when there is no number left.
    pub(crate) fn place(&self, temp: &Path, name: &SafeName, by: By) -> io::Result<SafeName> {
        self.place_telling(temp, name, by, |_| {})
    }

    /// As [`Self::place`]; `before` is told each name that is about to be tried.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub(crate) fn place_telling(
        &self,
        temp: &Path,
        name: &SafeName,
        by: By,
        before: impl Fn(&SafeName),
    ) -> io::Result<SafeName> {
        let wanted = match &self.name {
            Some(folder) => SafeName::new(&format!("{folder}/{}", name.file_name())),
            None => SafeName::new(name.file_name()),
        };
        let wanted = wanted.map_err(|error| io::Error::new(io::ErrorKind::InvalidFilename, error))?;
        for number in 1..NUMBERS {
            let numbered = if number == 1 { Some(wanted.clone()) } else { wanted.numbered(number) };
            let Some(name) = numbered else { break };
            before(&name);
            match bring(temp, &self.fd, name.file_name(), by) {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) if by == By::Link && is_same(temp, &self.fd, name.file_name()) => {
                    return Ok(name);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// # Errors
    /// What the disk says.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Blocked(_) => Self::new(ErrorCode::Conflict, error.to_string()),
            PlaceError::Io(error) => Self::storage(&error),
        }
    }
}

/// Opens a file for reading by a path on which there is no link, neither at its end nor on the way there: whoever swaps
/// a folder for a link chooses no file elsewhere. `path` is absolute and was real when it was found.
///
/// # Errors
/// What the disk says; `ELOOP` for a link.
pub(crate) fn open_real(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(fd) => Ok(fd.into()),
        // Kernels before 5.6, and boxes that hide it.
        Err(Errno::NOSYS | Errno::PERM) => {
            let file: File = rustix::fs::open(path, flags, Mode::empty())?.into();
            let is_real =
                path.parent().is_some_and(|folder| folder.canonicalize().is_ok_and(|real| real == folder));
            if is_real { Ok(file) } else { Err(Errno::LOOP.into()) }
        }
        Err(errno) => Err(errno.into()),
    }
}

/// One attempt, at one name in an open folder; [`Errno::EXIST`] where something is there.
fn bring(temp: &Path, folder: &OwnedFd, name: &str, by: By) -> Result<(), Errno> {
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

    #[test]
    fn a_link_in_place_of_a_file_or_of_a_folder_on_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (inside, outside) = (root.join("inside/deep"), root.join("outside/deep"));
        for folder in [&inside, &outside] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("file"), folder.display().to_string()).unwrap();
        }
        let path = inside.join("file");
        assert_eq!(io::read_to_string(open_real(&path).unwrap()).unwrap(), inside.display().to_string());
        let refused = || open_real(&path).unwrap_err().raw_os_error();
        fs::rename(root.join("inside"), root.join("aside")).unwrap();
        std::os::unix::fs::symlink(root.join("outside"), root.join("inside")).unwrap();
        assert_eq!(refused(), Some(Errno::LOOP.raw_os_error()), "a folder");
        fs::remove_file(root.join("inside")).unwrap();
        fs::rename(root.join("aside"), root.join("inside")).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), &path).unwrap();
        assert_eq!(refused(), Some(Errno::LOOP.raw_os_error()), "the file");
    }
    use std::fs;

    fn name(text: &str) -> SafeName {
        SafeName::new(text).unwrap()
    }

    fn ground(root: &Path) -> Ground {
        Ground::new(root, &root.join("data"))
    }

    fn temp(root: &Path, text: &str) -> PathBuf {
        let temp = root.join("temp");
        fs::write(&temp, text).unwrap();
        temp
    }

    fn text(path: &Path) -> String {
        io::read_to_string(File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn nothing_is_overwritten_and_the_tree_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for expected in ["a/b/c.txt", "a/b/c (2).txt", "a/b/c (3).txt"] {
            let temp = temp(dir.path(), expected);
            let placed = ground(dir.path()).place(&temp, &name("a/b/c.txt"), By::Rename, Blocked::Refuse);
            assert_eq!((placed.unwrap().0, temp.exists()), (dir.path().join(expected), false));
            assert_eq!(text(&dir.path().join(expected)), expected);
        }
    }

    #[test]
    fn a_link_that_was_made_before_a_crash_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let temp = temp(dir.path(), "x");
        let place = || ground(dir.path()).place(&temp, &name("x"), By::Link, Blocked::Number).unwrap();
        let first = place();
        assert!(temp.exists());
        assert_eq!(place(), first);
    }

    #[test]
    fn what_has_the_name_of_a_folder_and_is_none_is_gone_around_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "a file").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(dir.path().join("in/file.d"), "a file").unwrap();
        for (wanted, expected, part) in [
            ("file/x", "file (2)/x", "file"),
            ("file/y", "file (2)/y", "file"),
            ("link/x", "link (2)/x", "link"),
            ("data/peer.db-journal", "data (2)/peer.db-journal", "data"),
            ("in/file.d/deep/x", "in/file (2).d/deep/x", "file.d"),
        ] {
            let temp = temp(dir.path(), wanted);
            let refused = ground(dir.path()).place(&temp, &name(wanted), By::Rename, Blocked::Refuse);
            assert!(matches!(refused, Err(PlaceError::Blocked(named)) if named == part), "{wanted}");
            let placed = ground(dir.path()).place(&temp, &name(wanted), By::Rename, Blocked::Number);
            assert_eq!(placed.unwrap().1.as_str(), expected);
            assert_eq!(text(&dir.path().join(expected)), wanted);
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(dir.path().join("data")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("x")).unwrap();
        for by in [By::Rename, By::Link] {
            let temp = temp(dir.path(), "x");
            let (path, _) = ground(dir.path()).place(&temp, &name("x"), by, Blocked::Number).unwrap();
            assert_eq!(text(&path), "x");
            fs::remove_file(path).unwrap();
        }
    }
}
