//! How fast files are hashed and shared, in MB/s: one big file and a folder of small ones, to be read beside `b3sum`.
//!
//! `cargo run --release -p peer --example bench_hash [FOLDER]`: makes its files in FOLDER (default `/dev/shm`), shares
//! them with everything that a running peer has (scan, hash, store, index), and removes them.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use daemon::{Clock, Lifecycle};
use peer::{
    library::Library,
    shares::{Settings, Shares},
    store::Store,
};

const BIG: u64 = 1 << 30;
const SMALL_FILES: u64 = 20_000;
const SMALL: u64 = 16 << 10;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let base = std::env::args().nth(1).unwrap_or_else(|| "/dev/shm".to_owned());
    let folder = Path::new(&base).join("trueque-bench-hash");
    let _leftover = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let made = run(&folder).await;
    fs::remove_dir_all(&folder)?;
    made
}

async fn run(folder: &Path) -> anyhow::Result<()> {
    let (big, small) = (folder.join("big"), folder.join("small"));
    fs::create_dir_all(&big)?;
    write_noise(&big.join("big.bin"), BIG, 1)?;
    for n in 0..SMALL_FILES {
        let part = small.join(format!("{:03}", n / 100));
        fs::create_dir_all(&part)?;
        write_noise(&part.join(format!("{n}.bin")), SMALL, n + 2)?;
    }
    // What was written just now is left alone for a moment; that moment is not measured.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (what, shared, files, bytes) in
        [("one file", &big, 1, BIG), ("a folder", &small, SMALL_FILES, SMALL_FILES * SMALL)]
    {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..ROUNDS {
            theirs.push(b3sum(shared)?);
            ours.push(share(folder, shared, files).await?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = |took: Duration| bytes as f64 / took.as_secs_f64() / 1e6;
        println!(
            "{what} ({files} files, {bytes} bytes): shared in {ours:.3?} = {:.0} MB/s; b3sum {theirs:.3?} = {:.0} MB/s; ratio {:.2}",
            rate(ours),
            rate(theirs),
            rate(ours) / rate(theirs),
        );
    }
    Ok(())
}

/// From the start of the folders to the last file in the library, with a store of its own.
async fn share(folder: &Path, shared: &Path, files: u64) -> anyhow::Result<Duration> {
    let data = folder.join("data");
    let _none = fs::remove_dir_all(&data);
    let library = Library::open(Store::open(&data.join("peer.sqlite"))?, Clock::system()).await?;
    let lifecycle = Lifecycle::new();
    let settings = Settings {
        folders: vec![shared.to_owned()],
        download_dir: folder.join("downloads"),
        data_dir: folder.join("data"),
    };
    let mut changes = library.changes();
    let start = Instant::now();
    let shares = Shares::start(&settings, library.clone(), Clock::system(), &lifecycle)?;
    while library.totals().0 < files {
        changes.changed().await?;
    }
    let took = start.elapsed();
    lifecycle.finish().await;
    anyhow::ensure!(shares.hashed_files() == files, "{} files were hashed", shares.hashed_files());
    Ok(took)
}

fn b3sum(folder: &Path) -> anyhow::Result<Duration> {
    let mut files: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect();
    files.sort();
    let start = Instant::now();
    for files in files.chunks(10_000) {
        let output = std::process::Command::new("b3sum").args(files).output()?;
        anyhow::ensure!(output.status.success(), "b3sum failed");
    }
    Ok(start.elapsed())
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// Bytes that nothing compresses, the same in every run.
fn write_noise(path: &Path, size: u64, seed: u64) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    let mut left = size;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        for chunk in buffer.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        let portion = usize::try_from(left.min(buffer.len() as u64))?;
        file.write_all(&buffer[..portion])?;
        left -= portion as u64;
    }
    Ok(())
}
