//! The relay: questions and answers as messages over RabbitMQ, where gRPC cannot go, and for peers that are off.
//!
//! - [`message`]: what goes over the broker, without a word of AMQP.
//! - [`broker`]: the connections to RabbitMQ and what is declared there; the only place that names its client.
//! - [`seal`], [`answer`]: how a question and its answers are sealed; [`refused`]: why something is not taken.
//! - [`ask`]: a question, sent and waited for; [`table`] brings answers to it, [`reorder`] puts them in order.
//! - [`open`]: a question, received; [`book`] knows whose it is, [`seen`] whether it was asked before; [`sink`] takes the
//!   answers. What to answer is `pserver`'s business.
//! - [`returns`]: when the relay is lost and back, and who hears of it.
//! - [`leave`]: a question that waits for a peer that is off.
//! - [`window`]: how much is asked for at once; [`limits`]: how much of it this peer wants at all.
//!
//! The broker is not trusted: it carries what is sealed from peer to peer, and everything it hands over is checked. It
//! can lose messages and it sees who talks to whom, when and how much; it cannot read, change, invent or replay.

pub(crate) mod answer;
pub(crate) mod ask;
mod book;
pub mod broker;
mod leave;
mod limits;
pub mod message;
pub(crate) mod open;
mod refused;
pub(crate) mod reorder;
pub(crate) mod returns;
pub(crate) mod seal;
mod seen;
pub(crate) mod sink;
mod table;
pub(crate) mod window;

pub(crate) use answer::Kind;
pub use broker::Broker;
pub(crate) use leave::LetterKeys;
pub use limits::Limits;
pub(crate) use refused::Refused;

use std::sync::Arc;

use anyhow::Context;
use daemon::Lifecycle;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use wire::PeerId;

use self::{
    book::PeerBook,
    broker::{Deliveries, RelayState},
    message::Incoming,
    returns::Askers,
    seal::OwnKeys,
    seen::Seen,
    table::Table,
    window::{Window, Windows},
};
use crate::{directory_link::DirectoryClient, identity::Identity, trust::Trust};

/// Questions that a slow listener may be behind.
const HEARD: usize = 64;

/// What the relay needs of the peer.
#[derive(Debug)]
pub struct RelayParts {
    pub identity: Arc<Identity>,
    pub broker: Broker,
    pub deliveries: Deliveries,
    /// Says who a sender is and which sealing key is theirs.
    pub directory: DirectoryClient,
    pub limits: Limits,
    /// Who is refused whatever they seal.
    pub trust: Trust,
}

/// The relay of this peer. Clones are the same.
#[derive(Debug, Clone)]
pub struct Relay {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    broker: Broker,
    keys: OwnKeys,
    book: PeerBook,
    trust: Trust,
    table: Arc<Table>,
    windows: Windows,
    seen: Mutex<Seen>,
    askers: Askers,
    heard: broadcast::Sender<PeerId>,
    /// Answers that are being sent.
    sending: Arc<Semaphore>,
    limits: Limits,
}

/// What others ask, as it came: for whoever answers.
#[derive(Debug)]
pub struct Inbox {
    pub live: mpsc::Receiver<Incoming>,
    pub wants: mpsc::Receiver<Incoming>,
    pub mailbox: mpsc::Receiver<Incoming>,
}

impl Relay {
    /// Starts the part that asks; the inbox is for the part that answers.
    ///
    /// # Errors
    /// Where the identity's sealing key cannot be used.
    pub fn start(parts: RelayParts, lifecycle: &Lifecycle) -> anyhow::Result<(Self, Inbox)> {
        let RelayParts { identity, broker, deliveries, directory, limits, trust } = parts;
        let Deliveries { live, wants, answers, mailbox } = deliveries;
        let table = Arc::<Table>::default();
        let bringing = table::bring_answers(table.clone(), answers, broker.state(), lifecycle.soft());
        lifecycle.spawn("answers over the relay", bringing);
        let lookup = move |peer| {
            let directory = directory.clone();
            Box::pin(async move { directory.peer(peer).await }) as _
        };
        let inner = Inner {
            broker,
            keys: OwnKeys::of(&identity).context("PEER_DATA_DIR: the sealing key")?,
            book: PeerBook::new(Arc::new(lookup)),
            trust,
            table,
            windows: Windows::default(),
            seen: Mutex::default(),
            askers: Askers::default(),
            heard: broadcast::Sender::new(HEARD),
            sending: Arc::new(Semaphore::new(sink::MOST_SENDING)),
            limits,
        };
        let relay = Self { inner: Arc::new(inner) };
        returns::tell_askers(relay.clone(), lifecycle);
        Ok((relay, Inbox { live, wants, mailbox }))
    }

    pub fn own_id(&self) -> PeerId {
        self.inner.broker.own_id()
    }

    /// How much of it this peer wants.
    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// How it stands now, and every change.
    pub fn state(&self) -> watch::Receiver<RelayState> {
        self.inner.broker.state()
    }

    /// Whose questions come, under their seal: who asks is there.
    pub(crate) fn heard(&self) -> broadcast::Receiver<PeerId> {
        self.inner.heard.subscribe()
    }

    pub fn is_on(&self) -> bool {
        matches!(*self.inner.broker.state().borrow(), RelayState::On { .. })
    }

    /// How much lies in the durable queues.
    ///
    /// # Errors
    /// Why that is not known.
    pub async fn depths(&self) -> Result<broker::Depths, String> {
        self.inner.broker.depths().await
    }

    /// How much may be under way from this peer.
    pub(crate) fn window(&self, peer: PeerId) -> Window {
        self.inner.windows.of(peer)
    }
}
