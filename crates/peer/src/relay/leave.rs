//! A question that waits for a peer that is off: left in its durable queue, answered to our mailbox.
//!
//! Nobody waits for the answers here. Who leaves a question keeps its id and its key, and opens with them what comes.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tracing::Instrument;
use wire::{
    PeerId,
    proto::{self, question::Ask},
    trace,
};

use super::{
    Relay,
    ask::{publish_error, publishing, unreachable},
    message::{MessageId, Outgoing, PublishError, Route},
    seal::{self, PeerKey, ReplyKey, Routing},
};
use crate::link::{LinkError, Target};

const LIMIT: Duration = Duration::from_secs(10);

/// A question that is ready to be left.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) id: MessageId,
    /// Opens the answers.
    pub(crate) reply: ReplyKey,
    to: PeerId,
    body: Bytes,
}

impl Relay {
    /// Seals a question for a peer that may be off.
    ///
    /// # Errors
    /// Where its sealing key cannot be used.
    pub(crate) fn letter(&self, to: &Target, ask: Ask) -> Result<Letter, LinkError> {
        let listed = PeerKey::from_hex(&to.sealing_key).map_err(unreachable)?;
        let key = self.inner.book.instead_of(to.peer_id, &listed).unwrap_or(listed);
        let id = rand::random();
        let routing = Routing {
            from: self.own_id(),
            to: to.peer_id,
            route: Route::Want,
            message_id: id,
            answer_to: None,
        };
        let question = proto::Question { ask: Some(ask), ..Default::default() };
        let (body, reply) = seal::seal(&self.inner.keys, &key, &routing, &question).map_err(unreachable)?;
        Ok(Letter { id, reply, to: to.peer_id, body })
    }

    /// Leaves it at the broker, where it waits for the peer.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] where the broker does not take it, because it cannot be reached, the peer was never
    /// on the relay, or too much waits for it already.
    pub(crate) async fn leave(&self, letter: Letter) -> Result<(), LinkError> {
        let span = publishing("wants", letter.to);
        let outgoing = Outgoing {
            to: letter.to,
            route: Route::Want,
            message_id: letter.id,
            correlation_id: None,
            answer_to: None,
            expires: None,
            trace: trace::traceparent(&span),
            body: letter.body,
        };
        match timeout(LIMIT, self.inner.broker.publish(outgoing)).instrument(span).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(publish_error(error)),
            Err(_) => Err(publish_error(PublishError::Silent)),
        }
    }
}
