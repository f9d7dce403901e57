//! When the relay stops taking messages, and when it takes them again; and who is told then.
//!
//! Whoever asks a peer that is not there asks again after longer and longer pauses, and learns that it is back when the
//! next one is over. A broker that was restarted takes its peers back one by one, so that would be the rule after each
//! restart. So each peer that had asked this one shortly before is sent a ping: a question under our seal says that we
//! are here, and [`Relay::heard`] tells it to those who wait. Where our connection was lost, and with it what lay in our
//! queue, the ping says that too, and they need not wait for answers that do not come.

use std::{collections::HashMap, time::Duration};

use daemon::Lifecycle;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use wire::{PeerId, proto};

use super::{Relay, book::Known, broker::RelayState, message::AnswerQueue};
use crate::link::Target;

/// Who asked so long before we were gone is not told when we are back.
const LATELY: Duration = Duration::from_secs(120);
const MOST_ASKERS: usize = 32;
const PINGS_TOGETHER: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Lost,
    /// `anew`: by another connection than before.
    Back {
        anew: bool,
    },
}

/// Tells each time that the broker takes no messages any more, or takes them again, until there is none.
pub(crate) async fn follow(mut state: watch::Receiver<RelayState>, mut told: impl FnMut(Turn)) {
    let mut before = open(&state.borrow_and_update());
    let mut last = before;
    while state.changed().await.is_ok() {
        let now = open(&state.borrow_and_update());
        if now == before {
            continue;
        }
        if before.is_some() {
            told(Turn::Lost);
        }
        if now.is_some() {
            told(Turn::Back { anew: now != last });
            last = now;
        }
        before = now;
    }
}

/// The connection, known by where its answers come in, while it takes messages.
fn open(state: &RelayState) -> Option<AnswerQueue> {
    match state {
        RelayState::On { answers, blocked: None, .. } => Some(*answers),
        _ => None,
    }
}

/// Who asked this peer last.
#[derive(Debug, Default)]
pub(super) struct Askers(Mutex<HashMap<PeerId, (Target, Instant)>>);

impl Askers {
    pub(super) fn note(&self, known: &Known) {
        let (peer, now) = (known.caller.peer_id, Instant::now());
        let mut askers = self.0.lock();
        if let Some((_, at)) = askers.get_mut(&peer) {
            *at = now;
            return;
        }
        if askers.len() >= MOST_ASKERS
            && let Some(oldest) = askers.iter().min_by_key(|(_, (_, at))| *at).map(|(peer, _)| *peer)
        {
            askers.remove(&oldest);
        }
        let target = Target {
            peer_id: peer,
            username: known.caller.username.clone(),
            endpoints: Vec::new(),
            sealing_key: known.key.to_hex(),
        };
        askers.insert(peer, (target, now));
    }

    /// Those who asked since then, and no more of the others.
    fn take_since(&self, then: Option<Instant>) -> Vec<Target> {
        let taken = std::mem::take(&mut *self.0.lock());
        let lately = taken.into_values().filter(|(_, at)| then.is_none_or(|then| *at >= then));
        lately.map(|(target, _)| target).collect()
    }
}

/// Tells those who asked lately, each time that the relay is back.
pub(super) fn tell_askers(relay: Relay, lifecycle: &Lifecycle) {
    let (state, soft) = (relay.state(), lifecycle.soft());
    let tasks = lifecycle.clone();
    lifecycle.spawn("tell who asked that we are back", async move {
        let mut lost = None;
        let told = |turn| match turn {
            Turn::Lost => lost = Some(Instant::now()),
            Turn::Back { anew } => {
                let since = lost.take().unwrap_or_else(Instant::now).checked_sub(LATELY);
                let askers = relay.inner.askers.take_since(since);
                if !askers.is_empty() {
                    let telling = tell(relay.clone(), askers, anew, tasks.soft());
                    tasks.spawn("tell who asked that we are back", telling);
                }
            }
        };
        soft.run_until_cancelled(follow(state, told)).await;
    });
}

async fn tell(relay: Relay, askers: Vec<Target>, lost: bool, soft: CancellationToken) {
    let pinging = stream::iter(askers).for_each_concurrent(PINGS_TOGETHER, |asker| {
        let relay = relay.clone();
        async move {
            // One that is not there yet asks anew when it comes.
            if let Err(error) = relay.say(&asker, proto::Ping { lost }).await {
                tracing::debug!(peer.id = %asker.peer_id, %error, "a peer that had asked does not hear that we are back");
            }
        }
    });
    soft.run_until_cancelled(pinging).await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use wire::rest::pclient::FetchPath;

    use super::{super::seal::PeerKey, *};
    use crate::tls::Caller;
    use Turn::Lost;

    #[tokio::test]
    async fn each_loss_and_each_return_is_told_once() {
        let on = |answers, blocked: Option<&str>| RelayState::On {
            answers,
            blocked: blocked.map(str::to_owned),
            server: "amqp://broker".into(),
        };
        let away = || RelayState::Away { why: "gone".to_owned() };
        const ANEW: Turn = Turn::Back { anew: true };
        const SAME: Turn = Turn::Back { anew: false };
        let (state, seen) = watch::channel(away());
        let told = &RefCell::new(Vec::new());
        let changing = async move {
            for (next, wanted) in [
                (on([1; 8], None), &[ANEW][..]),
                (on([1; 8], Some("low on memory")), &[Lost]),
                (on([1; 8], None), &[SAME]),
                // So quickly that its absence was not seen.
                (on([2; 8], None), &[Lost, ANEW]),
                (away(), &[Lost]),
                (on([3; 8], Some("low on memory")), &[]),
                (on([3; 8], None), &[ANEW]),
            ] {
                state.send_replace(next);
                // Each turn polls the two in another order.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                assert_eq!(told.take(), wanted);
            }
        };
        tokio::join!(follow(seen, |turn| told.borrow_mut().push(turn)), changing);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_askers_are_remembered() {
        let askers = Askers::default();
        let known = |n: u8| Known {
            caller: Caller {
                peer_id: PeerId::from_bytes([n; 16]),
                username: "ana".parse().unwrap(),
                path: FetchPath::Relayed,
            },
            key: PeerKey::from_hex(&hex::encode([n; 32])).unwrap(),
        };
        let start = Instant::now();
        for n in 0..40 {
            askers.note(&known(n));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // It asks again, and stays.
        askers.note(&known(8));
        askers.note(&known(50));
        let mut taken: Vec<u8> = askers
            .take_since(Some(start + Duration::from_secs(30)))
            .into_iter()
            .map(|target| target.peer_id.as_bytes()[0])
            .collect();
        taken.sort_unstable();
        assert_eq!(taken, [8, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 50]);
        assert!(askers.take_since(None).is_empty(), "each is told once");
    }
}
