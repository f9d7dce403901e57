//! The connections to one peer, and how they are made.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::timeout};
use wire::rest::pclient::PeerPath;

use super::{
    CONNECT_TIMEOUT, CONNECTIONS, GrpcLink, Ladder, Link, LinkError, Links, PerRung, RelayLink, Rung,
    Standing, Target, Way, grpc,
};

/// So long a new connection is waited for where something worse carries meanwhile: the delay after which RFC 8305 has
/// the next address tried, and some time to shake hands.
const HEAD_START: Duration = Duration::from_millis(300);

/// The connections to one peer.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) ladder: Mutex<Ladder>,
    /// One at a time connects; the others wait for it and use what it made.
    pub(super) direct: [Slot; CONNECTIONS],
    pub(super) reversed: [Slot; CONNECTIONS],
    /// How each way failed last, until it carries again.
    pub(super) faults: Mutex<PerRung<Option<LinkError>>>,
    /// Since when first questions have had no answer by any way.
    pub(super) missed_since: Mutex<Option<Instant>>,
    pub(super) used: Mutex<Option<Instant>>,
    /// The way that was last told.
    pub(super) told: Mutex<Option<PeerPath>>,
}

#[derive(Default)]
pub(super) struct Slot {
    link: Mutex<Option<GrpcLink>>,
    /// Held while somebody connects; how the last attempt failed, if it did.
    connecting: tokio::sync::Mutex<Option<(Instant, LinkError)>>,
    /// Since when somebody connects.
    since: Mutex<Option<Instant>>,
}

/// Somebody connects, until this is dropped.
struct Connecting<'a>(&'a Slot);

impl Slot {
    pub(super) fn open(&self) -> Option<GrpcLink> {
        self.link.lock().clone().filter(GrpcLink::is_open)
    }

    pub(super) fn hang_up(&self) {
        *self.link.lock() = None;
    }

    fn begin(&self) -> Connecting<'_> {
        *self.since.lock() = Some(Instant::now());
        Connecting(self)
    }

    fn is_slow(&self) -> bool {
        self.since.lock().is_some_and(|since| since.elapsed() >= HEAD_START)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        *self.0.since.lock() = None;
    }
}

impl Lines {
    pub(super) fn slots(&self, rung: Rung) -> &[Slot] {
        match rung {
            Rung::Direct => &self.direct,
            Rung::Reversed => &self.reversed,
            Rung::Relayed => &[],
        }
    }

    pub(super) fn slot(&self, rung: Rung, lane: usize) -> Option<&Slot> {
        self.slots(rung).get(lane % CONNECTIONS)
    }

    /// Whether a connection by this way is being made, and takes long.
    pub(super) fn is_slow(&self, rung: Rung) -> bool {
        self.slots(rung).iter().any(Slot::is_slow)
    }
}

impl Links {
    /// `size` is that of the file whose bytes are wanted, 0 for other questions.
    pub(super) fn standing(
        &self,
        target: &Target,
        lines: &Lines,
        lane: usize,
        size: u64,
    ) -> PerRung<Standing> {
        let inner = &self.inner;
        let of = |rung: Rung, possible: bool| match lines.slot(rung, lane).and_then(Slot::open) {
            Some(_) => Standing::Open,
            None if possible && lines.is_slow(rung) => Standing::Slow,
            None if possible => Standing::Possible,
            None => Standing::Missing,
        };
        let relay = self.relay_for(target).is_some();
        let carries = self.relay_for(target).is_some_and(|relay| relay.limits().takes(size));
        PerRung {
            direct: of(Rung::Direct, !target.endpoints.is_empty()),
            // Who takes no calls does not answer on connections of its own making either.
            reversed: of(
                Rung::Reversed,
                relay && !target.endpoints.is_empty() && inner.reversals.are_possible(),
            ),
            relayed: if carries { Standing::Open } else { Standing::Missing },
        }
    }

    /// What is open, as a link.
    pub(super) fn open(&self, target: &Target, lines: &Lines, rung: Rung, lane: usize) -> Option<Link> {
        let way = match lines.slot(rung, lane) {
            Some(slot) => Way::Grpc(slot.open()?),
            None => Way::Relay(RelayLink::new(self.relay_for(target)?.clone(), target.clone())),
        };
        Some(Link { way, rung })
    }

    /// Connects, or waits for somebody who does, and tells the breaker.
    pub(super) async fn connect(
        &self,
        target: &Target,
        lines: &Lines,
        rung: Rung,
        lane: usize,
    ) -> Result<(), LinkError> {
        let Some(slot) = lines.slot(rung, lane) else { return Ok(()) };
        let asked = Instant::now();
        let mut failed = slot.connecting.lock().await;
        if slot.open().is_some() {
            return Ok(());
        }
        // Of those who waited for an attempt that failed, not each makes another one.
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        let _connecting = slot.begin();
        let inner = &self.inner;
        let attempt = async {
            match (rung, self.relay_for(target)) {
                (Rung::Reversed, Some(relay)) => inner.reversals.ask(relay, target).await,
                (Rung::Reversed, None) => Err(LinkError::Unreachable("the relay is off".to_owned())),
                _ => grpc::connect(target, &inner.tls, &inner.lifecycle).await,
            }
        };
        match timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or(Err(LinkError::Silent)) {
            Ok(link) => {
                *slot.link.lock() = Some(link);
                *failed = None;
                lines.ladder.lock().connected(rung);
                lines.faults.lock()[rung] = None;
                tracing::debug!(peer.id = %target.peer_id, path = ?rung, "connected to a peer");
                Ok(())
            }
            Err(error) => {
                tracing::debug!(peer.id = %target.peer_id, path = ?rung, %error, "no connection to a peer");
                lines.ladder.lock().failed(rung, Instant::now(), rand::random());
                *failed = Some((Instant::now(), error.clone()));
                lines.faults.lock()[rung] = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Connects while something worse could carry: `None` where that takes long, and goes on beside the work.
    pub(super) async fn connect_for_a_moment(
        &self,
        target: &Target,
        rung: Rung,
        lane: usize,
    ) -> Option<Result<(), LinkError>> {
        // Nothing comes of it only where everything ends.
        timeout(HEAD_START, self.probe(target, lane, rung)).await.ok()?.ok()?
    }

    /// Tries a better way beside the work.
    pub(super) fn probe(
        &self,
        target: &Target,
        lane: usize,
        rung: Rung,
    ) -> JoinHandle<Option<Result<(), LinkError>>> {
        let (links, target) = (self.clone(), target.clone());
        self.inner.lifecycle.spawn("try a better way to a peer", async move {
            let lines = links.lines(target.peer_id);
            links.connect(&target, &lines, rung, lane).await
        })
    }
}
