//! A question over the relay, and its [`Answers`].
//!
//! A question names how many messages it takes as an answer. It fails as soon as it is known that nobody will answer:
//! the broker says that the peer is not there, or the connection to the broker is gone. Nothing for ten seconds is
//! silence. A peer that has new keys says so; then the directory is asked for them and the question once more. So it is
//! for a peer that has begun another epoch, as after each start: see [`super::seen`].
//!
//! Where a queue is full, another one may have taken the question: a peer's last session keeps its queue on a node of a
//! cluster that has died (RabbitMQ 4.3), beside the queue of the new one. So an answer may still come, soon.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, Span};
use wire::{
    ErrorCode, PeerId,
    proto::{self, question::Ask},
    trace,
};

use super::{
    Kind, Refused, Relay,
    answer::{AnswerOpener, Answered, Opened},
    broker::RelayState,
    message::{Outgoing, PublishError, Route},
    reorder::Reorder,
    seal::{self, PeerKey, Routing},
    table::{Entry, Most, answers_at},
};
use crate::{
    Failure,
    link::{LinkError, SILENCE_TIMEOUT, Target},
};

/// Messages that may come beside those asked for: the closing word, and copies.
const SPARE: usize = 4;
/// What a message has beside its data, or instead of it: the seal, a refusal.
const FRAME: usize = 4 << 10;
/// How long an answer may take to a question that not all queues took.
const DOUBT: Duration = Duration::from_secs(2);
/// How often one question is asked: with another key, for the epoch, and once more for a peer that restarts meanwhile.
const TRIES: u32 = 4;

/// A question and what its asker takes for an answer.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) ask: Ask,
    /// Answer messages.
    pub(crate) credit: u32,
    /// Bytes of one.
    pub(crate) max_message: u32,
    /// How long to wait for each.
    pub(crate) patience: Duration,
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Message(Bytes),
    Bytes(Bytes),
    /// The end of this answer, and there is more for whoever asks again.
    More,
}

/// The answers to one question, in order. Dropping it ends the waiting.
#[derive(Debug)]
pub(crate) struct Answers {
    relay: Relay,
    /// For asking once more; none when something was answered.
    again: Option<Box<Again>>,
    patience: Duration,
    flight: Flight,
    over: bool,
}

/// What it takes to ask once more.
#[derive(Debug)]
struct Again {
    target: Target,
    key: PeerKey,
    question: Question,
    /// Whether the directory was asked for another key.
    looked_up: bool,
    tries: u32,
}

/// A question that was sent.
#[derive(Debug)]
struct Flight {
    entry: Entry,
    opener: AnswerOpener,
    order: Reorder<Opened>,
    /// A queue did not take it, and nothing has come yet.
    in_doubt: bool,
}

impl Question {
    pub(crate) fn new(ask: Ask) -> Self {
        Self { ask, credit: 1, max_message: 1 << 20, patience: SILENCE_TIMEOUT }
    }

    /// What may come: the messages that were asked for, a copy of one, and words that close.
    fn most(&self) -> Most {
        let credit = self.credit as usize;
        let largest = match &self.ask {
            Ask::Fetch(_) => self.max_message as usize,
            // Names and small files are not cut.
            _ => (self.max_message as usize).max(1 << 20) + (64 << 10),
        };
        let messages = credit.saturating_add(SPARE);
        let bytes = largest.saturating_mul(credit + 1) + messages.saturating_mul(FRAME);
        Most { messages, bytes }
    }
}

impl Relay {
    /// Sends a question.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] where the broker or the peer cannot be reached; [`LinkError::Answered`] with
    /// `rate_limited` where this peer asks too much at once.
    pub(crate) async fn ask(&self, target: &Target, question: Question) -> Result<Answers, LinkError> {
        let listed = PeerKey::from_hex(&target.sealing_key).map_err(unreachable)?;
        let key = self.inner.book.instead_of(target.peer_id, &listed).unwrap_or(listed);
        let flight = self.launch(target, &key, &question).await?;
        Ok(Answers {
            relay: self.clone(),
            patience: question.patience,
            again: Some(Box::new(Again {
                target: target.clone(),
                key,
                question,
                looked_up: false,
                tries: 1,
            })),
            flight,
            over: false,
        })
    }

    /// Whether the peer is there, can open a seal and answers.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn ping(&self, target: &Target) -> Result<Duration, LinkError> {
        self.say(target, proto::Ping::default()).await
    }

    pub(super) async fn say(&self, target: &Target, ping: proto::Ping) -> Result<Duration, LinkError> {
        let asked = Instant::now();
        let mut answers = self.ask(target, Question::new(Ask::Ping(ping))).await?;
        answers.message::<proto::Pong>().await?;
        Ok(asked.elapsed())
    }

    /// Asks the peer to dial one of `endpoints` and to show the token there; answered when that connection stands.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn dial_me(
        &self,
        target: &Target,
        endpoints: &[String],
        token: Bytes,
    ) -> Result<(), LinkError> {
        let ask = Ask::DialMe(proto::DialMe { endpoints: endpoints.to_vec(), token });
        let mut answers = self.ask(target, Question::new(ask)).await?;
        match answers.next().await {
            None => Ok(()),
            Some(Ok(_)) => Err(unexpected()),
            Some(Err(error)) => Err(error),
        }
    }

    async fn launch(&self, to: &Target, key: &PeerKey, question: &Question) -> Result<Flight, LinkError> {
        let state = self.state();
        let queue = match &*state.borrow() {
            RelayState::On { answers, blocked: None, .. } => *answers,
            RelayState::On { blocked: Some(why), .. } => {
                return Err(publish_error(PublishError::Blocked(why.clone())));
            }
            RelayState::Away { why } => return Err(publish_error(PublishError::NotConnected(why.clone()))),
            RelayState::Off { why } => {
                return Err(publish_error(PublishError::NotConnected((*why).to_owned())));
            }
        };
        let id = rand::random();
        let routing = Routing {
            from: self.own_id(),
            to: to.peer_id,
            route: Route::Live,
            message_id: id,
            answer_to: Some(queue),
        };
        let message = proto::Question {
            credit: question.credit,
            max_message: question.max_message,
            patience_ms: u32::try_from(question.patience.as_millis()).unwrap_or(u32::MAX),
            ask: Some(question.ask.clone()),
            epoch: self.inner.book.epoch(to.peer_id),
        };
        let (body, reply) = seal::seal(&self.inner.keys, key, &routing, &message).map_err(unreachable)?;

        let entry = self.inner.table.wait(id, to.peer_id, queue, question.most());
        let entry = entry.ok_or_else(too_many)?;
        // Whoever changed the state before this question was in the table did not see it.
        if answers_at(&state.borrow()) != Some(queue) {
            return Err(lost());
        }
        let span = publishing("live", to.peer_id);
        let outgoing = Outgoing {
            to: to.peer_id,
            route: Route::Live,
            message_id: id,
            correlation_id: None,
            answer_to: Some(queue),
            expires: Some(question.patience),
            trace: trace::traceparent(&span),
            body,
        };
        let published =
            timeout(question.patience, self.inner.broker.publish(outgoing)).instrument(span).await;
        let in_doubt = match published {
            Ok(Ok(())) => false,
            Ok(Err(PublishError::Full)) => true,
            Ok(Err(error)) => return Err(publish_error(error)),
            Err(_) => return Err(publish_error(PublishError::Silent)),
        };
        metrics::counter!("trueque_relay_questions_sent_total").increment(1);
        let opener = AnswerOpener::new(reply, id);
        Ok(Flight { entry, opener, order: Reorder::new(question.credit.saturating_add(1)), in_doubt })
    }
}

impl Answers {
    /// The next message of the answer; `None` at its end.
    ///
    /// # Errors
    /// What the peer said, or that it said nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Part, LinkError>> {
        if self.over {
            return None;
        }
        let answer = match self.due().await {
            Ok(opened) => {
                self.over = opened.last;
                read(opened)
            }
            Err(error) => Some(Err(error)),
        };
        self.over |= matches!(answer, None | Some(Err(_)));
        answer
    }

    /// The one message that the whole answer is.
    ///
    /// # Errors
    /// As [`Self::next`]; `unavailable` where the answer is something else.
    pub(crate) async fn message<T: Message + Default>(&mut self) -> Result<T, LinkError> {
        match self.next().await {
            Some(Ok(Part::Message(bytes))) => T::decode(bytes).map_err(|_| unexpected()),
            Some(Err(error)) => Err(error),
            Some(Ok(Part::Bytes(_) | Part::More)) | None => Err(unexpected()),
        }
    }

    /// Shortens or lengthens the waiting for what comes next.
    pub(crate) fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Waits for the message whose turn it is.
    async fn due(&mut self) -> Result<Opened, LinkError> {
        let mut deadline = self.deadline();
        loop {
            if let Some(due) = self.flight.order.pop() {
                return Ok(due);
            }
            let body = match timeout_at(deadline, self.flight.entry.next()).await {
                Err(_) if self.flight.in_doubt => return Err(publish_error(PublishError::Full)),
                Err(_) => return Err(LinkError::Silent),
                Ok(None) => return Err(lost()),
                Ok(Some(body)) => body,
            };
            let taken = match self.flight.opener.open(body) {
                Ok(Answered::Sealed(Opened { kind: Kind::Epoch, data, .. })) => {
                    self.ask_for(&data).await?;
                    Ok(())
                }
                Ok(Answered::Sealed(opened)) => {
                    // Answers prove that the key was right.
                    self.again = None;
                    self.flight.in_doubt = false;
                    self.flight.order.push(opened.number, opened.last, opened).map_err(|(refused, _)| refused)
                }
                Ok(Answered::StaleKey) => {
                    if self.ask_with_new_key().await? {
                        deadline = self.deadline();
                    }
                    Err(Refused::StaleKey)
                }
                Err(refused) => Err(refused),
            };
            match taken {
                Ok(()) => deadline = self.deadline(),
                Err(refused) => refused.count(),
            }
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + if self.flight.in_doubt { self.patience.min(DOUBT) } else { self.patience }
    }

    /// The peer says that the key is not its own any more. Where the directory agrees, the question is asked once more.
    async fn ask_with_new_key(&mut self) -> Result<bool, LinkError> {
        // Whoever says so is not known, so the directory is asked once.
        let Some(again) = self.again.as_mut().filter(|again| !again.looked_up) else { return Ok(false) };
        again.looked_up = true;
        let peer = again.target.peer_id;
        let Some(key) = self.relay.inner.book.replaced(peer, &again.key).await else { return Ok(false) };
        tracing::debug!(peer.id = %peer, "a peer has another sealing key than it had");
        again.key = key;
        self.launch_again().await.map(|()| true)
    }

    /// The peer says, under its seal, for which epoch it takes questions.
    async fn ask_for(&mut self, epoch: &[u8]) -> Result<(), LinkError> {
        let Some(again) = self.again.as_ref().filter(|again| again.tries < TRIES) else {
            return Err(unexpected());
        };
        let epoch = epoch.try_into().map_err(|_| unexpected())?;
        self.relay.inner.book.set_epoch(again.target.peer_id, epoch);
        self.launch_again().await
    }

    async fn launch_again(&mut self) -> Result<(), LinkError> {
        let Some(again) = self.again.as_mut() else { return Ok(()) };
        again.tries += 1;
        self.flight = self.relay.launch(&again.target, &again.key, &again.question).await?;
        Ok(())
    }
}

pub(crate) fn read(opened: Opened) -> Option<Result<Part, LinkError>> {
    match opened.kind {
        Kind::Message if opened.data.len() > proto::MAX_MESSAGE => Some(Err(unexpected())),
        Kind::Message => Some(Ok(Part::Message(opened.data))),
        Kind::Bytes => Some(Ok(Part::Bytes(opened.data))),
        Kind::More => Some(Ok(Part::More)),
        Kind::End => None,
        // Only what was asked just now is told.
        Kind::Epoch => Some(Err(unexpected())),
        Kind::Refusal => Some(Err(match proto::Refusal::decode(opened.data) {
            Ok(refusal) => {
                let code = refusal.code.parse().unwrap_or(ErrorCode::Internal);
                LinkError::Answered(Failure::new(code, refusal.detail))
            }
            Err(_) => unexpected(),
        })),
    }
}

/// A question on its way to the broker. Whoever takes it goes on with its trace.
pub(super) fn publishing(queue: &'static str, to: PeerId) -> Span {
    tracing::debug_span!(
        "publish",
        otel.kind = "producer",
        otel.name = "publish a question",
        messaging.system = "rabbitmq",
        messaging.destination = queue,
        peer.id = %to,
    )
}

pub(super) fn unreachable(why: impl std::fmt::Display) -> LinkError {
    LinkError::Unreachable(why.to_string())
}

fn lost() -> LinkError {
    unreachable("the relay's connection was lost")
}

fn unexpected() -> LinkError {
    LinkError::Answered(Failure::unavailable("the peer answered something that is not in the protocol"))
}

fn too_many() -> LinkError {
    metrics::counter!("trueque_refusals_total", "reason" => "too many questions over the relay").increment(1);
    LinkError::Answered(Failure::new(ErrorCode::RateLimited, "too many questions wait for the relay"))
}

/// None of it is an answer: another way may be tried.
pub(super) fn publish_error(error: PublishError) -> LinkError {
    let reason = match &error {
        PublishError::NotConnected(_) => "not connected",
        PublishError::NoQueue => "no queue",
        PublishError::Full => "queue full",
        PublishError::Blocked(_) => "broker blocked",
        PublishError::Silent => "broker silent",
        PublishError::Refused(_) => "broker refused",
    };
    metrics::counter!("trueque_relay_unsent_total", "reason" => reason).increment(1);
    unreachable(error)
}
