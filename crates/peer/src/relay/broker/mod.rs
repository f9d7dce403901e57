//! The connections to RabbitMQ, kept alive, and what is declared there. The only place that names its client.
//!
//! ```text
//!   address   which broker, as whom            worker ──── retry   how long until the next attempt
//!      └───────────────────────────────────────►  │
//!                                              session             one life of two connections
//!                        ┌────────────────────────┼──────────────────────┐
//!     Broker::publish ► publisher (16 channels)  declare (topology)    consume ► Deliveries
//!                        └──────────── connection (lapin) ──────────────┘
//! ```
//!
//! What the outside may rely on:
//!
//! - A publish says what became of the message, within ten seconds; see [`PublishError`].
//! - A message is handed over at least once, and gone from the broker only when its [`Receipt`] says so. The same one
//!   may come again after a connection broke, or twice.
//! - The state says where answers come in. Another answer queue means that the one before is gone, with what was in it.
//! - [`Deliveries`] last as long as the peer, over all connections.
//!
//! The broker's limits that are not ours to set: a message that is not given a receipt for in 30 minutes ends the
//! connection (`consumer_timeout`), and whoever may log in can send messages as large as `max_message_size` allows,
//! 128 MiB on 3.x: the configuration that is shipped sets 16 MiB, and what is larger than [`MAX_BODY`] is refused here
//! before it waits for anything.

mod address;
mod connection;
mod consume;
mod declare;
mod publisher;
mod retry;
mod session;
#[cfg(test)]
mod tests;
pub(crate) mod topology;
mod worker;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use daemon::{Clock, Lifecycle};
use tokio::sync::{mpsc, watch};
use wire::PeerId;

pub use self::{address::check_addresses, consume::Receipt};
use self::{
    publisher::Publisher,
    session::Inboxes,
    worker::{Wish, Worker},
};
use super::message::{AnswerQueue, Incoming, Outgoing, PublishError};
use crate::{config::AmqpSetting, directory_link::LinkStatus};

/// The largest body that is sent, and of an answer that is taken: a piece, or some small files.
pub const MAX_BODY: usize = 2 << 20;
/// The largest body of a question: 1,000 content ids, and the envelope.
pub(crate) const MAX_QUESTION: usize = 64 << 10;
/// Messages that wait in a channel; those in hand and in the client's buffer are bound by the prefetch.
const INBOX: usize = 4;

/// How the relay stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayState {
    /// No broker is set, or the relay is switched off; `why` says which.
    Off { why: &'static str },
    /// A broker is set and cannot be used now.
    Away { why: String },
    /// Connected, and this is where answers come in. Blocked, with the broker's reason: it takes no messages now.
    On {
        answers: AnswerQueue,
        blocked: Option<String>,
        /// Which broker: its address, without a login.
        server: Arc<str>,
    },
}

/// Messages that lie in durable queues; none of those that the broker does not let this peer look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depths {
    /// What waits for this peer: wants and offers.
    pub wants: Option<u32>,
    pub mailbox: Option<u32>,
    /// What nobody took, of all peers.
    pub dead: Option<u32>,
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
    own_id: PeerId,
    state: watch::Receiver<RelayState>,
    publisher: Arc<ArcSwapOption<Publisher>>,
}

impl Broker {
    /// Starts the worker that keeps the connections.
    pub fn start(parts: BrokerParts, lifecycle: &Lifecycle) -> (Self, Deliveries) {
        let BrokerParts { own_id, setting, link, clock } = parts;
        let (state, seen) = watch::channel(RelayState::Away { why: "not connected yet".to_owned() });
        let (inboxes, deliveries) = channels();
        let publisher = Arc::<ArcSwapOption<Publisher>>::default();
        let wish = Wish { setting, link };
        let worker = Worker { own_id, clock, wish, state, publisher: publisher.clone(), inboxes };
        lifecycle.spawn_vital("relay connections", worker.run(lifecycle.soft()));
        (Self { own_id, state: seen, publisher }, deliveries)
    }

    /// One that is off and stays so.
    pub fn off(own_id: PeerId, why: &'static str) -> (Self, Deliveries) {
        let (_, state) = watch::channel(RelayState::Off { why });
        (Self { own_id, state, publisher: Arc::default() }, channels().1)
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
    /// See [`PublishError`]; nothing was taken then, but for `Silent`, where nobody knows. `Blocked` is said at once
    /// while the broker is blocked; what was under way when it became so may still be taken afterwards.
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        let (route, bytes) = (topology::label(message.route), message.body.len() as u64);
        let published = match self.publisher.load_full() {
            Some(publisher) => publisher.publish(message).await,
            None => Err(PublishError::NotConnected(self.why_not())),
        };
        let outcome = match &published {
            Ok(()) => "taken",
            Err(PublishError::NotConnected(_)) => "not connected",
            Err(PublishError::NoQueue) => "no queue",
            Err(PublishError::Full) => "full",
            Err(PublishError::Blocked(_)) => "blocked",
            Err(PublishError::Silent) => "silent",
            Err(PublishError::Refused(_)) => "refused",
        };
        metrics::counter!("trueque_relay_published_total", "route" => route, "outcome" => outcome)
            .increment(1);
        if published.is_ok() {
            metrics::counter!("trueque_relay_published_bytes_total").increment(bytes);
        }
        published
    }

    /// How much lies in the durable queues.
    ///
    /// # Errors
    /// Where there is no connection, or it gives no answer.
    pub async fn depths(&self) -> Result<Depths, String> {
        let Some(publisher) = self.publisher.load_full() else { return Err(self.why_not()) };
        let own = topology::Own::of(self.own_id, AnswerQueue::default());
        let dead = topology::dead_letters();
        let [wants, mailbox, dead] = [&own.wants, &own.mailbox, &dead].map(|queue| {
            let publisher = &publisher;
            async move { declare::depth(publisher.link(), queue).await.map_err(|trouble| trouble.to_string()) }
        });
        let (wants, mailbox, dead) = futures::try_join!(wants, mailbox, dead)?;
        Ok(Depths { wants, mailbox, dead })
    }

    fn why_not(&self) -> String {
        match &*self.state.borrow() {
            RelayState::Off { why } => (*why).to_owned(),
            RelayState::Away { why } => why.clone(),
            RelayState::On { .. } => "the connection is being made anew".to_owned(),
        }
    }
}

fn channels() -> (Inboxes, Deliveries) {
    let (live_in, live) = mpsc::channel(INBOX);
    let (wants_in, wants) = mpsc::channel(INBOX);
    let (answers_in, answers) = mpsc::channel(INBOX);
    let (mailbox_in, mailbox) = mpsc::channel(INBOX);
    let inboxes = Inboxes { live: live_in, wants: wants_in, answers: answers_in, mailbox: mailbox_in };
    (inboxes, Deliveries { live, wants, answers, mailbox })
}
