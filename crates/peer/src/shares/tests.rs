//! Shared folders as their users see them: what appears, changes, moves and goes, with real files and a real watcher.

use std::{
    collections::BTreeSet,
    future::Future,
    io::{Read, Write},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use content::PIECE_SIZE;
use tokio::sync::broadcast;

use super::*;
use crate::store::Store;

mod changing;

/// Shared folders on disk, and everything that follows them.
struct Home {
    folder: tempfile::TempDir,
    lifecycle: Lifecycle,
    library: Library,
    shares: Shares,
    events: broadcast::Receiver<FileEvent>,
}

impl Home {
    async fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    async fn over(folder: tempfile::TempDir) -> Self {
        let store = Store::open(&folder.path().join("data/peer.sqlite")).unwrap();
        let library = Library::open(store, Clock::system()).await.unwrap();
        let events = library.subscribe();
        let lifecycle = Lifecycle::new();
        let settings = Settings {
            folders: vec![folder.path().join("share"), folder.path().join("more")],
            download_dir: folder.path().join("downloads"),
            data_dir: folder.path().join("data"),
        };
        let shares = Shares::start(&settings, library.clone(), Clock::system(), &lifecycle).unwrap();
        let mut home = Self { folder, lifecycle, library, shares, events };
        home.scanned().await;
        home
    }

    async fn stop(self) -> tempfile::TempDir {
        self.lifecycle.finish().await;
        assert_eq!(self.lifecycle.failed_task(), None);
        self.folder
    }

    /// Stops, lets the world change, and starts again.
    async fn away(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let folder = self.stop().await;
        meanwhile(&folder.path().join("share"));
        Self::over(folder).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("share").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn names(&self) -> BTreeSet<String> {
        self.library.all().iter().map(|entry| entry.name.to_string()).collect()
    }

    async fn has(&self, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        until(&format!("{wanted:?}"), || async { self.names() == wanted }).await;
    }

    async fn scanned(&mut self) {
        let mut scans = self.shares.scans();
        let before = *scans.borrow();
        if before > 0 {
            self.shares.rescan();
        }
        tokio::time::timeout(LONG, scans.wait_for(|&now| now > before)).await.unwrap().unwrap();
        until("nothing waits", || async { self.shares.progress() == (0, 0) }).await;
    }

    async fn refusal(&mut self, part: &str) -> String {
        let waiting = async {
            loop {
                if let FileEvent::Refused { path, detail } = self.events.recv().await.unwrap()
                    && path.contains(part)
                {
                    return detail;
                }
            }
        };
        tokio::time::timeout(LONG, waiting).await.unwrap()
    }
}

const LONG: Duration = Duration::from_secs(20);

/// Waits for a condition.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LONG, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn all(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs::File::open(path).unwrap().take(1 << 30).read_to_end(&mut bytes).unwrap();
    bytes
}

fn bytes(size: u64, seed: u8) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at.wrapping_mul(2_654_435_761) >> 13) & 255).unwrap() ^ seed).collect()
}

async fn share(home: &Home, path: &Path) -> Result<Arc<SharedEntry>, Failure> {
    match home.shares.share(path, None).await? {
        Shared::File(entry) => Ok(entry),
        Shared::Folder { .. } => panic!("it is a file"),
    }
}

#[tokio::test]
async fn boundary_sizes_get_the_hash_that_b3sum_prints() {
    let mut home = Home::new().await;
    let sizes = [
        0,
        1,
        1024,
        PIECE_SIZE - 1,
        PIECE_SIZE,
        PIECE_SIZE + 1,
        2 * PIECE_SIZE,
        2 * PIECE_SIZE + 1,
        4 * PIECE_SIZE,
        4 * PIECE_SIZE + 1,
        9 * PIECE_SIZE + 77,
    ];
    for size in sizes {
        home.write(&format!("sizes/{size}"), &bytes(size, 1));
    }
    home.scanned().await;
    until("all", || async { home.names().len() == sizes.len() }).await;
    for size in sizes {
        let entry = home.library.by_path(&home.path(&format!("sizes/{size}"))).unwrap();
        assert_eq!(entry.content_id, ContentId::of(&bytes(size, 1)), "{size}");
        assert_eq!(entry.name.as_str(), format!("sizes/{size}"));
        let outline = home.library.outline(&entry.content_id).unwrap().unwrap();
        assert_eq!(outline.layout().size(), size);
    }
    home.stop().await;
}

#[tokio::test]
async fn what_happens_in_the_folder_happens_in_the_library() {
    let home = Home::new().await;
    let a = home.write("a.txt", b"one");
    home.write("sub/deep/b.txt", b"two");
    home.has(&["a.txt", "sub/deep/b.txt"]).await;
    let hashed = home.shares.hashed_files();
    assert_eq!(hashed, 2);

    let start = Instant::now();
    fs::rename(&a, home.path("c.txt")).unwrap();
    home.has(&["c.txt", "sub/deep/b.txt"]).await;
    fs::rename(home.path("sub"), home.path("moved")).unwrap();
    home.has(&["c.txt", "moved/deep/b.txt"]).await;
    assert_eq!(home.shares.hashed_files(), hashed, "the same files under other names are not read again");
    fs::hard_link(home.path("c.txt"), home.path("moved/link.txt")).unwrap();
    home.has(&["c.txt", "moved/deep/b.txt", "moved/link.txt"]).await;
    assert!(start.elapsed() < Duration::from_secs(3));

    home.write("c.txt", b"another");
    until("the new bytes", || async { home.library.get(&ContentId::of(b"another")).is_some() }).await;
    // The hard link is the same file, so its old bytes are gone with it.
    until("the old gone", || async { home.library.get(&ContentId::of(b"one")).is_none() }).await;
    home.has(&["c.txt", "moved/deep/b.txt", "moved/link.txt"]).await;

    let start = Instant::now();
    fs::remove_dir_all(home.path("moved")).unwrap();
    home.has(&["c.txt"]).await;
    fs::remove_file(home.path("c.txt")).unwrap();
    home.has(&[]).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    home.stop().await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_hashed_once_when_it_is_quiet() {
    let home = Home::new().await;
    home.write("growing", b"");
    let mut file = fs::OpenOptions::new().append(true).open(home.path("growing")).unwrap();
    for _ in 0..20 {
        file.write_all(&bytes(100_000, 3)).unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await; // stands for a slow copy
    }
    home.has(&["growing"]).await;
    let entry = home.library.by_path(&home.path("growing")).unwrap();
    assert_eq!((entry.size, home.shares.hashed_files()), (2_000_000, 1));

    // A shared file that somebody keeps appending to leaves the library before it is quiet.
    let start = Instant::now();
    while !home.names().is_empty() {
        assert!(start.elapsed() < LONG, "never withdrawn");
        file.write_all(b"more").unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    home.has(&["growing"]).await;
    home.stop().await;
}

#[tokio::test]
async fn what_did_not_change_while_we_were_off_is_served_at_once_and_not_read_again() {
    let home = Home::new().await;
    home.write("same", &bytes(3 * PIECE_SIZE, 1));
    home.write("gone", b"gone");
    home.write("changed", b"before");
    home.write("old name", &bytes(4 * PIECE_SIZE, 2));
    home.has(&["same", "gone", "changed", "old name"]).await;
    let home = home
        .away(|share| {
            fs::remove_file(share.join("gone")).unwrap();
            fs::write(share.join("changed"), b"after!").unwrap();
            fs::rename(share.join("old name"), share.join("new name")).unwrap();
        })
        .await;
    home.has(&["same", "changed", "new name"]).await;
    assert_eq!(home.library.by_path(&home.path("changed")).unwrap().content_id, ContentId::of(b"after!"));
    assert_eq!(home.shares.hashed_files(), 1, "only what changed");
    let moved = home.library.by_path(&home.path("new name")).unwrap();
    assert!(home.library.outline(&moved.content_id).unwrap().is_some());
    home.stop().await;
}

#[tokio::test]
async fn what_was_unshared_stays_so_over_scans_and_restarts_until_it_is_asked_for() {
    let mut home = Home::new().await;
    let path = home.write("private", b"mine");
    home.write("public", b"ours");
    home.has(&["private", "public"]).await;
    home.library.unshare(&ContentId::of(b"mine")).await.unwrap();
    assert!(path.exists());
    home.scanned().await;
    home.has(&["public"]).await;
    let mut home = home
        .away(|share| {
            fs::rename(share.join("private"), share.join("renamed")).unwrap();
            fs::write(share.join("private"), b"mine, edited").unwrap();
        })
        .await;
    home.scanned().await;
    home.has(&["public"]).await;
    let entry = share(&home, &home.path("renamed")).await.unwrap();
    assert_eq!(entry.content_id, ContentId::of(b"mine"));
    home.has(&["public", "renamed"]).await;
    home.stop().await;
}

/// Writes other bytes of the same length into a file and puts its old time back, as some tools do.
fn change_in_secret(path: &Path, bytes: &[u8]) {
    let before = fs::metadata(path).unwrap();
    assert_eq!(before.len(), bytes.len() as u64);
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), before.modified().unwrap());
}

#[tokio::test]
async fn bytes_that_were_changed_and_got_their_old_time_back_are_read_again() {
    let home = Home::new().await;
    home.write("watched", b"before");
    home.write("while off", b"before2");
    home.write("touched", b"the same");
    home.has(&["watched", "while off", "touched"]).await;
    let content = |home: &Home, name: &str| home.library.by_path(&home.path(name)).unwrap().content_id;

    change_in_secret(&home.path("watched"), b"after!");
    until("it was read again", || async { content(&home, "watched") == ContentId::of(b"after!") }).await;
    let home = home.away(|share| change_in_secret(&share.join("while off"), b"after!2")).await;
    until("that too", || async { content(&home, "while off") == ContentId::of(b"after!2") }).await;

    // Where the bytes are the same after all, nothing happens but the reading.
    let mut changes = home.library.changes();
    changes.mark_unchanged();
    let hashed = home.shares.hashed_files();
    let touched = home.path("touched");
    fs::set_permissions(&touched, fs::Permissions::from_mode(0o640)).unwrap();
    until("it was read again", || async { home.shares.hashed_files() > hashed }).await;
    let stamp = FileStamp::of(&fs::metadata(&touched).unwrap());
    until("its stamp is taken", || async { home.library.by_path(&touched).unwrap().stamp == stamp }).await;
    assert_eq!(content(&home, "touched"), ContentId::of(b"the same"));
    assert!(!changes.has_changed().unwrap(), "the directory need not hear of it");
    home.stop().await;
}

#[tokio::test]
async fn a_folder_whose_place_a_link_takes_is_withdrawn_with_all_that_was_in_it() {
    let home = Home::new().await;
    home.write("sub/one", b"one");
    home.write("sub/deep/two", b"two");
    home.write("other", b"other");
    home.has(&["sub/one", "sub/deep/two", "other"]).await;
    // The link even leads to the very same files.
    let outside = home.folder.path().join("outside");
    let start = Instant::now();
    fs::rename(home.path("sub"), &outside).unwrap();
    symlink(&outside, home.path("sub")).unwrap();
    home.has(&["other"]).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    fs::remove_file(home.path("sub")).unwrap();
    fs::rename(&outside, home.path("sub")).unwrap();
    home.has(&["sub/one", "sub/deep/two", "other"]).await;
    let home = home
        .away(|share| {
            fs::rename(share.join("sub"), &outside).unwrap();
            symlink(&outside, share.join("sub")).unwrap();
        })
        .await;
    home.has(&["other"]).await;
    home.stop().await;
}

#[tokio::test]
async fn folders_that_would_share_the_keys_are_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let open = |share: &str, downloads: &str| Roots::open(&[at(share)], &at(downloads), &at("data"));
    for (share, downloads, setting) in [
        ("data", "downloads", "PEER_SHARE_DIR"),
        ("data/share", "downloads", "PEER_SHARE_DIR"),
        ("share", "data", "PEER_DOWNLOAD_DIR"),
        ("share", "data/downloads", "PEER_DOWNLOAD_DIR"),
    ] {
        let failure = open(share, downloads).unwrap_err();
        assert!(failure.detail.starts_with(setting) && failure.detail.contains("PEER_DATA_DIR"), "{failure}");
    }
    // Also by way of a link.
    symlink(at("data"), at("alias")).unwrap();
    assert!(open("alias", "downloads").is_err());
    let roots = open(".", "downloads").unwrap();
    fs::write(at("data/identity.key"), b"a key").unwrap();
    assert_eq!(roots.place(&roots.data.join("identity.key")), Place::Ignored);
    for name in ["data", "data/identity.key"] {
        assert_eq!(roots.resolve(&at(name)).unwrap_err().code, ErrorCode::Unprocessable, "{name}");
    }
    let roots = open("share", "downloads").unwrap();
    for above in [folder.path(), Path::new("/")] {
        assert_eq!(roots.resolve(above).unwrap_err().code, ErrorCode::Unprocessable, "{}", above.display());
    }
    fs::create_dir(at("beside")).unwrap();
    assert_eq!(roots.resolve(&at("beside")).unwrap_err().code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn nothing_outside_the_shared_folders_is_shared() {
    let mut home = Home::new().await;
    let outside = home.folder.path().join("secret");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("key"), b"secret").unwrap();
    symlink(outside.join("key"), home.path("link")).unwrap();
    symlink(&outside, home.path("folder")).unwrap();
    home.write("inside", b"fine");
    symlink(home.path("inside"), home.path("alias")).unwrap();
    home.write(".trueque-upload-x", b"half");
    home.scanned().await;
    home.has(&["inside"]).await;

    for path in ["link", "folder", "folder/key", "../secret/key"] {
        let failure = home.shares.share(&home.path(path), None).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::PermissionDenied, "{path}: {failure}");
    }
    let missing = home.shares.share(&home.path("nothing"), None).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
    let ours = home.shares.share(&home.path(".trueque-upload-x"), None).await.unwrap_err();
    assert_eq!(ours.code, ErrorCode::Unprocessable);
    // A link that stays inside names the file that it leads to; a relative path is one beneath a shared folder.
    assert_eq!(share(&home, &home.path("alias")).await.unwrap().name.as_str(), "inside");
    assert_eq!(share(&home, Path::new("inside")).await.unwrap().name.as_str(), "inside");

    // A file whose place a link takes is withdrawn, and not followed.
    fs::remove_file(home.path("inside")).unwrap();
    symlink(outside.join("key"), home.path("inside")).unwrap();
    home.has(&[]).await;
    home.stop().await;
}

#[tokio::test]
async fn what_cannot_be_shared_is_told_once() {
    use std::os::unix::ffi::OsStrExt;
    let mut home = Home::new().await;
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(home.path("").join(latin), b"x").unwrap();
    assert!(home.refusal("caf").await.contains("UTF-8"));
    home.write("evil\u{202e}fdp.exe", b"x");
    assert!(home.refusal("evil").await.contains("U+202E"));
    home.write("fine", b"x");
    home.scanned().await;
    home.has(&["fine"]).await;
    let again = std::iter::from_fn(|| home.events.try_recv().ok());
    assert!(!again.into_iter().any(|event| matches!(event, FileEvent::Refused { .. })));
    let failure = home.shares.share(&home.path("evil\u{202e}fdp.exe"), None).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unprocessable);
    home.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_refused() {
    let mut home = Home::new().await;
    let path = home.write("locked", b"x");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        return drop(home.stop().await); // root reads everything
    }
    assert!(home.refusal("locked").await.contains("cannot be read"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    home.has(&["locked"]).await;
    home.stop().await;
}

#[tokio::test]
async fn a_folder_is_shared_with_those_it_is_meant_for() {
    let home = Home::new().await;
    let ana = || Audience::Users(vec!["ana".parse().unwrap()]);
    home.write("for ana/1", b"1");
    home.write("for ana/2", b"2");
    home.has(&["for ana/1", "for ana/2"]).await;
    home.library.unshare(&ContentId::of(b"2")).await.unwrap();
    home.write("for ana/3", b"3");
    match home.shares.share(&home.path("for ana"), Some(ana())).await.unwrap() {
        Shared::Folder { files, .. } => assert_eq!(files, 3),
        Shared::File(_) => panic!("it is a folder"),
    }
    home.has(&["for ana/1", "for ana/2", "for ana/3"]).await;
    home.write("for ana/later", b"4");
    home.write("for all", b"5");
    home.has(&["for all", "for ana/1", "for ana/2", "for ana/3", "for ana/later"]).await;
    for entry in home.library.all() {
        let wanted = if entry.name.as_str() == "for all" { Audience::Network } else { ana() };
        assert_eq!(entry.audience, wanted, "{}", entry.name);
    }
    // Edited, it is still for ana alone.
    home.write("for ana/1", b"1, edited");
    until("edited", || async { home.library.get(&ContentId::of(b"1, edited")).is_some() }).await;
    assert_eq!(home.library.get(&ContentId::of(b"1, edited")).unwrap().audience, ana());
    home.stop().await;
}

#[tokio::test]
async fn uploads_take_the_next_free_name_and_overwrite_nothing() {
    let home = Home::new().await;
    let name = |text: &str| SafeName::new(text).unwrap();
    let upload = |bytes: &'static [u8], to: &str| {
        let temp = home.shares.upload_target().join(format!(".trueque-upload-{}", bytes.len()));
        fs::write(&temp, bytes).unwrap();
        let adopting = home.shares.adopt_upload(temp.clone(), name(to), None);
        async move {
            let entry = adopting.await;
            assert!(!temp.exists());
            entry
        }
    };
    let first = upload(b"first", "docs/a.txt").await.unwrap();
    assert_eq!(first.path, home.path("docs/a.txt"));
    assert_eq!(upload(b"first", "docs/a.txt").await.unwrap(), first, "the same again");
    let second = upload(b"the second", "docs/a.txt").await.unwrap();
    assert_eq!(second.name.as_str(), "docs/a (2).txt");
    assert_eq!(all(&first.path), b"first");
    home.has(&["docs/a.txt", "docs/a (2).txt"]).await;
    assert_eq!(home.shares.hashed_files(), 3, "once each, as it arrived");

    let outside = home.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, home.path("trap")).unwrap();
    upload(b"must not get out", "trap/x").await.unwrap_err();
    assert!(fs::read_dir(&outside).unwrap().next().is_none());

    fs::write(home.path(".trueque-upload-left"), b"half").unwrap();
    let home = home.away(|_| {}).await;
    assert!(!home.path(".trueque-upload-left").exists());
    home.stop().await;
}

#[tokio::test]
async fn in_the_download_folder_only_what_is_known_is_followed() {
    let home = Home::new().await;
    let downloads = home.folder.path().canonicalize().unwrap().join("downloads");
    fs::write(downloads.join("unknown"), b"unknown").unwrap();
    let known = downloads.join("known");
    fs::write(&known, b"known").unwrap();
    let hasher = Hasher::start(1, PathBuf::new()).unwrap();
    let add = async || {
        let (outline, stamp) = hasher.hash(known.clone(), 0, Cancel::default()).await.unwrap();
        let file = NewFile::new(known.clone(), SafeName::new("known").unwrap(), stamp, outline);
        home.library.add(vec![file]).await.unwrap();
    };
    add().await;
    home.has(&["known"]).await;
    fs::write(&known, b"known, edited").unwrap();
    home.has(&[]).await;
    add().await;
    home.has(&["known"]).await;
    fs::remove_file(&known).unwrap();
    home.has(&[]).await;
    home.stop().await;
}

#[tokio::test]
async fn a_nudge_finds_what_no_event_told() {
    let home = Home::new().await;
    let path = home.write("file", b"before");
    home.has(&["file"]).await;
    // As if the watcher had missed it: the entry of another file lies at this path.
    let entry = home.library.by_path(&path).unwrap();
    let stamp = FileStamp { size: 99, ..entry.stamp };
    let outline = home.library.outline(&entry.content_id).unwrap().unwrap();
    let wrong = NewFile::new(path.clone(), entry.name.clone(), stamp, outline);
    home.library.add(vec![wrong]).await.unwrap();
    home.shares.nudge(&path);
    until("right", || async { home.library.by_path(&path).is_some_and(|e| e.stamp == entry.stamp) }).await;
    home.stop().await;
}

#[tokio::test]
async fn a_shared_folder_that_goes_and_comes_back_is_followed_again() {
    let mut home = Home::new().await;
    home.write("a", b"a");
    home.has(&["a"]).await;
    fs::remove_dir_all(home.path("")).unwrap();
    home.has(&[]).await;
    home.write("b", b"b");
    home.scanned().await;
    home.has(&["b"]).await;
    home.write("c", b"c");
    home.has(&["b", "c"]).await;
    home.stop().await;
}

#[tokio::test]
async fn folders_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), b"").unwrap();
    let store = Store::open(&folder.path().join("peer.sqlite")).unwrap();
    let library = Library::open(store, Clock::system()).await.unwrap();
    let settings = Settings {
        folders: vec![folder.path().join("file")],
        download_dir: folder.path().join("downloads"),
        data_dir: folder.path().join("data"),
    };
    let failure = Shares::start(&settings, library, Clock::system(), &Lifecycle::new()).unwrap_err();
    assert!(failure.detail.contains("file"), "{failure}");
}
