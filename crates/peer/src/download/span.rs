//! One question to one source: neighbouring pieces, checked and written as they come.
//!
//! A piece is hashed and written on a blocking thread while the next one arrives; at most two wait to be written, so
//! a slow disk slows the network down and memory stays bounded.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tracing::Span;
use wire::{ErrorCode, rest::pclient::PeerPath, trace};

use super::{
    Part, PieceError,
    brought::Brought,
    engine::Engine,
    plan::{Order, Outcome, SpanId},
};
use crate::{
    Failure,
    link::{Chunks, Link, LinkError, Rung, SILENCE_TIMEOUT, Target},
};

/// Pieces of one span that are being hashed and written.
const WRITING: usize = 2;

/// A verified piece, on its way to the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) span: SpanId,
    pub(super) index: u32,
}

/// How a span ended, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) span: SpanId,
    pub(super) source: Target,
    pub(super) outcome: Outcome,
    /// What the source said, where it refused.
    pub(super) refusal: Option<Failure>,
    /// Our own disk's fault.
    pub(super) disk: Option<std::io::Error>,
}

enum Fault {
    Link(LinkError),
    Piece(PieceError),
    /// More bytes than were asked for.
    TooMuch,
    Inside(Failure),
}

/// One question, for traces.
pub(super) fn traced(order: &Order) -> Span {
    tracing::debug_span!(
        "fetch",
        otel.kind = "client",
        peer.id = %order.source,
        pieces = order.pieces.len(),
        path = tracing::field::Empty,
    )
}

pub(super) async fn fetch(
    engine: Arc<Engine>,
    part: Arc<Part>,
    source: Target,
    brought: Brought,
    order: Order,
    arrived: mpsc::Sender<Arrived>,
) -> Ended {
    let span = order.span;
    let lane = usize::try_from(span).unwrap_or_default();
    let size = part.outline().layout().size();
    let (rung, fetched) = match engine.links.get_for(&source, lane, size).await {
        Ok(link) => (Some(link.rung()), run(&engine, &part, &link, &brought, &order, &arrived).await),
        Err(error) => (None, Err(Fault::Link(error))),
    };
    let mut ended = Ended { span, source, outcome: Outcome::Done, refusal: None, disk: None };
    match fetched {
        Ok(()) => {
            if let Some(rung) = rung {
                engine.links.succeeded(ended.source.peer_id, rung);
            }
        }
        Err(Fault::Link(LinkError::Answered(failure))) => {
            ended.outcome = match failure.code {
                ErrorCode::RateLimited | ErrorCode::Unavailable => Outcome::Busy,
                _ => Outcome::Missing,
            };
            ended.refusal = Some(failure);
        }
        Err(Fault::Link(LinkError::Unreachable(_) | LinkError::Silent)) => {
            if let Some(rung) = rung {
                engine.links.failed(&ended.source, rung);
            }
            let elsewhere = engine.links.path_for(&ended.source, true, size) != PeerPath::Offline;
            ended.outcome = if elsewhere { Outcome::Moved } else { Outcome::Unreachable };
        }
        Err(Fault::Piece(PieceError::Wrong(_)) | Fault::TooMuch) => ended.outcome = Outcome::Corrupt,
        Err(Fault::Piece(PieceError::Disk(error))) => {
            ended.outcome = Outcome::Cancelled;
            ended.disk = Some(error);
        }
        Err(Fault::Inside(failure)) => {
            ended.outcome = Outcome::Busy;
            ended.refusal = Some(failure);
        }
    }
    if let Some(why) = word(ended.outcome) {
        trace::failed(&Span::current(), why);
    }
    ended
}

fn word(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Done => None,
        Outcome::Missing => Some("missing"),
        Outcome::Busy => Some("busy"),
        Outcome::Corrupt => Some("corrupt"),
        Outcome::Unreachable => Some("unreachable"),
        Outcome::Moved => Some("another path"),
        Outcome::Cancelled => Some("cancelled"),
    }
}

async fn run(
    engine: &Engine,
    part: &Arc<Part>,
    link: &Link,
    brought: &Brought,
    order: &Order,
    arrived: &mpsc::Sender<Arrived>,
) -> Result<(), Fault> {
    let layout = part.outline().layout();
    let range = layout.span(&order.pieces);
    let path = link.rung().as_str();
    let brought = (brought, link.rung());
    Span::current().record("path", path);
    let (asked, received) = (Instant::now(), received(link.rung()));
    let mut chunks = link.fetch(part.outline().id(), range).await.map_err(Fault::Link)?;
    let mut first = Some(metrics::histogram!("trueque_fetch_first_byte_seconds", "path" => path));

    let mut writing: VecDeque<(u32, JoinHandle<Result<(), PieceError>>)> = VecDeque::new();
    let mut piece = Gathering::new(&order.pieces, layout.len(order.pieces.start));
    while let Some(bytes) = next(&mut chunks).await? {
        if let Some(first) = first.take() {
            first.record(asked.elapsed());
        }
        engine.throttle.take(bytes.len() as u64).await;
        if link.rung() == Rung::Relayed {
            engine.relay_limits.receive(bytes.len()).await;
        }
        engine.meter.add(bytes.len() as u64);
        received.increment(bytes.len() as u64);
        let mut rest = bytes;
        while !rest.is_empty() {
            if piece.index >= order.pieces.end {
                return Err(Fault::TooMuch);
            }
            piece.take(&mut rest);
            if piece.missing == 0 {
                if writing.len() >= WRITING {
                    written(&mut writing, order.span, arrived).await?;
                }
                let segments = std::mem::take(&mut piece.segments);
                writing.push_back((piece.index, write(part, piece.index, segments, brought)));
                piece.index += 1;
                piece.missing = layout.len(piece.index);
            }
        }
    }
    // An empty file is one piece of no bytes.
    if layout.is_empty() && piece.index == 0 {
        writing.push_back((0, write(part, 0, Vec::new(), brought)));
        piece.index = 1;
    }
    while !writing.is_empty() {
        written(&mut writing, order.span, arrived).await?;
    }
    if piece.index < order.pieces.end {
        let failure = Failure::unavailable("the answer was shorter than what was asked for");
        return Err(Fault::Link(LinkError::Answered(failure)));
    }
    Ok(())
}

/// Counts the bytes that come by one way, verified or not. Looked up once for each question, not for each chunk.
pub(super) fn received(rung: Rung) -> metrics::Counter {
    metrics::counter!("trueque_received_bytes_total", "path" => rung.as_str())
}

/// The portions of the piece that is arriving.
struct Gathering {
    index: u32,
    missing: u64,
    segments: Vec<Bytes>,
}

impl Gathering {
    fn new(pieces: &Range<u32>, length: u64) -> Self {
        Self { index: pieces.start, missing: length, segments: Vec::new() }
    }

    fn take(&mut self, rest: &mut Bytes) {
        let some = rest.len().min(usize::try_from(self.missing).unwrap_or(usize::MAX));
        self.segments.push(rest.split_to(some));
        self.missing -= some as u64;
    }
}

async fn next(chunks: &mut Chunks) -> Result<Option<Bytes>, Fault> {
    match tokio::time::timeout(SILENCE_TIMEOUT, chunks.next()).await {
        Err(_) => Err(Fault::Link(LinkError::Silent)),
        Ok(None) => Ok(None),
        Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
        Ok(Some(Err(error))) => Err(Fault::Link(error)),
    }
}

/// Checks and writes a piece. It counts for its source here, because a span may end, by another piece's fault or
/// because it is no longer needed, while this one is on its way to the disk.
fn write(
    part: &Arc<Part>,
    index: u32,
    segments: Vec<Bytes>,
    (brought, rung): (&Brought, Rung),
) -> JoinHandle<Result<(), PieceError>> {
    let (part, brought) = (part.clone(), brought.clone());
    tokio::task::spawn_blocking(move || {
        if part.take(index, &segments)? {
            brought.add(rung, part.outline().layout().len(index));
            metrics::counter!("trueque_pieces_verified_total").increment(1);
        }
        Ok(())
    })
}

/// Waits for the oldest piece and tells the plan.
async fn written(
    writing: &mut VecDeque<(u32, JoinHandle<Result<(), PieceError>>)>,
    span: SpanId,
    arrived: &mpsc::Sender<Arrived>,
) -> Result<(), Fault> {
    let Some((index, handle)) = writing.pop_front() else { return Ok(()) };
    handle.await.map_err(|error| Fault::Inside(Failure::internal(error)))?.map_err(Fault::Piece)?;
    let _the_job_is_gone = arrived.send(Arrived { span, index }).await;
    Ok(())
}
