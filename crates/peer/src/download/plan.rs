//! [`Plan`]: which piece is asked of whom, and when. Pure: events and the time go in, orders come out.
//!
//! - Neighbouring pieces go together as a *span*: about half a second of work at the source's measured speed.
//! - Each source has two spans under way, so that it never waits for our next question.
//! - Pieces that a reader waits for go first; then those that fewest sources have. Equal ones are taken from a place
//!   that differs from receiver to receiver, so that several of them fetch different pieces and then trade.
//! - A source that has everything is spared the pieces that other receivers already trade quickly.
//! - The last spans are asked of a second source too; the first good answer wins.
//! - A source that lied is never asked again; one that could not be reached rests for longer each time.
//!
//! It knows peers by id only: no transport, no clock, no disk.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use content::{Layout, PIECE_SIZE, PieceSet};
use wire::PeerId;

/// Spans under way at one source.
const SPANS_PER_SOURCE: usize = 2;
const MAX_SPAN: u32 = 16;
/// Pieces in a span for a reader who waits: the first should come soon.
const MAX_WANTED_SPAN: u32 = 4;
/// The first span of a source whose speed is not known.
const FIRST_SPAN: u32 = 4;
const SPAN_SECONDS: f64 = 0.5;
/// How far the search for a rare piece looks.
const RARE_SEARCH: usize = 4096;
/// What other receivers will have delivered within this many seconds is left to them.
const TRADE_SECONDS: f64 = 2.0;
/// So much slower than a whole source may other receivers be, together, and still be left to trade.
const TRADE_PATIENCE: f64 = 3.0;
const MAX_DUPLICATES: u8 = 2;
const STALLED: Duration = Duration::from_secs(2);
const RATE_WINDOW: Duration = Duration::from_millis(100);
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Names a span while it is under way.
pub(super) type SpanId = u64;

/// Ask `source` for `pieces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) span: SpanId,
    pub(super) source: PeerId,
    pub(super) pieces: Range<u32>,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every piece was answered.
    Done,
    /// We ended it ourselves; nothing is held against the source.
    Cancelled,
    /// Not reached, or no answer in time.
    Unreachable,
    /// The same, and there is another way to it: it may be asked again at once.
    Moved,
    /// "Too much at once": try again soon.
    Busy,
    /// It does not have these pieces, or not for us.
    Missing,
    /// It sent bytes that are not the file's.
    Corrupt,
}

/// Whether the whole file is wanted or only what readers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    Wanted,
}

#[derive(Debug)]
pub(super) struct Plan {
    layout: Layout,
    have: PieceSet,
    /// Neither here nor under way.
    free: PieceSet,
    /// Spans under way over each piece.
    claims: Vec<u8>,
    sources: BTreeMap<PeerId, Source>,
    spans: BTreeMap<SpanId, Span>,
    next_span: SpanId,
    wanted: Vec<Range<u32>>,
    scope: Scope,
    /// Where this receiver begins.
    start: u32,
}

#[derive(Debug)]
struct Source {
    pieces: PieceSet,
    /// Bytes per second over all its spans; 0 while unknown.
    rate: f64,
    window: Option<(Instant, u64)>,
    in_flight: usize,
    /// Where its last span ended.
    frontier: Option<u32>,
    failures: u32,
    rests_until: Option<Instant>,
    banned: bool,
}

#[derive(Debug)]
struct Span {
    source: PeerId,
    pieces: Range<u32>,
    left: u32,
    progress: Instant,
}

impl Plan {
    /// `start` is the piece to begin with; it should differ from receiver to receiver.
    pub(super) fn new(layout: Layout, have: PieceSet, scope: Scope, start: u32) -> Self {
        let mut free = PieceSet::empty(layout.count());
        have.missing().for_each(|index| {
            free.insert(index);
        });
        Self {
            layout,
            have,
            free,
            claims: vec![0; layout.count() as usize],
            sources: BTreeMap::new(),
            spans: BTreeMap::new(),
            next_span: 0,
            wanted: Vec::new(),
            scope,
            start: start % layout.count(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.have.is_full()
    }

    /// Whether a source can be asked now or is being asked.
    pub(super) fn has_source(&self, now: Instant) -> bool {
        !self.spans.is_empty()
            || self.sources.values().any(|source| source.is_ready(now) && !source.pieces.is_empty())
    }

    pub(super) fn set_scope(&mut self, scope: Scope) {
        self.scope = scope;
    }

    /// The windows that readers wait for, the most urgent first.
    pub(super) fn set_wanted(&mut self, wanted: Vec<Range<u32>>) {
        self.wanted = wanted;
    }

    /// What a source has. A new source is added; a banned one stays banned.
    pub(super) fn set_pieces(&mut self, source: PeerId, pieces: PieceSet) {
        if pieces.count() != self.layout.count() {
            return;
        }
        match self.sources.get_mut(&source) {
            Some(known) => known.pieces = pieces,
            None => {
                self.sources.insert(source, Source::new(pieces));
            }
        }
    }

    /// A source that is gone for good; what was asked of it ends by itself.
    pub(super) fn forget(&mut self, source: PeerId) {
        if self.sources.get(&source).is_some_and(|known| !known.banned && known.in_flight == 0) {
            self.sources.remove(&source);
        }
    }

    pub(super) fn ban(&mut self, source: PeerId) {
        let count = self.layout.count();
        self.sources.entry(source).or_insert_with(|| Source::new(PieceSet::empty(count))).banned = true;
    }

    pub(super) fn is_banned(&self, source: &PeerId) -> bool {
        self.sources.get(source).is_some_and(|known| known.banned)
    }

    /// Somebody heard of the source again: it need not rest.
    pub(super) fn wake(&mut self, source: PeerId) {
        if let Some(known) = self.sources.get_mut(&source) {
            known.rests_until = None;
        }
    }

    /// What they failed by has changed: no source need rest, and the next failure is the first one.
    pub(super) fn wake_all(&mut self) {
        for source in self.sources.values_mut() {
            source.rests_until = None;
            source.failures = 0;
        }
    }

    /// Bytes per second of one source.
    pub(super) fn rate(&self, source: &PeerId) -> f64 {
        self.sources.get(source).map_or(0.0, |known| known.rate)
    }

    /// A piece is here. Answers which spans have nothing left to bring.
    pub(super) fn piece_verified(&mut self, span: SpanId, index: u32, now: Instant) -> Vec<SpanId> {
        let bytes = self.layout.len(index);
        if let Some(span) = self.spans.get_mut(&span) {
            span.left = span.left.saturating_sub(1);
            span.progress = now;
            if let Some(source) = self.sources.get_mut(&span.source) {
                source.brought(bytes, now);
            }
        }
        self.have.insert(index);
        self.free.remove(index);
        let have = &self.have;
        let useless = |other: &Span| other.left > 0 && have.contains_range(other.pieces.clone());
        self.spans.iter().filter(|(id, other)| **id != span && useless(other)).map(|(id, _)| *id).collect()
    }

    /// A span is over; what it did not bring is free again.
    pub(super) fn span_ended(&mut self, span: SpanId, outcome: Outcome, now: Instant) {
        let Some(ended) = self.spans.remove(&span) else { return };
        for index in ended.pieces {
            let claims = &mut self.claims[index as usize];
            *claims = claims.saturating_sub(1);
            if *claims == 0 && !self.have.contains(index) {
                self.free.insert(index);
            }
        }
        if let Some(source) = self.sources.get_mut(&ended.source) {
            source.ended(outcome, now);
        }
    }

    /// When a resting source may be asked again.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let resting =
            self.sources.values().filter(|source| !source.banned).filter_map(|source| source.rests_until);
        resting.filter(|until| *until > now).min()
    }

    /// Everything that should be asked now.
    pub(super) fn next(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        let mut ready: Vec<PeerId> =
            self.sources.iter().filter(|(_, source)| source.is_ready(now)).map(|(peer, _)| *peer).collect();
        ready.sort_by(|a, b| self.rate(b).total_cmp(&self.rate(a)));
        // One span each in turn, the fastest source first.
        for round in 0..SPANS_PER_SOURCE {
            for &peer in &ready {
                let Some(source) = self.sources.get(&peer).filter(|source| source.in_flight <= round) else {
                    continue;
                };
                let idle = source.in_flight == 0;
                let pick =
                    self.pick(source).or_else(|| if idle { self.duplicate(peer, source, now) } else { None });
                if let Some(pieces) = pick {
                    orders.push(self.order(peer, pieces, now));
                }
            }
        }
        orders
    }

    fn order(&mut self, peer: PeerId, pieces: Range<u32>, now: Instant) -> Order {
        for index in pieces.clone() {
            self.claims[index as usize] = self.claims[index as usize].saturating_add(1);
            self.free.remove(index);
        }
        if let Some(source) = self.sources.get_mut(&peer) {
            if source.in_flight == 0 {
                source.window = Some((now, 0));
            }
            source.in_flight += 1;
            source.frontier = Some(pieces.end);
        }
        let span = self.next_span;
        self.next_span += 1;
        let left = pieces.end - pieces.start;
        self.spans.insert(span, Span { source: peer, pieces: pieces.clone(), left, progress: now });
        Order { span, source: peer, pieces }
    }

    /// The next span for a source, from what nobody is asked for.
    fn pick(&self, source: &Source) -> Option<Range<u32>> {
        for window in &self.wanted {
            let first =
                self.free.first_common(&source.pieces, window.start).filter(|first| *first < window.end);
            if let Some(first) = first {
                let most = source.span_length().min(MAX_WANTED_SPAN).min(window.end - first);
                return Some(self.run(source, first, most, |_| true));
            }
        }
        if self.scope == Scope::Wanted {
            return None;
        }
        let (first, holders) = self.rarest(source)?;
        let whole = self.sources.values().filter(|other| !other.banned && other.pieces.is_full()).count();
        if source.pieces.is_full() && holders > whole && self.others_are_quick(source.rate) {
            return None;
        }
        Some(self.run(source, first, source.span_length(), |index| self.holders(index) == holders))
    }

    /// Where to begin among the free pieces of this source that fewest sources have, and how many those are.
    ///
    /// A source is read on where its last span ended. When others were faster there, the largest gap is next; and
    /// where somebody is filling it from its beginning already, its middle, so that two receivers meet once and not
    /// at every piece.
    fn rarest(&self, source: &Source) -> Option<(u32, usize)> {
        let partial = || self.sources.values().filter(|other| !other.banned && !other.pieces.is_full());
        let from = source.frontier.unwrap_or(self.start);
        if partial().next().is_none() {
            let first = self.candidates(source, from).next()?;
            return Some((first, self.holders(first)));
        }
        let (mut fewest, mut gaps) = (usize::MAX, Vec::<Range<u32>>::new());
        for index in self.candidates(source, from).take(RARE_SEARCH) {
            let holders = self.holders(index);
            if holders < fewest {
                fewest = holders;
                gaps.clear();
            }
            if holders == fewest {
                match gaps.last_mut().filter(|gap| gap.end == index) {
                    Some(gap) => gap.end += 1,
                    None => gaps.push(index..index + 1),
                }
            }
        }
        if gaps.first().is_some_and(|gap| gap.start == from) {
            return Some((from, fewest));
        }
        let largest = gaps.into_iter().max_by_key(|gap| gap.end - gap.start)?;
        let before = largest.start.checked_sub(1);
        let taken = before.is_some_and(|before| partial().any(|other| other.pieces.contains(before)));
        let first = if taken { largest.start + (largest.end - largest.start) / 2 } else { largest.start };
        Some((first, fewest))
    }

    /// The free pieces of a source, from `from` on and around.
    fn candidates(&self, source: &Source, from: u32) -> impl Iterator<Item = u32> {
        let next = |at: u32| self.free.first_common(&source.pieces, at);
        let rest = std::iter::successors(next(from), move |index| next(index + 1));
        let begun = std::iter::successors(next(0), move |index| next(index + 1));
        rest.chain(begun.take_while(move |index| *index < from))
    }

    fn holders(&self, index: u32) -> usize {
        self.sources.values().filter(|source| !source.banned && source.pieces.contains(index)).count()
    }

    /// Whether partial holders will deliver what is free and theirs: soon, or not much later than a source of this
    /// rate would.
    fn others_are_quick(&self, rate: f64) -> bool {
        let partial = || self.sources.values().filter(|source| !source.banned && !source.pieces.is_full());
        let known: Vec<f64> =
            self.sources.values().map(|source| source.rate).filter(|rate| *rate > 0.0).collect();
        let usual = if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
        let theirs: f64 = partial().map(|source| if source.rate > 0.0 { source.rate } else { usual }).sum();
        let stalled = partial().all(|source| source.rests_until.is_some());
        let bytes = f64::from(self.free.held()) * PIECE_SIZE as f64;
        !stalled && theirs > 0.0 && (theirs * TRADE_PATIENCE >= rate || bytes / theirs < TRADE_SECONDS)
    }

    fn run(&self, source: &Source, first: u32, most: u32, fits: impl Fn(u32) -> bool) -> Range<u32> {
        let end = first.saturating_add(most).min(self.layout.count());
        let free = |index: &u32| self.free.contains(*index) && source.pieces.contains(*index) && fits(*index);
        let stop = (first + 1..end).find(|index| !free(index)).unwrap_or(end.max(first + 1));
        first..stop
    }

    /// End game: what is under way elsewhere and will take much longer there than here.
    fn duplicate(&self, peer: PeerId, source: &Source, now: Instant) -> Option<Range<u32>> {
        let candidates = self.spans.values().filter(|span| span.source != peer).filter_map(|span| {
            // Each piece by itself: another duplicate may cover this span in part.
            let open = |index: &u32| {
                !self.have.contains(*index)
                    && source.pieces.contains(*index)
                    && self.claims[*index as usize] < MAX_DUPLICATES
            };
            let first = span.pieces.clone().find(open)?;
            let end = (first..span.pieces.end).find(|index| !open(index)).unwrap_or(span.pieces.end);
            let bytes = f64::from(end - first) * PIECE_SIZE as f64;
            let there = bytes / self.rate(&span.source).max(1.0);
            let here = bytes / source.rate.max(1.0);
            let stalled = now.saturating_duration_since(span.progress) >= STALLED;
            (stalled || (source.rate > 0.0 && there > 3.0 * here + 0.2)).then_some((there, first..end))
        });
        candidates.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, pieces)| pieces)
    }
}

impl Source {
    fn new(pieces: PieceSet) -> Self {
        Self {
            pieces,
            rate: 0.0,
            window: None,
            in_flight: 0,
            frontier: None,
            failures: 0,
            rests_until: None,
            banned: false,
        }
    }

    fn is_ready(&self, now: Instant) -> bool {
        !self.banned && self.rests_until.is_none_or(|until| until <= now)
    }

    fn span_length(&self) -> u32 {
        if self.rate == 0.0 {
            return FIRST_SPAN;
        }
        let pieces = self.rate * SPAN_SECONDS / PIECE_SIZE as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=16")]
        let pieces = pieces.clamp(1.0, f64::from(MAX_SPAN)) as u32;
        pieces
    }

    fn brought(&mut self, bytes: u64, now: Instant) {
        self.failures = 0;
        self.rests_until = None;
        let (since, before) = self.window.unwrap_or((now, 0));
        let elapsed = now.saturating_duration_since(since);
        if elapsed < RATE_WINDOW {
            self.window = Some((since, before + bytes));
            return;
        }
        let fresh = (before + bytes) as f64 / elapsed.as_secs_f64();
        self.rate = if self.rate == 0.0 { fresh } else { 0.7 * self.rate + 0.3 * fresh };
        self.window = Some((now, 0));
    }

    fn ended(&mut self, outcome: Outcome, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Done | Outcome::Cancelled | Outcome::Moved => {}
            Outcome::Corrupt => self.banned = true,
            Outcome::Busy => self.rests_until = Some(now + FIRST_REST),
            // Its other spans have ended with the one that it rests for.
            Outcome::Unreachable | Outcome::Missing if self.rests_until.is_some_and(|until| until > now) => {}
            Outcome::Unreachable | Outcome::Missing => {
                self.rests_until =
                    Some(now + (FIRST_REST * 2u32.pow(self.failures.min(6))).min(LONGEST_REST));
                self.failures += 1;
            }
        }
    }
}

/// Where this receiver begins: another place for each, so that several fetch different pieces and trade.
pub(super) fn start_of(own: PeerId, layout: Layout) -> u32 {
    let id = u128::from_be_bytes(*own.as_bytes());
    u32::try_from(id % u128::from(layout.count())).unwrap_or(0)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
