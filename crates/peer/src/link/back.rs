//! The relay is back, or a peer is heard by it again. Questions that failed while there was none, while its broker took
//! nothing, or while the peer was away, have made peers wait longer and longer for the next one; whoever waits for bytes
//! need not.

use std::{sync::Arc, time::Instant};

use daemon::Lifecycle;
use tokio::sync::broadcast::error::RecvError;
use wire::PeerId;

use super::Inner;
use crate::relay::returns::{Turn, follow};

pub(super) fn spawn(inner: &Arc<Inner>, lifecycle: &Lifecycle) {
    let Some(relay) = &inner.relay else { return };
    let (state, mut heard, soft) = (relay.state(), relay.heard(), lifecycle.soft());
    let inner = inner.clone();
    lifecycle.spawn("the relay is back", async move {
        let returns = follow(state, |turn| {
            if matches!(turn, Turn::Back { .. }) {
                inner.relay_is_back();
            }
        });
        let voices = async {
            loop {
                match heard.recv().await {
                    Ok(peer) => inner.heard_by_relay(peer),
                    // Of those who ask so much, the next question comes soon.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        };
        soft.run_until_cancelled(async { tokio::join!(returns, voices) }).await;
    });
}

impl Inner {
    fn relay_is_back(&self) {
        for lines in self.peers.lock().values() {
            lines.ladder.lock().relay_is_back();
            // That nobody answered while there was no relay says nothing of them.
            *lines.missed_since.lock() = None;
        }
        self.returns.send_modify(|times| *times += 1);
    }

    /// It asks by the relay, so it can be asked by it.
    fn heard_by_relay(&self, peer: PeerId) {
        let lines = self.peers.lock().get(&peer).cloned();
        if lines.is_some_and(|lines| lines.ladder.lock().heard_by_relay(Instant::now())) {
            self.returns.send_modify(|times| *times += 1);
        }
    }
}
