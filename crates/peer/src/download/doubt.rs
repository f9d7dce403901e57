//! What a job does while holders state different sizes: the last piece first, nothing said to others, and another size
//! where this one brings nothing. [`super::claims`] decides; here it is done.

use std::{ops::Range, time::Instant};

use wire::rest::directory::ReportKind;

use super::job::Job;

/// Those who stated another size than the proven one are reported, so many at the most.
const REPORTED: usize = 4;

/// The size that this attempt went by is given up: another is to be tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct GivenUp;

impl Job<'_> {
    /// The size cannot be another, or nobody says so.
    pub(super) fn is_sure(&self) -> bool {
        self.is_proven() || !self.is_disputed()
    }

    /// Only a file of this size has this last piece.
    fn is_proven(&self) -> bool {
        self.part.has(self.part.outline().layout().count() - 1)
    }

    fn is_disputed(&self) -> bool {
        self.claims.has_rival(self.part.outline().layout().size(), self.part.has_nothing())
    }

    /// What should come before all else.
    pub(super) fn urgent(&self) -> Vec<Range<u32>> {
        let mut wanted = self.entry.wanted();
        if !self.is_sure() {
            let count = self.part.outline().layout().count();
            wanted.insert(0, count - 1..count);
        }
        wanted
    }

    /// Looks whether it is time for another size.
    pub(super) fn doubt(&mut self, now: Instant) -> Result<(), GivenUp> {
        if self.is_sure() {
            return Ok(());
        }
        let size = self.part.outline().layout().size();
        let idle = now.saturating_duration_since(self.last_piece);
        if self.claims.has_holder(size) && idle < self.claims.patience(size) {
            return Ok(());
        }
        tracing::info!(content.id = %self.entry.content_id, size_bytes = size,
            "those who say this size brought nothing; another size is tried");
        metrics::counter!("trueque_sizes_given_up_total").increment(1);
        self.claims.give_up(size);
        Err(GivenUp)
    }

    /// Says, once the size is proven, who stated another.
    pub(super) fn tell_on_liars(&mut self) {
        if self.told_on || !self.is_proven() {
            return;
        }
        self.told_on = true;
        let size = self.part.outline().layout().size();
        let liars: Vec<_> = self.claims.others(size).take(REPORTED).collect();
        for liar in liars {
            tracing::warn!(peer.id = %liar, content.id = %self.entry.content_id, size_bytes = size,
                "a holder states a size that is not the file's");
            self.report(liar, ReportKind::Corrupt);
        }
    }
}
