//! What a process of ours keeps to itself: its files from the other users of the machine, its memory from the disk.

use rustix::{
    fs::Mode,
    process::{DumpableBehavior, set_dumpable_behavior, umask},
};

/// From here on every file that this process makes is its user's alone (0600), and every folder (0700), whatever the
/// umask was that it was started with; also those that a library makes, as SQLite does beside its database. And the
/// system writes no image of its memory, where keys and passwords are, when it crashes.
///
/// Called before anything is made. The umask is the whole process's, whichever thread says it.
pub fn keep() {
    umask(Mode::RWXG | Mode::RWXO);
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash may leave this process's memory on disk");
    }
}
