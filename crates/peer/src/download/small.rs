//! Many small files at once: one look at the directory, few questions, one sync and one commit for a batch.
//!
//! Files of at most one piece whose holder is online are shared out over their holders and asked for by `FetchMany`.
//! Whatever does not come this way (no holder now, a refusal, a wrong byte) becomes an ordinary download.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use content::{ContentId, Layout, Outline, PIECE_SIZE, PieceHasher, SafeName};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use wire::rest::{
    directory::{LocateReply, ReportKind},
    pclient::{Download, DownloadState, Event, Source, SourcePath},
};

use super::{
    Downloads,
    engine::Engine,
    entry::{Entry, Stage},
    here::Before,
    span::received,
};
use crate::{
    Failure,
    library::{FileStamp, NewFile},
    link::{LinkError, Rung, SILENCE_TIMEOUT, Target},
    place::{Blocked, By, Folder},
    store::downloads::{self as table, DownloadRow, Kept},
};

/// Files in one question; also in one sync and one commit.
const TOGETHER: usize = 256;
/// Questions under way at one holder.
const QUESTIONS: usize = 2;
/// Files written on a blocking thread in one go.
const WRITE_TOGETHER: usize = 64;

struct Wanted {
    entry: Arc<Entry>,
    size: u64,
    /// Only some may have it, as its holder said with the bytes.
    restricted: bool,
    /// By which way it came.
    path: Rung,
}

/// The files that one holder is asked for.
type Share = (Target, Vec<Wanted>);

/// A file that has its place.
struct Landed {
    entry: Arc<Entry>,
    outline: Outline,
    restricted: bool,
    name: SafeName,
    path: PathBuf,
    stamp: FileStamp,
    way: Rung,
}

pub(super) async fn start_many(
    downloads: &Downloads,
    wanted: Vec<(ContentId, Option<SafeName>)>,
) -> Result<Vec<Download>, Failure> {
    let turns = downloads.turns.of(wanted.iter().map(|(id, _)| id.as_bytes())).await;
    let (mut answers, mut fresh) = (BTreeMap::new(), Vec::new());
    let mut seen = BTreeMap::new();
    let mut doubtful = BTreeMap::new();
    for (at, (id, name)) in wanted.iter().enumerate() {
        let running = downloads.alive(id).filter(|entry| entry.seq().is_some());
        let running = running.or_else(|| match downloads.before(id) {
            Before::Right(entry) => Some(entry),
            Before::Doubtful(path, _) => {
                doubtful.insert(*id, path);
                None
            }
            Before::Nothing => None,
        });
        match running {
            Some(entry) => {
                answers.insert(at, entry);
            }
            None if seen.contains_key(id) => {}
            None => {
                seen.insert(*id, at);
                fresh.push((*id, name.clone()));
            }
        }
    }
    let mut created = downloads.create_many(fresh).await?;
    for entry in &created {
        if let Some(at) = seen.get(&entry.content_id) {
            answers.insert(*at, entry.clone());
        }
    }
    let mut here = Vec::new();
    created.retain(|entry| match downloads.shared(&entry.content_id) {
        Some(shared) => {
            here.push((entry.clone(), shared));
            false
        }
        None => true,
    });
    if !here.is_empty() {
        downloads.settle_shared(here).await?;
    }
    // A file that was touched is read again by a job of its own.
    created.retain(|entry| match doubtful.remove(&entry.content_id) {
        Some(path) => {
            entry.doubt(path);
            downloads.run(entry.clone());
            false
        }
        None => true,
    });
    let shown = wanted.iter().enumerate().map(|(at, (id, _))| {
        let at = if answers.contains_key(&at) { at } else { seen.get(id).copied().unwrap_or(at) };
        answers.get(&at).map(|entry| entry.view()).ok_or_else(|| Failure::internal("a download got lost"))
    });
    let shown = shown.collect::<Result<Vec<_>, _>>()?;
    drop(turns);

    let (downloads, soft) = (downloads.clone(), downloads.lifecycle.soft());
    let lifecycle = downloads.lifecycle.clone();
    let span = tracing::debug_span!("download small files", small_files = created.len());
    lifecycle.spawn("small downloads", run(downloads, created, soft).instrument(span));
    Ok(shown)
}

async fn run(downloads: Downloads, created: Vec<Arc<Entry>>, soft: CancellationToken) {
    let ids: Vec<ContentId> = created.iter().map(|entry| entry.content_id).collect();
    let engine = &downloads.engine;
    let located = if ids.is_empty() { return } else { engine.directory.locate_many(ids).await };
    let (shares, rest) = match located {
        Ok(located) => share_out(engine, created, &located),
        Err(error) => {
            tracing::debug!(%error, "the directory could not be asked for many files");
            (Vec::new(), created)
        }
    };
    rest.into_iter().for_each(|entry| downloads.run(entry));
    let mut questions = JoinSet::new();
    for (target, files) in shares {
        // Each lane of a holder takes every other question.
        let questions_of: Vec<Vec<Wanted>> = in_portions(files, TOGETHER);
        let mut lanes: Vec<Vec<Vec<Wanted>>> = (0..QUESTIONS).map(|_| Vec::new()).collect();
        for (at, question) in questions_of.into_iter().enumerate() {
            lanes[at % QUESTIONS].push(question);
        }
        for (lane, asked) in lanes.into_iter().enumerate() {
            let (downloads, target, soft) = (downloads.clone(), target.clone(), soft.clone());
            let asking = async move {
                for files in asked {
                    if !soft.is_cancelled() {
                        ask(&downloads, &target, lane, files).await;
                    }
                }
            };
            questions.spawn(asking.in_current_span());
        }
    }
    while questions.join_next().await.is_some() {}
}

/// Gives each small file to the holder that has least to do; the second list is for ordinary downloads.
fn share_out(
    engine: &Engine,
    created: Vec<Arc<Entry>>,
    located: &LocateReply,
) -> (Vec<Share>, Vec<Arc<Entry>>) {
    let by_id: BTreeMap<_, _> = located.items.iter().map(|item| (item.content_id, item)).collect();
    let mut shares: BTreeMap<u32, (u64, Vec<Wanted>)> = BTreeMap::new();
    let mut rest = Vec::new();
    for entry in created {
        let able = by_id.get(&entry.content_id).and_then(|item| {
            // Each holder is taken at its own word: where it is wrong, its bytes are.
            let small = item.holders.iter().filter(|holder| holder.size <= PIECE_SIZE);
            let online = small.filter(|holder| {
                let peer = located.peers.get(holder.peer as usize);
                let usable = |peer: &wire::rest::directory::PeerItem| {
                    peer.online && peer.peer_id != engine.own_id && !peer.endpoints.is_empty()
                };
                holder.pieces_held > 0 && peer.is_some_and(usable)
            });
            let least =
                online.min_by_key(|holder| shares.get(&holder.peer).map_or(0, |(bytes, _)| *bytes))?;
            Some((least, item))
        });
        // Somebody else may have begun it meanwhile, as a reader's job.
        match able {
            Some((holder, item)) if entry.stop_asked().is_none() && entry.begin() => {
                if !entry.is_named()
                    && let Ok(name) = SafeName::new(&item.name)
                {
                    entry.update(|view| view.name = name.to_string());
                }
                entry.update(|view| view.state = DownloadState::Running);
                let share = shares.entry(holder.peer).or_default();
                share.0 += holder.size + 4096;
                share.1.push(Wanted { entry, size: holder.size, restricted: false, path: Rung::Direct });
            }
            _ => rest.push(entry),
        }
    }
    let shares = shares.into_iter().filter_map(|(holder, (_, files))| {
        let peer = located.peers.get(holder as usize)?;
        let target = Target::from(peer);
        Some((target, files))
    });
    (shares.collect(), rest)
}

fn in_portions<T>(items: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let mut portions = Vec::new();
    let mut items = items.into_iter();
    loop {
        let portion: Vec<T> = items.by_ref().take(size).collect();
        if portion.is_empty() {
            return portions;
        }
        portions.push(portion);
    }
}

/// One question. Files that did not come go on as ordinary downloads.
async fn ask(downloads: &Downloads, target: &Target, lane: usize, files: Vec<Wanted>) {
    let engine = &downloads.engine;
    let (landed, rest, fault) = receive(engine, target, lane, files).await;
    if let Some(fault) = fault {
        tracing::debug!(peer.id = %target.peer_id, error = %fault, "not all small files came");
    }
    let rest = match settle(engine, target, landed).await {
        Ok(done) => {
            for entry in done {
                downloads.forget_alive(&entry);
                entry.ended();
                engine.tell(Event::Download(Box::new(entry.view())));
            }
            rest
        }
        Err((failure, entries)) => {
            tracing::warn!(error = %failure, "a batch of small files could not be finished");
            rest.into_iter().chain(entries).collect()
        }
    };
    for entry in rest {
        entry.ended();
        downloads.run(entry);
    }
}

/// Asks, checks and writes. Answers what has its place, and what is still to be got.
async fn receive(
    engine: &Arc<Engine>,
    target: &Target,
    lane: usize,
    files: Vec<Wanted>,
) -> (Vec<Landed>, Vec<Arc<Entry>>, Option<Failure>) {
    let ids: Vec<ContentId> = files.iter().map(|file| file.entry.content_id).collect();
    let largest = files.iter().map(|file| file.size).max().unwrap_or(0);
    let mut waiting: Vec<Option<Wanted>> = files.into_iter().map(Some).collect();
    let (mut landed, mut rest, mut fault) = (Vec::new(), Vec::new(), None);
    let mut writing = JoinSet::new();
    let asked = async {
        let link = engine.links.get_for(target, lane, largest).await?;
        Ok::<_, LinkError>((link.rung(), link.fetch_many(&ids).await?))
    };
    match asked.await {
        Err(error) => fault = Some(error.into()),
        Ok((rung, mut answer)) => {
            let received = received(rung);
            let mut together: Vec<(Wanted, Bytes)> = Vec::with_capacity(WRITE_TOGETHER);
            loop {
                let next = match tokio::time::timeout(SILENCE_TIMEOUT, answer.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        fault = Some(Failure::unavailable("no answer in time"));
                        break;
                    }
                };
                match next {
                    None => break,
                    Some(Err(error)) => {
                        fault = Some(error.into());
                        break;
                    }
                    Some(Ok(chunk)) => {
                        engine.throttle.take(chunk.data.len() as u64).await;
                        if rung == Rung::Relayed {
                            engine.relay_limits.receive(chunk.data.len()).await;
                        }
                        engine.meter.add(chunk.data.len() as u64);
                        received.increment(chunk.data.len() as u64);
                        // Each is answered once: whoever says more would have us listen for ever.
                        let Some(mut file) = waiting.get_mut(chunk.index as usize).and_then(Option::take)
                        else {
                            fault = Some(Failure::unavailable("it answers what was not asked"));
                            break;
                        };
                        (file.restricted, file.path) = (chunk.restricted, rung);
                        if chunk.error.is_empty() && chunk.data.len() as u64 == file.size {
                            together.push((file, chunk.data));
                        } else {
                            rest.push(file.entry);
                        }
                    }
                }
                if together.len() == WRITE_TOGETHER {
                    fault = land(engine, std::mem::take(&mut together), &mut writing, &mut rest).await;
                    if fault.is_some() {
                        break;
                    }
                }
            }
            let last = land(engine, together, &mut writing, &mut rest).await;
            fault = fault.or(last);
        }
    }
    while let Some(written) = writing.join_next().await {
        match written {
            Ok(written) => {
                if !written.wrong.is_empty() {
                    report(engine, target, &written.wrong).await;
                }
                landed.extend(written.landed);
                rest.extend(written.wrong);
                rest.extend(written.failed);
            }
            Err(error) => fault = Some(Failure::internal(error)),
        }
    }
    rest.extend(waiting.into_iter().flatten().map(|file| file.entry));
    (landed, rest, fault)
}

/// Has files written, once it is remembered which of them were given to this peer alone: from then on a scan may come
/// upon them. Where that cannot be remembered, none is written.
async fn land(
    engine: &Arc<Engine>,
    files: Vec<(Wanted, Bytes)>,
    writing: &mut JoinSet<Written>,
    rest: &mut Vec<Arc<Entry>>,
) -> Option<Failure> {
    let (restricted, open): (Vec<_>, Vec<_>) = files.iter().partition(|(file, _)| file.restricted);
    let ids = |files: Vec<&(Wanted, Bytes)>| files.iter().map(|(file, _)| file.entry.content_id).collect();
    let (restricted, open): (Vec<ContentId>, Vec<ContentId>) = (ids(restricted), ids(open));
    let remembered = async {
        if !restricted.is_empty() {
            engine.library.withhold(restricted).await?;
        }
        for id in &open {
            engine.library.release(id).await?;
        }
        Ok(())
    };
    if let Err(failure) = remembered.await {
        rest.extend(files.into_iter().map(|(file, _)| file.entry));
        return Some(failure);
    }
    let engine = engine.clone();
    writing.spawn_blocking(move || write(&engine, files));
    None
}

async fn report(engine: &Engine, target: &Target, wrong: &[Arc<Entry>]) {
    metrics::counter!("trueque_pieces_refused_total").increment(wrong.len() as u64);
    for entry in wrong.iter().take(1) {
        tracing::warn!(peer.id = %target.peer_id, content.id = %entry.content_id, "a source sent wrong bytes");
        if let Err(error) =
            engine.directory.report(entry.content_id, target.peer_id, ReportKind::Corrupt).await
        {
            tracing::debug!(%error, "a source could not be reported");
        }
    }
}

#[derive(Default)]
struct Written {
    landed: Vec<Landed>,
    wrong: Vec<Arc<Entry>>,
    failed: Vec<Arc<Entry>>,
}

/// Checks files and puts them in their places. Blocks.
fn write(engine: &Engine, files: Vec<(Wanted, Bytes)>) -> Written {
    let mut written = Written::default();
    let mut open: Option<(Option<String>, Folder)> = None;
    for (file, bytes) in files {
        let Some(outline) = proof(&file, &bytes) else {
            written.wrong.push(file.entry);
            continue;
        };
        match write_one(engine, &file, &bytes, &mut open) {
            Ok((path, name, stamp)) => {
                let Wanted { entry, restricted, path: way, .. } = file;
                written.landed.push(Landed { entry, outline, restricted, name, path, stamp, way });
            }
            Err(error) => {
                tracing::debug!(%error, "a small file could not be written");
                written.failed.push(file.entry);
            }
        }
    }
    // One sync for all of them; their names are on disk before the store says so.
    if let Some((_, folder)) = &open
        && let Err(error) = rustix::fs::syncfs(folder.fd())
    {
        tracing::warn!(%error, "small files could not be synced");
        written.failed.extend(written.landed.drain(..).map(|landed| landed.entry));
    }
    written
}

fn proof(file: &Wanted, bytes: &[u8]) -> Option<Outline> {
    let layout = Layout::new(file.size).ok()?;
    let outline = Outline::verify(file.entry.content_id, layout, Vec::new()).ok()?;
    let mut hasher = PieceHasher::new(layout, 0);
    hasher.update(bytes);
    outline.check(0, hasher.finish()).ok().map(|()| outline)
}

fn write_one(
    engine: &Engine,
    file: &Wanted,
    bytes: &[u8],
    open: &mut Option<(Option<String>, Folder)>,
) -> io::Result<(PathBuf, SafeName, FileStamp)> {
    let name = SafeName::new(&file.entry.name()).map_err(io::Error::other)?;
    let folder = name.folder().map(str::to_owned);
    let folder = match open {
        Some((known, open)) if *known == folder => open,
        _ => {
            engine.ground.ensure()?;
            let opened = engine.ground.open(folder.as_deref(), Blocked::Number).map_err(io::Error::other)?;
            &open.insert((folder, opened)).1
        }
    };
    let temp = engine.part_path(file.entry.content_id);
    let mut part = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    part.write_all(bytes)?;
    let name = folder.place(&temp, &name, By::Rename)?;
    // After it has its name, which moves the ctime.
    let stamp = FileStamp::of(&part.metadata()?);
    Ok((engine.ground.root().join(name.as_str()), name, stamp))
}

/// One commit and one announcement for the batch. On a failure, what has to be done otherwise.
async fn settle(
    engine: &Engine,
    target: &Target,
    landed: Vec<Landed>,
) -> Result<Vec<Arc<Entry>>, (Failure, Vec<Arc<Entry>>)> {
    let (mut rows, mut files, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for Landed { entry, outline, restricted, name, path, stamp, way } in landed {
        let Some(seq) = entry.seq() else { continue };
        let size = outline.layout().size();
        let source = Source {
            peer_id: target.peer_id,
            username: target.username.clone(),
            path: way.into(),
            why: None,
            bytes: size,
            paths: vec![SourcePath { path: way.into(), bytes: size }],
            rate_bps: 0,
        };
        entry.update(|view| {
            view.name = name.to_string();
            view.size = Some(size);
            view.path = Some(path.display().to_string());
            view.sources = vec![source.clone()];
        });
        rows.push(DownloadRow {
            seq,
            content_id: entry.content_id,
            name: name.clone(),
            named: entry.is_named(),
            state: Kept::Done,
            size: Some(size),
            error: None,
            path: Some(path.clone()),
            stamp: Some(stamp),
            sources: vec![source],
        });
        entry.set_stamp(Some(stamp));
        // A restricted file is served by its owner alone.
        if !restricted {
            files.push(NewFile::new(path, name, stamp, Arc::new(outline)));
        }
        entries.push(entry);
    }
    metrics::counter!("trueque_pieces_verified_total").increment(rows.len() as u64);
    let stored = engine.store.write(move |t| rows.iter().try_for_each(|row| table::set_done(t, row))).await;
    if let Err(failure) = stored {
        return Err((failure, entries));
    }
    if engine.reshare
        && let Err(failure) = engine.library.add(files).await
    {
        tracing::warn!(error = %failure, "small files could not be shared on");
    }
    for entry in &entries {
        entry.update(|view| {
            view.verified_bytes = view.size.unwrap_or(0);
            view.state = DownloadState::Done;
        });
        entry.stage().send_replace(Stage::Over(Failure::unavailable("the download has ended")));
    }
    Ok(entries)
}
