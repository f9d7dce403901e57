//! The relay is back. Questions that failed while there was none, or while its broker took nothing, have made peers wait
//! longer and longer for the next one; whoever waits for bytes need not.

use std::sync::Arc;

use daemon::Lifecycle;
use tokio::sync::watch;

use super::Inner;
use crate::relay::{broker::RelayState, message::AnswerQueue};

pub(super) fn spawn(inner: &Arc<Inner>, lifecycle: &Lifecycle) {
    let Some(relay) = &inner.relay else { return };
    let (inner, state, soft) = (inner.clone(), relay.state(), lifecycle.soft());
    lifecycle.spawn("the relay is back", async move {
        let told = || {
            inner.peers.lock().values().for_each(|lines| lines.ladder.lock().relay_is_back());
            inner.returns.send_modify(|times| *times += 1);
        };
        soft.run_until_cancelled(follow(state, told)).await;
    });
}

/// Calls `back` each time that the broker takes messages again, until there is none any more.
async fn follow(mut state: watch::Receiver<RelayState>, back: impl Fn()) {
    let mut before = open(&state.borrow_and_update());
    while state.changed().await.is_ok() {
        let now = open(&state.borrow_and_update());
        if now.is_some() && now != before {
            back();
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn told_once_for_each_return() {
        let on = |answers, blocked: Option<&str>| RelayState::On {
            answers,
            blocked: blocked.map(str::to_owned),
            server: "amqp://broker".into(),
        };
        let away = || RelayState::Away { why: "gone".to_owned() };
        let (state, seen) = watch::channel(away());
        let returns = &Cell::new(0);
        let changing = async move {
            for (next, wanted) in [
                (on([1; 8], None), 1),
                (on([1; 8], Some("low on memory")), 1),
                (on([1; 8], None), 2),
                // So quickly that its absence was not seen.
                (on([2; 8], None), 3),
                (away(), 3),
                (on([3; 8], Some("low on memory")), 3),
                (on([3; 8], None), 4),
            ] {
                state.send_replace(next);
                // Each turn polls the two in another order.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                assert_eq!(returns.get(), wanted);
            }
        };
        tokio::join!(follow(seen, || returns.set(returns.get() + 1)), changing);
    }
}
