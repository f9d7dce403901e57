//! [`Sources`]: the holders that one download knows, what they brought, and the tasks that follow them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use content::{ContentId, Layout, Outline, PieceSet};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use wire::{
    PeerId, proto,
    rest::{
        directory::{Holder, Located, PeerItem},
        pclient::{PeerPath, Source},
    },
};

use super::{
    brought::{Brought, add_earlier},
    engine::Engine,
};
use crate::{
    Failure,
    link::{LinkError, SILENCE_TIMEOUT, Target},
    meter::Meter,
};

/// More holders of one file are not asked: they would not make it faster.
const MAX_SOURCES: usize = 32;
/// Bytes of a proof in a second, at the least.
const PROOF_RATE: u64 = 64 << 10;
/// A source's states are taken in at most this often.
const PACE: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(super) struct Sources {
    known: BTreeMap<PeerId, Known>,
    /// What was brought before the process was last started.
    earlier: Vec<Source>,
    /// What those brought who are off, by mail.
    mail: BTreeMap<PeerId, Meter>,
}

#[derive(Debug)]
struct Known {
    target: Target,
    online: bool,
    last_seen: Timestamp,
    brought: Brought,
    watched: bool,
}

/// What a watcher says of a source.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) source: PeerId,
    pub(super) pieces: PieceSet,
    /// Others who fetch the same from it.
    pub(super) receivers: Vec<PeerId>,
}

/// What a look at the directory changed for one source.
#[derive(Debug)]
pub(super) struct News {
    pub(super) peer: PeerId,
    /// All pieces, where the directory says that it has them all.
    pub(super) pieces: Option<PieceSet>,
    /// It was heard of since we last looked.
    pub(super) fresh: bool,
    pub(super) online: bool,
}

impl Sources {
    pub(super) fn restored(earlier: Vec<Source>) -> Self {
        Self { earlier, ..Self::default() }
    }

    /// Takes in what the directory says of the holders of this size.
    pub(super) fn located(&mut self, located: &Located, layout: Layout, own: PeerId) -> Vec<News> {
        let same = |holder: &&Holder| holder.peer_id != own && holder.size == layout.size();
        let holders = located.holders.iter().filter(same);
        holders.filter_map(|holder| self.heard(holder, layout)).collect()
    }

    fn heard(&mut self, holder: &Holder, layout: Layout) -> Option<News> {
        let peer = holder.peer_id;
        if !self.known.contains_key(&peer) && (self.known.len() >= MAX_SOURCES || !holder.online) {
            return None;
        }
        let target = Target::from(holder);
        let whole = holder.pieces_held >= layout.count();
        let known =
            self.known.entry(peer).or_insert_with(|| Known::new(target.clone(), Timestamp::UNIX_EPOCH));
        let fresh =
            holder.online && (holder.last_seen > known.last_seen || !known.online || target != known.target);
        known.last_seen = holder.last_seen;
        known.online = holder.online;
        known.target = target;
        Some(News {
            peer,
            pieces: whole.then(|| PieceSet::full(layout.count())),
            fresh,
            online: holder.online,
        })
    }

    /// Adds a receiver that another source told of, when the directory has said who it is.
    pub(super) fn met(&mut self, peer: &PeerItem) {
        if self.known.len() < MAX_SOURCES && peer.online {
            let target = Target::from(peer);
            self.known.entry(peer.peer_id).or_insert_with(|| Known::new(target, peer.last_seen));
        }
    }

    /// Counts what came by mail. True where nobody knows yet who writes.
    pub(super) fn brought_by_mail(&mut self, from: PeerId, bytes: u64) -> bool {
        self.mail.entry(from).or_default().add(bytes);
        !self.known.contains_key(&from)
    }

    /// Somebody who is off and sends mail.
    pub(super) fn writes(&mut self, peer: &PeerItem) {
        let known = || Known { online: false, ..Known::new(Target::from(peer), peer.last_seen) };
        self.known.entry(peer.peer_id).or_insert_with(known);
    }

    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.known.contains_key(peer)
    }

    pub(super) fn target(&self, peer: &PeerId) -> Option<&Target> {
        self.known.get(peer).map(|known| &known.target)
    }

    pub(super) fn brought(&self, peer: &PeerId) -> Brought {
        self.known.get(peer).map(|known| known.brought.clone()).unwrap_or_default()
    }

    /// Those that are online and that nobody follows yet; from now on somebody does.
    pub(super) fn take_unwatched(&mut self) -> Vec<Target> {
        let unwatched = self.known.values_mut().filter(|known| known.online && !known.watched);
        unwatched
            .map(|known| {
                known.watched = true;
                known.target.clone()
            })
            .collect()
    }

    pub(super) fn watch_ended(&mut self, peer: &PeerId) {
        if let Some(known) = self.known.get_mut(peer) {
            known.watched = false;
        }
    }

    /// As a user sees them: who brought something or could.
    pub(super) fn shown(
        &self,
        now: Instant,
        way: impl Fn(&Target, bool) -> (PeerPath, Option<String>),
    ) -> Vec<Source> {
        let mut shown: Vec<Source> = self
            .known
            .values()
            .map(|known| {
                let peer_id = known.target.peer_id;
                let mail = self.mail.get(&peer_id);
                let (path, why) = match way(&known.target, known.online) {
                    (PeerPath::Offline, _) if mail.is_some() => {
                        (PeerPath::Relayed, Some("it is off, and what it sent lay in the mailbox".to_owned()))
                    }
                    way => way,
                };
                Source {
                    peer_id,
                    username: known.target.username.clone(),
                    path,
                    why,
                    bytes: known.brought.total() + mail.map_or(0, Meter::total),
                    paths: known.brought.paths(mail.map_or(0, Meter::total)),
                    rate_bps: known.brought.rate(now) + mail.map_or(0, |meter| meter.rate(now)),
                }
            })
            .collect();
        for earlier in &self.earlier {
            match shown.iter_mut().find(|source| source.peer_id == earlier.peer_id) {
                Some(source) => {
                    source.bytes += earlier.bytes;
                    add_earlier(&mut source.paths, &earlier.paths);
                }
                None => {
                    shown.push(Source { rate_bps: 0, path: PeerPath::Offline, why: None, ..earlier.clone() })
                }
            }
        }
        shown
    }
}

impl Known {
    fn new(target: Target, last_seen: Timestamp) -> Self {
        Self { target, online: true, last_seen, brought: Brought::default(), watched: false }
    }
}

/// Follows what a source has until it hangs up or the download ends.
pub(super) async fn watch(
    engine: Arc<Engine>,
    target: Target,
    id: ContentId,
    count: u32,
    reports: mpsc::Sender<Report>,
) -> Result<PeerId, (PeerId, LinkError)> {
    let peer = target.peer_id;
    let fail = |error| (peer, error);
    let link = engine.links.get(&target, 0).await.map_err(fail)?;
    let mut states = link.watch(id).await.map_err(fail)?;
    while let Some(state) = states.next().await {
        let state = state.map_err(fail)?;
        // Sets that do not fit the file are a mistake or a lie; either way they are worth nothing.
        let fits = |pieces: &PieceSet| pieces.held() == state.held;
        let Some(pieces) = PieceSet::from_bytes(count, &state.bits).ok().filter(fits) else {
            tokio::time::sleep(PACE).await;
            continue;
        };
        let receivers =
            state.receivers.iter().filter_map(|id| PeerId::try_from(id.as_ref()).ok()).take(MAX_SOURCES);
        let report = Report { source: peer, pieces, receivers: receivers.collect() };
        if reports.send(report).await.is_err() {
            break;
        }
        // Whoever speaks without a pause is heard at a pace.
        tokio::time::sleep(PACE).await;
    }
    Ok(peer)
}

/// What one holder says of a content, proven.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) outline: Outline,
    pub(super) restricted: bool,
}

/// Asks a holder for the proof of a content, page by page. `size` is what it had the directory say: who says one thing
/// there and another here is not believed.
pub(super) async fn describe(
    engine: &Engine,
    target: &Target,
    id: ContentId,
    size: u64,
) -> Result<Described, LinkError> {
    // A page may be short, and there may be many: all of them have an end too.
    let layout =
        Layout::new(size).map_err(|error| LinkError::Answered(Failure::invalid(error.to_string())))?;
    let bytes = Outline::values_for(layout) as u64 * 32;
    let limit = SILENCE_TIMEOUT + Duration::from_secs(bytes / PROOF_RATE);
    tokio::time::timeout(limit, pages_of(engine, target, id, layout)).await.unwrap_or(Err(LinkError::Silent))
}

async fn pages_of(
    engine: &Engine,
    target: &Target,
    id: ContentId,
    layout: Layout,
) -> Result<Described, LinkError> {
    let refuse = |why: String| LinkError::Answered(Failure::invalid(why));
    let (size, wanted) = (layout.size(), Outline::values_for(layout));
    let _room = engine.room_for_proof(wanted * 32).await;
    let link = engine.links.get(target, 0).await?;
    let mut values: Vec<[u8; 32]> = Vec::new();
    loop {
        let first = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let asked = tokio::time::timeout(SILENCE_TIMEOUT, link.describe(id, first)).await;
        let page: proto::Description = match asked.unwrap_or(Err(LinkError::Silent)) {
            Ok(page) => page,
            Err(error @ LinkError::Answered(_)) => return Err(error),
            Err(error) => {
                engine.links.missed(target, link.rung(), &error);
                return Err(error);
            }
        };
        engine.links.succeeded(target.peer_id, link.rung());
        if page.size != size {
            return Err(refuse(format!("it says {} bytes, and {size} to the directory", page.size)));
        }
        let (more, rest) = page.chaining_values.as_chunks::<32>();
        if !rest.is_empty()
            || values.len() + more.len() > wanted
            || (more.is_empty() && values.len() < wanted)
        {
            return Err(refuse("its proof has the wrong length".to_owned()));
        }
        values.extend_from_slice(more);
        if values.len() == wanted {
            let outline = Outline::verify(id, layout, values).map_err(|error| refuse(error.to_string()))?;
            return Ok(Described { outline, restricted: page.restricted });
        }
    }
}
