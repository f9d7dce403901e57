//! [`Lifecycle`]: every task of the process, and the order in which they end.
//!
//! Stopping has two steps. *Soft*: take no new work, finish what is short. *Hard*: drop everything. A first SIGTERM,
//! SIGHUP or ctrl-c (or a vital task that ended) is soft; the second, or ten seconds, is hard. SIGHUP says that the
//! terminal went away; a program that was started to outlive it (`nohup`) does. Then the tracker is awaited: a
//! task that nobody awaits does not exist. Who tells of the others (traces) ends after them, within the same deadline.

use std::{future::Future, process::ExitCode, time::Duration};

use parking_lot::Mutex;
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// How long a soft stop may take.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How much of it is left, at the most, to those who tell of the others.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Handed to whoever starts tasks. Clones are the same lifecycle.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
    /// Those who tell of the others, and what tells them that there are no others any more.
    last: TaskTracker,
    over: CancellationToken,
    /// The vital task that ended by itself.
    failed: Arc<Mutex<Option<&'static str>>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    pub fn new() -> Self {
        let hard = CancellationToken::new();
        Self {
            soft: hard.child_token(),
            hard,
            tracker: TaskTracker::new(),
            last: TaskTracker::new(),
            over: CancellationToken::new(),
            failed: Arc::default(),
        }
    }

    /// Fires when no new work should begin.
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Fires when everything should be dropped.
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Runs a task until it ends or the hard stop drops it.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let hard = self.hard.clone();
        let span = tracing::debug_span!("task", task.name = name);
        self.tracker.spawn(async move { hard.run_until_cancelled(task).await }.instrument(span))
    }

    /// Runs a task without which the process is of no use: if it ends before the soft stop, by itself or by a panic,
    /// the process stops, in order and with a failure code.
    pub fn spawn_vital<F>(&self, name: &'static str, task: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let guard = VitalGuard { name, soft: self.soft.clone(), failed: self.failed.clone() };
        self.spawn(name, async move {
            let _guard = guard;
            task.await
        })
    }

    /// Runs a task that tells of the others: it is told when all of them have ended, and then has a moment.
    pub fn spawn_last<F>(&self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.last.spawn(task(self.over.clone()));
    }

    /// Asks for a soft stop.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Ends everything: soft, then hard when the deadline passes, then waits until no task is left.
    pub async fn finish(&self) {
        let deadline = tokio::time::Instant::now() + STOP_DEADLINE;
        self.soft.cancel();
        self.tracker.close();
        if tokio::time::timeout(STOP_DEADLINE, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "the stop took too long, the rest is dropped");
        }
        self.hard.cancel();
        self.tracker.wait().await;
        self.over.cancel();
        self.last.close();
        let deadline = deadline.min(tokio::time::Instant::now() + LAST_WORDS);
        let _what_was_not_said_is_lost = tokio::time::timeout_at(deadline, self.last.wait()).await;
    }

    /// Waits for a signal or the end of a vital task, then stops in order. The process's exit code.
    ///
    /// # Errors
    /// Where signals cannot be listened for.
    pub async fn run(self) -> std::io::Result<ExitCode> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = if outlives_terminal() { None } else { Some(signal(SignalKind::hangup())?) };
        let hung_up = async {
            match &mut hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("stopping: interrupted"),
            _ = terminate.recv() => tracing::info!("stopping: asked to terminate"),
            _ = hung_up => tracing::info!("stopping: the terminal has gone"),
            () = self.soft.cancelled() => {}
        }
        tokio::select! {
            () = self.finish() => {}
            _ = interrupt.recv() => tracing::warn!("second signal: stopping at once"),
            _ = terminate.recv() => tracing::warn!("second signal: stopping at once"),
        }
        self.hard.cancel();
        Ok(match *self.failed.lock() {
            Some(_) => ExitCode::FAILURE,
            None => ExitCode::SUCCESS,
        })
    }

    /// The vital task whose end stopped the process.
    pub fn failed_task(&self) -> Option<&'static str> {
        *self.failed.lock()
    }
}

/// Whether the process was started so that SIGHUP does not end it. To listen for the signal would undo that.
fn outlives_terminal() -> bool {
    const SIGHUP: u64 = 1;
    let Ok(status) = std::fs::File::open("/proc/self/status") else { return false };
    let mut text = String::new();
    let read = std::io::Read::take(status, 16 << 10);
    if std::io::Read::read_to_string(&mut { read }, &mut text).is_err() {
        return false;
    }
    let ignored = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (SIGHUP - 1)) != 0
}

/// Stops the process when a vital task is dropped while nobody asked for a stop.
struct VitalGuard {
    name: &'static str,
    soft: CancellationToken,
    failed: Arc<Mutex<Option<&'static str>>>,
}

impl Drop for VitalGuard {
    fn drop(&mut self) {
        if !self.soft.is_cancelled() {
            tracing::error!(task.name = self.name, "a vital task ended, so the process stops");
            self.failed.lock().get_or_insert(self.name);
            self.soft.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finish_waits_for_tasks_that_end_softly() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft();
        let task = lifecycle.spawn("polite", async move {
            soft.cancelled().await;
            7
        });
        lifecycle.finish().await;
        assert_eq!(task.await.unwrap(), Some(7));
        assert_eq!(lifecycle.failed_task(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_is_dropped_at_the_deadline() {
        let lifecycle = Lifecycle::new();
        let task = lifecycle.spawn("stubborn", std::future::pending::<()>());
        let started = tokio::time::Instant::now();
        lifecycle.finish().await;
        assert_eq!(task.await.unwrap(), None);
        assert_eq!(started.elapsed(), STOP_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_tells_of_the_others_ends_after_them_and_in_time() {
        let lifecycle = Lifecycle::new();
        let (soft, said) = (lifecycle.soft(), Arc::new(Mutex::new(Vec::new())));
        let (worker, witness) = (said.clone(), said.clone());
        lifecycle.spawn("worker", async move {
            soft.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            worker.lock().push("worker");
        });
        lifecycle.spawn_last(|over| async move {
            over.cancelled().await;
            witness.lock().push("witness");
            std::future::pending().await
        });
        let started = tokio::time::Instant::now();
        lifecycle.finish().await;
        assert_eq!(*said.lock(), ["worker", "witness"]);
        assert_eq!(started.elapsed(), Duration::from_secs(1) + LAST_WORDS);
    }

    #[tokio::test]
    async fn a_vital_task_that_panics_stops_the_process() {
        let lifecycle = Lifecycle::new();
        let task = lifecycle.spawn_vital("heart", async { panic!("on purpose") });
        lifecycle.soft().cancelled().await;
        assert!(task.await.is_err());
        assert_eq!(lifecycle.failed_task(), Some("heart"));
    }
}
