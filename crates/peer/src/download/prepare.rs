//! The beginning of a download: who has it, and the proof of its pieces, from the store or from a holder.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use content::{Layout, Outline, PieceSet, SafeName};
use tokio_util::sync::CancellationToken;
use wire::{
    PeerId,
    rest::{directory::Located, pclient::DownloadState},
};

use super::{
    Part,
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

/// What a job starts with.
pub(super) struct Prepared {
    pub(super) part: Arc<Part>,
    pub(super) located: Option<Located>,
    pub(super) describer: Option<PeerId>,
    pub(super) restricted: bool,
}

/// Gets the proof, from the store or from a holder, and opens the part.
pub(super) async fn prepare(
    engine: &Arc<Engine>,
    entry: &Entry,
    soft: &CancellationToken,
    distrusted: &BTreeSet<PeerId>,
    bag: &mut Mailbag,
) -> Result<Prepared, End> {
    let id = entry.content_id;
    let failed = |failure| End::Failed(failure);
    let kept = match entry.seq().filter(|_| distrusted.is_empty()) {
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
        prepared = Some((outline, pieces, None, None, restricted));
    }
    let (mut pause, mut pages) = (FIRST_PAUSE, Pages::default());
    while prepared.is_none() {
        let asked = tokio::select! {
            asked = first_proof(engine, entry, distrusted) => asked,
            end = interrupted(entry, soft) => return Err(end),
        };
        match asked {
            Ok(Proof { outline, restricted, located, describer }) => {
                prepared = Some((outline, None, Some(located), Some(describer), restricted));
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
                    entry.update(|view| view.note = note);
                }
                tell(engine, entry);
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOK_WAITING),
                    (outline, from, restricted) = mailed::proof(bag, &mut pages, id) => {
                        prepared = Some((outline, None, None, Some(from), restricted));
                    }
                    end = interrupted(entry, soft) => return Err(end),
                }
            }
        }
    }
    let Some((outline, pieces, located, describer, restricted)) = prepared else {
        return Err(End::Failed(Failure::internal("a download without a proof")));
    };
    let path = engine.part_path(id);
    let opened = tokio::task::spawn_blocking(move || Part::open(&path, Arc::new(outline), pieces)).await;
    let opened = opened.map_err(|error| End::Failed(Failure::internal(error)))?;
    let part = Arc::new(opened.map_err(|error| End::Failed(Failure::storage(&error)))?);
    Ok(Prepared { part, located, describer, restricted })
}

struct Proof {
    outline: Outline,
    restricted: bool,
    located: Located,
    describer: PeerId,
}

/// Asks the directory who has it and those for the proof, whole holders first.
async fn first_proof(
    engine: &Engine,
    entry: &Entry,
    distrusted: &BTreeSet<PeerId>,
) -> Result<Proof, Failure> {
    let id = entry.content_id;
    let located = engine.directory.locate(id).await?;
    if !entry.is_named()
        && let Some(name) = located.names.iter().find_map(|name| SafeName::new(name).ok())
    {
        entry.update(|view| view.name = name.to_string());
    }
    let mut holders: Vec<_> = located
        .holders
        .iter()
        .filter(|holder| {
            holder.online && holder.peer_id != engine.own_id && !distrusted.contains(&holder.peer_id)
        })
        .collect();
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.pieces_held));
    let mut why = Failure::unavailable("no holder is online");
    for holder in holders {
        let target = Target::from(holder);
        match sources::describe(engine, &target, id, located.size).await {
            Ok(described) => {
                let sources::Described { outline, restricted } = described;
                return Ok(Proof { outline, restricted, describer: holder.peer_id, located });
            }
            Err(error) => why = error.into(),
        }
    }
    Err(why)
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
