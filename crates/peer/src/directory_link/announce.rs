//! Tells the directory what changed in our catalog.
//!
//! What must be told is the [`Library`]'s knowledge: given the revision that the directory holds, it has the next
//! portion. This worker only brings portions there while there is a session, one at a time, at once when something
//! changed (changes that come together go together), and believes the directory about what it holds: a conflict, a new
//! session or a renewal that tells another revision than ours makes the library answer from that one, with a full
//! announcement where it cannot build on it.

use std::{sync::Arc, time::Duration};

use daemon::Lifecycle;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use wire::ErrorCode;

use super::{Announced, DirectoryClient};
use crate::{Failure, library::Library};

/// Entries of one portion; the directory would take twice as many.
const PORTION: usize = 5_000;
/// Changes that come within this time go together.
const COALESCE: Duration = Duration::from_millis(100);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// So many conflicts in a row, and everything is announced from the start.
const PATIENCE: u32 = 3;

/// Which revision of our catalog the directory holds, as far as we know. Shared by the session, which hears of it at
/// login and renewal, and the worker here, which moves it.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// None while there is no session.
    revision: Option<u64>,
    /// Counts portions, begun and ended, so that a renewal's answer that crossed one is not believed.
    portions: u64,
    /// The library's revision that the directory has been told up to.
    settled: Option<u64>,
}

/// How things stood when a question was asked.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

impl Held {
    pub(super) fn mark(&self) -> Mark {
        Mark(self.0.borrow().portions)
    }

    /// A new session began.
    pub(super) fn opened(&self, revision: u64) {
        self.0.send_modify(|state| state.revision = Some(revision));
    }

    /// A renewal that was asked at `mark` told this revision.
    pub(super) fn renewed(&self, mark: Mark, revision: u64) {
        self.0.send_if_modified(|state| {
            let is_new = state.revision.is_none()
                || (state.portions == mark.0 && mark.0.is_multiple_of(2) && state.revision != Some(revision));
            if is_new {
                state.revision = Some(revision);
            }
            is_new
        });
    }

    /// There is no session now.
    pub(super) fn closed(&self) {
        self.0.send_if_modified(|state| state.revision.take().is_some());
    }

    /// Whether the directory has been told of everything up to the library's revision `newest`.
    pub fn is_settled(&self, newest: u64) -> bool {
        let state = *self.0.borrow();
        state.revision.is_some() && state.settled == Some(newest)
    }

    fn begin_portion(&self) {
        // Not a reason to wake anybody.
        self.0.send_if_modified(|state| {
            state.portions += 1;
            false
        });
    }

    /// A session that ended meanwhile stays ended.
    fn end_portion(&self, revision: Option<u64>) {
        self.0.send_if_modified(|state| {
            state.portions += 1;
            if let (Some(held), Some(revision)) = (&mut state.revision, revision) {
                *held = revision;
            }
            false
        });
    }

    fn settle(&self, newest: u64) {
        self.0.send_if_modified(|state| {
            state.settled = Some(newest);
            false
        });
    }
}

/// Starts the worker.
pub fn start(client: DirectoryClient, library: Library, held: Held, lifecycle: &Lifecycle) {
    let worker = Worker { client, library, held, portion: PORTION, conflicts: 0 };
    lifecycle.spawn_vital("announce", worker.run(lifecycle.soft()));
}

struct Worker {
    client: DirectoryClient,
    library: Library,
    held: Held,
    portion: usize,
    conflicts: u32,
}

/// What to do next.
enum Step {
    /// There may be more.
    Again,
    /// The directory has everything.
    Settled,
    Failed,
}

impl Worker {
    async fn run(mut self, soft: CancellationToken) {
        let mut changes = self.library.changes();
        let mut held = self.held.0.subscribe();
        loop {
            let revision = held.borrow_and_update().revision;
            let newest = *changes.borrow_and_update();
            let step = match revision {
                None => Step::Settled,
                Some(revision) => tokio::select! {
                    biased;
                    () = soft.cancelled() => return,
                    step = self.bring(revision) => step,
                },
            };
            match step {
                Step::Again => continue,
                Step::Settled if revision.is_some() => self.held.settle(newest),
                Step::Settled | Step::Failed => {}
            }
            let pause = if matches!(step, Step::Failed) { PAUSE_AFTER_FAILURE } else { Duration::MAX };
            tokio::select! {
                biased;
                () = soft.cancelled() => return,
                // The session's worker and the library live as long as we do.
                Ok(()) = held.changed() => {}
                Ok(()) = changes.changed(), if matches!(step, Step::Settled) => {
                    tokio::select! {
                        () = soft.cancelled() => return,
                        () = sleep(COALESCE) => {}
                    }
                }
                () = sleep(pause), if pause < Duration::MAX => {}
            }
        }
    }

    /// Brings one portion to a directory that holds `revision`.
    async fn bring(&mut self, revision: u64) -> Step {
        match self.try_bring(revision).await {
            Ok(step) => step,
            Err(failure) => {
                if failure.code == ErrorCode::TooLarge && self.portion > 1 {
                    self.portion /= 2;
                    return Step::Again;
                }
                metrics::counter!("trueque_announce_failures_total").increment(1);
                if failure.code == ErrorCode::Unavailable {
                    tracing::debug!(error = %failure, "the announcement waits for the directory");
                } else {
                    tracing::warn!(error = %failure, "the directory did not take an announcement");
                }
                Step::Failed
            }
        }
    }

    async fn try_bring(&mut self, revision: u64) -> Result<Step, Failure> {
        let delta = if self.conflicts >= PATIENCE {
            self.library.reset_delta(revision, self.portion).await?
        } else {
            match self.library.delta(revision, self.portion).await? {
                Some(delta) => delta,
                None => return Ok(Step::Settled),
            }
        };
        self.held.begin_portion();
        let answer = self.client.announce(&delta).await;
        let holds = match &answer {
            Ok(Announced::Accepted { revision }) => Some(*revision),
            Ok(Announced::Conflict { revision }) => Some(revision.unwrap_or(0)),
            Err(_) => None,
        };
        self.held.end_portion(holds);
        match answer? {
            Announced::Accepted { revision } => {
                self.conflicts = 0;
                let entries = delta.put.len() + delta.remove.len();
                tracing::debug!(entries, delta.reset, catalog.revision = revision, "announced");
                metrics::counter!("trueque_announced_entries_total").increment(entries as u64);
                self.library.acked(revision).await?;
            }
            Announced::Conflict { revision: holds } => {
                self.conflicts += 1;
                tracing::info!(
                    catalog.revision = revision,
                    holds,
                    "the directory holds another catalog of ours"
                );
            }
        }
        Ok(Step::Again)
    }
}
