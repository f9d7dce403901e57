//! Whatever a program makes is for its own user alone, also where it was started with no umask at all.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::json;
use testnet::{Member, Network, Process, sample};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::big;

/// A program that starts another one with no umask.
fn without_umask(folder: &Path, program: &str) -> PathBuf {
    let script = folder.join("without-umask");
    fs::write(&script, format!("#!/bin/sh\numask 000\nexec {program} \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// Files and folders beneath a folder that others may look at, and how many there are in all.
fn open_to_others(folder: &Path) -> (Vec<String>, usize) {
    let (mut open, mut seen, mut folders) = (Vec::new(), 0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // What is beside a database comes and goes.
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            seen += 1;
            let mode = found.permissions().mode() & 0o777;
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            if mode != expected {
                open.push(format!("{} {mode:o}", path.display()));
            }
            if found.is_dir() {
                folders.push(path);
            }
        }
    }
    (open, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_peer_makes_is_open_to_others() {
    let network = Network::start().await;
    let scripts = tempfile::tempdir().unwrap();
    let program = without_umask(scripts.path(), env!("CARGO_BIN_EXE_testnet-peer"));
    let ana = network.peer("ana").await;
    let large = ana.share("deep/folder/large.bin", &big(90, 3)).await;
    let small: Vec<_> = [91, 92].map(|seed| (seed, sample(seed, 500))).into();
    let mut ids = Vec::new();
    for (seed, bytes) in &small {
        ids.push((ana.share(&format!("small/{seed}.bin"), bytes).await, format!("small/{seed}.bin")));
    }
    let ben = Process::peer(&network, program, "ben", &[]).await;
    for id in ids.iter().map(|(id, _)| *id).chain([large]) {
        ben.held_by(id, 1).await;
    }
    ben.fetch(large).await;
    for download in ben.start_many(&ids).await {
        ben.done(&download.id).await;
    }
    let name = "uploaded.bin";
    let part = reqwest::multipart::Part::bytes(sample(93, 700).to_vec()).file_name(name);
    let form = reqwest::multipart::Form::new().part("file", part);
    let reply = testnet::Api::reply(ben.request(reqwest::Method::POST, "/v1/files").multipart(form)).await;
    assert_eq!(reply.status, http::StatusCode::CREATED);
    let folder = network.folder("ben");
    let (open, seen) = open_to_others(&folder);
    assert!(open.is_empty(), "{open:#?}");
    // Three folders; keys, lock, session, database and what is beside it; three downloads and an upload.
    assert!(seen >= 14, "{seen}");
    assert_eq!(ben.terminate().await, Some(0));
    assert!(open_to_others(&folder).0.is_empty(), "after it ended");
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_directory_makes_is_open_to_others() {
    let scratch = tempfile::tempdir().unwrap();
    let program = without_umask(scratch.path(), env!("CARGO_BIN_EXE_testnet-directory"));
    let data = scratch.path().join("made/data");
    let mut child = Command::new(program)
        .env_clear()
        .env("DIRECTORY_LISTEN", "127.0.0.1:0")
        .env("DIRECTORY_DATA_DIR", &data)
        .current_dir(scratch.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let line =
        tokio::time::timeout(Duration::from_secs(30), out.next_line()).await.unwrap().unwrap().unwrap();
    let url = line.strip_prefix("directory listening on ").unwrap().parse().unwrap();
    let member = Member::join(&url, "ana", &[]).await;
    let put = json!({ "content_id": "ab".repeat(32), "name": "a.txt", "size": 5, "pieces_held": 1 });
    let delta = json!({ "base_revision": 0, "revision": 1, "put": [put] });
    let reply = member.ask(reqwest::Method::POST, "/v1/catalog", Some(&delta)).await;
    assert_eq!(reply.status, http::StatusCode::OK);
    let (open, seen) = open_to_others(&scratch.path().join("made"));
    assert!(open.is_empty(), "{open:#?}");
    // The folder, the authority's key and certificate, and the database.
    assert!(seen >= 4, "{seen}");
    drop(member);
    child.kill().await.unwrap();
}
