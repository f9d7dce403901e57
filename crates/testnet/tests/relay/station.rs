//! [`Station`]: a peer's connections to a broker and nothing else of a peer, for looking at what the broker is asked.

use std::time::{Duration, Instant};

use bytes::Bytes;
use daemon::{Clock, Lifecycle};
use peer::{
    config::AmqpSetting,
    directory_link::{LinkState, LinkStatus},
    relay::{
        broker::{Broker, BrokerParts, Deliveries, RelayState},
        message::{AnswerQueue, Incoming, Outgoing, PublishError, Route},
    },
};
use testnet::{PATIENCE, until, until_within};
use tokio::sync::{mpsc, watch};
use wire::{PeerId, rest::directory};

pub(crate) struct Station {
    pub(crate) id: PeerId,
    pub(crate) broker: Broker,
    pub(crate) inbox: Deliveries,
    pub(crate) lifecycle: Lifecycle,
    /// What the directory says.
    pub(crate) link: watch::Sender<LinkStatus>,
}

impl Station {
    /// Of a new peer, connected.
    pub(crate) async fn at(url: &str) -> Self {
        let station = Self::of(anybody(), AmqpSetting::At(url.to_owned().into()));
        station.on().await;
        station
    }

    /// Of this peer; connected or not.
    pub(crate) fn of(id: PeerId, setting: AmqpSetting) -> Self {
        let lifecycle = Lifecycle::new();
        let (link, seen) = watch::channel(logged_out());
        let parts = BrokerParts { own_id: id, setting, link: seen, clock: Clock::system() };
        let (broker, inbox) = Broker::start(parts, &lifecycle);
        Self { id, broker, inbox, lifecycle, link }
    }

    pub(crate) fn state(&self) -> RelayState {
        self.broker.state().borrow().clone()
    }

    /// Waits until it is connected; where its answers come in.
    pub(crate) async fn on(&self) -> AnswerQueue {
        self.on_within(PATIENCE).await
    }

    pub(crate) async fn on_within(&self, limit: Duration) -> AnswerQueue {
        let mut state = self.broker.state();
        let is_on = |state: &RelayState| matches!(state, RelayState::On { .. });
        let seen =
            tokio::time::timeout(limit, state.wait_for(is_on)).await.map(|state| state.unwrap().clone());
        match seen {
            Ok(RelayState::On { answers, .. }) => answers,
            _ => panic!("not connected within {limit:?}: {:?}", self.state()),
        }
    }

    /// Waits until it is away; why it is.
    pub(crate) async fn away_within(&self, limit: Duration) -> String {
        until_within(limit, "it is away", async || match self.state() {
            RelayState::Away { why } => Some(why),
            RelayState::Off { .. } | RelayState::On { .. } => None,
        })
        .await
    }

    /// Waits until it is away because of this.
    pub(crate) async fn away_for(&self, reason: &str) -> String {
        until(reason, async || match self.state() {
            RelayState::Away { why } if why.contains(reason) => Some(why),
            _ => None,
        })
        .await
    }

    pub(crate) async fn off(&self) -> &'static str {
        until("it is off", async || match self.state() {
            RelayState::Off { why } => Some(why),
            RelayState::Away { .. } | RelayState::On { .. } => None,
        })
        .await
    }

    pub(crate) async fn send(&self, to: PeerId, route: Route, body: &str) -> Result<(), PublishError> {
        self.broker.publish(message(to, route, Bytes::copy_from_slice(body.as_bytes()))).await
    }

    /// As [`Self::send`], again and again while there is no connection.
    pub(crate) async fn send_at_last(&self, to: PeerId, route: Route, body: &str) {
        until("it can be sent", async || match self.send(to, route, body).await {
            Ok(()) => Some(()),
            Err(PublishError::NotConnected(_) | PublishError::NoQueue | PublishError::Silent) => None,
            Err(other) => panic!("{other}"),
        })
        .await;
    }

    /// The end in order, within the time that a peer gives it.
    pub(crate) async fn stop(self) {
        let started = Instant::now();
        self.lifecycle.finish().await;
        assert!(started.elapsed() < Duration::from_secs(3), "the stop took {:?}", started.elapsed());
        assert_eq!(self.lifecycle.failed_task(), None);
    }
}

pub(crate) fn anybody() -> PeerId {
    PeerId::from_bytes(rand::random())
}

pub(crate) fn message(to: PeerId, route: Route, body: Bytes) -> Outgoing {
    Outgoing {
        to,
        route,
        message_id: rand::random(),
        correlation_id: None,
        answer_to: None,
        expires: None,
        trace: None,
        body,
    }
}

/// The next message of a channel.
pub(crate) async fn next(channel: &mut mpsc::Receiver<Incoming>) -> Incoming {
    let next = tokio::time::timeout(PATIENCE, channel.recv()).await;
    next.expect("a message comes").expect("the channel lasts")
}

/// The bodies of the next messages, dealt with.
pub(crate) async fn take(channel: &mut mpsc::Receiver<Incoming>, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let message = next(channel).await;
        message.receipt.done().await;
        bodies.push(String::from_utf8(message.body).unwrap());
    }
    bodies
}

pub(crate) fn logged_out() -> LinkStatus {
    LinkStatus { username: None, state: LinkState::LoggedOut { why: None }, broker: None }
}

/// A directory that names a broker, and as whom to log in there.
pub(crate) fn told(url: &str, username: &str, password: &str) -> LinkStatus {
    let broker = directory::Broker {
        url: url.to_owned(),
        username: Some(username.to_owned()),
        password: Some(password.to_owned()),
        expires_in: None,
        taking: None,
    };
    LinkStatus { username: None, state: LinkState::Connected, broker: Some(broker) }
}
