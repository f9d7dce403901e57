//! What a download does while no holder can be asked: it leaves wants for those that are off, and takes what comes into
//! the mailbox, whenever that is.
//!
//! Only downloads that somebody asked for do this: a reader does not wait for days.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use content::{ContentId, Layout, Outline, PieceSet};
use tracing::Instrument;
use wire::{ErrorCode, PeerId, proto, rest::directory::Holder};

use super::{
    engine::Engine,
    job::{End, Job, Note},
    part::{Part, PieceError},
    plan::SpanId,
};
use crate::{
    Failure,
    link::Target,
    mail::{Inbox, Mail, Parcel, Received},
};

/// Nobody is asked before this much waiting: a holder may be about to answer.
const FIRST_GRACE: Duration = Duration::from_millis(500);
/// The same when something had been reached: a holder may be coming back right now.
const GRACE: Duration = Duration::from_secs(2);
/// The next look whether to ask.
const NEXT_LOOK: Duration = Duration::from_secs(10);
/// A holder that refused is left alone for so long.
const AFTER_REFUSAL: Duration = Duration::from_secs(10 * 60);
/// Holders that are asked at once. One would do, if one knew which comes back first.
const ASKED_AT_ONCE: usize = 2;
/// Pieces from the mailbag that are written at once.
pub(super) const TOGETHER: usize = 2;
/// What came by mail belongs to no span.
const NO_SPAN: SpanId = SpanId::MAX;

/// The mail of one download.
pub(super) struct Mailbag {
    mail: Option<(Mail, Inbox)>,
    id: ContentId,
    look_at: Instant,
}

/// How one of its pieces fared.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) from: PeerId,
    pub(super) index: u32,
    pub(super) result: Result<bool, PieceError>,
}

/// A proof as it comes, page by page.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    from: Option<PeerId>,
    size: u64,
    restricted: bool,
    values: Vec<[u8; 32]>,
    /// The proof, whole, until [`proof`] hands it over.
    proven: Option<(Outline, PeerId, bool)>,
}

impl Mailbag {
    /// Without mail where nobody asked for the file, or this peer has no relay at all.
    pub(super) fn new(engine: &Engine, id: ContentId, asked_for: bool) -> Self {
        let mail = engine.mail.clone().filter(|_| asked_for);
        let mail = mail.map(|mail| {
            let inbox = mail.inbox(id);
            (mail, inbox)
        });
        Self { mail, id, look_at: Instant::now() + FIRST_GRACE }
    }

    /// The next parcel. Waits for ever where none comes.
    pub(super) async fn next(&mut self) -> Received {
        match &mut self.mail {
            Some((_, inbox)) => inbox.next().await,
            None => std::future::pending().await,
        }
    }

    /// Something was reached: who is off is not asked soon.
    pub(super) fn not_waiting(&mut self, now: Instant) {
        self.look_at = self.look_at.max(now + GRACE);
    }

    /// How long it is until there may be something to ask.
    pub(super) fn due_in(&self, now: Instant) -> Duration {
        let waits = self.mail.as_ref().is_some_and(|(mail, _)| mail.is_possible()) && self.look_at > now;
        if waits { self.look_at - now } else { Duration::MAX }
    }

    /// Nobody could be asked, and one who does not answer may turn out to be off.
    pub(super) fn nobody_asked(&mut self, now: Instant) {
        self.look_at = self.look_at.min(now + GRACE);
    }

    /// Where it is time to ask, the asking.
    pub(super) fn due(
        &mut self,
        engine: &Arc<Engine>,
        missing: Option<PieceSet>,
        now: Instant,
    ) -> Option<impl Future<Output = Option<String>> + Send + use<>> {
        let (mail, _) = self.mail.as_ref().filter(|(mail, _)| mail.is_possible() && now >= self.look_at)?;
        self.look_at = now + NEXT_LOOK;
        Some(ask(engine.clone(), mail.clone(), self.id, missing))
    }

    /// Nothing more comes for one want. Where something is missing still, it is asked for again.
    pub(super) fn settled(&mut self, refused: bool, now: Instant) {
        self.look_at = now + if refused { AFTER_REFUSAL } else { GRACE };
    }
}

/// Leaves wants with holders that are off, unless some are waiting there. Answers what there is to say about it.
///
/// So it does with one that has crashed and whose lease has not ended yet, for a download that has not begun. Whoever loses
/// a source in the middle of one waits for the lease: likely the source is back before, and would send all of it twice.
async fn ask(engine: Arc<Engine>, mail: Mail, id: ContentId, missing: Option<PieceSet>) -> Option<String> {
    let located = engine.directory.locate(id).await.ok()?;
    // Whoever counts other pieces than these means another size.
    let count = missing.as_ref().map(PieceSet::count);
    let fits = |holder: &Holder| {
        count.is_none_or(|count| Layout::new(holder.size).is_ok_and(|layout| layout.count() == count))
    };
    let mut absent: Vec<&Holder> = located
        .holders
        .iter()
        .filter(|holder| holder.peer_id != engine.own_id && fits(holder))
        .filter(|holder| {
            !holder.online || (missing.is_none() && engine.links.seems_off(&Target::from(*holder)))
        })
        .collect();
    let all = absent.len();
    absent.retain(|holder| mail.takes(holder.size));
    if absent.is_empty() && all > 0 {
        metrics::counter!("trueque_refusals_total", "reason" => "too large for the relay").increment(1);
        return Some(
            "those who have it are off, and it is too large to be asked for over the relay".to_owned(),
        );
    }
    absent.sort_by_key(|holder| std::cmp::Reverse(holder.last_seen));
    let mut asked = mail.asked(id, &absent).ok()?;
    if asked.is_empty() {
        for holder in &absent {
            match mail.want(&Target::from(*holder), id, missing.as_ref()).await {
                Ok(()) => asked.push(holder.peer_id),
                Err(error) => tracing::debug!(peer.id = %holder.peer_id, %error, "no want could be left"),
            }
            if asked.len() >= ASKED_AT_ONCE {
                break;
            }
        }
    }
    let name =
        |peer: &PeerId| absent.iter().find(|holder| holder.peer_id == *peer).map(|h| h.username.as_str());
    let mut names: Vec<&str> = asked.iter().filter_map(name).collect();
    names.dedup();
    (!names.is_empty())
        .then(|| format!("the relay keeps the question until {} can answer", names.join(" or ")))
}

/// Checks a piece that came by mail and writes it in its place.
pub(super) async fn take(part: Arc<Part>, from: PeerId, index: u32, bytes: Bytes) -> Taken {
    let layout = part.outline().layout();
    let fits = index < layout.count() && bytes.len() as u64 == layout.len(index);
    let result = if fits {
        let writing = tokio::task::spawn_blocking(move || part.take(index, &[bytes])).await;
        writing.unwrap_or_else(|error| Err(PieceError::Disk(std::io::Error::other(error))))
    } else {
        Ok(false) // a piece of no such file is worth nothing
    };
    Taken { from, index, result }
}

impl Pages {
    /// Takes a page. Answers the proof when it is whole, with who gave it and whether only some may have the file.
    pub(crate) fn take(
        &mut self,
        id: ContentId,
        from: PeerId,
        first_piece: u32,
        page: &proto::Description,
    ) -> Option<(Outline, PeerId, bool)> {
        if first_piece == 0 {
            let (from, size, restricted) = (Some(from), page.size, page.restricted);
            *self = Self { from, size, restricted, ..Self::default() };
        }
        let in_turn = self.from == Some(from)
            && self.size == page.size
            && u32::try_from(self.values.len()).is_ok_and(|count| count == first_piece);
        let layout = Layout::new(page.size).ok().filter(|_| in_turn)?;
        let wanted = Outline::values_for(layout);
        let (more, rest) = page.chaining_values.as_chunks::<32>();
        if !rest.is_empty() || self.values.len() + more.len() > wanted {
            return None;
        }
        self.values.extend_from_slice(more);
        if self.values.len() < wanted {
            return None;
        }
        let outline = Outline::verify(id, layout, std::mem::take(&mut self.values)).ok()?;
        Some((outline, from, self.restricted))
    }
}

impl Job<'_> {
    /// A source says that it has not got it, or does not give it. What it is too large for, the user is told.
    pub(super) fn lacks(&mut self, source: &Target, refusal: Option<Failure>) {
        let Some(refusal) = refusal else { return };
        match refusal.code {
            ErrorCode::NotFound => self.has_it_no_more(source.peer_id),
            ErrorCode::TooLarge => {
                let note = format!("{}: {}", source.username, refusal.detail);
                self.entry.update(|view| view.note = Some(note));
            }
            _ => {}
        }
    }

    /// Asks those who are off where nobody else can be asked.
    pub(super) fn write_letters(&mut self, waiting: bool, now: Instant) {
        if !waiting {
            self.bag.not_waiting(now);
            return;
        }
        let pieces = self.part.pieces();
        let mut missing = PieceSet::empty(pieces.count());
        pieces.missing().for_each(|index| {
            missing.insert(index);
        });
        if let Some(asking) = self.bag.due(self.engine, Some(missing), now) {
            self.tasks.spawn(async move { Note::Lettered(asking.await) }.in_current_span());
        }
    }

    /// A parcel from the mailbox. Its receipt is given when what it holds is in the part.
    pub(super) async fn parcel(&mut self, received: Received, now: Instant) {
        let Received { from, parcel, receipt } = received;
        match parcel {
            Parcel::Piece { index, bytes } if !self.plan.is_banned(&from) => {
                self.mailed += 1;
                self.engine.meter.add(bytes.len() as u64);
                metrics::counter!("trueque_received_bytes_total", "path" => "mailed")
                    .increment(bytes.len() as u64);
                let part = self.part.clone();
                self.tasks.spawn(async move {
                    let taken = take(part, from, index, bytes).await;
                    receipt.done().await;
                    Note::Mailed(taken)
                });
            }
            Parcel::Settled(refusal) => {
                self.bag.settled(refusal.is_some(), now);
                receipt.done().await;
            }
            // The proof is here already.
            Parcel::Described { .. } | Parcel::Piece { .. } => receipt.done().await,
        }
    }

    pub(super) fn mailed(&mut self, taken: Taken, now: Instant) -> Option<End> {
        self.mailed -= 1;
        let Taken { from, index, result } = taken;
        match result {
            Ok(true) => {
                self.last_piece = now;
                let bytes = self.part.outline().layout().len(index);
                if self.sources.brought_by_mail(from, bytes) && self.asked.insert(from) {
                    let directory = self.engine.directory.clone();
                    self.tasks.spawn(async move { Note::Writer(directory.peer(from).await) });
                }
                metrics::counter!("trueque_pieces_verified_total").increment(1);
                for useless in self.plan.piece_verified(NO_SPAN, index, now) {
                    self.end_span(useless, now);
                }
                None
            }
            Ok(false) => None,
            Err(PieceError::Wrong(_)) => {
                self.plan.ban(from);
                self.refused(from);
                None
            }
            Err(PieceError::Disk(error)) => Some(End::Failed(Failure::storage(&error))),
        }
    }
}

/// Waits for a proof by mail. Pieces that come before it are of no use yet, and are asked for again. Who stops waiting
/// while the receipt is given, finds the proof the next time: the broker has forgotten it, and nobody sends it again.
pub(super) async fn proof(bag: &mut Mailbag, pages: &mut Pages, id: ContentId) -> (Outline, PeerId, bool) {
    loop {
        if let Some(proof) = pages.proven.take() {
            return proof;
        }
        let Received { from, parcel, receipt } = bag.next().await;
        match &parcel {
            Parcel::Described { first_piece, description } => {
                pages.proven = pages.take(id, from, *first_piece, description);
            }
            Parcel::Settled(refusal) => bag.settled(refusal.is_some(), Instant::now()),
            Parcel::Piece { .. } => {}
        }
        receipt.done().await;
    }
}

/// Nothing more is wanted of a content.
pub(super) async fn forget(engine: &Engine, id: ContentId) {
    if let Some(mail) = &engine.mail
        && let Err(error) = mail.forget(id).await
    {
        log(&error);
    }
}

fn log(error: &Failure) {
    tracing::warn!(%error, "the wants of a download could not be forgotten");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages_of(size: u64) -> (ContentId, Vec<[u8; 32]>) {
        let bytes: Vec<u8> = (0..size).map(|i| u8::try_from(i / 1000 % 251).unwrap()).collect();
        let layout = Layout::new(size).unwrap();
        let mut builder = content::OutlineBuilder::new(layout);
        for index in 0..layout.count() {
            let range = layout.range(index);
            let mut hasher = content::PieceHasher::new(layout, index);
            hasher.update(&bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]);
            builder.set(index, hasher.finish().unwrap());
        }
        let outline = builder.finish().unwrap();
        (outline.id(), outline.values().to_vec())
    }

    fn page(size: u64, values: &[[u8; 32]]) -> proto::Description {
        proto::Description { size, chaining_values: values.concat().into(), pieces: None, restricted: false }
    }

    #[test]
    fn a_proof_is_taken_in_pages_from_one_holder() {
        let size = 3 * content::PIECE_SIZE + 5;
        let (id, values) = pages_of(size);
        let (ana, eva) = (PeerId::from_bytes([1; 16]), PeerId::from_bytes([2; 16]));
        let mut pages = Pages::default();
        assert!(pages.take(id, ana, 0, &page(size, &values[..2])).is_none(), "half of it");
        assert!(pages.take(id, eva, 2, &page(size, &values[2..])).is_none(), "another's half");
        assert!(pages.take(id, ana, 3, &page(size, &values[3..])).is_none(), "out of turn");
        let (outline, from, _) = pages.take(id, ana, 2, &page(size, &values[2..])).unwrap();
        assert_eq!((outline.id(), from), (id, ana));
        let mut wrong = values;
        wrong[0][0] ^= 1;
        assert!(pages.take(id, eva, 0, &page(size, &wrong)).is_none(), "no proof of this content");
    }
}
