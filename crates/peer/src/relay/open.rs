//! A question that came: opened, and known whose it is.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use wire::proto::{self, question::Ask};

use super::{
    Kind, Refused, Relay,
    answer::{AnswerSealer, stale_key_hint},
    broker::{MAX_QUESTION, Receipt},
    message::{Incoming, MessageId, Outgoing, Route},
    seal::{Envelope, ReplyKey, Routing},
    seen::Asking,
};
use crate::tls::Caller;

/// The most that an asker may have for each message of the answer.
const MOST_PATIENCE: Duration = Duration::from_secs(60);
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// The most answer messages to one question, whatever its asker takes.
const MOST_CREDIT: u32 = 64;
const TELL_LIMIT: Duration = Duration::from_secs(5);

/// A question whose seal held.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) request: MessageId,
    /// Seals the answers, here or in another process that is given it.
    pub(crate) reply: ReplyKey,
    pub(crate) ask: Ask,
    pub(crate) terms: Terms,
    /// Says that nobody else has to be asked.
    pub(crate) receipt: Receipt,
}

/// What the asker takes for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Answer messages.
    pub(crate) credit: u32,
    /// Bytes of one.
    pub(crate) max_message: usize,
    /// How long it waits for each.
    pub(crate) patience: Duration,
    /// Where it waits.
    pub(crate) back: Route,
}

/// Why there is no question.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// It is dropped, and counted.
    Dropped,
    /// Whose it is cannot be found out now. It has waited, and can wait for that too.
    Later(Incoming),
}

struct Opened {
    caller: Caller,
    question: proto::Question,
    ask: Ask,
    reply: ReplyKey,
    back: Route,
}

impl Relay {
    /// Opens a question. What is not taken is counted, and never answered, but for a hint to whoever may have used a
    /// key that was ours, and the present epoch to whoever does not know it.
    ///
    /// # Errors
    /// See [`Unopened`].
    pub(crate) async fn open(&self, message: Incoming) -> Result<Asked, Unopened> {
        let (from, route) = (message.from, message.route);
        let routing = Routing {
            from,
            to: self.own_id(),
            route,
            message_id: message.message_id,
            answer_to: message.answer_to,
        };
        match self.try_open(&routing, &message.body).await {
            Ok(Opened { caller, question, ask, reply, back }) => Ok(Asked {
                caller,
                request: message.message_id,
                reply,
                ask,
                terms: Terms {
                    credit: question.credit.clamp(1, MOST_CREDIT),
                    max_message: question.max_message as usize,
                    patience: Duration::from_millis(question.patience_ms.into())
                        .clamp(LEAST_PATIENCE, MOST_PATIENCE),
                    back,
                },
                receipt: message.receipt,
            }),
            Err(Refused::NoDirectory) if route == Route::Want => Err(Unopened::Later(message)),
            Err(refused) => {
                refused.count();
                let reason = refused.reason();
                tracing::debug!(peer.id = %from, reason, "a question over the relay is dropped");
                message.receipt.done().await;
                Err(Unopened::Dropped)
            }
        }
    }

    async fn try_open(&self, routing: &Routing, body: &[u8]) -> Result<Opened, Refused> {
        if body.len() > MAX_QUESTION {
            return Err(Refused::Malformed);
        }
        let back = match (routing.route, routing.answer_to) {
            (Route::Live, Some(queue)) => Route::Answer(queue),
            (Route::Want, None) => Route::Mailbox,
            _ => return Err(Refused::Misplaced),
        };
        let envelope = Envelope::read(body.to_vec())?;
        if envelope.receiver_key != self.inner.keys.name() {
            // It is not sealed, and the asker does no more than look again.
            self.tell(routing, back, stale_key_hint(self.inner.keys.name())).await;
            return Err(Refused::StaleKey);
        }
        let known = self.inner.book.sender(routing.from, envelope.sender_key).await?;
        if self.inner.trust.refuses(known.caller.peer_id, &known.caller.username) {
            // It may have logged in as somebody else since it was looked up.
            self.inner.book.forget(routing.from);
            return Err(Refused::Revoked);
        }
        let (mut question, reply) = envelope.open(&self.inner.keys, &known.key, routing)?;
        // A want may come twice, as when this process ended before it was stored; who stores them knows.
        if routing.route == Route::Live {
            let asking = self.inner.seen.lock().note(&question.epoch, routing.from, routing.message_id);
            match asking {
                Asking::New => {}
                Asking::Copy => return Err(Refused::Replayed),
                Asking::OtherEpoch(present) => {
                    let told = AnswerSealer::new(&reply, routing.message_id).and_then(|mut sealer| {
                        sealer.seal(Kind::Epoch, &[Bytes::copy_from_slice(&present)], true)
                    });
                    self.tell(routing, back, told.ok_or(Refused::Malformed)?).await;
                    return Err(Refused::OtherEpoch);
                }
            }
        }
        let ask = question.ask.take().ok_or(Refused::Malformed)?;
        if routing.route == Route::Live {
            if matches!(&ask, Ask::Ping(ping) if ping.lost) {
                self.inner.table.lost_by(routing.from);
            }
            self.inner.askers.note(&known);
            let _nobody_listens = self.inner.heard.send(routing.from);
        }
        Ok(Opened { caller: known.caller.clone(), question, ask, reply, back })
    }

    /// Says why a question is not answered, to an asker that may do something about it.
    async fn tell(&self, to: &Routing, back: Route, body: Bytes) {
        let message = Outgoing {
            to: to.from,
            route: back,
            message_id: rand::random(),
            correlation_id: Some(to.message_id),
            answer_to: None,
            expires: Some(TELL_LIMIT),
            trace: None,
            body,
        };
        if !matches!(timeout(TELL_LIMIT, self.inner.broker.publish(message)).await, Ok(Ok(()))) {
            tracing::debug!(peer.id = %to.from, "a peer could not be told of the new sealing key or epoch");
        }
    }
}
