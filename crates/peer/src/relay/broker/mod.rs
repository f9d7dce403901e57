//! The connections to RabbitMQ, kept alive, and what is declared there.

use std::sync::Arc;

use daemon::{Clock, Lifecycle};
use tokio::sync::{mpsc, watch};
use wire::PeerId;

use super::message::{AnswerQueue, Incoming, Outgoing, PublishError};
use crate::{config::AmqpSetting, directory_link::LinkStatus};

/// How the relay stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayState {
    /// No broker is set, or the relay is switched off; `why` says which.
    Off { why: &'static str },
    /// A broker is set and cannot be used now.
    Away { why: String },
    /// Connected, and this is where answers come in.
    On { answers: AnswerQueue, blocked: Option<String> },
}

/// What the connections need of the peer.
#[derive(Debug)]
pub struct BrokerParts {
    pub own_id: PeerId,
    pub setting: AmqpSetting,
    /// Says which broker the directory names, and as whom to log in there.
    pub link: watch::Receiver<LinkStatus>,
    pub clock: Clock,
}

/// What came, by kind. Each channel is bounded; a message that is not taken out is not acknowledged.
#[derive(Debug)]
pub struct Deliveries {
    pub live: mpsc::Receiver<Incoming>,
    pub wants: mpsc::Receiver<Incoming>,
    pub answers: mpsc::Receiver<Incoming>,
    pub mailbox: mpsc::Receiver<Incoming>,
}

/// The connections to the broker. Clones are the same.
#[derive(Debug, Clone)]
pub struct Broker {
    state: watch::Receiver<RelayState>,
    own_id: PeerId,
    _keep: Arc<watch::Sender<RelayState>>,
}

/// What has been taken from a queue, until it is given a receipt for. Dropped without a word, the message comes again.
#[derive(Debug)]
pub struct Receipt(());

impl Receipt {
    /// It is dealt with: the broker forgets it.
    pub async fn done(self) {}

    /// It cannot be dealt with, now (`again`) or ever: then it becomes a dead letter.
    pub async fn refuse(self, again: bool) {
        let _ = again;
    }
}

impl Broker {
    /// Starts the worker that keeps the connections.
    pub fn start(parts: BrokerParts, lifecycle: &Lifecycle) -> (Self, Deliveries) {
        let _ = (lifecycle, &parts.setting, &parts.link, &parts.clock);
        let (keep, state) = watch::channel(RelayState::Off { why: "no broker is set" });
        let (_, live) = mpsc::channel(1);
        let (_, wants) = mpsc::channel(1);
        let (_, answers) = mpsc::channel(1);
        let (_, mailbox) = mpsc::channel(1);
        let broker = Self { state, own_id: parts.own_id, _keep: Arc::new(keep) };
        (broker, Deliveries { live, wants, answers, mailbox })
    }

    pub fn own_id(&self) -> PeerId {
        self.own_id
    }

    /// How the relay stands now, and every change.
    pub fn state(&self) -> watch::Receiver<RelayState> {
        self.state.clone()
    }

    /// Hands a message to the broker and waits until it has it.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was taken then, but for `Silent`, where nobody knows.
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        let _ = message;
        Err(PublishError::NotConnected("no broker is set".to_owned()))
    }
}
