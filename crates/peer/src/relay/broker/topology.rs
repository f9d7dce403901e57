//! What there is on the broker: exchanges, queues, their limits, and the keys by which messages find them. Pure.
//!
//! | | bound to | by | holds |
//! |---|---|---|---|
//! | `trueque.<id>.requests.<session>` | `trueque.requests` | `<id>.live.*` | questions to a peer that is on |
//! | `trueque.<id>.wants.v1` | `trueque.requests` | `<id>.want.*` | questions that wait for it |
//! | `trueque.<id>.answers.<session>` | `trueque.answers` | `<id>.<session>.*` | answers to what it asks now |
//! | `trueque.<id>.mailbox.v1` | `trueque.answers` | `<id>.mailbox.*` | answers that wait for it |
//!
//! A key is `<receiver>.<kind>.<sender>`, so that a broker can give the right to send as a peer, and to take what is for
//! a peer, by the first and the last word. Both exchanges are topic exchanges.
//!
//! The queues of a session are exclusive and classic: fast, on one node, gone with the connection; a `mandatory` publish
//! to a peer without one comes back at once, which is how others learn that it is off. The two that wait are quorum
//! queues with constant names, replicated and on disk. A full queue refuses what comes (`reject-publish`), so that the
//! sender knows. What expires or was handed over in vain five times goes to `trueque.dead`, for operators.
//!
//! A queue's arguments cannot be changed where it is declared; the durable names end with a version for that. What
//! differs between brokers:
//!
//! - 3.10 is the oldest that works: quorum queues take a message TTL since then, `reject-publish` since 3.8.
//! - Limits overshoot by a few messages: on quorum queues the refusal is decided after the fact, on all versions.
//! - A delivery counts towards the limit also when a connection breaks with the message in hand.
//! - 4.x takes messages up to 16 MiB (we: 2), has a delivery limit of 20 where none is set (we set 5), and knows
//!   neither mirrored nor transient shared queues: there are none here.

use wire::PeerId;

use self::Argument::{Number, Word};
use crate::relay::message::{AnswerQueue, Route};

pub(super) const REQUESTS: &str = "trueque.requests";
pub(super) const ANSWERS: &str = "trueque.answers";
/// The exchange and the queue of dead letters.
pub(super) const DEAD: &str = "trueque.dead";

const SECOND: i64 = 1_000;
const DAY: i64 = 24 * 3_600 * SECOND;
const MIB: i64 = 1 << 20;
const QUESTION_TTL: i64 = 30 * SECOND;
const WAITING_TTL: i64 = 7 * DAY;
const WAITING_DELIVERIES: i64 = 5;

/// A queue as it is declared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) name: String,
    /// Of this connection alone, and gone with it.
    pub(super) exclusive: bool,
    pub(super) arguments: Vec<(&'static str, Argument)>,
    pub(super) exchange: &'static str,
    pub(super) binding: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    Word(&'static str),
    Number(i64),
}

/// The queues that this peer takes its messages from.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) live: Queue,
    pub(super) wants: Queue,
    pub(super) answers: Queue,
    pub(super) mailbox: Queue,
}

impl Own {
    pub(super) fn of(peer: PeerId, session: AnswerQueue) -> Self {
        let session = hex::encode(session);
        Self {
            live: of_session(
                format!("trueque.{peer}.requests.{session}"),
                (REQUESTS, format!("{peer}.{LIVE}.*")),
                [
                    ("x-max-length", Number(1_000)),
                    ("x-max-length-bytes", Number(16 * MIB)),
                    ("x-message-ttl", Number(QUESTION_TTL)),
                ],
            ),
            wants: that_waits(
                format!("trueque.{peer}.wants.v1"),
                (REQUESTS, format!("{peer}.{WANT}.*")),
                [("x-max-length", Number(1_000)), ("x-max-length-bytes", Number(4 * MIB))],
            ),
            answers: of_session(
                format!("trueque.{peer}.answers.{session}"),
                (ANSWERS, format!("{peer}.{session}.*")),
                [("x-max-length-bytes", Number(64 * MIB))],
            ),
            mailbox: that_waits(
                format!("trueque.{peer}.mailbox.v1"),
                (ANSWERS, format!("{peer}.{MAILBOX}.*")),
                [("x-max-length-bytes", Number(1024 * MIB))],
            ),
        }
    }
}

/// Where dead letters lie. Whoever needs one that is not there any more, has lost a letter that nobody awaited.
pub(super) fn dead_letters() -> Queue {
    let arguments = vec![
        ("x-queue-type", Word("quorum")),
        ("x-overflow", Word("drop-head")),
        ("x-max-length", Number(10_000)),
        ("x-max-length-bytes", Number(64 * MIB)),
        ("x-message-ttl", Number(WAITING_TTL)),
    ];
    Queue { name: DEAD.to_owned(), exclusive: false, arguments, exchange: DEAD, binding: String::new() }
}

/// The exchange and the key of a message.
pub(crate) fn destination(to: PeerId, route: Route, from: PeerId) -> (&'static str, String) {
    let exchange = match route {
        Route::Live | Route::Want => REQUESTS,
        Route::Answer(_) | Route::Mailbox => ANSWERS,
    };
    (exchange, format!("{to}.{}.{from}", kind(route)))
}

/// Who sent what came to `own` with this key. None where the key is not one for this queue.
pub(crate) fn sender(key: &str, own: PeerId, route: Route) -> Option<PeerId> {
    let (first, rest) = key.split_once('.')?;
    let (middle, last) = rest.split_once('.')?;
    let is_ours = first.parse() == Ok(own) && middle == kind(route);
    last.parse().ok().filter(|_| is_ours)
}

/// The same word for all answer queues, where what is counted must not grow with them.
pub(super) fn label(route: Route) -> &'static str {
    match route {
        Route::Live => LIVE,
        Route::Want => WANT,
        Route::Answer(_) => "answer",
        Route::Mailbox => MAILBOX,
    }
}

const LIVE: &str = "live";
const WANT: &str = "want";
const MAILBOX: &str = "mailbox";

type Arguments<const N: usize> = [(&'static str, Argument); N];

fn kind(route: Route) -> String {
    match route {
        Route::Answer(queue) => hex::encode(queue),
        other => label(other).to_owned(),
    }
}

fn of_session<const N: usize>(
    name: String,
    (exchange, binding): (&'static str, String),
    limits: Arguments<N>,
) -> Queue {
    let mut arguments = limits.to_vec();
    arguments.extend([("x-queue-type", Word("classic")), ("x-overflow", Word("reject-publish"))]);
    Queue { name, exclusive: true, arguments, exchange, binding }
}

fn that_waits<const N: usize>(
    name: String,
    (exchange, binding): (&'static str, String),
    limits: Arguments<N>,
) -> Queue {
    let mut arguments = limits.to_vec();
    arguments.extend([
        ("x-queue-type", Word("quorum")),
        ("x-overflow", Word("reject-publish")),
        ("x-message-ttl", Number(WAITING_TTL)),
        ("x-delivery-limit", Number(WAITING_DELIVERIES)),
        ("x-dead-letter-exchange", Word(DEAD)),
    ]);
    Queue { name, exclusive: false, arguments, exchange, binding }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: PeerId = PeerId::from_bytes([0xa1; 16]);
    const BETO: PeerId = PeerId::from_bytes([0xbe; 16]);
    const SESSION: AnswerQueue = [7; 8];

    /// Other peers and other versions of this program declare the same, so this changes with a new version in a name.
    #[test]
    fn shapes() {
        let own = Own::of(ANA, SESSION);
        let show = |queue: &Queue| {
            let mut lines = vec![format!(
                "{} {} {} {:?}",
                queue.name,
                if queue.exclusive { "exclusive" } else { "durable" },
                queue.exchange,
                queue.binding
            )];
            let show = |(name, argument): &(&str, Argument)| match argument {
                Word(word) => format!("  {name} {word}"),
                Number(number) => format!("  {name} {number}"),
            };
            lines.extend(queue.arguments.iter().map(show));
            lines.join("\n")
        };
        let all = [own.live, own.wants, own.answers, own.mailbox, dead_letters()];
        let all = all.iter().map(show).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(all, @r#"
        trueque.a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1.requests.0707070707070707 exclusive trueque.requests "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1.live.*"
          x-max-length 1000
          x-max-length-bytes 16777216
          x-message-ttl 30000
          x-queue-type classic
          x-overflow reject-publish
        trueque.a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1.wants.v1 durable trueque.requests "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1.want.*"
          x-max-length 1000
          x-max-length-bytes 4194304
          x-queue-type quorum
          x-overflow reject-publish
          x-message-ttl 604800000
          x-delivery-limit 5
          x-dead-letter-exchange trueque.dead
        trueque.a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1.answers.0707070707070707 exclusive trueque.answers "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1.0707070707070707.*"
          x-max-length-bytes 67108864
          x-queue-type classic
          x-overflow reject-publish
        trueque.a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1.mailbox.v1 durable trueque.answers "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1.mailbox.*"
          x-max-length-bytes 1073741824
          x-queue-type quorum
          x-overflow reject-publish
          x-message-ttl 604800000
          x-delivery-limit 5
          x-dead-letter-exchange trueque.dead
        trueque.dead durable trueque.dead ""
          x-queue-type quorum
          x-overflow drop-head
          x-max-length 10000
          x-max-length-bytes 67108864
          x-message-ttl 604800000
        "#);
    }

    #[test]
    fn keys_lead_there_and_tell_who_sent() {
        for route in [Route::Live, Route::Want, Route::Answer(SESSION), Route::Mailbox] {
            let (exchange, key) = destination(ANA, route, BETO);
            let own = Own::of(ANA, SESSION);
            let queue = match route {
                Route::Live => own.live,
                Route::Want => own.wants,
                Route::Answer(_) => own.answers,
                Route::Mailbox => own.mailbox,
            };
            assert_eq!(exchange, queue.exchange);
            assert_eq!(key.rsplit_once('.').unwrap().0, queue.binding.rsplit_once('.').unwrap().0);
            assert_eq!(sender(&key, ANA, route), Some(BETO));
            assert_eq!(sender(&key, BETO, route), None, "for somebody else");
        }
        let (_, live) = destination(ANA, Route::Live, BETO);
        for (key, route) in [
            (live.as_str(), Route::Want),
            ("trueque.a.wants.v1", Route::Want),
            (&format!("{live}.x"), Route::Live),
            (&format!("{ANA}.live."), Route::Live),
            (&format!("{ANA}.live.{}", BETO.to_string().to_uppercase()), Route::Live),
            ("", Route::Live),
        ] {
            assert_eq!(sender(key, ANA, route), None, "{key}");
        }
    }
}
