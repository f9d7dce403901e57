//! The relay: questions and answers as messages over RabbitMQ, where gRPC cannot go, and for peers that are off.
//!
//! - [`message`]: what goes over the broker, without a word of AMQP.
//! - [`broker`]: the connections to RabbitMQ and what is declared there; the only place that names its client.
//!
//! The broker is not trusted: it carries what is sealed from peer to peer, and everything it hands over is checked.

pub mod broker;
pub mod message;

pub use broker::Broker;

use std::sync::Arc;

use tokio::sync::watch;
use wire::PeerId;

use self::broker::{Deliveries, RelayState};
use crate::{directory_link::DirectoryClient, identity::Identity};

/// What the relay needs of the peer.
#[derive(Debug)]
pub struct RelayParts {
    pub identity: Arc<Identity>,
    pub broker: Broker,
    pub deliveries: Deliveries,
    /// Says who a sender is and which sealing key is theirs.
    pub directory: DirectoryClient,
}

/// The relay of this peer. Clones are the same.
#[derive(Debug, Clone)]
pub struct Relay {
    broker: Broker,
}

impl Relay {
    pub fn start(parts: RelayParts) -> Self {
        Self { broker: parts.broker }
    }

    pub fn own_id(&self) -> PeerId {
        self.broker.own_id()
    }

    /// How it stands now, and every change.
    pub fn state(&self) -> watch::Receiver<RelayState> {
        self.broker.state()
    }

    pub fn is_on(&self) -> bool {
        matches!(*self.broker.state().borrow(), RelayState::On { .. })
    }
}
