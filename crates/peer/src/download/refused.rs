//! What a job makes of sources that did wrong or said no: who is told of them, and what the user hears.
//!
//! A holder that takes a name off the list says no more than that there is no such file: so it cannot be told from one
//! that has lost it. Whoever brought some of it and then says so has most likely stopped sharing it with us, and the
//! user of a download that waits for nobody else should know. It goes on waiting: the holder may change its mind.

use wire::{
    PeerId,
    rest::{directory::ReportKind, pclient::Source},
};

use super::job::{Job, Note};

/// How such a note begins, so that it is known again.
const WITHDRAWN: &str = "no longer shared with you by ";

/// What is to be said about sources that have withdrawn the file, if anything.
pub(super) struct Withdrawn(Option<String>);

impl Withdrawn {
    /// The note of a download, after the one that it has.
    pub(super) fn after(self, note: Option<String>) -> Option<String> {
        let other = note.filter(|note| !note.starts_with(WITHDRAWN));
        other.or(self.0)
    }
}

impl Job<'_> {
    /// A source says that there is no such file, or none for us. It is not asked again before it, or the directory, says
    /// otherwise.
    pub(super) fn has_it_no_more(&mut self, peer: PeerId) {
        let count = self.part.outline().layout().count();
        self.plan.set_pieces(peer, content::PieceSet::empty(count));
        self.is_withdrawn_by(peer);
        self.report(peer, ReportKind::Missing);
    }

    /// Who never brought anything has withdrawn nothing.
    pub(super) fn is_withdrawn_by(&mut self, peer: PeerId) {
        if self.sources.brought(&peer).total() > 0 {
            self.withdrawn.insert(peer);
        }
    }

    /// What to say while nobody brings anything.
    pub(super) fn withdrawn_note(&self, waiting: bool, sources: &[Source]) -> Withdrawn {
        let names = sources.iter().filter(|source| self.withdrawn.contains(&source.peer_id));
        let mut names: Vec<&str> = names.map(|source| source.username.as_str()).collect();
        names.dedup();
        Withdrawn((waiting && !names.is_empty()).then(|| format!("{WITHDRAWN}{}", names.join(" and "))))
    }

    /// A source sent wrong bytes, and was banned for it.
    pub(super) fn refused(&mut self, peer: PeerId) {
        tracing::warn!(peer.id = %peer, content.id = %self.entry.content_id, "a source sent wrong bytes and is banned");
        metrics::counter!("trueque_pieces_refused_total").increment(1);
        self.claims.distrust(peer);
        self.report(peer, ReportKind::Corrupt);
    }

    pub(super) fn report(&mut self, peer: PeerId, kind: ReportKind) {
        let (directory, id) = (self.engine.directory.clone(), self.entry.content_id);
        self.tasks.spawn(async move {
            if let Err(error) = directory.report(id, peer, kind).await {
                tracing::debug!(%error, "a source could not be reported");
            }
            Note::Reported
        });
    }
}
