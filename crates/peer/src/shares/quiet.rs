//! [`Quiet`]: paths at which something happened, each until nothing has happened to it for a while.
//!
//! A file that is being copied in speaks a thousand times; it is looked at once, when it has fallen silent. One that
//! never does is still looked at, shortly after it began, for what it says of the file that was there before.
//! Bounded: more paths than fit mean that everything should be looked at.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// After a write.
pub(super) const AFTER_WRITE: Duration = Duration::from_millis(300);
/// After a removal or a rename, whose other half follows at once.
pub(super) const AFTER_MOVE: Duration = Duration::from_millis(80);
/// How long what never falls silent goes without a glance.
const GLANCE: Duration = Duration::from_millis(500);
/// How often what waits is looked through.
const TICK: Duration = Duration::from_millis(40);
/// Paths that may wait.
const MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Quiet {
    waiting: Mutex<Waiting>,
    touched: Notify,
    overflown: Notify,
}

#[derive(Default)]
struct Waiting {
    paths: HashMap<PathBuf, Spot>,
    overflown: bool,
}

struct Spot {
    since: Instant,
    due: Instant,
    /// One half of a rename, perhaps.
    moved: bool,
    glanced: bool,
}

/// Paths to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Silent: whatever they are now, they are for a while.
    pub(super) silent: Vec<PathBuf>,
    /// Not silent yet.
    pub(super) restless: Vec<PathBuf>,
}

impl Quiet {
    /// Something happened at `path`; look there when nothing more has for `delay`.
    pub(super) fn touch(&self, path: &Path, delay: Duration) {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        let due = now + delay;
        if let Some(spot) = waiting.paths.get_mut(path) {
            (spot.due, spot.moved) = (due, delay == AFTER_MOVE);
            return;
        }
        if waiting.paths.len() >= MAX {
            waiting.overflown = true;
            drop(waiting);
            metrics::counter!("trueque_shares_overflow_total").increment(1);
            self.overflown.notify_one();
            return;
        }
        waiting
            .paths
            .insert(path.to_owned(), Spot { since: now, due, moved: delay == AFTER_MOVE, glanced: false });
        drop(waiting);
        self.touched.notify_one();
    }

    /// Everything should be looked at: something may have been missed.
    pub(super) fn overflow(&self) {
        self.waiting.lock().overflown = true;
        self.overflown.notify_one();
    }

    /// Waits until everything should be looked at.
    pub(super) async fn overflown(&self) {
        self.overflown.notified().await;
    }

    /// Whether everything should be looked at; asks once.
    pub(super) fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.waiting.lock().overflown)
    }

    /// Whether more should be looked at than [`Self::due`] knows of.
    pub(super) fn is_overflown(&self) -> bool {
        self.waiting.lock().overflown
    }

    /// Number of paths that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().paths.len()
    }

    /// Waits for paths to look at.
    pub(super) async fn due(&self) -> Due {
        loop {
            if self.len() == 0 {
                self.touched.notified().await;
            }
            tokio::time::sleep(TICK).await;
            let due = self.take(Instant::now());
            if due != Due::default() {
                return due;
            }
        }
    }

    fn take(&self, now: Instant) -> Due {
        let mut due = Due::default();
        let mut waiting = self.waiting.lock();
        // The halves of a rename are looked at together: one alone is a file that went, and one to be read anew.
        let one_moved = waiting.paths.values().any(|spot| spot.moved && spot.due <= now);
        waiting.paths.retain(|path, spot| {
            if spot.due <= now || (one_moved && spot.moved) {
                due.silent.push(path.clone());
                return false;
            }
            if !spot.glanced && now.duration_since(spot.since) >= GLANCE {
                spot.glanced = true;
                due.restless.push(path.clone());
            }
            true
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_due_when_it_has_fallen_silent_and_glanced_at_before() {
        let quiet = Quiet::default();
        let path = PathBuf::from("/share/copying");
        let start = Instant::now();
        quiet.touch(&path, AFTER_WRITE);
        assert_eq!(quiet.take(start), Due::default());
        quiet.touch(&path, Duration::from_secs(9));
        let restless = Due { restless: vec![path.clone()], ..Due::default() };
        assert_eq!(quiet.take(start + Duration::from_secs(1)), restless);
        assert_eq!(quiet.take(start + Duration::from_secs(2)), Due::default(), "one glance");
        let silent = Due { silent: vec![path], ..Due::default() };
        assert_eq!(quiet.take(start + Duration::from_secs(10)), silent);
        assert_eq!(quiet.len(), 0);
    }

    #[test]
    fn the_halves_of_a_rename_are_due_together() {
        let quiet = Quiet::default();
        let start = Instant::now();
        quiet.touch(Path::new("/share/old"), AFTER_MOVE);
        let first_due = quiet.waiting.lock().paths[Path::new("/share/old")].due;
        quiet.touch(Path::new("/share/new"), AFTER_MOVE);
        quiet.touch(Path::new("/share/written"), AFTER_WRITE);
        assert_eq!(quiet.take(start), Due::default());
        let mut due = quiet.take(first_due);
        due.silent.sort();
        assert_eq!(due.silent, [PathBuf::from("/share/new"), PathBuf::from("/share/old")]);
        assert_eq!(quiet.len(), 1);
    }

    #[test]
    fn too_many_paths_mean_everything() {
        let quiet = Quiet::default();
        for n in 0..=MAX {
            quiet.touch(Path::new(&n.to_string()), AFTER_WRITE);
        }
        assert_eq!(quiet.len(), MAX);
        assert!(quiet.take_overflow());
        assert!(!quiet.take_overflow());
    }
}
