//! One life of the connections: both opened, everything declared, four consumers, until something ends.
//!
//! There are two connections, one that publishes and one that takes, because a broker that is short of memory stops
//! reading from connections that publish, and acknowledgements must get through then too. Where the directory is the
//! broker's authority they are also two users, because whoever may declare must not be able to publish.

use std::{pin::pin, sync::Arc, time::Duration};

use daemon::Clock;
use futures::StreamExt;
use lapin::{Consumer, Event};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use wire::PeerId;

use super::{
    address::{Logins, Place},
    connection::{Link, Trouble},
    consume::{Reader, pump},
    declare::{self, Taking},
    publisher::Publisher,
    topology::Own,
};
use crate::relay::message::{AnswerQueue, Incoming, Route};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// At a stop: for what is being published.
const LAST_PUBLISHES: Duration = Duration::from_millis(800);

/// Where the messages go, for the whole life of the peer.
#[derive(Debug, Clone)]
pub(super) struct Inboxes {
    pub(super) live: mpsc::Sender<Incoming>,
    pub(super) wants: mpsc::Sender<Incoming>,
    pub(super) answers: mpsc::Sender<Incoming>,
    pub(super) mailbox: mpsc::Sender<Incoming>,
}

/// Connections that stand. Dropped, both are cut off.
pub(super) struct Session {
    publisher: Arc<Publisher>,
    taking: Link,
    answers: AnswerQueue,
    reader: Reader,
}

/// What a session takes messages from.
pub(super) struct Consumers {
    live: Consumer,
    wants: Consumer,
    answers: Consumer,
    mailbox: Consumer,
}

impl Session {
    /// Opens both connections, declares what is missing, and begins to take.
    pub(super) async fn open(
        place: &Place,
        own_id: PeerId,
        clock: &Clock,
    ) -> Result<(Self, Consumers), Trouble> {
        let (server, logins) = (&place.server, &place.logins);
        let open = |login, name| Link::open(server, login, name);
        let names = (format!("{own_id} publishes"), format!("{own_id} takes"));
        let (publishing, taking) =
            futures::try_join!(open(&logins.publishing, &names.0), open(&logins.taking, &names.1))?;
        let user = &logins.publishing.username;
        let users_are_peers = user.parse::<PeerId>().is_ok();
        declare::shared(&taking, users_are_peers).await?;

        let session: AnswerQueue = rand::random();
        let own = Own::of(own_id, session);
        // What waits comes to the newest session first, and not to the ghost of one whose connection broke.
        let priority = Some(clock.now().as_second());
        let (live, wants, answers, mailbox) = futures::try_join!(
            declare::own(&taking, &own.live, Taking { prefetch: 64, priority: None }),
            declare::own(&taking, &own.wants, Taking { prefetch: 4, priority }),
            declare::own(&taking, &own.answers, Taking { prefetch: 64, priority: None }),
            declare::own(&taking, &own.mailbox, Taking { prefetch: 8, priority }),
        )?;
        let publisher = Publisher::new(publishing, own_id, user, session, clock.clone());
        let reader = Reader { own_id, users_are_peers, over: CancellationToken::new() };
        let opened = Self { publisher: Arc::new(publisher), taking, answers: session, reader };
        Ok((opened, Consumers { live, wants, answers, mailbox }))
    }

    pub(super) fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Where answers come in.
    pub(super) fn answers(&self) -> AnswerQueue {
        self.answers
    }

    /// Takes messages until something ends; what did. `on_blocked` hears when the broker takes nothing, and why, and
    /// when it takes messages again.
    pub(super) async fn run(
        &self,
        consumers: &mut Consumers,
        inboxes: &Inboxes,
        on_blocked: impl Fn(Option<String>),
    ) -> Trouble {
        let route = Route::Answer(self.answers);
        tokio::select! {
            trouble = pump(&mut consumers.live, Route::Live, &self.reader, &inboxes.live) => trouble,
            trouble = pump(&mut consumers.wants, Route::Want, &self.reader, &inboxes.wants) => trouble,
            trouble = pump(&mut consumers.answers, route, &self.reader, &inboxes.answers) => trouble,
            trouble = pump(&mut consumers.mailbox, Route::Mailbox, &self.reader, &inboxes.mailbox) => trouble,
            trouble = self.watch(on_blocked) => trouble,
            trouble = self.publisher.found_useless() => trouble,
        }
    }

    /// The users have new passwords; the connections stay.
    pub(super) async fn renew(&self, logins: &Logins) -> Result<(), Trouble> {
        let (publishing, taking) = (self.publisher.link(), &self.taking);
        futures::try_join!(
            publishing.renew(&logins.publishing.password),
            taking.renew(&logins.taking.password)
        )?;
        Ok(())
    }

    /// The end in order: what is being published has a moment, then both connections are closed.
    pub(super) async fn close(self) {
        futures::join!(self.publisher.finish(LAST_PUBLISHES), self.taking.close());
    }

    /// The connection that publishes has no consumer that would end with it, so it is watched.
    async fn watch(&self, on_blocked: impl Fn(Option<String>)) -> Trouble {
        let mut events = pin!(self.publisher.link().events());
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut is_blocked = false;
        let block = |reason: Option<String>| {
            self.publisher.set_blocked(reason.clone());
            on_blocked(reason);
        };
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = look.tick() => {
                    if is_blocked {
                        metrics::counter!("trueque_relay_blocked_seconds_total").increment(LOOK_EVERY.as_secs());
                    }
                    // Some ends come without an event.
                    if self.publisher.link().is_up() && self.taking.is_up() {
                        continue;
                    }
                    None
                }
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    is_blocked = true;
                    block(Some(reason));
                }
                Some(Event::ConnectionUnblocked) => {
                    is_blocked = false;
                    block(None);
                }
                // Of one channel alone: whoever published by it hears of it.
                Some(Event::Error(error)) if error.is_amqp_soft_error() => {}
                Some(Event::Error(error)) => return error.into(),
                Some(_) => {}
                None => return Trouble::Lost("the connection is closed".to_owned()),
            }
        }
    }
}

impl Drop for Session {
    /// Others may still hold the publisher, for what they have under way.
    fn drop(&mut self) {
        self.publisher.give_up();
        self.reader.over.cancel();
    }
}
