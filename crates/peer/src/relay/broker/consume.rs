//! Taking messages: what comes from a queue is looked at, counted, and put into the channel of its kind.
//!
//! The channels outlive the connections, and when one is full, what comes waits here: the broker then holds back what
//! exceeds the prefetch. (The client's own buffer knows no bound, so prefetch and acknowledgements are that bound.) It is
//! looked at before it waits, so that what is too large never does.
//!
//! Refused, acknowledged away and counted is what cannot be from one of us, before anything of it is opened:
//!
//! - what has no user (where there is one, the broker has checked it);
//! - what lay in another queue before, whose dead letters lead here: nothing that one of us sends comes that way, and the
//!   broker compares neither the key of a dead letter nor its exchange with what its sender may do;
//! - what has a key that is not for this queue;
//! - where users are peers, what has another user than the key says: by whatever way a message found here, its user stays
//!   that of the connection it was published on;
//! - what has no id, or a body larger than its kind has ([`most`]).
//!
//! What is inside is for the seal to judge.

use std::{collections::VecDeque, time::Duration};

use futures::{FutureExt, StreamExt};
use lapin::{
    Acker, BasicProperties, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
    types::ShortString,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use wire::PeerId;

use super::{
    MAX_BODY, MAX_QUESTION,
    connection::Trouble,
    publisher::{NOT_FOUND, TRACE},
    topology,
};
use crate::relay::message::{AnswerQueue, Incoming, MessageId, Route};

const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// What has been taken from a queue, until it is given a receipt for. Dropped without a word, it goes back to the queue
/// and comes again.
#[derive(Debug)]
pub struct Receipt {
    /// None once it is settled, and for what came from no broker.
    acker: Option<Acker>,
    over: CancellationToken,
}

/// Whose messages these are.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) own_id: PeerId,
    /// Users of the broker are peers: who a message is from can be compared.
    pub(super) users_are_peers: bool,
    /// Fires when the connection that they come by is given up.
    pub(super) over: CancellationToken,
}

impl Receipt {
    /// Of a message that no broker handed over, for tests.
    pub fn of_none() -> Self {
        Self { acker: None, over: CancellationToken::new() }
    }

    /// Whether the connection that the message came by is gone. Then it comes again, whatever is said here.
    pub fn is_stale(&self) -> bool {
        self.acker.as_ref().is_some_and(Acker::poisoned)
    }

    /// It is dealt with: the broker forgets it.
    pub async fn done(mut self) {
        let Some(acker) = self.acker.take() else { return };
        settle(acker.ack(BasicAckOptions::default()), &self.over).await;
    }

    /// It cannot be dealt with, now (`again`) or ever: then it becomes a dead letter, if it is of a durable queue.
    pub async fn refuse(mut self, again: bool) {
        let Some(acker) = self.acker.take() else { return };
        settle(acker.reject(BasicRejectOptions { requeue: again }), &self.over).await;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(acker) = self.acker.take() {
            // The command is handed to the connection when it is first polled; nobody waits for it to be written.
            let again = BasicNackOptions { requeue: true, multiple: false };
            let _written_later = acker.nack(again).now_or_never();
        }
    }
}

/// Waits until a receipt is written, and not longer than its connection is there: the client never says what became of
/// one that was given just as the connection broke. The message comes again where this fails, so it is only worth a word.
async fn settle(giving: impl Future<Output = lapin::Result<bool>>, over: &CancellationToken) {
    match timeout(SETTLE_LIMIT, over.run_until_cancelled(giving)).await {
        Ok(Some(Ok(true))) => {}
        Ok(Some(Ok(false)) | None) => {
            tracing::debug!("a message came by a connection that is gone, and comes again");
        }
        Ok(Some(Err(error))) => tracing::debug!(%error, "a receipt did not reach the broker"),
        Err(_) => tracing::debug!("a receipt did not reach the broker in time"),
    }
}

/// Takes messages until the consumer ends; why it did.
pub(super) async fn pump(
    consumer: &mut Consumer,
    route: Route,
    reader: &Reader,
    into: &mpsc::Sender<Incoming>,
) -> Trouble {
    // No more than the prefetch.
    let mut waiting = VecDeque::new();
    loop {
        let delivery = tokio::select! {
            delivery = consumer.next() => delivery,
            room = into.reserve(), if !waiting.is_empty() => {
                let Ok(room) = room else {
                    // Nobody reads these any more. What is there stays at the broker.
                    return std::future::pending().await;
                };
                if let Some(message) = waiting.pop_front() {
                    room.send(message);
                }
                continue;
            }
        };
        let delivery = match delivery {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return error.into(),
            None => {
                return Trouble::Refused {
                    code: NOT_FOUND,
                    text: "the broker ended a consumer: its queue is gone".to_owned(),
                };
            }
        };
        metrics::counter!("trueque_relay_received_total", "route" => topology::label(route)).increment(1);
        metrics::counter!("trueque_relay_received_bytes_total").increment(delivery.data.len() as u64);
        match reader.read(delivery, route) {
            Ok(message) => waiting.push_back(message),
            Err((reason, receipt)) => {
                metrics::counter!("trueque_relay_refused_total", "reason" => reason).increment(1);
                tracing::debug!(reason, route = topology::label(route), "a message is refused");
                receipt.done().await;
            }
        }
    }
}

/// The largest body that one of us sends by this route.
fn most(route: Route) -> usize {
    match route {
        Route::Live | Route::Want => MAX_QUESTION,
        Route::Answer(_) | Route::Mailbox => MAX_BODY,
    }
}

impl Reader {
    fn read(&self, delivery: Delivery, route: Route) -> Result<Incoming, (&'static str, Receipt)> {
        let looked_at = self.look_at(&delivery, route);
        let receipt = Receipt { acker: Some(delivery.acker), over: self.over.clone() };
        match looked_at {
            Ok(envelope) => Ok(Incoming {
                from: envelope.from,
                route,
                message_id: envelope.message_id,
                correlation_id: envelope.correlation_id,
                answer_to: envelope.answer_to,
                trace: envelope.trace,
                redelivered: delivery.redelivered,
                body: delivery.data,
                receipt,
            }),
            Err(reason) => Err((reason, receipt)),
        }
    }

    fn look_at(&self, delivery: &Delivery, route: Route) -> Result<Envelope, &'static str> {
        let properties = &delivery.properties;
        let user = properties.user_id().as_ref().ok_or("no user")?;
        if was_dead(properties) {
            return Err("dead letter");
        }
        let from = topology::sender(delivery.routing_key.as_str(), self.own_id, route).ok_or("wrong key")?;
        if self.users_are_peers && user.as_str().parse() != Ok(from) {
            return Err("another user");
        }
        if delivery.data.len() > most(route) {
            return Err("too large");
        }
        Ok(Envelope {
            from,
            message_id: id(properties.message_id())?.ok_or("no id")?,
            correlation_id: id(properties.correlation_id())?,
            answer_to: id(properties.reply_to())?,
            trace: properties
                .headers()
                .as_ref()
                .and_then(|headers| headers.inner().get(TRACE)?.as_long_string().map(ToString::to_string)),
        })
    }
}

/// Whether it came by the dead letters of some queue. The broker writes that down, under these names: `x-death`, and since
/// 3.8 and 3.13 where it was first and last.
fn was_dead(properties: &BasicProperties) -> bool {
    const MARKS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];
    let is_mark = |name: &ShortString| MARKS.iter().any(|mark| name.as_str().starts_with(mark));
    properties.headers().as_ref().is_some_and(|headers| headers.inner().keys().any(is_mark))
}

/// What stands on a message.
struct Envelope {
    from: PeerId,
    message_id: MessageId,
    correlation_id: Option<MessageId>,
    answer_to: Option<AnswerQueue>,
    trace: Option<String>,
}

fn id<const N: usize>(text: &Option<ShortString>) -> Result<Option<[u8; N]>, &'static str> {
    let Some(text) = text else { return Ok(None) };
    let mut bytes = [0; N];
    hex::decode_to_slice(text.as_str(), &mut bytes).map_err(|_| "malformed id")?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;

    const ANA: PeerId = PeerId::from_bytes([0xa1; 16]);
    const BETO: PeerId = PeerId::from_bytes([0xbe; 16]);

    fn reader(users_are_peers: bool) -> Reader {
        Reader { own_id: ANA, users_are_peers, over: CancellationToken::new() }
    }

    fn among_peers() -> Reader {
        reader(true)
    }

    fn among_all() -> Reader {
        reader(false)
    }

    fn named(user: &str) -> BasicProperties {
        BasicProperties::default().with_user_id(user.into()).with_message_id("01".repeat(16).into())
    }

    fn delivery(key: &str, properties: BasicProperties) -> Delivery {
        let mut delivery = Delivery::mock(1, topology::REQUESTS.into(), key.into(), true, b"body".to_vec());
        delivery.properties = properties;
        delivery
    }

    fn refusal(reader: &Reader, delivery: Delivery) -> &'static str {
        reader.read(delivery, Route::Live).unwrap_err().0
    }

    /// Whoever waits for the receipt reads the answers of the next connection, too.
    #[tokio::test(start_paused = true)]
    async fn a_receipt_is_waited_for_while_its_connection_is_there() {
        let over = CancellationToken::new();
        let began = tokio::time::Instant::now();
        settle(std::future::pending(), &over).await;
        assert_eq!(began.elapsed(), SETTLE_LIMIT);
        let giving_up = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            over.cancel();
        };
        let began = tokio::time::Instant::now();
        tokio::join!(settle(std::future::pending(), &over), giving_up);
        assert_eq!(began.elapsed(), Duration::from_millis(5));
    }

    #[test]
    fn what_stands_on_a_message_is_read() {
        let mut headers = FieldTable::default();
        headers.insert(TRACE.into(), AMQPValue::LongString("00-1-2-01".into()));
        let properties = named(&BETO.to_string())
            .with_correlation_id("02".repeat(16).into())
            .with_reply_to("03".repeat(8).into())
            .with_headers(headers);
        let (_, key) = topology::destination(ANA, Route::Live, BETO);
        let message = among_peers().read(delivery(&key, properties), Route::Live).unwrap();
        assert_eq!((message.from, message.route, message.redelivered), (BETO, Route::Live, true));
        assert_eq!((message.message_id, message.correlation_id), ([1; 16], Some([2; 16])));
        assert_eq!((message.answer_to, message.trace.as_deref()), (Some([3; 8]), Some("00-1-2-01")));
        assert_eq!(message.body, b"body");
    }

    #[test]
    fn what_cannot_be_from_a_peer_is_refused() {
        let (_, key) = topology::destination(ANA, Route::Live, BETO);
        let (_, for_beto) = topology::destination(BETO, Route::Live, ANA);
        let beto = BETO.to_string();
        let nobody = BasicProperties::default().with_message_id("01".repeat(16).into());
        assert_eq!(refusal(&among_all(), delivery(&key, nobody)), "no user");
        assert_eq!(refusal(&among_all(), delivery(&for_beto, named(&beto))), "wrong key");
        assert_eq!(refusal(&among_peers(), delivery(&key, named(&ANA.to_string()))), "another user");
        assert_eq!(refusal(&among_peers(), delivery(&key, named("guest"))), "another user");
        for mark in ["x-death", "x-first-death-queue", "x-last-death-reason"] {
            let mut headers = FieldTable::default();
            headers.insert(mark.into(), AMQPValue::LongString("".into()));
            let dead = named(&beto).with_headers(headers);
            for reader in [among_peers(), among_all()] {
                assert_eq!(refusal(&reader, delivery(&key, dead.clone())), "dead letter", "{mark}");
            }
        }
        let plain = delivery(&key, named("guest"));
        assert!(among_all().read(plain, Route::Live).is_ok(), "one user for all, on a plain broker");
        let without_id = BasicProperties::default().with_user_id(beto.as_str().into());
        assert_eq!(refusal(&among_peers(), delivery(&key, without_id)), "no id");
        for id in ["", "01", "zz"] {
            let properties = named(&beto).with_correlation_id(id.into());
            assert_eq!(refusal(&among_peers(), delivery(&key, properties)), "malformed id");
        }
        let mut large = delivery(&key, named(&beto));
        large.data = vec![0; MAX_QUESTION];
        assert!(among_peers().look_at(&large, Route::Live).is_ok());
        large.data.push(0);
        assert_eq!(refusal(&among_peers(), large), "too large");
        let (_, key) = topology::destination(ANA, Route::Mailbox, BETO);
        let mut large = delivery(&key, named(&beto));
        large.data = vec![0; MAX_BODY];
        assert!(among_peers().look_at(&large, Route::Mailbox).is_ok());
        large.data.push(0);
        assert_eq!(among_peers().look_at(&large, Route::Mailbox).err(), Some("too large"));
    }
}
