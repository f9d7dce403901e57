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

/// Names the two keys that a letter is sealed with, the receiver's and ours. When one of them is another one, nobody
/// opens the letter any more.
pub(crate) type LetterKeys = [u8; 16];

/// A question that is ready to be left.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) id: MessageId,
    pub(crate) keys: LetterKeys,
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
        let key = self.key_of(to)?;
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
        Ok(Letter { id, keys: self.names(&key), reply, to: to.peer_id, body })
    }

    /// What a letter to this peer would be sealed with now.
    ///
    /// # Errors
    /// Where its sealing key cannot be used.
    pub(crate) fn letter_keys(&self, to: &Target) -> Result<LetterKeys, LinkError> {
        self.key_of(to).map(|key| self.names(&key))
    }

    fn key_of(&self, to: &Target) -> Result<PeerKey, LinkError> {
        let listed = PeerKey::from_hex(&to.sealing_key).map_err(unreachable)?;
        Ok(self.inner.book.instead_of(to.peer_id, &listed).unwrap_or(listed))
    }

    fn names(&self, key: &PeerKey) -> LetterKeys {
        let mut names = LetterKeys::default();
        names[..8].copy_from_slice(&key.name());
        names[8..].copy_from_slice(&self.inner.keys.name());
        names
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
