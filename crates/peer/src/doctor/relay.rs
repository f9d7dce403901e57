//! The relay: is the broker there, does a sealed question come through it and back, and what lies in its queues.

use wire::rest::pclient::Check;

use super::{Parameters, failed, ok, took, warning};
use crate::{
    directory_link::LinkState,
    relay::{
        Relay,
        broker::{Depths, RelayState},
    },
};

/// The broker gives a queue of wants room for a thousand.
const MANY_WANTS: u32 = 900;

pub(super) async fn look(parts: &Parameters) -> Vec<Check> {
    let Some(relay) = &parts.relay else { return vec![ok("relay", "there is none")] };
    let state = relay.state().borrow().clone();
    match state {
        RelayState::Off { why } => vec![ok("relay", format!("off: {why}"))],
        RelayState::Away { why } => vec![failed(
            "relay",
            format!("not connected: {why}"),
            "see that the broker runs, that this machine reaches it, and what its log says of this login; the peer \
             tries again by itself, at most 30 s apart",
        )],
        RelayState::On { blocked, server, .. } => {
            let connected = match blocked {
                None => ok("relay", format!("connected to {server}")),
                Some(why) => warning(
                    "relay",
                    format!("connected to {server}, which takes no messages now: {why}"),
                    "the broker is short of memory or disk: see its alarms",
                ),
            };
            let (round_trip, queues) = tokio::join!(round_trip(parts, relay), queues(relay));
            vec![connected, round_trip].into_iter().chain(queues).collect()
        }
    }
}

/// From this peer to itself, as from one to another: sealed, through the broker's queues, opened, answered, and back.
async fn round_trip(parts: &Parameters, relay: &Relay) -> Check {
    const NAME: &str = "relay_round_trip";
    let connected = parts.session.status().state == LinkState::Connected;
    let Some(itself) = parts.itself(Vec::new()).filter(|_| connected) else {
        let advice = "see what is said of the session";
        return warning(NAME, "not tried: whose a question is, only the directory can say", advice);
    };
    match relay.ping(&itself).await {
        Ok(time) => ok(NAME, format!("a sealed question to itself came back in {}", took(time))),
        Err(error) => failed(
            NAME,
            format!("a sealed question to itself did not come back: {error}"),
            "compare trueque_relay_refused_total and trueque_relay_unsent_total before and after: their reasons say \
             where it ended",
        ),
    }
}

async fn queues(relay: &Relay) -> Vec<Check> {
    match relay.depths().await {
        Ok(depths) => of_depths(depths),
        Err(why) => vec![warning(
            "relay_queues",
            format!("the broker does not say what lies in its queues: {why}"),
            "see what is said of the relay; rabbitmqctl list_queues shows them at the broker",
        )],
    }
}

fn of_depths(depths: Depths) -> Vec<Check> {
    let Depths { wants, mailbox, dead } = depths;
    let count = |depth: Option<u32>| depth.map_or("not shown".to_owned(), |depth| depth.to_string());
    let found = format!("for this peer: {} to be taken, {} in the mailbox", count(wants), count(mailbox));
    let waiting = if wants.is_some_and(|wants| wants >= MANY_WANTS) {
        warning(
            "relay_queues",
            format!("{found}; others cannot leave much more"),
            "this peer takes them out by itself; if that number stays, look at its log",
        )
    } else {
        ok("relay_queues", found)
    };
    let dead = match dead {
        Some(0) => ok("relay_dead_letters", "none"),
        Some(dead) => warning(
            "relay_dead_letters",
            format!("{dead}, of all peers: they expired, or nobody could take them"),
            "for the broker's operator: look at the queue trueque.dead; purge it when its reasons are known",
        ),
        None => ok("relay_dead_letters", "not shown to this peer"),
    };
    vec![waiting, dead]
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::rest::pclient::CheckResult::{Ok as Fine, Warning};

    #[test]
    fn what_lies_in_queues() {
        let seen = |wants, mailbox, dead| {
            let checks = of_depths(Depths { wants, mailbox, dead });
            let [waiting, dead] = <[Check; 2]>::try_from(checks).unwrap();
            (waiting.result, waiting.found, dead.result)
        };
        let words = |text: &str| text.to_owned();
        assert_eq!(
            seen(Some(3), Some(40), Some(0)),
            (Fine, words("for this peer: 3 to be taken, 40 in the mailbox"), Fine)
        );
        assert_eq!(
            seen(None, None, None),
            (Fine, words("for this peer: not shown to be taken, not shown in the mailbox"), Fine)
        );
        let (waiting, found, dead) = seen(Some(MANY_WANTS), Some(0), Some(1));
        assert_eq!((waiting, dead), (Warning, Warning));
        assert!(found.ends_with("others cannot leave much more"), "{found}");
    }
}
