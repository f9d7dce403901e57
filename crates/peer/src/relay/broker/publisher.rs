//! Publishing: a pool of channels, each with one message under way.
//!
//! Every message is `mandatory` and confirmed: it is in a queue when [`Publisher::publish`] says so, or it says why not.
//! One message per channel at a time, because the client pins returned messages to the wrong publish when there are
//! several (seen: 171 of 4,000 reported as routed that were not). So parallel publishes take a channel each, up to
//! [`CHANNELS`], made when first needed. A channel that did not come to a clear end (time passed, the broker closed it,
//! the caller gave up) is not used again.
//!
//! When the broker is short of memory or disk it stops reading from connections that publish. Then nothing is begun,
//! and what is under way has a moment to be confirmed.

use std::time::Duration;

use daemon::Clock;
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use wire::PeerId;

use super::{
    MAX_BODY,
    connection::{ANSWER_LIMIT, Link, Trouble, within},
    topology,
};
use crate::relay::message::{AnswerQueue, Outgoing, PublishError, Route};

const CHANNELS: u32 = 16;
/// From the wish to publish to the broker's word.
const PUBLISH_LIMIT: Duration = Duration::from_secs(10);
/// For confirms that come in spite of an alarm.
const LAST_CONFIRMS: Duration = Duration::from_secs(1);
const PERSISTENT: u8 = 2;
const CONTENT_TOO_LARGE: u16 = 311;
const NO_ROUTE: u16 = 312;
const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// The connection that publishes, while it lasts.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    own_id: PeerId,
    /// As whom the connection is logged in; the broker checks that every message says so.
    user: ShortString,
    answers: AnswerQueue,
    clock: Clock,
    idle: Mutex<Vec<Channel>>,
    turns: Semaphore,
    blocked: watch::Sender<Option<String>>,
    /// Fires when the connection is given up.
    over: CancellationToken,
    /// Why the connection should be given up, by the word of a publish.
    useless: watch::Sender<Option<Trouble>>,
}

impl Publisher {
    pub(super) fn new(link: Link, own_id: PeerId, user: &str, answers: AnswerQueue, clock: Clock) -> Self {
        Self {
            link,
            own_id,
            user: user.into(),
            answers,
            clock,
            idle: Mutex::default(),
            turns: Semaphore::new(CHANNELS as usize),
            blocked: watch::Sender::default(),
            over: CancellationToken::new(),
            useless: watch::Sender::default(),
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The broker takes nothing, and why; or takes messages again.
    pub(super) fn set_blocked(&self, reason: Option<String>) {
        self.blocked.send_replace(reason);
    }

    /// Waits until the connection turns out to be of no use.
    pub(super) async fn found_useless(&self) -> Trouble {
        let mut useless = self.useless.subscribe();
        loop {
            if let Some(trouble) = useless.borrow_and_update().clone() {
                return trouble;
            }
            if useless.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Cuts the connection; what is under way learns of it.
    pub(super) fn give_up(&self) {
        self.over.cancel();
        self.link.cut();
    }

    /// Waits until nothing is under way, or for `limit`; then closes the connection.
    pub(super) async fn finish(&self, limit: Duration) {
        let _in_time = timeout(limit, self.turns.acquire_many(CHANNELS)).await;
        self.over.cancel();
        self.link.close().await;
    }

    /// Hands a message to the broker. See [`super::Broker::publish`].
    pub(super) async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        if message.body.len() > MAX_BODY {
            return Err(PublishError::Refused(format!("it is larger than {MAX_BODY} bytes")));
        }
        if message.answer_to.is_some_and(|queue| queue != self.answers) {
            let why = "it has just been made anew, and the answers would go to the one before";
            return Err(PublishError::NotConnected(why.to_owned()));
        }
        let deadline = Instant::now() + PUBLISH_LIMIT;
        let (_turn, channel) = tokio::select! {
            biased;
            () = self.over.cancelled() => return Err(lost()),
            reason = self.until_blocked() => return Err(PublishError::Blocked(reason)),
            // Nothing has been handed over yet, so that nobody knows nothing.
            ready = timeout_at(deadline, self.ready()) =>
                ready.map_err(|_| PublishError::NotConnected("no channel became free".to_owned()))??,
        };
        let outcome = tokio::select! {
            biased;
            answer = timeout_at(deadline, self.hand_over(&channel, &message)) => answer,
            () = self.over.cancelled() => return Err(PublishError::Silent),
            reason = self.until_blocked_for(LAST_CONFIRMS) => return Err(PublishError::Blocked(reason)),
        };
        match outcome.map_err(|_| PublishError::Silent)? {
            Ok(confirmation) => {
                self.idle.lock().push(channel);
                judged(confirmation)
            }
            Err(trouble) => Err(self.explained(trouble)),
        }
    }

    /// A turn, and a channel for it.
    async fn ready(&self) -> Result<(SemaphorePermit<'_>, Channel), PublishError> {
        let turn = self.turns.acquire().await.map_err(|_| lost())?;
        let idle = self.idle.lock().pop().filter(|channel| channel.status().connected());
        let channel = match idle {
            Some(channel) => channel,
            None => self.open().await.map_err(|trouble| PublishError::NotConnected(trouble.to_string()))?,
        };
        Ok((turn, channel))
    }

    async fn open(&self) -> Result<Channel, Trouble> {
        let channel = self.link.channel().await?;
        let selecting = channel.confirm_select(ConfirmSelectOptions::default());
        within(ANSWER_LIMIT, "asking for confirms", selecting).await?;
        Ok(channel)
    }

    async fn hand_over(&self, channel: &Channel, message: &Outgoing) -> Result<Confirmation, Trouble> {
        let (exchange, key) = topology::destination(message.to, message.route, self.own_id);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let properties = self.properties(message);
        let publishing =
            channel.basic_publish(exchange.into(), key.into(), options, &message.body, properties);
        Ok(publishing.await?.await?)
    }

    fn properties(&self, message: &Outgoing) -> BasicProperties {
        let seconds = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let mut properties = BasicProperties::default()
            .with_user_id(self.user.clone())
            .with_message_id(hex::encode(message.message_id).into())
            .with_timestamp(seconds);
        if matches!(message.route, Route::Want | Route::Mailbox) {
            properties = properties.with_delivery_mode(PERSISTENT);
        }
        if let Some(id) = message.correlation_id {
            properties = properties.with_correlation_id(hex::encode(id).into());
        }
        if let Some(queue) = message.answer_to {
            properties = properties.with_reply_to(hex::encode(queue).into());
        }
        if let Some(expires) = message.expires {
            properties = properties.with_expiration(expires.as_millis().to_string().into());
        }
        if let Some(trace) = &message.trace {
            let mut headers = FieldTable::default();
            headers.insert(TRACE.into(), AMQPValue::LongString(trace.as_str().into()));
            properties = properties.with_headers(headers);
        }
        properties
    }

    fn explained(&self, trouble: Trouble) -> PublishError {
        match trouble {
            // An exchange is gone: somebody deleted it, and a new connection declares it.
            Trouble::Refused { code: NOT_FOUND, ref text } => {
                let text = text.clone();
                self.useless.send_replace(Some(trouble));
                PublishError::NotConnected(text)
            }
            Trouble::Refused { code: CONTENT_TOO_LARGE | ACCESS_REFUSED | PRECONDITION_FAILED, text } => {
                PublishError::Refused(text)
            }
            // The connection went while this was under way.
            Trouble::Refused { .. } | Trouble::Lost(_) | Trouble::Late(_) => PublishError::Silent,
        }
    }

    async fn until_blocked(&self) -> String {
        let mut blocked = self.blocked.subscribe();
        let reason = blocked.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Until it is blocked and stays so.
    async fn until_blocked_for(&self, long: Duration) -> String {
        loop {
            let reason = self.until_blocked().await;
            sleep(long).await;
            if self.blocked.borrow().is_some() {
                return reason;
            }
        }
    }
}

/// The header of a W3C trace.
pub(super) const TRACE: &str = "traceparent";

fn judged(confirmation: Confirmation) -> Result<(), PublishError> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => match returned.reply_code {
            NO_ROUTE => Err(PublishError::NoQueue),
            _ => Err(PublishError::Refused(returned.reply_text.to_string())),
        },
        Confirmation::Nack(None) => Err(PublishError::Full),
        // Only a channel without confirms says so, and all of ours ask for them.
        Confirmation::NotRequested => Err(PublishError::Silent),
    }
}

fn lost() -> PublishError {
    PublishError::NotConnected("it is lost".to_owned())
}
