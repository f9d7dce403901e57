//! [`DataDir`]: the folder of a peer's keys and memory, which one process holds at a time.
//!
//! Two peers on one folder would take each other's files off the directory, under one name and key. The lock is the
//! system's, on an open file: it goes with the process, however that ends. A process that is about to end is waited
//! for, shortly, so that a restart does not fail because its predecessor is still putting things in order.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};

const LOCK: &str = "peer.lock";
/// How long another process may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A process id.
const MAX_NOTE: u64 = 32;

/// The data folder, held. Dropping it lets another process have it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the folder where it is missing, closes it to others (0700), and takes it.
    ///
    /// # Errors
    /// Where it cannot be made, or another process holds it; the message names the setting.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let named = || format!("PEER_DATA_DIR: the folder {} cannot be used", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(named)?;
        // One that was there already, as made by hand, is closed to others too.
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(named)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path.join(LOCK)).with_context(named)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                Err(TryLockError::WouldBlock) => {
                    bail!("PEER_DATA_DIR: {} is held by another peer{}", path.display(), holder(&mut file))
                }
                Err(TryLockError::Error(error)) => return Err(error).with_context(named),
            }
        }
        // Only for the message that the next one gets.
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        noted.with_context(named)?;
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Which process says that it holds the lock.
fn holder(file: &mut File) -> String {
    let mut note = String::new();
    let read = file.take(MAX_NOTE).read_to_string(&mut note);
    match read.ok().and_then(|_| note.trim().parse::<u32>().ok()) {
        Some(process) => format!(" (process {process})"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/data");
        let first = DataDir::open(&path).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(LOCK))), (0o700, 0o600));
        let refused = format!("{:#}", DataDir::open(&path).await.unwrap_err());
        assert!(refused.starts_with("PEER_DATA_DIR: "), "{refused}");
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");

        // One that is about to end is waited for.
        let ending = async {
            sleep(LOOK_EVERY * 3).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(DataDir::open(&path), ending);
        assert_eq!(second.unwrap().path(), path);
    }

    #[tokio::test]
    async fn what_is_no_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let refused = format!("{:#}", DataDir::open(&file).await.unwrap_err());
        assert!(refused.starts_with("PEER_DATA_DIR: "), "{refused}");
    }
}
