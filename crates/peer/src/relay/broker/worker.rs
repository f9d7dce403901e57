//! The one worker that keeps the connections: which broker, connect, hold, and again after whatever happened.
//!
//! Recovery is explicit. The client has one of its own, which restores consumers in silence while an exclusive queue and
//! the answers in it are gone, and never repairs a closed channel; it stays off. Here any error ends both connections,
//! the state says `Away` and why, and after a pause the next address of the list is tried. Whoever waited for answers
//! sees another answer queue in the state, and asks again.
//!
//! The directory may name another broker (connect there) or give the next of its short-lived passwords (the connections
//! take it and stay).

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use daemon::Clock;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use wire::PeerId;

use super::{
    RelayState,
    address::{Place, Target},
    connection::Trouble,
    publisher::Publisher,
    retry::Retry,
    session::{Inboxes, Session},
};
use crate::{config::AmqpSetting, directory_link::LinkStatus};

/// A connection that held so long was a good one.
const HELD: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    pub(super) own_id: PeerId,
    pub(super) clock: Clock,
    pub(super) wish: Wish,
    pub(super) state: watch::Sender<RelayState>,
    pub(super) publisher: Arc<ArcSwapOption<Publisher>>,
    pub(super) inboxes: Inboxes,
}

/// What says which broker to use.
pub(super) struct Wish {
    pub(super) setting: AmqpSetting,
    pub(super) link: watch::Receiver<LinkStatus>,
}

enum End {
    Stopped,
    /// Another broker, another user, or none.
    Changed,
    Away {
        trouble: Trouble,
        /// How long the connection stood.
        held: Duration,
    },
}

impl Worker {
    pub(super) async fn run(mut self, soft: CancellationToken) {
        let mut retry = Retry::default();
        let mut turn = 0;
        loop {
            let target = self.wish.target();
            let pause = match &target {
                Target::Off(why) => {
                    self.show(RelayState::Off { why });
                    None
                }
                Target::Unusable(why) => {
                    self.show_away(why);
                    None
                }
                Target::At(places) => {
                    let place = &places[turn % places.len()];
                    match self.hold(&target, place, &soft).await {
                        End::Stopped => break,
                        End::Changed => Some(Duration::ZERO),
                        End::Away { trouble, held } => {
                            self.show_away(&format!("{}: {trouble}", place.server));
                            turn += 1;
                            if held >= HELD {
                                retry.succeeded();
                            }
                            Some(retry.pause(Instant::now().into_std(), &trouble, rand::random()))
                        }
                    }
                }
            };
            let pausing = async {
                match pause {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = soft.cancelled() => break,
                _ = self.wish.other_than(&target) => retry.succeeded(),
                () = pausing => {}
            }
        }
        self.show(RelayState::Off { why: "the peer is stopping" });
    }

    /// Connects, and stays until something ends.
    async fn hold(&mut self, target: &Target, place: &Place, soft: &CancellationToken) -> End {
        let opened = tokio::select! {
            biased;
            () = soft.cancelled() => return End::Stopped,
            _ = self.wish.other_than(target) => return End::Changed,
            opened = Session::open(place, self.own_id, &self.clock) => opened,
        };
        let (session, mut consumers) = match opened {
            Ok(opened) => opened,
            Err(trouble) => return End::Away { trouble, held: Duration::ZERO },
        };
        let since = Instant::now();
        metrics::counter!("trueque_relay_connections_total").increment(1);
        tracing::info!(relay.server = %place.server, relay.user = place.logins.publishing.username, "the relay is connected");
        self.publisher.store(Some(session.publisher().clone()));
        let server: Arc<str> = place.server.to_string().into();
        let on = |blocked| RelayState::On { answers: session.answers(), blocked, server: server.clone() };
        self.show(on(None));

        let end = {
            let state = &self.state;
            let on_blocked = |blocked| {
                state.send_replace(on(blocked));
            };
            tokio::select! {
                biased;
                () = soft.cancelled() => End::Stopped,
                trouble = session.run(&mut consumers, &self.inboxes, on_blocked) => {
                    End::Away { trouble, held: since.elapsed() }
                }
                () = self.wish.follow(target, place, &session) => End::Changed,
            }
        };
        self.publisher.store(None);
        // Without its consumers our queues are gone, and others learn at once that this peer is off.
        drop(consumers);
        match end {
            End::Stopped | End::Changed => {
                self.show(RelayState::Away { why: "the connection is being closed".to_owned() });
                session.close().await;
            }
            End::Away { .. } => drop(session),
        }
        end
    }

    fn show(&self, state: RelayState) {
        metrics::gauge!("trueque_relay_connected").set(u8::from(matches!(state, RelayState::On { .. })));
        self.state.send_if_modified(|now| {
            let changed = *now != state;
            *now = state;
            changed
        });
    }

    /// Says the same only once.
    fn show_away(&self, why: &str) {
        let state = RelayState::Away { why: why.to_owned() };
        if *self.state.borrow() != state {
            tracing::warn!(error = why, "the relay is away");
        }
        self.show(state);
    }
}

impl Wish {
    fn target(&mut self) -> Target {
        Target::of(&self.setting, &self.link.borrow_and_update())
    }

    /// Waits until it is another one.
    async fn other_than(&mut self, target: &Target) -> Target {
        loop {
            if self.link.changed().await.is_err() {
                // Nobody says anything any more.
                return std::future::pending().await;
            }
            let now = self.target();
            if now != *target {
                return now;
            }
        }
    }

    /// Gives new passwords to a session, until it takes another session.
    async fn follow(&mut self, target: &Target, place: &Place, session: &Session) {
        let mut present = target.clone();
        loop {
            let next = self.other_than(&present).await;
            if !next.differs_in_passwords_alone(&present) {
                return;
            }
            let Target::At(places) = &next else { return };
            let Some(renewed) = places.iter().find(|next| next.is_but_for_password(place)) else { return };
            if let Err(trouble) = session.renew(&renewed.logins).await {
                tracing::debug!(error = %trouble, "the broker does not take the new password, connecting anew");
                return;
            }
            present = next;
        }
    }
}
