//! Small files of the data folder: keys and what belongs to them. Whole or not there, whatever happens meanwhile.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};

/// For the program's own user alone, as everything in the data folder.
const PRIVATE: u32 = 0o600;

const LARGEST: u64 = 64 << 10;

/// Makes the folder where there is none, and closes it to others.
pub(crate) fn make_private_folder(folder: &Path) -> anyhow::Result<()> {
    let make = || -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
    };
    make().with_context(|| format!("the folder {} cannot be made", folder.display()))
}

/// The text of a file of at most 64 KiB; `None` where there is none.
pub(crate) fn read_small(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > LARGEST => bail!("{} is too large", path.display()),
        _ => {}
    }
    fs::read_to_string(path).map(Some).with_context(|| format!("{} cannot be read", path.display()))
}

/// Writes beside the place and renames, so that a crash leaves the whole file or none.
pub(crate) fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_whole_and_as_closed_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        make_private_folder(&inner).unwrap();
        let path = inner.join("x.key");
        assert_eq!(read_small(&path).unwrap(), None);
        fs::write(path.with_extension("new"), "what a crash left").unwrap();
        write_whole(&path, "one").unwrap();
        write_whole(&path, "two").unwrap();
        assert_eq!(read_small(&path).unwrap().as_deref(), Some("two"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&inner)), (0o600, 0o700));
        fs::write(&path, vec![b'x'; 65_537]).unwrap();
        assert!(read_small(&path).is_err());
    }
}
