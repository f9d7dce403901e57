//! Files that change under the hashing.

use super::*;

#[tokio::test]
async fn a_file_that_changes_while_it_is_hashed_is_hashed_again() {
    let home = Home::new().await;
    let hasher = Hasher::start(2, PathBuf::new()).unwrap();
    // Where nobody else looks at it, and so large that its writer gets a turn meanwhile however busy the machine is.
    let path = home.folder.path().join("huge");
    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let ended = ended.clone();
        move || {
            while !ended.load(Ordering::Relaxed) {
                file.write_all_at(b"x", 5).unwrap();
            }
            file.set_len(3 * PIECE_SIZE).unwrap();
        }
    });
    let hashed = hasher.hash(path.clone(), 0, Cancel::default()).await;
    ended.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(matches!(hashed, Err(HashError::Changed)), "{hashed:?}");
    fs::rename(&path, home.path("huge")).unwrap();
    let path = home.path("huge");
    let entry = share(&home, &path).await.unwrap();
    assert_eq!(entry.content_id, ContentId::of(&all(&path)));

    let cancel = Cancel::new(AtomicBool::new(true));
    let hashed = hasher.hash(path.clone(), 0, cancel).await;
    assert!(matches!(hashed, Err(HashError::Cancelled)));
    assert_eq!(hasher.pending(), (0, 0));
    hasher.close();
    assert!(hasher.hash(path, 0, Cancel::default()).await.is_err());
    home.stop().await;
}

/// As if it had been looked at a moment before it was written to: what it says of itself is older than its bytes.
fn stamp_before(path: &Path, write: impl FnOnce()) -> FileStamp {
    let looked = FileStamp::of(&fs::symlink_metadata(path).unwrap());
    write();
    assert_ne!(FileStamp::of(&fs::symlink_metadata(path).unwrap()), looked);
    looked
}

#[tokio::test]
async fn a_file_that_changed_between_the_look_and_the_hash_is_looked_at_once_more() {
    // Outside the shared folders, where no watcher tells of the write.
    let home = Home::new().await;
    let path = home.folder.path().join("outside");
    fs::write(&path, b"first").unwrap();
    let looked = stamp_before(&path, || fs::write(&path, b"second").unwrap());
    let name: SafeName = "outside".parse().unwrap();
    home.shares.hash_and_add(&path, name, looked, None).await.unwrap();
    assert_eq!(home.shares.hashed_files(), 2, "what came of the first look is not believed");
    let entry = home.library.by_path(&path).unwrap();
    assert_eq!(entry.content_id, ContentId::of(b"second"));

    let path = home.folder.path().join("another");
    fs::write(&path, b"first").unwrap();
    let looked = stamp_before(&path, || fs::write(&path, b"second").unwrap());
    assert!(home.shares.inner.send_off(&path, looked, true));
    until("it waits to be looked at", || async { home.shares.inner.quiet.len() == 1 }).await;
    home.stop().await;
}
