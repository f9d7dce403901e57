//! What an honest peer notices at a directory when ten thousand connections stand around there and passwords are tried.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use testnet::{Crowd, Flood, Honest};

use crate::Bench;

const ALONE: Duration = Duration::from_secs(5);
const AMID: Duration = Duration::from_secs(30);
/// Who never says a whole head is put out and comes again, so that more are needed for ten thousand to stand.
const CROWD: Crowd = Crowd { idle: 5_000, half: 5_000, slow: 2_500, guessers: 64 };

impl Bench {
    pub(crate) fn flood(&self) -> anyhow::Result<()> {
        let files = daemon::serve::open_files();
        ensure!(files > 18_000, "this needs 18,000 open files, and the system grants {files}");
        let directory = self.directory()?;
        let url = directory.urls.first().context("no line")?;
        let address: SocketAddr = url.trim_start_matches("http://").parse()?;
        // A thread of its own: what is measured is how long the directory takes, not this program.
        let honest = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let caller = honest.block_on(Honest::join(address, "honest")).map_err(anyhow::Error::msg)?;
        println!(
            "\n{:<34} {:>8} {:>8} {:>8} {:>7}   directory MiB",
            "one caller, ms", "p50", "p99", "max", "calls"
        );
        let print = |beside: &str, within| -> anyhow::Result<()> {
            let times = honest.block_on(caller.asks(within)).map_err(anyhow::Error::msg)?;
            let memory = directory.memory("VmRSS")?;
            for (call, times) in times {
                let name = format!("{call}, {beside}");
                let (p50, p99, max) = (times.p50, times.p99, times.max);
                println!("{name:<34} {p50:>8.1} {p99:>8.1} {max:>8.1} {:>7}   {memory}", times.calls);
            }
            Ok(())
        };
        print("alone", ALONE)?;
        let flood = {
            let _inside = self.runtime.enter();
            Flood::start(address, CROWD)
        };
        self.wait("the crowd to be there", || Ok(flood.open() >= 10_000))?;
        print("amid the flood", AMID)?;
        let (wrong, refused) = flood.guesses();
        println!(
            "beside it: {} connections, {wrong} passwords tried, {refused} tries refused; at most {} MiB",
            flood.open(),
            directory.memory("VmHWM")?
        );
        self.runtime.block_on(flood.end());
        print("afterwards", ALONE)
    }
}
