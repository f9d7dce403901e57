//! The doctor: looks at everything that a peer needs, inside the peer that runs, and says what works, what does not,
//! and what to do.
//!
//! Each check does the thing itself and does not ask whether it should work: a file is written, the advertised address
//! is dialled, a sealed question goes through the broker and back. Each has a deadline of its own, all run side by side,
//! and nothing is changed or left behind. What is switched off on purpose is no failure.
//!
//! - [`directory`]: the directories, the session, the clock.
//! - [`machine`]: folders, free space, open files.
//! - [`doors`]: the door for other peers, as they would come in, and the certificate that is shown there.
//! - [`relay`]: the broker, a round trip through it, and what lies in its queues.
//!
//! No address or name of another peer, and no login, is in what it says.

mod directory;
mod doors;
mod machine;
mod relay;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use daemon::Clock;
use tokio::sync::Mutex;
use wire::{
    ErrorCode, PeerId,
    rest::pclient::{Check, CheckResult, Examination},
};

use crate::{
    Failure,
    directory_link::{DirectoryClient, Session},
    link::{Links, Target},
    relay::Relay,
    shares::Shares,
    tls::NetworkTls,
};

/// What is not known after this time does not answer.
const LIMIT: Duration = Duration::from_secs(15);

/// What the doctor looks at.
pub struct Parameters {
    pub clock: Clock,
    pub directory: DirectoryClient,
    pub session: Session,
    pub tls: NetworkTls,
    pub links: Links,
    /// None where there is none at all, as in tests.
    pub relay: Option<Relay>,
    pub own_id: PeerId,
    /// The public half of the sealing key, 64 hex digits.
    pub sealing_key: String,
    /// Whether the door for other peers is open.
    pub listens: bool,
    pub advertise: Vec<String>,
    pub data_dir: PathBuf,
    pub download_dir: PathBuf,
    pub share_dirs: Vec<PathBuf>,
    pub shares: Shares,
}

/// Examines this peer. Clones are the same.
#[derive(Clone)]
pub struct Doctor {
    parts: Arc<Parameters>,
    /// One examination at a time.
    at_work: Arc<Mutex<()>>,
}

impl Doctor {
    pub fn new(parts: Parameters) -> Self {
        Self { parts: Arc::new(parts), at_work: Arc::default() }
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// `rate_limited` while another examination runs.
    pub async fn examine(&self) -> Result<Examination, Failure> {
        let Ok(_one_at_a_time) = self.at_work.try_lock() else {
            metrics::counter!("trueque_refusals_total", "reason" => "examinations at once").increment(1);
            return Err(Failure::new(ErrorCode::RateLimited, "the doctor is at work; try again in a moment"));
        };
        let parts = &*self.parts;
        let groups = tokio::join!(
            in_time("directory", directory::look(parts)),
            in_time("folders", machine::look(parts)),
            in_time("pserver", doors::look(parts)),
            in_time("relay", relay::look(parts)),
        );
        let checks: Vec<Check> = [groups.0, groups.1, groups.2, groups.3].concat();
        let healthy = checks.iter().all(|check| check.result != CheckResult::Failed);
        Ok(Examination { version: env!("CARGO_PKG_VERSION").to_owned(), healthy, checks })
    }
}

impl Parameters {
    /// This peer, as others see it.
    fn itself(&self, endpoints: Vec<String>) -> Option<Target> {
        let username = self.session.status().username?;
        Some(Target { peer_id: self.own_id, username, endpoints, sealing_key: self.sealing_key.clone() })
    }
}

async fn in_time(name: &str, looking: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    let silent = || {
        vec![failed(
            name,
            format!("no answer within {} s", LIMIT.as_secs()),
            "look at the log of this peer; if it says nothing, start it again",
        )]
    };
    tokio::time::timeout(LIMIT, looking).await.unwrap_or_else(|_| silent())
}

fn ok(name: &str, found: impl Into<String>) -> Check {
    Check { name: name.to_owned(), result: CheckResult::Ok, found: found.into(), advice: None }
}

fn warning(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    let advice = Some(advice.into());
    Check { name: name.to_owned(), result: CheckResult::Warning, found: found.into(), advice }
}

fn failed(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { result: CheckResult::Failed, ..warning(name, found, advice) }
}

/// `12 ms`, `3.2 s`.
fn took(time: Duration) -> String {
    match time.as_millis() {
        0 => "less than 1 ms".to_owned(),
        millis @ 1..1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// `12 days`, `5 hours`, `40 minutes`.
fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        172_800.. => (seconds / 86_400, "days"),
        7_200.. => (seconds / 3_600, "hours"),
        120.. => (seconds / 60, "minutes"),
        _ => (seconds, "seconds"),
    };
    format!("{count} {unit}")
}

impl std::fmt::Debug for Doctor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doctor").field("own_id", &self.parts.own_id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameters").field("own_id", &self.own_id).finish_non_exhaustive()
    }
}
