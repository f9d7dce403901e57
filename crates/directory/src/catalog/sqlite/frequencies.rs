//! How common each gram is, roughly: enough to ask the index for the rarest ones.
//!
//! Counted from a sample: some documents when the catalog is opened, and some of those written since. Grams share
//! counters, and a wrong count only makes a search slower.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rusqlite::{Connection, OptionalExtension};

use crate::words;

const COUNTERS: usize = 1 << 16;
/// Of the documents written, one in so many is counted.
const ONE_IN: i64 = 16;
/// Documents looked at when a catalog is opened.
const SAMPLE: i64 = 2_000;

#[derive(Debug)]
pub(super) struct Frequencies(Box<[AtomicU32]>);

impl Frequencies {
    /// From names all over the catalog.
    pub(super) fn sample(conn: &Connection) -> rusqlite::Result<Self> {
        let this = Self((0..COUNTERS).map(|_| AtomicU32::new(0)).collect());
        let last: i64 = conn.query_row("SELECT ifnull(max(id), 0) FROM contents", [], |row| row.get(0))?;
        // What one of the sample stands for, in documents that would have been counted when they were written.
        let weight = u32::try_from((last / SAMPLE / ONE_IN).max(1)).unwrap_or(u32::MAX);
        let step = usize::try_from((last / SAMPLE).max(1)).unwrap_or(usize::MAX);
        let mut names = conn.prepare("SELECT name FROM contents WHERE id >= ?1 LIMIT 1")?;
        let mut grams = String::new();
        for content in (1..=last).step_by(step) {
            let name: Option<String> = names.query_row([content], |row| row.get(0)).optional()?;
            grams.clear();
            words::push_grams(&words::fold(&name.unwrap_or_default()), &mut grams);
            this.count(&grams, weight);
        }
        Ok(this)
    }

    /// Counts a document, or not.
    pub(super) fn document_written(&self, rank: i64, document: &str) {
        if rank % ONE_IN == 0 {
            self.count(document, 1);
        }
    }

    pub(super) fn of(&self, gram: &str) -> u32 {
        self.0[slot(gram)].load(Relaxed)
    }

    fn count(&self, grams: &str, weight: u32) {
        for gram in grams.split_ascii_whitespace() {
            // Only one thread counts, so nothing is lost between the two.
            let counter = &self.0[slot(gram)];
            counter.store(counter.load(Relaxed).saturating_add(weight), Relaxed);
        }
    }
}

/// FNV-1a, folded.
fn slot(gram: &str) -> usize {
    let hash =
        gram.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)) as usize % COUNTERS
}
