//! [`AnswerSink`]: where the answers to one question go.
//!
//! It needs the question's id, the key for its answers and a route, and no connection that the question came by: what
//! is written in it goes to whoever waits now, or into the mailbox of a peer that is off. A broker that takes nothing
//! for a while is waited for, as long as the asker has patience; a queue that is gone is the end: so is its asker.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use wire::{PeerId, proto};

use super::{
    Kind, Limits, Relay,
    answer::AnswerSealer,
    broker::{Broker, RelayState},
    message::{MessageId, Outgoing, PublishError, Route},
    seal::ReplyKey,
};
use crate::Failure;

/// Messages under way for one question: one is sent while the next one is read and sealed.
const TOGETHER: usize = 2;
/// Messages under way for all questions.
pub(crate) const MOST_SENDING: usize = 64;
/// How often a full queue is tried.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// The asker is not there any more, or cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be sent: {0}")]
pub(crate) struct Gone(PublishError);

/// Takes the answers to one question.
#[derive(Debug)]
pub(crate) struct AnswerSink {
    broker: Broker,
    limits: Limits,
    to: PeerId,
    route: Route,
    request: MessageId,
    sealer: AnswerSealer,
    patience: Duration,
    room: Arc<Semaphore>,
    sending: JoinSet<Result<u32, PublishError>>,
    /// The numbers of those.
    under_way: BTreeSet<u32>,
}

impl AnswerSink {
    /// For answers to `request` of the peer `to`, sealed with the question's key.
    ///
    /// # Errors
    /// Where the key cannot be used, which does not happen.
    pub(crate) fn new(
        relay: &Relay,
        to: PeerId,
        route: Route,
        request: MessageId,
        reply: &ReplyKey,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let sealer = AnswerSealer::new(reply, request);
        Ok(Self {
            broker: relay.inner.broker.clone(),
            limits: relay.inner.limits.clone(),
            to,
            route,
            request,
            sealer: sealer.ok_or_else(|| Failure::internal("an answer's key cannot be derived"))?,
            patience,
            room: relay.inner.sending.clone(),
            sending: JoinSet::new(),
            under_way: BTreeSet::new(),
        })
    }

    /// Messages so far.
    pub(crate) fn count(&self) -> u32 {
        self.sealer.count()
    }

    /// Sends a protobuf message.
    ///
    /// # Errors
    /// [`Gone`]: nobody needs the rest.
    pub(crate) async fn message(&mut self, message: &impl Message, last: bool) -> Result<(), Gone> {
        self.send(Kind::Message, &[message.encode_to_vec().into()], last).await
    }

    /// Sends what a file holds, put together into one message.
    ///
    /// # Errors
    /// [`Gone`]: nobody needs the rest.
    pub(crate) async fn bytes(&mut self, data: &[Bytes], last: bool) -> Result<(), Gone> {
        self.send(Kind::Bytes, data, last).await
    }

    /// Ends the answer with its last word, and waits until the broker has all of it.
    ///
    /// # Errors
    /// [`Gone`]: not all of it arrived.
    pub(crate) async fn end(mut self, with: Result<Kind, Failure>) -> Result<(), Gone> {
        let (kind, data) = match with {
            Ok(kind) => (kind, Bytes::new()),
            Err(failure) => (Kind::Refusal, refusal(failure)),
        };
        self.send(kind, &[data], true).await?;
        self.confirmed().await
    }

    /// Ends the answer with a refusal and takes back what the broker has not taken yet: its asker may not have it any
    /// more. Which of those messages arrived all the same nobody knows, so the refusal stands in place of each, and
    /// after them.
    ///
    /// # Errors
    /// [`Gone`]: the asker will hear nothing more, and asks again.
    pub(crate) async fn withdraw(mut self, why: Failure) -> Result<(), Gone> {
        self.sending.abort_all();
        while let Some(ended) = self.sending.join_next().await {
            if let Ok(Ok(number)) = ended {
                self.under_way.remove(&number);
            }
        }
        let (data, next) = (refusal(why), self.sealer.count());
        let first = self.under_way.first().copied().unwrap_or(next);
        for number in first..=next {
            // Nothing is said after a last word.
            let Some(body) = self.sealer.seal_instead(number, Kind::Refusal, &data) else { break };
            let Ok(room) = self.room.clone().acquire_owned().await else { break };
            let message = self.outgoing(body);
            deliver(self.broker.clone(), message, number, self.patience, room).await.map_err(Gone)?;
        }
        Ok(())
    }

    /// Waits until the broker has everything that was sent.
    ///
    /// # Errors
    /// [`Gone`]: not all of it arrived.
    pub(crate) async fn confirmed(mut self) -> Result<(), Gone> {
        self.arrived().await
    }

    /// The same, for more to be sent after it.
    ///
    /// # Errors
    /// [`Gone`]: not all of it arrived.
    pub(crate) async fn arrived(&mut self) -> Result<(), Gone> {
        while !self.sending.is_empty() {
            self.one_arrived().await?;
        }
        Ok(())
    }

    async fn send(&mut self, kind: Kind, data: &[Bytes], last: bool) -> Result<(), Gone> {
        self.limits.send(data.iter().map(Bytes::len).sum()).await;
        let room = self.room.clone().acquire_owned().await;
        let number = self.sealer.count();
        let sealed = self.sealer.seal(kind, data, last);
        let (Ok(room), Some(body)) = (room, sealed) else {
            return Err(Gone(PublishError::Refused("it cannot be sealed".to_owned())));
        };
        let message = self.outgoing(body);
        self.under_way.insert(number);
        self.sending.spawn(deliver(self.broker.clone(), message, number, self.patience, room));
        while self.sending.len() >= TOGETHER {
            self.one_arrived().await?;
        }
        Ok(())
    }

    fn outgoing(&self, body: Bytes) -> Outgoing {
        Outgoing {
            to: self.to,
            route: self.route,
            message_id: rand::random(),
            correlation_id: Some(self.request),
            answer_to: None,
            expires: Some(self.patience).filter(|_| self.route != Route::Mailbox),
            trace: None,
            body,
        }
    }

    async fn one_arrived(&mut self) -> Result<(), Gone> {
        match self.sending.join_next().await {
            None => Ok(()),
            Some(Ok(Ok(number))) => {
                self.under_way.remove(&number);
                Ok(())
            }
            Some(Ok(Err(error))) => Err(Gone(error)),
            Some(Err(error)) => Err(Gone(PublishError::Refused(error.to_string()))),
        }
    }
}

fn refusal(Failure { code, detail }: Failure) -> Bytes {
    proto::Refusal { code: code.to_string(), detail }.encode_to_vec().into()
}

/// Hands the message with this number to the broker, and waits where it takes none now.
async fn deliver(
    broker: Broker,
    message: Outgoing,
    number: u32,
    patience: Duration,
    _room: OwnedSemaphorePermit,
) -> Result<u32, PublishError> {
    let deadline = Instant::now() + patience;
    let mut error = PublishError::Silent;
    while let Ok(published) = timeout_at(deadline, broker.publish(message.clone())).await {
        match published {
            Ok(()) => return Ok(number),
            Err(PublishError::Blocked(why)) => {
                error = PublishError::Blocked(why);
                let mut state = broker.state();
                let free = state.wait_for(|state| !matches!(state, RelayState::On { blocked: Some(_), .. }));
                if !matches!(timeout_at(deadline, free).await, Ok(Ok(_))) {
                    break;
                }
            }
            Err(PublishError::Full) => {
                error = PublishError::Full;
                sleep(FULL_PAUSE).await;
            }
            // Nobody knows whether it is there. Once more does no harm: the asker takes each number once.
            Err(PublishError::Silent) => error = PublishError::Silent,
            Err(gone) => return Err(gone),
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(error)
}
