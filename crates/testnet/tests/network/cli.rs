//! The command line as a user runs it: the real program, in a process of its own, against a peer of the network.

use std::{collections::BTreeMap, path::Path, process::Output, time::Duration};

use content::ContentId;
use testnet::{Network, PATIENCE, Peer, read, sample, until};
use tokio::process::Command;

use crate::big;

const PEER: &str = env!("CARGO_BIN_EXE_testnet-peer");

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn run(peer: &Peer, args: &[&str]) -> Ran {
    run_at(&format!("http://{}", peer.address()), args).await
}

pub(crate) async fn run_at(url: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(PEER);
    command.env_clear().args(args).args(["--pclient", url]).kill_on_drop(true);
    let ran = tokio::time::timeout(PATIENCE, command.output()).await;
    let Output { status, stdout, stderr } = ran.expect("the command ends in time").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The files beneath a folder, each with its content.
fn tree(folder: &Path) -> BTreeMap<String, ContentId> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            files.insert(name, ContentId::of(&read(entry.path())));
        }
    }
    files
}

async fn shares(peer: &Peer, files: u64) {
    until(&format!("{files} files are shared"), async || {
        let shared = peer.status().await.shared;
        (shared.files == files && shared.announced && shared.hashing_files == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_fetched_with_its_tree() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let carla = network.peer("carla").await;
    // More than two batches, in folders, with one large file and names of all sorts.
    for n in 0..2_300 {
        ana.put(&format!("photos/d{:02}/img {n:04}.jpg", n % 40), &sample(1_000 + n, 300));
    }
    ana.put("photos/2026/film.mov", &big(20, 3));
    ana.put("photos/Ñandú #1 (ok).txt", b"a name");
    let wanted = tree(&ana.share_dir().join("photos"));
    // Not in the folder, though a search for it finds them.
    ana.put("my photos/other.jpg", b"other");
    ana.put("photos.txt", b"another file");
    // Others know one of the files by another name, and have something of their own in a folder of that name.
    for (peer, name) in [(&ben, "b"), (&carla, "c")] {
        peer.put(&format!("favourite photos/{name}.mov"), &big(20, 3));
    }
    ben.put("photos/of ben.jpg", b"of ben");
    shares(&ana, 2_304).await;
    shares(&ben, 2).await;
    shares(&carla, 1).await;

    let dora = network.peer("dora").await;
    let ran = run(&dora, &["get", "photos"]).await;
    assert_eq!(ran.code, Some(0), "{} {}", ran.out, ran.err);
    let mut expected = wanted.clone();
    expected.insert("of ben.jpg".to_owned(), ContentId::of(b"of ben"));
    let place = dora.download_dir().join("photos");
    assert_eq!(tree(&place), expected);
    assert_eq!(std::fs::read_dir(dora.download_dir()).unwrap().count(), 1, "and nothing else came");
    assert!(ran.out.starts_with(&format!("{}: 2303 files, ", place.display())), "{}", ran.out);

    // Again: all is there. A part of it, another file and a folder besides, into a folder of the user's.
    let before = ana.sent();
    let again = run(&dora, &["get", "photos/"]).await;
    assert_eq!((again.code, again.out), (Some(0), ran.out));
    let target = network.folder("target");
    std::fs::create_dir(&target).unwrap();
    let path = target.display().to_string();
    let ran = run(&dora, &["get", "photos/d07/", "photos.txt", "-o", &path, "--json"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let copied = tree(&target);
    assert_eq!(copied.len(), 59, "{copied:?}");
    assert_eq!(copied["photos.txt"], ContentId::of(b"another file"));
    assert_eq!(copied["photos/d07/img 0007.jpg"], wanted["d07/img 0007.jpg"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.out).unwrap().as_array().unwrap().len(), 59);
    assert!(ana.sent() - before < 1_000, "what was here was not fetched again");
    // Nothing is overwritten.
    let ran = run(&dora, &["get", "photos.txt", "-o", &path]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("is there already") && !ran.err.contains("os error"), "{}", ran.err);
    network.end([dora, carla, ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_fetched_is_told_with_its_exit_code() {
    let mut network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    for n in 0..70 {
        ana.put(&format!("many {n:02}.dat"), &sample(2_000 + n, 100));
    }
    ana.put("same", b"the same bytes");
    ana.put("same again", b"the same bytes");
    shares(&ana, 72).await;
    let unknown = ContentId::of(b"nobody has this").to_string();
    for (args, code, says) in [
        (&["get", &unknown][..], 3, "nobody shares"),
        (&["get", "nothing of that name"], 3, "nobody shares a file or folder named"),
        (&["get", "nothing/"], 3, "nobody shares a file or folder named"),
        (&["get", "many"], 2, "and 50 more"),
        (&["get", "many 01.dat", "many 02.dat", "-o", "-"], 2, "-o -: several files"),
        (&["share", "/"], 1, "PEER_DATA_DIR"),
        (&["search", "many"], 0, "the first 50; there are more"),
        (&["search", "many", "--all"], 0, ""),
    ] {
        let ran = run(&ben, args).await;
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
        assert!(ran.err.contains(says) && ran.err.is_empty() == says.is_empty(), "{args:?}: {ran:?}");
        assert_eq!(ran.out.is_empty(), code != 0, "{args:?}: {ran:?}");
    }
    let all = run(&ben, &["search", "many", "--all", "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&all.out).unwrap().as_array().unwrap().len(), 70);
    // One of two names of the same bytes is enough.
    let ran = run(&ben, &["get", "same", "same again", "many 03.dat"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("1 file with the same bytes as others"), "{}", ran.err);

    // Nobody reads the rest: that is no complaint.
    let url = format!("http://{}", ben.address());
    let pipe = format!("{PEER} search many --all --pclient {url} | head -1; echo ${{PIPESTATUS[0]}}");
    let ended = Command::new("bash").args(["-c", &pipe]).kill_on_drop(true).output().await.unwrap();
    assert_eq!(ended.stderr, b"");
    let printed = String::from_utf8(ended.stdout).unwrap();
    assert!(printed.starts_with("CONTENT ID") && printed.trim_end().ends_with(['0', '1']), "{printed}");

    // A name that a form cannot carry, and the true reason for it.
    let evil = network.folder("esc\u{1b}[31m\nred");
    std::fs::write(&evil, "x").unwrap();
    let ran = run(&ben, &["share", evil.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("U+001B") && !ran.err.contains('\u{1b}'), "{}", ran.err);

    // The directory goes: what is here needs nobody, and all else says where it is stuck.
    let here = run(&ben, &["get", "many 03.dat"]).await;
    assert_eq!(here.code, Some(0));
    network.directory.stop().await;
    let id = ContentId::of(&sample(2_003, 100)).to_string();
    assert_eq!(run(&ben, &["get", &id]).await.code, Some(0));
    for args in [&["search", "many"][..], &["get", "many 04.dat"], &["get", &unknown], &["peers"]] {
        let ran = run(&ben, args).await;
        assert_eq!(ran.code, Some(4), "{args:?}: {ran:?}");
        assert!(ran.err.contains("the directory at http://"), "{args:?}: {ran:?}");
    }
    // Also for a peer that never reached it.
    let carla = network.peer_unconnected("carla").await;
    for args in [&["search", "x"][..], &["get", "x"], &["get", &unknown], &["peers"]] {
        let ran = run(&carla, args).await;
        assert_eq!(ran.code, Some(4), "{args:?}: {ran:?}");
        assert!(ran.err.contains("directory"), "{args:?}: {ran:?}");
    }
    tokio::time::timeout(Duration::from_secs(60), network.end([carla, ben, ana])).await.unwrap();
}

/// `peer` without a daemon.
async fn alone(args: &[&str]) -> Ran {
    let mut command = Command::new(PEER);
    let Output { status, stdout, stderr } = command.env_clear().args(args).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_are_taken_by_a_shell_and_every_command_has_a_page() {
    let script = alone(&["completions", "bash"]).await;
    assert_eq!((script.code, script.err.as_str()), (Some(0), ""));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peer.bash");
    std::fs::write(&file, &script.out).unwrap();
    // As bash does when a user has typed `peer se` and a tab.
    let asks =
        "source \"$1\"; COMP_WORDS=(peer se); COMP_CWORD=1; _peer peer se peer; echo \"${COMPREPLY[@]}\"";
    let shell = Command::new("bash").args(["-c", asks, "bash"]).arg(&file).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&shell.stdout).trim(), "search send sessions", "{shell:?}");

    let page = alone(&["man"]).await;
    assert!(page.out.contains(".TH peer 1") && page.out.contains("PCLIENT_LISTEN"), "{}", page.out);
    let pages = alone(&["man", folder.path().to_str().unwrap()]).await;
    assert_eq!((pages.code, pages.err.as_str()), (Some(0), ""));
    let help = alone(&["--help"]).await.out;
    let commands = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(names.contains(&"search") && names.contains(&"man"), "{help}");
    for name in names.into_iter().filter(|name| !name.is_empty() && *name != "help") {
        let page = read(folder.path().join(format!("peer-{name}.1")));
        assert!(String::from_utf8_lossy(&page).contains("SYNOPSIS"), "{name}");
    }
    let written = std::fs::read_dir(folder.path()).unwrap().map(|page| page.unwrap().file_name());
    let helps: Vec<_> = written.filter(|page| page.to_string_lossy().contains("help")).collect();
    assert!(helps.is_empty(), "pages about the word `help`: {helps:?}");
    let nowhere = alone(&["man", "/nowhere/at all"]).await;
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.err.contains("/nowhere/at all"), "{}", nowhere.err);
    assert_eq!(alone(&["completions", "tcsh"]).await.code, Some(2));
}
