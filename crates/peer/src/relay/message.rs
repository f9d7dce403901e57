//! What goes over the broker, without a word of AMQP: the parts of the relay speak of these, [`super::broker`] translates.

use std::time::Duration;

use bytes::Bytes;
use wire::PeerId;

/// Names one message, or the request that an answer belongs to. Random, so that nobody guesses one.
pub type MessageId = [u8; 16];

/// Names the queue that a running peer takes its answers from. Random, new with each connection to the broker.
pub type AnswerQueue = [u8; 8];

/// Where a message goes: what kind of queue of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// A question to a peer that is on; comes back where it is off.
    Live,
    /// A question that waits for the peer, durable.
    Want,
    /// An answer to whoever waits for it now.
    Answer(AnswerQueue),
    /// An answer for a peer that may be off, durable.
    Mailbox,
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub to: PeerId,
    pub route: Route,
    pub message_id: MessageId,
    /// The request that this answers.
    pub correlation_id: Option<MessageId>,
    /// Which of our answer queues waits for the answers, where one does. It must be that of the connection as it is now.
    pub answer_to: Option<AnswerQueue>,
    /// The broker drops it after this long; none for as long as its queue keeps things.
    pub expires: Option<Duration>,
    /// A W3C `traceparent`.
    pub trace: Option<String>,
    pub body: Bytes,
}

/// A message that came. The sender is what the routing key says, and proven by the seal alone.
#[derive(Debug)]
pub struct Incoming {
    pub from: PeerId,
    pub route: Route,
    pub message_id: MessageId,
    pub correlation_id: Option<MessageId>,
    /// Which of the sender's answer queues waits for the answers, where one does.
    pub answer_to: Option<AnswerQueue>,
    pub trace: Option<String>,
    /// It was handed over before, to a consumer that did not finish.
    pub redelivered: bool,
    pub body: Vec<u8>,
    pub receipt: super::broker::Receipt,
}

/// Why a message was not taken by the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no connection to a broker now.
    #[error("the relay is not connected: {0}")]
    NotConnected(String),
    /// No queue takes it: the peer is off, or was never on the relay.
    #[error("the peer is not on the relay")]
    NoQueue,
    /// The queue is full.
    #[error("the peer's queue at the relay is full")]
    Full,
    /// The broker takes nothing now: it is short of memory or disk.
    #[error("the broker takes no messages now: {0}")]
    Blocked(String),
    /// The broker did not say whether it took it.
    #[error("the broker did not answer in time")]
    Silent,
    /// The broker says that this peer may not.
    #[error("the broker refuses it: {0}")]
    Refused(String),
}
