//! The beginning of a download: who has it, and the proof of its pieces, from the store or from a holder.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use content::{Layout, Outline, PieceSet, SafeName};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;
use wire::rest::{directory::Located, pclient::DownloadState};

use super::{
    Part,
    claims::Claims,
    engine::Engine,
    entry::Entry,
    job::{End, tell},
    mailed::{self, Mailbag, Pages},
    sources,
};
use crate::{Failure, link::Target, store::downloads as table};

/// Looks at the directory while nobody can be asked.
pub(super) const LOOK_WAITING: Duration = Duration::from_secs(2);
/// The first time it looks again sooner: the peer may just be logging in.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The next holder is asked for the proof too when the last one has said nothing for so long.
const SECOND_OPINION: Duration = Duration::from_secs(1);
const ASKED_AT_ONCE: usize = 8;

/// What a job starts with.
pub(super) struct Prepared {
    pub(super) part: Arc<Part>,
    pub(super) located: Option<Located>,
    pub(super) restricted: bool,
}

/// Gets the proof, from the store or from a holder, and opens the part.
pub(super) async fn prepare(
    engine: &Arc<Engine>,
    entry: &Entry,
    soft: &CancellationToken,
    claims: &mut Claims,
    bag: &mut Mailbag,
) -> Result<Prepared, End> {
    let id = entry.content_id;
    let failed = |failure| End::Failed(failure);
    let kept = match entry.seq().filter(|_| claims.are_undisputed()) {
        Some(seq) => engine.store.read(|c| table::progress(c, seq)).map_err(failed)?,
        None => None,
    };
    let view = entry.view();
    let restored = kept.as_ref().and_then(|kept| {
        let layout = Layout::new(view.size?).ok()?;
        Outline::verify(id, layout, kept.chaining_values.clone()).ok()
    });
    let mut prepared = None;
    if let Some(outline) = restored {
        // Whom it is for was said with the proof, and is kept with it.
        let restricted = kept.as_ref().is_some_and(|kept| kept.restricted);
        let pieces = kept.and_then(|kept| kept.pieces);
        let pieces = pieces.and_then(|bits| PieceSet::from_bytes(outline.layout().count(), &bits).ok());
        prepared = Some((outline, pieces, None, restricted));
    }
    let (mut pause, mut pages) = (FIRST_PAUSE, Pages::default());
    while prepared.is_none() {
        let asked = tokio::select! {
            asked = first_proof(engine, entry, claims) => asked,
            end = interrupted(entry, soft) => return Err(end),
        };
        match asked {
            Ok(Proof { outline, restricted, located }) => {
                prepared = Some((outline, None, Some(located), restricted));
            }
            Err(why) => {
                tracing::debug!(content.id = %id, error = %why, "no holder could be asked yet");
                // Readers are told; a download that was asked for waits.
                if entry.seq().is_none() {
                    return Err(End::Failed(why));
                }
                entry.update(|view| view.state = DownloadState::Waiting);
                if let Some(asking) = bag.due(engine, None, Instant::now()) {
                    let note = asking.await;
                    if note.is_none() {
                        bag.nobody_asked(Instant::now());
                    }
                    entry.update(|view| view.note = note);
                }
                tell(engine, entry);
                let look = pause.min(bag.due_in(Instant::now()));
                tokio::select! {
                    () = tokio::time::sleep(look) => pause = (pause * 2).min(LOOK_WAITING),
                    (outline, _, restricted) = mailed::proof(bag, &mut pages, id) => {
                        if claims.is_next(outline.layout().size()) {
                            prepared = Some((outline, None, None, restricted));
                        }
                    }
                    end = interrupted(entry, soft) => return Err(end),
                }
            }
        }
    }
    let Some((outline, pieces, located, restricted)) = prepared else {
        return Err(End::Failed(Failure::internal("a download without a proof")));
    };
    let part = open_part(engine, entry, outline, pieces).await.map_err(failed)?;
    Ok(Prepared { part, located, restricted })
}

/// Opens the part; `kept` are the pieces that the store knows to be in it.
async fn open_part(
    engine: &Engine,
    entry: &Entry,
    outline: Outline,
    mut kept: Option<PieceSet>,
) -> Result<Arc<Part>, Failure> {
    let path = engine.part_path(entry.content_id);
    let size = outline.layout().size();
    let is_there = std::fs::symlink_metadata(&path).is_ok_and(|found| found.len() == size);
    // Somebody took the part away. The store forgets before there is a new one that a crash would leave in its place.
    if let (false, Some(_), Some(seq)) = (is_there, kept.take_if(|_| !is_there), entry.seq()) {
        engine.store.write(move |t| table::forget_pieces(t, seq)).await?;
    }
    let ground = engine.ground.clone();
    let opened = tokio::task::spawn_blocking(move || {
        ground.ensure()?;
        Part::open(&path, Arc::new(outline), kept)
    });
    let opened = opened.await.map_err(Failure::internal)?;
    Ok(Arc::new(opened.map_err(|error| Failure::storage(&error))?))
}

struct Proof {
    outline: Outline,
    restricted: bool,
    located: Located,
}

/// Asks the directory who has it, and those for the proof: each goes by the size that it states itself. Whoever says
/// nothing for a while is not waited for alone.
async fn first_proof(engine: &Engine, entry: &Entry, claims: &mut Claims) -> Result<Proof, Failure> {
    let id = entry.content_id;
    let located = engine.directory.locate(id).await?;
    claims.look(&located);
    if !entry.is_named()
        && let Some(name) = located.names.iter().find_map(|name| SafeName::new(name).ok())
        && entry.name() != name.as_str()
    {
        entry.update(|view| view.name = name.to_string());
        // The file may come when nobody who knows its name is there.
        if let Some(seq) = entry.seq()
            && let Err(error) = engine.store.write(move |t| table::set_name(t, seq, &name)).await
        {
            tracing::warn!(%error, "the name of a download could not be kept");
        }
    }
    let holders = claims.in_order(&located);
    let mut holders = holders.into_iter().map(|holder| {
        let target = Target::from(holder);
        async move { sources::describe(engine, &target, id, holder.size).await }
    });
    let mut asked = FuturesUnordered::new();
    let mut why = Failure::unavailable("no holder is online");
    loop {
        if asked.len() < ASKED_AT_ONCE
            && let Some(next) = holders.next()
        {
            asked.push(next);
        } else if asked.is_empty() {
            return Err(why);
        }
        let more_can_be_asked = asked.len() < ASKED_AT_ONCE && holders.len() > 0;
        tokio::select! {
            Some(answer) = asked.next() => match answer {
                Ok(sources::Described { outline, restricted }) => {
                    drop((asked, holders));
                    return Ok(Proof { outline, restricted, located });
                }
                Err(error) => why = error.into(),
            },
            () = tokio::time::sleep(SECOND_OPINION), if more_can_be_asked => {}
        }
    }
}

/// The end that somebody asked for; waits until somebody does.
pub(super) async fn interrupted(entry: &Entry, soft: &CancellationToken) -> End {
    loop {
        if let Some(stop) = entry.stop_asked() {
            return End::Stopped(stop);
        }
        tokio::select! {
            () = soft.cancelled() => return End::Shutdown,
            () = entry.changed() => {}
        }
    }
}
