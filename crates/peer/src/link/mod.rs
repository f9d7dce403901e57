//! The ways out to other peers: which way is taken, one connection pool, and the difference between "did not answer"
//! and "answered no".
//!
//! - [`choose`]: direct, reversed or relayed, and when to try which; pure.
//! - [`grpc`]: questions as gRPC calls, over a connection that we made or that the peer made to us ([`reverse`]).
//! - [`relay`]: the same questions as sealed messages over the broker.
//!
//! A [`Link`] is one way that is open now. Whoever holds one asks by it until it fails; the next one may go another way.
//! A download takes a new one for each span, so it moves up and down the ladder without noticing.

mod back;
mod choose;
pub(crate) mod chunks;
mod grpc;
pub(crate) mod h2;
mod lines;
mod reasons;
pub(crate) mod relay;
pub(crate) mod reverse;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use content::ContentId;
use daemon::Lifecycle;
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tracing::{Instrument, Span};
use wire::{
    PeerId, proto,
    rest::pclient::{FetchPath, PeerPath},
};

pub use choose::{Breaker, Choice, Ladder, PerRung, Rung, Standing, Step};
pub use chunks::GrpcChunks;
pub use grpc::GrpcLink;
pub(crate) use grpc::link_error;
pub use relay::RelayLink;
pub use reverse::Reversals;
pub use target::Target;

use self::lines::{Lines, Slot};
use crate::{Failure, relay::Relay, tls::NetworkTls};

/// How long one attempt to connect may take, all handshakes included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A holder that sends nothing for so long counts as one that cannot be reached.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Who answers nothing for so long is not there. All of them are back at a broker that was restarted by then.
const SEEMS_OFF_AFTER: Duration = Duration::from_secs(2);
/// Connections to one peer. Each is encrypted and framed by one thread at either end, so two use two cores.
const CONNECTIONS: usize = 2;
/// A peer that nobody talked to for so long is hung up on.
const IDLE: Duration = Duration::from_secs(60);
/// Changes that a slow listener may be behind.
const EVENTS: usize = 256;

/// Why a question to a peer has no good answer. Another way is tried only after the first two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("could not be reached: {0}")]
    Unreachable(String),
    #[error("no answer in time")]
    Silent,
    /// The peer said so itself.
    #[error("{0}")]
    Answered(Failure),
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Answered(failure) => failure,
            LinkError::Unreachable(_) => Self::unavailable(error.to_string()),
            LinkError::Silent => Self::new(wire::ErrorCode::Timeout, error.to_string()),
        }
    }
}

impl From<Rung> for PeerPath {
    fn from(rung: Rung) -> Self {
        match rung {
            Rung::Direct => Self::Direct,
            Rung::Reversed => Self::Reversed,
            Rung::Relayed => Self::Relayed,
        }
    }
}

impl From<Rung> for FetchPath {
    fn from(rung: Rung) -> Self {
        match rung {
            Rung::Direct => Self::Direct,
            Rung::Reversed => Self::Reversed,
            Rung::Relayed => Self::Relayed,
        }
    }
}

/// One way to a peer that is open now. Clones are the same way.
#[derive(Debug, Clone)]
pub struct Link {
    way: Way,
    rung: Rung,
}

#[derive(Debug, Clone)]
enum Way {
    Grpc(GrpcLink),
    Relay(RelayLink),
}

/// The bytes of a `Fetch` answer, in order, by whatever way they come.
#[derive(Debug)]
pub enum Chunks {
    Grpc(Box<GrpcChunks>),
    Relay(Box<relay::RelayChunks>),
}

impl Chunks {
    /// The next bytes, as many as came together; `None` at the end. The caller watches for silence.
    ///
    /// # Errors
    /// [`LinkError::Answered`] for what the holder said, [`LinkError::Unreachable`] where the way broke.
    pub async fn next(&mut self) -> Option<Result<bytes::Bytes, LinkError>> {
        match self {
            Self::Grpc(chunks) => chunks.next().await,
            Self::Relay(chunks) => chunks.next().await,
        }
    }
}

/// A stream of messages from a peer.
pub type Messages<T> = BoxStream<'static, Result<T, LinkError>>;

impl Link {
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// A question until its answer begins.
    fn span(&self, method: &'static str) -> Span {
        let path = self.rung.as_str();
        tracing::debug_span!("ask", otel.kind = "client", otel.name = method, rpc.method = method, path)
    }

    /// Size, proof from `first_piece` on, and pieces.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn describe(&self, id: ContentId, first_piece: u32) -> Result<proto::Description, LinkError> {
        let asking = async {
            match &self.way {
                Way::Grpc(link) => link.describe(id, first_piece).await,
                Way::Relay(link) => link.describe(id, first_piece).await,
            }
        };
        asking.instrument(self.span("Describe")).await
    }

    /// The bytes `range`, whole pieces, as they come. The caller watches for silence.
    ///
    /// # Errors
    /// See [`LinkError`]; later ones come from [`Chunks::next`].
    pub async fn fetch(&self, id: ContentId, range: Range<u64>) -> Result<Chunks, LinkError> {
        match &self.way {
            Way::Grpc(link) => link.fetch(id, range).await.map(|chunks| Chunks::Grpc(Box::new(chunks))),
            Way::Relay(link) => link.fetch(id, range).await.map(|chunks| Chunks::Relay(Box::new(chunks))),
        }
    }

    /// Up to 1,000 small files in one stream.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn fetch_many(&self, ids: &[ContentId]) -> Result<Messages<proto::FileChunk>, LinkError> {
        let asking = async {
            match &self.way {
                Way::Grpc(link) => Ok(messages(link.fetch_many(ids).await?)),
                Way::Relay(link) => link.fetch_many(ids).await,
            }
        };
        asking.instrument(self.span("FetchMany")).await
    }

    /// Follows what the peer has of a content, and who else fetches it.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn watch(&self, id: ContentId) -> Result<Messages<proto::PieceSet>, LinkError> {
        let asking = async {
            match &self.way {
                Way::Grpc(link) => Ok(messages(link.watch(id).await?)),
                Way::Relay(link) => link.watch(id).await,
            }
        };
        asking.instrument(self.span("Watch")).await
    }

    /// What the peer lets us see of its files.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn list(&self) -> Result<Messages<proto::File>, LinkError> {
        let asking = async {
            match &self.way {
                Way::Grpc(link) => Ok(messages(link.list().await?)),
                Way::Relay(link) => link.list().await,
            }
        };
        asking.instrument(self.span("List")).await
    }

    /// Tells the peer's user of a file to fetch from us.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn offer(&self, offer: proto::OfferRequest) -> Result<proto::OfferReply, LinkError> {
        let asking = async {
            match &self.way {
                Way::Grpc(link) => link.offer(offer).await,
                Way::Relay(link) => link.offer(offer).await,
            }
        };
        asking.instrument(self.span("Offer")).await
    }
}

fn messages<T: Send + 'static>(stream: tonic::Streaming<T>) -> Messages<T> {
    stream.map(|message| message.map_err(link_error)).boxed()
}

/// All ways of this peer to others. Clones share them.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    tls: NetworkTls,
    relay: Option<Relay>,
    reversals: Reversals,
    lifecycle: Lifecycle,
    peers: Mutex<HashMap<PeerId, Arc<Lines>>>,
    changes: broadcast::Sender<PathChange>,
    /// Counts how often the relay came back.
    returns: watch::Sender<u64>,
}

/// Another way leads to a peer from now on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathChange {
    pub peer_id: PeerId,
    pub path: PeerPath,
}

impl Links {
    pub fn new(tls: NetworkTls, relay: Option<Relay>, reversals: Reversals, lifecycle: &Lifecycle) -> Self {
        let peers = Mutex::default();
        let changes = broadcast::Sender::new(EVENTS);
        let returns = watch::Sender::default();
        let inner =
            Arc::new(Inner { tls, relay, reversals, lifecycle: lifecycle.clone(), peers, changes, returns });
        let (links, soft) = (Self { inner: inner.clone() }, lifecycle.soft());
        back::spawn(&inner, lifecycle);
        lifecycle.spawn("hang up on idle peers", async move {
            while soft.run_until_cancelled(tokio::time::sleep(IDLE / 2)).await.is_some() {
                let now = Instant::now();
                let in_use =
                    |used: Option<Instant>| used.is_some_and(|at| now.saturating_duration_since(at) < IDLE);
                inner.peers.lock().retain(|_, lines| in_use(*lines.used.lock()));
            }
            inner.peers.lock().clear();
        });
        links
    }

    /// The best way to the peer that is open, or can be opened now. `lane` spreads callers over the connections.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] at once while every breaker is open, or after each way that could be tried was.
    pub async fn get(&self, target: &Target, lane: usize) -> Result<Link, LinkError> {
        self.get_for(target, lane, 0).await
    }

    /// As [`Self::get`], for the bytes of a file of this size: the relay is no way for one that is too large for it.
    ///
    /// # Errors
    /// As [`Self::get`]; `unavailable` where there would be the relay for a smaller one.
    pub async fn get_for(&self, target: &Target, lane: usize, size: u64) -> Result<Link, LinkError> {
        self.check(target)?;
        let lines = self.lines(target.peer_id);
        *lines.used.lock() = Some(Instant::now());
        let mut link = self.choose(target, &lines, lane, size).await;
        if link.is_err()
            && let Some(why) = self.too_large(target, size)
        {
            metrics::counter!("trueque_refusals_total", "reason" => "too large for the relay").increment(1);
            link = Err(LinkError::Answered(Failure::unavailable(why)));
        }
        self.tell(target, &lines);
        link
    }

    /// Whoever is revoked is asked nothing either.
    fn check(&self, target: &Target) -> Result<(), LinkError> {
        if self.inner.tls.trust().refuses(target.peer_id, &target.username) {
            return Err(LinkError::Unreachable("its session was ended".to_owned()));
        }
        Ok(())
    }

    async fn choose(
        &self,
        target: &Target,
        lines: &Lines,
        lane: usize,
        size: u64,
    ) -> Result<Link, LinkError> {
        let mut last = LinkError::Unreachable("it did not answer a moment ago".to_owned());
        loop {
            let standing = self.standing(target, lines, lane, size);
            let choice = lines.ladder.lock().choose(standing, Instant::now());
            for rung in choice.probes {
                drop(self.probe(target, lane, rung));
            }
            let (rung, tried) = match choice.step {
                Step::Wait => return Err(last),
                Step::Use(rung) => {
                    if let Some(link) = self.open(target, lines, rung, lane) {
                        return Ok(link);
                    }
                    continue;
                }
                Step::Try(rung) => (rung, Some(self.connect(target, lines, rung, lane).await)),
                Step::TryForAMoment(rung) => (rung, self.connect_for_a_moment(target, rung, lane).await),
            };
            match tried {
                Some(Ok(())) => {
                    if let Some(link) = self.open(target, lines, rung, lane) {
                        return Ok(link);
                    }
                    last = LinkError::Unreachable("it hung up at once".to_owned());
                    lines.ladder.lock().failed(rung, Instant::now(), rand::random());
                }
                Some(Err(error)) => last = error,
                None => {}
            }
        }
    }

    /// Dials the target on a connection of its own, asks something, and hangs up; how long that took.
    ///
    /// # Errors
    /// See [`LinkError`]; a refusal is an answer.
    pub async fn try_out(&self, target: &Target) -> Result<Duration, LinkError> {
        self.check(target)?;
        let begun = Instant::now();
        let connecting = grpc::connect(target, &self.inner.tls, &self.inner.lifecycle);
        let link = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| {
            LinkError::Unreachable(format!("nothing there answers within {} s", CONNECT_TIMEOUT.as_secs()))
        })??;
        match link.describe(ContentId::from_bytes(rand::random()), 0).await {
            Ok(_) | Err(LinkError::Answered(_)) => Ok(begun.elapsed()),
            Err(error) => Err(error),
        }
    }

    /// Tells that the peer answered by this way.
    pub fn succeeded(&self, peer: PeerId, rung: Rung) {
        let lines = self.lines(peer);
        lines.ladder.lock().succeeded(rung);
        lines.faults.lock()[rung] = None;
        *lines.missed_since.lock() = None;
    }

    /// Tells that a first question had no answer by this way. Nobody has begun to rely on it, so no breaker counts it.
    pub fn missed(&self, target: &Target, rung: Rung, error: &LinkError) {
        let lines = self.lines(target.peer_id);
        lines.faults.lock()[rung] = Some(error.clone());
        lines.missed_since.lock().get_or_insert_with(Instant::now);
    }

    /// Whether the peer has answered by no way for a while, the relay among them: its crash is known here before its lease
    /// at the directory ends. One that is only looking for its broker is back before.
    pub fn seems_off(&self, target: &Target) -> bool {
        let Some(lines) = self.inner.peers.lock().get(&target.peer_id).cloned() else { return false };
        let long = lines.missed_since.lock().is_some_and(|since| since.elapsed() >= SEEMS_OFF_AFTER);
        let faults = lines.faults.lock();
        long && faults.relayed.is_some() && (target.endpoints.is_empty() || faults.direct.is_some())
    }

    /// Tells that there was no answer by this way, and hangs up.
    pub fn failed(&self, target: &Target, rung: Rung) {
        let lines = self.lines(target.peer_id);
        lines.slots(rung).iter().for_each(Slot::hang_up);
        if rung == Rung::Direct && self.relay_for(target).is_some() {
            // It runs between the same machines: likely it is dead too, and whoever asked by it would wait to be told.
            // Where it is not, another one is there in a moment.
            lines.slots(Rung::Reversed).iter().for_each(Slot::hang_up);
        }
        lines.faults.lock()[rung] = Some(LinkError::Silent);
        let standing = self.standing(target, &lines, 0, 0);
        lines.ladder.lock().fell_silent(rung, standing, Instant::now(), rand::random());
        self.tell(target, &lines);
    }

    /// The peer was heard of again: its breakers let one attempt through.
    pub fn heard_of(&self, peer: PeerId) {
        self.lines(peer).ladder.lock().heard_of(Instant::now());
    }

    /// The way to a peer, as far as is known: a peer that is online is thought reachable until it was found not to be.
    pub fn path(&self, target: &Target, online: bool) -> PeerPath {
        self.path_for(target, online, 0)
    }

    /// As [`Self::path`], for a file of this size.
    pub fn path_for(&self, target: &Target, online: bool, size: u64) -> PeerPath {
        if !online {
            return PeerPath::Offline;
        }
        let known = self.inner.peers.lock().get(&target.peer_id).cloned();
        self.likely(target, &known.unwrap_or_default(), size)
    }

    /// Follows the ways to peers that are talked to.
    pub fn subscribe(&self) -> broadcast::Receiver<PathChange> {
        self.inner.changes.subscribe()
    }

    /// Changes whenever the relay takes messages again, and each peer may be asked by it at once.
    pub fn relay_returns(&self) -> watch::Receiver<u64> {
        self.inner.returns.subscribe()
    }

    fn likely(&self, target: &Target, lines: &Lines, size: u64) -> PeerPath {
        let standing = self.standing(target, lines, 0, size);
        let likely = lines.ladder.lock().likely(standing, Instant::now());
        likely.map_or(PeerPath::Offline, PeerPath::from)
    }

    /// Tells those who listen where the way to the peer has changed.
    fn tell(&self, target: &Target, lines: &Lines) {
        let path = self.likely(target, lines, 0);
        let before = lines.told.lock().replace(path);
        if before == Some(path) {
            return;
        }
        if let Some(before) = before {
            let reason = self.reason_in_short(lines, before, path);
            tracing::info!(
                peer.id = %target.peer_id, path = path.word(), path.before = before.word(), reason,
                "another way leads to a peer"
            );
        }
        let _nobody_listens = self.inner.changes.send(PathChange { peer_id: target.peer_id, path });
    }

    fn relay_for(&self, target: &Target) -> Option<&Relay> {
        self.inner.relay.as_ref().filter(|relay| relay.is_on() && !target.sealing_key.is_empty())
    }

    fn lines(&self, peer: PeerId) -> Arc<Lines> {
        self.inner.peers.lock().entry(peer).or_default().clone()
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("peers", &self.inner.peers.lock().len()).finish_non_exhaustive()
    }
}
