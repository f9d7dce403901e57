//! A download that cannot go on now: it waits for a holder, or for room on the disk.

use std::{path::Path, time::Duration};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testnet::{Network, Peer, read, until, until_within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wire::{ErrorCode, rest::pclient::DownloadState};

use crate::{MIB, big};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_a_holder_and_starts_soon_after_its_return() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let id = ana.share("later.bin", &big(90, 3)).await;
    ben.found("later", id, 1).await;
    let ana = ana.end().await;
    let download = ben.start(id).await;
    ben.state(&download.id, DownloadState::Waiting).await;
    // Not a failure, however long it takes.
    let ana = Peer::again(ana).await;
    until_within(Duration::from_secs(5), "it starts after the holder's return", async || {
        let state = ben.download(&download.id).await.state;
        matches!(state, DownloadState::Running | DownloadState::Finishing | DownloadState::Done).then_some(())
    })
    .await;
    ben.done(&download.id).await;
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_or_silent_in_the_middle_is_only_a_pause() {
    let network = Network::start().await;
    let proxy = network.proxy().await;
    let ana = network.peer_behind(&proxy, "ana").await;
    let ben = network.peer("ben").await;
    let id = ana.share("far.bin", &big(91, 24)).await;
    ben.found("far", id, 1).await;
    proxy.slow(12 << 20);
    let download = ben.start(id).await;
    let begun = ben.wait(&download.id, "it runs", |d| d.verified_bytes > 2 * MIB as u64).await;
    proxy.cut();
    ben.state(&download.id, DownloadState::Waiting).await;
    proxy.restore();
    let more = begun.verified_bytes + 4 * MIB as u64;
    until_within(Duration::from_secs(15), "it goes on when the line is back", async || {
        (ben.download(&download.id).await.verified_bytes > more).then_some(())
    })
    .await;
    // Nobody hangs up, nothing arrives: only a clock can tell.
    proxy.silence();
    until_within(Duration::from_secs(30), "silence is noticed", async || {
        (ben.download(&download.id).await.state == DownloadState::Waiting).then_some(())
    })
    .await;
    proxy.restore();
    proxy.slow(0);
    ben.done(&download.id).await;
    network.end([ben, ana]).await;
}

/// A disk of its own, so small that it fills.
pub(crate) struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: &Path, mebibytes: usize) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let size = std::ffi::CString::new(format!("size={mebibytes}m")).unwrap();
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), size.as_c_str())
            .expect("a small tmpfs can be mounted: this test needs to run as root");
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_download_and_room_lets_it_go_on() {
    let network = Network::start().await;
    let disk = SmallDisk::mount(&network.folder("small"), 16);
    let ana = network.peer("ana").await;
    let folder = disk.0.join("downloads");
    let ben = network.peer_with("ben", |settings| settings.download_dir = folder).await;
    let file = big(92, 12);
    let id = ana.share("fits.bin", &file).await;
    ben.found("fits", id, 1).await;
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, big(93, 10)).unwrap();
    let download = ben.start(id).await;
    let failed = until("the disk is full", async || {
        let download = ben.download(&download.id).await;
        assert_ne!(download.state, DownloadState::Done);
        (download.state == DownloadState::Failed).then_some(download)
    })
    .await;
    let error = failed.error.unwrap();
    assert_eq!(error.code, ErrorCode::StorageFull, "{error:?}");
    assert!(ben.part(id).exists(), "what has arrived is kept");
    println!("{} of {} bytes are kept", failed.verified_bytes, file.len());
    assert_eq!(read(&ballast).len(), 10 * MIB);

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(ben.resume(&download.id).await.status, 200);
    ben.done(&download.id).await;
    network.end([ben, ana]).await;
    drop(disk);
}

/// The answer to a form with this file, of a client that looks at it when everything is sent.
async fn sent_at_one_go(peer: &Peer, file: &[u8]) -> String {
    let address = peer.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let part = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"large.bin\"\r\n\r\n";
    let length = part.len() + file.len();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\n\r\n{part}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(file).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_does_not_fit_is_refused_and_leaves_nothing() {
    let network = Network::start().await;
    let disk = SmallDisk::mount(&network.folder("small"), 4);
    let folder = disk.0.join("share");
    let ana = network.peer_with("ana", |settings| settings.share_dirs = vec![folder]).await;
    let refused = ana.upload("large.bin", big(94, 8)).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (507, "storage_full"));
    // Also who sends all of it before reading a word learns why.
    let refused = sent_at_one_go(&ana, &big(96, 64)).await;
    assert!(refused.starts_with("HTTP/1.1 507 ") && refused.contains("storage_full"), "{refused}");
    assert_eq!(std::fs::read_dir(ana.share_dir()).unwrap().count(), 0);
    assert_eq!(ana.upload("small.bin", big(95, 1)).await.status, 201);
    network.end([ana]).await;
    drop(disk);
}
