//! The ways out to other peers: one connection pool, a breaker for each peer, and the difference between "did not
//! answer" and "answered no".
//!
//! Today the one way is gRPC to an address that the directory lists ([`grpc`]). Other ways will stand beside it and
//! give the same answers.

mod choose;
mod chunks;
mod grpc;
pub(crate) mod h2;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use daemon::Lifecycle;
use parking_lot::Mutex;
use wire::{PeerId, Username, rest::pclient::PeerPath};

pub use choose::Breaker;
pub use chunks::Chunks;
pub use grpc::GrpcLink;
pub(crate) use grpc::link_error;

use crate::{Failure, tls::NetworkTls};

/// How long one attempt to connect may take, all handshakes included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A holder that sends nothing for so long counts as one that cannot be reached.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections to one peer. Each is encrypted and framed by one thread at either end, so two use two cores.
const CONNECTIONS: usize = 2;
/// A peer that nobody talked to for so long is hung up on.
const IDLE: Duration = Duration::from_secs(60);

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

/// A peer and where it can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub peer_id: PeerId,
    pub username: Username,
    /// `host:port`, best first; none for a peer that takes no calls.
    pub endpoints: Vec<String>,
}

/// All connections of this peer to others. Clones share them.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    tls: NetworkTls,
    lifecycle: Lifecycle,
    peers: Mutex<HashMap<PeerId, Arc<Lines>>>,
}

/// The connections to one peer.
struct Lines {
    breaker: Mutex<Breaker>,
    /// One at a time connects; the others wait for it and use what it made.
    open: [tokio::sync::Mutex<Option<GrpcLink>>; CONNECTIONS],
    used: Mutex<Instant>,
}

impl Links {
    pub fn new(tls: NetworkTls, lifecycle: &Lifecycle) -> Self {
        let inner = Arc::new(Inner { tls, lifecycle: lifecycle.clone(), peers: Mutex::default() });
        let (links, soft) = (Self { inner: inner.clone() }, lifecycle.soft());
        lifecycle.spawn("hang up on idle peers", async move {
            while soft.run_until_cancelled(tokio::time::sleep(IDLE / 2)).await.is_some() {
                let now = Instant::now();
                inner
                    .peers
                    .lock()
                    .retain(|_, lines| now.saturating_duration_since(*lines.used.lock()) < IDLE);
            }
            inner.peers.lock().clear();
        });
        links
    }

    /// An open connection to the peer, made if there is none. `lane` spreads callers over the connections.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] at once while the breaker is open, or after every endpoint was tried.
    pub async fn get(&self, target: &Target, lane: usize) -> Result<GrpcLink, LinkError> {
        let lines = self.lines(target.peer_id);
        *lines.used.lock() = Instant::now();
        let mut slot = lines.open[lane % CONNECTIONS].lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.is_open()) {
            return Ok(link.clone());
        }
        *slot = None;
        if !lines.breaker.lock().may_try(Instant::now()) {
            return Err(LinkError::Unreachable("it did not answer a moment ago".to_owned()));
        }
        let attempt = tokio::time::timeout(
            CONNECT_TIMEOUT,
            grpc::connect(target, &self.inner.tls, &self.inner.lifecycle),
        );
        match attempt.await.unwrap_or(Err(LinkError::Silent)) {
            Ok(link) => {
                self.succeeded(target.peer_id);
                *slot = Some(link.clone());
                Ok(link)
            }
            Err(error) => {
                tracing::debug!(peer.id = %target.peer_id, %error, "no connection to a peer");
                self.failed(target.peer_id);
                Err(error)
            }
        }
    }

    /// Tells the breaker that the peer answered.
    pub fn succeeded(&self, peer: PeerId) {
        let lines = self.lines(peer);
        lines.breaker.lock().succeeded();
    }

    /// Tells the breaker that there was no connection or no answer in time, and hangs up.
    pub fn failed(&self, peer: PeerId) {
        let lines = self.lines(peer);
        lines.breaker.lock().failed(Instant::now(), rand::random());
        for slot in &lines.open {
            if let Ok(mut slot) = slot.try_lock() {
                *slot = None;
            }
        }
    }

    /// Closes the breaker: the peer was heard of again.
    pub fn heard_of(&self, peer: PeerId) {
        self.lines(peer).breaker.lock().succeeded();
    }

    /// The way to a peer, as far as is known: a peer that is online is thought reachable until it was found not to be.
    pub fn path(&self, target: &Target, online: bool) -> PeerPath {
        let open = self
            .inner
            .peers
            .lock()
            .get(&target.peer_id)
            .is_some_and(|l| l.breaker.lock().next_try().is_some());
        if !online || open || target.endpoints.is_empty() { PeerPath::Offline } else { PeerPath::Direct }
    }

    fn lines(&self, peer: PeerId) -> Arc<Lines> {
        self.inner.peers.lock().entry(peer).or_default().clone()
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self { breaker: Mutex::default(), open: Default::default(), used: Mutex::new(Instant::now()) }
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("peers", &self.inner.peers.lock().len()).finish_non_exhaustive()
    }
}
