//! One download from beginning to end: finds holders, gets the proof, drives the plan, remembers, finishes.
//!
//! It is one task; what it starts (spans, watchers, looks at the directory) it owns, so that all of it ends with it.
//! Without a holder it waits and looks again: a download fails only by the user's disk, or his word.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use content::SafeName;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use wire::{
    ErrorCode, PeerId,
    rest::{
        directory::{Located, PeerItem, ReportKind},
        pclient::{DownloadError, DownloadState, Event},
    },
};

use super::{
    Part,
    claims::Claims,
    doubt::GivenUp,
    engine::Engine,
    entry::{Entry, Stage, Stop},
    finish,
    keep::{announce, save},
    mailed::{self, Mailbag},
    plan::{Outcome, Plan, Scope, SpanId, start_of},
    prepare::{LOOK_WAITING, Prepared, interrupted, prepare},
    sources::{self, Report, Sources},
    span::{self, Arrived, Ended},
};
use crate::{
    Failure,
    link::{LinkError, Target},
    store::downloads::{self as table, Kept},
};

/// Looks at the directory while all goes well.
const LOOK_RUNNING: Duration = Duration::from_secs(10);
/// The first look comes early: others may have begun at the same time.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(250);
/// The store is told after this long or this much, whatever comes first.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// A job that only serves readers outlives the last one by this.
const LINGER: Duration = Duration::from_secs(30);

/// Why a job ended.
pub(super) enum End {
    Done(finish::Finished),
    Stopped(Stop),
    Failed(Failure),
    /// No reader is left, and nobody asked for the file.
    Abandoned,
    /// The process stops; the next one goes on.
    Shutdown,
}

/// What a task of the job has to say when it ends.
pub(super) enum Note {
    Span(Ended),
    Located(Result<Located, Failure>),
    Met(Result<PeerItem, Failure>),
    Watched(Result<PeerId, (PeerId, LinkError)>),
    Checkpoint(Result<(), Failure>),
    Reported,
    /// Who is off was asked; what there is to say about it.
    Lettered(Option<String>),
    Mailed(mailed::Taken),
    /// Who sends mail.
    Writer(Result<PeerItem, Failure>),
}

pub(super) struct Job<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) entry: &'a Entry,
    pub(super) part: Arc<Part>,
    pub(super) claims: &'a mut Claims,
    restricted: bool,
    pub(super) plan: Plan,
    pub(super) sources: Sources,
    pub(super) tasks: JoinSet<Note>,
    spans: HashMap<SpanId, AbortHandle>,
    arrived: (mpsc::Sender<Arrived>, mpsc::Receiver<Arrived>),
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    pub(super) asked: BTreeSet<PeerId>,
    next_look: Instant,
    looking: bool,
    checkpoint: Checkpoint,
    last_reader: Instant,
    pub(super) bag: Mailbag,
    /// Pieces from the mailbag that are being written.
    pub(super) mailed: usize,
    /// When something was verified last, or it began.
    pub(super) last_piece: Instant,
    /// Whoever stated another size than the proven one was reported.
    pub(super) told_on: bool,
    /// Who brought some of it and says now that there is no such file, at least not for us.
    pub(super) withdrawn: BTreeSet<PeerId>,
}

struct Checkpoint {
    at: Instant,
    bytes: u64,
    under_way: bool,
}

/// Runs a download until it is over, stopped or abandoned. True where the content is no longer being fetched and a
/// new request must start anew.
pub(super) async fn run(engine: &Arc<Engine>, entry: &Entry, soft: CancellationToken) -> bool {
    let mut claims = Claims::new(engine.own_id);
    let end = loop {
        if let Ok(end) = attempt(engine, entry, &soft, &mut claims).await {
            break end;
        }
        // What readers were told of the file need not be so.
        entry.update(|view| view.size = None);
        entry.stage().send_replace(Stage::Preparing);
    };
    conclude(engine, entry, end).await
}

async fn attempt(
    engine: &Arc<Engine>,
    entry: &Entry,
    soft: &CancellationToken,
    claims: &mut Claims,
) -> Result<End, GivenUp> {
    let mut bag = Mailbag::new(engine, entry.content_id, entry.seq().is_some());
    let prepared = match prepare(engine, entry, soft, claims, &mut bag).await {
        Ok(prepared) => prepared,
        Err(end) => return Ok(end),
    };
    let place = tokio::select! {
        place = engine.running.clone().acquire_owned() => place,
        end = interrupted(entry, soft) => return Ok(end),
    };
    let mut job = Job::new(engine, entry, prepared, claims, bag);
    let end = job.drive(soft).await;
    drop(place);
    if !matches!(end, Ok(End::Done(_))) {
        job.save().await;
    }
    job.withdraw().await;
    end
}

pub(super) async fn conclude(engine: &Engine, entry: &Entry, end: End) -> bool {
    let (state, kept, error) = match &end {
        End::Done(_) => (DownloadState::Done, None, None),
        End::Stopped(Stop::Pause) => (DownloadState::Paused, Some(Kept::Paused), None),
        End::Failed(failure) => (DownloadState::Failed, Some(Kept::Failed), Some(failure.clone())),
        End::Stopped(Stop::Cancel) | End::Abandoned | End::Shutdown => (entry.view().state, None, None),
    };
    let error = error.map(|failure| DownloadError { code: failure.code, detail: failure.detail });
    if let (Some(kept), Some(seq)) = (kept, entry.seq()) {
        let stored = error.clone();
        if let Err(failure) =
            engine.store.write(move |t| table::set_state(t, seq, kept, stored.as_ref())).await
        {
            tracing::warn!(error = %failure, "the state of a download could not be stored");
        }
    }
    if matches!(end, End::Abandoned) {
        engine.discard_part(entry.content_id).await;
    }
    if matches!(end, End::Done(_) | End::Stopped(Stop::Cancel)) && entry.seq().is_some() {
        mailed::forget(engine, entry.content_id).await;
    }
    let over = match &error {
        Some(error) => Failure::new(error.code, error.detail.clone()),
        None => Failure::unavailable("the download was stopped"),
    };
    entry.update(|view| {
        view.state = state;
        view.error = error;
        view.note = None;
        view.rate_bps = 0;
        view.eta_seconds = None;
        view.sources.iter_mut().for_each(|source| source.rate_bps = 0);
        if let End::Done(finished) = &end {
            view.name = finished.name.to_string();
            view.path = Some(finished.path.display().to_string());
            view.verified_bytes = view.size.unwrap_or(0);
            entry.set_stamp(finished.stamp);
        }
    });
    if !matches!(end, End::Done(_)) {
        entry.stage().send_replace(Stage::Over(over));
    }
    tell(engine, entry);
    metrics::counter!("trueque_downloads_ended_total", "state" => format!("{state:?}").to_lowercase())
        .increment(1);
    !matches!(end, End::Stopped(Stop::Pause))
}

pub(super) fn tell(engine: &Engine, entry: &Entry) {
    if entry.seq().is_some() {
        engine.tell(Event::Download(Box::new(entry.view())));
    }
}

impl<'a> Job<'a> {
    fn new(
        engine: &'a Arc<Engine>,
        entry: &'a Entry,
        prepared: Prepared,
        claims: &'a mut Claims,
        bag: Mailbag,
    ) -> Self {
        let Prepared { part, located, restricted } = prepared;
        let now = Instant::now();
        let layout = part.outline().layout();
        let mut plan = Plan::new(layout, part.pieces(), entry.scope(), start_of(engine.own_id, layout));
        claims.liars().for_each(|liar| plan.ban(liar));
        let mut job = Self {
            engine,
            entry,
            claims,
            restricted,
            plan,
            sources: Sources::restored(entry.view().sources),
            tasks: JoinSet::new(),
            spans: HashMap::new(),
            arrived: mpsc::channel(256),
            reports: mpsc::channel(64),
            asked: BTreeSet::new(),
            next_look: if located.is_some() { now + LOOK_FIRST } else { now },
            looking: false,
            checkpoint: Checkpoint { at: now, bytes: part.verified_bytes(), under_way: false },
            last_reader: now,
            bag,
            mailed: 0,
            last_piece: now,
            told_on: false,
            withdrawn: BTreeSet::new(),
            part,
        };
        if let Some(located) = located {
            job.take_holders(&located, now);
        }
        job
    }

    async fn drive(&mut self, soft: &CancellationToken) -> Result<End, GivenUp> {
        let (mut is_open, mut asked_for) = (false, false);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut relay_returns = self.engine.links.relay_returns();
        loop {
            let now = Instant::now();
            // Nobody is told of a size that may be a lie: not the reader, not the store, not the network.
            if !is_open && self.is_sure() {
                is_open = true;
                self.entry.update(|view| view.size = Some(self.part.outline().layout().size()));
                self.entry.stage().send_replace(Stage::Open(self.part.clone()));
            }
            if !asked_for && is_open && self.entry.seq().is_some() {
                asked_for = true;
                self.plan.set_scope(Scope::Everything);
                if let Err(failure) = self.begin().await {
                    return Ok(End::Failed(failure));
                }
            }
            if asked_for && self.plan.is_complete() {
                return Ok(self.finish().await);
            }
            self.plan.set_wanted(self.urgent());
            self.order(now);
            let wake = self.plan.next_wake(now).map(|at| at.min(self.next_look)).unwrap_or(self.next_look);
            tokio::select! {
                () = soft.cancelled() => return Ok(End::Shutdown),
                () = self.entry.changed() => {
                    if let Some(stop) = self.entry.stop_asked() {
                        return Ok(End::Stopped(stop));
                    }
                }
                Ok(()) = relay_returns.changed() => self.plan.wake_all(),
                Some(piece) = self.arrived.1.recv() => self.arrived(piece),
                Some(report) = self.reports.1.recv() => self.reported(report),
                parcel = self.bag.next(), if self.mailed < mailed::TOGETHER => self.parcel(parcel, now).await,
                Some(note) = self.tasks.join_next() => match note {
                    Ok(note) => {
                        if let Some(end) = self.noted(note) {
                            return Ok(end);
                        }
                    }
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "a task of a download failed"),
                },
                _ = tick.tick() => {
                    self.show(now);
                    self.tell_on_liars();
                    self.doubt(now)?;
                    if asked_for {
                        self.save_if_due(now);
                    }
                    if self.is_abandoned(now) {
                        return Ok(End::Abandoned);
                    }
                }
                () = tokio::time::sleep_until(wake.max(now + Duration::from_millis(10)).into()) => {}
            }
            if Instant::now() >= self.next_look {
                self.look();
            }
        }
    }

    /// What a download that was asked for does and a reader's does not: it is remembered, and it serves.
    async fn begin(&mut self) -> Result<(), Failure> {
        if let Some(seq) = self.entry.seq() {
            let name =
                SafeName::new(&self.entry.name()).map_err(|error| Failure::invalid(error.to_string()))?;
            let (size, restricted) = (self.part.outline().layout().size(), self.restricted);
            let values = self.part.outline().values().concat();
            self.engine
                .store
                .write(move |t| table::set_outline(t, seq, &name, size, restricted, &values))
                .await?;
        }
        // Before it is a file in any folder: from then on a scan may come upon it.
        let id = self.entry.content_id;
        match self.restricted {
            true => self.engine.library.withhold(vec![id]).await?,
            false => self.engine.library.release(&id).await?,
        }
        if !self.restricted && self.engine.reshare {
            self.engine.parts.offer(self.part.clone());
            self.announce(self.part.pieces().held()).await;
        }
        Ok(())
    }

    async fn announce(&self, held: u32) {
        announce(self.engine, &self.entry.name(), &self.part, held).await;
    }

    /// Asks for whatever the plan wants now.
    fn order(&mut self, now: Instant) {
        for order in self.plan.next(now) {
            let Some(target) = self.sources.target(&order.source).cloned() else {
                self.plan.span_ended(order.span, Outcome::Missing, now);
                continue;
            };
            let brought = self.sources.brought(&order.source);
            let (span, trace) = (order.span, span::traced(&order));
            let fetch = span::fetch(
                self.engine.clone(),
                self.part.clone(),
                target,
                brought,
                order,
                self.arrived.0.clone(),
            );
            self.spans
                .insert(span, self.tasks.spawn(async move { Note::Span(fetch.await) }.instrument(trace)));
        }
    }

    fn arrived(&mut self, piece: Arrived) {
        let now = Instant::now();
        self.last_piece = now;
        for useless in self.plan.piece_verified(piece.span, piece.index, now) {
            self.end_span(useless, now);
        }
    }

    pub(super) fn end_span(&mut self, span: SpanId, now: Instant) {
        if let Some(task) = self.spans.remove(&span) {
            task.abort();
            self.plan.span_ended(span, Outcome::Cancelled, now);
        }
    }

    fn reported(&mut self, report: Report) {
        if self.plan.is_banned(&report.source) {
            return;
        }
        self.plan.set_pieces(report.source, report.pieces);
        self.plan.wake(report.source);
        for peer in report.receivers {
            let new = peer != self.engine.own_id && !self.sources.knows(&peer) && self.asked.insert(peer);
            if new {
                let directory = self.engine.directory.clone();
                self.tasks.spawn(async move { Note::Met(directory.peer(peer).await) });
            }
        }
    }

    fn noted(&mut self, note: Note) -> Option<End> {
        let now = Instant::now();
        match note {
            Note::Span(ended) => return self.span_ended(ended, now),
            Note::Located(located) => {
                self.looking = false;
                let wait = if self.plan.has_source(now) { LOOK_RUNNING } else { LOOK_WAITING };
                self.next_look = now + wait;
                match located {
                    Ok(located) => self.take_holders(&located, now),
                    Err(error) => tracing::debug!(%error, "the directory could not be asked for holders"),
                }
            }
            Note::Met(Ok(peer)) => {
                self.sources.met(&peer);
                self.watch_sources();
            }
            Note::Met(Err(error)) => tracing::debug!(%error, "the directory does not know a receiver"),
            Note::Watched(Err((peer, LinkError::Answered(no)))) if no.code == ErrorCode::NotFound => {
                self.sources.watch_ended(&peer);
                self.is_withdrawn_by(peer);
            }
            Note::Watched(Ok(peer) | Err((peer, _))) => self.sources.watch_ended(&peer),
            Note::Checkpoint(done) => {
                self.checkpoint.under_way = false;
                if let Err(failure) = done {
                    return Some(End::Failed(failure));
                }
            }
            Note::Reported => {}
            Note::Lettered(note) => self.entry.update(|view| view.note = note),
            Note::Mailed(taken) => return self.mailed(taken, now),
            Note::Writer(writer) => {
                if let Ok(writer) = writer {
                    self.sources.writes(&writer);
                }
            }
        }
        None
    }

    fn span_ended(&mut self, ended: Ended, now: Instant) -> Option<End> {
        // Every piece that it wrote has been sent before it ended, and is counted before the span is.
        while let Ok(piece) = self.arrived.1.try_recv() {
            self.arrived(piece);
        }
        self.spans.remove(&ended.span)?;
        self.plan.span_ended(ended.span, ended.outcome, now);
        let peer = ended.source.peer_id;
        if let Some(error) = ended.disk {
            return Some(End::Failed(Failure::storage(&error)));
        }
        match ended.outcome {
            Outcome::Corrupt => self.refused(peer),
            Outcome::Unreachable => self.report(peer, ReportKind::Unreachable),
            Outcome::Missing => self.lacks(&ended.source, ended.refusal),
            Outcome::Done | Outcome::Cancelled | Outcome::Busy | Outcome::Moved => {}
        }
        if !self.plan.has_source(now) {
            self.next_look = self.next_look.min(now + LOOK_WAITING);
        }
        None
    }

    fn look(&mut self) {
        self.next_look = Instant::now() + LOOK_RUNNING;
        if !self.looking {
            self.looking = true;
            let (directory, id) = (self.engine.directory.clone(), self.entry.content_id);
            self.tasks.spawn(async move { Note::Located(directory.locate(id).await) }.in_current_span());
        }
    }

    fn take_holders(&mut self, located: &Located, _now: Instant) {
        self.claims.look(located);
        let layout = self.part.outline().layout();
        for news in self.sources.located(located, layout, self.engine.own_id) {
            self.withdrawn.remove(&news.peer);
            if let Some(pieces) = news.pieces {
                self.plan.set_pieces(news.peer, pieces);
            }
            if news.fresh {
                self.engine.links.heard_of(news.peer);
                self.plan.wake(news.peer);
            } else if !news.online {
                self.plan.forget(news.peer);
            }
        }
        self.watch_sources();
    }

    fn watch_sources(&mut self) {
        let layout = self.part.outline().layout();
        if layout.count() == 1 {
            return; // over before anybody could tell
        }
        for target in self.sources.take_unwatched() {
            let watch = sources::watch(
                self.engine.clone(),
                target,
                self.entry.content_id,
                layout.count(),
                self.reports.0.clone(),
            );
            self.tasks.spawn(async move { Note::Watched(watch.await) }.in_current_span());
        }
    }

    /// Brings what users see up to date.
    fn show(&mut self, now: Instant) {
        let size = self.part.outline().layout().size();
        let way = |target: &Target, online: bool| self.engine.links.way_for(target, online, size);
        let sources = self.sources.shown(now, way);
        let rate: u64 = sources.iter().map(|source| source.rate_bps).sum();
        let verified = self.part.verified_bytes();
        let left = size - verified;
        let state = if self.plan.has_source(now) { DownloadState::Running } else { DownloadState::Waiting };
        self.write_letters(state == DownloadState::Waiting, now);
        let before = self.entry.view();
        let withdrawn = self.withdrawn_note(state == DownloadState::Waiting, &sources);
        self.entry.update(|view| {
            view.note = withdrawn.after(view.note.take());
            view.state = state;
            view.verified_bytes = verified;
            view.rate_bps = rate;
            // Who waits for a holder does not know when it comes.
            view.eta_seconds = (rate > 0 && state == DownloadState::Running).then(|| left.div_ceil(rate));
            view.sources = sources;
        });
        if self.entry.view() != before {
            tell(self.engine, self.entry);
        }
    }

    fn save_if_due(&mut self, now: Instant) {
        let verified = self.part.verified_bytes();
        let enough = verified >= self.checkpoint.bytes + CHECKPOINT_BYTES;
        let due = now >= self.checkpoint.at + CHECKPOINT_EVERY && verified > self.checkpoint.bytes;
        let Some(seq) = self.entry.seq().filter(|_| (enough || due) && !self.checkpoint.under_way) else {
            return;
        };
        self.checkpoint = Checkpoint { at: now, bytes: verified, under_way: true };
        let (engine, part, view) = (self.engine.clone(), self.part.clone(), self.entry.view());
        let announces = !self.restricted && engine.reshare;
        self.tasks.spawn(async move {
            let saved = save(&engine, seq, &part, &view.sources).await;
            if announces {
                announce(&engine, &view.name, &part, part.pieces().held()).await;
            }
            Note::Checkpoint(saved)
        });
    }

    /// The last word before the job ends without a file.
    async fn save(&mut self) {
        self.tasks.shutdown().await;
        self.show(Instant::now());
        if let Some(seq) = self.entry.seq()
            && self.entry.stop_asked() != Some(Stop::Cancel)
            && let Err(failure) = save(self.engine, seq, &self.part, &self.entry.view().sources).await
        {
            tracing::warn!(error = %failure, "the progress of a download could not be stored");
        }
    }

    async fn withdraw(&mut self) {
        self.tasks.shutdown().await;
        self.engine.parts.withdraw(&self.entry.content_id);
        if let Err(failure) = self.engine.library.clear_partial(&self.entry.content_id).await {
            tracing::warn!(error = %failure, "a partial file could not be withdrawn");
        }
    }

    async fn finish(&mut self) -> End {
        self.tasks.shutdown().await;
        self.show(Instant::now());
        self.entry.update(|view| view.state = DownloadState::Finishing);
        tell(self.engine, self.entry);
        match finish::finish(self.engine, self.entry, &self.part, self.restricted).await {
            Ok(finished) => End::Done(finished),
            Err(failure) => End::Failed(failure),
        }
    }

    fn is_abandoned(&mut self, now: Instant) -> bool {
        if self.entry.seq().is_some() || self.entry.has_readers() {
            self.last_reader = now;
        }
        now.saturating_duration_since(self.last_reader) >= LINGER
    }
}
