//! [`Brought`]: how much one source brought, how fast, and by which ways.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use wire::rest::pclient::{FetchPath, SourcePath};

use crate::{
    link::{PerRung, Rung},
    meter::Meter,
};

/// Verified bytes of one source. Clones count into the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Brought {
    meter: Meter,
    by: Arc<PerRung<AtomicU64>>,
}

impl Brought {
    pub(super) fn add(&self, rung: Rung, bytes: u64) {
        self.meter.add(bytes);
        self.by[rung].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> u64 {
        self.meter.total()
    }

    /// Bytes per second.
    pub(super) fn rate(&self, now: Instant) -> u64 {
        self.meter.rate(now)
    }

    /// The ways that brought something.
    pub(super) fn paths(&self, mailed: u64) -> Vec<SourcePath> {
        let by = |rung| self.by[rung].load(Ordering::Relaxed);
        let all = [
            (FetchPath::Direct, by(Rung::Direct)),
            (FetchPath::Reversed, by(Rung::Reversed)),
            (FetchPath::Relayed, by(Rung::Relayed)),
            (FetchPath::Mailed, mailed),
        ];
        all.into_iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(path, bytes)| SourcePath { path, bytes })
            .collect()
    }
}

/// Adds what came before the process was last started.
pub(super) fn add_earlier(paths: &mut Vec<SourcePath>, earlier: &[SourcePath]) {
    for before in earlier {
        match paths.iter_mut().find(|now| now.path == before.path) {
            Some(now) => now.bytes += before.bytes,
            None => paths.push(*before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_by_way_are_all_bytes() {
        let brought = Brought::default();
        assert_eq!(brought.paths(0), []);
        brought.add(Rung::Relayed, 5);
        brought.clone().add(Rung::Direct, 7);
        brought.add(Rung::Relayed, 1);
        let path = |path, bytes| SourcePath { path, bytes };
        let mut paths = brought.paths(2);
        let (direct, relayed, mailed) =
            (path(FetchPath::Direct, 7), path(FetchPath::Relayed, 6), path(FetchPath::Mailed, 2));
        assert_eq!((brought.total(), paths.as_slice()), (13, [direct, relayed, mailed].as_slice()));
        add_earlier(&mut paths, &[path(FetchPath::Relayed, 10), path(FetchPath::Reversed, 1)]);
        let (relayed, reversed) = (path(FetchPath::Relayed, 16), path(FetchPath::Reversed, 1));
        assert_eq!(paths, [direct, relayed, mailed, reversed]);
    }
}
