//! [`Program`]: a program of ours, or another one beside it, that runs while it is measured.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context;

/// A directory or peer that runs. Killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) urls: Vec<String>,
    pub(crate) folder: PathBuf,
}

impl Program {
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        settings: &[(&str, String)],
        lines: usize,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let log = File::create(folder.join("log"))?;
        let mut child = Command::new(program)
            .current_dir(folder)
            .env_clear()
            .env("RUST_LOG", "warn")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let mut out = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut urls = Vec::new();
        for _ in 0..lines {
            let mut line = String::new();
            out.read_line(&mut line)?;
            urls.push(line.trim().rsplit(' ').next().unwrap_or_default().to_owned());
        }
        Ok(Self { child, urls, folder: folder.to_owned() })
    }

    /// Where a peer's pclient listens: what it said last.
    pub(crate) fn pclient(&self) -> &str {
        self.urls.last().map_or("", String::as_str)
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        Ok((ticks(11) + ticks(12)) / 100.0)
    }

    /// `VmRSS` or `VmHWM`, in MiB.
    pub(crate) fn memory(&self, what: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(what)).context("no such line in /proc")?;
        Ok(line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
