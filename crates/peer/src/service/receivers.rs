//! [`Receivers`]: who is fetching a content from us now, so that they can find each other.
//!
//! The directory learns of a new partial holder within a second, but a whole file may pass in that time. The holder
//! that all of them ask knows at once: everybody who watches a content is told of the others who do.

use std::{collections::HashMap, sync::Arc, time::Duration};

use content::{ContentId, PieceSet};
use parking_lot::Mutex;
use tokio::sync::watch;
use wire::{PeerId, proto};

use super::{Portion, Standing, message_of};
use crate::Failure;

/// The most that one content remembers, and tells.
const MAX_RECEIVERS: usize = 64;
/// A piece set that grows is told at most this often.
const PACE: Duration = Duration::from_millis(30);

/// Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Receivers {
    by_content: Arc<Mutex<HashMap<ContentId, Watched>>>,
}

#[derive(Debug)]
struct Watched {
    peers: watch::Sender<Vec<PeerId>>,
    /// Streams open, which may be more than peers known.
    streams: usize,
}

/// What this peer has of the watched content.
pub(super) enum Pieces {
    Whole(u32),
    Part(watch::Receiver<PieceSet>),
}

/// One caller's look at one content.
pub struct Watching {
    home: Receivers,
    id: ContentId,
    caller: PeerId,
    pieces: Pieces,
    peers: watch::Receiver<Vec<PeerId>>,
    first: bool,
    standing: Standing,
    _place: Portion,
}

impl Receivers {
    pub(super) fn watch(
        &self,
        id: ContentId,
        caller: PeerId,
        pieces: Pieces,
        place: Portion,
        standing: Standing,
    ) -> Watching {
        let mut by_content = self.by_content.lock();
        let watched =
            by_content.entry(id).or_insert_with(|| Watched { peers: watch::Sender::default(), streams: 0 });
        watched.streams += 1;
        watched.peers.send_if_modified(|peers| {
            let new = !peers.contains(&caller) && peers.len() < MAX_RECEIVERS;
            if new {
                peers.push(caller);
            }
            new
        });
        let peers = watched.peers.subscribe();
        Watching { home: self.clone(), id, caller, pieces, peers, first: true, standing, _place: place }
    }

    fn leave(&self, id: ContentId, caller: PeerId) {
        let mut by_content = self.by_content.lock();
        let Some(watched) = by_content.get_mut(&id) else { return };
        watched.streams -= 1;
        if watched.streams == 0 {
            by_content.remove(&id);
        } else {
            watched.peers.send_modify(|peers| peers.retain(|peer| *peer != caller));
        }
    }
}

impl Watching {
    /// The state at once, then each time it has changed. `None` when the content is no longer here.
    ///
    /// # Errors
    /// `not_found` once the caller may not see it any more; then there is no more.
    pub async fn next(&mut self) -> Option<Result<proto::PieceSet, Failure>> {
        if !std::mem::take(&mut self.first) {
            tokio::select! {
                lost = self.standing.lost() => return Some(Err(lost)),
                changed = changed(&mut self.pieces, &mut self.peers) => changed?,
            }
        }
        if let Err(lost) = self.standing.check() {
            return Some(Err(lost));
        }
        let others: Vec<PeerId> =
            self.peers.borrow_and_update().iter().copied().filter(|peer| *peer != self.caller).collect();
        Some(Ok(match &mut self.pieces {
            Pieces::Whole(count) => message_of(&PieceSet::full(*count), &others),
            Pieces::Part(pieces) => message_of(&pieces.borrow_and_update(), &others),
        }))
    }
}

/// Waits for something to tell; `None` when nothing more can change.
async fn changed(pieces: &mut Pieces, peers: &mut watch::Receiver<Vec<PeerId>>) -> Option<()> {
    match pieces {
        Pieces::Whole(_) => peers.changed().await.ok(),
        Pieces::Part(pieces) => {
            tokio::select! {
                grown = pieces.changed() => grown.ok()?,
                changed = peers.changed() => changed.ok()?,
            }
            tokio::time::sleep(PACE).await;
            Some(())
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.home.leave(self.id, self.caller);
    }
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("id", &self.id).field("caller", &self.caller).finish_non_exhaustive()
    }
}
