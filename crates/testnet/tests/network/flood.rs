//! A directory in a process of its own, with real passwords, amid a crowd that wants it to serve nobody else. `script/bench
//! flood` does the same with ten thousand.

use std::time::Duration;

use testnet::{Crowd, Flood, Honest, until};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

const DIRECTORY: &str = env!("CARGO_BIN_EXE_testnet-directory");
/// Milliseconds.
const PROMISED: f64 = 1_000.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amid_a_crowd_others_are_served_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(DIRECTORY)
        .env_clear()
        .envs([("DIRECTORY_LISTEN", "127.0.0.1:0"), ("RUST_LOG", "warn")])
        .current_dir(folder.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let address = line.strip_prefix("directory listening on http://").unwrap().parse().unwrap();
    let honest = Honest::join(address, "ana").await.unwrap();

    let crowd = Crowd { idle: 200, half: 200, slow: 100, guessers: 80 };
    let flood = Flood::start(address, crowd);
    until("the crowd is there", async || (flood.open() >= 450 && flood.guesses().0 > 20).then_some(())).await;
    let times = honest.asks(Duration::from_secs(4)).await.unwrap();
    let guesses = flood.guesses();
    flood.end().await;
    for (call, times) in times {
        assert!(times.calls > 10, "{call}: {times:?}");
        assert!(times.p99 < PROMISED, "{call}: {times:?}, beside {guesses:?} guesses");
    }
    assert!(guesses.1 > 0, "the queue of passwords has an end: {guesses:?}");
    child.kill().await.unwrap();
}
